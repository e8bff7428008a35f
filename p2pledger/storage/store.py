"""The block log and the vote log of one node.

What is promised. ``commit`` returns when its records are durable, all of them, in the order chain before votes: a
notarise vote promises that its block and batches are on disk, so they are never younger than the vote; the other votes
rest on certificates without which a view may never be left (docs/decisions/0018). A group that was cut short by a crash
was not acknowledged, and nothing was sent that relied on it. After the first error of the disk nothing is written any
more: whether that write survives is unknown, so the node must stop.

Why two files. Peers give back blocks, batches and certificates; nobody gives back a vote. ``chain.db`` can be deleted
and synced again. Without ``votes.db`` a node cannot know what it voted, so it may not vote with this key again, and
the new vote log remembers that:

    votes.db    chain.db    opened as                  may vote
    no          no          fresh                      yes: the caller declares that this key never voted
    no          no          not fresh                  no
    no          yes         either                     no
    yes         either      either                     as votes.db says

``votes.db`` is created first, so that a crash between the two never looks like a lost vote log.

What is checked at start: the tails of both write-ahead logs, the pages of both files, every vote, the newest final
blocks with everything that belongs to them, and that final blocks form one chain without a gap. The rest is checked
row by row when it is read, and all of it by ``verify``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from p2pledger.primitives.errors import P2PLedgerError
from p2pledger.primitives.records import (
    SEAL_KIND,
    BatchRecord,
    BlockRecord,
    CertificateRecord,
    ReceiptsRecord,
    Record,
    VoteRecord,
)
from p2pledger.primitives.votes import VoteKind
from p2pledger.storage.database import (
    CHAIN,
    VOTES_LOG,
    Connection,
    FileKind,
    check_log,
    is_present,
    sync_directory,
    translated,
)
from p2pledger.storage.errors import StorageFailed
from p2pledger.storage.group import GroupWriter
from p2pledger.storage.lock import DirectoryLock
from p2pledger.storage.tables import (
    BATCHES,
    BLOCKS,
    CERTIFICATES,
    CHAIN_FILE,
    FINALS,
    OPEN_BATCHES,
    OPEN_BLOCKS,
    RECEIPTS,
    VOTES,
    Column,
    damage,
    from_u64,
    to_u64,
)
from p2pledger.storage.verify import Finding, block_of, findings_of

__all__ = ["Recovered", "Store", "StoredBlock", "verify_directory"]

_NEWEST: Final = 16
"""Final blocks whose rows are read at start."""
_CHUNK: Final = 64
"""Final blocks read at once when many are asked for, so that nobody else waits long."""


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A block as it is stored; ``certificate`` is its own finalisation, which most blocks inherit from a later one."""

    height: int
    id: bytes
    data: bytes
    certificate: CertificateRecord | None


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a node needs to go on where it stopped.

    ``height`` is that of the newest final block, 0 when only the genesis is; ``block`` is then empty and ``view`` 0.
    ``votes``, ``certificates``: those of views from ``view`` on, and in any case the newest finalisation and a
    producer's newest promise.
    ``blocks``: those that are not final. ``batches``: those that no final block orders.
    ``vote_count`` counts all votes ever cast with this log.
    """

    height: int
    block: bytes
    view: int
    votes: tuple[VoteRecord, ...]
    vote_count: int
    certificates: tuple[CertificateRecord, ...]
    blocks: tuple[BlockRecord, ...]
    batches: tuple[BatchRecord, ...]


def _vote(row: Sequence[Column]) -> VoteRecord:
    view, kind, epoch, block, data = VOTES.open(row)
    return VoteRecord(from_u64(epoch), from_u64(view), kind, block, data)


def _certificate(row: Sequence[Column]) -> CertificateRecord:
    kind, view, epoch, block, data = CERTIFICATES.open(row)
    return CertificateRecord(kind, from_u64(epoch), from_u64(view), block, data)


def _block(row: Sequence[Column]) -> BlockRecord:
    block_id, height, view, parent, data = BLOCKS.open(row)
    return BlockRecord(block_id, from_u64(height), from_u64(view), parent, data)


def _batch(row: Sequence[Column]) -> BatchRecord:
    digest, maker, sequence, data = BATCHES.open(row)
    return BatchRecord(digest, maker, from_u64(sequence), data)


class Store:
    """The two logs, open. Any thread may call; one commit runs at a time, and reads do not wait for its sync.

    ``notes`` are sentences about what was found when it was opened; ``may_vote`` says whether this node may vote.
    """

    def __init__(
        self,
        lock: DirectoryLock,
        chain: Connection,
        reader: Connection,
        votes: Connection,
        directory: Path,
        notes: tuple[str, ...],
        may_vote: bool,
    ) -> None:
        """Use ``open``."""
        self._lock = lock
        self._chain = chain
        self._reader = reader
        self._votes = votes
        self._writer = GroupWriter(chain)
        self._committing = threading.Lock()
        self._failure: P2PLedgerError | None = None
        self._is_closed = False
        self.directory = directory
        self.notes = notes
        self.may_vote = may_vote

    @classmethod
    def open(cls, directory: Path, *, network_id: bytes, node_key: bytes, name: str, fresh: bool) -> Store:
        """Open the store of a node, or make it.

        ``network_id`` (8 bytes) and ``node_key`` (32 bytes) bind the directory; ``name`` is shown to others who want
        it. ``fresh`` declares that this key has never voted anywhere. DirectoryInUse, WrongStore, UnknownFormat,
        DamagedStore or StorageFailed.
        """
        with translated(str(directory)):
            directory.mkdir(parents=True, exist_ok=True)
        lock = DirectoryLock(directory, name)
        connections: list[Connection] = []
        try:
            notes: list[str] = []
            for kind in (VOTES_LOG, CHAIN):
                note = check_log(directory, kind)
                if note is not None:
                    notes.append(note)
            has_votes, has_chain = is_present(directory, VOTES_LOG), is_present(directory, CHAIN)
            # What is there must be ours before anything is written beside it.
            for kind, is_there in ((VOTES_LOG, has_votes), (CHAIN, has_chain)):
                if is_there:
                    connections.append(Connection(directory, kind))
                    connections[-1].check_owner(network_id, node_key)
            owner = {"network_id": network_id, "node_key": node_key}
            if not has_votes:
                never_voted = fresh and not has_chain
                connections.insert(0, Connection(directory, VOTES_LOG, create=True))
                connections[0].create({**owner, "may_vote": b"\x01" if never_voted else b"\x00"})
                sync_directory(directory)
                if has_chain:
                    notes.append("votes.db is missing although chain.db is there")
            if not has_chain:
                connections.append(Connection(directory, CHAIN, create=True))
                connections[1].create(owner)
                sync_directory(directory)
                if has_votes and connections[0].row("SELECT 1 FROM votes LIMIT 1"):
                    notes.append("chain.db is new: the votes are kept, the blocks come from the peers")
            votes, chain = connections

            # The votes come first: the way out of a damaged chain.db relies on them.
            for connection in (votes, chain):
                connection.check_pages()
                connection.empty_log()
            may_vote = votes.meta("may_vote") == b"\x01"
            if not may_vote:
                notes.append(
                    "This node may have voted before and cannot know what: it observes until the validators "
                    "give it a new key"
                )
            reader = Connection(directory, CHAIN, read_only=True)
            connections.append(reader)
            store = cls(lock, chain, reader, votes, directory, tuple(notes), may_vote)
            store._check_votes_are_intact()
            store._check_finals()
        except BaseException:
            for connection in reversed(connections):
                connection.close()
            lock.release()
            raise
        return store

    def close(self) -> None:
        """Let go of the files and of the directory. Waits for a commit that is running; again does nothing."""
        with self._committing:
            if not self._is_closed:
                self._is_closed = True
                self._reader.close()
                self._chain.close()
                self._votes.close()
                self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Checks at start

    def _check_votes_are_intact(self) -> None:
        for rows in self._votes.walk(VOTES, 4096):
            for row in rows:
                VOTES.open(row[1:])

    def _check_finals(self) -> None:
        """One final block per height, no gap, each the child of the one below, and the newest ones whole."""
        base = self._chain.meta("base")
        lowest = self._chain.row(FINALS.select + "ORDER BY height LIMIT 1")
        if base is None and lowest is None:
            return
        begins = b"" if lowest is None else to_u64(lowest[0]) + FINALS.open(lowest)[2]
        if lowest is None or base != begins:
            why = "it does not begin where it began when it was written"
            raise damage(CHAIN_FILE, FINALS.name, "the chain of final blocks is damaged", why)
        broken = self._chain.row(
            "SELECT upper.height FROM finals AS upper LEFT JOIN finals AS lower ON lower.height = upper.height - 1 "
            "WHERE upper.height > ? AND (lower.block IS NULL OR lower.block <> upper.parent) "
            "ORDER BY upper.height LIMIT 1",
            (lowest[0],),
        )
        if broken is not None:
            why = "its parent is not the final block below it"
            raise damage(CHAIN_FILE, FINALS.name, f"final block at height {broken[0]} is damaged", why)
        absent = self._chain.row(
            "SELECT finals.height FROM finals LEFT JOIN blocks ON blocks.id = finals.block "
            "WHERE blocks.id IS NULL ORDER BY finals.height LIMIT 1"
        )
        if absent is not None:
            why = "there is no such row"
            raise damage(CHAIN_FILE, BLOCKS.name, f"the block of final height {absent[0]} is missing", why)
        for row in self._chain.rows(FINALS.select + "ORDER BY height DESC LIMIT ?", (_NEWEST,)):
            height, block_id, parent = FINALS.open(row)
            block = block_of(self._block_row(self._chain, block_id))
            if block.height != height or block.header.parent != parent:
                why = "its bytes have another height or parent"
                raise damage(CHAIN_FILE, BLOCKS.name, f"block {block_id.hex()} at height {height} is damaged", why)
            for digest in block.digests:
                found = self._chain.row(BATCHES.select + "WHERE digest = ?", (digest,))
                if found is None:
                    what = f"batch {digest.hex()} of final block {block_id.hex()} at height {height} is missing"
                    raise damage(CHAIN_FILE, BATCHES.name, what, "there is no such row")
                BATCHES.open(found)

    # Writing

    def commit(self, records: Sequence[Record]) -> None:
        """Make a group of records durable: those of the chain in one transaction, then the votes in another.

        Returns after both are synced. StorageFailed or DamagedStore when they cannot be, and from then on always.
        Records that are already there change nothing. It is a broken invariant (AssertionError, nothing is written) to
        contradict a vote or a final block, or to call a block final whose parent, bytes or batches are not stored.
        """
        votes = [record for record in records if isinstance(record, VoteRecord)]
        chain = [record for record in records if not isinstance(record, VoteRecord)]
        with self._committing:
            if self._is_closed:
                raise StorageFailed("the store is closed", where=str(self.directory))
            if self._failure is not None:
                raise StorageFailed("the store failed before", where=str(self.directory), why=str(self._failure))
            with self._chain.lock, self._votes.lock:
                try:
                    if chain:
                        self._chain.begin()
                        self._writer.write(chain)
                    if votes:
                        self._votes.begin()
                        self._write_votes(votes)
                    if chain:
                        self._chain.end()
                    if votes:
                        self._votes.end()
                except BaseException as error:
                    if isinstance(error, P2PLedgerError):
                        self._failure = error
                    self._chain.undo()
                    self._votes.undo()
                    self._writer.forget_all()
                    raise

    def _write_votes(self, votes: Sequence[VoteRecord]) -> None:
        """No vote contradicts a stored one, nor another of the same group."""
        for vote in votes:
            row = VOTES.seal(to_u64(vote.view), int(vote.kind), to_u64(vote.epoch), vote.block, vote.data)
            if self._votes.insert(VOTES, [row]):
                continue
            known = self._votes.row(VOTES.select + "WHERE view = ? AND kind = ? AND epoch = ?", row[:3])
            before = b"" if known is None else _vote(known).block
            assert before == vote.block, (
                f"vote of kind {vote.kind} in view {vote.view} is for {vote.block.hex()}; "
                f"this node has voted for {before.hex()}"
            )

    # Reading

    @contextmanager
    def _one_moment(self) -> Iterator[Connection]:
        """Several reads that see the same moment."""
        with self._reader.lock:
            self._reader.run("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.run("ROLLBACK")

    @staticmethod
    def _block_row(connection: Connection, block_id: bytes) -> tuple[Column, ...]:
        row = connection.row(BLOCKS.select + "WHERE id = ?", (block_id,))
        if row is None:
            what = f"block {block_id.hex()} is missing although other rows name it"
            raise damage(CHAIN_FILE, BLOCKS.name, what, "there is no such row")
        return row

    @staticmethod
    def _finalisation(connection: Connection, block_id: bytes) -> CertificateRecord | None:
        row = connection.row(
            CERTIFICATES.select + "WHERE block = ? AND kind = ? LIMIT 1", (block_id, int(VoteKind.FINALISE))
        )
        return None if row is None else _certificate(row)

    def load(self) -> Recovered:
        """What a node needs to go on. DamagedStore names the row that cannot be read."""
        with self._one_moment() as chain:
            height, block_id, view = 0, b"", 0
            newest = chain.row(FINALS.select + "ORDER BY height DESC LIMIT 1")
            if newest is not None:
                height, block_id, _ = FINALS.open(newest)
                view = _block(self._block_row(chain, block_id)).view
            # The newest finalisation proves the newest final block, also where that one has none of its own.
            kept = chain.rows(
                CERTIFICATES.select + "WHERE kind = ? ORDER BY view DESC LIMIT 1", (int(VoteKind.FINALISE),)
            )
            for kind in VoteKind:
                kept += chain.rows(
                    CERTIFICATES.select + "WHERE kind = ? AND view >= ? ORDER BY view", (int(kind), to_u64(view))
                )
            blocks = [
                _block(self._block_row(chain, OPEN_BLOCKS.open(row)[0]))
                for row in chain.rows(OPEN_BLOCKS.select + "ORDER BY rowid")
            ]
            batches = []
            for row in chain.rows(OPEN_BATCHES.select + "ORDER BY rowid"):
                [digest] = OPEN_BATCHES.open(row)
                found = chain.row(BATCHES.select + "WHERE digest = ?", (digest,))
                if found is None:
                    what = f"batch {digest.hex()} is missing although it is listed as open"
                    raise damage(CHAIN_FILE, BATCHES.name, what, "there is no such row")
                batches.append(_batch(found))
        # The newest promise of a producer sums up all before it, and binds also where others have gone on since.
        promises = self._votes.rows(
            VOTES.select + "WHERE kind = ? AND view < ? ORDER BY view DESC LIMIT 1", (SEAL_KIND, to_u64(view))
        )
        votes = promises + self._votes.rows(VOTES.select + "WHERE view >= ? ORDER BY view, kind", (to_u64(view),))
        [vote_count] = self._votes.row("SELECT count(*) FROM votes") or (0,)
        certificates = {
            (certificate.epoch, certificate.view, certificate.kind, certificate.block): certificate
            for certificate in map(_certificate, kept)
        }
        return Recovered(
            height,
            block_id,
            view,
            tuple(map(_vote, votes)),
            vote_count,
            tuple(certificates[key] for key in sorted(certificates)),
            tuple(sorted(blocks, key=lambda block: (block.height, block.view))),
            tuple(batches),
        )

    def blocks(self, from_height: int, to_height: int) -> Iterator[StoredBlock]:
        """Final blocks of ``from_height`` to ``to_height``, both included, upwards, as far as there are any."""
        while from_height <= to_height:
            last = min(to_height, from_height + _CHUNK - 1)
            chunk = []
            with self._one_moment() as chain:
                for row in chain.rows(
                    FINALS.select + "WHERE height BETWEEN ? AND ? ORDER BY height", (from_height, last)
                ):
                    height, block_id, _ = FINALS.open(row)
                    block = _block(self._block_row(chain, block_id))
                    chunk.append(StoredBlock(height, block_id, block.data, self._finalisation(chain, block_id)))
            yield from chunk
            from_height = last + 1
            if not chunk or chunk[-1].height < last:
                return

    def block_at(self, height: int) -> StoredBlock | None:
        """The final block of a height."""
        return next(self.blocks(height, height), None)

    def block(self, block_id: bytes) -> StoredBlock | None:
        """A block, final or not, by its id."""
        row = self._reader.row(BLOCKS.select + "WHERE id = ?", (block_id,))
        if row is None:
            return None
        block = _block(row)
        return StoredBlock(block.height, block_id, block.data, self._finalisation(self._reader, block_id))

    def batch(self, digest: bytes) -> bytes | None:
        """The signed batch of a digest."""
        row = self._reader.row(BATCHES.select + "WHERE digest = ?", (digest,))
        return None if row is None else _batch(row).data

    def receipts(self, height: int) -> ReceiptsRecord | None:
        """The outcome of a final block, if it was kept."""
        row = self._reader.row(RECEIPTS.select + "WHERE height = ?", (height,))
        return None if row is None else ReceiptsRecord(*RECEIPTS.open(row))

    def certificate(
        self, kind: int, *, block: bytes | None = None, view: int | None = None
    ) -> CertificateRecord | None:
        """A certificate by its block or by its view; the one of the highest view where several fit."""
        assert (block is None) != (view is None), "a certificate is asked for by block or by view"
        if block is not None:
            condition, key = "WHERE kind = ? AND block = ? ", block
        else:
            condition, key = "WHERE kind = ? AND view = ? ", to_u64(view or 0)
        row = self._reader.row(
            CERTIFICATES.select + condition + "ORDER BY view DESC, epoch DESC LIMIT 1", (int(kind), key)
        )
        return None if row is None else _certificate(row)

    def verify(self) -> Iterator[Finding]:
        """Read every row of both files and yield what is wrong. Commits may go on meanwhile."""
        yield from findings_of(self._votes)
        yield from findings_of(self._reader)


def verify_directory(directory: Path, *, name: str) -> Iterator[Finding]:
    """The same for a directory that no node has open, also for one that ``Store.open`` refuses as damaged.

    DirectoryInUse while a node runs, UnknownFormat for files of another program.
    """
    with translated(str(directory)):
        lock = DirectoryLock(directory, name)
    try:
        for kind in (VOTES_LOG, CHAIN):
            yield from _verify_file(directory, kind)
    finally:
        lock.release()


def _verify_file(directory: Path, kind: FileKind) -> Iterator[Finding]:
    try:
        check_log(directory, kind)
        if not is_present(directory, kind):
            yield Finding(kind.name, "", "", "the file is missing")
            return
        connection = Connection(directory, kind, read_only=True)
    except P2PLedgerError as error:
        if error.code != "damaged_store":
            raise
        yield Finding(kind.name, "", error.what, error.why)
        return
    try:
        try:
            connection.check_pages()
        except P2PLedgerError as error:
            yield Finding(kind.name, "", error.what, error.why)
        yield from findings_of(connection)
    finally:
        connection.close()
