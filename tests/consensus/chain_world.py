"""A small deterministic world for the chain family: an event heap, links, disks, and nodes with a toy ledger each.

The sister of ``world.py``. A *seat* is one chain engine with a fake node around it. The fake node keeps, after each
block that it executes, what the rule asks about (``Toy``): a target, stake rows, a shuffled order, a set of
authorities. Work is found after a time that is drawn, with a nonce that is really good.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import count
from typing import Any

from p2pledger import core
from p2pledger.consensus.chain import ChainEngine, Recovered
from p2pledger.consensus.dpos import DposProof, DposRule
from p2pledger.consensus.engine import (
    Accepted,
    Announce,
    BlockArrived,
    BlockRef,
    BranchArrived,
    Build,
    Built,
    Check,
    Checked,
    Contradiction,
    Effect,
    Evidence,
    Executed,
    Finalised,
    HeadMoved,
    Input,
    Offence,
    Persist,
    SetTimer,
    TimerFired,
    WantBranch,
    Work,
    WorkChanged,
    WorkDone,
)
from p2pledger.consensus.poa import PoaRule
from p2pledger.consensus.pos import PosRule, kernel, next_modifier
from p2pledger.consensus.pow import PowRule
from p2pledger.consensus.rule import Clock, Rule
from p2pledger.consensus.standing import DposStanding, PoaStanding, PosStanding, PowStanding, Stake, Standing
from p2pledger.primitives.blocks import Block, Header, genesis_block
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.records import BlockRecord, Record
from p2pledger.primitives.validators import Validator, Validators

NETWORK = b"chainnet"
GENESIS_MS = 1_000
SLOT_MS = 1_000
DRIFT_MS = 2_000
DEPTH = 6
MODIFIER_DEPTH = 3
AGE_CAP = 50
BAD_DIGEST = b"\xba" * 32
"""A batch that no node finds right."""
CLOCK = Clock(GENESIS_MS, SLOT_MS)

Message = Block | WantBranch | tuple[Block, ...]


def keypairs_of(n: int) -> list[Keypair]:
    keypairs = [Keypair.from_seed(bytes([index]) * 32) for index in range(1, n + 1)]
    return sorted(keypairs, key=lambda keypair: keypair.public_key)


def genesis_of(keypairs: Sequence[Keypair]) -> Block:
    validators = Validators.of(0, [Validator(keypair.public_key) for keypair in keypairs])
    return genesis_block(
        network_id=NETWORK, genesis_hash=bytes(32), time_ms=GENESIS_MS, validators_hash=validators.hash
    )


def make_block(parent: BlockRef, keypair: Keypair, proof: bytes, *, slot: int | None = None, **changes: Any) -> Block:
    """A sealed block on ``parent``: in a slot, or at the next height where there are none."""
    digests = changes.pop("digests", ())
    fields: dict[str, Any] = {
        "network_id": NETWORK,
        "epoch": 0,
        "view": parent.height + 1 if slot is None else slot,
        "height": parent.height + 1,
        "parent": parent.id,
        "time_ms": parent.time_ms + SLOT_MS if slot is None else CLOCK.start_ms(slot),
        "proposer": keypair.public_key,
        "batches_root": core.merkle_root(digests),
        "parent_state_root": ZERO_HASH,
        "parent_receipts_root": ZERO_HASH,
        "validators_hash": ZERO_HASH,
        "proof": proof,
    }
    return Block(Header(**{**fields, **changes}), digests).sealed(keypair)


# --- toy ledgers ----------------------------------------------------------------------------------------------------


class Toy:
    """What a ledger knows for a rule after one block; ``after`` gives the next one."""

    rule: Rule

    def standing(self) -> Standing:
        raise NotImplementedError

    def after(self, block: Block) -> Toy:
        raise NotImplementedError


class PowToy(Toy):
    """A constant target, met by one hash of ``hashes``."""

    def __init__(self, hashes: int = 8) -> None:
        self.rule = PowRule()
        self.target = 2**256 // hashes - 1

    def standing(self) -> PowStanding:
        return PowStanding(self.target)

    def after(self, block: Block) -> PowToy:
        return self


class PosToy(Toy):
    """One stake row for each key; somebody wins about every ``every`` slots while rows rest."""

    def __init__(self, keypairs: Sequence[Keypair], amounts: Sequence[int], every: int = 2) -> None:
        self.rule = PosRule(CLOCK, MODIFIER_DEPTH)
        self.rows = {
            sha256(keypair.public_key).digest(): Stake(amount, 0, keypair.public_key)
            for keypair, amount in zip(keypairs, amounts, strict=True)
        }
        self.modifiers = (ZERO_HASH,) * (MODIFIER_DEPTH + 1)
        self.base_target = 2**256 // (every * sum(amounts))

    def standing(self) -> PosStanding:
        rows = self.rows
        return PosStanding(
            self.base_target,
            self.modifiers[1],
            AGE_CAP,
            rows.get,
            lambda key: tuple(sorted((name, row) for name, row in rows.items() if row.key == key)),
        )

    def after(self, block: Block) -> PosToy:
        header = block.header
        after = PosToy.__new__(PosToy)
        after.rule, after.base_target = self.rule, self.base_target
        row = self.rows[header.proof]
        after.rows = {**self.rows, header.proof: Stake(row.amount, header.height, row.key)}
        lot = kernel(self.modifiers[1], header.proof, header.view)
        after.modifiers = (*self.modifiers[1:], next_modifier(self.modifiers[-1], lot))
        return after


class DposToy(Toy):
    """Constant delegates, in an order that is shuffled each round from the secrets opened in the round before.

    In this toy a round's seed is that of the newest round that a block has reached; rounds skipped keep it.
    """

    def __init__(self, keypairs: Sequence[Keypair]) -> None:
        self.rule = DposRule(CLOCK, NETWORK)
        self.delegates = tuple(sorted(keypair.public_key for keypair in keypairs))
        self.round = 0
        self.seed = bytes(32)
        self.opened: tuple[tuple[bytes, bytes], ...] = ()
        self.commitments: dict[tuple[bytes, int], bytes] = {}
        self.orders: dict[int, list[bytes]] = {}

    def seed_of(self, round_number: int) -> bytes:
        if round_number <= self.round:
            return self.seed
        return sha256(self.seed + b"".join(secret for _, secret in sorted(self.opened))).digest()

    def order(self, round_number: int) -> list[bytes]:
        if round_number not in self.orders:
            seed = self.seed_of(round_number) + round_number.to_bytes(8, "big")
            self.orders[round_number] = sorted(self.delegates, key=lambda key: sha256(seed + key).digest())
        return self.orders[round_number]

    def producer(self, slot: int) -> bytes:
        return self.order(slot // len(self.delegates))[slot % len(self.delegates)]

    def standing(self) -> DposStanding:
        n = len(self.delegates)
        return DposStanding(self.delegates, self.producer, lambda key, slot: self.commitments.get((key, slot // n - 2)))

    def after(self, block: Block) -> DposToy:
        header = block.header
        after = DposToy.__new__(DposToy)
        after.rule, after.delegates = self.rule, self.delegates
        after.round = header.view // len(self.delegates)
        proof = DposProof.decode(header.proof)
        opened = ((header.proposer, proof.reveal),) if proof.reveal else ()
        after.seed = self.seed_of(after.round)
        after.opened = self.opened + opened if after.round == self.round else opened
        kept = {place: value for place, value in self.commitments.items() if place[1] >= after.round - 2}
        after.commitments = {**kept, (header.proposer, after.round): proof.commitment}
        after.orders = {}
        return after


class PoaToy(Toy):
    """Authorities that stay, unless a block's only digest is the key of one that goes."""

    def __init__(self, keypairs: Sequence[Keypair]) -> None:
        self.validators = Validators.of(0, [Validator(keypair.public_key) for keypair in keypairs])
        self.rule = PoaRule(CLOCK, self.validators)

    def standing(self) -> PoaStanding:
        return PoaStanding(self.validators)

    def after(self, block: Block) -> PoaToy:
        kept = [member for member in self.validators.members if (member.key,) != block.digests]
        if len(kept) == len(self.validators):
            return self
        after = PoaToy.__new__(PoaToy)
        after.rule, after.validators = self.rule, Validators.of(0, kept)
        return after


def toy_of(engine: str, keypairs: Sequence[Keypair]) -> Toy:
    if engine == "pow":
        return PowToy()
    if engine == "pos":
        return PosToy(keypairs, [100] * len(keypairs))
    return DposToy(keypairs) if engine == "dpos" else PoaToy(keypairs)


# --- seats ----------------------------------------------------------------------------------------------------------


@dataclass
class Seat:
    """One engine, its fake node and its disk. ``engine`` is None while it is down."""

    key: bytes
    index: int
    keypair: Keypair | None
    engine: ChainEngine | None = None
    disk: list[Record] = field(default_factory=list)
    finals: list[BlockRef] = field(default_factory=list)
    toys: dict[bytes, Toy] = field(default_factory=dict)
    """By executed block."""
    accepted: list[bytes] = field(default_factory=list)
    """To execute, in order, as soon as their parents are."""
    blocks: dict[bytes, Block] = field(default_factory=dict)
    heads: list[HeadMoved] = field(default_factory=list)
    batches: set[bytes] = field(default_factory=set)
    found: tuple[tuple[bytes, int], tuple[bytes, ...]] | None = None
    """Which batches are not ordered, by the head and the number of batches."""
    told_work: bool = False
    timer: int | None = None
    generation: int = 0
    mining: int = 0
    power: int = 1
    evidence: list[Evidence] = field(default_factory=list)
    offences: list[Offence] = field(default_factory=list)
    contradictions: list[Contradiction] = field(default_factory=list)
    persisted: int = 0
    crash_at_persist: int | None = None
    holds_back: list[Block] | None = None
    """A villain's own blocks, while it tells nobody."""
    skew_ms: int = 0

    @property
    def head(self) -> BlockRef:
        assert self.engine is not None
        return self.engine.head


class ChainWorld:
    """n seats in a full mesh. ``link`` gives the delay of each message in ms; None loses it."""

    def __init__(
        self,
        engine: str,
        n: int,
        *,
        seed: int = 0,
        link: Callable[[ChainWorld, Seat, Seat, Message], int | None] | None = None,
        engine_class: type[ChainEngine] = ChainEngine,
        interval_ms: int = 1_000,
        depth: int = DEPTH,
    ) -> None:
        self.random = random.Random(seed)
        self.keypairs = keypairs_of(n)
        self.genesis = genesis_of(self.keypairs)
        self.toy = toy_of(engine, self.keypairs)
        self.link = link or (lambda world, source, target, message: 20)
        self.engine_class = engine_class
        self.interval_ms = interval_ms
        self.depth = depth
        self.now_ms = GENESIS_MS
        self._order = count()
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self.seats = [Seat(keypair.public_key, index, keypair) for index, keypair in enumerate(self.keypairs)]
        for seat in self.seats:
            self._furnish(seat)

    def _furnish(self, seat: Seat) -> None:
        seat.finals.append(BlockRef.of(self.genesis.header))
        seat.blocks[self.genesis.id] = self.genesis
        seat.toys[self.genesis.id] = self.toy

    # --- running ----------------------------------------------------------------------------------------------------

    def start(self, seats: Iterable[Seat] | None = None) -> None:
        for seat in self.seats if seats is None else seats:
            self.boot(seat)

    def boot(self, seat: Seat) -> None:
        """Starts (or starts again) from what the seat's disk remembers; of the states only the final one is left."""
        seat.generation += 1
        seat.timer = None
        seat.told_work = False
        final = seat.finals[-1]
        seat.toys = {final.id: seat.toys[final.id]}
        seat.accepted = []
        seat.engine = self.engine_class(
            rule=self.toy.rule,
            network_id=NETWORK,
            genesis_time_ms=GENESIS_MS,
            slot_ms=SLOT_MS,
            keypair=seat.keypair,
            recovered=Recovered.of(final, seat.disk),
            ask=lambda name: seat.toys[name].standing() if name in seat.toys else None,
            finality_depth=self.depth,
            max_drift_ms=DRIFT_MS,
        )
        self.obey(seat, seat.engine.start(self.now_ms + seat.skew_ms))
        self.tell_work(seat)

    def crash(self, seat: Seat) -> None:
        seat.engine = None
        seat.generation += 1

    def at(self, delay_ms: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now_ms + delay_ms, next(self._order), action))

    def run(self, for_ms: int, stop: Callable[[], bool] | None = None) -> None:
        """For so long, until nothing is left to happen, or until ``stop`` says so."""
        until_ms = self.now_ms + for_ms
        while self._heap and self._heap[0][0] <= until_ms:
            if stop is not None and stop():
                return
            self.now_ms, _, action = heapq.heappop(self._heap)
            action()
        self.now_ms = until_ms

    def submit(self, digest: bytes, seats: Iterable[Seat] | None = None) -> None:
        for seat in self.seats if seats is None else seats:
            seat.batches.add(digest)
            self.tell_work(seat)

    def step(self, seat: Seat, event: Input) -> None:
        if seat.engine is not None:
            self.obey(seat, seat.engine.step(event, self.now_ms + seat.skew_ms))
            self.tell_work(seat)

    # --- the fake node ----------------------------------------------------------------------------------------------

    def chain(self, seat: Seat) -> list[Block]:
        """From the head down to (without) the genesis."""
        found = []
        name = seat.head.id
        while name != self.genesis.id:
            found.append(seat.blocks[name])
            name = found[-1].header.parent
        return found

    def unordered(self, seat: Seat) -> tuple[bytes, ...]:
        asked = (seat.head.id, len(seat.batches))
        if seat.found is None or seat.found[0] != asked:
            ordered = {digest for block in self.chain(seat) for digest in block.digests}
            seat.found = asked, tuple(sorted(seat.batches - ordered))
        return seat.found[1]

    def tell_work(self, seat: Seat) -> None:
        if seat.engine is None:
            return
        has_work = bool(seat.batches) and bool(self.unordered(seat))
        if has_work != seat.told_work:
            seat.told_work = has_work
            self.obey(seat, seat.engine.step(WorkChanged(has_work), self.now_ms + seat.skew_ms))

    def build(self, seat: Seat, build: Build) -> Block:
        assert seat.keypair is not None
        digests = self.unordered(seat) if seat.batches else ()
        block = make_block(
            build.parent, seat.keypair, build.proof, slot=build.view, time_ms=build.time_ms, digests=digests
        )
        return replace(block, seal=b"")

    def execute(self, seat: Seat) -> None:
        """All accepted blocks whose parents are executed; the engine is told of each, a moment later."""
        for name in list(seat.accepted):
            block = seat.blocks[name]
            if block.header.parent in seat.toys:
                seat.accepted.remove(name)
                seat.toys[name] = seat.toys[block.header.parent].after(block)
                self._tell(seat, Executed(name))

    # --- effects ----------------------------------------------------------------------------------------------------

    def obey(self, seat: Seat, effects: Iterable[Effect]) -> None:
        generation = seat.generation
        for effect in effects:
            if seat.generation != generation or seat.engine is None:
                return
            self._obey(seat, effect)

    def _obey(self, seat: Seat, effect: Effect) -> None:
        match effect:
            case Persist(records):
                seat.disk.extend(records)
                for record in records:
                    if isinstance(record, BlockRecord):
                        seat.blocks[record.id] = Block.decode(record.data)
                seat.persisted += 1
                if seat.persisted == seat.crash_at_persist:
                    self.crash(seat)
            case Announce(block):
                if seat.holds_back is not None:
                    seat.holds_back.append(block)
                else:
                    self.announce(seat, block)
            case WantBranch(_, sender):
                for other in self.seats:
                    if other.key == sender:
                        self.send(seat, other, effect)
            case SetTimer(at_ms):
                seat.timer = at_ms
                if at_ms is not None:
                    self.at(max(0, at_ms - self.now_ms - seat.skew_ms), self._timer(seat, at_ms, seat.generation))
            case Check(block):
                seat.blocks[block.id] = block
                self._tell(seat, Checked(block.header.view, block.id, BAD_DIGEST not in block.digests))
            case Build(view, _):
                self._tell(seat, Built(view, self.build(seat, effect)))
            case Work():
                self._mine(seat, effect)
            case Accepted(ref):
                seat.accepted.append(ref.id)
                self.execute(seat)
            case HeadMoved():
                seat.heads.append(effect)
            case Finalised(ref, certificate):
                assert certificate is None
                assert ref.id in seat.toys, "final before executed"
                assert ref.height > seat.finals[-1].height, "heights only grow"
                seat.finals.append(ref)
            case Evidence():
                seat.evidence.append(effect)
            case Offence():
                seat.offences.append(effect)
            case Contradiction():
                seat.contradictions.append(effect)
            case _:
                raise AssertionError(f"an unknown effect: {effect!r}")

    def _mine(self, seat: Seat, work: Work) -> None:
        """Found after a time that is drawn by the seat's power; work has no memory, so a new template costs nothing."""
        seat.mining += 1
        turn, generation = seat.mining, seat.generation
        if seat.power == 0:
            return
        total = sum(other.power for other in self.seats)
        delay_ms = 1 + int(self.random.expovariate(seat.power / (self.interval_ms * total)))

        def find() -> None:
            if seat.generation == generation and seat.mining == turn:
                nonce = core.pow_search(work.prefix, self.random.getrandbits(60), 1_000_000, work.target)
                self.step(seat, WorkDone(work.view, nonce))

        self.at(delay_ms, find)

    def announce(self, seat: Seat, block: Block) -> None:
        for other in self.seats:
            if other is not seat:
                self.send(seat, other, block)

    def _tell(self, seat: Seat, event: Input) -> None:
        generation = seat.generation
        self.at(0, lambda: self.step(seat, event) if seat.generation == generation else None)

    def _timer(self, seat: Seat, at_ms: int, generation: int) -> Callable[[], None]:
        def fire() -> None:
            if seat.generation == generation and seat.timer == at_ms:
                seat.timer = None
                self.step(seat, TimerFired())

        return fire

    def add_twin(self, seat: Seat) -> Seat:
        """A second engine with the same key and a disk of its own: an equivocator that behaves well, twice."""
        twin = Seat(seat.key, seat.index, seat.keypair)
        self._furnish(twin)
        self.seats.append(twin)
        return twin

    def send(self, source: Seat, target: Seat, message: Message) -> None:
        delay_ms = self.link(self, source, target, message)
        if delay_ms is not None:
            self.at(delay_ms, lambda: self.deliver(source, target, message))

    def deliver(self, source: Seat, target: Seat, message: Message) -> None:
        match message:
            case Block():
                self.step(target, BlockArrived(message, source.key))
            case WantBranch(name, _):
                branch = self.branch(target, name)
                if branch and target.engine is not None:
                    self.send(target, source, branch)
            case _:
                self.step(target, BranchArrived(message, source.key))

    def branch(self, seat: Seat, name: bytes, limit: int = 40) -> tuple[Block, ...]:
        """From a block downwards, newest first."""
        found: list[Block] = []
        while name in seat.blocks and name != self.genesis.id and len(found) < limit:
            found.append(seat.blocks[name])
            name = found[-1].header.parent
        return tuple(found)

    def greet(self) -> None:
        """Everybody tells everybody its newest blocks, as peers do when they connect."""
        for seat in self.seats:
            if seat.engine is not None:
                for block in seat.engine.newest_blocks():
                    self.announce(seat, block)


# --- what must hold -------------------------------------------------------------------------------------------------


def disagreement(seats: Iterable[Seat]) -> str | None:
    """Two seats with different final blocks at one height, or one that took its own back."""
    final_at: dict[int, bytes] = {}
    for seat in seats:
        for ref in seat.finals:
            names = {}
            block: Block | None = seat.blocks[ref.id]
            while block is not None:
                names[block.height] = block.id
                block = seat.blocks.get(block.header.parent)
            for height, name in names.items():
                if final_at.setdefault(height, name) != name:
                    return f"seat {seat.index} holds another final block at height {height}"
    return None


def broken_promise(rule: Rule, key: bytes, disk: Iterable[Record]) -> str | None:
    """A key that sealed two blocks in one slot, or confirmed a height twice, over all its lives."""
    slots: set[int] = set()
    confirmed: set[int] = set()
    blocks = {record.id: record.data for record in disk if isinstance(record, BlockRecord)}
    for data in blocks.values():
        header = Block.decode(data).header
        if header.proposer != key or not rule.slotted:
            continue
        if header.view in slots:
            return f"two blocks in slot {header.view}"
        slots.add(header.view)
        heights = set(range(rule.confirm_from(header), header.height + 1))
        if heights & confirmed:
            return f"heights {sorted(heights & confirmed)} confirmed twice"
        confirmed |= heights
    return None
