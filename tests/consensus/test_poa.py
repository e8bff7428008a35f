"""Authorities in turn: whose block counts, who steps in, what rests, and what a liar can do."""

from __future__ import annotations

from typing import Any

import pytest

from p2pledger.consensus.engine import BlockRef, Evidence, HeadMoved
from p2pledger.consensus.poa import PoaRule, poa_proof
from p2pledger.consensus.promise import Promise
from p2pledger.consensus.standing import PoaStanding
from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.evidence import check_evidence
from p2pledger.primitives.validators import Validator, Validators
from tests.consensus.chain_world import (
    CLOCK,
    NETWORK,
    SLOT_MS,
    ChainWorld,
    Message,
    PoaToy,
    Seat,
    broken_promise,
    disagreement,
    genesis_of,
    keypairs_of,
    make_block,
)
from tests.consensus.test_chain import Desk, kinds, offences

KEYS = keypairs_of(4)
GENESIS = genesis_of(KEYS)
START = BlockRef.of(GENESIS.header)
ALL = Validators.of(0, [Validator(keypair.public_key) for keypair in KEYS])
RULE = PoaRule(CLOCK, ALL)
STANDING = PoaStanding(ALL)


def judged(keypair: int, slot: int, confirm_from: int, *, late_ms: int = 0, parent: BlockRef = START) -> int | str:
    block = make_block(
        parent, KEYS[keypair], poa_proof(confirm_from), slot=slot, time_ms=CLOCK.start_ms(slot) + late_ms
    )
    return RULE.form(block.header) or RULE.judge(block.header, parent, STANDING)


def test_a_block_in_turn_weighs_two_and_confirms() -> None:
    assert judged(1, 1, 1) == 2
    assert judged(1, 5, 2) == 2, "it need not confirm"


def test_out_of_turn_each_has_its_own_pause_and_confirms_nothing() -> None:
    """In slot 1 authority 2 comes after half the slot, 3 an eighth later, 0 another one."""
    for keypair, pause_ms in ((2, 500), (3, 625), (0, 750)):
        assert judged(keypair, 1, 2, late_ms=pause_ms - 1) == "wrong_order"
        assert judged(keypair, 1, 2, late_ms=pause_ms) == 1
        assert judged(keypair, 1, 1, late_ms=pause_ms) == "bad_confirm_range"


def test_nobody_goes_on_alone_out_of_turn() -> None:
    parent = BlockRef.of(make_block(START, KEYS[2], poa_proof(2), slot=1, time_ms=CLOCK.start_ms(1) + 500).header)
    assert judged(2, 3, 3, late_ms=900, parent=parent) == "twice_out_of_turn"
    assert judged(2, 2, 3, parent=parent) == 2, "in turn it may"
    turn = RULE.turn(STANDING, parent, KEYS[2].public_key, 3, 0)
    assert turn is not None
    assert turn.slot == 6


@pytest.mark.parametrize(
    ("reason", "proof"),
    [
        ("malformed_proof", b""),
        ("malformed_proof", encode((1, 2))),
        ("malformed_proof", encode((b"1",))),
        ("bad_confirm_range", poa_proof(0)),
        ("bad_confirm_range", poa_proof(3)),
    ],
)
def test_a_proof_of_bad_form_is_refused(reason: str, proof: bytes) -> None:
    desk = Desk(PoaToy(KEYS))
    assert offences(desk.feed(make_block(START, KEYS[1], proof, slot=1))) == [reason]
    assert desk.engine.size == 1


def test_a_removed_authority_and_a_stranger_are_refused_each_by_name() -> None:
    desk = Desk(PoaToy(KEYS))
    gone = KEYS[3]
    first = make_block(START, KEYS[1], poa_proof(1), slot=1, digests=(gone.public_key,))
    ref = BlockRef.of(first.header)
    assert not offences(desk.feed(first))
    removed = make_block(ref, gone, poa_proof(3), slot=3)
    [stranger] = [keypair for keypair in keypairs_of(5) if keypair not in KEYS]
    outsider = make_block(ref, stranger, poa_proof(3), slot=3)
    assert offences(desk.feed(removed, outsider)) == ["removed_authority", "wrong_proposer"]
    early = make_block(ref, KEYS[2], poa_proof(3), slot=3)
    assert offences(desk.feed(early)) == ["wrong_order"], "slot 3 is the first one's of the three that are left"
    assert offences(desk.feed(make_block(ref, KEYS[0], poa_proof(3), slot=3))) == []
    assert RULE.turn(PoaStanding(Validators.of(0, ALL.members[:2])), START, gone.public_key, 0, 0) is None


# --- worlds ---------------------------------------------------------------------------------------------------------


def test_one_authority_is_a_central_registrar_final_at_once_and_at_rest_without_work() -> None:
    world = ChainWorld("poa", 1)
    world.start()
    world.run(5_000)
    [seat] = world.seats
    assert seat.head.height == 0, "nothing to do, nothing done"
    assert seat.timer is None
    world.submit(b"1" * 32)
    world.run(5_000)
    assert [ref.height for ref in seat.finals] == [0, 1, 2], "the trade, and the empty block that carries its roots"
    assert seat.timer is None
    assert (seat.engine is not None and seat.engine.has_work) is False


def test_four_make_it_final_and_rest_again() -> None:
    world = ChainWorld("poa", 4)
    world.start()
    for number in range(4):
        world.at(number * 700, lambda number=number: world.submit(bytes([number + 1]) * 32))
    world.run(40_000)
    assert disagreement(world.seats) is None
    for seat in world.seats:
        ordered = max(block.height for block in world.chain(seat) if block.digests)
        assert seat.finals[-1].height > ordered
        assert seat.timer is None
        assert not seat.offences
    assert world.seats[0].head.height < 15


def test_the_dead_are_stood_in_for_within_their_slot() -> None:
    world = ChainWorld("poa", 4)
    world.start(world.seats[1:])
    for number in range(30):
        world.at(number * 1_000, lambda number=number: world.submit(bytes([number + 1]) * 32))
    world.run(30_000)
    alive = world.seats[1:]
    chain = world.chain(alive[0])
    slots = {block.header.view for block in chain}
    assert slots >= set(range(1, 29)), "no slot is empty"
    stood_in = [block.header for block in chain if ALL.leader(block.header.view) == 0]
    assert stood_in
    assert {header.proposer for header in stood_in} == {KEYS[1].public_key}, "the nearest one"
    assert all(RULE.confirm_from(header) == header.height + 1 for header in stood_in)
    assert disagreement(alive) is None
    assert min(seat.finals[-1].height for seat in alive) > 15


def test_out_of_turn_blocks_alone_finalise_nothing() -> None:
    """Only 2 of 4 are up: they fill all slots, in turn and out of turn, and none of it becomes final."""
    world = ChainWorld("poa", 4)
    world.start(world.seats[:2])
    world.submit(b"1" * 32)
    world.run(40_000)
    assert [seat.finals[-1].height for seat in world.seats[:2]] == [0, 0]
    assert min(seat.head.height for seat in world.seats[:2]) > 10
    world.start(world.seats[2:])
    world.submit(b"1" * 32)
    world.greet()
    world.run(20_000)
    assert disagreement(world.seats) is None
    assert min(seat.finals[-1].height for seat in world.seats) > 10


def test_in_turn_beats_out_of_turn() -> None:
    desk = Desk(PoaToy(KEYS))
    late = make_block(START, KEYS[2], poa_proof(2), slot=1, time_ms=CLOCK.start_ms(1) + 500)
    in_turn = make_block(START, KEYS[1], poa_proof(1), slot=1)
    assert not offences(desk.feed(late, in_turn))
    moved: list[Any] = kinds(desk.effects, HeadMoved)
    assert [move.head.id for move in moved] == [late.id, in_turn.id]
    assert moved[1].ancestor == GENESIS.id


def test_a_justified_block_comes_before_weight() -> None:
    """Three that have confirmed a block outweigh any number of blocks that confirm nothing."""
    desk = Desk(PoaToy(KEYS))
    parent, heavy = START, []
    for slot in (5, 6, 7, 8, 9, 10):
        heavy.append(make_block(parent, KEYS[slot % 4], poa_proof(parent.height + 2), slot=slot))
        parent = BlockRef.of(heavy[-1].header)
    desk.feed(*heavy)
    parent, just = START, []
    for slot in (1, 2, 3):
        just.append(make_block(parent, KEYS[slot], poa_proof(1), slot=slot))
        parent = BlockRef.of(just[-1].header)
    desk.feed(*just)
    assert desk.engine.head.id == just[-1].id
    assert desk.engine.head.weight < 12
    assert "justified up to height 1" in kinds(desk.effects, HeadMoved)[-1].reason


def test_an_equivocating_authority_is_convicted_by_two_headers() -> None:
    desk = Desk(PoaToy(KEYS))
    one = make_block(START, KEYS[1], poa_proof(1), slot=1)
    other = make_block(START, KEYS[1], poa_proof(1), slot=1, digests=(b"d" * 32,))
    desk.feed(one, other)
    [evidence] = kinds(desk.effects, Evidence)
    culprit = check_evidence(evidence.first, evidence.second, NETWORK, lambda epoch: None)
    assert not isinstance(culprit, str)
    assert culprit.key == KEYS[1].public_key


def test_ranges_that_overlap_on_two_forks_convict_too_and_disjoint_ones_do_not() -> None:
    desk = Desk(PoaToy(KEYS))
    left = make_block(START, KEYS[1], poa_proof(1), slot=1)
    base = make_block(START, KEYS[2], poa_proof(1), slot=2)
    honest = make_block(BlockRef.of(base.header), KEYS[1], poa_proof(2), slot=5)
    assert not offences(desk.feed(left, base, honest))
    assert not kinds(desk.effects, Evidence)
    lying = make_block(BlockRef.of(base.header), KEYS[1], poa_proof(1), slot=9)
    desk.feed(lying)
    [evidence] = kinds(desk.effects, Evidence)
    culprit = check_evidence(evidence.first, evidence.second, NETWORK, lambda epoch: None)
    assert not isinstance(culprit, str)
    assert culprit.key == KEYS[1].public_key


def slow(world: ChainWorld, source: Seat, target: Seat, message: Message) -> int | None:
    return None if world.random.random() < 0.1 else world.random.randint(1, 2 * SLOT_MS)


@pytest.mark.parametrize("seed", range(6))
def test_slow_links_make_forks_and_no_damage(seed: int) -> None:
    world = ChainWorld("poa", 4, seed=seed, link=slow)
    world.start()
    for number in range(20):
        world.at(number * 900, lambda number=number: world.submit(bytes([number + 1]) * 32))
    world.run(60_000)
    assert disagreement(world.seats) is None
    assert not any(seat.offences or seat.evidence for seat in world.seats)
    assert all(broken_promise(world.toy.rule, seat.key, seat.disk) is None for seat in world.seats)
    assert min(seat.finals[-1].height for seat in world.seats) > 3


@pytest.mark.parametrize("crash_at", range(1, 20, 3))
def test_a_crash_after_any_write_breaks_no_promise(crash_at: int) -> None:
    world = ChainWorld("poa", 4, seed=crash_at, link=slow)
    victim = world.seats[crash_at % 4]
    victim.crash_at_persist = crash_at
    world.start()
    for number in range(20):
        world.at(number * 1_100, lambda number=number: world.submit(bytes([number + 1]) * 32))
    for pause_ms in range(0, 40_000, 300):
        world.at(pause_ms, lambda: world.boot(victim) if victim.engine is None else None)
    world.run(45_000)
    assert broken_promise(world.toy.rule, victim.key, victim.disk) is None
    assert disagreement(world.seats) is None
    assert not any(seat.evidence or seat.offences for seat in world.seats)


def test_clocks_apart_by_less_than_the_drift_only_cost_time() -> None:
    world = ChainWorld("poa", 4, seed=1)
    for seat, skew_ms in zip(world.seats, (-600, 0, 400, 900), strict=True):
        seat.skew_ms = skew_ms
    world.start()
    for number in range(20):
        world.at(number * 900, lambda number=number: world.submit(bytes([number + 1]) * 32))
    world.run(60_000)
    assert disagreement(world.seats) is None
    assert not any(seat.offences for seat in world.seats)
    assert min(seat.finals[-1].height for seat in world.seats) > 5


# --- promises -------------------------------------------------------------------------------------------------------


def test_promises_add_up_in_any_order() -> None:
    first = Promise(3, 4, 0, bytes(32), b"a" * 32)
    second = Promise(9, 4, 2, b"l" * 32, b"b" * 32)
    assert Promise.sum([]) == Promise()
    assert Promise.sum([first, second]) == Promise.sum([second, first]) == second
    assert Promise.decode(second.encode()) == second
    with pytest.raises(PeerFault):
        Promise.decode(second.encode()[:-1])
