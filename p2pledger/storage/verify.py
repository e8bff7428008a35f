"""Reads every row of a store and says what is wrong, row by row.

Beyond the checksums it asks whether rows agree with each other: a block's bytes hash to its id and carry its height,
view and parent; final blocks follow each other; every batch that a final block orders is there; and what is not
final is listed as open, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from p2pledger.primitives.blocks import Block
from p2pledger.primitives.errors import PeerFault
from p2pledger.storage.database import Connection
from p2pledger.storage.errors import DamagedStore, StorageFailed
from p2pledger.storage.tables import (
    BATCHES,
    BLOCKS,
    CHAIN_FILE,
    FINALS,
    META,
    Column,
    Table,
    damage,
    from_u64,
    row_name,
    to_u64,
)

__all__ = ["Finding", "block_of", "findings_of"]

_CHUNK_ROWS: Final = 64
"""Rows read at once: a batch may have 256 KiB, and writers of the same connection wait."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: in which file and table (empty: the file itself), which row, and what about it."""

    file: str
    table: str
    row: str
    what: str

    def __str__(self) -> str:
        place = f"{self.file}, table {self.table}" if self.table else self.file
        return f"{place}: {self.row + ': ' if self.row else ''}{self.what}"


def block_of(row: Sequence[Column]) -> Block:
    """The block of a row of BLOCKS. DamagedStore unless row and bytes are intact and say the same."""
    block_id, height, view, parent, data = BLOCKS.open(row)
    what = f"block {block_id.hex()} at height {from_u64(height)} is damaged"
    try:
        block = Block.decode(data)
    except PeerFault as error:
        raise damage(CHAIN_FILE, BLOCKS.name, what, str(error)) from error
    header = block.header
    if (header.id, header.height, header.view, header.parent) != (
        block_id,
        from_u64(height),
        from_u64(view),
        parent,
    ):
        raise damage(CHAIN_FILE, BLOCKS.name, what, "its bytes are those of another block")
    return block


def findings_of(connection: Connection) -> Iterator[Finding]:
    """All findings of one file, table by table."""
    for table in connection.kind.tables:
        try:
            yield from _table_findings(connection, table)
        except (DamagedStore, StorageFailed) as error:
            # The pages under this table cannot be walked; the next table may be whole.
            yield Finding(connection.kind.name, table.name, "", f"cannot be read to its end: {error.why or error}")
    if connection.kind.name == CHAIN_FILE:
        try:
            yield from _chain_findings(connection)
        except (DamagedStore, StorageFailed) as error:
            yield Finding(CHAIN_FILE, "", "", f"cannot be compared to its end: {error.why or error}")


def _table_findings(connection: Connection, table: Table) -> Iterator[Finding]:
    for rows in connection.walk(table, _CHUNK_ROWS):
        for numbered in rows:
            row = numbered[1:]
            if not table.is_intact(row):
                yield Finding(
                    connection.kind.name, table.name, _described(connection, table, row), "the checksum does not match"
                )
            elif table is BLOCKS:
                try:
                    block_of(row)
                except DamagedStore as error:
                    yield Finding(connection.kind.name, table.name, _described(connection, table, row), error.why)


def _described(connection: Connection, table: Table, row: Sequence[Column]) -> str:
    """The name of a row; a block's height as well, and the block of a batch, because that is what people look for."""
    text = table.row_name(row)
    if table is BATCHES and (orderer := _orderer(connection, row[0])) is not None:
        text += f", ordered by block {orderer.id.hex()} at height {orderer.height}"
    if table is BLOCKS:
        final = connection.row("SELECT height FROM finals WHERE block = ?", (row[0],))
        height = row_name(row[1:2]) if final is None else final[0]
        text += f" at height {height}"
    return text


def _orderer(connection: Connection, digest: Column) -> Block | None:
    """The block that orders a batch, found by reading all blocks: only damaged batches are looked up."""
    for rows in connection.walk(BLOCKS, _CHUNK_ROWS):
        for numbered in rows:
            try:
                block = block_of(numbered[1:])
            except DamagedStore:
                continue  # said with its table
            if digest in block.digests:
                return block
    return None


def _chain_findings(connection: Connection) -> Iterator[Finding]:
    """What single rows cannot show."""
    below: tuple[int, bytes] | None = None
    is_first = True
    for rows in connection.walk(FINALS, _CHUNK_ROWS):
        for numbered in rows:
            final = numbered[1:]
            was_first, is_first = is_first, False
            if not FINALS.is_intact(final):
                below = None
                continue  # said with its table
            height, block_id, parent = FINALS.open(final)
            name = f"final block at height {height}"
            if was_first:
                base = connection.row(META.select + "WHERE name = 'base'")
                if base is None or base[1] != to_u64(height) + parent:
                    yield Finding(CHAIN_FILE, FINALS.name, name, "the chain does not begin where it began")
            elif below is not None and below[0] + 1 != height:
                yield Finding(CHAIN_FILE, FINALS.name, name, f"height {below[0] + 1} is missing below it")
            elif below is not None and below[1] != parent:
                yield Finding(CHAIN_FILE, FINALS.name, name, "its parent is not the final block below it")
            below = (height, block_id)
            row = connection.row(BLOCKS.select + "WHERE id = ?", (block_id,))
            if row is None:
                yield Finding(CHAIN_FILE, BLOCKS.name, f"block {block_id.hex()} at height {height}", "it is missing")
                continue
            try:
                block = block_of(row)
            except DamagedStore:
                continue  # said with its table
            if (block.height, block.header.parent) != (height, parent):
                yield Finding(CHAIN_FILE, FINALS.name, name, "its block has another height or parent")
            for digest in block.digests:
                if connection.row("SELECT 1 FROM batches WHERE digest = ?", (digest,)) is None:
                    what = f"it is missing, and final block {block_id.hex()} at height {height} orders it"
                    yield Finding(CHAIN_FILE, "batches", f"batch {digest.hex()}", what)
                if connection.row("SELECT 1 FROM open_batches WHERE digest = ?", (digest,)) is not None:
                    what = f"it is listed as open, and final block {block_id.hex()} at height {height} orders it"
                    yield Finding(CHAIN_FILE, "open_batches", f"batch {digest.hex()}", what)
    strays = (
        ("open_blocks", "block", "it is neither final nor listed as open",
         "SELECT id FROM blocks WHERE id NOT IN (SELECT id FROM open_blocks UNION ALL SELECT block FROM finals)"),
        ("open_blocks", "block", "it is listed as open, and final",
         "SELECT id FROM open_blocks WHERE id IN (SELECT block FROM finals)"),
        ("open_blocks", "block", "it is listed as open and missing",
         "SELECT id FROM open_blocks WHERE id NOT IN (SELECT id FROM blocks)"),
        ("open_batches", "batch", "it is listed as open and missing",
         "SELECT digest FROM open_batches WHERE digest NOT IN (SELECT digest FROM batches)"),
    )  # fmt: skip
    for table, noun, what, sql in strays:
        for [key] in connection.rows(sql):
            yield Finding(CHAIN_FILE, table, f"{noun} {row_name([key])}", what)
