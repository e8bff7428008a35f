"""A disk that keeps the promises of the store, and none beyond them.

Records are written in groups. A group becomes durable when its sync is over, not before, and reads see durable records
only. Like the store's, a group is two transactions, the chain first, then the votes, each written as pages and synced
before the next one begins. A crash finds the pages of the running one in any state that a disk may leave behind: none
is there (*lost*), the last of those that are there is cut in two (*torn*), or later pages are there and earlier ones
are not (*reordered*). A transaction counts only if all its pages are good; otherwise it is rolled back. Records that
were waiting for the next group are lost.

What the store asserts is judged here too, with the disk's own eyes: a contradicted vote, a final block that is not
stored, or that does not follow the one below. A breach is noted and the record still written, so that the other
checkers see where it leads.

``forgets_votes`` is a planted fault: a disk that loses the vote log at each crash and says nothing. No scenario that is
drawn has it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgpack

from p2pledger.node.archive import Recovery
from p2pledger.primitives.records import (
    SEAL_KIND,
    BatchRecord,
    BlockRecord,
    CertificateRecord,
    FinalRecord,
    ForgetRecord,
    ReceiptsRecord,
    Record,
    VoteRecord,
)

__all__ = ["Disk"]

_FINALISE = 3


def _fate_of(pages: int, chance: random.Random) -> str:
    """What a crash leaves of a transaction of so many pages: ``whole``, or how it was broken and what there was."""
    kind = chance.choice(("whole", "lost", "torn", "reordered"))
    if kind == "torn":
        return f"torn in page {1 + chance.randrange(pages)} of {pages}"
    if kind == "reordered":
        there = sum(chance.randrange(2) for _ in range(pages))
        return "whole" if there == pages else f"reordered, {there} of {pages} pages there"
    return kind


class Disk:
    """Durable records of one node. Offers the node's ``Archive`` and, after a crash, its ``Recovery``."""

    def __init__(self, *, forgets_votes: bool = False) -> None:
        self.breaches: list[str] = []
        self._forgets_votes = forgets_votes
        self._may_vote = True
        self._has_run = False
        self._waiting: list[Record] = []
        self._syncing: list[Record] = []
        self._clear_chain()
        self._votes: dict[tuple[int, int, int], VoteRecord] = {}

    def _clear_chain(self) -> None:
        self._batches: dict[bytes, BatchRecord] = {}
        self._open_batches: dict[bytes, None] = {}
        self._blocks: dict[bytes, BlockRecord] = {}
        self._open_blocks: dict[bytes, None] = {}
        self._certificates: dict[tuple[int, int, bytes, int], CertificateRecord] = {}
        self._finals: list[bytes] = []
        self._receipts: dict[int, ReceiptsRecord] = {}

    # The archive: durable records only

    def batch(self, digest: bytes) -> bytes | None:
        record = self._batches.get(digest)
        return None if record is None else record.data

    def block(self, block_id: bytes) -> bytes | None:
        record = self._blocks.get(block_id)
        return None if record is None else record.data

    def final_block(self, height: int) -> bytes | None:
        return self.block(self._finals[height - 1]) if 1 <= height <= len(self._finals) else None

    def finalisation(self, height: int) -> bytes | None:
        if not 1 <= height <= len(self._finals):
            return None
        block = self._finals[height - 1]
        for (_, kind, name, _), record in self._certificates.items():
            if kind == _FINALISE and name == block:
                return record.data
        return None

    def receipts(self, height: int) -> bytes | None:
        record = self._receipts.get(height)
        return None if record is None else record.codes

    def has_vote(self, data: bytes) -> bool:
        """Whether exactly this vote is durable."""
        return any(vote.data == data for vote in reversed(self._votes.values()))

    def has_seal(self, epoch: int, slot: int, block: bytes) -> bool:
        """Whether the promise that goes with an own block is durable."""
        record = self._votes.get((epoch, slot, SEAL_KIND))
        return record is not None and record.block == block

    @property
    def may_vote(self) -> bool:
        """Whether this disk remembers all that its key has promised."""
        return self._may_vote

    @property
    def final_height(self) -> int:
        return len(self._finals)

    def final_id(self, height: int) -> bytes:
        """The id of the final block of a height that is there."""
        return self._finals[height - 1]

    # Writing

    @property
    def is_syncing(self) -> bool:
        return bool(self._syncing)

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting)

    def write(self, records: Iterable[Record]) -> None:
        """Take records into the group that is being collected. Nothing is durable yet."""
        self._has_run = True
        self._waiting += records

    def begin_sync(self) -> None:
        """Close the collected group and start to make it durable."""
        assert not self._syncing, "one sync at a time"
        self._syncing, self._waiting = self._waiting, []

    def end_sync(self) -> int:
        """The group is durable; the number of its records."""
        group, self._syncing = self._syncing, []
        self._apply_chain(group)
        self._apply_votes(group)
        return len(group)

    def crash(self, chance: random.Random) -> str:
        """Lose what was not durable; what became of the group whose sync was running, in a word."""
        group, self._syncing, self._waiting = self._syncing, [], []
        if self._forgets_votes:
            self._votes.clear()
        if not group:
            return "idle"
        votes = sum(isinstance(record, VoteRecord) for record in group)
        fate = _fate_of(1 + len(group) - votes, chance)
        if fate != "whole":
            return f"chain {fate}"
        self._apply_chain(group)
        fate = _fate_of(1 + votes, chance)
        if fate != "whole":
            return f"votes {fate}"
        if not self._forgets_votes:
            self._apply_votes(group)
        return "whole"

    def wipe(self) -> None:
        """Everything is gone, and the operator says so: the node may not vote with this key again."""
        self._clear_chain()
        self._votes.clear()
        self._may_vote = False

    def _apply_votes(self, group: Iterable[Record]) -> None:
        for record in group:
            if isinstance(record, VoteRecord):
                known = self._votes.setdefault((record.epoch, record.view, record.kind), record)
                if known.block != record.block:
                    self.breaches.append(f"a second vote of kind {record.kind} in view {record.view} is written")

    def _apply_chain(self, group: Iterable[Record]) -> None:
        for record in group:
            match record:
                case BatchRecord():
                    if record.digest not in self._batches:
                        self._batches[record.digest] = record
                        self._open_batches[record.digest] = None
                case BlockRecord():
                    if record.id not in self._blocks:
                        self._blocks[record.id] = record
                        self._open_blocks[record.id] = None
                case CertificateRecord():
                    self._certificates.setdefault((record.view, int(record.kind), record.block, record.epoch), record)
                case FinalRecord():
                    self._apply_final(record)
                case ReceiptsRecord():
                    self._receipts[record.height] = record
                case ForgetRecord():
                    self._forget(record)
                case VoteRecord():
                    pass
                case _:
                    self.breaches.append(f"{type(record).__name__} is no record")

    def _apply_final(self, record: FinalRecord) -> None:
        if record.height <= len(self._finals):
            if self._finals[record.height - 1] != record.block:
                self.breaches.append(f"a second block is called final at height {record.height}")
            return
        if record.height != len(self._finals) + 1:
            self.breaches.append(f"height {record.height} is called final after height {len(self._finals)}")
            return
        block = self._blocks.get(record.block)
        if block is None:
            self.breaches.append(f"the final block of height {record.height} is not stored")
            return
        if block.height != record.height or (self._finals and block.parent != self._finals[-1]):
            self.breaches.append(f"the final block of height {record.height} does not follow the one below")
        self._finals.append(record.block)
        self._open_blocks.pop(record.block, None)
        digests = msgpack.unpackb(block.data)[1]
        for digest in digests:
            if digest not in self._batches:
                self.breaches.append(f"a batch of the final block of height {record.height} is not stored")
            self._open_batches.pop(digest, None)

    def _forget(self, record: ForgetRecord) -> None:
        for digest in record.batches:
            if digest in self._open_batches:
                del self._open_batches[digest], self._batches[digest]
        for name in [name for name in self._open_blocks if self._blocks[name].view < record.below_view]:
            del self._open_blocks[name], self._blocks[name]
        for key in [key for key in self._certificates if key[0] < record.below_view and key[1] != _FINALISE]:
            del self._certificates[key]

    # Starting again

    def recovery(self) -> Recovery | None:
        """What the disk remembers, by the rules of ``Store.load``; None for a node that never ran."""
        if not self._has_run and self._may_vote:
            return None
        final = self._blocks[self._finals[-1]] if self._finals else None
        view = 0 if final is None else final.view
        votes = sorted((vote for vote in self._votes.values() if vote.view >= view), key=lambda v: (v.view, v.kind))
        promises = [vote for vote in self._votes.values() if vote.kind == SEAL_KIND and vote.view < view]
        if promises:
            votes.insert(0, max(promises, key=lambda promise: promise.view))
        certificates = [key for key in sorted(self._certificates) if key[0] >= view]
        older = [key for key in self._certificates if key[0] < view and key[1] == _FINALISE]
        if older:
            certificates.insert(0, max(older))
        blocks = sorted((self._blocks[name] for name in self._open_blocks), key=lambda b: (b.height, b.view))
        return Recovery(
            votes=tuple(vote.data for vote in votes),
            certificates=tuple(self._certificates[key].data for key in certificates),
            blocks=tuple(block.data for block in blocks),
            batches=tuple(self._batches[digest].data for digest in self._open_batches),
            final_height=len(self._finals),
            final_block=b"" if final is None else final.id,
            may_vote=self._may_vote,
        )
