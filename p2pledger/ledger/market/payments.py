"""Payments between customers of two banks, settled in the banks' reserves one by one, as they come (gross).

A payment that its reserves cover is made at once: the payer's bank burns the amount, its reserves go to the payee's
bank, and that one mints the amount for the payee. Either all of this happens or none.

One that they do not cover, or that comes while others of the same bank wait, *waits*. Its amount lies in the payer's
bucket PENDING, and it stands in the queue of its bank's money, first come, first served: nothing overtakes, so that a
small payment cannot starve a great one. A customer cannot hold up a whole bank by that: the bank may cancel whatever
waits. The queue is tried

* when the time of its first payment has come: a second after it began to wait, then after 2, 4, ... up to 60; those
  behind it have a time only when they expire, so that a long queue is no long agenda;
* at once, when another becomes the first;
* in the next block, when reserves came in by a payment from another bank;
* by ``release_payment``, when reserves came in otherwise.

A payment against which something else moves in the same transaction (securities, say) must not wait while that moves:
it says so, and is refused where it would have to.

What waits is returned to the payer when he or his bank cancels it, when it expires, and when something else than
reserves stands in its way (the payee's bank is under quarantine, an order of authority reaches one of the sides): it
would hold up the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.market.buckets import FREE_SPOT, Bucket, Spot
from p2pledger.ledger.market.due import DueKind, schedule, unschedule
from p2pledger.ledger.market.money import Money, note_paid_out, require_money
from p2pledger.ledger.market.movement import Cause, Movement, move
from p2pledger.ledger.market.permissions import require
from p2pledger.ledger.rule import Place, Refused, Rule, require_account, require_amount, require_asset
from p2pledger.ledger.tables import AssetFlag, Table, fields_of
from p2pledger.primitives.codec import encode
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.money import CancelPayment, MoneyKind, PayAcross, ReleasePayment
from p2pledger.primitives.market.orders import Order
from p2pledger.primitives.names import asset_text
from p2pledger.primitives.reasons import Reason

__all__ = [
    "DAY_MS",
    "FIRST_RETRY_MS",
    "MOST_AT_ONCE",
    "MOST_RETRY_MS",
    "RULES",
    "Payment",
    "PaymentStatus",
    "Waiting",
    "cancel_for_order",
    "queue_of",
    "retry_payment",
    "waiting_amount",
    "waiting_key",
]

DAY_MS: Final = 86_400_000
"""For how long a payment waits that names no moment."""
FIRST_RETRY_MS: Final = 1_000
MOST_RETRY_MS: Final = 60_000
MOST_AT_ONCE: Final = 64
"""How many payments of a queue are tried by one operation or one item of due work."""


class PaymentStatus(IntEnum):
    """Where a payment stands. WAITING is followed by one of the others, and none of these by anything."""

    WAITING = 0
    SETTLED = 1
    CANCELLED = 2
    RETURNED = 3


@dataclass(frozen=True, slots=True)
class Payment:
    """PAYMENTS: a payment from one bank's customer to another's.

    ``entry_``: when it was handed in; ``end_``: when it was settled, cancelled or returned, 0 while it waits.
    ``reason``: why it was returned (a reason code; ``wrong_time`` where it expired), or 0. ``position``: its number in
    the queue; ``next_ms``: when it is tried next, or expires; ``tries``: how often it was tried by itself; 0 where it
    never waited.
    """

    table: ClassVar[Table] = Table.PAYMENTS

    payer: bytes
    payee: bytes
    source_asset: bytes
    target_asset: bytes
    amount: int
    status: PaymentStatus
    reason: int
    entry_ms: int
    entry_height: int
    expires_ms: int
    end_ms: int = 0
    end_height: int = 0
    position: int = 0
    next_ms: int = 0
    tries: int = 0

    def encode(self) -> bytes:
        return encode(
            (
                1,
                self.payer,
                self.payee,
                self.source_asset,
                self.target_asset,
                self.amount,
                int(self.status),
                self.reason,
                self.entry_ms,
                self.entry_height,
                self.expires_ms,
                self.end_ms,
                self.end_height,
                self.position,
                self.next_ms,
                self.tries,
            )
        )

    @classmethod
    def decode(cls, row: bytes) -> Self:
        payer, payee, source, target, amount, status, *others = fields_of(row, "PAYMENTS", 15)
        return cls(payer, payee, source, target, amount, PaymentStatus(status), *others)


@dataclass(frozen=True, slots=True)
class Waiting:
    """PAYMENT_QUEUE: a payment that waits, by its bank's money and its number in the queue."""

    table: ClassVar[Table] = Table.PAYMENT_QUEUE

    amount: int

    def encode(self) -> bytes:
        return encode((1, self.amount))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "PAYMENT_QUEUE", 1))


def waiting_key(asset: bytes, position: int, payment: bytes) -> bytes:
    """The queue of one money, first come first."""
    return asset + position.to_bytes(8, "big") + payment


def queue_of(books: Books, asset: bytes) -> Iterator[tuple[bytes, int]]:
    """(identifier, amount) of the payments that wait for the reserves behind this money, in their order."""
    return ((key[24:], row.amount) for key, row in books.rows(Waiting, asset))


def waiting_amount(books: Books, asset: bytes) -> int:
    """The sum over the queue of one money."""
    return sum(amount for _, amount in queue_of(books, asset))


def _require_payment(books: Books, identifier: bytes) -> Payment:
    row = books.row(Payment, identifier)
    assert row is not None, "a payment waits that is not there"
    return row


def _is_quarantined(books: Books, asset: bytes) -> bool:
    return bool(require_asset(books, asset).flags & AssetFlag.QUARANTINED)


def _is_covered(books: Books, source: Money, target: Money, amount: int) -> bool:
    """Whether the payer's bank has the reserves. Within one reserve account none are needed."""
    if source.reserve_account == target.reserve_account:
        return True
    return books.holding(source.reserve_asset, source.reserve_account).free >= amount


def _make(books: Books, place: Place, payment: Payment, spot: Spot) -> None:
    """Burns, moves reserves, mints. Refused where anything but the reserves stands in the way, half done."""
    source, target = books.row(Money, payment.source_asset), books.row(Money, payment.target_asset)
    assert source is not None, "a payment in money that nobody has authorised"
    assert target is not None, "a payment in money that nobody has authorised"
    amount, code = payment.amount, PayAcross.code
    burnt = Movement(payment.source_asset, payment.payer, spot, None, FREE_SPOT, amount, Cause.DESTRUCTION, code)
    minted = Movement(payment.target_asset, None, FREE_SPOT, payment.payee, FREE_SPOT, amount, Cause.CREATION, code)
    move(books, place, burnt)
    one, other = source.reserve_account, target.reserve_account
    if one != other:
        reserves = Movement(source.reserve_asset, one, FREE_SPOT, other, FREE_SPOT, amount, Cause.OWNER, code)
        move(books, place, reserves)
    move(books, place, minted)
    note_paid_out(books, place, payment.source_asset, amount)
    _wake(books, place, payment.target_asset)


def _wake(books: Books, place: Place, asset: bytes) -> None:
    """Reserves behind this money came in, or the queue moved up: its first payment is tried as soon as can be."""
    for identifier, _ in queue_of(books, asset):
        payment = _require_payment(books, identifier)
        if payment.next_ms > place.time_ms:
            _plan(books, identifier, payment, place.time_ms)
        return


def _plan(books: Books, identifier: bytes, payment: Payment, next_ms: int) -> None:
    """A payment that waits is tried at this moment and at no other."""
    unschedule(books, payment.next_ms, DueKind.PAYMENT_RETRY, identifier)
    schedule(books, next_ms, DueKind.PAYMENT_RETRY, identifier)
    books.put(Payment, identifier, replace(payment, next_ms=next_ms))


def _end(
    books: Books,
    place: Place,
    identifier: bytes,
    payment: Payment,
    status: PaymentStatus,
    reason: Reason = Reason.OK,
) -> None:
    """A payment that waited waits no more."""
    unschedule(books, payment.next_ms, DueKind.PAYMENT_RETRY, identifier)
    books.put(Waiting, waiting_key(payment.source_asset, payment.position, identifier), None)
    ended = replace(
        payment, status=status, reason=int(reason), end_ms=place.time_ms, end_height=place.height, next_ms=0
    )
    books.put(Payment, identifier, ended)
    _wake(books, place, payment.source_asset)


def _give_back(
    books: Books,
    place: Place,
    identifier: bytes,
    payment: Payment,
    status: PaymentStatus,
    reason: Reason = Reason.OK,
    operation: int = 0,
) -> None:
    """Pending units go back to the payer's free ones. Refused where an order of authority holds them."""
    spot = Spot(Bucket.PENDING, identifier)
    asset, payer, amount = payment.source_asset, payment.payer, payment.amount
    move(books, place, Movement(asset, payer, spot, payer, FREE_SPOT, amount, Cause.RETURN, operation))
    _end(books, place, identifier, payment, status, reason)


def cancel_for_order(books: Books, place: Place, identifier: bytes) -> None:
    """A waiting payment is cancelled because an order of authority takes units of it: all are the payer's free ones."""
    payment = _require_payment(books, identifier)
    _give_back(books, place, identifier, payment, PaymentStatus.CANCELLED, Reason.ORDER_STOPS, Order.code)


def _work(books: Books, place: Place, asset: bytes, wanted: bytes = b"") -> int:
    """Makes the payments of a queue in their order, as far as reserves reach; returns how many it looked at.

    One that something else stands in the way of is returned to its payer; or, if not even that may be, skipped. For the
    ``wanted`` one that refusal is raised instead.
    """
    looked_at = 0
    for identifier, amount in islice(queue_of(books, asset), MOST_AT_ONCE):
        payment = _require_payment(books, identifier)
        looked_at += 1
        if place.time_ms >= payment.expires_ms:
            _try_to_give_back(books, place, identifier, payment, Reason.WRONG_TIME)
            continue
        source, target = require_money(books, asset), require_money(books, payment.target_asset)
        if identifier != wanted and any(_is_quarantined(books, money) for money in (asset, payment.target_asset)):
            _try_to_give_back(books, place, identifier, payment, Reason.QUARANTINED)
            continue
        if not _is_covered(books, source, target, amount):
            break
        mark = books.mark()
        try:
            _make(books, place, payment, Spot(Bucket.PENDING, identifier))
        except Refused as refusal:
            if identifier == wanted:
                raise
            books.back_to(mark)
            _try_to_give_back(books, place, identifier, payment, refusal.reason)
        else:
            _end(books, place, identifier, _require_payment(books, identifier), PaymentStatus.SETTLED)
        if identifier == wanted:
            break
    return looked_at


def _try_to_give_back(books: Books, place: Place, identifier: bytes, payment: Payment, reason: Reason) -> None:
    mark = books.mark()
    try:
        _give_back(books, place, identifier, payment, PaymentStatus.RETURNED, reason)
    except Refused:
        books.back_to(mark)


def retry_payment(books: Books, place: Place, reference: bytes) -> int:
    """Due work: the time to try a waiting payment has come, or it has expired. The cost is what was looked at."""
    payment = books.row(Payment, reference)
    if payment is None or payment.status is not PaymentStatus.WAITING:
        return 1
    if place.time_ms >= payment.expires_ms:
        _try_to_give_back(books, place, reference, payment, Reason.WRONG_TIME)
        cost = 1
    else:
        cost = _work(books, place, payment.source_asset)
    payment = _require_payment(books, reference)
    if payment.status is PaymentStatus.WAITING:
        delay_ms = min(MOST_RETRY_MS, FIRST_RETRY_MS << min(payment.tries + 1, 16))
        next_ms = place.time_ms + delay_ms
        if payment.expires_ms > place.time_ms:
            next_ms = min(next_ms, payment.expires_ms)
        _plan(books, reference, replace(payment, tries=payment.tries + 1), next_ms)
    return max(1, cost)


class PayAcrossRule:
    """Pays a customer of another bank: burns here, moves reserves, mints there; or waits for reserves.

    who may     whoever holds authorised bank money, if permissions allow it
    signed by   payer
    needs       money of two banks with reserves in the same base money, neither under quarantine; the payee; the amount
                free in the payer's account; a moment to come until which it may wait (0: for a day)
    changes     settled: redeemed of the one money and issued of the other grow, reserves move between the banks;
                waiting: the amount goes from free to pending, and the payment into the queue
    refuses     zero_amount, wrong_money, unknown_account, unknown_money, quarantined, wrong_time, identifier_used,
                not_permitted, short_reserves (if it may not wait), insufficient_free, overflow, the guards
    """

    def must_sign(self, books: Books, operation: PayAcross) -> Iterator[bytes]:
        yield operation.payer

    def execute(self, books: Books, operation: PayAcross, place: Place) -> None:
        payer, amount, identifier = operation.payer, operation.amount, operation.id
        source_asset, target_asset = operation.source_asset, operation.target_asset
        require_amount(amount)
        if source_asset == target_asset:
            raise Refused(Reason.WRONG_MONEY, "within one bank money is transferred")
        require_account(books, operation.payee)
        source = require_money(books, source_asset, MoneyKind.BANK)
        target = require_money(books, target_asset, MoneyKind.BANK)
        if source.reserve_asset != target.reserve_asset:
            raise Refused(Reason.WRONG_MONEY, "the banks share no base money")
        for asset in (source_asset, target_asset):
            if _is_quarantined(books, asset):
                raise Refused(Reason.QUARANTINED, f"quarantine of {asset_text(asset)}")
        expires_ms = operation.expires_ms or place.time_ms + DAY_MS
        if expires_ms <= place.time_ms:
            raise Refused(Reason.WRONG_TIME, "a payment waits until a moment to come")
        if books.row(Payment, identifier) is not None:
            raise Refused(Reason.IDENTIFIER_USED)
        for asset in (source_asset, target_asset):
            require(books, place, payer, operation.code, asset=asset, amount=amount)
        payment = Payment(
            payer,
            operation.payee,
            source_asset,
            target_asset,
            amount,
            PaymentStatus.SETTLED,
            int(Reason.OK),
            place.time_ms,
            place.height,
            expires_ms,
            place.time_ms,
            place.height,
        )
        is_first = next(queue_of(books, source_asset), None) is None
        if is_first and _is_covered(books, source, target, amount):
            _make(books, place, payment, FREE_SPOT)
            books.put(Payment, identifier, payment)
            return
        if not operation.may_wait:
            raise Refused(Reason.SHORT_RESERVES, f"reserves of {asset_text(source_asset)}")
        spot = Spot(Bucket.PENDING, identifier)
        code = operation.code
        move(books, place, Movement(source_asset, payer, FREE_SPOT, payer, spot, amount, Cause.OWNER, code))
        position = source.waited
        next_ms = min(expires_ms, place.time_ms + FIRST_RETRY_MS) if is_first else expires_ms
        books.put(Money, source_asset, replace(source, waited=position + 1))
        books.put(Waiting, waiting_key(source_asset, position, identifier), Waiting(amount))
        waiting = replace(payment, status=PaymentStatus.WAITING, end_ms=0, end_height=0, position=position)
        _plan(books, identifier, waiting, next_ms)


def _require_waiting(books: Books, account: bytes, identifier: bytes) -> Payment:
    """A payment of this account, or of a customer of this bank, that waits."""
    payment = books.row(Payment, identifier)
    if payment is None or account not in (payment.payer, require_asset(books, payment.source_asset).issuer):
        raise Refused(Reason.UNKNOWN_PAYMENT)
    if payment.status is not PaymentStatus.WAITING:
        raise Refused(Reason.PAYMENT_OVER, f"it is {payment.status.name.lower()}")
    return payment


class ReleasePaymentRule:
    """Tries a waiting payment now, with those that waited before it.

    who may     its payer, or the bank whose money it is in (the issuer)
    signed by   account
    needs       a payment that waits, and reserves for it and for all before it (at most 64 are made at once)
    changes     as pay_across when it is settled, for each of them; one before it that may not be made is returned
    refuses     unknown_payment, payment_over, not_permitted, short_reserves, and what pay_across is refused for
    """

    def must_sign(self, books: Books, operation: ReleasePayment) -> Iterator[bytes]:
        yield operation.account

    def execute(self, books: Books, operation: ReleasePayment, place: Place) -> None:
        payment = _require_waiting(books, operation.account, operation.payment)
        require(books, place, operation.account, operation.code, asset=payment.source_asset, amount=payment.amount)
        _work(books, place, payment.source_asset, wanted=operation.payment)
        if _require_payment(books, operation.payment).status is PaymentStatus.WAITING:
            raise Refused(Reason.SHORT_RESERVES, f"reserves of {asset_text(payment.source_asset)}")


class CancelPaymentRule:
    """Returns a waiting payment to its payer.

    who may     its payer, or the bank whose money it is in (the issuer)
    signed by   account
    needs       a payment that waits
    changes     the amount goes from pending to free, the payment leaves the queue
    refuses     unknown_payment, payment_over, not_permitted, the guards of orders
    """

    def must_sign(self, books: Books, operation: CancelPayment) -> Iterator[bytes]:
        yield operation.account

    def execute(self, books: Books, operation: CancelPayment, place: Place) -> None:
        identifier = operation.payment
        payment = _require_waiting(books, operation.account, identifier)
        require(books, place, operation.account, operation.code, asset=payment.source_asset, amount=payment.amount)
        _give_back(books, place, identifier, payment, PaymentStatus.CANCELLED, operation=operation.code)


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType(
    {
        PayAcross: PayAcrossRule(),
        ReleasePayment: ReleasePaymentRule(),
        CancelPayment: CancelPaymentRule(),
    }
)
"""The rules of payments between banks."""
