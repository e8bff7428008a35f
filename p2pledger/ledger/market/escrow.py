"""Escrow: units set aside for a beneficiary, who gets them when all conditions are met, or does not.

Opening moves them from the owner's free units into the bucket ESCROWED, under the escrow's identifier. There they stay
until one of three things happens: somebody shows that the conditions are met (*fulfilled*); the beneficiary renounces
(*returned*); the time is over, and the ledger gives them back by itself (*expired*).

The conditions are any of these, and all that are named: a number of named accounts sign the fulfilment; the block's
time, or its height, has come; the bytes behind a SHA-256 hash are shown (as in contracts that span two ledgers).
Anybody may show them, for the units go to the beneficiary whoever does. Whether he may hold the asset is judged then.

Until then title, income and votes are the owner's (``buckets.FACTS``). The owner is usually who opened the escrow; an
order of authority may give the title to another, for all of it or a part, and the escrow goes on (``pass_on``): its
*parts* say whose the units are and to whom they would go back. While an order stops an escrow its time does not run: it
expires a day after the last day on which it was stopped, at the earliest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.market import permissions
from p2pledger.ledger.market.buckets import FREE_SPOT, Spot
from p2pledger.ledger.market.due import DueKind, schedule, unschedule
from p2pledger.ledger.market.movement import Cause, Movement, move
from p2pledger.ledger.market.orders import holds_on
from p2pledger.ledger.rule import Place, Refused, Rule, require_account, require_amount, require_asset
from p2pledger.ledger.tables import Table, fields_of
from p2pledger.primitives.codec import U64_MAX, encode
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.market.escrow import FulfilEscrow, OpenEscrow, ReturnEscrow
from p2pledger.primitives.reasons import Reason

__all__ = ["RULES", "EscrowRow", "EscrowStatus", "expire_escrow", "pass_on"]

_DAY_MS: Final = 86_400_000


class EscrowStatus(IntEnum):
    """What has become of an escrow. OPEN is followed by one of the others."""

    OPEN = 0
    FULFILLED = 1
    RETURNED = 2
    EXPIRED = 3


@dataclass(frozen=True, slots=True)
class EscrowRow:
    """ESCROWS: an escrow as it was opened, and what has become of it. It is kept when it has ended.

    ``parts`` says whose the units are, (account, amount) by account, and is empty when it has ended. ``expires_ms``
    moves while an order stops it. ``ended_`` is 0 while it is open.
    """

    table: ClassVar[Table] = Table.ESCROWS

    account: bytes
    asset: bytes
    amount: int
    beneficiary: bytes
    signers: tuple[bytes, ...]
    threshold: int
    after_ms: int
    after_height: int
    preimage_hash: bytes
    expires_ms: int
    opened_height: int
    opened_ms: int
    parts: tuple[tuple[bytes, int], ...]
    status: EscrowStatus = EscrowStatus.OPEN
    ended_height: int = 0
    ended_ms: int = 0

    def encode(self) -> bytes:
        return encode(
            (
                1, self.account, self.asset, self.amount, self.beneficiary, self.signers, self.threshold, self.after_ms,
                self.after_height, self.preimage_hash, self.expires_ms, self.opened_height, self.opened_ms, self.parts,
                int(self.status), self.ended_height, self.ended_ms,
            )
        )  # fmt: skip

    @classmethod
    def decode(cls, row: bytes) -> Self:
        values: list[Any] = list(fields_of(row, "ESCROWS", 16))
        values[13] = EscrowStatus(values[13])
        return cls(*values)

    def ended(self, place: Place, status: EscrowStatus) -> EscrowRow:
        return replace(self, parts=(), status=status, ended_height=place.height, ended_ms=place.time_ms)


def _expiry_ms(row: EscrowRow) -> int:
    return min(row.expires_ms + 1, U64_MAX)


def _require_escrow(books: Books, identifier: bytes) -> EscrowRow:
    row = books.row(EscrowRow, identifier)
    if row is None:
        raise Refused(Reason.UNKNOWN_ESCROW)
    if row.status is not EscrowStatus.OPEN:
        raise Refused(Reason.ESCROW_ENDED, rule=f"it is {row.status.name.lower()}")
    return row


class OpenEscrowRule:
    """Sets units aside for a beneficiary under conditions.

    who may     everybody for an account of his own
    signed by   account
    needs       an unused salt; a beneficiary, another account; at least one condition; a threshold that the signers can
                reach, if there are signers; an expiry to come, not before the time from which it may be fulfilled; the
                amount among the free units
    changes     the amount moves from free to escrowed; the escrow, and its expiry in the queue
    refuses     not_permitted, zero_amount, unknown_account, same_account, unknown_asset, bad_escrow, identifier_used,
                insufficient_free, the guards
    """

    def must_sign(self, books: Books, operation: OpenEscrow) -> Iterator[bytes]:
        yield operation.account

    def execute(self, books: Books, operation: OpenEscrow, place: Place) -> None:
        account, asset, amount, identifier = operation.account, operation.asset, operation.amount, operation.id
        permissions.require(books, place, account, operation.code, asset=asset, amount=amount)
        require_amount(amount)
        require_account(books, operation.beneficiary)
        if operation.beneficiary == account:
            raise Refused(Reason.SAME_ACCOUNT)
        require_asset(books, asset)
        for signer in operation.signers:
            require_account(books, signer)
        _require_sound(operation, place)
        if books.row(EscrowRow, identifier) is not None:
            raise Refused(Reason.IDENTIFIER_USED)
        spot = Spot(Bucket.ESCROWED, identifier)
        move(books, place, Movement(asset, account, FREE_SPOT, account, spot, amount, Cause.OWNER, operation.code))
        row = EscrowRow(
            account,
            asset,
            amount,
            operation.beneficiary,
            operation.signers,
            operation.threshold,
            operation.after_ms,
            operation.after_height,
            operation.preimage_hash,
            operation.expires_ms,
            place.height,
            place.time_ms,
            ((account, amount),),
        )
        books.put(EscrowRow, identifier, row)
        schedule(books, _expiry_ms(row), DueKind.ESCROW_EXPIRY, identifier)


def _require_sound(operation: OpenEscrow, place: Place) -> None:
    if not (operation.signers or operation.after_ms or operation.after_height or operation.preimage_hash):
        raise Refused(Reason.BAD_ESCROW, rule="no condition")
    if bool(operation.threshold) != bool(operation.signers) or operation.threshold > len(operation.signers):
        raise Refused(Reason.BAD_ESCROW, rule="signers and threshold")
    if operation.expires_ms < max(place.time_ms, operation.after_ms):
        raise Refused(Reason.BAD_ESCROW, rule="expiry")


class FulfilEscrowRule:
    """Shows that the conditions of an escrow are met.

    who may     everybody: the units go to the beneficiary
    signed by   the signers that it names
    needs       an open escrow whose time has not passed; every condition met; no order of authority over its units; a
                beneficiary who may hold the asset
    changes     the units move from escrowed to the beneficiary's free ones; the escrow is fulfilled
    refuses     unknown_escrow, escrow_ended, not_permitted, conditions_unmet (naming the condition), the guards
    """

    def must_sign(self, books: Books, operation: FulfilEscrow) -> Iterator[bytes]:
        yield from operation.signers

    def execute(self, books: Books, operation: FulfilEscrow, place: Place) -> None:
        identifier, row = operation.escrow, _require_escrow(books, operation.escrow)
        permissions.require(books, place, row.beneficiary, operation.code, asset=row.asset, amount=row.amount)
        _require_conditions(row, operation, place)
        spot = Spot(Bucket.ESCROWED, identifier)
        for owner, amount in row.parts:
            movement = Movement(row.asset, owner, spot, row.beneficiary, FREE_SPOT, amount, Cause.OWNER, operation.code)
            move(books, place, movement)
        books.put(EscrowRow, identifier, row.ended(place, EscrowStatus.FULFILLED))
        unschedule(books, _expiry_ms(row), DueKind.ESCROW_EXPIRY, identifier)


def _require_conditions(row: EscrowRow, operation: FulfilEscrow, place: Place) -> None:
    """Each that is named; ``conditions_unmet`` names the first that is not met."""
    if place.time_ms > row.expires_ms:
        raise Refused(Reason.ESCROW_ENDED, rule="it has expired")
    if row.threshold and len(set(operation.signers) & set(row.signers)) < row.threshold:
        raise Refused(Reason.CONDITIONS_UNMET, rule="signatures")
    if place.time_ms < row.after_ms:
        raise Refused(Reason.CONDITIONS_UNMET, rule="time")
    if place.height < row.after_height:
        raise Refused(Reason.CONDITIONS_UNMET, rule="height")
    if row.preimage_hash and hashlib.sha256(operation.preimage).digest() != row.preimage_hash:
        raise Refused(Reason.CONDITIONS_UNMET, rule="preimage")


class ReturnEscrowRule:
    """Gives the units of an escrow back before it expires: the beneficiary renounces.

    who may     the beneficiary
    signed by   by
    needs       an open escrow
    changes     the units move from escrowed to their owners' free ones; the escrow is returned
    refuses     unknown_escrow, escrow_ended, not_permitted
    """

    def must_sign(self, books: Books, operation: ReturnEscrow) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: ReturnEscrow, place: Place) -> None:
        row = _require_escrow(books, operation.escrow)
        if operation.by != row.beneficiary:
            raise Refused(Reason.NOT_PERMITTED, rule="the beneficiary renounces")
        permissions.require(books, place, operation.by, operation.code, asset=row.asset, amount=row.amount)
        _give_back(books, place, operation.escrow, row, EscrowStatus.RETURNED, operation.code)


def _give_back(
    books: Books, place: Place, identifier: bytes, row: EscrowRow, status: EscrowStatus, operation: int
) -> None:
    """Each part to its owner's free units: nobody can refuse that."""
    # The escrow has ended before its units are free, for an order may take them then.
    books.put(EscrowRow, identifier, row.ended(place, status))
    unschedule(books, _expiry_ms(row), DueKind.ESCROW_EXPIRY, identifier)
    spot = Spot(Bucket.ESCROWED, identifier)
    for owner, amount in row.parts:
        move(books, place, Movement(row.asset, owner, spot, owner, FREE_SPOT, amount, Cause.RETURN, operation))


def pass_on(books: Books, identifier: bytes, source: bytes, target: bytes, amount: int) -> None:
    """Writes that a part of an escrow is another's now. Whoever calls moves the units as well."""
    row = books.row(EscrowRow, identifier)
    assert row is not None, "units are escrowed that no escrow knows"
    parts = dict(row.parts)
    assert parts.get(source, 0) >= amount, "more of an escrow is passed on than its owner has"
    parts[source] -= amount
    parts[target] = parts.get(target, 0) + amount
    listed = tuple(sorted((owner, part) for owner, part in parts.items() if part))
    books.put(EscrowRow, identifier, replace(row, parts=listed))


def expire_escrow(books: Books, place: Place, reference: bytes) -> int:
    """Due work: an escrow's time is over, and it is given back; while an order stops it, it gets another day."""
    row = books.row(EscrowRow, reference)
    if row is None or row.status is not EscrowStatus.OPEN:
        return 1
    spot = Spot(Bucket.ESCROWED, reference)
    if any(held.stay for owner, _ in row.parts for held in holds_on(books, place, row.asset, owner, spot)):
        row = replace(row, expires_ms=min(place.time_ms + _DAY_MS, U64_MAX))
        books.put(EscrowRow, reference, row)
        schedule(books, _expiry_ms(row), DueKind.ESCROW_EXPIRY, reference)
        return len(row.parts)
    _give_back(books, place, reference, row, EscrowStatus.EXPIRED, 0)
    return len(row.parts)


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType(
    {OpenEscrow: OpenEscrowRule(), FulfilEscrow: FulfilEscrowRule(), ReturnEscrow: ReturnEscrowRule()}
)
