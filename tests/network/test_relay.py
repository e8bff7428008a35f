"""Payloads spread over many nodes: whole networks of relays, with links that drop what may be dropped.

What must hold: everybody gets every payload exactly once and unchanged, whatever is dropped; where all are connected
nothing comes twice; a large payload crosses the wire to each node about once even where it is relayed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from hashlib import sha256

import pytest

from p2pledger.network.relay import HEARTBEAT_MS, Delivery, Outgoing, Relay
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.messages import (
    PIECE_BYTES,
    HavePayloads,
    MeshLink,
    Message,
    Payload,
    PayloadHead,
    Piece,
    VoteMessage,
    WantPayload,
    decode_message,
    head_id,
    payload_id,
)

LATENCY_MS = 10


class Network:
    """Relays over links with one latency. ``drops`` decides of each bulk message whether it is lost."""

    def __init__(
        self,
        edges: set[tuple[int, int]],
        *,
        relays: bool,
        degree: int = 6,
        drops: Callable[[Outgoing], bool] = lambda outgoing: False,
    ) -> None:
        count = 1 + max(max(edge) for edge in edges)
        self.keys = [bytes([i]) * 32 for i in range(count)]
        self.relays = [Relay(key, relays=relays, degree=degree) for key in self.keys]
        self.number = {key: i for i, key in enumerate(self.keys)}
        self.drops = drops
        self.now_ms = 0
        self.under_way: list[tuple[int, int, int, Message]] = []
        self.delivered: list[list[Delivery]] = [[] for _ in self.keys]
        self.sent: Counter[type[Message]] = Counter()
        self.bytes_in = [0] * count
        self.faults: list[PeerFault] = []
        for one, other in sorted(edges):
            self.relays[one].opened(self.keys[other], is_dialled=True)
            self.relays[other].opened(self.keys[one], is_dialled=False)
        self.collect()

    def collect(self) -> None:
        for number, relay in enumerate(self.relays):
            for outgoing in relay.out:
                self.sent[type(outgoing.message)] += 1
                if not (outgoing.bulk and self.drops(outgoing)):
                    target = self.number[outgoing.key]
                    self.under_way.append((self.now_ms + LATENCY_MS, number, target, outgoing.message))
            relay.out.clear()

    def publish(self, number: int, data: bytes, topic: int = 0) -> bytes:
        identifier = self.relays[number].publish(topic, data, self.now_ms)
        self.collect()
        return identifier

    def run(self, ms: int) -> None:
        for _ in range(ms // LATENCY_MS):
            self.now_ms += LATENCY_MS
            arriving = [item for item in self.under_way if item[0] <= self.now_ms]
            self.under_way = [item for item in self.under_way if item[0] > self.now_ms]
            for _, source, target, message in arriving:
                payload = message.encode()
                self.bytes_in[target] += len(payload)
                try:
                    came = self.relays[target].receive(self.keys[source], decode_message(payload), self.now_ms)
                except PeerFault as fault:
                    self.faults.append(fault)
                    continue
                self.delivered[target] += came
                for delivery in came:
                    self.relays[target].accept(delivery)
            if self.now_ms % HEARTBEAT_MS == 0:
                for relay in self.relays:
                    relay.heartbeat(self.now_ms)
            self.collect()


def everybody(count: int) -> set[tuple[int, int]]:
    return {(i, j) for i in range(count) for j in range(i + 1, count)}


def ring(count: int, reach: int) -> set[tuple[int, int]]:
    """Each is connected with ``reach`` on both sides."""
    return {(min(i, j), max(i, j)) for i in range(count) for step in range(1, reach + 1) for j in ((i + step) % count,)}


def assert_spread(network: Network, origin: int, data: bytes) -> None:
    for number, delivered in enumerate(network.delivered):
        found = [delivery.data for delivery in delivered if delivery.data == data]
        assert len(found) == (number != origin), f"node {number} got it {len(found)} times"


SMALL, LARGE = b"s" * 1_000, random.Random(1).randbytes(300_000)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_where_all_are_connected_it_comes_to_each_exactly_once(data: bytes) -> None:
    network = Network(everybody(8), relays=False)
    network.publish(0, data)
    network.run(2_000)
    assert_spread(network, 0, data)
    assert all(relay.counters.duplicates == 0 for relay in network.relays)
    assert all(size < 1.15 * len(data) for size in network.bytes_in[1:])


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_over_a_mesh_of_degree_four_it_is_relayed_to_all(data: bytes) -> None:
    network = Network(ring(32, 2), relays=True, degree=4)
    network.publish(5, data)
    network.run(3_000)
    assert_spread(network, 5, data)


def test_a_large_payload_comes_in_once_although_all_neighbours_have_it() -> None:
    network = Network(ring(32, 2), relays=True, degree=4)
    network.publish(5, LARGE)
    network.run(3_000)
    assert max(network.bytes_in) < 1.2 * len(LARGE)


def test_pieces_are_passed_on_before_the_whole_is_there() -> None:
    data = random.Random(2).randbytes(40 * PIECE_BYTES)
    line = {(i, i + 1) for i in range(5)}
    network = Network(line, relays=True)
    network.publish(0, data)
    # A link takes 10 ms; five links one after the other, with asking, take as long whatever the number of pieces.
    network.run(15 * LATENCY_MS)
    assert_spread(network, 0, data)


@pytest.mark.parametrize("relays", [False, True])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_what_queues_drop_is_fetched_all_the_same(data: bytes, relays: bool) -> None:
    chance = random.Random(3)
    network = Network(everybody(6), relays=relays, drops=lambda outgoing: chance.random() < 0.3)
    payloads = [bytes([i]) + data for i in range(10)]
    for number, payload in enumerate(payloads):
        network.publish(number % 6, payload)
    network.run(20_000)
    for number, payload in enumerate(payloads):
        assert_spread(network, number % 6, payload)


def test_the_next_who_has_it_is_asked_and_the_first_loses_score() -> None:
    relay = Relay(b"k" * 32, relays=True)
    for key in (b"a" * 32, b"b" * 32):
        relay.opened(key, is_dialled=True)
    relay.out.clear()
    identifier = payload_id(0, SMALL)
    for key in (b"a" * 32, b"b" * 32):
        relay.receive(key, HavePayloads((identifier,)), 0)
    assert [(outgoing.key[:1], outgoing.message) for outgoing in relay.out] == [(b"a", WantPayload(identifier, 0))]
    relay.out.clear()
    relay.heartbeat(1_000)
    assert [(outgoing.key[:1], outgoing.message) for outgoing in relay.out] == [(b"b", WantPayload(identifier, 0))]
    assert relay.neighbours[b"a" * 32].score < 0 == relay.neighbours[b"b" * 32].score
    assert relay.counters.broken_promises == 1


def test_a_piece_that_is_not_the_one_of_its_head_is_an_offence() -> None:
    network = Network(everybody(2), relays=False)
    network.relays[0].publish(0, LARGE, 0)
    head = next(outgoing.message for outgoing in network.relays[0].out if isinstance(outgoing.message, PayloadHead))
    piece = next(outgoing.message for outgoing in network.relays[0].out if isinstance(outgoing.message, Piece))
    victim = network.relays[1]
    victim.receive(network.keys[0], head, 0)
    with pytest.raises(PeerFault) as caught:
        victim.receive(network.keys[0], Piece(piece.id, piece.index, b"!" + piece.data[1:]), 0)
    assert caught.value.code == "bad_piece"
    with pytest.raises(PeerFault, match="VoteMessage"):
        victim.receive(network.keys[0], VoteMessage(b""), 0)


def test_what_is_not_in_order_is_not_passed_on() -> None:
    relay = Relay(b"k" * 32, relays=True)
    for key in (b"a" * 32, b"b" * 32):
        relay.opened(key, is_dialled=True)
    relay.out.clear()
    [delivery] = relay.receive(b"a" * 32, Payload(0, SMALL), 0)
    relay.reject(delivery)
    relay.heartbeat(500)
    relay.receive(b"b" * 32, WantPayload(delivery.id, 0), 600)
    assert relay.out == []
    assert relay.receive(b"b" * 32, Payload(0, SMALL), 700) == []
    assert relay.neighbours[b"a" * 32].score < 0


def test_who_begins_too_many_is_refused_and_counted() -> None:
    relay = Relay(b"k" * 32, relays=False)
    relay.opened(b"a" * 32, is_dialled=False)
    for number in range(20):
        relay.receive(b"a" * 32, PayloadHead(0, 2 * PIECE_BYTES, bytes([number]) * 64), 0)
    assert relay.counters.refused == 4


def test_the_mesh_keeps_its_degree_and_a_share_of_own_calls() -> None:
    relay = Relay(b"k" * 32, relays=True, degree=6)
    mine = [b"m" + bytes([i]) * 31 for i in range(4)]
    crowd = [b"c" + bytes([i]) * 31 for i in range(40)]
    for key in mine:
        relay.opened(key, is_dialled=True)
    for key in crowd:
        relay.opened(key, is_dialled=False)
        relay.receive(key, MeshLink(True), 0)
        relay.neighbours[key].score = 50  # they behave well, until there are enough of them
    relay.heartbeat(HEARTBEAT_MS)
    linked = [key for key, neighbour in relay.neighbours.items() if neighbour.is_linked]
    assert len(linked) <= 12
    assert sum(key in mine for key in linked) >= 2
    relay.closed(linked[0])
    for key in linked[1:]:
        relay.receive(key, MeshLink(False), HEARTBEAT_MS)
    relay.heartbeat(12_000)  # who let this node go is left in peace for 10 s
    assert sum(neighbour.is_linked for neighbour in relay.neighbours.values()) == 6


def test_a_thousand_payloads_at_once_come_to_all() -> None:
    network = Network(everybody(8), relays=False)
    for number in range(1_000):
        network.publish(number % 8, number.to_bytes(4, "big") + SMALL)
    network.run(3_000)
    assert [len(delivered) for delivered in network.delivered] == [875] * 8


def test_an_id_that_was_seen_is_not_spread_again() -> None:
    network = Network(everybody(3), relays=False)
    network.publish(0, SMALL)
    network.run(1_000)
    before = network.sent[Payload]
    network.publish(0, SMALL)
    network.publish(1, SMALL)
    network.run(1_000)
    assert network.sent[Payload] == before


def test_payloads_out_of_bounds_are_a_bug_of_the_caller() -> None:
    relay = Relay(b"k" * 32, relays=False)
    for data in (b"", bytes(256 * PIECE_BYTES + 1)):
        with pytest.raises(ValueError, match="a payload of"):
            relay.publish(0, data, 0)


def head_of(data: bytes) -> tuple[PayloadHead, list[Piece]]:
    relay = Relay(b"o" * 32, relays=False)
    relay.opened(b"n" * 32, is_dialled=True)
    relay.publish(0, data, 0)
    messages = [outgoing.message for outgoing in relay.out]
    [head] = [message for message in messages if isinstance(message, PayloadHead)]
    return head, [message for message in messages if isinstance(message, Piece)]


def test_who_begins_payloads_and_sends_nothing_does_not_keep_out_those_of_others() -> None:
    relay = Relay(b"k" * 32, relays=True)
    for key in (b"a" * 32, b"b" * 32):
        relay.opened(key, is_dialled=False)
    head, pieces = head_of(LARGE)
    for beat in range(200):
        now_ms = HEARTBEAT_MS * beat
        for number in range(5):
            hashes = bytes([beat, number]) * 4096
            relay.receive(b"a" * 32, PayloadHead(0, 256 * PIECE_BYTES, hashes), now_ms)
        relay.heartbeat(now_ms)
        relay.out.clear()
    relay.receive(b"b" * 32, head, now_ms)
    delivered = [delivery for piece in pieces for delivery in relay.receive(b"b" * 32, piece, now_ms)]
    assert [delivery.data for delivery in delivered] == [LARGE]


def test_who_announces_what_it_does_not_have_does_not_fill_the_list_of_what_is_wanted() -> None:
    relay = Relay(b"k" * 32, relays=True)
    for key in (b"a" * 32, b"b" * 32):
        relay.opened(key, is_dialled=False)
    for number in range(20_000):
        relay.receive(b"a" * 32, HavePayloads((number.to_bytes(32, "big"),)), 0)
    relay.out.clear()
    identifier = payload_id(0, SMALL)
    relay.receive(b"b" * 32, HavePayloads((identifier,)), 0)
    assert [(outgoing.key, outgoing.message) for outgoing in relay.out] == [(b"b" * 32, WantPayload(identifier, 0))]
    for beat in range(1, 30):
        relay.heartbeat(HEARTBEAT_MS * beat)
    assert not relay.is_restless or relay.neighbours[b"a" * 32].owes == 0
    assert relay.neighbours[b"b" * 32].owes == 0


def test_what_a_node_publishes_itself_while_it_comes_is_not_waited_for() -> None:
    relay = Relay(b"k" * 32, relays=True)
    relay.opened(b"a" * 32, is_dialled=False)
    head, pieces = head_of(LARGE)
    for _ in range(3):
        relay.receive(b"a" * 32, head, 0)
        relay.publish(0, LARGE, 0)
    assert [delivery for piece in pieces for delivery in relay.receive(b"a" * 32, piece, 0)] == []
    assert relay.neighbours[b"a" * 32].owes == 0
    relay.heartbeat(5_000)
    assert relay.counters.broken_promises == 0


def test_pieces_of_other_lengths_than_the_head_says_are_an_offence() -> None:
    relay = Relay(b"k" * 32, relays=True)
    relay.opened(b"a" * 32, is_dialled=False)
    short = PayloadHead(0, 2 * PIECE_BYTES, sha256(b"x").digest() * 2)
    relay.receive(b"a" * 32, short, 0)
    with pytest.raises(PeerFault) as caught:
        relay.receive(b"a" * 32, Piece(head_id(short), 0, b"x"), 0)
    assert caught.value.code == "bad_piece"
    with pytest.raises(PeerFault):
        relay.receive(b"a" * 32, Piece(head_id(short), 2**63, b""), 0)


def test_a_crowd_of_callers_leaves_places_for_those_whom_the_node_calls() -> None:
    relay = Relay(b"k" * 32, relays=True, degree=6)
    for i in range(40):
        relay.opened(b"c" + bytes([i]) * 31, is_dialled=False)
        relay.receive(b"c" + bytes([i]) * 31, MeshLink(True), 0)
    mine = [b"m" + bytes([i]) * 31 for i in range(4)]
    for key in mine:
        relay.opened(key, is_dialled=True)
    relay.heartbeat(HEARTBEAT_MS)
    assert sum(relay.neighbours[key].is_linked for key in mine) == 2
    for key in mine:
        relay.receive(key, MeshLink(True), HEARTBEAT_MS)
    relay.heartbeat(2 * HEARTBEAT_MS)
    linked = [key for key, neighbour in relay.neighbours.items() if neighbour.is_linked]
    assert len(linked) <= 12
    assert sum(key in mine for key in linked) >= 2


def test_an_id_is_forgotten_in_time_and_what_is_kept_counts_once() -> None:
    relay = Relay(b"k" * 32, relays=True)
    relay.opened(b"a" * 32, is_dialled=False)
    assert len(relay.receive(b"a" * 32, Payload(0, SMALL), 0)) == 1
    assert len(relay.receive(b"a" * 32, Payload(0, SMALL), 119_999)) == 0
    for number in range(1, 6_000):
        assert len(relay.receive(b"a" * 32, Payload(0, bytes(16_384)), 120_000 * number)) == 1
    relay.heartbeat(120_000 * 6_000)
    relay.publish(0, SMALL, 120_000 * 6_000)
    relay.receive(b"a" * 32, WantPayload(payload_id(0, SMALL), 0), 120_000 * 6_000)
    assert relay.counters.served == 1
