"""Names that are taken: whoever comes with one that looks like another's is refused, and told whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.rule import Refused
from p2pledger.ledger.tables import Table, fields_of
from p2pledger.primitives.codec import encode
from p2pledger.primitives.market.lookalikes import skeleton_key
from p2pledger.primitives.reasons import Reason

__all__ = ["Lookalike", "NameKind", "free_name", "owner_of", "require_distinct", "take_name"]


class NameKind(IntEnum):
    """Names of different kinds do not get in each other's way."""

    TICKER = 0
    INSTRUMENT = 1
    PARTY = 2
    LEI = 3
    """no name that people choose, but like one it belongs to one party"""


@dataclass(frozen=True, slots=True)
class Lookalike:
    """LOOKALIKES: the first name of its skeleton, and whose it is: an instrument's (12 bytes) or a party's (32).

    ``uses`` counts the registers in which the instrument bears it.
    """

    table: ClassVar[Table] = Table.LOOKALIKES

    kind: NameKind
    text: str
    owner: bytes
    uses: int = 1

    def encode(self) -> bytes:
        return encode((1, int(self.kind), self.text, self.owner, self.uses))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        kind, text, owner, uses = fields_of(row, "LOOKALIKES", 4)
        return cls(NameKind(kind), text, owner, uses)


def owner_of(books: Books, kind: NameKind, text: str) -> bytes | None:
    """Whose a name is, or one that looks like it; None where it is free."""
    row = books.row(Lookalike, skeleton_key(kind, text))
    return None if row is None else row.owner


def require_distinct(books: Books, kind: NameKind, text: str, owner: bytes) -> None:
    """``looks_alike``, naming the other, where somebody else bears a name of the same skeleton."""
    row = books.row(Lookalike, skeleton_key(kind, text))
    if row is not None and row.owner != owner:
        raise Refused(Reason.LOOKS_ALIKE, rule=f"looks like {_owner_text(row)}")


def take_name(books: Books, kind: NameKind, text: str, owner: bytes) -> None:
    """From now on the name is the owner's. To be called after ``require_distinct``."""
    key = skeleton_key(kind, text)
    row = books.row(Lookalike, key)
    uses = 1 if row is None else row.uses + 1
    books.put(Lookalike, key, Lookalike(kind, text if row is None else row.text, owner, uses))


def free_name(books: Books, kind: NameKind, text: str, owner: bytes) -> None:
    """One use of the owner's name ends. Members of the genesis whose names look alike have one owner of it only."""
    key = skeleton_key(kind, text)
    row = books.row(Lookalike, key)
    if row is not None and row.owner == owner:
        books.put(Lookalike, key, Lookalike(kind, row.text, row.owner, row.uses - 1) if row.uses > 1 else None)


def _owner_text(row: Lookalike) -> str:
    if row.kind is NameKind.PARTY:
        return row.text
    return f"{row.text} of {row.owner.rstrip(bytes(1)).decode('ascii', 'replace')}"
