"""A node of the chain family under siege: what one peer sends must not blind it, stop it, or turn it against others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pledger import core
from p2pledger.consensus import chain as chain_module
from p2pledger.consensus.pow import search_prefix
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.elections import pow
from p2pledger.ledger.transition import Outcome, execute_block
from p2pledger.network.effects import Received, Send
from p2pledger.node.batches import BatchPool, HeldBatch, likely_digest
from p2pledger.node.effects import Compute
from p2pledger.primitives.blocks import Block, sign_batch
from p2pledger.primitives.messages import BlockMessage, Branch, WantBatches
from tests.network.small_network import NODE_KEYS, SmallNetwork, chain_genesis


def mined(network: SmallNetwork, parent: Block, outcome: Outcome, nonce: int = 0) -> tuple[Block, Outcome]:
    """A good empty block of miner 1 on a block with this outcome, and its own outcome."""
    target = pow.next_target(outcome.version, network.genesis.parameters)
    state_root, receipts_root = outcome.roots
    header = replace(
        parent.header,
        view=parent.height + 1,
        height=parent.height + 1,
        parent=parent.id,
        time_ms=parent.header.time_ms + 1,
        proposer=NODE_KEYS[1].public_key,
        batches_root=core.merkle_root([]),
        parent_state_root=state_root,
        parent_receipts_root=receipts_root,
        proof=bytes(8),
    )
    found = core.pow_search(search_prefix(header), nonce, 2**24, target)
    assert found is not None
    header = replace(header, proof=found.to_bytes(8, "big"))
    spec = Chainspec.of(network.genesis)
    return Block(header, ()).sealed(NODE_KEYS[1]), execute_block(outcome.version, [], header=header, spec=spec)


def show(network: SmallNetwork, block: Block, sender: int = 2) -> None:
    network.receive(0, sender, BlockMessage(block.encode()).encode())


def fork_of(network: SmallNetwork, length: int) -> list[Block]:
    """A rival of node 0's head, from the block below it on."""
    node = network.peers[0].node
    parent = node.chain.parent(node.head.entry)
    assert parent is not None
    assert parent.outcome is not None
    block, outcome, fork = parent.block, parent.outcome, []
    for _ in range(length):
        block, outcome = mined(network, block, outcome, nonce=10**9)
        fork.append(block)
    return fork


def mining() -> SmallNetwork:
    network = SmallNetwork(chain_genesis("pow"))
    network.run(3_000)
    assert network.peers[0].node.head.entry.block.height > 4
    return network


def test_what_the_engine_let_go_comes_back_when_its_chain_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    network = mining()
    first, second, third = fork_of(network, 3)
    monkeypatch.setattr(chain_module, "_SIDE_BLOCKS", 0)
    show(network, first)
    monkeypatch.undo()
    for block in (second, third):
        show(network, block)
    network.receive(0, 2, Branch((first.encode(),)).encode())
    network.run(0)
    assert network.peers[0].node.head.entry.block.id == third.id


def test_the_node_lets_go_of_what_its_engine_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    network = mining()
    node = network.peers[0].node
    monkeypatch.setattr(chain_module, "_SIDE_BLOCKS", 3)
    known = len(node.chain)
    rivals = []
    for nonce in range(20):
        parent = node.chain.parent(node.head.entry)
        assert parent is not None
        assert parent.outcome is not None
        rivals.append(mined(network, parent.block, parent.outcome, nonce=nonce << 32)[0])
        show(network, rivals[-1])
    assert len({rival.id for rival in rivals}) == 20
    assert len(node.chain) <= known + 4, "a rival that the engine has dropped holds no state"
    assert not network.halted
    assert not network.ended


def test_a_full_house_is_no_reason_to_blame_whoever_shows_a_block() -> None:
    network = mining()
    node = network.peers[0].node
    questions = node._proposals
    parent = node.chain.parent(node.head.entry)
    assert parent is not None
    for number in range(1_100):
        header = replace(parent.block.header, parent=parent.block.id, height=parent.block.height + 1, time_ms=number)
        block = Block(replace(header, batches_root=core.merkle_root([bytes(32)])), (bytes(32),))
        node.chain.add(block)
        questions.ask(block, b"")
    reasons = {verdict.reason for verdict in questions.verdicts(network.now_ms, 0)}
    assert "too_many_open" not in reasons, "that a node has much to do says nothing about a block"


def test_who_asks_for_batches_without_end_is_not_answered_without_end() -> None:
    network = SmallNetwork(chain_genesis("poa"))
    network.run(3_000)
    answers = 0
    for number in range(200):
        wanted = WantBatches(tuple((64 * number + at).to_bytes(32, "big") for at in range(64)))
        effects = network.peers[0].step(Received(2, wanted.encode()), network.now_ms)
        answers += sum(isinstance(effect, Send) for effect in effects)
    assert answers <= 64
    assert network.peers[0].status().questions_refused >= 136


def test_batches_that_nobody_has_are_not_looked_for_in_each_step() -> None:
    """A producer names thousands of batches that it never made; others of its kind do the same."""
    network = mining()
    node = network.peers[0].node
    parent = node.head.entry
    assert parent.outcome is not None
    state_root, receipts_root = parent.outcome.roots
    lookups = 0

    class Counted(dict[bytes, HeldBatch]):
        def get(self, key: bytes, default: HeldBatch | None = None) -> HeldBatch | None:  # type: ignore[override]
            nonlocal lookups
            lookups += 1
            return super().get(key, default)

        def __contains__(self, key: object) -> bool:
            nonlocal lookups
            lookups += 1
            return super().__contains__(key)

    node.pool.open = Counted(node.pool.open)
    for number in range(50):
        digests = tuple((1_000 * number + at).to_bytes(32, "big") for at in range(200))
        header = replace(
            parent.block.header,
            parent=parent.block.id,
            height=parent.block.height + 1,
            time_ms=parent.block.header.time_ms + 1 + number,
            parent_state_root=state_root,
            parent_receipts_root=receipts_root,
            batches_root=core.merkle_root(digests),
        )
        block = Block(header, digests)
        node.chain.add(block)
        node._proposals.ask(block, b"s" * 32 if number < 49 else b"t" * 32)
    first = node._proposals.verdicts(network.now_ms, 0)
    assert lookups >= 50 * 200, "all of it is looked at once"
    assert sum(len(verdict.missing) for verdict in first) <= 16 * 64 + 64, "but not all of it is wanted at once"
    assert {b"s" * 32, b"t" * 32} <= {holder for verdict in first for holder in verdict.holders}, "nor of one peer only"
    lookups = 0
    node._proposals.verdicts(network.now_ms, 0)
    assert lookups <= 200


def test_what_an_eligible_block_names_is_held_whatever_its_makers_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """A maker that gives each node other batches fills its lane everywhere; blocks that order them must still get on.

    Nothing gets final before the blocks above are taken, and no lane gets free before something is final.
    """
    network = SmallNetwork(chain_genesis("poa"))
    network.found()
    node = network.peers[0].node
    monkeypatch.setattr(BatchPool, "has_room", lambda *_, **__: False)
    batches = []
    for sequence in (1, 2):
        batch = core.encode_batch(
            network.genesis.network_id, NODE_KEYS[1].public_key, 0, 10**15 + sequence, [network.transfer()]
        )
        batches.append(sign_batch(batch, NODE_KEYS[1]))
    named, unnamed = (likely_digest(data) for data in batches)
    assert named is not None
    assert unnamed is not None
    head = node.head.entry.block
    header = replace(head.header, parent=head.id, height=head.height + 1, batches_root=core.merkle_root([named]))
    node.chain.add(Block(header, (named,)))
    for data in batches:
        for effect in node.receive_batch(data, NODE_KEYS[2].public_key, wanted=True, now_ms=network.now_ms):
            if isinstance(effect, Compute):
                node.computed(effect.job, effect.run(), network.now_ms)
    assert named in node.pool.open
    assert unnamed not in node.pool.open
