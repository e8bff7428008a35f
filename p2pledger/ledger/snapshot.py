"""A version of the state as a stream of chunks, and back.

    chunk = [table, [[key, row], ...]]      canonical MessagePack

Tables come in order, keys in order within and across the chunks of a table, and every chunk holds at least one row and
as many as its size allows: one state and one chunk size make exactly one stream. Nothing in a stream needs to be
trusted, for the root of what was imported decides: it must be the certified one, and a single missing, added or altered
row gives another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from p2pledger import core
from p2pledger.ledger.queries import rows
from p2pledger.ledger.tables import KEY_WIDTHS, Table
from p2pledger.primitives.codec import Fields, decode, encode
from p2pledger.primitives.errors import PeerFault

__all__ = ["CHUNK_BYTES", "MAX_CHUNK_BYTES", "Importer", "export_chunks", "import_chunks"]

CHUNK_BYTES: Final = 262_144
"""What a chunk holds unless somebody asks for another size."""
MAX_CHUNK_BYTES: Final = 917_504
"""What an importer accepts: a chunk must fit one frame, with room for the message around it."""
_OVERHEAD_BYTES: Final = 16
"""More than the heads of a chunk and its list of rows take."""


def export_chunks(version: core.Version, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The stream of a version. A chunk stays within ``chunk_bytes`` unless a single row exceeds it."""
    for table in Table:
        chunk: list[tuple[bytes, bytes]] = []
        size_bytes = _OVERHEAD_BYTES
        for key, row in rows(version, table):
            row_bytes = len(key) + len(row) + _OVERHEAD_BYTES
            if chunk and size_bytes + row_bytes > chunk_bytes:
                yield encode((int(table), chunk))
                chunk, size_bytes = [], _OVERHEAD_BYTES
            chunk.append((key, row))
            size_bytes += row_bytes
        if chunk:
            yield encode((int(table), chunk))


class Importer:
    """Takes the chunks of a stream in order, then ``finish``. After an error it is of no further use."""

    __slots__ = ("_branch", "_last")

    def __init__(self) -> None:
        self._branch = core.empty_state(KEY_WIDTHS).branch()
        self._last: tuple[int, bytes] | None = None

    def add(self, data: bytes) -> None:
        """PeerFault ``malformed`` or ``too_large`` for a chunk that no export makes."""
        fields = Fields(decode(data, limit_bytes=MAX_CHUNK_BYTES, what="chunk"), what="chunk", count=2)
        table = fields.integer("table")
        if table not in KEY_WIDTHS:
            raise PeerFault(f"table {table} is unknown", code="malformed")
        entries = fields.array("rows", most=MAX_CHUNK_BYTES)
        if not entries:
            raise PeerFault("a chunk without rows", code="malformed")
        for item in entries:
            entry = Fields(item, what="row", count=2)
            key, row = entry.binary("key", KEY_WIDTHS[table]), entry.binary("row")
            if self._last is not None and (table, key) <= self._last:
                raise PeerFault("the rows of a snapshot are not in order", code="malformed")
            self._branch.put(table, key, row)
            self._last = table, key

    def finish(self, root: bytes) -> core.Version:
        """The imported version. PeerFault ``wrong_root`` unless ``root`` is its state root."""
        version = self._branch.commit()
        found = version.root()
        if found != root:
            version.release()
            raise PeerFault(
                "the snapshot does not lead to the state root",
                why=f"it has {found.hex()} instead of {root.hex()}",
                code="wrong_root",
            )
        return version


def import_chunks(chunks: Iterable[bytes], *, root: bytes) -> core.Version:
    """The version of a stream, which must have this state root. PeerFault otherwise."""
    importer = Importer()
    for chunk in chunks:
        importer.add(chunk)
    return importer.finish(root)
