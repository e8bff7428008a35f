"""The tables of the two files, and the checksum that every row carries.

``chain.db`` holds what peers can give again; ``votes.db`` holds what nobody else knows. Two files, so that a damaged
block log can be thrown away while the promises survive.

    chain.db    batches, blocks, certificates, finals, receipts     and two small sets of what is still open:
                open_batches (held, in no final block), open_blocks (stored, not final)
    votes.db    votes
    both        meta (network, node, and what the file remembers about itself)

A row's last column is the first 8 bytes of SHA-256 over the table's name and all other columns, so a row that was
changed, or moved to another key or table, is found when it is read. Unsigned 64-bit numbers that a peer can choose are
8 bytes big-endian, because SQLite's integers are signed; as blobs they sort in the same order. Heights of final
blocks are counted by the node itself and are ordinary integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from p2pledger.storage.errors import DamagedStore

__all__ = [
    "BATCHES",
    "BLOCKS",
    "CERTIFICATES",
    "CHAIN_FILE",
    "CHAIN_TABLES",
    "FINALS",
    "META",
    "OPEN_BATCHES",
    "OPEN_BLOCKS",
    "RECEIPTS",
    "VOTES",
    "VOTES_FILE",
    "VOTES_TABLES",
    "Column",
    "Table",
    "damage",
    "from_u64",
    "row_name",
    "to_u64",
]

Column = Any
"""int, str or bytes, as SQLite keeps it."""

_TYPES: Final = frozenset((int, str, bytes))

CHAIN_FILE: Final = "chain.db"
VOTES_FILE: Final = "votes.db"


def to_u64(number: int) -> bytes:
    """The 8 bytes under which a number of a peer's choosing is kept."""
    return number.to_bytes(8, "big")


def from_u64(column: bytes) -> int:
    """The number in such 8 bytes."""
    return int.from_bytes(column, "big")


def checksum(table: str, columns: Sequence[Column]) -> bytes:
    """8 bytes over a table's name and a row's columns; each column goes in with its type and length."""
    parts = [table.encode()]
    for column in columns:
        if type(column) is bytes:
            parts += b"bytes%d:" % len(column), column
        else:
            data = str(column).encode()
            parts += b"%s%d:" % (type(column).__name__.encode(), len(data)), data
    return sha256(b"".join(parts)).digest()[:8]


def row_name(key: Sequence[Column]) -> str:
    """A key as people read it."""
    parts = []
    for column in key:
        if type(column) is bytes:
            parts.append(str(from_u64(column)) if len(column) == 8 else column.hex())
        else:
            parts.append(str(column))
    return " ".join(parts)


def damage(file: str, table: str, what: str, why: str) -> DamagedStore:
    """The error for committed data that are not what was written, with the way out for this file."""
    if file == VOTES_FILE:
        hint = (
            "Move votes.db away: the node then runs as an observer, because it cannot know what it voted, "
            "until the validators give it a new key"
        )
    else:
        hint = (
            "The votes are intact: delete chain.db, chain.db-wal and chain.db-shm, "
            "and the node syncs again from its peers"
        )
    where = f"{file}, table {table}" if table else file
    return DamagedStore(what, where=where, why=why, hint=hint)


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its columns without the checksum, the first ``key_width`` of them the key."""

    file: str
    name: str
    noun: str
    """What one row is, for sentences."""
    columns: tuple[str, ...]
    key_width: int
    create: str
    select: str = field(init=False)
    """Ends after the table's name: append WHERE and ORDER BY."""
    walk: str = field(init=False)
    """Some rows after a rowid, each led by its own: parameters are that rowid and how many rows."""
    names: str = field(init=False)
    """All columns, as an INSERT lists them."""
    replace: str = field(init=False)
    """Writes one row, over the one that is there."""

    def __post_init__(self) -> None:
        names = ", ".join((*self.columns, "checksum"))
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "select", f"SELECT {names} FROM {self.name} ")
        walk = f"SELECT rowid, {names} FROM {self.name} WHERE rowid > ? ORDER BY rowid LIMIT ?"
        object.__setattr__(self, "walk", walk)
        marks = ", ".join("?" * (len(self.columns) + 1))
        object.__setattr__(self, "replace", f"INSERT OR REPLACE INTO {self.name} ({names}) VALUES ({marks})")

    def seal(self, *columns: Column) -> tuple[Column, ...]:
        """The columns and their checksum, as ``insert`` and ``replace`` want them."""
        assert len(columns) == len(self.columns)
        assert _TYPES.issuperset(map(type, columns)), "another type would come back as one of these"
        return (*columns, checksum(self.name, columns))

    def is_intact(self, row: Sequence[Column]) -> bool:
        """Whether a row of ``select`` is what was written."""
        return bool(row[-1] == checksum(self.name, row[:-1]))

    def row_name(self, row: Sequence[Column]) -> str:
        """What people call this row."""
        return f"{self.noun} {row_name(row[: self.key_width])}"

    def open(self, row: Sequence[Column]) -> tuple[Column, ...]:
        """The columns of a row of ``select``. DamagedStore unless it is what was written."""
        if not self.is_intact(row):
            raise damage(self.file, self.name, f"{self.row_name(row)} is damaged", "its checksum does not match")
        return tuple(row[:-1])


def _table(file: str, name: str, noun: str, columns: dict[str, str], key_width: int, *, also: str = "") -> Table:
    """``also`` are further constraints; the key is the primary key."""
    declared = ", ".join(f"{column} {kind} NOT NULL" for column, kind in columns.items())
    key = ", ".join(list(columns)[:key_width])
    create = f"CREATE TABLE {name} ({declared}, checksum BLOB NOT NULL, PRIMARY KEY ({key}){also})"
    return Table(file, name, noun, tuple(columns), key_width, create)


# Data stand last: SQLite then reads the columns before them without following the pages of a long row.
META: Final = _table("", "meta", "entry", {"name": "TEXT", "value": "BLOB"}, 1)
BATCHES: Final = _table(
    CHAIN_FILE, "batches", "batch", {"digest": "BLOB", "maker": "BLOB", "sequence": "BLOB", "data": "BLOB"}, 1
)
BLOCKS: Final = _table(
    CHAIN_FILE,
    "blocks",
    "block",
    {"id": "BLOB", "height": "BLOB", "view": "BLOB", "parent": "BLOB", "data": "BLOB"},
    1,
)
CERTIFICATES: Final = _table(
    CHAIN_FILE,
    "certificates",
    "certificate (kind, view, epoch, block)",
    {"kind": "INTEGER", "view": "BLOB", "epoch": "BLOB", "block": "BLOB", "data": "BLOB"},
    4,
)
FINALS: Final = _table(
    CHAIN_FILE,
    "finals",
    "final block at height",
    {"height": "INTEGER", "block": "BLOB", "parent": "BLOB"},
    1,
    also=", UNIQUE (block)",
)
RECEIPTS: Final = _table(
    CHAIN_FILE, "receipts", "receipts of height", {"height": "INTEGER", "block": "BLOB", "codes": "BLOB"}, 1
)
OPEN_BATCHES: Final = _table(CHAIN_FILE, "open_batches", "open batch", {"digest": "BLOB"}, 1)
OPEN_BLOCKS: Final = _table(CHAIN_FILE, "open_blocks", "open block", {"id": "BLOB"}, 1)
# One vote of a kind in a view, whatever the caller believes: the key itself refuses an equivocation.
VOTES: Final = _table(
    VOTES_FILE,
    "votes",
    "vote (view, kind, epoch)",
    {"view": "BLOB", "kind": "INTEGER", "epoch": "BLOB", "block": "BLOB", "data": "BLOB"},
    3,
)

CHAIN_TABLES: Final = (META, BATCHES, BLOCKS, CERTIFICATES, FINALS, RECEIPTS, OPEN_BATCHES, OPEN_BLOCKS)
VOTES_TABLES: Final = (META, VOTES)
CHAIN_INDEXES: Final = ("CREATE INDEX certificates_by_block ON certificates (block, kind)",)
