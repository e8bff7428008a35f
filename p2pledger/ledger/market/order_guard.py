"""The guard of orders: asked before units leave where an order reaches, and told when units have moved there.

Asked, it lets nothing leave that an order holds, also not what an irrevocable instruction promised; what goes back to
its owner's free units may always go. Told, it

* takes what has come back from an encumbrance to which an order is attached;
* takes what has come in, for orders that catch later credits; not what another order brought;
* holds the proceeds: where a settlement moves units to an account of which an order is attached to what it gives in the
  same settlement, the same share of them, rounded up;
* lowers the base of orders that do not catch later credits to what is left.

An order waits for nothing twice: what leaves a spot by a prior right is lost to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from p2pledger.ledger.books import Books
from p2pledger.ledger.market.buckets import FREE_SPOT, amount_in
from p2pledger.ledger.market.movement import Cause, Movement
from p2pledger.ledger.market.orders import (
    EVERYTHING,
    Attachment,
    OrderOver,
    attachments_of,
    change_over,
    holds_on,
    name_of,
    over_key,
    takes_of,
)
from p2pledger.ledger.market.takings import take_free
from p2pledger.ledger.rule import Place, Refused
from p2pledger.ledger.tables import AccountFlag, AssetFlag
from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.reasons import Reason

__all__ = ["ORDER_GUARD", "OrderGuard"]


@dataclass(frozen=True, slots=True)
class OrderGuard:
    """Asked about the accounts and assets that an order reaches. Refuses ``order_stops``, naming the order."""

    asset_flags: int = int(AssetFlag.ORDERED)
    account_flags: int = int(AccountFlag.ORDERED)

    def leaving(self, books: Books, place: Place, movement: Movement) -> None:
        source, spot = movement.source, movement.source_spot
        if source is None or movement.cause is Cause.RETURN:
            return
        held = [item for item in holds_on(books, place, movement.asset, source, spot) if item.stay]
        if not held:
            return
        # An instruction settles whole or not at all, so that one held unit stops it.
        left = amount_in(books, movement.asset, source, spot) - sum(item.amount for item in held)
        if spot.bucket is Bucket.SETTLING or movement.amount > left:
            raise Refused(Reason.ORDER_STOPS, rule=name_of(held[-1].order))

    def entering(self, books: Books, place: Place, movement: Movement) -> None:
        """Units may always come in: whoever is under an order may be paid."""

    def moved(self, books: Books, place: Place, movement: Movement) -> None:
        if movement.source is not None:
            _lower_bases(books, place, movement.asset, movement.source)
            if movement.source_spot != FREE_SPOT:
                _follow(books, place, movement, movement.source)
        if movement.target is not None and movement.cause is not Cause.ORDER and movement.target_spot == FREE_SPOT:
            if movement.source_spot.bucket is Bucket.SETTLING and movement.target != movement.source:
                _hold_proceeds(books, place, movement, movement.target)
            _catch_credit(books, place, movement, movement.target)


def _lower_bases(books: Books, place: Place, asset: bytes, account: bytes) -> None:
    """Of units that were there before an order, no more are left than the holding has."""
    total = books.holding(asset, account).total
    for key, row in list(books.rows(OrderOver, account + asset)):
        if row.holds and total < row.base < EVERYTHING:
            lowered = replace(row, holds=min(row.holds, total), base=total or EVERYTHING)
            change_over(books, place, key[48:], account, asset, lowered)


def _follow(books: Books, place: Place, movement: Movement, account: bytes) -> None:
    """Units left a spot to which orders may be attached: back to the owner, who loses them, or by a prior right."""
    asset, spot = movement.asset, movement.source_spot
    comes_back = movement.target == account and movement.target_spot == FREE_SPOT
    if spot.bucket is Bucket.SETTLING and not comes_back:
        return  # the share of the proceeds is counted from what was attached, until the order ends
    left = movement.amount
    remaining = amount_in(books, asset, account, spot)
    for identifier, _, order, row in attachments_of(books, place, account, asset):
        for item in row.attached:
            if item.spot != spot:
                continue
            if comes_back:
                gone = min(item.amount, left)
                left -= gone
            else:
                gone = max(0, item.amount - remaining)
                remaining -= min(remaining, item.amount)
            if not gone:
                continue
            over = books.row(OrderOver, over_key(account, asset, identifier))
            assert over is not None, "the state is broken: an order lost what it is attached to"
            others = tuple(other for other in over.attached if other.spot != spot)
            rest = (Attachment(spot, item.amount - gone, item.reserved),) if item.amount > gone else ()
            change_over(books, place, identifier, account, asset, replace(over, attached=(*others, *rest)))
            if comes_back:
                take_free(books, place, order, asset, account, gone)


def _hold_proceeds(books: Books, place: Place, movement: Movement, account: bytes) -> None:
    """The share of what came in by a settlement that stands for the units which an order is attached to.

    Of several assets that an order is attached to, the one with the greatest share counts; several orders together
    hold no more than what came in.
    """
    asset, amount, spot = movement.asset, movement.amount, movement.source_spot
    shares: dict[bytes, int] = {}
    for identifier, _, _, row in attachments_of(books, place, account):
        for item in row.attached:
            if item.spot == spot:
                shares[identifier] = max(shares.get(identifier, 0), -(-amount * item.amount // item.reserved))
    left, base = amount, books.holding(asset, account).total
    for identifier, wanted in shares.items():
        share = min(wanted, left)
        left -= share
        if share:
            over = books.row(OrderOver, over_key(account, asset, identifier)) or OrderOver()
            change_over(books, place, identifier, account, asset, replace(over, holds=over.holds + share, base=base))


def _catch_credit(books: Books, place: Place, movement: Movement, account: bytes) -> None:
    """What came in goes on to the targets of orders that catch later credits, the eldest first."""
    asset = movement.asset
    left = min(movement.amount, books.holding(asset, account).free)
    for identifier, subject, named, order, found in takes_of(books, place, asset, account):
        wanted = found.all_take or found.takes
        part = min(left, wanted)
        if not part or account == order.target:
            continue
        left -= part
        if wanted < EVERYTHING:
            # What an order before this one took may have changed the row.
            row = books.row(OrderOver, over_key(subject, named, identifier))
            assert row is not None, "the state is broken: an order lost what it takes"
            rest = replace(row, all_take=wanted - part) if found.all_take else replace(row, takes=wanted - part)
            change_over(books, place, identifier, subject, named, rest)
        take_free(books, place, order, asset, account, part)


ORDER_GUARD = OrderGuard()
