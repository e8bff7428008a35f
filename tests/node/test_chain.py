"""The tree of blocks above the last final one."""

from __future__ import annotations

from p2pledger import core
from p2pledger.ledger.transition import Outcome
from p2pledger.node.chain import Chain
from p2pledger.primitives.blocks import Block, Header

ROOT_OUTCOME = Outcome(core.empty_state({0: 2}), b"", b"", bytes(32), bytes(32))


def block(height: int, parent: bytes, *, view: int, digests: tuple[bytes, ...] = ()) -> Block:
    zero = bytes(32)
    header = Header(bytes(8), 0, view, height, parent, height, zero, core.merkle_root(digests), zero, zero, zero)
    return Block(header, digests)


ROOT = block(10, bytes(32), view=10)
A1 = block(11, ROOT.id, view=11, digests=(b"a" * 32,))
A2 = block(12, A1.id, view=12, digests=(b"b" * 32,))
B1 = block(11, ROOT.id, view=13)
B2 = block(12, B1.id, view=14)
STRANGER = block(12, b"s" * 32, view=15)


def chain_of(*blocks: Block) -> Chain:
    chain = Chain(ROOT, ROOT_OUTCOME)
    for item in blocks:
        assert chain.add(item) is not None
    return chain


def test_a_block_is_executed_when_it_is_accepted_and_its_parent_is_executed() -> None:
    chain = chain_of(A2, A1)
    a1, a2 = chain.get(A1.id), chain.get(A2.id)
    assert a1 is not None
    assert a2 is not None
    assert chain.ready() == []
    a2.accepted = True
    assert chain.ready() == []
    a1.accepted = True
    assert chain.ready() == [a1]
    a1.executing = True
    assert chain.ready() == []
    a1.executing, a1.outcome = False, ROOT_OUTCOME
    assert chain.ready() == [a2]


def test_the_ancestry_ends_at_the_root_and_knows_what_is_ordered() -> None:
    chain = chain_of(A1, A2, B1)
    a1, a2, b1 = chain.get(A1.id), chain.get(A2.id), chain.get(B1.id)
    assert a1 is not None
    assert a2 is not None
    assert b1 is not None
    assert list(chain.ancestry(a2)) == [a2, a1]
    assert chain.orders(a2, b"a" * 32)
    assert not chain.orders(b1, b"a" * 32)


def test_the_final_child_becomes_the_root_and_the_branches_that_lost_are_gone() -> None:
    chain = chain_of(A1, A2, B1, B2, STRANGER)
    a1 = chain.get(A1.id)
    assert a1 is not None
    a1.accepted = a1.final = True
    assert chain.next_final() is None
    a1.outcome = ROOT_OUTCOME
    assert chain.next_final() is a1
    chain.advance(a1)
    assert chain.root is a1
    assert [chain.get(item.id) is not None for item in (ROOT, A1, A2, B1, B2)] == [False, True, True, False, False]
    a2 = chain.get(A2.id)
    assert a2 is not None
    a2.accepted = a2.final = True
    a2.outcome = ROOT_OUTCOME
    chain.advance(a2)
    assert chain.get(STRANGER.id) is None
    assert len(chain) == 1


def test_nothing_is_added_at_or_below_the_root() -> None:
    chain = chain_of()
    assert chain.add(block(10, bytes(32), view=9)) is None
    assert chain.add(ROOT) is chain.root
