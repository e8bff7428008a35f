"""The chain engine under siege: what strangers can make it hold, and what they can make it work out again and again."""

from __future__ import annotations

import pytest

from p2pledger.consensus import chain as chain_module
from p2pledger.consensus.engine import BlockRef, BranchArrived, LetGo
from p2pledger.consensus.poa import poa_proof
from p2pledger.primitives.blocks import Block
from tests.consensus.chain_world import PoaToy, make_block
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
