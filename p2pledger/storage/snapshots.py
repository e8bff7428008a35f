"""Snapshots of the state: written whole or not at all, read whole or not at all.

    format   magic "p2plsnap" (8), format version (4), checksum of these two (8): the same in every version
    header   network_id (8), height (8), block id (32), state root (32), checksum of the header (8)
    chunk    length (4, at least 1), checksum of the bytes (8), bytes
    ...
    end      length 0 (4), number of chunks (8), SHA-256 of everything before (32), and nothing after it

Checksums are the first 8 bytes of SHA-256; integers are big-endian. The bytes of a chunk are the state's own export.
A snapshot is written under another name, synced, renamed, and the directory is synced; only then older ones go. It is
read twice: once to check all of it, then for its rows, each chunk checked again, so that nothing of a damaged file is
ever imported and no more than a chunk is in memory. A damaged one is passed over with a note, for an older one and a
longer replay give the same state. What the bytes *mean* is checked by whoever imports them against a certified root.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Final

from p2pledger.storage.database import sync_directory
from p2pledger.storage.errors import DamagedStore, SnapshotFailed, UnknownFormat, WrongStore

__all__ = ["MAX_CHUNK_BYTES", "Snapshot", "Snapshots"]

MAX_CHUNK_BYTES: Final = 64 * 1024 * 1024
"""A reader allocates no more than this for a length that it finds."""
_MAGIC: Final = b"p2plsnap"
_VERSION: Final = 1
_FORMAT: Final = struct.Struct(">8sI")
_HEADER: Final = struct.Struct(">8sQ32s32s")
_CHECKSUM_BYTES: Final = 8
_CHUNK: Final = struct.Struct(">I8s")
_LENGTH: Final = struct.Struct(">I")
_COUNT: Final = struct.Struct(">Q")
_SUFFIX: Final = ".snapshot"
_UNFINISHED: Final = ".unfinished"


def _checksum(data: bytes) -> bytes:
    return sha256(data).digest()[:8]


def _damaged(path: Path, why: str) -> DamagedStore:
    return DamagedStore(
        f"snapshot {path.name} is damaged", where=str(path), why=why, hint="Delete it: an older one and replay serve"
    )


def _read(file: IO[bytes], size_bytes: int, path: Path) -> bytes:
    data = file.read(size_bytes)
    if len(data) < size_bytes:
        raise _damaged(path, "it ends too early")
    return data


def _checked(file: IO[bytes], size_bytes: int, path: Path) -> bytes:
    data = _read(file, size_bytes, path)
    if _read(file, _CHECKSUM_BYTES, path) != _checksum(data):
        raise _damaged(path, "the checksum of its header does not match")
    return data


def _name(height: int) -> str:
    """Of a file, without its suffix; names sort as heights do."""
    return f"{height:020d}"


def _chunks(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """The checked chunks that follow a header, and the check of the end."""
    count = 0
    while length := _LENGTH.unpack(prefix := _read(file, _LENGTH.size, path))[0]:
        if length > MAX_CHUNK_BYTES:
            raise _damaged(path, f"chunk {count} claims {length} bytes")
        _, expected = _CHUNK.unpack(prefix + _read(file, _CHUNK.size - _LENGTH.size, path))
        data = _read(file, length, path)
        if _checksum(data) != expected:
            raise _damaged(path, f"the checksum of chunk {count} does not match")
        yield data
        count += 1
    [expected_count] = _COUNT.unpack(_read(file, _COUNT.size, path))
    if count != expected_count:
        raise _damaged(path, f"it has {count} chunks instead of {expected_count}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that was read to its end and is whole."""

    path: Path
    height: int
    block_id: bytes
    state_root: bytes
    chunk_count: int

    def rows(self) -> Iterator[bytes]:
        """The chunks in the order in which they were written. DamagedStore if the file changed meanwhile."""
        try:
            with self.path.open("rb") as file:
                file.seek(_FORMAT.size + _HEADER.size + 2 * _CHECKSUM_BYTES)
                yield from _chunks(file, self.path)
        except OSError as error:
            raise _damaged(self.path, error.strerror or str(error)) from error


class Snapshots:
    """The snapshots of one network in a directory of their own; the newest ``keep`` of them stay."""

    def __init__(self, directory: Path, *, network_id: bytes, keep: int = 2) -> None:
        assert keep >= 1
        assert len(network_id) == 8
        self.directory = directory
        self._network_id = network_id
        self._keep = keep

    def paths(self) -> list[Path]:
        """The files, newest first, whole or not."""
        return sorted(self.directory.glob(f"*{_SUFFIX}"), reverse=True)

    def write(self, height: int, block_id: bytes, state_root: bytes, rows: Iterable[bytes]) -> Path:
        """Write the state after block ``block_id`` of ``height``; ``rows`` are chunks of 1 to MAX_CHUNK_BYTES bytes.

        SnapshotFailed if the disk does not take it; the older ones then stand as they were.
        """
        path = self.directory / (_name(height) + _SUFFIX)
        unfinished = path.with_suffix(_UNFINISHED)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for leftover in self.directory.glob(f"*{_UNFINISHED}"):
                leftover.unlink()
            try:
                with unfinished.open("xb") as file:
                    self._write_to(file, height, block_id, state_root, rows)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.rename(path)
                sync_directory(self.directory)
            except BaseException:
                with suppress(OSError):
                    unfinished.unlink(missing_ok=True)
                raise
            for old in self.paths()[self._keep :]:
                old.unlink()
        except OSError as error:
            raise SnapshotFailed(
                f"the snapshot of height {height} cannot be written",
                where=str(path),
                why=error.strerror or str(error),
                hint="Make room on the disk; the older snapshots are intact",
            ) from error
        return path

    def _write_to(
        self, file: IO[bytes], height: int, block_id: bytes, state_root: bytes, rows: Iterable[bytes]
    ) -> None:
        digest = sha256()
        parts: list[bytes] = []
        for head in (
            _FORMAT.pack(_MAGIC, _VERSION),
            _HEADER.pack(self._network_id, height, block_id, state_root),
        ):
            parts += (head, _checksum(head))
        count = 0
        for row in rows:
            assert 0 < len(row) <= MAX_CHUNK_BYTES, f"a chunk of {len(row)} bytes"
            parts += (_CHUNK.pack(len(row), _checksum(row)), row)
            count += 1
            for part in parts:
                digest.update(part)
                file.write(part)
            parts = []
        parts += (_LENGTH.pack(0), _COUNT.pack(count))
        for part in parts:
            digest.update(part)
            file.write(part)
        file.write(digest.digest())

    def newest(self, *, at_most_height: int | None = None) -> tuple[Snapshot | None, tuple[str, ...]]:
        """The newest whole snapshot, and a sentence for each damaged one that was passed over for it.

        ``at_most_height`` leaves out younger ones: a block log that was synced anew may be behind its snapshots.
        UnknownFormat and WrongStore for a file that is whole and not ours.
        """
        notes: list[str] = []
        for path in self.paths():
            if at_most_height is not None and path.stem.isdecimal() and int(path.stem) > at_most_height:
                continue
            try:
                return self.check(path), tuple(notes)
            except DamagedStore as error:
                notes.append(f"Snapshot {path.name} is damaged ({error.why}) and is passed over")
        return None, tuple(notes)

    def check(self, path: Path) -> Snapshot:
        """Read a snapshot to its end. DamagedStore, UnknownFormat or WrongStore unless it is whole and ours."""
        try:
            with path.open("rb") as file:
                magic, version = _FORMAT.unpack(_checked(file, _FORMAT.size, path))
                if magic != _MAGIC or version != _VERSION:
                    raise UnknownFormat(
                        f"snapshot {path.name} has format version {version}; {_VERSION} is known here",
                        hint="Use the version of p2pledger that wrote it",
                    )
                network_id, height, block_id, state_root = _HEADER.unpack(_checked(file, _HEADER.size, path))
                if path.stem != _name(height):
                    raise _damaged(path, f"it is the snapshot of height {height}")
                if network_id != self._network_id:
                    raise WrongStore(
                        f"snapshot {path.name} belongs to network {network_id.hex()}",
                        why=f"this is network {self._network_id.hex()}",
                    )
                chunk_count = sum(1 for _ in _chunks(file, path))
                end = file.tell()
                if len(file.read(33)) != 32:
                    raise _damaged(path, "it does not end with its checksum")
                file.seek(0)
                digest = sha256()
                while left := end - file.tell():
                    digest.update(_read(file, min(left, 1 << 20), path))
                if file.read(32) != digest.digest():
                    raise _damaged(path, "the checksum of the whole does not match")
        except OSError as error:
            raise _damaged(path, error.strerror or str(error)) from error
        return Snapshot(path, height, block_id, state_root, chunk_count)
