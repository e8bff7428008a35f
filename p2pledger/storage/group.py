"""How a group of chain records becomes rows, in few statements.

A small statement costs less in SQLite than on the way there and back; so rows are gathered by table and written several
at once. The result is that of one record after the other.

What the writer has written itself it remembers, as long as it may be asked for: the newest final block, and blocks and
batches that are not final. It is a cache: whatever it does not know it reads, and after a group that was given up it
knows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pledger.primitives.records import (
    BatchRecord,
    BlockRecord,
    CertificateRecord,
    FinalRecord,
    ForgetRecord,
    ReceiptsRecord,
    Record,
)
from p2pledger.primitives.votes import VoteKind
from p2pledger.storage.database import Connection
from p2pledger.storage.tables import (
    BATCHES,
    BLOCKS,
    CERTIFICATES,
    FINALS,
    OPEN_BATCHES,
    OPEN_BLOCKS,
    RECEIPTS,
    Column,
    Table,
    to_u64,
)
from p2pledger.storage.verify import block_of

__all__ = ["GroupWriter"]

_Row = tuple[Column, ...]


class GroupWriter:
    """Writes groups through a connection, inside the caller's transactions, one at a time."""

    def __init__(self, chain: Connection) -> None:
        self._chain = chain
        self.forget_all()

    def forget_all(self) -> None:
        """A group was given up: what was written is not there, and nothing is gathered."""
        self._newest: tuple[int, bytes] | None = None
        self._open_blocks: dict[bytes, _Row] = {}
        self._open_batches: set[bytes] = set()
        self._clear()

    def _clear(self) -> None:
        self._batches: list[_Row] = []
        self._blocks: list[_Row] = []
        self._certificates: list[_Row] = []
        self._receipts: list[_Row] = []
        self._finals: list[_Row] = []
        self._final_blocks: list[bytes] = []
        self._final_batches: list[bytes] = []

    def write(self, records: Sequence[Record]) -> None:
        """The rows of a group. AssertionError where it contradicts a final block, or calls one final too early."""
        for record in records:
            match record:
                case BatchRecord(digest, maker, sequence, data):
                    if digest not in self._open_batches:
                        self._batches.append(BATCHES.seal(digest, maker, to_u64(sequence), data))
                        self._open_batches.add(digest)
                case BlockRecord(block_id, height, view, parent, data):
                    if block_id not in self._open_blocks:
                        row = BLOCKS.seal(block_id, to_u64(height), to_u64(view), parent, data)
                        self._blocks.append(row)
                        self._open_blocks[block_id] = row
                case CertificateRecord(kind, epoch, view, block_id, data):
                    row = CERTIFICATES.seal(int(kind), to_u64(view), to_u64(epoch), block_id, data)
                    self._certificates.append(row)
                case FinalRecord(height, block_id):
                    self._finalise(height, block_id)
                case ReceiptsRecord(height, block_id, codes):
                    self._receipts.append(RECEIPTS.seal(height, block_id, codes))
                case ForgetRecord(batches, below_view):
                    self._flush()
                    self._forget(batches, below_view)
                case _:
                    raise AssertionError(f"{type(record).__name__} is not a record of the chain")
        self._flush()

    def _flush(self) -> None:
        """Write what is gathered. Rows that are there already stay, and are not listed as open again."""
        chain = self._chain
        if self._batches:
            chain.insert(OPEN_BATCHES, [OPEN_BATCHES.seal(key) for key in self._insert_new(BATCHES, self._batches)])
        if self._blocks:
            chain.insert(OPEN_BLOCKS, [OPEN_BLOCKS.seal(key) for key in self._insert_new(BLOCKS, self._blocks)])
        chain.insert(CERTIFICATES, self._certificates)
        if self._finals:
            written = chain.insert(FINALS, self._finals)
            assert written == len(self._finals), "a final block was there already"
            chain.delete(OPEN_BLOCKS, self._final_blocks)
            chain.delete(OPEN_BATCHES, self._final_batches)
        chain.insert(RECEIPTS, self._receipts, replace=True)
        self._clear()

    def _insert_new(self, table: Table, rows: list[_Row]) -> list[bytes]:
        """Insert rows led by their key; the keys of those that were not there before."""
        written = self._chain.insert(table, rows)
        if written == len(rows):
            return [row[0] for row in rows]
        # A new row gets the highest number, so these are the last ones.
        sql = f"SELECT {table.columns[0]} FROM {table.name} ORDER BY rowid DESC LIMIT ?"
        return [key for [key] in reversed(self._chain.rows(sql, (written,)))]

    def _finalise(self, height: int, block_id: bytes) -> None:
        chain = self._chain
        newest = self._newest
        if newest is None and (row := chain.row(FINALS.select + "ORDER BY height DESC LIMIT 1")):
            newest = FINALS.open(row)[:2]
        if newest is not None:
            newest_height, newest_id = newest
            if height <= newest_height:
                self._flush()
                known = chain.row(FINALS.select + "WHERE height = ?", (height,))
                other = b"" if known is None else FINALS.open(known)[1]
                assert other == block_id, f"block {block_id.hex()} is called final at {height}, not {other.hex()}"
                return
            assert height == newest_height + 1, f"height {height} is called final after height {newest_height}"
        row = self._open_blocks.pop(block_id, None) or chain.row(BLOCKS.select + "WHERE id = ?", (block_id,))
        assert row is not None, f"block {block_id.hex()} is called final and is not stored"
        block = block_of(row)
        parent = block.header.parent
        assert block.height == height, f"block {block_id.hex()} of height {block.height} is final at {height}"
        if newest is None:
            chain.set_meta("base", to_u64(height) + parent)
        else:
            assert parent == newest_id, f"block {block_id.hex()} does not follow the newest final block"
        for digest in block.digests:
            is_stored = (
                digest in self._open_batches
                or digest in self._final_batches
                or chain.row("SELECT 1 FROM batches WHERE digest = ?", (digest,))
            )
            assert is_stored, f"batch {digest.hex()} of final block {block_id.hex()} is not stored"
        self._open_batches.difference_update(block.digests)
        self._finals.append(FINALS.seal(height, block_id, parent))
        self._final_blocks.append(block_id)
        self._final_batches += block.digests
        self._newest = height, block_id

    def _forget(self, batches: tuple[bytes, ...], below_view: int) -> None:
        chain, below = self._chain, to_u64(below_view)
        # A batch that a final block orders is not open, and stays.
        dropped = [digest for digest in batches if chain.delete(OPEN_BATCHES, [digest])]
        chain.delete(BATCHES, dropped)
        self._open_batches.difference_update(dropped)
        sql = "SELECT id FROM blocks WHERE view < ? AND id IN (SELECT id FROM open_blocks)"
        old = [block_id for [block_id] in chain.rows(sql, (below,))]
        chain.delete(OPEN_BLOCKS, old)
        chain.delete(BLOCKS, old)
        self._open_blocks = {name: row for name, row in self._open_blocks.items() if row[2] >= below}
        # Finalisations stay, also those whose block has not arrived: it is final, only not known here yet.
        kinds = int(VoteKind.NOTARISE), int(VoteKind.NULLIFY)
        chain.run("DELETE FROM certificates WHERE kind IN (?, ?) AND view < ?", (*kinds, below))
