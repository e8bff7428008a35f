"""One measured run of payloads that spread from node to node, over real sockets.

N nodes in one process, each with a key, a port, sessions of mutual TLS 1.3 with the others, and the relay of the
product (``network/relay.py``): nothing is left out but the ledger. Nodes take turns to publish; payloads are random
bytes of a given size. Arrivals are open-loop: a payload is late from the moment at which it was due, whatever held it
up. It counts as delivered when *all* other nodes have it, whole and unchanged (its bytes are compared by their hash);
its latency is that of the last node.

What limits this figure is one process: it does the work of N nodes, and every byte is encrypted and decrypted for each
of them. Loopback has neither distance nor loss.
"""

from __future__ import annotations

import gc
import random
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from math import isfinite
from typing import Any, Final

import trio
import trio.lowlevel

from p2pledger.bench.histogram import Histogram
from p2pledger.bench.progress import Progress
from p2pledger.load.arrivals import Arrivals
from p2pledger.load.generator import percentile
from p2pledger.network.certificates import NodeCertificate
from p2pledger.network.effects import VALIDATOR, Event, Received, SessionClosed, SessionOpened
from p2pledger.network.relay import HEARTBEAT_MS, Relay
from p2pledger.network.transport import LocalEnd, Sessions
from p2pledger.primitives.errors import InvalidInput, P2PLedgerError, PeerFault
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import MAX_PAYLOAD_BYTES, Message, decode_message

__all__ = ["SpreadPlan", "SpreadRun", "run_spread"]

_NUMBER_BYTES: Final = 8
_CONNECT_WITHIN_S: Final = 60.0
_SETTLE_S: Final = 1.0
_SAMPLE_S: Final = 0.25
_NETWORK: Final = sha256(b"p2pledger bench gossip").digest()


@dataclass(frozen=True, slots=True)
class SpreadPlan:
    """What to run. ``degree``: neighbours of each node, 0 for everybody; then payloads are not relayed."""

    nodes: int = 8
    degree: int = 0
    size_bytes: int = 1_000
    arrivals: str = "fixed:200"
    seconds: float = 10.0
    warmup_s: float = 1.0
    limit_s: float = 10.0
    seed: int = 1

    def check(self) -> SpreadPlan:
        """InvalidInput where it cannot be run."""
        if not _NUMBER_BYTES < self.size_bytes <= MAX_PAYLOAD_BYTES:
            raise InvalidInput(f"a payload has {_NUMBER_BYTES + 1} to {MAX_PAYLOAD_BYTES:,} bytes", code="usage")
        if self.nodes < 2 or not (self.degree == 0 or 2 <= self.degree < self.nodes) or self.degree % 2:
            raise InvalidInput("at least 2 nodes; the degree is even and below them, or 0 for all", code="usage")
        if not 0 <= self.warmup_s < self.seconds or self.limit_s <= 0:
            raise InvalidInput("the window must be longer than the warm-up, and the limit positive", code="usage")
        if not isfinite(self.seconds) or not isfinite(self.limit_s):
            raise InvalidInput("the window and the limit must end", code="usage")
        if max(self.moments()) < self.warmup_s:
            raise InvalidInput(f"of {self.arrivals} nothing falls due behind the warm-up", code="usage")
        return self

    def moments(self) -> list[float]:
        """When payloads fall due, in seconds. InvalidInput for arrivals that are none."""
        return list(Arrivals.parse(self.arrivals).due_s(self.seconds, self.seed)) or [0.0]

    def edges(self) -> list[tuple[int, int]]:
        """Who has a session with whom: everybody, or a ring with random chords that give each node its degree."""
        count = self.nodes
        if not self.degree:
            return [(i, j) for i in range(count) for j in range(i + 1, count)]
        chance = random.Random(self.seed)
        found: set[tuple[int, int]] = set()
        for _ in range(self.degree // 2):
            while True:
                order = chance.sample(range(count), count)
                ring = {(min(a, b), max(a, b)) for a, b in zip(order, [*order[1:], order[0]], strict=True)}
                if not ring & found:
                    break
            found |= ring
        return sorted(found)


@dataclass(frozen=True, slots=True)
class SpreadRun:
    """What came of it. ``latencies`` are those of the last node, of payloads due behind the warm-up."""

    plan: SpreadPlan
    submitted: int
    delivered: int
    """To all."""
    deliveries: int
    """To one node each; all would be ``submitted * (nodes - 1)``."""
    latencies: Histogram
    lag_p99_ms: float
    offered_per_s: float
    delivered_per_s: float
    wire_in: float
    """Bytes that the average node received for each byte of payload that it should get; TLS adds about 1 %."""
    wire_out_max: float
    """Bytes that the busiest node sent for each byte that an average node published."""
    dropped_frames: int
    refused: int
    duplicates: int
    asked: int
    backlog: tuple[int, ...]
    """Payloads due and not delivered to all, every quarter of a second."""
    cpu_s: float
    faults: tuple[str, ...]

    def values(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        latencies = b64encode(self.latencies.encode()).decode()
        return {**plain, "plan": asdict(self.plan), "latencies": latencies}


class _Node:
    """One node of the measurement: sessions and a relay, and no ledger."""

    def __init__(self, number: int, plan: SpreadPlan, board: _Board) -> None:
        self.number = number
        self.keypair = Keypair.from_seed(sha256(_NETWORK + number.to_bytes(4, "big")).digest())
        self.relay = Relay(self.keypair.public_key, relays=bool(plan.degree), degree=plan.degree or plan.nodes)
        self.board = board
        self.sessions = Sessions(
            LocalEnd(_NETWORK, self.keypair, VALIDATOR, f"node-{number}"),
            NodeCertificate.fresh(),
            admit=lambda identity: None,
            deliver=self.deliver,
            log=lambda level, event, fields: None,
        )
        self.changed = trio.Event()
        self.by_key: dict[bytes, int] = {}
        self.by_session: dict[int, bytes] = {}

    async def deliver(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Received(number, payload):
                    key = self.by_session.get(number)
                    if key is not None:
                        self.take(key, number, payload)
                case SessionOpened(number, identity):
                    self.by_key[identity.node_key], self.by_session[number] = number, identity.node_key
                    self.relay.opened(identity.node_key, is_dialled=event.is_dialled)
                    self.changed.set()
                case SessionClosed(number):
                    key = self.by_session.pop(number, None)
                    if key is not None:
                        self.by_key.pop(key, None)
                        self.relay.closed(key)
        self.flush()

    async def wait_sessions(self, count: int) -> None:
        """Until so many sessions are open."""
        while len(self.by_key) < count:
            self.changed = trio.Event()
            await self.changed.wait()

    def take(self, key: bytes, number: int, payload: bytes) -> None:
        try:
            deliveries = self.relay.receive(key, decode_message(payload), _now_ms())
        except PeerFault as fault:
            self.board.faults.add(str(fault))
            self.sessions.end(number, fault.code, str(fault))
            return
        for delivery in deliveries:
            self.board.arrived(self.number, delivery.data)
            self.relay.accept(delivery)

    def flush(self) -> None:
        """What the relay wants to say; a message that goes to many is encoded once."""
        encoded: dict[int, bytes] = {}
        for outgoing in self.relay.out:
            message: Message = outgoing.message
            payload = encoded.get(id(message))
            if payload is None:
                payload = encoded[id(message)] = message.encode()
            number = self.by_key.get(outgoing.key)
            if number is not None:
                self.sessions.send(number, payload, bulk=outgoing.bulk)
        self.relay.out.clear()

    async def beat(self) -> None:
        while True:
            await trio.sleep(HEARTBEAT_MS / 1000)
            self.relay.heartbeat(_now_ms())
            self.flush()


class _Board:
    """What is known of each payload: its hash, how many nodes have it, and when the last one got it."""

    def __init__(self, payloads: Sequence[bytes], others: int) -> None:
        self.hashes = [sha256(payload).digest() for payload in payloads]
        self.others = others
        self.who = [0] * len(payloads)
        """Which nodes have it: a bit each."""
        self.done_s = [0.0] * len(payloads)
        self.deliveries = 0
        self.delivered = 0
        self.faults: set[str] = set()
        self.all_done = trio.Event()

    def arrived(self, node: int, data: bytes) -> None:
        number = int.from_bytes(data[:_NUMBER_BYTES], "big")
        if number >= len(self.hashes) or sha256(data).digest() != self.hashes[number]:
            self.faults.add(f"node {node} got a payload that nobody published")
            return
        if self.who[number] >> node & 1 or node == number % (self.others + 1):
            self.faults.add(f"payload {number} was delivered to a node twice")
            return
        self.deliveries += 1
        self.who[number] |= 1 << node
        if self.who[number].bit_count() == self.others:
            self.done_s[number] = trio.current_time()
            self.delivered += 1
            if self.delivered == len(self.hashes):
                self.all_done.set()


def _now_ms() -> int:
    return int(trio.current_time() * 1000)


async def run_spread(plan: SpreadPlan, progress: Progress) -> SpreadRun:
    """Runs a plan. P2PLedgerError where the nodes do not find each other."""
    plan.check()
    moments = plan.moments()
    first = sum(moment < plan.warmup_s for moment in moments)
    progress.say(f"making {len(moments):,} payloads of {plan.size_bytes:,} bytes")
    payloads = _Payloads(len(moments), plan.size_bytes, plan.seed)
    board = _Board(payloads, plan.nodes - 1)
    nodes = [_Node(number, plan, board) for number in range(plan.nodes)]
    async with trio.open_nursery() as nursery:
        progress.say(f"connecting {plan.nodes} nodes")
        await _connect(nodes, plan.edges(), nursery)
        await trio.sleep(_SETTLE_S)
        gc.collect()
        began_cpu_s = time.process_time()
        before = [node.sessions.counters for node in nodes]
        progress.say(f"{plan.size_bytes:,} bytes, {plan.arrivals}, {plan.nodes} nodes, for {plan.seconds:g} s")
        started_s = trio.current_time() + 0.05
        backlog: list[int] = []
        nursery.start_soon(_sample, plan, moments, board, started_s, backlog, progress)
        lags_s = await _publish(nodes, payloads, moments, started_s)
        with trio.move_on_after(plan.limit_s):
            await board.all_done.wait()
        cpu_s = time.process_time() - began_cpu_s
        after = [node.sessions.counters for node in nodes]
        for node in nodes:
            nursery.start_soon(node.sessions.stop)
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    latencies = Histogram(round(1_000_000 * plan.limit_s))
    for number in range(first, len(moments)):
        if board.done_s[number]:
            latencies.add(round(1_000_000 * (board.done_s[number] - started_s - moments[number])))
        else:
            latencies.add_missing()
    window_s = plan.seconds - plan.warmup_s
    ends = (done_s - started_s for done_s in board.done_s if done_s)
    in_window = sum(plan.warmup_s <= end_s < plan.seconds for end_s in ends)
    payload_bytes = len(moments) * plan.size_bytes
    received = [new.bytes_in - old.bytes_in for new, old in zip(after, before, strict=True)]
    sent = [new.bytes_out - old.bytes_out for new, old in zip(after, before, strict=True)]
    return SpreadRun(
        plan=plan,
        submitted=len(moments) - first,
        delivered=sum(bool(done_s) for done_s in board.done_s[first:]),
        deliveries=board.deliveries,
        latencies=latencies,
        lag_p99_ms=round(1000 * percentile(sorted(lags_s), 0.99), 3),
        offered_per_s=round((len(moments) - first) / window_s, 2),
        delivered_per_s=round(in_window / window_s, 2),
        wire_in=round(sum(received) / (payload_bytes * (plan.nodes - 1)), 3),
        wire_out_max=round(max(sent) / (payload_bytes / plan.nodes), 3),
        dropped_frames=sum(new.dropped_frames - old.dropped_frames for new, old in zip(after, before, strict=True)),
        refused=sum(node.relay.counters.refused for node in nodes),
        duplicates=sum(node.relay.counters.duplicates for node in nodes),
        asked=sum(node.relay.counters.asked for node in nodes),
        backlog=tuple(backlog),
        cpu_s=round(cpu_s, 2),
        faults=tuple(sorted(board.faults)),
    )


class _Payloads(Sequence[bytes]):
    """Random payloads that are not all in memory: the number, then a window of one long string of random bytes."""

    def __init__(self, count: int, size_bytes: int, seed: int) -> None:
        self._count = count
        self._rest_bytes = size_bytes - _NUMBER_BYTES
        self._noise = random.Random(seed).randbytes(2 * self._rest_bytes + 4_096)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: Any) -> Any:
        if not 0 <= number < self._count:
            raise IndexError(number)
        at = number * 7 % (self._rest_bytes + 4_096)
        return number.to_bytes(_NUMBER_BYTES, "big") + self._noise[at : at + self._rest_bytes]


async def _connect(nodes: Sequence[_Node], edges: Sequence[tuple[int, int]], nursery: trio.Nursery) -> None:
    """Everybody listens, dials those of its edges, and is waited for."""
    ports = [await node.sessions.listen("127.0.0.1", 0) for node in nodes]
    neighbours: list[dict[bytes, tuple[str, int]]] = [{} for _ in nodes]
    for one, other in edges:
        neighbours[one][nodes[other].keypair.public_key] = ("127.0.0.1", ports[other])
        neighbours[other][nodes[one].keypair.public_key] = ("127.0.0.1", ports[one])
    for node, addresses in zip(nodes, neighbours, strict=True):
        await nursery.start(node.sessions.run)
        node.sessions.set_peers(addresses)
        nursery.start_soon(node.beat)
    with trio.move_on_after(_CONNECT_WITHIN_S):
        for node, addresses in zip(nodes, neighbours, strict=True):
            await node.wait_sessions(len(addresses))
        return
    raise P2PLedgerError("the nodes did not find each other", why=f"within {_CONNECT_WITHIN_S:g} s", code="timeout")


async def _publish(
    nodes: Sequence[_Node], payloads: Sequence[bytes], moments: Sequence[float], started_s: float
) -> list[float]:
    """Each payload at its moment, by the nodes in turn. By how much each was late."""
    lags_s: list[float] = []
    while len(lags_s) < len(moments):
        await trio.sleep_until(started_s + moments[len(lags_s)])
        now_s = trio.current_time() - started_s
        publishers = set()
        while len(lags_s) < len(moments) and moments[len(lags_s)] <= now_s:
            number = len(lags_s)
            lags_s.append(now_s - moments[number])
            node = nodes[number % len(nodes)]
            node.relay.publish(0, payloads[number], _now_ms())
            publishers.add(node)
        for node in publishers:
            node.flush()
    return lags_s


async def _sample(
    plan: SpreadPlan, moments: Sequence[float], board: _Board, started_s: float, backlog: list[int], progress: Progress
) -> None:
    due = 0
    while True:
        await trio.sleep(_SAMPLE_S)
        elapsed_s = trio.current_time() - started_s
        while due < len(moments) and moments[due] <= elapsed_s:
            due += 1
        if elapsed_s <= plan.seconds:
            backlog.append(due - board.delivered)
        progress.show(elapsed_s, plan.seconds, board.delivered)
