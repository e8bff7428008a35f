"""When a node checks what clients hand in, and when it sends a batch off: for the next block, together, and not later.

The numbers follow docs/decisions/0006: a leader builds no block before the interval has passed since the last one; a
batch is sent off 6 ms before that; a client waits 20 ms for its answer at most.
"""

from __future__ import annotations

import pytest

from p2pledger.network.effects import Compute, Computed, Disconnect, Received, Send, TimerFired
from p2pledger.network.sync import SYNC_BLOCKS
from p2pledger.primitives.messages import BatchMessage, Submit, Submitted, WantBatches, WantChain, decode_message
from p2pledger.primitives.parameters import Parameters
from tests.network.small_network import CLIENT_SESSION, NODE_KEYS, SmallNetwork, genesis_of

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


def test_a_check_that_takes_long_holds_a_batch_back_but_not_beyond_the_delay_and_what_it_brings_follows(
    network: SmallNetwork,
) -> None:
    begin_block(network)
    before, handed_in_ms = own_batches(network, 2), network.now_ms
    network.submit(2, network.transfer())
    network.run(ANSWER_MS)
    assert answers(network, 2) == [handed_in_ms + ANSWER_MS]
    effects = network.peers[2].step(
        Received(CLIENT_SESSION, Submit(8, tuple(network.transfer() for _ in range(32))).encode()), network.now_ms
    )
    (check,) = [effect for effect in effects if isinstance(effect, Compute)]
    network.run(handed_in_ms + ANSWER_MS + 499 - network.now_ms)
    assert own_batches(network, 2) == before, "the check is under way"
    network.run(1)
    assert own_batches(network, 2) == before + 1, "batch_delay_ms has passed"
    network.step(2, Computed(check.job, check.run()))
    network.run(2 * INTERVAL_MS)
    assert own_batches(network, 2) == before + 2
    assert len(network.settled()) == 1 + 1 + 32


# --- what must not be missed, and what must not be done for nothing --------------------------------------------------


def test_a_wish_that_cannot_go_on_does_not_keep_the_node_busy(network: SmallNetwork) -> None:
    """One peer was asked for the chain and is silent, another sent the blocks, and nobody sends their batches."""
    everybody_else = (0, 2, 3)
    network.cut = {frozenset((1, other)) for other in everybody_else}
    network.restart(1, empty=True)
    reader = network.peers[1]
    for other in everybody_else:
        network.receive(1, other, network.peers[other]._standing().encode())
    assert reader._sync.is_waiting
    asked = reader._sync._peer
    helper = next(other for other in everybody_else if NODE_KEYS[other].public_key != asked)
    wish = Received(1, WantChain(1, SYNC_BLOCKS).encode())
    answers = [
        effect.payload for effect in network.peers[helper].step(wish, network.now_ms) if isinstance(effect, Send)
    ]
    network.receive(1, helper, answers[0])
    assert reader.node.has_unexecuted_finals
    assert reader._sync.is_waiting

    fired = 0
    for _ in range(20):
        timer_ms = reader._timer_ms
        assert timer_ms is not None, "it asks for the batches again and again"
        network.now_ms = max(network.now_ms, timer_ms)
        network.step(1, TimerFired())
        fired += reader._timer_ms is not None and reader._timer_ms <= network.now_ms
    assert fired == 0, "a timer that is due again at once"


def test_what_was_asked_of_a_peer_that_is_sent_away_is_asked_of_the_next_at_once(network: SmallNetwork) -> None:
    asking, digest = network.peers[1], b"d" * 32
    asking._batches.want((digest,), (NODE_KEYS[0].public_key,))
    network.step(1, TimerFired())
    effects = asking.step(Received(0, BatchMessage(b"no batch").encode()), network.now_ms)
    assert [effect.session for effect in effects if isinstance(effect, Disconnect)] == [0]
    wishes = [effect for effect in effects if isinstance(effect, Send) and effect.session != 0]
    assert [decode_message(wish.payload) for wish in wishes] == [WantBatches((digest,))]
