"""The rules of orders of authority: who may make them, over what, and how one appeals.

What a power does to a unit says the table of ``powers.py``; what an order holds, ``orders.py``; how it takes,
``takings.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from p2pledger.ledger.books import Books
from p2pledger.ledger.market import permissions
from p2pledger.ledger.market.due import DueKind, schedule
from p2pledger.ledger.market.orders import (
    EVERY_ASSET,
    EVERYTHING,
    AppealRow,
    OrderOver,
    OrderRow,
    OrderStatus,
    accounts_under,
    change_over,
    end_order,
    holds_on,
    name_of,
    spots_of,
)
from p2pledger.ledger.market.parties import accounts_of, has_role, party_of
from p2pledger.ledger.market.powers import TABLE, Outcome
from p2pledger.ledger.market.takings import holdings_in, subject_of, take_all
from p2pledger.ledger.rule import Place, Refused, Rule, require_account, require_asset
from p2pledger.ledger.tables import NOBODY, Table
from p2pledger.primitives.codec import U64_MAX
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.market.orders import Appeal, Order, Power
from p2pledger.primitives.market.parties import Role
from p2pledger.primitives.reasons import Reason

__all__ = ["RULES", "expire_order"]

_MOST_SPREAD: Final = 512
_MOST_TOGETHER: Final = 256
"""Accounts of a party over which one quantity is held: they are looked at together whenever one of them moves units."""
_MOST_APPEALS: Final = 64


class OrderRule:
    """Orders what happens to the holdings of a party, an account or everybody; or lifts such an order.

    who may     regulators, two of them, who are different parties
    signed by   authority, then approver
    needs       a scope: a party, an account (of that party, if both are named), an asset, or an asset of one of them;
                without party and account only a freeze that catches later credits.
                *freeze*: no quantity. *partial freeze*: an asset and a quantity. *clawback*, *forced transfer*: a
                target outside the scope; an asset if there is a quantity. *release*: the order that it lifts, which
                stands, and no terms of its own.
                A moment of expiry, and one until which it can be appealed against, to come or 0.
    changes     each unit in its scope as the table of powers says (docs/orders.md); the order; flags of the accounts,
                or the asset, that it reaches, as long as it does; its expiry in the queue
    refuses     not_permitted, second_approver, identifier_used, order_expired, bad_order (naming what does not fit),
                unknown_party, unknown_account, unknown_asset, unknown_order, order_ended, out_of_reach (naming bucket
                and power), order_short, order_too_wide
    """

    def must_sign(self, books: Books, operation: Order) -> Iterator[bytes]:
        yield operation.authority
        yield operation.approver

    def execute(self, books: Books, operation: Order, place: Place) -> None:
        asset = operation.asset or None
        permissions.require(books, place, operation.authority, operation.code, asset=asset, amount=operation.quantity)
        _require_approver(books, operation)
        identifier = operation.id
        if books.row(OrderRow, identifier) is not None:
            raise Refused(Reason.IDENTIFIER_USED)
        for moment in (operation.expires_ms, operation.appeal_until_ms):
            if moment and moment < place.time_ms:
                raise Refused(Reason.ORDER_EXPIRED)
        _require_fitting(operation)
        _require_scope(books, operation)
        order = OrderRow(
            operation.power,
            operation.authority,
            operation.approver,
            operation.party,
            operation.account,
            operation.asset,
            operation.quantity,
            operation.document,
            place.height,
            place.time_ms,
            operation.expires_ms,
            operation.appeal_until_ms,
            operation.consumes,
            operation.catches_later,
            operation.target,
            operation.lifts,
        )
        if order.power is Power.RELEASE:
            _lift(books, place, identifier, order)
            return
        books.put(OrderRow, identifier, order)
        if order.expires_ms:
            schedule(books, min(order.expires_ms + 1, U64_MAX), DueKind.ORDER_EXPIRY, identifier)
        if not order.takes:
            _freeze(books, place, identifier, order)
            return
        effects = take_all(books, place, identifier, order)
        order = replace(_stored(books, identifier), effects=effects)
        books.put(OrderRow, identifier, order)
        if not order.over and order.status is OrderStatus.STANDING:
            end_order(books, place, identifier, order, OrderStatus.EXECUTED)


def _stored(books: Books, identifier: bytes) -> OrderRow:
    row = books.row(OrderRow, identifier)
    if row is None:
        raise Refused(Reason.UNKNOWN_ORDER)
    return row


def _require_approver(books: Books, operation: Order) -> None:
    """Two regulators, of whom neither is the other, and who are not two accounts of one party."""
    if not has_role(books, operation.approver, Role.REGULATOR):
        raise Refused(Reason.SECOND_APPROVER)
    if party_of(books, operation.approver) == party_of(books, operation.authority):
        raise Refused(Reason.SECOND_APPROVER)


def _require_fitting(operation: Order) -> None:
    """That the fields go together, whatever the books say; ``bad_order`` names what does not."""

    def require(fits: bool, what: str) -> None:
        if not fits:
            raise Refused(Reason.BAD_ORDER, rule=what)

    power = operation.power
    require(len(set(operation.consumes)) == len(operation.consumes), "a bucket twice")
    if power is Power.RELEASE:
        terms = (
            operation.party, operation.account, operation.asset, operation.quantity, operation.target,
            operation.expires_ms, operation.appeal_until_ms, operation.consumes, operation.catches_later,
        )  # fmt: skip
        require(bool(operation.lifts), "a release names the order that it lifts")
        require(not any(terms), "a release has no terms of its own")
        return
    somebody = bool(operation.party or operation.account)
    require(not operation.lifts, "only a release lifts an order")
    require(somebody or bool(operation.asset), "no scope")
    if power in (Power.FREEZE, Power.PARTIAL_FREEZE):
        require(not operation.target, "a freeze has no target")
        named = operation.consumes or tuple(Bucket)
        later = any(TABLE[bucket, power] is Outcome.EFFECTIVE_WHEN_ENCUMBRANCE_ENDS for bucket in named)
        require(not later or Bucket.FREE in named, "what is held when it is free needs the free bucket")
    if power is Power.FREEZE:
        require(not operation.quantity, "a freeze has no quantity")
    elif power is Power.PARTIAL_FREEZE:
        require(bool(operation.quantity), "no quantity")
    else:
        require(bool(operation.target), "no target")
    require(not operation.quantity or bool(operation.asset), "a quantity of no asset")
    if not somebody:
        require(power is Power.FREEZE and operation.catches_later, "over everybody there is only a lasting freeze")


def _require_scope(books: Books, operation: Order) -> None:
    """That what is named exists, and that the target is not in the scope."""
    if operation.party and books.read(Table.PARTIES, operation.party) is None:
        raise Refused(Reason.UNKNOWN_PARTY)
    if operation.account:
        require_account(books, operation.account)
        if operation.party and party_of(books, operation.account) != operation.party:
            raise Refused(Reason.BAD_ORDER, rule="the account is not the party's")
    if operation.asset:
        require_asset(books, operation.asset)
    if operation.target:
        require_account(books, operation.target)
        if operation.target == operation.account:
            raise Refused(Reason.BAD_ORDER, rule="the target is in the scope")
        if not operation.account and party_of(books, operation.target) == operation.party:
            raise Refused(Reason.BAD_ORDER, rule="the target is in the scope")


def _lift(books: Books, place: Place, identifier: bytes, release: OrderRow) -> None:
    lifted = _stored(books, release.lifts)
    if not lifted.stands_at(place.time_ms):
        raise Refused(Reason.ORDER_ENDED, rule=name_of(release.lifts))
    end_order(books, place, release.lifts, lifted, OrderStatus.LIFTED)
    done = replace(release, status=OrderStatus.EXECUTED, ended_height=place.height, ended_ms=place.time_ms)
    books.put(OrderRow, identifier, done)


def _freeze(books: Books, place: Place, identifier: bytes, order: OrderRow) -> None:
    """One row over the subject, if later credits are caught; else one over each holding that is there."""
    quantity = order.quantity or EVERYTHING
    if order.party or order.account:
        subject, all_accounts = subject_of(order)
        if all_accounts:
            under = accounts_under(books, subject)
            if quantity < EVERYTHING and len(under) > _MOST_TOGETHER:
                raise Refused(Reason.ORDER_TOO_WIDE)
    else:
        subject, all_accounts = NOBODY, True
    if order.catches_later:
        row = OrderOver(all_hold=quantity) if all_accounts else OrderOver(holds=quantity)
        change_over(books, place, identifier, subject, order.asset or EVERY_ASSET, row)
        return
    spread = 0
    for asset, accounts in list(holdings_in(books, order)):
        for account, amount in _shares(books, place, order, asset, accounts, quantity).items():
            spread += 1
            row = OrderOver(holds=amount, base=books.holding(asset, account).total)
            change_over(books, place, identifier, account, asset, row)
    if spread > _MOST_SPREAD:
        raise Refused(Reason.ORDER_TOO_WIDE)
    if not spread:
        raise Refused(Reason.ORDER_SHORT)


def _shares(
    books: Books, place: Place, order: OrderRow, asset: bytes, accounts: list[bytes], quantity: int
) -> dict[bytes, int]:
    """How much of the quantity each holding bears: bucket by bucket, of units that no order holds yet; then of others.

    What is held already is borne as well, for the day on which the order before is lifted.
    """
    if quantity == EVERYTHING:
        return dict.fromkeys(accounts, EVERYTHING)
    borne = dict.fromkeys(accounts, 0)
    spots = {account: spots_of(books, asset, account) for account in accounts}
    held = {account: holds_on(books, place, asset, account) for account in accounts}
    for counts_held in (False, True):
        for bucket in order.buckets:
            for account in accounts:
                for spot, amount in spots[account]:
                    if spot.bucket is bucket:
                        kept = sum(item.amount for item in held[account] if item.spot == spot)
                        part = min(quantity, kept if counts_held else amount - kept)
                        borne[account] += part
                        quantity -= part
    return {account: amount for account, amount in borne.items() if amount}


class AppealRule:
    """Appeals against an order. It is recorded and stops nothing: whether the order is lifted is for regulators to say.

    who may     the party or the account that the order concerns; if it concerns everybody, the asset's issuer and
                whoever holds it
    signed by   party
    needs       an order that stands, or is executed and names a moment for appeals; that moment not passed; no appeal
                of the same party before
    changes     the order has one more appeal
    refuses     unknown_order, not_permitted, order_ended, bad_appeal
    """

    def must_sign(self, books: Books, operation: Appeal) -> Iterator[bytes]:
        yield operation.party

    def execute(self, books: Books, operation: Appeal, place: Place) -> None:
        identifier, party = operation.order, operation.party
        order = _stored(books, identifier)
        permissions.require(books, place, party, operation.code)
        can_be = order.stands_at(place.time_ms) or (order.status is OrderStatus.EXECUTED and order.appeal_until_ms)
        if not can_be:
            raise Refused(Reason.ORDER_ENDED, rule=name_of(identifier))
        if order.appeal_until_ms and place.time_ms > order.appeal_until_ms:
            raise Refused(Reason.BAD_APPEAL, rule="the time for appeals has passed")
        if not _concerns(books, order, party):
            raise Refused(Reason.BAD_APPEAL, rule="the order does not concern the party")
        if any(appeal.party == party for appeal in order.appeals) or len(order.appeals) >= _MOST_APPEALS:
            raise Refused(Reason.BAD_APPEAL, rule="it was appealed against")
        appeal = AppealRow(party, operation.document, place.height, place.time_ms)
        books.put(OrderRow, identifier, replace(order, appeals=(*order.appeals, appeal)))


def _concerns(books: Books, order: OrderRow, party: bytes) -> bool:
    if order.account:
        return party in (order.account, party_of(books, order.account))
    if order.party:
        return party == order.party or party_of(books, party) == order.party
    if not order.asset:
        return False
    asset = require_asset(books, order.asset)
    return party == asset.issuer or any(
        books.holding(order.asset, account).total for account in {party, *accounts_of(books, party)}
    )


def expire_order(books: Books, place: Place, reference: bytes) -> int:
    """Due work: the time of an order is over. The cost is the number of subjects that it reached."""
    order = books.row(OrderRow, reference)
    if order is None or order.status is not OrderStatus.STANDING:
        return 1
    end_order(books, place, reference, order, OrderStatus.EXPIRED)
    return max(1, len(order.over))


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType({Order: OrderRule(), Appeal: AppealRule()})
