"""Chains that are left and joined: what becomes of the ledger, of the trades, and of what clients are told."""

from __future__ import annotations

import itertools
import random

import pytest

from p2pledger.node.node import Node
from p2pledger.primitives.reasons import Reason
from tests.network.small_network import NODE_KEYS
from tests.node.forked_node import CLIENT, ForkedNode


@pytest.fixture
def forked() -> ForkedNode:
    node = ForkedNode()
    node.open_books()
    return node


def branch_of(forked: ForkedNode, base: bytes, length: int, *, most_batches: int = 100, skip: int = 0) -> list[bytes]:
    blocks = []
    for _ in range(length):
        base = forked.extend(base, most_batches=most_batches, skip=skip)
        blocks.append(base)
    return blocks


def test_a_trade_that_fell_out_is_ordered_again_and_settled_once(forked: ForkedNode) -> None:
    base = forked.root
    empty = branch_of(forked, base, 2)
    trade = forked.trade(5)
    [first] = branch_of(forked, base, 1)
    forked.follow(first)
    assert forked.held("B", at=first) == 5
    forked.follow(empty[1])
    assert forked.held("B", at=empty[1]) == 0
    again = forked.extend(empty[1])
    forked.follow(again)
    forked.finalise(again)
    height = forked.node.final_height
    assert forked.story(trade) == [
        ("pending", height - 2),
        ("reverted", height - 2),
        ("pending", height),
        ("settled", height),
    ]
    assert forked.held("B") == 5
    [fork] = forked.node.head.forks
    assert (fork.old, fork.new, fork.ancestor, fork.depth) == (first, empty[1], base, 1)
    assert fork.reverted == (trade,)


@pytest.mark.parametrize("depth", [1, 2, 10, 60])
def test_a_deep_reorganisation_keeps_every_trade_and_every_share(forked: ForkedNode, depth: int) -> None:
    base = forked.root
    rivals = branch_of(forked, base, depth)
    trades = []
    tip = base
    for _ in range(depth):
        trades.append(forked.trade())
        tip = forked.extend(tip)
        forked.follow(tip)
    assert forked.held("B", at=tip) == depth
    winner = forked.extend(rivals[-1], most_batches=0)
    forked.follow(winner)
    assert forked.held("B", at=winner) == 0
    assert [word for _, word, _ in forked.told].count("reverted") == depth
    last = forked.extend(winner)
    forked.follow(last)
    forked.finalise(last)
    assert forked.held("B") == depth
    assert forked.held("A") == 1_000 - depth
    for trade in trades:
        assert [word for word, _ in forked.story(trade)] == ["pending", "reverted", "pending", "settled"]


def test_a_trade_that_is_in_both_chains_stays_and_its_place_is_told_anew(forked: ForkedNode) -> None:
    base = forked.root
    trade = forked.trade(3)
    one = forked.extend(base)
    other = branch_of(forked, forked.extend(base, most_batches=0), 1)
    forked.follow(one)
    forked.follow(other[0])
    height = forked.node.final_height
    assert forked.story(trade) == [("pending", height + 1), ("pending", height + 2)]
    assert forked.node.head.forks[-1].reverted == ()
    assert forked.held("B", at=other[0]) == 3


def test_a_fork_at_every_height(forked: ForkedNode) -> None:
    """Two blocks at each height, one with the next trade and one without; followed in turn, the empty one last."""
    base = forked.root
    trades = []
    for _ in range(20):
        trades.append(forked.trade())
        full, empty = forked.extend(base), forked.extend(base, most_batches=0)
        forked.follow(full)
        forked.follow(empty)
        base = empty
    assert forked.held("B", at=base) == 0
    assert forked.node.head.forks_count == 20
    last = forked.extend(base)
    forked.follow(last)
    forked.finalise(last)
    assert forked.held("B") == 20
    for number, trade in enumerate(trades):
        words = [word for word, _ in forked.story(trade)]
        assert words == ["pending", "reverted"] * (20 - number) + ["pending", "settled"]


def test_forks_that_alternate_tell_each_change_once(forked: ForkedNode) -> None:
    base = forked.root
    plain = branch_of(forked, base, 1, most_batches=0)[0]
    trade = forked.trade()
    full = forked.extend(base)
    for _ in range(10):
        forked.follow(full)
        forked.follow(plain)
        full, plain = forked.extend(full, most_batches=0), forked.extend(plain, most_batches=0)
    forked.follow(full)
    forked.finalise(full)
    words = [word for word, _ in forked.story(trade)]
    assert words == ["pending", "reverted"] * 10 + ["pending", "settled"]
    assert forked.held("B") == 1


def test_a_trade_whose_time_has_passed_before_it_came_back_is_expired(forked: ForkedNode) -> None:
    base = forked.root
    trade = forked.trade(valid_for=3)
    first = forked.extend(base)
    forked.follow(first)
    assert forked.held("B", at=first) == 1
    late = branch_of(forked, base, 4, most_batches=0)
    last = forked.extend(late[-1])
    forked.follow(late[-1])
    forked.follow(last)
    forked.finalise(last)
    assert [word for word, _ in forked.story(trade)] == ["pending", "reverted", "pending", "settled"]
    assert forked.codes[trade][:2] == Reason.EXPIRED.to_bytes(2, "big")
    assert forked.held("B") == 0


def test_confirmed_is_told_when_the_assets_policy_is_met_and_taken_back_with_its_block(forked: ForkedNode) -> None:
    base = forked.policy(confirmations=2)
    trade = forked.trade()
    blocks = branch_of(forked, base, 4)
    for block in blocks:
        forked.follow(block)
    height = forked.node.final_height
    assert forked.story(trade) == [("pending", height + 1), ("confirmed", height + 1)]
    rivals = branch_of(forked, base, 4, most_batches=0)
    forked.follow(forked.extend(rivals[-1], most_batches=0))
    assert forked.story(trade)[2:] == [("reverted", height + 1)]
    again = branch_of(forked, forked.node.head.entry.block.id, 3)
    for block in again:
        forked.follow(block)
    forked.finalise(again[-1])
    words = [word for word, _ in forked.story(trade)]
    assert words == ["pending", "confirmed", "reverted", "pending", "confirmed", "settled"]


def test_without_a_policy_nothing_is_confirmed_before_it_is_final(forked: ForkedNode) -> None:
    trade = forked.trade()
    for block in branch_of(forked, forked.root, 50):
        forked.follow(block)
    assert [word for word, _ in forked.story(trade)] == ["pending"]


def test_who_does_not_follow_is_told_once_at_the_end(forked: ForkedNode) -> None:
    forked.node.follow(CLIENT, wanted=False)
    trade = forked.trade()
    one, other = forked.extend(forked.root), forked.extend(forked.root)
    for block in (one, other, one):
        forked.follow(block)
    forked.finalise(one)
    assert [word for word, _ in forked.story(trade)] == ["settled"]


@pytest.mark.parametrize("seed", range(12))
def test_a_long_walk_over_forks_delivers_everything_once(seed: int) -> None:
    dice = random.Random(seed)
    forked = ForkedNode()
    forked.open_books()
    forked.policy(confirmations=dice.randint(1, 6))
    trades: list[bytes] = []
    tips = [forked.root]
    for _ in range(250):
        match dice.randrange(8):
            case 0 | 1:
                trades.append(forked.trade(valid_for=dice.choice((4, 12, 1_000))))
            case 2 | 3 | 4 | 5:
                parent = dice.choice([*tips, tips[-1], tips[-1]])
                tips.append(forked.extend(parent, most_batches=dice.randint(0, 3), skip=dice.randint(0, 1)))
            case 6:
                known = [tip for tip in tips if forked.node.chain.get(tip) is not None]
                forked.follow(dice.choice(known[-6:]))
            case 7:
                head = forked.node.head.entry
                above = list(forked.node.chain.ancestry(head))
                if len(above) > 6:
                    forked.finalise(above[6].block.id)
        tips = [tip for tip in tips if forked.node.chain.get(tip) is not None][-8:] or [forked.root]
        forked.held("B", at=forked.node.head.entry.block.id)
    last = forked.node.head.entry.block.id
    while forked.node.pool.open:
        last = forked.extend(last)
        forked.follow(last)
        forked.finalise(last)
    moved = 0
    for trade in trades:
        words = [word for word, _ in forked.story(trade)]
        assert words.count("settled") == 1
        assert words[-1] == "settled", "something was said after the last word"
        for before, after in itertools.pairwise(words):
            assert (before, after) != ("reverted", "reverted")
            assert (before, after) != ("reverted", "confirmed")
            assert (before, after) != ("confirmed", "confirmed")
        moved += forked.codes[trade][:2] == b"\0\0"
    assert forked.held("B") == moved
    assert forked.held("A") == 1_000 - moved


def test_what_is_not_final_is_executed_again_after_a_restart(forked: ForkedNode) -> None:
    """The node restarts from its disk; the engine judges the blocks above the final one again."""
    trade = forked.trade()
    final = forked.root
    forked.follow(forked.extend(final))
    again = Node(forked.genesis, NODE_KEYS[0], archive=forked.disk, recovery=forked.disk.recovery())
    assert again.final_block.id == final
    assert len(again.pool.open) == 1
    assert trade in again.pool.open[next(iter(again.pool.open))].columns.ids
