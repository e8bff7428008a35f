"""Blocks before anybody relies on them: verdicts on those of others, and blocks of one's own.

The engine knows who may propose; whether what is proposed makes sense is said here. A verdict can be open for a while:
the parent may still be executing, batches may still be on their way. Each block gets exactly one in the end, unless
nobody wants it any more.

    not_admitted            who found the work has no seat in a network that is not public
    old_height              at or below the final block (simplex; in the chain family the engine has let it go then)
    time_ahead              further in the future than clocks may differ (simplex; in the chain family time is a slot,
                            which the engine judges)
    too_many_batches        more digests than a block may have
    time_not_after_parent
    foreign_state_root      the roots are not those of the parent's execution here
    batch_already_ordered   a batch stands in the ancestry already
    too_large               its batches exceed the capacity of a block
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final

from p2pledger import core
from p2pledger.consensus import engine as consensus
from p2pledger.node.archive import Archive
from p2pledger.node.batches import BatchPool
from p2pledger.node.chain import Chain, Entry
from p2pledger.primitives.blocks import Block, Header
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.validators import Validators

__all__ = ["Proposals", "Verdict"]

_MOST_OPEN: Final = 1_024
"""Blocks that may wait for a verdict under simplex; the oldest one is refused when there are more.

In the chain family the engine bounds what it asks about, and tells which blocks it has let go: there a refusal is for
ever, and falls back on whoever has shown the block, so it is never given for want of room."""


_WANTED_AT_ONCE: Final = 64
"""Batches of one block that are wanted at once; the others when these are there."""
_WANTING_OF_ONE: Final = 16
"""Blocks of one sender whose batches are wanted at once."""
_MOST_ABSENT: Final = 65_536


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one block. ``reason`` is why not, "" for yes, None as long as that is open: perhaps because of ``missing``
    batches, which ``holders`` (node keys) should have."""

    block: Block
    reason: str | None
    missing: tuple[bytes, ...] = ()
    holders: tuple[bytes, ...] = ()


@dataclass(slots=True)
class _Question:
    """``missing`` are the batches that were not held when the block was looked at; the last one is awaited first."""

    block: Block
    sender: bytes
    missing: list[bytes] = field(default_factory=list)


class Proposals:
    """What the engine has asked about blocks, and what it takes to answer."""

    def __init__(self, genesis: Genesis, key: bytes, chain: Chain, pool: BatchPool, archive: Archive) -> None:
        """``key`` is the own node key (32 bytes), the proposer of what is built here."""
        self._genesis = genesis
        self._parameters = genesis.parameters
        self._is_chain_family = genesis.engine != "simplex"
        is_open = genesis.engine != "pow" or genesis.profile == "public"
        self._miners = None if is_open else genesis.validator_set
        """Who may search for work; None where anybody may, or where the engine judges proposers."""
        self._key = key
        self._chain = chain
        self._pool = pool
        self._archive = archive
        self._questions: dict[bytes, _Question] = {}
        self._absent: set[bytes] = set()
        """Batches that open questions name and that were not on the disk when it was asked."""

    # --- verdicts -------------------------------------------------------------------------------------------------

    def ask(self, block: Block, sender: bytes) -> None:
        """The engine wants a verdict; ``sender`` has shown the block, and so holds its batches."""
        self._questions[block.id] = _Question(block, sender)

    def verdicts(self, now_ms: int, view: int) -> list[Verdict]:
        """What can be said by now. Questions that are answered are gone, as are those that nobody asks any more."""
        if not self._questions:
            if self._absent:
                self._absent.clear()
            return []
        answers: list[Verdict] = []
        wanting: Counter[bytes] = Counter()
        while len(self._questions) > _MOST_OPEN and not self._is_chain_family:
            oldest = self._questions.pop(next(iter(self._questions)))
            answers.append(Verdict(oldest.block, "too_many_open"))
        for block_id, question in list(self._questions.items()):
            block = question.block
            is_past = self._chain.get(block_id) is None if self._is_chain_family else block.header.view < view
            if is_past:
                del self._questions[block_id]  # nobody follows it, or votes for it, any more
                continue
            verdict = self._judge_again(question, now_ms)
            if verdict.reason is not None:
                del self._questions[block_id]
                answers.append(verdict)
            elif verdict.missing:
                wanting[question.sender] += 1
                if wanting[question.sender] <= _WANTING_OF_ONE:
                    holders = tuple(key for key in (question.sender, block.header.proposer) if key)
                    answers.append(replace(verdict, holders=holders))
        if not self._questions or len(self._absent) > _MOST_ABSENT:
            self._absent.clear()
        return answers

    def _judge_again(self, question: _Question, now_ms: int) -> Verdict:
        """What costs as little as can be while the batch that is awaited is not there: this is asked in every step."""
        missing = question.missing
        while missing and missing[-1] in self._pool.open:
            missing.pop()
        if not missing or missing[-1] in self._pool.recent:
            verdict = self._judge(question.block, now_ms)
            question.missing = missing = list(reversed(verdict.missing))
            if verdict.reason is not None or not missing:
                return verdict
        return Verdict(question.block, None, tuple(reversed(missing[-_WANTED_AT_ONCE:])))

    def _judge(self, block: Block, now_ms: int) -> Verdict:
        header = block.header
        if self._miners is not None and self._miners.signer_of(header.proposer) is None:
            return Verdict(block, "not_admitted")
        if block.height <= self._chain.root.block.height:
            return Verdict(block, "old_height")
        if not self._is_chain_family and header.time_ms > now_ms + self._parameters.max_drift_ms:
            return Verdict(block, "time_ahead")
        if len(block.digests) > self._parameters.max_block_batches:
            return Verdict(block, "too_many_batches")
        parent = self._chain.get(header.parent)
        if parent is None or parent.outcome is None:
            return Verdict(block, None)
        if header.time_ms <= parent.block.header.time_ms:
            return Verdict(block, "time_not_after_parent")
        if (header.parent_state_root, header.parent_receipts_root) != parent.outcome.roots:
            return Verdict(block, "foreign_state_root")
        return self._judge_batches(block, parent)

    def _judge_batches(self, block: Block, parent: Entry) -> Verdict:
        missing = []
        size_bytes = 0
        for digest in block.digests:
            held = self._pool.open.get(digest)
            if held is None:
                if digest in self._pool.recent:
                    return Verdict(block, "batch_already_ordered")
                if digest not in self._absent:
                    # The disk is asked once: what gets there later comes through the pool.
                    if self._archive.batch(digest) is not None:
                        return Verdict(block, "batch_already_ordered")
                    self._absent.add(digest)
                missing.append(digest)
            else:
                size_bytes += held.size_bytes
                if self._chain.orders(parent, digest):
                    return Verdict(block, "batch_already_ordered")
        if size_bytes > self._parameters.block_bytes:
            return Verdict(block, "too_large")
        return Verdict(block, None, tuple(missing)) if missing else Verdict(block, "")

    # --- own blocks -----------------------------------------------------------------------------------------------

    def build(
        self, build: consensus.Build, parent: Entry, validators: Validators, now_ms: int, *, is_needed: bool
    ) -> Block | None:
        """A block on an executed parent; None if there is nothing to put into one that is not needed."""
        assert parent.outcome is not None
        digests = [] if build.closing else self._digests_for(parent)
        if not digests and not parent.is_loaded and not is_needed:
            return None
        state_root, receipts_root = parent.outcome.roots
        header = Header(
            network_id=self._genesis.network_id,
            epoch=validators.epoch,
            view=build.view,
            height=parent.block.height + 1,
            parent=parent.block.id,
            time_ms=build.time_ms or max(now_ms, parent.block.header.time_ms + 1),
            proposer=self._key,
            batches_root=core.merkle_root(digests),
            parent_state_root=state_root,
            parent_receipts_root=receipts_root,
            validators_hash=validators.hash,
            proof=build.proof,
        )
        return Block(header, tuple(digests))

    def _digests_for(self, parent: Entry) -> list[bytes]:
        """Held batches that the parent's ancestry does not order, oldest first, within the capacity of a block."""
        ordered = self._chain.ordered(parent)
        room = self._parameters.block_bytes
        digests: list[bytes] = []
        for digest, held in self._pool.open.items():
            if digest in ordered:
                continue
            if held.size_bytes > room or len(digests) == self._parameters.max_block_batches:
                break
            room -= held.size_bytes
            digests.append(digest)
        return digests
