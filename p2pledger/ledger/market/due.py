"""Due work: what the ledger has to do by itself when a time has come.

An item is a row of DUE: its time in ms (of the block, not of a clock), its kind, and the reference of the object that
it is about. Items are done in the order of their keys, so by time, then kind, then reference. They are put here by the
rules that make, change and end objects, and done by ``agenda.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from p2pledger.ledger.books import Books, Readable
from p2pledger.ledger.tables import Table, fields_of
from p2pledger.primitives.codec import U64_MAX, encode

__all__ = ["Due", "DueItem", "DueKind", "due_key", "next_due_ms", "schedule", "unschedule"]


class DueKind(IntEnum):
    """The numbers stand in keys of DUE and never change their meaning."""

    SETTLE = 1
    RECYCLE = 2
    OFFER_EXPIRY = 3
    ESCROW_EXPIRY = 4
    ORDER_EXPIRY = 5
    PAYMENT_RETRY = 6
    INSTRUCTION_EXPIRY = 7


@dataclass(frozen=True, slots=True)
class Due:
    """DUE: the row says nothing; its key says all."""

    table: ClassVar[Table] = Table.DUE

    def encode(self) -> bytes:
        return _ROW

    @classmethod
    def decode(cls, row: bytes) -> Self:
        fields_of(row, "DUE", 0)
        return cls()


_ROW: Final = encode((1,))


@dataclass(frozen=True, slots=True)
class DueItem:
    """A key of DUE, taken apart."""

    time_ms: int
    kind: DueKind
    reference: bytes

    @classmethod
    def of(cls, key: bytes) -> Self:
        return cls(int.from_bytes(key[:8], "big"), DueKind(key[8]), key[9:])


def due_key(time_ms: int, kind: DueKind, reference: bytes) -> bytes:
    """``reference`` has 32 bytes."""
    assert len(reference) == 32, "due work is about an object of 32 bytes"
    return min(time_ms, U64_MAX).to_bytes(8, "big") + bytes((kind,)) + reference


def schedule(books: Books, time_ms: int, kind: DueKind, reference: bytes) -> None:
    """Puts an item into the queue. One whose time has passed is done in the next block. Twice is once."""
    books.put(Due, due_key(time_ms, kind, reference), Due())


def unschedule(books: Books, time_ms: int, kind: DueKind, reference: bytes) -> None:
    """Takes an item out of the queue, if it is there."""
    key = due_key(time_ms, kind, reference)
    if books.row(Due, key) is not None:
        books.put(Due, key, None)


def next_due_ms(state: Readable) -> int | None:
    """The time of the first item of the queue; None where there is none."""
    page = state.scan(Table.DUE, limit=1)
    return int.from_bytes(page[0][0][:8], "big") if page else None
