"""Takings: how a clawback or a forced transfer reaches units, bucket by bucket, as the table of powers says.

``take_all`` looks through the buckets in the order that the order names, and through the spots in each. For the units
of a spot the table gives the outcome:

    effective now                      what the owner himself set going (a payment that waits) is cancelled; the units
                                       go to the target
    effective when encumbrance ends    the order is attached to them: what comes back from the spot goes to the target
                                       (``order_guard.py``), what the prior right takes is lost to the order
    attaches to proceeds               the same, and of all that the holder receives by the same settlement, in this
                                       account or another of the same party, the order holds the same share, rounded up
    transfers subject to prior right   the title goes to the target; controller, or escrow with its conditions, stay
    refused                            the whole order is

A standing offer is nobody's right: whatever the outcome in its bucket, an order that takes withdraws it.

Two orders never reach the same units of an encumbrance: what is attached to one is not there for the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from p2pledger.ledger.books import Books
from p2pledger.ledger.market import escrow, instructions, offers, payments
from p2pledger.ledger.market.buckets import FREE_SPOT, Spot
from p2pledger.ledger.market.movement import Cause, Movement, move
from p2pledger.ledger.market.orders import (
    EVERY_ASSET,
    EVERYTHING,
    Attachment,
    Effect,
    OrderOver,
    OrderRow,
    accounts_under,
    attached_to,
    change_over,
    over_key,
    spots_of,
)
from p2pledger.ledger.market.parties import holder_of
from p2pledger.ledger.market.powers import TABLE, Outcome
from p2pledger.ledger.rule import Place, Refused
from p2pledger.ledger.tables import Asset
from p2pledger.primitives.codec import U64_MAX
from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.market.orders import Order
from p2pledger.primitives.reasons import Reason

__all__ = ["holdings_in", "subject_of", "take_all", "take_free"]

_MOST_LOOKS: Final = 65_536
_MOST_EFFECTS: Final = 512
_WAITING: Final = (Outcome.EFFECTIVE_WHEN_ENCUMBRANCE_ENDS, Outcome.ATTACHES_TO_PROCEEDS)


def subject_of(order: OrderRow) -> tuple[bytes, bool]:
    """Whom an order with a party or an account is about, and whether with all accounts."""
    return (order.account, False) if order.account else (order.party, True)


def holdings_in(books: Books, order: OrderRow) -> Iterator[tuple[bytes, list[bytes]]]:
    """(asset, accounts that hold something of it) in the scope of an order over a party or an account.

    ``order_too_wide`` where more would have to be looked at than one operation may.
    """
    subject, all_accounts = subject_of(order)
    accounts = accounts_under(books, subject) if all_accounts else [subject]
    assets = [order.asset] if order.asset else [asset for asset, _ in books.rows(Asset)]
    if len(accounts) * len(assets) > _MOST_LOOKS:
        raise Refused(Reason.ORDER_TOO_WIDE)
    for asset in assets:
        if holding := [account for account in accounts if books.holding(asset, account).total]:
            yield asset, holding


def take_all(books: Books, place: Place, identifier: bytes, order: OrderRow) -> tuple[Effect, ...]:
    """Takes what the order takes now, attaches it to what it has to wait for, and says what it did.

    ``out_of_reach`` (naming bucket and power) where it meets a cell that refuses; ``order_short`` where less is in
    reach than its quantity and it does not catch later credits; ``order_too_wide``.
    """
    effects: list[Effect] = []
    waits: dict[tuple[bytes, bytes], list[Attachment]] = {}
    left = order.quantity or EVERYTHING
    for asset, accounts in list(holdings_in(books, order)):
        attached = {account: attached_to(books, asset, account) for account in accounts}
        for bucket in order.buckets:
            for account in accounts:
                for spot, reserved in spots_of(books, asset, account) if left else ():
                    part = min(left, reserved - attached[account].get(spot, 0))
                    if spot.bucket is not bucket or not part:
                        continue
                    part = _reach(books, place, order, asset, account, spot, part)
                    outcome = TABLE[bucket, order.power]
                    if outcome in _WAITING and not _is_offer(books, spot):
                        for receiver in _receivers(books, account, asset, spot, outcome):
                            waits.setdefault(receiver, []).append(Attachment(spot, part, reserved))
                    left -= part if order.quantity else 0
                    if part:
                        effects.append(Effect(account, asset, bucket, outcome, part))
                    if len(effects) > _MOST_EFFECTS:
                        raise Refused(Reason.ORDER_TOO_WIDE)
    for (account, asset), attachments in waits.items():
        change_over(books, place, identifier, account, asset, OrderOver(attached=tuple(attachments)))
    if order.catches_later and left:
        _catch(books, place, identifier, order, left)
    elif (order.quantity and left) or not effects:
        raise Refused(Reason.ORDER_SHORT)
    return tuple(effects)


def _reach(books: Books, place: Place, order: OrderRow, asset: bytes, account: bytes, spot: Spot, amount: int) -> int:
    """Does to units of one spot what the table says, but for attaching the order to them; how many it reached."""
    outcome = TABLE[spot.bucket, order.power]
    if outcome is Outcome.REFUSED:
        raise Refused(Reason.OUT_OF_REACH, rule=f"{spot.bucket.name.lower()} x {order.power.name.lower()}")
    if spot == FREE_SPOT:
        take_free(books, place, order, asset, account, amount)
    elif outcome is Outcome.EFFECTIVE_NOW or _is_offer(books, spot):
        _withdraw(books, place, spot)
        # Orders that catch what becomes free come first, so less may be left of it.
        amount = min(amount, books.holding(asset, account).free)
        take_free(books, place, order, asset, account, amount)
    elif outcome is Outcome.TRANSFERS_SUBJECT_TO_PRIOR_RIGHT:
        _pass_on(books, place, order, asset, account, spot, amount)
    return amount


def _receivers(
    books: Books, account: bytes, asset: bytes, spot: Spot, outcome: Outcome
) -> Iterator[tuple[bytes, bytes]]:
    """(account, asset) over which an order waits for units of a spot.

    That is where they lie; and, for proceeds in whatever asset, each other account of the same holder to which the
    instruction brings something.
    """
    yield account, asset
    if outcome is Outcome.ATTACHES_TO_PROCEEDS:
        holder = holder_of(books, account)
        for taker in sorted({leg.taker for leg in instructions.legs_of(books, spot.reference)} - {account}):
            if holder_of(books, taker) == holder:
                yield taker, EVERY_ASSET


def take_free(books: Books, place: Place, order: OrderRow, asset: bytes, account: bytes, amount: int) -> None:
    """Free units to the order's target; what it has no room for (below 2^64 in all) stays."""
    amount = min(amount, U64_MAX - books.holding(asset, order.target).total)
    if not amount:
        return
    movement = Movement(asset, account, FREE_SPOT, order.target, FREE_SPOT, amount, Cause.ORDER, Order.code)
    move(books, place, movement)


def _is_offer(books: Books, spot: Spot) -> bool:
    return spot.bucket is Bucket.ESCROWED and books.row(escrow.EscrowRow, spot.reference) is None


def _withdraw(books: Books, place: Place, spot: Spot) -> None:
    """Ends an encumbrance that is nobody's right; all of its units are free then."""
    if spot.bucket is Bucket.PENDING:
        payments.cancel_for_order(books, place, spot.reference)
        return
    offer = books.row(offers.OfferRow, spot.reference)
    assert offer is not None, "units are escrowed that neither escrow nor offer knows"
    offers.end_offer(books, place, spot.reference, offer, Order.code)


def _pass_on(
    books: Books, place: Place, order: OrderRow, asset: bytes, account: bytes, spot: Spot, amount: int
) -> None:
    """Gives the title to the target; what lies on the units stays. A controller who gets them holds them free."""
    if spot.bucket is Bucket.ESCROWED:
        escrow.pass_on(books, spot.reference, account, order.target, amount)
    kept = FREE_SPOT if spot.bucket is Bucket.LOCKED and spot.reference == order.target else spot
    move(books, place, Movement(asset, account, spot, order.target, kept, amount, Cause.ORDER, Order.code))


def _catch(books: Books, place: Place, identifier: bytes, order: OrderRow, left: int) -> None:
    """The rest is taken when it comes."""
    subject, all_accounts = subject_of(order)
    asset = order.asset or EVERY_ASSET
    over = books.row(OrderOver, over_key(subject, asset, identifier)) or OrderOver()
    more = replace(over, all_take=left) if all_accounts else replace(over, takes=left)
    change_over(books, place, identifier, subject, asset, more)
