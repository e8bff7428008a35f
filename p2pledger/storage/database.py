"""One SQLite file: how it is opened, what binds it to its owner, and how its errors are told.

Write-ahead log with synchronous=FULL: a commit returns after the log is synced. The identity (format, network, node)
is written in the transaction that creates the tables, so a file either has all of it or counts as not there yet.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pledger.primitives.errors import P2PLedgerError
from p2pledger.storage.errors import StorageFailed, UnknownFormat, WrongStore
from p2pledger.storage.tables import (
    CHAIN_FILE,
    CHAIN_INDEXES,
    CHAIN_TABLES,
    META,
    VOTES_FILE,
    VOTES_TABLES,
    Column,
    Table,
    damage,
)
from p2pledger.storage.wal import inspect_wal

__all__ = ["FORMAT_VERSION", "Connection", "FileKind", "is_present", "sync_directory"]

FORMAT_VERSION: Final = 1
CHECKPOINT_PAGES: int = 1000
"""The log is copied into the file when it has grown to this (4 MiB). The crash tests set it small."""
_ROWS: Final = 8
"""Rows that one statement writes at most: statements of few lengths stay prepared."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is called, how it says what it is, and what stands in it."""

    name: str
    application_id: int
    tables: tuple[Table, ...]
    indexes: tuple[str, ...]


CHAIN: Final = FileKind(CHAIN_FILE, int.from_bytes(b"p2lc", "big"), CHAIN_TABLES, CHAIN_INDEXES)
VOTES_LOG: Final = FileKind(VOTES_FILE, int.from_bytes(b"p2lv", "big"), VOTES_TABLES, ())


def sync_directory(directory: Path) -> None:
    """Make names that were created, renamed or removed in a directory durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_RAISED: Final = (sqlite3.Error, UnicodeDecodeError, OSError)
"""What SQLite and the system raise."""


def _told(file: str, error: Exception) -> P2PLedgerError:
    """DamagedStore or StorageFailed that names the file."""
    if isinstance(error, sqlite3.Error):
        # Errors of the Python module itself (a closed connection) carry no code.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        # All statements are ours: one that SQLite cannot understand means that the schema is not what it was.
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            return damage(file, "", f"{file} is damaged", str(error))
        hint = "Look at the disk and its free space; the store is consistent up to the last acknowledged write"
        return StorageFailed(f"{file} cannot be read or written", why=str(error), hint=hint)
    if isinstance(error, OSError):
        return StorageFailed(f"{file} cannot be read or written", why=error.strerror or str(error))
    # SQLite quotes a damaged schema in its message, and Python cannot decode that.
    return damage(file, "", f"{file} is damaged", "its schema is not text")


@contextmanager
def translated(file: str) -> Iterator[None]:
    """Turn what SQLite and the system raise into DamagedStore or StorageFailed that name the file."""
    try:
        yield
    except _RAISED as error:
        raise _told(file, error) from error


class Connection:
    """A connection that any thread may use, one at a time.

    ``create`` makes the file, or takes one whose creation was cut short; otherwise UnknownFormat unless it is ours,
    before anything is written to it.
    """

    def __init__(self, directory: Path, kind: FileKind, *, create: bool = False, read_only: bool = False) -> None:
        self.kind = kind
        self.lock = threading.RLock()
        uri = f"{(directory.resolve() / kind.name).as_uri()}?mode={'rwc' if create else 'rw'}"
        with translated(kind.name):
            self._sqlite = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            # Damage can turn a blob into text; the checksum then refuses it, and decoding it must not fail before that.
            self._sqlite.text_factory = lambda data: data.decode("utf-8", "replace")
            try:
                # Python and SQLite may both be built to trust a file's schema; this program wrote it, or it is refused.
                self._sqlite.execute("PRAGMA trusted_schema = OFF")
                self._sqlite.execute("PRAGMA cell_size_check = ON")
                if not create:
                    self._check_format()
                if read_only:
                    self._sqlite.execute("PRAGMA query_only = ON")
                else:
                    self._sqlite.execute("PRAGMA journal_mode = WAL")
                    self._sqlite.execute("PRAGMA synchronous = FULL")
                    self._sqlite.execute("PRAGMA fullfsync = ON")
                    self._sqlite.execute("PRAGMA checkpoint_fullfsync = ON")
                    self._sqlite.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            except BaseException:
                self._sqlite.close()
                raise

    def _check_format(self) -> None:
        [application_id] = self._sqlite.execute("PRAGMA application_id").fetchone()
        [version] = self._sqlite.execute("PRAGMA user_version").fetchone()
        if application_id != self.kind.application_id:
            raise UnknownFormat(
                f"{self.kind.name} was not written by p2pledger", why=f"its application id is {application_id:#010x}"
            )
        if version != FORMAT_VERSION:
            raise UnknownFormat(
                f"{self.kind.name} has format version {version}; {FORMAT_VERSION} is known here",
                hint="Use the version of p2pledger that wrote it",
            )

    def close(self) -> None:
        with self.lock:
            self._sqlite.close()

    def rows(self, sql: str, values: Sequence[Column] = ()) -> list[tuple[Column, ...]]:
        """All rows of a statement. DamagedStore or StorageFailed."""
        with self.lock, translated(self.kind.name):
            return self._sqlite.execute(sql, values).fetchall()

    def row(self, sql: str, values: Sequence[Column] = ()) -> tuple[Column, ...] | None:
        """The first row of a statement, if there is one."""
        with self.lock:
            try:
                found: tuple[Column, ...] | None = self._sqlite.execute(sql, values).fetchone()
            except _RAISED as error:
                raise _told(self.kind.name, error) from error
            return found

    def run(self, sql: str, values: Sequence[Column] = ()) -> int:
        """Execute a statement and return how many rows it changed."""
        with self.lock:
            try:
                return self._sqlite.execute(sql, values).rowcount
            except _RAISED as error:
                raise _told(self.kind.name, error) from error

    def insert(self, table: Table, rows: Sequence[tuple[Column, ...]], *, replace: bool = False) -> int:
        """Write sealed rows, some with each statement; how many were not there before (or all, with ``replace``)."""
        verb, written = "REPLACE" if replace else "IGNORE", 0
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            marks = "(" + ", ".join("?" * len(some[0])) + ")"
            sql = f"INSERT OR {verb} INTO {table.name} ({table.names}) VALUES {', '.join([marks] * len(some))}"
            written += self.run(sql, [column for row in some for column in row])
        return written

    def delete(self, table: Table, keys: Sequence[bytes]) -> int:
        """Delete the rows of some keys of one column; how many there were."""
        deleted = 0
        for start in range(0, len(keys), _ROWS):
            some = keys[start : start + _ROWS]
            marks = ", ".join("?" * len(some))
            deleted += self.run(f"DELETE FROM {table.name} WHERE {table.columns[0]} IN ({marks})", some)
        return deleted

    def walk(self, table: Table, chunk_rows: int) -> Iterator[list[tuple[Column, ...]]]:
        """All rows of a table in chunks, each row led by its rowid, with nothing held between chunks.

        DamagedStore where rowids do not ascend: on damaged pages a walk from rowid to rowid could go on for ever.
        """
        last = -(2**63)
        while rows := self.rows(table.walk, (last, chunk_rows)):
            for row in rows:
                if row[0] <= last:
                    why = "its rows are out of order"
                    raise damage(self.kind.name, table.name, f"table {table.name} is damaged", why)
                last = row[0]
            yield rows

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and durable when the block is left without an error."""
        with self.lock:
            self.begin()
            try:
                yield
                self.end()
            except BaseException:
                self.undo()
                raise

    def begin(self) -> None:
        """Begin a transaction, to ``end`` or ``undo``. The caller holds the lock."""
        self.run("BEGIN IMMEDIATE")

    def end(self) -> None:
        """Make the transaction durable: returns when it is synced."""
        self.run("COMMIT")

    def undo(self) -> None:
        """Give up the transaction, if there is one. A failed ``end`` may have done so; its error is the one to tell."""
        with self.lock:
            if self._sqlite.in_transaction:
                try:
                    self._sqlite.execute("ROLLBACK")
                except sqlite3.Error:
                    pass

    def empty_log(self) -> None:
        """Copy the write-ahead log into the file and cut it to nothing."""
        self.run("PRAGMA wal_checkpoint(TRUNCATE)")

    # Identity

    def create(self, meta: dict[str, bytes]) -> None:
        """Make the tables and say whose they are, in one transaction."""
        with self.transaction():
            for table in self.kind.tables:
                self.run(table.create)
            for index in self.kind.indexes:
                self.run(index)
            for name, value in meta.items():
                self.set_meta(name, value)
            self.run(f"PRAGMA application_id = {self.kind.application_id}")
            self.run(f"PRAGMA user_version = {FORMAT_VERSION}")

    def check_owner(self, network_id: bytes, node_key: bytes) -> None:
        """WrongStore unless the file belongs to this node of this network."""
        for noun, name, expected in (("network", "network_id", network_id), ("node", "node_key", node_key)):
            found = self.meta(name)
            if found is None:
                raise damage(self.kind.name, META.name, f"{self.kind.name} is damaged", f"it has no {name}")
            if found != expected:
                raise WrongStore(
                    f"{self.kind.name} belongs to {noun} {found.hex()}",
                    why=f"this is {noun} {expected.hex()}",
                    hint="Start the node with the directory, genesis and key that belong together",
                )

    def meta(self, name: str) -> bytes | None:
        row = self.row(META.select + "WHERE name = ?", (name,))
        if row is None:
            return None
        if not META.is_intact(row):
            raise damage(self.kind.name, META.name, f"{META.row_name(row)} is damaged", "its checksum does not match")
        value: bytes = row[1]
        return value

    def set_meta(self, name: str, value: bytes) -> None:
        self.run(META.replace, META.seal(name, value))

    def check_pages(self) -> None:
        """DamagedStore where SQLite finds the structure of the file broken."""
        findings = [str(row[0]) for row in self.rows("PRAGMA quick_check(3)")]
        if findings != ["ok"]:
            raise damage(self.kind.name, "", f"{self.kind.name} is damaged", "; ".join(findings))


def is_present(directory: Path, kind: FileKind) -> bool:
    """Whether the file exists with its tables. One that was being created when the power went counts as not there.

    Removes the log of a file that is gone: SQLite must not apply it to a new one.
    """
    path = directory / kind.name
    with translated(kind.name):
        if not path.exists() or path.stat().st_size == 0:
            for suffix in ("-wal", "-shm"):
                (directory / (kind.name + suffix)).unlink(missing_ok=True)
            return False
    uri = f"{path.resolve().as_uri()}?mode=rw"
    with translated(kind.name), closing(sqlite3.connect(uri, uri=True)) as probe:
        [tables] = probe.execute("SELECT count(*) FROM sqlite_master").fetchone()
        [application_id] = probe.execute("PRAGMA application_id").fetchone()
    return bool(tables or application_id)


def check_log(directory: Path, kind: FileKind) -> str | None:
    """Look at a write-ahead log before SQLite opens it.

    DamagedStore where synced writes cannot be read; a sentence where the last write did not end; else None.
    """
    name = kind.name + "-wal"
    with translated(name):
        path = directory / kind.name
        if not path.exists() or path.stat().st_size == 0:
            return None  # without its file a log means nothing
        tail = inspect_wal(directory / name)
    if tail.is_damaged:
        why = "its header" if tail.header_is_damaged else f"what follows frame {tail.committed_frames}"
        raise damage(kind.name, "", f"{name} is damaged", f"{why} is not what was written")
    if tail.is_interrupted:
        return (
            f"The last write to {kind.name} was interrupted and is rolled back "
            f"({tail.lost_frames} pages after page {tail.committed_frames} of its log)"
        )
    return None
