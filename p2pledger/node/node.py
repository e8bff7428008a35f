"""A node: ledger, consensus engine, mempool, batches and chain behind one door.

What happens to a transaction here, from top to bottom of this file:

1. A client submits it (``submit``). A ``Compute`` checks form and signatures; then it waits in the mempool.
2. The mempool is cut into batches (``_close_batches``). A batch is streamed to all validators at once, ahead of any
   ordering, and made durable.
3. A batch from a peer (``receive_batch``) is checked by a ``Compute``, held, and made durable.
4. When the engine asks for a block (``_try_build``) the leader names the digests of batches that it holds and that the
   parent's ancestry does not order yet. When it asks for a verdict (``_try_checks``) the node waits until it holds
   every batch and has executed the parent, and then compares.
5. A certified block is executed on a branch (``_execute``), when its parent is.
6. A block that is final and executed becomes the new root (``_finalise``); its clients are told.

A node never waits: what cannot go on yet is kept in ``_checks``, ``_build`` or the chain, and every event that could
help ends in ``_settle``, which tries all of them again until nothing moves.

Promises. Nobody proposes or votes on a parent that is not executed. A notarise vote comes after the records of its
block and batches in the order of effects. A node whose root differs from a certified one stops and says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final

from p2pledger import core
from p2pledger.consensus import engine as consensus
from p2pledger.consensus.chain import ChainEngine
from p2pledger.consensus.simplex import Simplex
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.market.due import next_due_ms
from p2pledger.ledger.transition import Outcome, execute_block
from p2pledger.node.archive import Archive, Recovery
from p2pledger.node.batches import BadBatch, BatchPool, HeldBatch, check_batch, likely_digest, limits_of, maker_of
from p2pledger.node.chain import Entry
from p2pledger.node.desk import Desk
from p2pledger.node.effects import (
    Admitted,
    Compute,
    Effect,
    Halt,
    Log,
    Mark,
    Persist,
    Stage,
    StreamBatch,
    WantBatches,
    marks_of,
)
from p2pledger.node.engines import make_chain_engine, make_simplex
from p2pledger.node.epochs import Epochs
from p2pledger.node.followers import Followers
from p2pledger.node.makers import Makers
from p2pledger.node.mempool import Candidate, Mempool, check_transactions
from p2pledger.node.proposals import Proposals
from p2pledger.node.reorganisation import Head
from p2pledger.node.replay import replay
from p2pledger.node.reports import Reports
from p2pledger.node.standing import Standings
from p2pledger.primitives.blocks import Block, sign_batch
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.faults import NO_FAULTS, Faults
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.records import BatchRecord, BlockRecord, FinalRecord, ForgetRecord, ReceiptsRecord, Record
from p2pledger.primitives.validators import Validators
from p2pledger.primitives.votes import Certificate, VoteKind

__all__ = ["Node"]

_SIGNATURE_US: Final = 10
_EXECUTE_US: Final = 8
_STALL_MS: Final = 1_000
"""Nothing got final for so long although batches are held: perhaps the others do not hold them."""
_STALL_CAP_MS: Final = 30_000
_STREAMED_AGAIN: Final = 16
_SENDERS: Final = 4_096
_MOST_OPEN_BYTES: Final = 512 * 1_048_576
"""Batches are held for blocks that are not accepted yet while all of them take less. (Chain family.)"""
_MOST_CLOSING: Final = 64
_UNDER_WAY_MS: Final = 6
"""What a batch may take until the next leader has checked it. (Half of the block interval where that is less.)"""
_CHECKED_AT_ONCE: Final = 32
"""So many transactions wait for no others to be checked with them."""
_ANSWER_MS: Final = 20
"""How long a client may wait for its answer so that others are checked together with what it handed in."""
_NOBODY: Final = -1
"""The client of what the node itself hands in."""
_HASHES_PER_US: Final = 4
_STORED_BRANCH: Final = 2_048
_FORGET_EVERY: Final = 256
"""Heights between two cleanings of the disk."""

NodeEffect = Effect | consensus.Effect


class Node:
    """The state machine of one node. Every public method returns effects, to be obeyed in order."""

    def __init__(
        self,
        genesis: Genesis,
        keypair: Keypair,
        *,
        archive: Archive,
        recovery: Recovery | None = None,
        quorum: int | None = None,
        faults: Faults = NO_FAULTS,
    ) -> None:
        """``quorum`` and ``faults`` are for tests that must see it fail, and for nothing else."""
        self._faults = faults
        self.genesis = genesis
        self.keypair = keypair
        self.parameters = genesis.parameters
        self.network_id = genesis.network_id
        self.archive = archive
        recovery = recovery or Recovery()
        self.chain, self.certified = replay(genesis, archive, recovery)
        """``certified``: the newest outcome whose roots a final header carries, and its height."""
        self.epochs = Epochs(genesis)
        self._makers = Makers(genesis, self.epochs)
        self.pool = BatchPool(self.parameters, self._makers.is_stranger)
        self._desk = Desk(self.parameters, archive)
        self._is_chain_family = genesis.engine != "simplex"
        self._spec = Chainspec.of(genesis, faults)
        self.validators = self.epochs.validators(self.final_version, self.epochs.after(self.final_height))
        """Those of the present epoch."""
        self._reports = Reports(genesis, keypair)
        self._waits: tuple[core.Version, int, bool] | None = None
        """For which state and epoch it was found whether a change of the validators waits."""
        self._due: tuple[core.Version, int | None] | None = None
        """When the first due work of which state has to be done."""
        self._ended: consensus.EpochEnded | None = None
        """The epoch is over, and the next engine cannot start yet."""
        self._proposals = Proposals(genesis, keypair.public_key, self.chain, self.pool, archive)
        self._followers = Followers(self.parameters, self._desk, self.pool, self.chain)
        self.head = Head(self.chain)
        """The chain that this node follows, and the last reorganisations."""
        self._shown_by: dict[bytes, bytes] = {}
        """Who has shown a block first: that node surely holds its batches. (Chain family.)"""
        self._work: consensus.Work | None = None
        self.may_produce = not self._is_chain_family
        """Whether this node makes blocks when its engine asks for one. (Chain family: not before it was told to.)"""
        self.traces = False
        """Whether it marks what happens to batches and blocks."""
        self.newest_finalisation = self._recover_finalisation(recovery)
        self.transactions_final = 0
        self.is_unsettled = False
        """Something has happened from which more may follow: ``settle`` is wanted."""
        self._now_ms = 0
        self._out: list[NodeEffect] = []
        self._jobs: dict[int, Callable[[Any], None]] = {}
        self._job_count = 0
        self._build: consensus.Build | None = None
        self._build_asked_ms = 0
        self._tip = self.chain.root
        self._tip_ms = 0
        """When it became so."""
        self._has_work = False
        self._engine_inputs: deque[consensus.Input] = deque()
        self._engine_timer_ms: int | None = None
        self._build_timer_ms: int | None = None
        self._sequence = 0
        self._moved_ms = 0
        self._stall_ms = _STALL_MS
        self._own_open: set[bytes] = set()
        self._checking: dict[bytes, int] = {}
        self._checking_bytes: dict[bytes, int] = {}
        self._dropped_lane = 0
        self._recover_blocks(recovery)
        self._recover_batches(recovery)
        self._engine: Simplex | ChainEngine
        if self._is_chain_family:
            ask = Standings(genesis, self.chain).ask
            final = self.final_block.header
            self._engine = make_chain_engine(genesis, keypair, recovery, archive, final=final, ask=ask)
        else:
            self._engine = make_simplex(
                genesis,
                keypair,
                recovery,
                final=self.final_block.header,
                validators=self.validators,
                quorum=quorum,
                faults=faults,
            )

    # --- what the peer reads ------------------------------------------------------------------------------------

    @property
    def final_height(self) -> int:
        return self.chain.root.block.height

    @property
    def final_block(self) -> Block:
        """The newest block that is final and executed."""
        return self.chain.root.block

    @property
    def final_outcome(self) -> Outcome:
        assert self.chain.root.outcome is not None
        return self.chain.root.outcome

    @property
    def final_version(self) -> core.Version:
        """The state after the newest final block: frozen, safe to read from any thread."""
        return self.final_outcome.version

    @property
    def view(self) -> int:
        return self._engine.view

    @property
    def has_unexecuted_finals(self) -> bool:
        """Whether final blocks wait for their batches or their execution."""
        return any(child.final for child in self.chain.children(self.chain.root))

    def newest_certificates(self) -> tuple[Certificate, ...]:
        """What brings a peer that connects to the engine's view."""
        return self._engine.newest_certificates() if isinstance(self._engine, Simplex) else ()

    @property
    def dropped_lane_batches(self) -> int:
        """Batches that were not kept because their maker's lane was full."""
        return self._dropped_lane

    @property
    def next_timer_ms(self) -> int | None:
        """When ``tick`` is due."""
        times = [self._engine_timer_ms, self._build_timer_ms]
        due_ms = self._next_due_ms(self._tip)
        if due_ms is not None and due_ms > self._now_ms:
            times.append(due_ms)  # later it is unfinished work, which has timers of its own
        times.append(self._check_due_ms)
        oldest_ms = self.mempool.oldest_ms
        if oldest_ms is not None and self._lane_has_room():
            times.append(oldest_ms + self.parameters.batch_delay_ms)
            if self._now_ms < self._batch_wanted_ms < oldest_ms + self.parameters.batch_delay_ms:
                times.append(self._batch_wanted_ms)
        if self.pool.open:
            times.append(self._moved_ms + self._stall_ms)
        return min((time for time in times if time is not None), default=None)

    def may_pass_on(self, batch: bytes) -> bool | None:
        """Whether others should get a batch from here: one of its makers has signed it. None if this node cannot tell.

        What anybody could have made would be carried to every node before the first one has checked it.
        """
        if likely_digest(batch) in self.pool.open:
            return True
        signed = maker_of(batch, self.network_id, self.parameters)
        if signed is None:
            return False
        return self._may_make(*signed) or None

    def block(self, block_id: bytes) -> bytes | None:
        """The bytes of a block that is known, for peers."""
        entry = self.chain.get(block_id)
        return entry.block.encode() if entry is not None else self.archive.block(block_id)

    def has_judged(self, block_id: bytes) -> bool:
        """Whether the engine holds this block or has said no to it: then it learns nothing from it. (Chain family.)"""
        return isinstance(self._engine, ChainEngine) and self._engine.knows(block_id)

    def knows(self, block_id: bytes) -> bool:
        """Whether this block is in the chain or was stored: it needs not come again."""
        return self.chain.get(block_id) is not None or self.archive.block(block_id) is not None

    def is_executed(self, block_id: bytes) -> bool:
        """Whether this block has been executed, now or long ago."""
        entry = self.chain.get(block_id)
        return entry.outcome is not None if entry is not None else self.archive.block(block_id) is not None

    def is_validator(self, key: bytes) -> bool:
        """Whether this key belongs to a validator, now or in the epochs around."""
        return self.epochs.has_seat(self.final_version, self.validators.epoch, key)

    def validators_of(self, epoch: int) -> Validators | None:
        """The validators of an epoch; None if they are not fixed yet."""
        if epoch > self.epochs.after(self.final_height) + 1:
            return None
        return self.epochs.validators(self.final_version, epoch)

    @property
    def head_weight(self) -> int:
        """The fork-choice weight of the chain that is followed; under simplex, where nothing is weighed, 0."""
        return self._engine.head.weight if isinstance(self._engine, ChainEngine) else 0

    def closing(self, height: int) -> tuple[list[bytes], bytes] | None:
        """What proves the last block of an epoch that is final by a block above it, which is no part of the chain.

        The blocks that close the epoch, oldest first, and the finalisation of the last; None if there is no such.
        """
        certificate, boundary = self.newest_finalisation, self.final_block
        if certificate is None or height != boundary.height or certificate.block == boundary.id:
            return None
        blocks: list[bytes] = []
        wanted = certificate.block
        while wanted != boundary.id:
            data = self.block(wanted)
            if data is None or len(blocks) == _MOST_CLOSING:
                return None
            blocks.append(data)
            wanted = Block.decode(data).header.parent
        return blocks[::-1], certificate.encode()

    def batch(self, digest: bytes) -> bytes | None:
        """The bytes of a batch that is held or final, for peers."""
        return self.pool.data(digest) or self.archive.batch(digest)

    @property
    def mempool(self) -> Mempool:
        """What clients handed in and is in no batch yet."""
        return self._desk.mempool

    # --- inputs ---------------------------------------------------------------------------------------------------
    #
    # Each says what it brought about at once; what follows from the new state comes from ``settle``.

    def start(self, now_ms: int) -> list[NodeEffect]:
        """Once, before all else."""
        self._now_ms = now_ms
        self.is_unsettled = True
        # Sequences only name batches of one maker; the clock makes them grow over restarts without a disk.
        self._sequence = now_ms
        self._engine_did(self._engine.start(now_ms))
        return self._told()

    def begin_to_produce(self, now_ms: int) -> list[NodeEffect]:
        """The node knows enough of the others to make blocks of its own. (Chain family.)"""
        self._now_ms = now_ms
        self.is_unsettled = True
        self.may_produce = True
        return self._told()

    def tick(self, now_ms: int) -> list[NodeEffect]:
        """The time of ``next_timer_ms`` has come, or some other."""
        self._now_ms = now_ms
        self.is_unsettled = True
        if self._engine_timer_ms is not None and now_ms >= self._engine_timer_ms:
            self._engine_timer_ms = None
            self._tell_engine(consensus.TimerFired())
        if self._build_timer_ms is not None and now_ms >= self._build_timer_ms:
            self._build_timer_ms = None
        if self.pool.open and now_ms >= self._moved_ms + self._stall_ms:
            self._stream_again()
        return self._told()

    def engine_input(self, event: consensus.Input, now_ms: int) -> list[NodeEffect]:
        """Something for the engine from a peer: a proposal, vote, certificate, block, or a wish for certificates."""
        self._now_ms = now_ms
        match event:
            case consensus.BlockArrived(block, _) if not self._is_chain_family:
                self.is_unsettled = True
                self.chain.add(block)  # It was asked for. A proposal comes in when the engine has judged it.
            case consensus.BlockArrived(block, sender):
                self._remember_sender(block.id, sender)
            case consensus.BranchArrived(blocks, sender):
                for block in blocks:
                    self._remember_sender(block.id, sender)
            case _:
                pass
        self._tell_engine(event)
        return self._told()

    def chain_arrived(
        self, blocks: list[Block], certificate: Certificate, sender: bytes, now_ms: int
    ) -> list[NodeEffect]:
        """Final blocks from a peer: linked to our root, up to one that the finalisation proves. The peer checked that.

        They are final at once; the engine, which may know of a much later finalisation already, follows.
        """
        self._now_ms = now_ms
        self.is_unsettled = True
        records: list[Record] = []
        for block in blocks:
            entry = self.chain.add(block)
            if entry is not None:
                if not entry.final:
                    self._mark(Stage.FINAL, block.id, is_block=True)
                entry.accepted = entry.final = True
                header = block.header
                records.append(BlockRecord(block.id, header.height, header.view, header.parent, block.encode()))
        if records:
            # The engine stores what comes to it; these may be final before it has seen them.
            self._out.append(Persist(tuple(records)))
        self._tell_engine(consensus.CertificateArrived(sender, certificate))
        return self._told()

    def submit(self, client: int, request: int, transactions: tuple[bytes, ...], now_ms: int) -> list[NodeEffect]:
        """Signed transactions from a client's session. The answer, ``Admitted``, comes after they were checked."""
        self._now_ms = now_ms
        if self._makes_batches:
            # The first that waits sets the timer, and the one that makes them many has them checked.
            was_due_ms = self._check_due_ms
            self._out.extend(self._desk.hand_in(client, request, transactions, now_ms))
            self.is_unsettled |= self._check_due_ms != was_due_ms
        else:
            # Nobody would take its batches: what it promised would never be.
            self._out.append(Admitted(client, request, (int(Reason.NOT_READY),) * len(transactions), 0))
        return self._told()

    def receive_batch(self, data: bytes, sender: bytes, *, wanted: bool, now_ms: int) -> list[NodeEffect]:
        """A batch from a peer. ``wanted``: it was asked for, because a block names it, so the lane does not matter."""
        self._now_ms = now_ms
        digest = likely_digest(data)
        if digest is None:
            self._offend(sender, "malformed_batch", "a batch has not the form of one")
        elif digest not in self.pool.open and digest not in self.pool.recent and digest not in self._checking:
            if self.archive.batch(digest) is None:
                self._check_batch(digest, data, sender, wanted=wanted)
        return self._told()

    def computed(self, job: int, result: Any, now_ms: int) -> list[NodeEffect]:
        """The result of a ``Compute``."""
        self._now_ms = now_ms
        self.is_unsettled = True
        self._jobs.pop(job)(result)
        return self._told()

    def work_out(self, run: Callable[[], Any], done: Callable[[Any], None], *, cost_us: int) -> list[NodeEffect]:
        """Let something heavy and pure be computed for the peer; ``done`` gets its value."""
        self._compute(run, done, cost_us=cost_us)
        return self._told()

    def settle(self, now_ms: int) -> list[NodeEffect]:
        """Let everything move that can, after one input or after several that came together."""
        self._now_ms = now_ms
        self._check_submissions()
        moving = self.is_unsettled
        while moving:
            moving = self._close_batches()
            self._try_execute()
            moving |= self._try_finalise()
            moving |= self._try_next_epoch()
            moving |= self._try_checks()
            moving |= self._try_build()
            moving |= self._update_work()
        self.is_unsettled = False
        return self._told()

    def follow(self, client: int, *, wanted: bool) -> None:
        """Whether this client is to be told of its transactions before these are final."""
        self._followers.follow(client, wanted=wanted)

    def close_client(self, client: int) -> None:
        """A client's session has ended; nobody is left to be told."""
        self._desk.close(client)
        self._followers.close(client)

    # --- 1, 2: from clients into batches --------------------------------------------------------------------------

    def _check_submissions(self) -> None:
        """One job at a time over everything that waits: under load the jobs grow and their overhead does not.

        While blocks come they are not checked before a batch may leave: they could not leave earlier anyway, and to
        check eight signatures costs little more than to check two. But the client does not wait long for its answer.
        """
        due_ms = self._check_due_ms
        if due_ms is None or self._now_ms < due_ms:
            return
        handed_in = self._desk.take()
        if handed_in is None:
            return
        network_id, parameters, transactions = self.network_id, self.parameters, handed_in.transactions

        def run() -> list[Candidate | Reason]:
            return check_transactions(transactions, network_id, parameters)

        def done(results: list[Candidate | Reason]) -> None:
            self._out.extend(self._desk.admit(handed_in, results, self.chain.root, self._now_ms))
            self._close_batches()  # Before the next check begins, for which a batch would wait.

        self._compute(run, done, cost_us=2 * _SIGNATURE_US * len(transactions))

    @property
    def _check_due_ms(self) -> int | None:
        """When to check what clients handed in; None while nothing waits for that."""
        since_ms = self._desk.waiting_since_ms
        if since_ms is None or self._is_chain_family or self._desk.waiting_count >= _CHECKED_AT_ONCE:
            return since_ms
        if self._own_batch_waits():
            return since_ms + _ANSWER_MS
        return min(max(since_ms, self._batch_wanted_ms), since_ms + _ANSWER_MS)

    @property
    def _may_make(self) -> Callable[[bytes, int], bool]:
        return self._makers.judge(self.final_version, self.validators)

    @property
    def _makes_batches(self) -> bool:
        """Whether others take the batches of this node."""
        return self._may_make(self.keypair.public_key, self.validators.epoch)

    def _lane_has_room(self) -> bool:
        return self.pool.has_room(self.keypair.public_key, self.parameters.max_batch_bytes)

    def _close_batches(self) -> bool:
        """Cut the mempool into batches. True if one was made.

        While no own batch waits to be ordered: as soon as the next block could take it, so a lone trade loses no time,
        and what comes while the last block is being agreed upon travels together, and as late as it may. Otherwise when
        that one is ordered, when a whole batch is waiting, or after ``batch_delay_ms``: under load batches grow and
        their number does not. What is being checked comes along.
        """
        oldest_ms = self.mempool.oldest_ms
        closed = False
        while oldest_ms is not None and self._lane_has_room():
            due = self.mempool.fills_batch or self._now_ms >= oldest_ms + self.parameters.batch_delay_ms
            if not due and (self._desk.is_checking or self._now_ms < self._batch_wanted_ms or self._own_batch_waits()):
                break
            transactions, segments = self.mempool.take_batch(self._now_ms)
            self._sequence += 1
            maker = self.keypair.public_key
            batch = core.encode_batch(self.network_id, maker, self.validators.epoch, self._sequence, transactions)
            data = sign_batch(batch, self.keypair)
            columns = core.scan_batch(data, self.network_id, limits_of(self.parameters))
            held = HeldBatch(data, columns, self._now_ms, self.final_height, segments)
            self._mark(Stage.MADE, held.digest, len(data))
            self._out.append(StreamBatch(held.digest, data))
            self._hold(held)
            self._own_open.add(held.digest)
            oldest_ms = self.mempool.oldest_ms
            closed = True
        return closed

    @property
    def _batch_wanted_ms(self) -> int:
        """When to send a batch off for the next block: no leader builds that before the interval has passed."""
        if self._is_chain_family:
            return 0
        interval_ms = self.parameters.block_interval_ms
        begun_ms = min(self._tip.block.header.time_ms, self._tip_ms)
        return begun_ms + interval_ms - min(_UNDER_WAY_MS, interval_ms // 2)

    def _own_batch_waits(self) -> bool:
        return not self._own_open <= self.chain.ordered(self._tip)

    # --- 3: batches from peers ------------------------------------------------------------------------------------

    def _check_batch(self, digest: bytes, data: bytes, sender: bytes, *, wanted: bool) -> None:
        """The lane is charged to whoever sent it until the check has said who made it.

        What a certified block names is kept whatever the lane. What only a proposal names may exceed it by as much as
        one block may hold: a leader could name batches that it made for nothing else. In the chain family, where
        nothing is certified, what a block names whose producer may build is kept while there is memory.
        """
        in_check = self._checking_bytes.get(sender, 0)
        if not wanted and not self.pool.has_room(sender, in_check + len(data)):
            self._drop_batch(sender)
            return
        self._checking[digest] = len(data)
        self._checking_bytes[sender] = in_check + len(data)
        network_id, parameters, may_make = self.network_id, self.parameters, self._may_make

        def run() -> core.Columns | BadBatch:
            return check_batch(data, network_id, parameters, may_make)

        def done(result: core.Columns | BadBatch) -> None:
            del self._checking[digest]
            self._checking_bytes[sender] -= len(data)
            if isinstance(result, BadBatch):
                self._offend(sender, result.code, result.sentence)
            elif not self._may_hold(result, len(data), wanted=wanted):
                self._drop_batch(result.maker)
            elif result.digest not in self.pool.open and result.digest not in self.pool.recent:
                self._mark(Stage.CHECKED, digest, len(data))
                self._hold(HeldBatch(data, result, self._now_ms, self.final_height))

        # A transaction of two signatures takes some 500 bytes.
        self._compute(run, done, cost_us=len(data) // 250 * _SIGNATURE_US)

    def _may_hold(self, columns: core.Columns, size_bytes: int, *, wanted: bool) -> bool:
        if self.chain.needs(columns.digest):
            return True
        if wanted and self._is_chain_family and self.chain.names(columns.digest):
            # In the chain family several blocks get final together, or none; and for each its producer had a turn.
            return self.pool.open_bytes + size_bytes <= _MOST_OPEN_BYTES
        if not wanted and not self._makers.is_present(columns.epoch, self.validators.epoch):
            return False
        beyond_bytes = self.parameters.block_bytes if wanted else 0
        return self.pool.has_room(columns.maker, size_bytes, beyond_bytes=beyond_bytes)

    def _stream_again(self) -> None:
        """Stream the oldest batches, whoever made them: their maker may be gone, and the leader may not hold them."""
        self._moved_ms = self._now_ms
        self._stall_ms = min(2 * self._stall_ms, _STALL_CAP_MS)
        # In the chain family what is ordered is on its way, and takes its time.
        ordered = self.chain.ordered(self._tip) if self._is_chain_family else set()
        waiting = (held for held in self.pool.open.values() if held.digest not in ordered)
        for held in islice(waiting, _STREAMED_AGAIN):
            self._out.append(StreamBatch(held.digest, held.data))

    def _drop_batch(self, maker: bytes) -> None:
        self._dropped_lane += 1
        if self._dropped_lane & (self._dropped_lane - 1) == 0:
            fields = (("maker", maker.hex()[:16]), ("dropped", self._dropped_lane))
            self._out.append(Log("warning", "lane_full", fields))

    def _hold(self, held: HeldBatch) -> None:
        if not self.pool.open:
            self._moved_ms = self._now_ms
        self.pool.add(held)
        record = BatchRecord(held.digest, held.columns.maker, held.columns.sequence, held.data)
        self._out.append(Persist((record,)))

    # --- 4: verdicts and proposals for the engine -----------------------------------------------------------------

    def _try_checks(self) -> bool:
        """Answer the engine about proposed blocks, as far as it is possible by now. True if something was answered."""
        answered = False
        for verdict in self._proposals.verdicts(self._now_ms, self.view):
            block, reason = verdict.block, verdict.reason
            if reason is None:
                self._want_batches(verdict.missing, verdict.holders)
                continue
            if reason:
                fields = (("height", block.height), ("view", block.header.view), ("reason", reason))
                self._out.append(Log("warning", "block_refused", fields))
            elif self.traces:
                self._out.extend(marks_of(Stage.CHECKED, block))
            self._tell_engine(consensus.Checked(block.header.view, block.id, not reason))
            answered = True
        return answered

    def _want_batches(self, digests: Iterable[bytes], hints: tuple[bytes, ...]) -> None:
        wanted = tuple(digest for digest in digests if digest not in self._checking)
        if wanted:
            self._out.append(WantBatches(wanted, hints))

    def _try_build(self) -> bool:
        """Build the block that the engine asked for, once the parent is executed and the interval has passed."""
        build = self._build
        if build is None or not self.may_produce:
            return False
        parent = self.chain.get(build.parent.id)
        if parent is None or parent.outcome is None:
            return False
        if not self._is_chain_family:
            # Never longer than the interval: the parent's proposer may have a clock that is ahead.
            due_ms = min(parent.block.header.time_ms, self._build_asked_ms) + self.parameters.block_interval_ms
            if self._now_ms < due_ms:
                self._build_timer_ms = due_ms
                return False
        self._build = None
        self._build_timer_ms = None
        is_needed = build.needed or self._change_waits(parent) or self._is_due(parent)
        block = self._proposals.build(build, parent, self.validators, self._now_ms, is_needed=is_needed)
        if block is not None and not self._is_chain_family:
            self.chain.add(block)
            if self.traces:
                self._out.extend(marks_of(Stage.MADE, block))
        self._tell_engine(consensus.Built(build.view, block))
        return True

    def _holds_unordered(self, parent: Entry) -> bool:
        """Whether a held batch is not in the ancestry of this block."""
        return not self.pool.open.keys() <= self.chain.ordered(parent)

    # --- 5: execution ---------------------------------------------------------------------------------------------

    def _try_execute(self) -> None:
        for entry in self.chain.ready():
            self._execute(entry)

    def _execute(self, entry: Entry) -> None:
        block, header = entry.block, entry.block.header
        parent = self.chain.parent(entry)
        assert parent is not None
        assert parent.outcome is not None
        if (header.parent_state_root, header.parent_receipts_root) != parent.outcome.roots:
            # In the chain family nobody certifies a block, and one with foreign roots was refused before.
            assert not self._is_chain_family, "a block was accepted whose roots are not its parent's"
            here, there = parent.outcome.state_root.hex(), header.parent_state_root.hex()
            sentence = (
                f"the state after height {parent.block.height} has root {here} here and {there} in a certified block"
            )
            self._out.append(Halt("foreign_state_root", sentence))
            entry.executing = True
            return
        missing = [digest for digest in block.digests if digest not in self.pool.open]
        if missing:
            # The voters of a certified block hold its batches; the proposer surely did.
            self._want_batches(missing, (header.proposer,))
            return
        entry.executing = True
        columns = [self.pool.open[digest].columns for digest in block.digests]
        version, spec = parent.outcome.version, self._spec
        if self._faults.forget_undo and self._is_chain_family:
            version = self._without_undoing(parent) or version

        def run() -> Outcome | PeerFault:
            try:
                return execute_block(version, columns, header=header, spec=spec)
            except PeerFault as fault:
                return fault

        def done(outcome: Outcome | PeerFault) -> None:
            if isinstance(outcome, PeerFault):
                self._cannot_execute(block, outcome)
                return
            self.chain.executed(entry, outcome)
            for item in outcome.due.dropped:
                named = (
                    ("height", block.height),
                    ("kind", item.kind.name.lower()),
                    ("reference", item.reference.hex()),
                )
                self._out.append(Log("error", "due_work_refused", named))
            self._mark(Stage.EXECUTED, block.id, is_block=True)
            if self._is_chain_family:
                self._tell_engine(consensus.Executed(block.id))
            elif header.view > self.head.entry.block.header.view and not self._is_closing(block.height):
                self._move_head(entry, "the newest notarised block that is executed")

        count = sum(item.count for item in columns)
        self._compute(run, done, cost_us=100 + count * _EXECUTE_US)

    def _without_undoing(self, parent: Entry) -> core.Version | None:
        """A planted fault: the state of a head whose batches this branch does not have, instead of the parent's."""
        head = self.head.entry
        kept = list(self.chain.ancestry(parent))
        left = [entry for entry in self.chain.ancestry(head) if entry not in kept]
        if head.outcome is None or not any(entry.digests for entry in left):
            return None
        return head.outcome.version

    def _cannot_execute(self, block: Block, fault: PeerFault) -> None:
        """The engine's own rows do not allow this block. It stays as it is, and so nobody can build on it.

        A certified block that cannot be executed would divide the honest nodes: then this one stops.
        """
        sentence = f"block {block.id.hex()[:16]} at height {block.height} cannot be executed: {fault}"
        if self._is_chain_family:
            self._out.append(Log("error", "block_not_executable", (("code", fault.code), ("sentence", sentence))))
        else:
            self._out.append(Halt("block_not_executable", sentence))

    # --- the chain that is followed -------------------------------------------------------------------------------

    def _move_head(self, entry: Entry, reason: str) -> None:
        """Follow the chain of an executed block, and tell those who follow their transactions."""
        left, joined = self.head.move(entry, reason)
        if left:
            fork = self.head.forks[-1]
            fields = (("height", fork.height), ("depth", fork.depth), ("reverted", len(fork.reverted)))
            self._out.append(Log("warning", "reorganisation", (*fields, ("reason", reason))))
        self._out.extend(self._followers.moved(left, joined, entry))

    def _remember_sender(self, block_id: bytes, sender: bytes) -> None:
        if len(self._shown_by) >= _SENDERS:
            del self._shown_by[next(iter(self._shown_by))]
        self._shown_by.setdefault(block_id, sender)

    # --- 6: finality ----------------------------------------------------------------------------------------------

    def _try_finalise(self) -> bool:
        entry = self.chain.next_final()
        if entry is None:
            return False
        self._finalise(entry)
        return True

    def _finalise(self, entry: Entry) -> None:
        block, outcome = entry.block, entry.outcome
        assert outcome is not None
        self.certified = (self.final_outcome, self.final_height)
        if not any(ancestor is entry for ancestor in self.chain.ancestry(self.head.entry)):
            self._move_head(entry, "the block is final")
        self.chain.advance(entry)
        self._followers.final(entry)
        self._shown_by.pop(block.id, None)
        if self.chain.get(self._tip.block.id) is not self._tip:
            self._tip = entry
        ref = consensus.BlockRef.of(block.header)
        if ref.height > self._engine.final.height:
            self._tell_engine(consensus.FinalReached(ref))
        records = (FinalRecord(block.height, block.id), ReceiptsRecord(block.height, block.id, outcome.codes))
        self._out.append(Persist(records))
        self.transactions_final += len(outcome)
        self._moved_ms = self._now_ms
        self._stall_ms = _STALL_MS
        at = 0
        self._own_open -= entry.digests
        for held in self.pool.finalise(block.height, block.digests):
            count = held.columns.count
            if held.segments:
                codes = outcome.codes[4 * at : 4 * (at + count)]
                self._out.extend(self._desk.settle(held, codes, entry, outcome.rules_of(at, count)))
            at += count
        if block.height % _FORGET_EVERY == 0:
            self._forget()

    def _forget(self) -> None:
        """Drop batches that nobody ordered for long, in memory and on disk, and old blocks and certificates there."""
        # A block above the final one may order a batch at last: then it is needed.
        stale = tuple(
            digest
            for digest in self.pool.stale(self.final_height, self._now_ms)
            if not self.chain.names(digest) and not self._is_promised(digest)
        )
        self._own_open.difference_update(stale)
        for digest in stale:
            held = self.pool.drop(digest)
            if held.segments:
                self._out.extend(self._desk.expire(held, self.chain.root))
        if stale:
            self._out.append(Log("warning", "batches_dropped", (("count", len(stale)),)))
        self._out.append(Persist((ForgetRecord(stale, self.final_block.header.view),)))

    def _is_promised(self, digest: bytes) -> bool:
        """Whether clients wait for a batch of this node that holds a transaction which is still valid."""
        held = self.pool.open[digest]
        valid_until = (held.columns.valid_until(index) for index in range(held.columns.count))
        return bool(held.segments) and any(height > self.final_height for height in valid_until)

    # --- epochs (simplex) -----------------------------------------------------------------------------------------

    def _try_next_epoch(self) -> bool:
        """Start the engine of the next epoch, once the last block of this one is final and executed here."""
        ended, engine = self._ended, self._engine
        if ended is None or self.final_height < ended.block.height:
            return False
        assert isinstance(engine, Simplex)
        self._ended = None
        epoch = self.epochs.after(ended.block.height)
        self.validators = self.epochs.validators(self.final_version, epoch)
        self._engine = engine.succeed(self.validators, self.epochs.last_height(epoch))
        self._engine_timer_ms = None
        self._build = None
        seat = self.validators.signer_of(self.keypair.public_key) is not None
        fields = (("epoch", epoch), ("height", ended.block.height), ("validators", len(self.validators)))
        self._out.append(Log("info", "epoch", (*fields, ("votes", str(seat).lower()))))
        self._engine_did(self._engine.start(self._now_ms))
        return True

    def _is_closing(self, height: int) -> bool:
        """Whether blocks of this height only serve to get the last block of the epoch final: they will vanish."""
        last_height = self.epochs.last_height(self.validators.epoch)
        return last_height is not None and height > last_height

    def _report(self, evidence: consensus.Evidence) -> None:
        """Let the ledger know who has contradicted itself."""
        if self._makes_batches:
            report = self._reports.report(evidence.first, evidence.second, self.final_height)
            if report is not None:
                self.mempool.add(_NOBODY, report, self._now_ms)
        self._out.append(evidence)

    # --- the engine -----------------------------------------------------------------------------------------------

    def _tell_engine(self, event: consensus.Input) -> None:
        """One input after the other: what the engine's effects make of it waits until they are all obeyed."""
        self._engine_inputs.append(event)
        if len(self._engine_inputs) > 1:
            return
        while self._engine_inputs:
            self._engine_did(self._engine.step(self._engine_inputs[0], self._now_ms))
            self._engine_inputs.popleft()

    def _engine_did(self, effects: Sequence[consensus.Effect]) -> None:
        if effects:
            self.is_unsettled = True
        for effect in effects:
            match effect:
                case consensus.Persist(records):
                    self._know_blocks(records)
                    self._out.append(Persist(records))
                case consensus.SetTimer(at_ms):
                    self._engine_timer_ms = at_ms
                case consensus.Check(block):
                    self.chain.add(block)
                    self._proposals.ask(block, self._shown_by.get(block.id, b""))
                case consensus.Build():
                    self._build, self._build_asked_ms = effect, self._now_ms
                case consensus.Notarised(ref, _):
                    self._accept(ref, final=False)
                case consensus.Accepted(ref):
                    self._accept(ref, final=False)
                case consensus.LetGo(names):
                    for name in names:
                        self.chain.let_go(name)
                case consensus.HeadMoved(ref, _, reason):
                    self._follow(ref, reason)
                case consensus.Finalised(ref, certificate):
                    self.newest_finalisation = certificate
                    self._accept(ref, final=True)
                case consensus.Work():
                    self._search(effect)
                case consensus.Evidence():
                    self._report(effect)
                case consensus.EpochEnded():
                    self._ended = effect
                case consensus.WantBlock(block_id, _):
                    data = self.block(block_id)
                    if data is None:
                        self._out.append(effect)
                    else:
                        self._tell_engine(consensus.BlockArrived(Block.decode(data)))
                case consensus.WantBranch(block_id, sender):
                    branch = self._stored_branch(block_id)
                    if branch:
                        self._tell_engine(consensus.BranchArrived(branch, sender))
                    else:
                        self._out.append(effect)
                case consensus.Contradiction(first, second):
                    self._out.append(Halt("finality_violated", f"{_said(first)} and {_said(second)} cannot both be"))
                case _:
                    self._out.append(effect)

    def _stored_branch(self, block_id: bytes) -> tuple[Block, ...]:
        """A block that the engine has let go, and its ancestors down to what it still has, oldest first.

        It lost to a final one, or there were too many. The disk may have it still; others are not asked for what is
        here. (Chain family.)
        """
        branch: list[Block] = []
        while len(branch) < _STORED_BRANCH and not self.has_judged(block_id):
            data = self.block(block_id)
            if data is None:
                break
            block = Block.decode(data)
            if self.archive.final_block(block.height) == data:
                break
            branch.append(block)
            block_id = block.header.parent
        return tuple(reversed(branch))

    def _know_blocks(self, records: Sequence[Record]) -> None:
        """What the engine stores it has voted for or is about to hand over."""
        for record in records:
            if isinstance(record, BlockRecord) and self.chain.get(record.id) is None:
                self.chain.add(Block.decode(record.data))

    def _accept(self, ref: consensus.BlockRef, *, final: bool) -> None:
        entry = self.chain.get(ref.id)
        if entry is None:
            return  # at or below the root
        entry.accepted = True
        if final:
            for ancestor in self.chain.ancestry(entry):
                if not ancestor.final:
                    self._mark(Stage.FINAL, ancestor.block.id, is_block=True)
                ancestor.accepted = ancestor.final = True
        if not self._is_chain_family and ref.view > self._tip.block.header.view and not self._is_closing(ref.height):
            self._tip, self._tip_ms = entry, self._now_ms

    def _follow(self, ref: consensus.BlockRef, reason: str) -> None:
        """The engine's choice of the chain to follow: it has been executed. (Chain family.)"""
        entry = self.chain.get(ref.id)
        assert entry is not None, "the head is not above the final block"
        self._tip = entry
        self._move_head(entry, reason)

    def _search(self, work: consensus.Work) -> None:
        """A slice of search for a nonce; what one finds that was replaced meanwhile, nobody wants. (Proof of work.)"""
        self._work = work
        prefix, start, count, target = work.prefix, work.start, work.count, work.target

        def run() -> int | None:
            return core.pow_search(prefix, start, count, target)

        def done(nonce: int | None) -> None:
            if self._work is work:
                self._work = None
                self._tell_engine(consensus.WorkDone(work.view, nonce))

        def hashes(nonce: int | None) -> int:
            return count if nonce is None else nonce - start + 1

        self._compute(run, done, cost_us=count // _HASHES_PER_US, hashes=hashes)

    def _change_waits(self, tip: Entry) -> bool:
        """Whether other validators are to serve from a later epoch on: it has to be reached."""
        version, epoch = (tip.outcome or self.final_outcome).version, self.validators.epoch
        if self._waits is None or self._waits[:2] != (version, epoch):
            self._waits = version, epoch, self.epochs.change_waits(version, epoch)
        return self._waits[2]

    def _next_due_ms(self, tip: Entry) -> int | None:
        """When the ledger has to do something by itself; None if never."""
        version = (tip.outcome or self.final_outcome).version
        if self._due is None or self._due[0] is not version:
            self._due = version, next_due_ms(version)
        return self._due[1]

    def _is_due(self, tip: Entry) -> bool:
        """Whether a block on this one has due work to do: then it must come, even if it orders nothing."""
        due_ms = self._next_due_ms(tip)
        return due_ms is not None and due_ms <= self._now_ms

    def _did_due(self, tip: Entry) -> bool:
        """Whether due work was done whose roots are not in a final block yet (simplex: not in the newest one)."""
        return tip.due_height >= (self.final_height if self._is_chain_family else tip.block.height)

    def _update_work(self) -> bool:
        """Tell the engine when there begins, or ceases, to be work that it cannot see. True if it was told."""
        tip = self._tip
        ordering = bool(tip.digests) or self._holds_unordered(tip)
        has_work = ordering or self._change_waits(tip) or self._did_due(tip) or self._is_due(tip)
        if has_work == self._has_work:
            return False
        self._has_work = has_work
        self._tell_engine(consensus.WorkChanged(has_work))
        return True

    # --- plumbing -------------------------------------------------------------------------------------------------

    def _told(self) -> list[NodeEffect]:
        effects, self._out = self._out, []
        return effects

    def _compute(
        self,
        run: Callable[[], Any],
        done: Callable[[Any], None],
        *,
        cost_us: int,
        hashes: Callable[[Any], int] | None = None,
    ) -> None:
        self._job_count += 1
        self._jobs[self._job_count] = done
        self._out.append(Compute(self._job_count, run, cost_us, hashes))

    def _mark(self, stage: Stage, item: bytes, size_bytes: int = 0, *, is_block: bool = False) -> None:
        if self.traces:
            self._out.append(Mark(stage, item, size_bytes, is_block))

    def _offend(self, sender: bytes, code: str, sentence: str) -> None:
        fields = (("peer", sender.hex()[:16]), ("sentence", sentence))
        self._out.append(Log("warning", code, fields))
        self._out.append(consensus.Offence(sender, code))

    # --- start ----------------------------------------------------------------------------------------------------

    def _recover_finalisation(self, recovery: Recovery) -> Certificate | None:
        """That of the final block; or of the block that closed its epoch, which is the newest one then."""
        finalisations = [
            certificate
            for certificate in map(Certificate.decode, recovery.certificates)
            if certificate.kind is VoteKind.FINALISE and certificate.epoch == self.final_block.header.epoch
        ]
        own = [certificate for certificate in finalisations if certificate.block == self.final_block.id]
        newest = max(finalisations, key=lambda certificate: certificate.view, default=None)
        return own[0] if own else newest

    def _recover_blocks(self, recovery: Recovery) -> None:
        for data in recovery.blocks:
            self.chain.add(Block.decode(data))

    def _recover_batches(self, recovery: Recovery) -> None:
        """Batches that were held when the node stopped: they were checked before they were written."""
        for data in recovery.batches:
            columns = core.scan_batch(data, self.network_id, limits_of(self.parameters))
            if columns.digest not in self.pool.open:
                self.pool.add(HeldBatch(data, columns, 0, self.final_height))


def _said(thing: Certificate | consensus.BlockRef | None) -> str:
    if thing is None:
        return "the final block"
    if isinstance(thing, consensus.BlockRef):
        return f"the chain with block {thing.id.hex()[:16]} at height {thing.height}"
    what = f"block {thing.block.hex()[:16]}" if thing.block != ZERO_HASH else "no block"
    return f"view {thing.view} {thing.kind.name.lower()}d {what}"
