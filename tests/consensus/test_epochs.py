"""Epochs: the validators change at a boundary block, whatever happens around it.

First whole clusters, then the rules of one engine, told by hand.
"""

from __future__ import annotations

import pytest

from p2pledger.consensus.engine import (
    BlockRef,
    Build,
    Built,
    CertificateArrived,
    CertificateWanted,
    Check,
    Checked,
    Effect,
    EpochEnded,
    Finalised,
    FinalReached,
    Notarised,
    Offence,
    Proposal,
    ProposalArrived,
    Send,
    SetTimer,
    TimerFired,
    VoteArrived,
    WorkChanged,
)
from p2pledger.consensus.simplex import Recovered, Simplex
from p2pledger.consensus.simplex.early import EarlyMessages
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.validators import Validators
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from tests.consensus.world import (
    CAP_MS,
    NETWORK,
    TIMEOUT_MS,
    Message,
    Seat,
    World,
    all_ordered,
    broken_promise,
    chain_of,
    disagreement,
    genesis_of,
    keypairs_of,
    make_block,
    validators_of,
    votes_on,
)

NOTARISE, NULLIFY, FINALISE = VoteKind.NOTARISE, VoteKind.NULLIFY, VoteKind.FINALISE
HOP_MS = 10


def busy(world: World, count: int, every_ms: int = 60, seats: list[Seat] | None = None) -> None:
    """``count`` batches, one after the other, so that heights go up."""
    for number in range(count):
        world.at(
            number * every_ms, lambda number=number: world.submit(bytes([number % 255 + 1, number >> 8]) * 16, seats)
        )


def judge(world: World, seats: list[Seat] | None = None) -> None:
    """Agreement, promises, and every final block made by the validators of its epoch, at the right height."""
    seats = world.seats if seats is None else seats
    assert disagreement(seats) is None, disagreement(seats)
    for seat in seats:
        assert broken_promise(votes_on(seat.disk)) is None
        assert not seat.contradictions
        assert not seat.offences, seat.offences
        for height, name in chain_of(seat).items():
            header = seat.blocks[name].header
            if height == 0 or world.epoch_blocks is None:
                continue
            epoch = (height - 1) // world.epoch_blocks
            assert header.epoch == epoch
            assert header.validators_hash == world.validators_in(epoch).hash
            assert header.proposer in [member.key for member in world.validators_in(epoch).members]
            assert header.view > seat.blocks[header.parent].header.view, "views go on"


def grown(epoch: int) -> list[int]:
    """Four validators, then five, then three; three more epochs of other three."""
    return [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 3, 4], [0, 2, 4]][min(epoch, 4)]


def test_four_validators_become_five_become_three() -> None:
    world = World(5, epoch_blocks=4, members=grown)
    world.start()
    busy(world, 60)
    world.run(until_ms=60_000)
    judge(world)
    assert all_ordered(world.seats), "leavers and joiners follow"
    assert min(seat.finals[-1].height for seat in world.seats) > 5 * 4
    assert [seat.timer for seat in world.seats] == [None] * 5
    assert not any(seat.closing for seat in world.seats), "when all is well, nothing has to be closed"
    fifth = votes_on(world.seats[4].disk)
    assert min(vote.epoch for vote in fifth) == 2, "the joiner says nothing before its epoch"
    left = votes_on(world.seats[1].disk)
    assert max(vote.epoch for vote in left) == 3, "and the leaver nothing after it"


def test_an_epoch_ends_at_full_speed() -> None:
    """One more delay than inside an epoch: the next block waits until the boundary block is final."""
    world = World(4, epoch_blocks=1)
    world.start()
    for number in range(3):
        world.at(number * 1_000, lambda number=number: world.submit(bytes([number + 1]) * 32))
    world.run(stop=lambda: all_ordered(world.seats) and world.seats[0].finals[-1].height >= 1)
    assert world.now_ms == 3 * HOP_MS
    world.run(until_ms=1_000 + 3 * HOP_MS)
    assert len({seat.finals[-1].id for seat in world.seats}) == 1
    world.run(until_ms=30_000)
    judge(world)
    assert [seat.timer for seat in world.seats] == [None] * 4


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_every_height_may_be_an_epoch(n: int) -> None:
    world = World(n, epoch_blocks=1)
    world.start()
    busy(world, 20)
    world.run(until_ms=60_000)
    judge(world)
    assert all_ordered(world.seats)
    assert [seat.timer for seat in world.seats] == [None] * n


def test_weights_change_with_the_epoch_too() -> None:
    """One heavy validator: it and any other are a quorum, the three light ones are none."""
    world = World(4, epoch_blocks=3, weights=[1, 1, 1, 6], members=lambda epoch: range(4) if epoch % 2 else range(3))
    world.start()
    busy(world, 30)
    world.run(until_ms=60_000)
    judge(world)
    assert all_ordered(world.seats)
    world.crash(world.seats[3])
    before = [seat.finals[-1].height for seat in world.seats[:3]]
    busy(world, 30, seats=world.seats[:3])
    world.run(until_ms=200_000)
    judge(world)
    after = [seat.finals[-1].height for seat in world.seats[:3]]
    assert max(after) <= max(before) + 3 + 3, "the next odd epoch cannot go on without the heavy one"


def block_of(world: World, message: Message) -> Block | None:
    """The block that a message names, if anybody has seen it."""
    name = message.block.id if isinstance(message, Proposal) else message.block
    return next((seat.blocks[name] for seat in world.seats if name in seat.blocks), None)


def test_a_boundary_block_whose_finalise_votes_are_lost_is_closed_by_empty_blocks_that_vanish() -> None:
    def lossy(world: World, source: Seat, target: Seat, message: Message) -> int | None:
        block = block_of(world, message)
        at_boundary = block is not None and block.height == 4
        is_vote = isinstance(message, Vote | Certificate) and message.kind is FINALISE
        return None if at_boundary and is_vote and world.now_ms < 6_000 else HOP_MS

    world = World(4, epoch_blocks=4, link=lossy)
    world.start()
    busy(world, 20)
    world.run(until_ms=60_000)
    judge(world)
    assert all_ordered(world.seats)
    for seat in world.seats:
        closing = seat.closing
        assert [block.height for block in closing[:1]] == [5]
        first = next(seat.blocks[name] for height, name in chain_of(seat).items() if height == 5)
        assert first.header.epoch == 1
        assert first.header.parent == closing[0].header.parent, "both stand on the boundary block"
        assert first.header.view > seat.blocks[first.header.parent].header.view


@pytest.mark.parametrize("seed", range(12))
def test_a_boundary_block_that_is_notarised_while_its_view_is_nullified_around_it(seed: int) -> None:
    """What concerns the boundary height is slower than the timeout, for a while and in all directions."""

    def slow(world: World, source: Seat, target: Seat, message: Message) -> int | None:
        block = block_of(world, message)
        near = block is not None and block.height in (3, 4, 5) and block.header.epoch == 0
        if near and world.now_ms < 12_000:
            return None if world.random.random() < 0.2 else world.random.randint(1, 2_500)
        return HOP_MS

    world = World(4, seed=seed, epoch_blocks=4, link=slow, members=lambda epoch: grown(2 if epoch == 1 else 0)[:4])
    world.start()
    busy(world, 20, every_ms=300)
    world.run(until_ms=120_000)
    judge(world)
    assert all_ordered(world.seats)
    assert [seat.timer for seat in world.seats] == [None] * 4


def test_who_learns_late_who_validates_next_joins_late_and_what_came_early_waits() -> None:
    class Slow(World):
        def knowing_ms(self, seat: Seat) -> int:
            return 700 * seat.index

    world = Slow(5, epoch_blocks=4, members=grown)
    world.start()
    busy(world, 40)
    world.run(until_ms=90_000)
    judge(world)
    assert all_ordered(world.seats)
    assert [seat.timer for seat in world.seats] == [None] * 5


def test_a_node_that_slept_through_several_epochs_catches_up_block_by_block() -> None:
    """Here by blocks that peers still hold and certificates that they still say; far behind, the node syncs chains."""
    world = World(4, epoch_blocks=3)
    world.start(world.seats[:3])
    busy(world, 2, seats=world.seats[:3])
    world.run(until_ms=20_000)
    world.start(world.seats[3:])
    busy(world, 12)
    world.run(until_ms=90_000)
    judge(world)
    assert all_ordered(world.seats[:3])


def crash_run(victim: int, crash_at_persist: int | None, down_ms: int) -> World:
    """Three epochs of two heights, with one seat that dies once."""

    def rough(world: World, source: Seat, target: Seat, message: Message) -> int | None:
        if world.now_ms >= 5_000:
            return HOP_MS
        return None if world.random.random() < 0.1 else world.random.randint(1, 500)

    members = [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4]]
    world = World(5, seed=3, epoch_blocks=2, link=rough, members=lambda epoch: members[min(epoch, 3)])
    seat = world.seats[victim]
    seat.crash_at_persist = crash_at_persist
    world.start()
    busy(world, 7, every_ms=900)
    restarted = False

    def revive() -> bool:
        nonlocal restarted
        if seat.engine is None and not restarted:
            restarted = True
            world.at(down_ms, lambda: world.boot(seat))
        return False

    world.run(until_ms=120_000, stop=revive)
    judge(world)
    assert all_ordered(world.seats), [one.finals[-1].height for one in world.seats]
    assert [one.timer for one in world.seats] == [None] * 5
    return world


@pytest.mark.parametrize(("victim", "down_ms"), [(1, 1), (4, 2_500)])
def test_a_crash_after_every_single_write_across_boundaries(victim: int, down_ms: int) -> None:
    writes = crash_run(victim, None, down_ms).seats[victim].persisted
    assert writes >= 12
    for crash_at_persist in range(1, writes + 1):
        crash_run(victim, crash_at_persist, down_ms)


@pytest.mark.parametrize("audience", [0, 1, 2])
def test_an_adversary_that_withholds_at_the_boundary_delays_it_and_no_more(audience: int) -> None:
    """Seat 0 keeps what it says of heights from the boundary on, in the old epoch, from all but a few."""

    def withholding(world: World, source: Seat, target: Seat, message: Message) -> int | None:
        block = block_of(world, message)
        late = block is not None and block.height >= 4 and block.header.epoch == 0
        return None if source.index == 0 and late and target.index > audience else HOP_MS

    world = World(4, epoch_blocks=4, link=withholding)
    world.start()
    honest = world.seats[1:]
    busy(world, 30, seats=honest)
    world.run(until_ms=60_000)
    judge(world, honest)
    assert all_ordered(honest)
    assert min(seat.finals[-1].height for seat in honest) > 8


def run_schedule(seed: int) -> None:
    """Random sets of 4 to 6 of seven seats, one villain that runs twice or is silent, loss, delay, crashes."""
    world = World(7, seed=seed)
    dice = world.random
    villain = dice.randrange(7)
    sets = [sorted(dice.sample(range(7), dice.randint(4, 6))) for _ in range(40)]
    world.epoch_blocks = dice.randint(1, 4)
    world.members = lambda epoch: sets[epoch % 40]
    world.validators = world.validators_in(0)
    world.genesis = genesis_of(world.validators)
    for seat in world.seats:
        seat.finals, seat.blocks = [BlockRef.of(world.genesis.header)], {world.genesis.id: world.genesis}
    loss, slowest_ms = dice.choice((0.0, 0.05, 0.15)), dice.choice((20, 200, 1_200))
    twin: Seat | None = None

    def weather(world: World, source: Seat, target: Seat, message: Message) -> int | None:
        if source.index == villain and twin is not None:
            view = message.vote.view if isinstance(message, Proposal) else message.view
            if (source is twin) != bool((view * 2_654_435_761 + seed) >> target.index & 1):
                return None
        if world.now_ms >= 15_000:
            return dice.randint(5, 15)
        return None if dice.random() < loss else dice.randint(1, slowest_ms)

    world.link = weather
    honest = [seat for seat in world.seats if seat.index != villain]
    if dice.random() < 0.7:
        twin = world.add_twin(world.seats[villain])
        world.start([world.seats[villain], twin])
    world.start(honest)
    for number in range(dice.randint(3, 12)):
        for seat in honest:
            world.at(dice.randint(0, 15_000), lambda s=seat, number=number: world.submit(bytes([number + 1]) * 32, [s]))
    for _ in range(dice.randint(0, 3)):
        seat, at_ms = dice.choice(honest), dice.randint(0, 15_000)
        world.at(at_ms, lambda seat=seat: world.crash(seat))
        world.at(at_ms + dice.randint(1, 4_000), lambda seat=seat: world.boot(seat) if seat.engine is None else None)
    world.run(until_ms=240_000)
    judge(world, honest)
    assert all_ordered(honest), [seat.finals[-1].height for seat in honest]
    assert [seat.timer for seat in honest] == [None] * 6, "somebody does not rest"
    for seat in honest:
        for found in seat.evidence:
            vote = Vote.decode(found.first)
            assert world.validators_in(vote.epoch).members[vote.signer].key == world.seats[villain].key


@pytest.mark.parametrize("block", range(4))
def test_sixty_schedules_with_changing_sets(block: int) -> None:
    for seed in range(block * 15, block * 15 + 15):
        try:
            run_schedule(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


# --- one engine, told by hand ---------------------------------------------------------------------------------------

KEYPAIRS = keypairs_of(4)
VALIDATORS = validators_of(KEYPAIRS)
NEXT = Validators(1, VALIDATORS.members)
GENESIS = genesis_of(VALIDATORS)
ROOT = BlockRef.of(GENESIS.header)
LAST = make_block(VALIDATORS, 1, ROOT)
"""The epoch has one height; this block ends it."""
LAST_REF = BlockRef.of(LAST.header)
CLOSING = make_block(VALIDATORS, 2, LAST_REF)


def ballot(signer: int, kind: VoteKind, view: int, block: bytes = ZERO_HASH, *, epoch: int = 0) -> Vote:
    return Vote.make(NETWORK, epoch, view, kind, block, signer, KEYPAIRS[signer])


def certificate(kind: VoteKind, view: int, block: bytes = ZERO_HASH, *, epoch: int = 0) -> Certificate:
    return Certificate.of({signer: ballot(signer, kind, view, block, epoch=epoch) for signer in (1, 2, 3)})


def said_by(signer: int) -> bytes:
    return KEYPAIRS[signer].public_key


class Desk:
    """An engine of epoch 0, or of epoch 1 after it, and what it said last."""

    def __init__(self, signer: int = 0, recovered: Recovered | None = None, last_height: int = 1) -> None:
        self.now_ms = 0
        self.engine = Simplex(
            network_id=NETWORK,
            validators=VALIDATORS,
            keypair=KEYPAIRS[signer],
            recovered=recovered or Recovered.at_genesis(GENESIS),
            view_timeout_ms=TIMEOUT_MS,
            view_timeout_cap_ms=CAP_MS,
            last_height=last_height,
        )
        self.effects: tuple[Effect, ...] = tuple(self.engine.start(0))

    def tell(self, *events: object) -> tuple[Effect, ...]:
        for event in events:
            self.effects = tuple(self.engine.step(event, self.now_ms))  # type: ignore[arg-type]
        return self.effects

    def certify(self, kind: VoteKind, view: int, block: bytes = ZERO_HASH, *, epoch: int = 0) -> tuple[Effect, ...]:
        return self.tell(CertificateArrived(said_by(1), certificate(kind, view, block, epoch=epoch)))

    def propose(self, block: Block, *, epoch: int = 0) -> tuple[Effect, ...]:
        view = block.header.view
        vote = ballot(VALIDATORS.leader(view), NOTARISE, view, block.id, epoch=epoch)
        return self.tell(ProposalArrived(said_by(vote.signer), Proposal(block, vote)))

    def all(self, kind: type[Effect]) -> list[Effect]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def succeed(self) -> tuple[Effect, ...]:
        self.engine = self.engine.succeed(NEXT, 2)
        self.effects = tuple(self.engine.start(self.now_ms))
        return self.effects


def test_the_last_block_ends_the_epoch_and_the_engine() -> None:
    desk = Desk()
    desk.propose(LAST)
    desk.certify(FINALISE, 1, LAST.id)
    assert desk.effects[-2:] == (Finalised(LAST_REF, certificate(FINALISE, 1, LAST.id)), EpochEnded(LAST_REF)) or (
        desk.all(Finalised) == [Finalised(LAST_REF, certificate(FINALISE, 1, LAST.id))]
        and desk.all(EpochEnded) == [EpochEnded(LAST_REF)]
    )
    assert desk.engine.has_ended
    for event in (
        WorkChanged(True),
        TimerFired(),
        Checked(1, LAST.id, True),
        Built(2, CLOSING),
        VoteArrived(said_by(2), ballot(2, NULLIFY, 2)),
        ProposalArrived(said_by(2), Proposal(CLOSING, ballot(2, NOTARISE, 2, CLOSING.id))),
    ):
        assert desk.tell(event) == (), "it signs nothing more"


def test_a_closing_block_that_becomes_final_ends_the_epoch_with_the_block_below_it() -> None:
    desk = Desk()
    desk.propose(LAST)
    desk.certify(NOTARISE, 1, LAST.id)
    desk.propose(CLOSING)
    assert desk.all(Check) == [Check(CLOSING)]
    desk.certify(FINALISE, 2, CLOSING.id)
    assert [effect.block.height for effect in desk.all(Notarised) if isinstance(effect, Notarised)] == [2]
    assert desk.all(Finalised) == [Finalised(LAST_REF, certificate(FINALISE, 2, CLOSING.id))]
    assert desk.all(EpochEnded) == [EpochEnded(LAST_REF, (CLOSING,))]
    assert desk.engine.final == LAST_REF
    desk.succeed()
    assert desk.engine.view == 2, "the epoch begins behind the boundary block, not behind what closed it"
    assert desk.engine.newest_certificates() == (certificate(FINALISE, 2, CLOSING.id),)


def test_a_leader_closes_only_after_a_grace_and_with_nothing_in_it() -> None:
    desk = Desk(signer=2)
    desk.tell(WorkChanged(True))
    desk.propose(LAST)
    desk.certify(NOTARISE, 1, LAST.id)
    assert desk.all(Build) == [], "the finalise votes are on their way"
    [timer] = [effect for effect in desk.all(SetTimer) if isinstance(effect, SetTimer)] or [SetTimer(None)]
    assert timer.at_ms is not None
    while not desk.all(Build):
        assert timer.at_ms is not None
        desk.now_ms = timer.at_ms
        desk.tell(TimerFired())
        timers = [effect for effect in desk.all(SetTimer) if isinstance(effect, SetTimer)]
        timer = timers[-1] if timers else timer
    assert desk.now_ms == TIMEOUT_MS // 4
    assert desk.all(Build) == [Build(2, LAST_REF, needed=True, closing=True)]


def test_a_closing_block_that_orders_something_gets_no_vote_and_its_leader_is_named() -> None:
    desk = Desk()
    desk.propose(LAST)
    desk.certify(NOTARISE, 1, LAST.id)
    desk.propose(make_block(VALIDATORS, 2, LAST_REF, (b"d" * 32,)))
    assert desk.all(Check) == []
    assert desk.all(Offence) == [Offence(said_by(2), "bad_header")]


def test_messages_of_the_next_epoch_wait_for_it() -> None:
    desk = Desk()
    first = make_block(NEXT, 2, LAST_REF)
    assert desk.propose(first, epoch=1) == ()
    assert desk.tell(VoteArrived(said_by(3), ballot(3, NOTARISE, 2, first.id, epoch=1))) == ()
    desk.propose(LAST)
    desk.certify(FINALISE, 1, LAST.id)
    assert desk.tell(VoteArrived(said_by(1), ballot(1, NOTARISE, 2, first.id, epoch=1))) == ()
    assert desk.engine.counters["early"] == 3
    desk.succeed()
    assert [effect.block for effect in desk.all(Notarised) if isinstance(effect, Notarised)] == [
        BlockRef.of(first.header)
    ]


def test_work_and_own_votes_of_the_next_epoch_go_over_to_its_engine() -> None:
    own = ballot(0, NULLIFY, 2, epoch=1)
    desk = Desk(recovered=Recovered(ROOT, votes=(own,)))
    desk.tell(WorkChanged(True))
    desk.propose(LAST)
    desk.certify(FINALISE, 1, LAST.id)
    desk.succeed()
    assert desk.engine.has_work
    first = make_block(NEXT, 2, LAST_REF)
    desk.propose(first, epoch=1)
    desk.tell(Checked(2, first.id, True))
    desk.certify(NOTARISE, 2, first.id, epoch=1)
    kinds = [
        effect.message.kind for effect in desk.effects if hasattr(effect, "message") and hasattr(effect.message, "kind")
    ]
    assert FINALISE not in kinds, "it has voted to nullify this view before the crash"


def test_a_peer_that_speaks_of_the_epoch_before_is_sent_what_ended_it() -> None:
    desk = Desk()
    desk.propose(LAST)
    desk.certify(FINALISE, 1, LAST.id)
    ended = certificate(FINALISE, 1, LAST.id)
    desk.succeed()
    desk.now_ms += TIMEOUT_MS
    assert desk.tell(VoteArrived(said_by(3), ballot(3, NULLIFY, 1))) == (Send(said_by(3), ended),)
    first = make_block(NEXT, 2, LAST_REF)
    desk.propose(first, epoch=1)
    desk.certify(NOTARISE, 2, first.id, epoch=1)
    desk.now_ms += TIMEOUT_MS
    desk.tell(VoteArrived(said_by(3), ballot(3, NULLIFY, 1)))
    assert desk.all(Send)[0] == Send(said_by(3), ended)
    desk.tell(CertificateWanted(said_by(2), 1, 5))
    assert desk.all(Send)[0] == Send(said_by(2), ended)


@pytest.mark.parametrize("with_certificate", [True, False])
def test_an_engine_that_starts_after_the_boundary_starts_in_the_new_epoch(with_certificate: bool) -> None:
    """From the disk: what ended the epoch before is remembered for others, the votes in it bind nobody any more."""
    ended = certificate(FINALISE, 2, CLOSING.id)
    old = [ballot(0, NULLIFY, 2), ballot(0, NOTARISE, 7, b"b" * 32)]
    recovered = Recovered(
        LAST_REF, votes=tuple(old), certificates=(ended,) if with_certificate else (), blocks=(CLOSING,)
    )
    engine = Simplex(
        network_id=NETWORK, validators=NEXT, keypair=KEYPAIRS[0], recovered=recovered, last_height=2,
        view_timeout_ms=TIMEOUT_MS, view_timeout_cap_ms=CAP_MS,
    )  # fmt: skip
    engine.start(0)
    assert engine.view == 2
    assert engine.newest_certificates() == ((ended,) if with_certificate else ())


def test_an_engine_whose_epoch_is_over_says_so_at_the_start() -> None:
    desk = Desk(recovered=Recovered(LAST_REF))
    assert desk.effects == (EpochEnded(LAST_REF),)
    desk = Desk(recovered=Recovered(ROOT, certificates=(certificate(FINALISE, 1, LAST.id),), blocks=(LAST,)))
    assert desk.all(EpochEnded) == [EpochEnded(LAST_REF)]


def test_a_boundary_block_that_came_by_another_way_ends_the_epoch() -> None:
    desk = Desk()
    desk.tell(FinalReached(LAST_REF))
    assert desk.all(EpochEnded) == [EpochEnded(LAST_REF)]
    assert desk.all(Finalised) == [], "the node knows"


def test_what_comes_early_is_bounded() -> None:
    early = EarlyMessages(2)
    block = make_block(NEXT, 2, LAST_REF)
    for view in range(2, 200):
        for kind in VoteKind:
            early.keep(VoteArrived(b"a" * 32, ballot(0, kind, view, b"b" * 32, epoch=1)))
        early.keep(CertificateArrived(b"a" * 32, certificate(NULLIFY, 500 - view, epoch=1)))
        early.keep(ProposalArrived(b"b" * 32, Proposal(block, ballot(2, NOTARISE, view, block.id, epoch=1))))
    assert not early.keep(VoteArrived(b"c" * 32, ballot(0, NULLIFY, 2, epoch=1))), "no third sender"
    assert len(early) == 14
    kept = early.take()
    assert len(early) == 0
    assert isinstance(kept[0], CertificateArrived)
    assert kept[0].certificate.view == 498, "the newest of its sort"
    assert sorted({event.vote.view for event in kept if isinstance(event, VoteArrived)}) == [196, 197, 198, 199]


def test_epochs_follow_each_other() -> None:
    desk = Desk()
    with pytest.raises(AssertionError, match="not final yet"):
        desk.engine.succeed(NEXT, 2)
    desk.tell(FinalReached(LAST_REF))
    with pytest.raises(AssertionError, match="follow each other"):
        desk.engine.succeed(Validators(2, VALIDATORS.members), 3)


def test_a_removed_validator_has_no_voice_in_the_epoch_after() -> None:
    """Its votes are of nobody, its proposals of somebody else's view, its old epoch's certificates of another epoch."""
    fewer = Validators(1, VALIDATORS.members[:3])
    desk = Desk()
    desk.tell(FinalReached(LAST_REF))
    desk.engine = desk.engine.succeed(fewer, 2)
    desk.engine.start(0)
    desk.tell(VoteArrived(said_by(3), ballot(3, NULLIFY, 2, epoch=1)))
    assert desk.all(Offence) == [Offence(said_by(3), "unknown_signer")]
    block = make_block(fewer, 2, LAST_REF)
    vote = Vote.make(NETWORK, 1, 2, NOTARISE, block.id, 2, KEYPAIRS[3])
    desk.tell(ProposalArrived(said_by(3), Proposal(block, vote)))
    assert desk.all(Offence) == [Offence(said_by(3), "bad_signature")]
    desk.tell(CertificateArrived(said_by(3), certificate(NULLIFY, 2, epoch=1)))
    assert desk.all(Offence) == [Offence(said_by(3), "unknown_signer")]
    stale = certificate(FINALISE, 2, CLOSING.id)
    assert desk.tell(CertificateArrived(said_by(3), stale)) == (), "the old epoch is over"
    assert desk.engine.view == 2
