"""Venues: where an asset is traded. A venue brings in trades of an asset only while it is switched on for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.rule import Refused
from p2pledger.ledger.tables import Table, fields_of
from p2pledger.primitives.codec import encode
from p2pledger.primitives.names import asset_text
from p2pledger.primitives.reasons import Reason

__all__ = ["Venue", "is_on", "require_on", "venue_key", "venues_of"]


@dataclass(frozen=True, slots=True)
class Venue:
    """VENUES: whether a venue is on for an asset, and since when. Without a row it is off."""

    table: ClassVar[Table] = Table.VENUES

    on: bool
    since_ms: int

    def encode(self) -> bytes:
        return encode((1, self.on, self.since_ms))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "VENUES", 2))


def venue_key(asset: bytes, venue: bytes) -> bytes:
    """The venues of one asset are neighbours."""
    return asset + venue


def is_on(books: Books, asset: bytes, venue: bytes) -> bool:
    """Whether a venue, named by its party, may bring in trades of an asset."""
    row = books.row(Venue, venue_key(asset, venue))
    return row is not None and row.on


def require_on(books: Books, asset: bytes, venue: bytes) -> None:
    """``venue_off`` otherwise."""
    if not is_on(books, asset, venue):
        raise Refused(Reason.VENUE_OFF, rule=f"venues of {asset_text(asset)}")


def venues_of(books: Books, asset: bytes) -> Iterator[tuple[bytes, Venue]]:
    """(venue's party, row) of every venue about which something was said, in order."""
    for key, row in books.rows(Venue, asset):
        yield key[16:], row
