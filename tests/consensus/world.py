"""A small deterministic world for engines: an event heap, links, disks, and nodes whose content is always valid.

Far simpler than the simulator of the product, which drives whole peers: here a *seat* is one engine with a fake node
around it. The fake node executes nothing; its work are digests that somebody submitted, and the trailing empty block.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from p2pledger.consensus.engine import (
    BlockArrived,
    BlockRef,
    Broadcast,
    Build,
    Built,
    CertificateArrived,
    CertificateWanted,
    Check,
    Checked,
    Contradiction,
    Effect,
    EpochEnded,
    Evidence,
    Finalised,
    FinalReached,
    Input,
    Notarised,
    Offence,
    Persist,
    Proposal,
    ProposalArrived,
    Send,
    SetTimer,
    TimerFired,
    VoteArrived,
    WantBlock,
    WantCertificates,
    WorkChanged,
)
from p2pledger.consensus.simplex import Recovered, Simplex
from p2pledger.core import merkle_root
from p2pledger.primitives.blocks import Block, Header, genesis_block
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.records import Record
from p2pledger.primitives.validators import Validator, Validators
from p2pledger.primitives.votes import Certificate, Vote, VoteKind

NETWORK = b"testnet1"
TIMEOUT_MS = 1_000
CAP_MS = 16_000

Message = Proposal | Vote | Certificate


def keypairs_of(n: int) -> list[Keypair]:
    """n keypairs in the order of their public keys, so that the index is the signer."""
    keypairs = [Keypair.from_seed(bytes([index]) * 32) for index in range(1, n + 1)]
    return sorted(keypairs, key=lambda keypair: keypair.public_key)


def validators_of(keypairs: Iterable[Keypair]) -> Validators:
    return Validators.of(0, [Validator(keypair.public_key) for keypair in keypairs])


def genesis_of(validators: Validators) -> Block:
    return genesis_block(network_id=NETWORK, genesis_hash=bytes(32), time_ms=1, validators_hash=validators.hash)


def make_block(
    validators: Validators, view: int, parent: BlockRef, digests: tuple[bytes, ...] = (), **changes: object
) -> Block:
    """A block of the leader of ``view`` on ``parent``; ``changes`` replace fields of its header."""
    fields: dict[str, object] = {
        "network_id": NETWORK,
        "epoch": validators.epoch,
        "view": view,
        "height": parent.height + 1,
        "parent": parent.id,
        "time_ms": parent.time_ms + 1,
        "proposer": validators.members[validators.leader(view)].key,
        "batches_root": merkle_root(digests),
        "parent_state_root": ZERO_HASH,
        "parent_receipts_root": ZERO_HASH,
        "validators_hash": validators.hash,
    }
    return Block(Header(**{**fields, **changes}), digests)  # type: ignore[arg-type]


def make_vote(keypairs: list[Keypair], signer: int, kind: VoteKind, view: int, block: bytes = ZERO_HASH) -> Vote:
    return Vote.make(NETWORK, 0, view, kind, block, signer, keypairs[signer])


def make_certificate(
    keypairs: list[Keypair], signers: Iterable[int], kind: VoteKind, view: int, block: bytes = ZERO_HASH
) -> Certificate:
    return Certificate.of({signer: make_vote(keypairs, signer, kind, view, block) for signer in signers})


@dataclass
class Seat:
    """One engine, its fake node and its disk. ``engine`` is None while it is down."""

    key: bytes
    index: int
    keypair: Keypair | None
    engine: Simplex | None = None
    disk: list[Record] = field(default_factory=list)
    """What survives a crash, together with ``finals``."""
    finals: list[BlockRef] = field(default_factory=list)
    batches: set[bytes] = field(default_factory=set)
    blocks: dict[bytes, Block] = field(default_factory=dict)
    """Everything fetched or proposed: serves other seats."""
    linked: dict[bytes, BlockRef] = field(default_factory=dict)
    tip: BlockRef | None = None
    told_work: bool = False
    timer: int | None = None
    generation: int = 0
    evidence: list[Evidence] = field(default_factory=list)
    offences: list[Offence] = field(default_factory=list)
    contradictions: list[Contradiction] = field(default_factory=list)
    persisted: int = 0
    crash_at_persist: int | None = None
    """Crash right after this many groups of records are on the disk, before anything that follows them."""
    closing: list[Block] = field(default_factory=list)
    """Blocks beyond the end of an epoch that made its last block final."""
    villain: Callable[[World, Seat, Message], None] | None = None
    """What a villain without an engine does when it hears something."""


class World:
    """n seats in a full mesh. ``delay_ms`` of each message comes from ``link``: None loses it.

    With ``epoch_blocks`` the epoch changes after so many heights; ``members`` gives the seats (by index) that validate
    in an epoch, everybody if it is missing, and ``weights`` their weights.
    """

    def __init__(
        self,
        n: int,
        *,
        seed: int = 0,
        quorum: int | None = None,
        observers: int = 0,
        epoch_blocks: int | None = None,
        members: Callable[[int], Iterable[int]] | None = None,
        weights: Sequence[int] = (),
        link: Callable[[World, Seat, Seat, Message], int | None] | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.keypairs = keypairs_of(n)
        self.epoch_blocks = epoch_blocks
        self.members = members or (lambda epoch: range(n))
        self.weights = weights or [1] * n
        self.validators = self.validators_in(0)
        self.genesis = genesis_of(self.validators)
        self.quorum = quorum
        self.link = link or (lambda world, source, target, message: 10)
        self.now_ms = 0
        self.sent = 0
        self._order = count()
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self.seats = [Seat(keypair.public_key, index, keypair) for index, keypair in enumerate(self.keypairs)] + [
            Seat(bytes([200 + index]) * 32, n + index, None) for index in range(observers)
        ]
        for seat in self.seats:
            seat.finals.append(BlockRef.of(self.genesis.header))
            seat.blocks[self.genesis.id] = self.genesis

    def validators_in(self, epoch: int) -> Validators:
        seats = self.members(epoch)
        return Validators.of(epoch, [Validator(self.keypairs[seat].public_key, self.weights[seat]) for seat in seats])

    def last_height_of(self, epoch: int) -> int | None:
        return None if self.epoch_blocks is None else (epoch + 1) * self.epoch_blocks

    # --- running ----------------------------------------------------------------------------------------------------

    def start(self, seats: Iterable[Seat] | None = None) -> None:
        for seat in self.seats if seats is None else seats:
            self.boot(seat)

    def boot(self, seat: Seat) -> None:
        """Starts (or starts again) from what the seat's disk remembers."""
        seat.generation += 1
        seat.timer = None
        seat.told_work = False
        final = seat.finals[-1]
        seat.linked = {final.id: final}
        seat.tip = final
        epoch = 0 if self.epoch_blocks is None else final.height // self.epoch_blocks
        seat.engine = Simplex(
            network_id=NETWORK,
            validators=self.validators_in(epoch),
            last_height=self.last_height_of(epoch),
            keypair=seat.keypair,
            recovered=Recovered.of(final, seat.disk),
            view_timeout_ms=TIMEOUT_MS,
            view_timeout_cap_ms=CAP_MS,
            quorum=self.quorum,
        )
        self.obey(seat, seat.engine.start(self.now_ms))
        self.tell_work(seat)

    def crash(self, seat: Seat) -> None:
        seat.engine = None
        seat.generation += 1

    def at(self, delay_ms: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now_ms + delay_ms, next(self._order), action))

    def run(self, until_ms: int | None = None, stop: Callable[[], bool] | None = None) -> None:
        """Until the heap is empty, the time is up, or ``stop`` says so."""
        while self._heap and (until_ms is None or self._heap[0][0] <= until_ms):
            if stop is not None and stop():
                return
            self.now_ms, _, action = heapq.heappop(self._heap)
            action()
        if until_ms is not None:
            self.now_ms = max(self.now_ms, until_ms)

    def submit(self, digest: bytes, seats: Iterable[Seat] | None = None) -> None:
        """A batch that these seats (all) hold from now on."""
        for seat in self.seats if seats is None else seats:
            seat.batches.add(digest)
            self.tell_work(seat)

    def step(self, seat: Seat, event: Input) -> None:
        if seat.engine is not None:
            self.obey(seat, seat.engine.step(event, self.now_ms))
            self.tell_work(seat)

    # --- the fake node ----------------------------------------------------------------------------------------------

    def ancestry(self, seat: Seat) -> list[Block]:
        """From the tip of the notarised chain down to (without) the genesis."""
        found = []
        name = seat.tip.id if seat.tip else self.genesis.id
        while name != self.genesis.id:
            found.append(seat.blocks[name])
            name = seat.blocks[name].header.parent
        return found

    def unordered(self, seat: Seat) -> tuple[bytes, ...]:
        ordered = {digest for block in self.ancestry(seat) for digest in block.digests}
        return tuple(sorted(seat.batches - ordered))

    def has_work(self, seat: Seat) -> bool:
        """A batch that is not in the notarised chain, or a block with batches that no empty one follows yet."""
        assert seat.tip is not None
        return bool(self.unordered(seat)) or bool(seat.blocks[seat.tip.id].digests)

    def tell_work(self, seat: Seat) -> None:
        if seat.engine is None:
            return
        has_work = self.has_work(seat)
        if has_work != seat.told_work:
            seat.told_work = has_work
            self.obey(seat, seat.engine.step(WorkChanged(has_work), self.now_ms))

    def build(self, seat: Seat, build: Build) -> Block | None:
        if seat.tip is None or build.parent.id not in seat.linked:
            return None
        seat.tip = build.parent
        if not (build.needed or self.has_work(seat)):
            return None
        time_ms = max(self.now_ms, build.parent.time_ms + 1)
        assert seat.engine is not None
        digests = () if build.closing else self.unordered(seat)
        block = make_block(seat.engine.validators, build.view, build.parent, digests, time_ms=time_ms)
        seat.blocks[block.id] = block
        return block

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
                seat.persisted += 1
                if seat.persisted == seat.crash_at_persist:
                    self.crash(seat)
            case Broadcast(message):
                for other in self.seats:
                    if other is not seat:
                        self.send(seat, other, message)
            case Send(to, message):
                for other in self.seats_of(to):
                    self.send(seat, other, message)
            case SetTimer(at_ms):
                seat.timer = at_ms
                if at_ms is not None:
                    self.at(max(0, at_ms - self.now_ms), self._timer(seat, at_ms, seat.generation))
            case Check(block):
                seat.blocks[block.id] = block
                seat.batches.update(block.digests)
                self._tell(seat, Checked(block.header.view, block.id, True))
            case Build(view, _):
                self._tell(seat, Built(view, self.build(seat, effect)))
            case Notarised(block, _):
                assert block.parent in seat.linked, "parents come first"
                seat.linked[block.id] = block
                if seat.tip is None or block.view > seat.tip.view:
                    seat.tip = block
            case Finalised(block, _):
                assert block.id in seat.linked, "final before notarised"
                assert block.height > seat.finals[-1].height, "heights only grow"
                seat.finals.append(block)
            case EpochEnded(block, closing):
                assert block == seat.finals[-1], "the epoch ends with its last final block"
                assert not any(other.digests for other in closing), "closing blocks are empty"
                seat.closing.extend(closing)
                seat.linked = {block.id: block}
                seat.tip = block
                self.at(self.knowing_ms(seat), self._next_epoch(seat, seat.generation))
            case WantBlock(name, signers):
                for other in [other for key in signers for other in self.seats_of(key)]:
                    self._fetch(seat, other, name)
            case WantCertificates(from_view, to_view):
                for other in self.seats:
                    if other is not seat:
                        self._ask(seat, other, CertificateWanted(seat.key, from_view, to_view))
            case Evidence():
                seat.evidence.append(effect)
            case Offence():
                seat.offences.append(effect)
            case Contradiction():
                seat.contradictions.append(effect)
            case _:
                raise AssertionError(f"an unknown effect: {effect!r}")

    def _tell(self, seat: Seat, event: Input) -> None:
        generation = seat.generation
        self.at(0, lambda: self.step(seat, event) if seat.generation == generation else None)

    def knowing_ms(self, seat: Seat) -> int:
        """How long after the end of an epoch a node knows the validators of the next one."""
        return 0

    def _next_epoch(self, seat: Seat, generation: int) -> Callable[[], None]:
        def begin() -> None:
            if seat.generation == generation and seat.engine is not None:
                epoch = seat.engine.validators.epoch + 1
                seat.engine = seat.engine.succeed(self.validators_in(epoch), self.last_height_of(epoch))
                self.obey(seat, seat.engine.start(self.now_ms))
                self.tell_work(seat)

        return begin

    def _timer(self, seat: Seat, at_ms: int, generation: int) -> Callable[[], None]:
        def fire() -> None:
            if seat.generation == generation and seat.timer == at_ms:
                seat.timer = None
                self.step(seat, TimerFired())

        return fire

    def seats_of(self, key: bytes) -> list[Seat]:
        """Usually one; two where a villain runs its key twice."""
        return [seat for seat in self.seats if seat.key == key]

    def add_twin(self, seat: Seat) -> Seat:
        """A second engine with the same key and a disk of its own: an equivocator that behaves well, twice."""
        twin = Seat(seat.key, seat.index, seat.keypair)
        twin.finals.append(BlockRef.of(self.genesis.header))
        twin.blocks[self.genesis.id] = self.genesis
        self.seats.append(twin)
        return twin

    def send(self, source: Seat, target: Seat, message: Message) -> None:
        self.sent += 1
        delay_ms = self.link(self, source, target, message)
        if delay_ms is not None:
            self.at(delay_ms, lambda: self.deliver(source, target, message))

    def deliver(self, source: Seat, target: Seat, message: Message) -> None:
        if target.villain is not None:
            target.villain(self, target, message)
        epoch = message.vote.epoch if isinstance(message, Proposal) else message.epoch
        if target.engine is not None and epoch > target.engine.validators.epoch + (
            not isinstance(message, Certificate)
        ):
            self._sync(target, source)
        match message:
            case Proposal(block, _):
                target.blocks.setdefault(block.id, block)
                self.step(target, ProposalArrived(source.key, message))
            case Vote():
                self.step(target, VoteArrived(source.key, message))
            case Certificate():
                self.step(target, CertificateArrived(source.key, message))

    def _sync(self, seat: Seat, source: Seat) -> None:
        """What chain messages do between nodes: the last block of the epoch in which a seat is stuck, as final."""
        assert seat.engine is not None
        last_height = self.last_height_of(seat.engine.validators.epoch)
        name = chain_of(source).get(-1 if last_height is None else last_height)
        if name is None or seat.finals[-1].height >= source.blocks[name].height:
            return
        seat.blocks.update(source.blocks)
        ref = BlockRef.of(source.blocks[name].header)
        seat.finals.append(ref)
        self.step(seat, FinalReached(ref))

    def _ask(self, source: Seat, target: Seat, wanted: CertificateWanted) -> None:
        self.sent += 1
        delay_ms = self.link(self, source, target, make_vote(self.keypairs, 0, VoteKind.NULLIFY, 0))
        if delay_ms is not None:
            self.at(delay_ms, lambda: self.step(target, wanted))

    def _fetch(self, source: Seat, target: Seat, name: bytes) -> None:
        self.sent += 1
        delay_ms = self.link(self, source, target, make_vote(self.keypairs, 0, VoteKind.NULLIFY, 0))
        if delay_ms is None or name not in target.blocks:
            return
        block = target.blocks[name]

        def arrive() -> None:
            source.blocks[name] = block
            self.step(source, BlockArrived(block))

        self.at(2 * delay_ms, arrive)


# --- checkers -------------------------------------------------------------------------------------------------------


def chain_of(seat: Seat) -> dict[int, bytes]:
    """height -> block id of everything final at a seat, by walking down from its last final block."""
    chain: dict[int, bytes] = {}
    name = seat.finals[-1].id
    while True:
        header = seat.blocks[name].header
        chain[header.height] = name
        if header.height == 0:
            return chain
        name = header.parent


def disagreement(seats: Iterable[Seat]) -> str | None:
    """What two seats hold final differently, or a seat differently from itself earlier; None if nothing."""
    agreed: dict[int, bytes] = {}
    for seat in seats:
        chain = chain_of(seat)
        for ref in seat.finals:
            if chain.get(ref.height) != ref.id:
                return f"seat {seat.index} took back its final block at height {ref.height}"
        for height, name in chain.items():
            if agreed.setdefault(height, name) != name:
                return f"seat {seat.index} holds another final block at height {height}"
    return None


def all_ordered(seats: Iterable[Seat]) -> bool:
    """Whether at every seat all submitted batches stand in final blocks."""
    for seat in seats:
        final = {digest for name in chain_of(seat).values() for digest in seat.blocks[name].digests}
        if not seat.batches <= final:
            return False
    return True


def votes_on(disk: Iterable[Record]) -> list[Vote]:
    """The own votes that a disk remembers."""
    return list(Recovered.of(BlockRef(ZERO_HASH, ZERO_HASH, 0, 0, 0, ZERO_HASH), disk).votes)


def broken_promise(votes: Iterable[Vote]) -> str | None:
    """Which promise of an honest validator these votes of one signer break, or None."""
    notarised: dict[tuple[int, int], bytes] = {}
    finalised: dict[tuple[int, int], bytes] = {}
    nullified: set[tuple[int, int]] = set()
    for vote in votes:
        view = vote.epoch, vote.view
        if vote.kind is VoteKind.NOTARISE and notarised.setdefault(view, vote.block) != vote.block:
            return f"two blocks notarised in view {vote.view}"
        if vote.kind is VoteKind.FINALISE and finalised.setdefault(view, vote.block) != vote.block:
            return f"two blocks finalised in view {vote.view}"
        if vote.kind is VoteKind.NULLIFY:
            nullified.add(view)
    both = nullified & finalised.keys()
    return f"finalised and nullified view {min(both)[1]}" if both else None
