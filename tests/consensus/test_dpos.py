"""Delegates: what a block must show, how a secret opens, who is refused, and what a delegate that lies can do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from p2pledger.consensus.dpos import DposProof, DposRule, commitment_to
from p2pledger.consensus.engine import BlockRef, Build, Evidence, TimerFired
from p2pledger.consensus.rule import Turn
from p2pledger.consensus.standing import DposStanding
from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.evidence import check_evidence
from tests.consensus.chain_world import (
    CLOCK,
    NETWORK,
    ChainWorld,
    DposToy,
    Message,
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
RULE = DposRule(CLOCK, NETWORK)
SECRET = b"s" * 32
PROMISED = commitment_to(b"next" * 8)


def standing(due: bytes | None = None) -> DposStanding:
    """Slot s belongs to key s modulo 4; ``due`` is what key 1 has to open."""
    return DposStanding(
        tuple(keypair.public_key for keypair in KEYS),
        lambda slot: KEYS[slot % 4].public_key,
        lambda key, slot: due if key == KEYS[1].public_key else None,
    )


def header_of(proof: DposProof | bytes, *, keypair: int = 1, slot: int = 1) -> Any:
    data = proof if isinstance(proof, bytes) else proof.encode()
    return make_block(START, KEYS[keypair], data, slot=slot).header


@pytest.mark.parametrize(
    ("reason", "proof", "keypair", "slot", "due"),
    [
        (1, DposProof(1, PROMISED), 1, 1, None),
        (1, DposProof(2, PROMISED, SECRET), 1, 5, commitment_to(SECRET)),
        ("wrong_order", DposProof(1, PROMISED), 2, 1, None),
        ("reveal_missing", DposProof(1, PROMISED), 1, 1, commitment_to(SECRET)),
        ("bad_reveal", DposProof(1, PROMISED, b"x" * 32), 1, 1, commitment_to(SECRET)),
        ("reveal_not_due", DposProof(1, PROMISED, SECRET), 1, 1, None),
    ],
)
def test_each_fault_has_its_own_reason(
    reason: str | int, proof: DposProof, keypair: int, slot: int, due: bytes | None
) -> None:
    header = header_of(proof, keypair=keypair, slot=slot)
    assert RULE.form(header) is None
    assert RULE.judge(header, START, standing(due)) == reason


def test_a_stranger_is_told_from_a_delegate_in_the_wrong_slot() -> None:
    stranger = keypairs_of(6)
    outsider = next(keypair for keypair in stranger if keypair not in KEYS)
    header = make_block(START, outsider, DposProof(1, PROMISED).encode(), slot=1).header
    assert RULE.judge(header, START, standing()) == "wrong_proposer"


@pytest.mark.parametrize(
    ("reason", "proof"),
    [
        ("malformed_proof", b""),
        ("malformed_proof", encode((1, PROMISED))),
        ("malformed_proof", encode((1, PROMISED[:31], b""))),
        ("malformed_proof", encode((1, PROMISED, b"x"))),
        ("malformed_proof", encode((1, PROMISED, b"", 0))),
        ("bad_commitment", encode((1, b"", b""))),
        ("bad_confirm_range", encode((0, PROMISED, b""))),
        ("bad_confirm_range", encode((3, PROMISED, b""))),
    ],
)
def test_a_proof_of_bad_form_is_refused_before_anything_is_asked(reason: str, proof: bytes) -> None:
    assert RULE.form(header_of(proof)) == reason
    desk = Desk(DposToy(KEYS))
    assert offences(desk.feed(make_block(START, KEYS[1], proof, slot=1))) == [reason]
    assert desk.engine.size == 1


def test_proofs_are_written_in_one_way() -> None:
    proof = DposProof(7, PROMISED, SECRET)
    assert DposProof.decode(proof.encode()) == proof
    assert proof.encode() == encode((7, PROMISED, SECRET))
    with pytest.raises(PeerFault):
        DposProof.decode(proof.encode() + b"\x00")


def test_a_secret_is_opened_again_by_whoever_has_the_key_and_by_nobody_else() -> None:
    """Nothing is kept for it: the key and the slot are enough, so it survives the loss of the disk."""
    committed = DposProof.decode(RULE.prove(standing(), Turn(1, 0), START, 1, KEYS[1])).commitment
    later = RULE.prove(standing(committed), Turn(9, 0), START, 2, KEYS[1])
    assert RULE.judge(header_of(later, slot=9), START, standing(committed)) == 1
    other_network = DposRule(CLOCK, b"othernet").prove(standing(committed), Turn(9, 0), START, 2, KEYS[1])
    assert DposProof.decode(other_network).reveal == b""
    assert RULE.judge(header_of(other_network, slot=9), START, standing(committed)) == "reveal_missing"
    commitments = {
        DposProof.decode(RULE.prove(standing(), Turn(slot, 0), START, 1, keypair)).commitment
        for slot in range(20)
        for keypair in KEYS
    }
    assert len(commitments) == 80


def test_a_turn_is_the_next_own_slot() -> None:
    for slot in range(9):
        turn = RULE.turn(standing(), START, KEYS[2].public_key, slot, 0)
        assert turn is not None
        assert (turn.slot, turn.at_ms) == (slot + (2 - slot) % 4, CLOCK.start_ms(turn.slot))
    assert RULE.turn(standing(), START, b"stranger", 0, 0) is None


# --- worlds ---------------------------------------------------------------------------------------------------------


def test_all_take_their_turns_and_blocks_are_final_within_two_rounds() -> None:
    world = ChainWorld("dpos", 7, seed=1)
    world.start()
    world.run(80_000)
    assert disagreement(world.seats) is None
    for seat in world.seats:
        assert seat.head.height - seat.finals[-1].height <= 12
        assert not seat.offences
        assert broken_promise(world.toy.rule, seat.key, seat.disk) is None
    made = [sum(block.header.proposer == seat.key for block in world.chain(world.seats[0])) for seat in world.seats]
    assert max(made) - min(made) <= 2, made
    rounds = [
        [block.header.proposer for block in world.chain(world.seats[0])[::-1]][at : at + 7] for at in (21, 28, 35)
    ]
    assert len({tuple(order) for order in rounds}) > 1, "the order is another one in each round"


def test_a_dead_delegate_costs_its_slots_and_nothing_else() -> None:
    world = ChainWorld("dpos", 4, seed=2)
    world.start(world.seats[1:])
    world.run(60_000)
    alive = world.seats[1:]
    assert disagreement(alive) is None
    assert min(seat.finals[-1].height for seat in alive) > 30


def test_without_a_quorum_nothing_gets_final_and_nothing_is_lost() -> None:
    world = ChainWorld("dpos", 4, seed=2)
    world.start(world.seats[2:])
    world.run(60_000)
    assert [seat.finals[-1].height for seat in world.seats[2:]] == [0, 0]
    world.start(world.seats[:2])
    world.greet()
    world.run(60_000)
    assert disagreement(world.seats) is None
    assert min(seat.finals[-1].height for seat in world.seats) > 40


def test_withholding_a_secret_means_leaving_the_slot_and_chooses_between_two_orders() -> None:
    """Whether it opens its secret or forgoes its block: the next round has one of two orders, known to it alone."""
    toy = DposToy(KEYS)
    parent, slot = START, 0
    after: Any = toy
    for slot in range(11):
        key = next(keypair for keypair in KEYS if keypair.public_key == after.producer(slot))
        proof = RULE.prove(after.standing(), Turn(slot, 0), parent, parent.height + 1, key)
        block = make_block(parent, key, proof, slot=slot, time_ms=CLOCK.start_ms(slot) + 1)
        assert RULE.judge(block.header, parent, after.standing()) == 1
        after, parent = after.after(block), BlockRef.of(block.header)
    last = next(keypair for keypair in KEYS if keypair.public_key == after.producer(11))
    standing_now = after.standing()
    due = standing_now.reveal_due(last.public_key, 11)
    assert due is not None
    opened = make_block(parent, last, RULE.prove(standing_now, Turn(11, 0), parent, 1, last), slot=11)
    shown = DposProof.decode(opened.header.proof)
    assert commitment_to(shown.reveal) == due
    hidden = make_block(parent, last, replace(shown, reveal=b"").encode(), slot=11)
    assert RULE.judge(hidden.header, parent, standing_now) == "reveal_missing"
    assert after.after(opened).order(3) != after.order(3), "with its secret, or without: one bit"


def split_twins(world: ChainWorld, source: Seat, target: Seat, message: Message) -> int | None:
    """The twin's half of the world and the other's do not hear of each other's copy, until it clears."""
    if world.now_ms < 30_000 and source.index == 0:
        is_twin = source is not world.seats[0]
        return 20 if is_twin == (target.index % 2 == 0) else None
    return 20


def test_an_equivocator_is_found_out_and_changes_nothing() -> None:
    world = ChainWorld("dpos", 4, seed=4, link=split_twins)
    twin = world.add_twin(world.seats[0])
    world.start(world.seats[1:4])
    world.start([world.seats[0], twin])
    # Two copies that know different batches make different blocks for one slot.
    world.submit(b"t" * 32, [twin])
    world.run(60_000)
    honest = world.seats[1:4]
    assert disagreement(honest) is None
    found = [evidence for seat in honest for evidence in seat.evidence]
    assert found
    for evidence in found:
        assert isinstance(evidence, Evidence)
        culprit = check_evidence(evidence.first, evidence.second, NETWORK, lambda epoch: None)
        assert not isinstance(culprit, str)
        assert culprit.key == world.seats[0].key
    assert min(seat.finals[-1].height for seat in honest) > 20


def test_more_than_a_third_of_liars_end_with_the_alarm_and_not_silently() -> None:
    """Two of four run twice, each copy in one half of a parted world: both halves get final blocks."""

    def link(world: ChainWorld, source: Seat, target: Seat, message: Message) -> int | None:
        def side(seat: Seat) -> bool:
            return seat.index == 3 or (seat.index < 2 and world.seats.index(seat) >= 4)

        return 20 if world.now_ms > 40_000 or side(source) == side(target) else None

    world = ChainWorld("dpos", 4, seed=6, link=link)
    twins = [world.add_twin(seat) for seat in world.seats[:2]]
    world.start()
    world.run(39_000)
    assert min(seat.finals[-1].height for seat in (world.seats[2], world.seats[3])) > 5
    for twin in twins:
        world.crash(twin)
    world.run(3_000)
    world.greet()
    world.run(10_000)
    assert disagreement(world.seats[2:4]) is not None
    assert all(seat.contradictions for seat in world.seats[2:4]), "both sides see that the other had a quorum"


@pytest.mark.parametrize("crash_at", range(1, 24, 2))
def test_a_crash_after_any_write_breaks_no_promise(crash_at: int) -> None:
    world = ChainWorld("dpos", 4, seed=crash_at)
    victim = world.seats[crash_at % 4]
    victim.crash_at_persist = crash_at
    world.start()
    for pause_ms in range(0, 40_000, 300):
        world.at(pause_ms, lambda: world.boot(victim) if victim.engine is None else None)
    world.run(45_000)
    assert broken_promise(world.toy.rule, victim.key, victim.disk) is None
    assert disagreement(world.seats) is None
    assert not any(seat.evidence or seat.offences for seat in world.seats)
    assert victim.finals[-1].height > 20


def test_the_check_can_fail_when_the_disk_forgets() -> None:
    def run_until_caught() -> None:
        for seed in range(40):
            world = ChainWorld("dpos", 4, seed=seed, link=lambda world, source, target, message: 400)
            world.start()
            world.run(5_000 + seed * 200)
            victim = world.seats[seed % 4]
            before = list(victim.disk)
            world.crash(victim)
            victim.disk.clear()
            world.boot(victim)
            world.run(6_000)
            problem = broken_promise(world.toy.rule, victim.key, [*before, *victim.disk])
            assert problem is None, "contradiction"

    with pytest.raises(AssertionError, match="contradiction"):
        run_until_caught()


def test_no_block_is_asked_for_twice_in_a_slot() -> None:
    desk = Desk(DposToy(KEYS), keypair=KEYS[0])
    builds: list[Build] = kinds(desk.effects, Build)
    for _ in range(20):
        desk.now_ms += 100
        builds += kinds(desk.step(TimerFired()), Build)
    assert len({build.view for build in builds}) == len(builds)
