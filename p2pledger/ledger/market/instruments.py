"""Instruments: what an asset is, and whether anything new may begin with it.

An asset that nobody has described is a plain one: active, without class, without an issue size. One that its depository
has described is *active* only from the moment at which the depository says so, and its issuer must be accredited then;
later the issuer must be accredited whenever units are issued. While it is suspended, nothing new begins with it: no
transfer, lock or issue. What was promised before is kept (settlement), what is locked may come back, and orders of
authority reach it.

The flag INACTIVE of the asset repeats the status, so that plain transactions ask for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.market.movement import Cause, Movement
from p2pledger.ledger.market.parties import holder_of
from p2pledger.ledger.rule import Place, Refused, require_asset
from p2pledger.ledger.tables import Asset, AssetFlag, Flow, Table, fields_of
from p2pledger.primitives.codec import encode
from p2pledger.primitives.market.instruments import InstrumentStatus, Nature
from p2pledger.primitives.names import AssetKind, asset_text
from p2pledger.primitives.reasons import Reason

__all__ = [
    "Accreditation",
    "InstrumentGuard",
    "InstrumentRow",
    "IssueGuard",
    "circulating",
    "class_of",
    "holds_until",
    "instrument_of",
    "is_accredited",
    "is_mirror",
    "judge",
    "outstanding",
]


@dataclass(frozen=True, slots=True)
class InstrumentRow:
    """INSTRUMENTS: what the depository says of an asset, and the issuer has signed. Fields as in ``Describe``."""

    table: ClassVar[Table] = Table.INSTRUMENTS

    status: InstrumentStatus
    nature: Nature
    cfi: str
    mic: str
    ticker: str
    currency: str
    issue_size: int
    issue_day: int
    maturity_day: int
    governing_law: str
    documents: tuple[bytes, ...]

    def encode(self) -> bytes:
        return encode(
            (
                1,
                int(self.status),
                int(self.nature),
                self.cfi,
                self.mic,
                self.ticker,
                self.currency,
                self.issue_size,
                self.issue_day,
                self.maturity_day,
                self.governing_law,
                self.documents,
            )
        )

    @classmethod
    def decode(cls, row: bytes) -> Self:
        status, nature, *others = fields_of(row, "INSTRUMENTS", 11)
        return cls(InstrumentStatus(status), Nature(nature), *others)

    def with_status(self, status: InstrumentStatus) -> Self:
        """The same description in another status."""
        return replace(self, status=status)


@dataclass(frozen=True, slots=True)
class Accreditation:
    """ACCREDITATIONS: up to when an issuer is accredited (0: without end), and by whom."""

    table: ClassVar[Table] = Table.ACCREDITATIONS

    by: bytes
    until_ms: int

    def encode(self) -> bytes:
        return encode((1, self.by, self.until_ms))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "ACCREDITATIONS", 2))


def holds_until(until_ms: int, time_ms: int) -> bool:
    """Whether something that holds up to a moment, the moment itself included, holds at another; 0 is without end."""
    return until_ms == 0 or time_ms <= until_ms


def instrument_of(books: Books, asset: bytes) -> InstrumentRow | None:
    """What an asset is; None where nobody has described it."""
    return books.row(InstrumentRow, asset)


def class_of(books: Books, asset: bytes) -> str:
    """The CFI code of an asset; empty where nobody has described it."""
    row = books.row(InstrumentRow, asset)
    return "" if row is None else row.cfi


def is_mirror(books: Books, asset: bytes) -> bool:
    """Whether the asset repeats what another register holds: it never counts in supply."""
    row = books.row(InstrumentRow, asset)
    return row is not None and row.nature is Nature.MIRROR


def is_accredited(books: Books, place: Place, party: bytes) -> bool:
    """Whether an issuer is accredited at the time of the block."""
    row = books.row(Accreditation, party)
    return row is not None and holds_until(row.until_ms, place.time_ms)


def circulating(books: Books, asset: bytes) -> int:
    """What this register holds of an asset: issued less redeemed, with what came in and went out."""
    row, flow = require_asset(books, asset), books.row(Flow, asset) or Flow()
    return row.issued - row.redeemed + flow.arrived - flow.departed


def outstanding(books: Books, asset: bytes) -> int:
    """What counts toward the issue size of an asset: issued less redeemed, of a native security over all registers."""
    row = require_asset(books, asset)
    if row.kind is AssetKind.MONEY or is_mirror(books, asset):
        return row.circulating
    registers = books.rows(Asset, asset[:12])
    return sum(other.circulating for name, other in registers if not is_mirror(books, name))


def judge(books: Books, asset: bytes) -> Asset:
    """The asset, with which something new may begin; ``unknown_asset`` or ``inactive`` otherwise."""
    row = require_asset(books, asset)
    if row.flags & AssetFlag.INACTIVE:
        raise Refused(Reason.INACTIVE, rule=f"status of {asset_text(asset)}")
    return row


class InstrumentGuard:
    """Nothing new begins with an instrument that is not active."""

    asset_flags = int(AssetFlag.INACTIVE)
    account_flags = 0

    def leaving(self, books: Books, place: Place, movement: Movement) -> None:
        judge(books, movement.asset)

    def entering(self, books: Books, place: Place, movement: Movement) -> None:
        judge(books, movement.asset)

    def moved(self, books: Books, place: Place, movement: Movement) -> None:
        pass


class IssueGuard:
    """Of a described instrument only an accredited issuer issues, never more than the issue size, in all registers."""

    def judge(self, books: Books, place: Place, movement: Movement) -> None:
        if movement.cause is not Cause.CREATION:
            return
        instrument = books.row(InstrumentRow, movement.asset)
        if instrument is None:
            return
        row = require_asset(books, movement.asset)
        if not is_accredited(books, place, holder_of(books, row.issuer)):
            raise Refused(Reason.NOT_ACCREDITED, rule=f"accreditation for {asset_text(movement.asset)}")
        if instrument.issue_size and outstanding(books, movement.asset) + movement.amount > instrument.issue_size:
            raise Refused(Reason.ABOVE_ISSUE_SIZE, rule=f"issue size of {asset_text(movement.asset)}")
