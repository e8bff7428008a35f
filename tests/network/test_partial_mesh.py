"""A ledger whose nodes have sessions with a few neighbours each: everything is relayed, and everything still holds."""

from __future__ import annotations

import random

import pytest

from p2pledger import core
from p2pledger.network.effects import VALIDATOR, Identity, SessionClosed, SessionOpened
from p2pledger.primitives.blocks import sign_batch
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import BatchMessage, HavePayloads, Message, Payload, VoteMessage, decode_message
from p2pledger.primitives.transactions import Transfer
from tests.network.small_network import ACCOUNTS, NODE_KEYS, SHARE, SmallNetwork, chain_genesis, genesis_of


def ring(count: int, reach: int = 1) -> frozenset[frozenset[int]]:
    return frozenset(frozenset((i, (i + step) % count)) for i in range(count) for step in range(1, reach + 1))


def transfers(network: SmallNetwork, count: int) -> list[bytes]:
    return [network.transaction(Transfer(ACCOUNTS["A"], ACCOUNTS["B"], SHARE, 1)) for _ in range(count)]


def assert_agreed(network: SmallNetwork) -> None:
    assert not network.halted
    assert network.ended == []
    assert len({peer.status().state_root for peer in network.peers}) == 1
    assert len({peer.final_height for peer in network.peers}) == 1


@pytest.mark.parametrize("reach", [1, 2])
def test_trades_are_final_at_all_of_seven_nodes_in_a_ring(reach: int) -> None:
    network = SmallNetwork(genesis_of(7), degree=2 * reach, edges=ring(7, reach))
    network.found()
    network.run(10_000)
    for number in range(7):
        network.submit(number, *transfers(network, 3))
    network.run(20_000)
    assert_agreed(network)
    assert network.peers[3].status().transactions_final >= 21


def test_a_network_that_relays_comes_to_rest() -> None:
    network = SmallNetwork(genesis_of(7), degree=2, edges=ring(7))
    network.found()
    network.run(30_000)
    assert_agreed(network)
    assert network.is_quiet


def test_a_node_that_was_away_catches_up_through_its_neighbours() -> None:
    network = SmallNetwork(genesis_of(7), degree=4, edges=ring(7, 2))
    network.found()
    network.run(10_000)
    network.crash(4)
    network.submit(0, *transfers(network, 5))
    network.run(60_000)
    network.restart(4)
    network.run(60_000)
    assert_agreed(network)


def test_a_large_batch_reaches_nodes_that_its_maker_has_no_session_with() -> None:
    network = SmallNetwork(genesis_of(7), degree=2, edges=ring(7))
    network.found()
    network.run(10_000)
    network.submit(0, *transfers(network, 400))
    network.run(40_000)
    assert_agreed(network)
    assert network.peers[3].status().transactions_final >= 400


def test_batches_of_the_chain_family_are_relayed_as_well() -> None:
    network = SmallNetwork(chain_genesis("poa", 5), degree=2, edges=ring(5))
    network.found()
    network.run(20_000)
    network.submit(0, *transfers(network, 3))
    network.run(40_000)
    assert not network.halted
    assert min(peer.status().transactions_final for peer in network.peers) >= 3


def test_who_relays_what_is_not_in_order_is_not_disconnected_and_nobody_gets_it() -> None:
    network = SmallNetwork(genesis_of(4), degree=2, edges=ring(4))
    network.run(1_000)
    sent_before = network.sent
    for inner in (VoteMessage(b"no vote"), BatchMessage(b"no batch"), HavePayloads(())):
        network.receive(0, 1, Payload(0, inner.encode()).encode())
    network.receive(0, 1, Payload(7, VoteMessage(b"").encode()).encode())
    network.receive(0, 1, Payload(0, b"\xc1").encode())
    network.run(5_000)
    assert network.ended == []
    assert network.sent == sent_before


def test_a_batch_that_nobody_has_signed_is_passed_on_to_nobody() -> None:
    """Else whoever has one session could have every node carry as much as it likes."""
    network = SmallNetwork(genesis_of(4), degree=2, edges=ring(4))
    network.found()
    network.run(60_000)
    network_id, maker, stranger = network.genesis.network_id, NODE_KEYS[1], Keypair.from_seed(b"s" * 32)
    batch = core.encode_batch(network_id, maker.public_key, 0, 1, [network.transfer()])
    foreign = core.encode_batch(network_id, stranger.public_key, 0, 1, [network.transfer()])
    sent_before = network.sent
    for data in (sign_batch(batch, stranger), sign_batch(foreign, stranger)):
        network.receive(0, 1, Payload(0, BatchMessage(data).encode()).encode())
        network.run(5_000)
    assert network.sent == sent_before
    assert network.ended == []
    network.receive(0, 1, Payload(0, BatchMessage(sign_batch(batch, maker)).encode()).encode())
    network.run(5_000)
    assert network.sent > sent_before
    assert {len(peer.node.pool.open) for peer in network.peers} == {0}, "it was ordered"
    assert network.peers[2].status().transactions_final == network.peers[0].status().transactions_final


def test_where_nothing_is_relayed_a_payload_is_an_offence() -> None:
    network = SmallNetwork()
    message: Message = Payload(0, b"x")
    assert decode_message(message.encode()) == message
    network.receive(0, 1, message.encode())
    assert [ending.code for _, ending in network.ended] == ["wrong_role"]


def cut_off(network: SmallNetwork, part: set[int]) -> None:
    """No messages between these and the others, and their sessions end."""
    for edge in network.edges:
        if len(edge & part) == 1:
            one, other = sorted(edge)
            network.cut.add(edge)
            network.step(one, SessionClosed(other))
            network.step(other, SessionClosed(one))


def heal(network: SmallNetwork) -> None:
    for edge in sorted(network.cut, key=sorted):
        for one, other in (sorted(edge), sorted(edge, reverse=True)):
            network.step(one, SessionOpened(other, Identity(NODE_KEYS[other].public_key, VALIDATOR, f"v{other}")))
    network.cut.clear()


@pytest.mark.parametrize("seconds", [2, 20, 120])
@pytest.mark.parametrize("part", [{4, 5, 6}, {0, 3}, {1, 3, 5}])
def test_after_a_partition_without_a_quorum_it_goes_on(seconds: int, part: set[int]) -> None:
    """What was voted on one side meanwhile was heard there long ago, and has to cross all the same."""
    network = SmallNetwork(genesis_of(7), degree=4, edges=ring(7, 2))
    network.found()
    network.run(10_000)
    cut_off(network, part)
    network.submit(0, *transfers(network, 2))
    network.submit(4, *transfers(network, 2))
    network.run(1_000 * seconds)
    heal(network)
    network.run(60_000)
    assert_agreed(network)
    assert network.peers[3].status().transactions_final == 6
    network.run(60_000)
    assert network.is_quiet


def test_seven_nodes_of_which_two_are_killed_go_on() -> None:
    network = SmallNetwork(genesis_of(7), degree=4, edges=ring(7, 2))
    network.found()
    network.run(10_000)
    network.crash(2)
    network.crash(5)
    for number in (0, 1, 3, 4, 6):
        network.submit(number, *transfers(network, 3))
    network.run(60_000)
    alive = [network.peers[number] for number in (0, 1, 3, 4, 6)]
    assert len({peer.status().state_root for peer in alive}) == 1
    assert min(peer.status().transactions_final for peer in alive) == 17
    network.submit(0, *transfers(network, 400))
    network.run(60_000)
    assert min(peer.status().transactions_final for peer in alive) == 417


def mutated(chance: random.Random, payload: bytes) -> bytes:
    match chance.randrange(4):
        case 0:
            at = chance.randrange(len(payload))
            return payload[:at] + bytes((chance.randrange(256),)) + payload[at + 1 :]
        case 1:
            return payload[: chance.randrange(len(payload))]
        case 2:
            return Payload(chance.randrange(256), payload[:16_384]).encode()
        case _:
            at = chance.randrange(len(payload))
            inner = payload[:at] + chance.randbytes(2) + payload[at + 2 :]
            return Payload(0, inner[:16_384]).encode()


def test_nothing_that_a_neighbour_sends_stops_a_node_that_relays() -> None:
    """Bytes of a real conversation, changed here and there, plain and inside of payloads."""
    network = SmallNetwork(genesis_of(4), degree=2, edges=ring(4))
    said: list[bytes] = []
    deliver = network._send

    def listen(number: int, session: int, payload: bytes) -> None:
        said.append(payload)
        deliver(number, session, payload)

    network._send = listen  # type: ignore[method-assign]
    network.found()
    network.submit(1, *transfers(network, 100))
    network.run(10_000)
    chance = random.Random(6)
    for payload in [*said[:400], *chance.sample(said, min(400, len(said)))]:
        for _ in range(3):
            network.receive(0, 1, mutated(chance, payload))
            if 1 not in [session.number for session in network.peers[0]._nodes.values()]:
                network.step(1, SessionClosed(0))
                for one, other in ((0, 1), (1, 0)):
                    key = NODE_KEYS[other].public_key
                    network.step(one, SessionOpened(other, Identity(key, VALIDATOR, f"v{other}")))
        network.run(20)
    network.run(10_000)
    network.submit(2, *transfers(network, 3))
    network.run(20_000)
    assert not network.halted
    assert len({peer.status().state_root for peer in network.peers}) == 1
    assert min(peer.status().transactions_final for peer in network.peers) >= 105
