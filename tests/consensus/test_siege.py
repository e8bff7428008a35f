"""The chain engine under siege: what strangers can make it hold, and what they can make it work out again and again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pledger.consensus import chain as chain_module
from p2pledger.consensus.engine import (
    Announce,
    BlockRef,
    BranchArrived,
    Build,
    Built,
    LetGo,
    TimerFired,
    WantBranch,
    WorkChanged,
)
from p2pledger.consensus.orphans import Orphans
from p2pledger.consensus.poa import poa_proof
from p2pledger.primitives.blocks import Block
from tests.consensus.chain_world import CLOCK, DEPTH, PoaToy, make_block
from tests.consensus.test_chain import KEYS, OTHER, PEER, START, Desk, block_on, chain_on, kinds, offences


def test_what_is_let_go_is_said() -> None:
    desk = Desk()
    desk.engine._out.clear()
    trunk = chain_on(START, 3)
    desk.feed(*trunk)
    for each in range(3):
        assert desk.engine.knows(trunk[each].id)
    desk.engine._fell(desk.engine._tree[trunk[1].id])
    assert set(kinds(desk.engine._out, LetGo)[0].blocks) == {trunk[1].id, trunk[2].id}
    assert not desk.engine.knows(trunk[2].id)


def test_blocks_that_never_show_their_content_do_not_fill_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "_SIDE_BLOCKS", 20)
    desk = Desk(lazy=True)
    for nonce in range(200):
        block = block_on(START, nonce)
        # A child that waits for it: perhaps a long branch is coming in, so it is spared for a while.
        desk.feed(block_on(block, nonce), block)
    assert len(desk.engine._tree) <= 2 + 2 * 20


def test_a_long_branch_comes_in_however_full_the_house_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "_SIDE_BLOCKS", 10)
    desk = Desk(finality_depth=1_000)
    trunk = chain_on(START, 50)
    desk.feed(*trunk)
    desk.lazy = True
    for nonce in range(30):
        block = block_on(trunk[-2], nonce + 1)
        desk.feed(block_on(block, nonce), block)
    desk.lazy = False
    branch = chain_on(START, 52, nonce=9)
    desk.step(BranchArrived(tuple(branch), OTHER))
    assert desk.engine.head.id == branch[-1].id


def alike(number: int, keypair_slot: int = 1) -> Block:
    leader = KEYS[keypair_slot % 4]
    return make_block(START, leader, poa_proof(1), slot=keypair_slot, digests=(number.to_bytes(32, "big"),))


def test_a_producer_cannot_fill_the_tree_with_blocks_for_one_slot_by_making_others_wait_for_them() -> None:
    desk = Desk(PoaToy(KEYS), lazy=True)
    for number in range(100):
        block = alike(number)
        stray = make_block(BlockRef.of(block.header), KEYS[3], poa_proof(1), slot=2)
        desk.feed(stray, block)
    assert len(desk.engine._tree) <= 1 + 17
    assert not offences(desk.effects)


def test_the_one_that_others_have_built_on_survives_a_flood_of_its_like() -> None:
    desk = Desk(PoaToy(KEYS), lazy=True)
    honest = alike(1_000)
    child = make_block(BlockRef.of(honest.header), KEYS[2], poa_proof(1), slot=2)
    desk.feed(child, honest, sender=OTHER)
    for number in range(100):
        block = alike(number)
        stray = make_block(BlockRef.of(block.header), KEYS[3], poa_proof(1), slot=2)
        desk.feed(stray, block, sender=PEER)
    assert honest.id in desk.engine._tree, "whoever shows most of them loses one"


# --- work that one stray must not set off ---------------------------------------------------------------------------


def test_a_rival_that_grows_block_by_block_is_not_weighed_each_time() -> None:
    desk = Desk(finality_depth=300)
    desk.feed(*chain_on(START, 302))
    desk.feed(*chain_on(START, 250, nonce=7))
    assert 0 < desk.engine.counters["lighter_rival"] <= 100


def test_strays_do_not_make_the_engine_look_at_all_orphans_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    looked: list[int] = []
    parents = Orphans.parents

    def counted(orphans: Orphans) -> list[bytes]:
        looked.append(len(orphans))
        return parents(orphans)

    monkeypatch.setattr(Orphans, "parents", counted)
    for number in range(2_000):
        desk.feed(block_on(replace(START, id=number.to_bytes(32, "big")), number))
    assert sum(looked) < 40 * 2_000
    honest = block_on(START, 5)
    child = block_on(honest)
    desk.feed(child, sender=OTHER)
    desk.now_ms += 1_000
    assert WantBranch(honest.id, OTHER) in [*desk.effects, *desk.step(TimerFired())], "within a second in any case"


def test_one_look_weighs_a_few_rivals_and_the_next_one_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "_WEIGHED_AT_ONCE", 4)
    desk = Desk()
    trunk = chain_on(START, DEPTH + 2)
    desk.feed(*trunk)
    rivals = [block for number in range(10) for block in chain_on(START, 2, nonce=10 + number)]
    desk.step(BranchArrived(tuple(rivals), PEER))
    assert desk.engine.counters["lighter_rival"] == 4
    for _ in range(5):
        desk.now_ms += 1_000
        desk.step(TimerFired())
    assert desk.engine.counters["lighter_rival"] == 10, "and none of them twice"


# --- a key that runs twice ------------------------------------------------------------------------------------------


def test_a_block_of_the_own_key_from_elsewhere_ends_the_turn_and_not_the_node() -> None:
    """An operator moved a node and forgot to stop the old one."""
    desk = Desk(PoaToy(KEYS), lazy=True, keypair=KEYS[1], recovered=None)
    desk.engine._now_ms = 0  # the desk began late in the day
    desk.now_ms = CLOCK.start_ms(1)
    desk.step(WorkChanged(True))
    [asked] = [each for each in kinds(desk.effects, Build) if each.view == 1]
    desk.now_ms += 10
    desk.feed(make_block(START, KEYS[1], poa_proof(1), slot=1, time_ms=desk.now_ms - 5))
    own = make_block(START, KEYS[1], asked.proof, slot=1, time_ms=asked.time_ms)
    effects = desk.step(Built(1, replace(own, seal=b"")))
    assert not kinds(effects, Announce), "it has made a block for this slot, wherever"
    assert desk.engine.counters["late_build"] == 1
