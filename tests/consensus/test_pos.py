"""Coin-age: what is judged, whose turn it is, and what partitions, hoarders and old keys can and cannot do."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from p2pledger.consensus.engine import BlockRef
from p2pledger.consensus.pos import PosRule, coin_age, kernel, kernel_wins, next_modifier
from p2pledger.consensus.standing import PosStanding, Stake
from p2pledger.primitives.hashing import ZERO_HASH
from tests.consensus.chain_world import (
    AGE_CAP,
    CLOCK,
    DEPTH,
    MODIFIER_DEPTH,
    ChainWorld,
    PosToy,
    broken_promise,
    disagreement,
    genesis_of,
    keypairs_of,
    make_block,
)
from tests.consensus.test_chain import Desk, offences
from tests.consensus.test_pow import parted

KEYS = keypairs_of(4)
GENESIS = genesis_of(KEYS)
START = BlockRef.of(GENESIS.header)
RULE = PosRule(CLOCK, MODIFIER_DEPTH)
ROW = sha256(KEYS[0].public_key).digest()
EVERYTHING = 2**256 - 1


def standing(base_target: int, **rows: Stake) -> PosStanding:
    table = {sha256(name.encode()).digest(): stake for name, stake in rows.items()}
    return PosStanding(
        base_target,
        ZERO_HASH,
        AGE_CAP,
        table.get,
        lambda key: tuple(sorted((name, stake) for name, stake in table.items() if stake.key == key)),
    )


def test_coin_age_is_amount_times_heights_and_capped_in_heights() -> None:
    assert coin_age(Stake(7, 10, b""), 10, 100) == 0
    assert coin_age(Stake(7, 10, b""), 13, 100) == 21
    assert coin_age(Stake(7, 10, b""), 1_000_000, 100) == 700
    assert coin_age(Stake(7, 10, b""), 5, 100) == 0, "never negative"
    assert coin_age(Stake(2**64 - 1, 0, b""), 2**63, 1_000_000) == (2**64 - 1) * 1_000_000, "exact beyond 64 bits"


def test_a_lot_wins_in_proportion_and_a_target_is_capped() -> None:
    lot = kernel(ZERO_HASH, ROW, 5)
    value = int.from_bytes(lot, "big")
    assert kernel_wins(lot, value // 10 + 1, 10)
    assert not kernel_wins(lot, value // 10 - 1, 10)
    assert kernel_wins(b"\xff" * 32, EVERYTHING, 2**128), "2^256 - 1 meets the cap"
    assert not kernel_wins(b"\xff" * 32, 2**200, 5)


def test_nothing_that_the_producer_chooses_changes_its_luck() -> None:
    """The kernel hashes the modifier, the row and the slot: content and time within the slot are free, and no lot."""
    table = standing(EVERYTHING // 1_000, a=Stake(100, 0, KEYS[0].public_key))
    name = sha256(b"a").digest()
    verdicts = set()
    for at in range(20):
        time_ms = CLOCK.start_ms(9) + at
        header = make_block(START, KEYS[0], name, slot=9, time_ms=time_ms, digests=(bytes([at]) * 32,)).header
        verdicts.add(RULE.judge(header, START, table))
    assert len(verdicts) == 1


@pytest.mark.parametrize(
    ("reason", "row", "base_target"),
    [
        ("unknown_stake", b"b", EVERYTHING),
        ("wrong_proposer", b"stranger", EVERYTHING),
        ("no_coin_age", b"young", EVERYTHING),
        ("bad_stake_proof", b"a", 1),
        (100, b"a", EVERYTHING),
    ],
)
def test_a_wrong_stake_has_its_own_reason(reason: str | int, row: bytes, base_target: int) -> None:
    table = standing(
        base_target,
        a=Stake(100, 0, KEYS[0].public_key),
        young=Stake(100, 1, KEYS[0].public_key),
        stranger=Stake(100, 0, KEYS[1].public_key),
    )
    header = make_block(START, KEYS[0], sha256(row).digest(), slot=3).header
    assert RULE.form(header) is None
    assert RULE.judge(header, START, table) == reason
    assert RULE.form(make_block(START, KEYS[0], b"short", slot=3).header) == "malformed_proof"


def test_refused_by_the_engine_with_the_same_reason_and_not_stored() -> None:
    toy = PosToy(KEYS, [100] * 4)
    desk = Desk(toy)
    bad = make_block(START, KEYS[0], sha256(b"nobody").digest(), slot=3)
    early = make_block(START, KEYS[0], ROW, slot=3, view=4)
    assert offences(desk.feed(bad, early)) == ["unknown_stake", "slot_mismatch"]
    assert desk.engine.size == 1


def test_a_turn_is_a_slot_that_really_wins_with_the_oldest_row() -> None:
    table = standing(EVERYTHING // 1_000, a=Stake(30, 0, KEYS[0].public_key), b=Stake(60, 0, KEYS[0].public_key))
    turn = RULE.turn(table, START, KEYS[0].public_key, 0, 0)
    assert turn is not None
    header = make_block(START, KEYS[0], turn.proof, slot=turn.slot or 1).header
    assert turn.slot == 0 or isinstance(RULE.judge(header, START, table), int)
    assert RULE.turn(standing(0, a=Stake(30, 0, KEYS[0].public_key)), START, KEYS[0].public_key, 0, 0) is None
    both = standing(EVERYTHING, a=Stake(30, 0, KEYS[0].public_key), b=Stake(60, 0, KEYS[0].public_key))
    best = RULE.turn(both, START, KEYS[0].public_key, 7, 0)
    assert best is not None
    assert (best.slot, best.proof) == (7, sha256(b"b").digest())


def test_winning_starts_the_row_again_and_so_the_rich_wait_too() -> None:
    """Over a long run blocks are shared by stake, and no row wins twice in a row without coin-age."""
    world = ChainWorld("pos", 4, seed=3)
    world.start()
    world.run(300_000)
    chain = world.chain(world.seats[0])
    made = [sum(block.header.proposer == seat.key for block in chain) for seat in world.seats]
    assert len(chain) > 60
    assert max(made) < 2 * min(made), made
    assert disagreement(world.seats) is None
    for seat in world.seats:
        assert broken_promise(world.toy.rule, seat.key, seat.disk) is None
        assert not seat.offences


@pytest.mark.parametrize("seed", range(4))
def test_a_short_partition_heals_and_the_chain_with_more_coin_age_wins(seed: int) -> None:
    world = ChainWorld("pos", 4, seed=seed, link=parted(9_000, 1))
    world.start()
    world.run(8_000)
    heavy = max(world.seats, key=lambda seat: seat.head.weight).head
    world.run(2_000)
    world.greet()
    world.run(40_000)
    assert disagreement(world.seats) is None
    assert not any(seat.contradictions or seat.offences for seat in world.seats)
    assert heavy.id in {block.id for block in world.chain(world.seats[0])}
    assert min(seat.finals[-1].height for seat in world.seats) > DEPTH


@pytest.mark.parametrize("before_ms", [0, 30_000])
def test_a_partition_beyond_the_finality_depth_ends_with_the_alarm(before_ms: int) -> None:
    """Also where rows of the other half have made blocks before, and where they never have."""

    def link(world: ChainWorld, source: Any, target: Any, message: Any) -> int | None:
        parted_now = before_ms <= world.now_ms < before_ms + 60_000
        return None if parted_now and (source.index < 2) != (target.index < 2) else 20

    world = ChainWorld("pos", 4, seed=5, link=link)
    world.start()
    world.run(before_ms + 60_000)
    world.greet()
    world.run(10_000)
    assert disagreement(world.seats) is not None
    assert {seat.index // 2 for seat in world.seats if seat.contradictions} in ({0}, {1})


def long_range_chain(world: ChainWorld, length: int) -> list[Any]:
    """From the genesis, by one key alone: slots are free to choose, and it takes every one that wins."""
    toy: Any = world.toy
    villain, parent, blocks = world.keypairs[0], BlockRef.of(world.genesis.header), []
    slot = 0
    while len(blocks) < length and CLOCK.start_ms(slot + 1) < world.now_ms:
        turn = RULE.turn(toy.standing(), parent, villain.public_key, slot + 1, 0)
        if turn is None:
            slot += 10
            continue
        slot = turn.slot
        block = make_block(parent, villain, turn.proof, slot=slot)
        toy, parent = toy.after(block), BlockRef.of(block.header)
        blocks.append(block)
    return blocks


def test_a_long_range_attacker_is_neither_followed_nor_believed() -> None:
    """Its branch is valid in every lot, forks at the genesis and is longer than finality is deep: a quarter of the
    stake gathered less coin-age than the others, so it is not even an alarm."""
    world = ChainWorld("pos", 4, seed=2)
    world.start()
    world.run(120_000)
    victim = world.seats[1]
    head = victim.head
    branch = long_range_chain(world, 500)
    assert len(branch) > DEPTH
    world.deliver(world.seats[0], victim, tuple(branch[:20]))
    world.deliver(world.seats[0], victim, tuple(branch[20:]))
    assert victim.head == head
    assert not victim.contradictions
    assert victim.engine is not None
    assert victim.engine.counters["lighter_rival"] > 0


def test_a_rival_with_forged_lots_weighs_nothing() -> None:
    world = ChainWorld("pos", 4, seed=2)
    assert isinstance(world.toy, PosToy)
    world.toy.base_target //= 10
    world.start()
    world.run(300_000)
    victim = world.seats[1]
    parent, blocks = BlockRef.of(world.genesis.header), []
    for slot in range(1, 120):
        keypair = world.keypairs[slot % 4]
        blocks.append(make_block(parent, keypair, sha256(keypair.public_key).digest(), slot=slot))
        parent = BlockRef.of(blocks[-1].header)
    assert parent.height > victim.head.height, "with the keys of all, but without their luck"
    world.deliver(world.seats[0], victim, tuple(blocks))
    assert not victim.contradictions


def test_modifiers_chain_the_lots() -> None:
    first = next_modifier(ZERO_HASH, kernel(ZERO_HASH, ROW, 1))
    assert first != next_modifier(ZERO_HASH, kernel(ZERO_HASH, ROW, 2))
    assert len(first) == 32


@pytest.mark.parametrize("crash_at", range(1, 12, 2))
def test_a_producer_that_crashes_after_any_write_never_seals_two_blocks_for_a_slot(crash_at: int) -> None:
    world = ChainWorld("pos", 3, seed=crash_at)
    victim = world.seats[0]
    victim.crash_at_persist = crash_at
    world.start()
    for pause_ms in range(500, 40_000, 500):
        world.at(pause_ms, lambda: world.boot(victim) if victim.engine is None else None)
    world.run(60_000)
    assert broken_promise(world.toy.rule, victim.key, victim.disk) is None
    assert disagreement(world.seats) is None
