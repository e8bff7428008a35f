"""When a node checks what clients hand in, and when it sends a batch off: for the next block, together, and not later.

The numbers follow docs/decisions/0006: a leader builds no block before the interval has passed since the last one; a
batch is sent off 6 ms before that; a client waits 20 ms for its answer at most.
"""

from __future__ import annotations

import pytest

from p2pledger.primitives.messages import Submitted
from p2pledger.primitives.parameters import Parameters
from tests.network.small_network import SmallNetwork, genesis_of

INTERVAL_MS = 100
LEADER_NEEDS_MS = 6
ANSWER_MS = 20


@pytest.fixture
def network() -> SmallNetwork:
    """It rests."""
    network = SmallNetwork(genesis_of(4, Parameters(block_interval_ms=INTERVAL_MS, batch_delay_ms=500)))
    network.found()
    network.run(5_000)
    return network


def own_batches(network: SmallNetwork, number: int) -> int:
    """How many batches this node has made."""
    maker = network.peers[number].node.keypair.public_key
    return sum(getattr(record, "maker", None) == maker for record in network.disks[number].records)


def begin_block(network: SmallNetwork) -> int:
    """A trade ends the rest; when the block that orders it was made."""
    network.submit(1, network.transfer())
    network.run(10)
    return network.peers[0].node._tip.block.header.time_ms


def answers(network: SmallNetwork, number: int) -> list[int]:
    """When this node answered submissions."""
    return [at_ms for at_ms, teller, message in network.heard if teller == number and isinstance(message, Submitted)]


def test_after_a_rest_a_lone_trade_loses_no_time(network: SmallNetwork) -> None:
    before, now_ms = own_batches(network, 2), network.now_ms
    network.submit(2, network.transfer())
    network.run(0)
    assert answers(network, 2) == [now_ms]
    assert own_batches(network, 2) == before + 1


def test_while_blocks_come_what_is_handed_in_travels_together_and_catches_the_next_block(network: SmallNetwork) -> None:
    before = own_batches(network, 2)
    block_ms = begin_block(network)
    for _ in range(5):
        network.submit(2, network.transfer())
        network.run(10)
    leaves_ms = block_ms + INTERVAL_MS - LEADER_NEEDS_MS
    network.run(leaves_ms - network.now_ms - 1)
    assert own_batches(network, 2) == before, "no leader could have built a block by now"
    network.run(1)
    assert own_batches(network, 2) == before + 1
    network.run(INTERVAL_MS)
    head = network.peers[0].node.final_outcome
    assert len(head) == 5, "all of them are in one block"
    assert network.admitted() == [0] * 6


def test_a_client_does_not_wait_for_the_block_with_its_answer(network: SmallNetwork) -> None:
    begin_block(network)
    handed_in_ms = network.now_ms
    network.submit(2, network.transfer())
    network.run(5)
    network.submit(2, network.transfer())
    network.run(ANSWER_MS)
    assert answers(network, 2) == [handed_in_ms + ANSWER_MS] * 2, "checked together, when the first had waited so long"


def test_many_are_checked_at_once(network: SmallNetwork) -> None:
    begin_block(network)
    network.submit(2, *(network.transfer() for _ in range(31)))
    assert not answers(network, 2)
    network.submit(2, network.transfer())
    network.run(0)
    assert answers(network, 2) == [network.now_ms] * 2


def test_what_comes_when_the_next_block_may_be_built_leaves_at_once(network: SmallNetwork) -> None:
    block_ms = begin_block(network)
    network.run(block_ms + INTERVAL_MS - network.now_ms)
    before = own_batches(network, 2)
    network.submit(2, network.transfer())
    network.run(0)
    assert own_batches(network, 2) == before + 1
