"""Matching: two instructions about the same trade find each other.

Each side instructs what it believes was agreed; the fields below are compared. An instruction that finds no counterpart
waits under two digests: one over all that must be equal, by which the counterpart finds it at once, and one over the
two parties alone, by which one that almost agrees finds it too, so that both learn *what* differs.

    field         kind         differs as
    parties       mandatory    CMIS        by and counterparty, the other way round
    securities    mandatory    DSEC        giver, taker and asset of each leg in a security
    quantities    mandatory    DQUA        the amounts of those legs
    cash          mandatory    DMON        giver, taker and asset of each leg in money
    trade_day     mandatory    DTRD
    settle_day    mandatory    DDAT
    calendar      mandatory    DDAT        whose days are meant
    amounts       tolerance    DMON        the amounts of the cash legs: each may differ by the smaller of the two
                                           tolerances; what the seller stated counts
    reference     optional     NMAT        compared where both give one

Legs are compared as sorted lists, so their order does not matter. Of several counterparts the one wins whose cash is
nearest, then one that gives the very same reference, then the smaller identifier.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.tables import Table, fields_of
from p2pledger.primitives.codec import encode
from p2pledger.primitives.hashing import MATCHING_TAG, tagged_hash
from p2pledger.primitives.market.instructions import Leg
from p2pledger.primitives.names import AssetKind

__all__ = ["MATCHING_FIELDS", "MatchingField", "Statement", "find", "nearest", "strike", "strike_counterpart", "wait"]

_MOST_COUNTERPARTS: Final = 256
"""Counterparts that are equal in all mandatory fields and are looked at."""
_MOST_NEIGHBOURS: Final = 32
"""Waiting instructions of the counterparty that are compared field by field to say what differs."""


@dataclass(frozen=True, slots=True)
class MatchingField:
    """One compared field of ``Statement``; ``kind`` is mandatory, tolerance or optional."""

    name: str
    kind: str
    iso_reason: str


MATCHING_FIELDS: Final = (
    MatchingField("securities", "mandatory", "DSEC"),
    MatchingField("quantities", "mandatory", "DQUA"),
    MatchingField("cash", "mandatory", "DMON"),
    MatchingField("trade_day", "mandatory", "DTRD"),
    MatchingField("settle_day", "mandatory", "DDAT"),
    MatchingField("calendar", "mandatory", "DDAT"),
    MatchingField("amounts", "tolerance", "DMON"),
    MatchingField("reference", "optional", "NMAT"),
)
"""In the order in which a difference is told."""
_MANDATORY: Final = tuple(field.name for field in MATCHING_FIELDS if field.kind == "mandatory")


@dataclass(frozen=True, slots=True)
class Statement:
    """MATCHING: what one side says of a trade, as far as it is compared.

    ``securities`` and ``cash`` are digests over (giver, taker, asset) of the legs in securities and in money, sorted;
    ``quantities`` and ``amounts`` stand in the same order.
    """

    table: ClassVar[Table] = Table.MATCHING

    by: bytes
    counterparty: bytes
    reference: str
    trade_day: int
    settle_day: int
    calendar: str
    tolerance: int
    securities: bytes
    quantities: tuple[int, ...]
    cash: bytes
    amounts: tuple[int, ...]

    @classmethod
    def of(
        cls,
        *,
        by: bytes,
        counterparty: bytes,
        reference: str,
        trade_day: int,
        settle_day: int,
        calendar: str,
        tolerance: int,
        legs: Iterable[tuple[Leg, AssetKind]],
    ) -> Self:
        """From the terms of an instruction and its legs with the kinds of their assets."""
        rows = sorted((kind, leg.giver, leg.taker, leg.asset, leg.amount) for leg, kind in legs)
        sides, amounts = [], []
        for wanted in (AssetKind.SECURITY, AssetKind.MONEY):
            sides.append(_digest(tuple(row[1:4] for row in rows if row[0] is wanted)))
            amounts.append(tuple(row[4] for row in rows if row[0] is wanted))
        return cls(
            by,
            counterparty,
            reference,
            trade_day,
            settle_day,
            calendar,
            tolerance,
            sides[0],
            amounts[0],
            sides[1],
            amounts[1],
        )

    def encode(self) -> bytes:
        return encode(
            (
                1,
                self.by,
                self.counterparty,
                self.reference,
                self.trade_day,
                self.settle_day,
                self.calendar,
                self.tolerance,
                self.securities,
                self.quantities,
                self.cash,
                self.amounts,
            )
        )

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "MATCHING", 11))

    def digests(self, *, reverse: bool = False) -> tuple[bytes, bytes]:
        """(over all mandatory fields, over the parties alone); ``reverse``: those of the counterpart's."""
        sides = (self.counterparty, self.by) if reverse else (self.by, self.counterparty)
        return _digest((*sides, *(getattr(self, name) for name in _MANDATORY))), _digest(sides)

    def agrees(self, other: Statement, name: str) -> bool:
        """Whether the other side says the same, or near enough, in one field."""
        if name == "amounts":
            most = min(self.tolerance, other.tolerance)
            if len(self.amounts) != len(other.amounts):
                return False
            return all(abs(one - two) <= most for one, two in zip(self.amounts, other.amounts, strict=True))
        mine, theirs = getattr(self, name), getattr(other, name)
        if name == "reference" and not (mine and theirs):
            return True
        return bool(mine == theirs)


def _digest(values: tuple[object, ...]) -> bytes:
    return tagged_hash(MATCHING_TAG, encode(values))


def find(books: Books, mine: Statement) -> bytes | None:
    """The instruction of the counterparty that matches, or None."""
    best: tuple[int, bool, bytes] | None = None
    exact, _ = mine.digests(reverse=True)
    for looked_at, (key, other) in enumerate(books.rows(Statement, exact)):
        if looked_at == _MOST_COUNTERPARTS:
            break
        if mine.agrees(other, "amounts") and mine.agrees(other, "reference"):
            apart = sum(abs(one - two) for one, two in zip(mine.amounts, other.amounts, strict=True))
            found = apart, mine.reference != other.reference, key[32:]
            best = found if best is None else min(best, found)
            if best[:2] == (0, False):
                break  # Those behind it in the order of identifiers cannot be better.
    return None if best is None else best[2]


def nearest(books: Books, mine: Statement) -> tuple[bytes, str] | None:
    """(instruction, ISO reason) of the counterparty's waiting instruction that agrees in most fields; None: none waits.

    The reason is that of the first field that differs.
    """
    best: tuple[int, bytes, str] | None = None
    _, parties = mine.digests(reverse=True)
    for looked_at, (key, other) in enumerate(books.rows(Statement, parties)):
        if looked_at == _MOST_NEIGHBOURS:
            break
        differing = [field for field in MATCHING_FIELDS if not mine.agrees(other, field.name)]
        if differing and (best is None or len(differing) < best[0]):
            best = len(differing), key[32:], differing[0].iso_reason
    return None if best is None else best[1:]


def wait(books: Books, identifier: bytes, mine: Statement) -> None:
    """Puts an unmatched instruction where its counterpart will look."""
    for digest in mine.digests():
        books.put(Statement, digest + identifier, mine)


def strike(books: Books, identifier: bytes, mine: Statement) -> None:
    """Takes it away from there: it is matched, or was cancelled."""
    for digest in mine.digests():
        books.put(Statement, digest + identifier, None)


def strike_counterpart(books: Books, identifier: bytes, mine: Statement) -> None:
    """Takes the counterpart away that ``find`` has found: it says the same in all mandatory fields."""
    for digest in mine.digests(reverse=True):
        books.put(Statement, digest + identifier, None)
