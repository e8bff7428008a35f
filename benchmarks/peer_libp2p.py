"""The loads of ``p2pledger bench gossip`` on somebody else's software: gossipsub of py-libp2p.

    pip install libp2p                                  # into the environment that has p2pledger; never a dependency
    python benchmarks/peer_libp2p.py                    # at its defaults, then tuned
    python benchmarks/peer_libp2p.py --loads 1000@closed 100000@fixed:4 --seconds 20 --only tuned

As there: N nodes in one process on loopback, everybody connected with everybody, authenticated and encrypted sessions;
nodes take turns to publish random bytes; a payload counts as delivered when all other nodes have it, and its latency is
that of the last one, from the moment at which it was due. What did not arrive within the limit counts as longer than
the limit. ``closed`` publishes the next payload when all have the last one, or the limit is over: that is the kindest
load there is, and shows the rate that the software reaches without ever having to hold anything back.

*Defaults*: every argument is left out that can be; the degrees, which have no defaults, are those of the specification
(6, 4 to 12). *Tuned*: what was found in its source to cost time or messages is turned off or made large, constants of
its modules included; sessions stay authenticated, but messages are not signed, as they are not in our measurement.
All settings are printed. The last line is JSON: ``rows`` of size_bytes, nodes, settings, arrivals, offered_per_s,
delivered_per_s, delivered_share, p50_ms, p99_ms (text where it lies beyond the limit), cpu_s; or ``failed`` and why,
where it broke down.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from typing import Any, Final

import trio

from p2pledger.bench.histogram import Histogram
from p2pledger.load.arrivals import Arrivals

try:
    import multiaddr
    from libp2p import new_host
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from libp2p.pubsub import pubsub as pubsub_module
    from libp2p.pubsub.gossipsub import PROTOCOL_ID_V12, GossipSub
    from libp2p.pubsub.pubsub import Pubsub
    from libp2p.pubsub.rpc_queue import RpcQueue
    from libp2p.tools.anyio_service import background_trio_service
except ImportError as missing:
    sys.exit(f"peer_libp2p: {missing}. Install the software that is compared with: pip install libp2p")

TOPIC: Final = "payloads"
DEFAULT_LOADS: Final = ("1000@closed", "1000@fixed:10", "1000@fixed:50", "100000@closed", "100000@fixed:4")
_NUMBER_BYTES: Final = 8
_MESH_S: Final = 3.0
"""After all know of each other's subscription: a heartbeat or more, in which the mesh is made."""
_CONNECT_WITHIN_S: Final = 60.0
_DEGREES: Final = {"degree": 6, "degree_low": 4, "degree_high": 12}
_QUEUE: Final = 8_192

SETTINGS: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "defaults": {"gossipsub": _DEGREES, "pubsub": {}, "modules": {}},
    "tuned": {
        "gossipsub": {
            # Everybody is pushed to: with fewer links payloads were late by heartbeats, or lost.
            "degree": 7,
            "degree_low": 7,
            "degree_high": 14,
            "heartbeat_interval": 1,
            "adaptive_gossip_enabled": False,
            "spam_protection_enabled": False,
            "eclipse_protection_enabled": False,
            "max_pending_messages_per_peer": _QUEUE,
        },
        "pubsub": {"strict_signing": False, "cache_size": 65_536, "validation_cache_size": 65_536},
        "modules": {"SUBSCRIPTION_CHANNEL_SIZE": _QUEUE, "OutBoundQueueSize": _QUEUE},
    },
}


@contextmanager
def _constants(values: dict[str, Any]) -> Iterator[None]:
    """Constants of its modules that no argument reaches, for as long as one run."""
    before = pubsub_module.SUBSCRIPTION_CHANNEL_SIZE, pubsub_module.RpcQueue
    if values:
        pubsub_module.SUBSCRIPTION_CHANNEL_SIZE = values["SUBSCRIPTION_CHANNEL_SIZE"]
        pubsub_module.RpcQueue = partial(RpcQueue, max_size=values["OutBoundQueueSize"])
    try:
        yield
    finally:
        pubsub_module.SUBSCRIPTION_CHANNEL_SIZE, pubsub_module.RpcQueue = before


@asynccontextmanager
async def _nodes(count: int, settings: dict[str, dict[str, Any]]) -> AsyncIterator[list[Pubsub]]:
    """Nodes that are connected, each with each, and have subscribed."""
    async with AsyncExitStack() as stack:
        hosts, nodes = [], []
        for number in range(count):
            seed = sha256(b"peer_libp2p" + number.to_bytes(4, "big")).digest()
            host = new_host(key_pair=create_new_key_pair(seed))
            await stack.enter_async_context(host.run([multiaddr.Multiaddr("/ip4/127.0.0.1/tcp/0")]))
            router = GossipSub(protocols=[PROTOCOL_ID_V12], **settings["gossipsub"])
            node = Pubsub(host, router, **settings["pubsub"])
            await stack.enter_async_context(background_trio_service(node))
            await stack.enter_async_context(background_trio_service(router))
            await node.wait_until_ready()
            hosts.append(host)
            nodes.append(node)
        with trio.fail_after(_CONNECT_WITHIN_S):
            for at, host in enumerate(hosts):
                for other in hosts[at + 1 :]:
                    await host.connect(info_from_p2p_addr(other.get_addrs()[0]))
            for node, host in zip(nodes, hosts, strict=True):
                for other in hosts:
                    if other is not host:
                        await node.wait_for_peer(other.get_id(), timeout=_CONNECT_WITHIN_S)
            for node in nodes:
                await node.subscribe(TOPIC)
            for node, host in zip(nodes, hosts, strict=True):
                for other in hosts:
                    if other is not host:
                        await node.wait_for_subscription(other.get_id(), TOPIC, timeout=_CONNECT_WITHIN_S)
        await trio.sleep(_MESH_S)
        yield nodes


class _Board:
    """What is known of each payload: its hash, how many nodes have it, when the last one got it."""

    def __init__(self, others: int) -> None:
        self.others = others
        self.hashes: list[bytes] = []
        self.counts: list[int] = []
        self.done_s: list[float] = []
        self.delivered = 0
        self.wrong = 0
        self.changed = trio.Event()

    def publish(self, data: bytes) -> None:
        self.hashes.append(sha256(data).digest())
        self.counts.append(0)
        self.done_s.append(0.0)

    def arrived(self, data: bytes) -> None:
        number = int.from_bytes(data[:_NUMBER_BYTES], "big")
        if number >= len(self.hashes) or sha256(data).digest() != self.hashes[number]:
            self.wrong += 1
            return
        self.counts[number] += 1
        if self.counts[number] == self.others:
            self.done_s[number] = trio.current_time()
            self.delivered += 1
            self.changed.set()

    async def wait_delivered(self, count: int) -> None:
        while self.delivered < count:
            self.changed = trio.Event()
            await self.changed.wait()

    async def wait_done(self, number: int) -> None:
        while not self.done_s[number]:
            self.changed = trio.Event()
            await self.changed.wait()


async def _listen(node: Pubsub, board: _Board) -> None:
    own = node.my_id.to_bytes()
    subscription = node.subscribed_topics_receive[TOPIC]
    while True:
        message = await subscription.get()
        if message.from_id != own:
            board.arrived(message.data)


def _payload(number: int, size_bytes: int, noise: bytes) -> bytes:
    rest_bytes = size_bytes - _NUMBER_BYTES
    at = number * 7 % 4_096
    return number.to_bytes(_NUMBER_BYTES, "big") + noise[at : at + rest_bytes]


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def _run(name: str, load: str, options: argparse.Namespace) -> dict[str, Any]:
    size, _, arrivals = load.partition("@")
    size_bytes, settings = int(size), SETTINGS[name]
    noise = random.Random(1).randbytes(size_bytes + 4_096)
    board = _Board(options.nodes - 1)
    due_s: list[float] = []
    started_s = ended_s = began_cpu_s = cpu_s = 0.0

    async def measure() -> None:
        nonlocal started_s, ended_s, began_cpu_s, cpu_s
        async with _nodes(options.nodes, settings) as nodes, trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(_listen, node, board)
            began_cpu_s, started_s = time.process_time(), trio.current_time()

            async def publish(due: float) -> None:
                number = len(due_s)
                due_s.append(due)
                data = _payload(number, size_bytes, noise)
                board.publish(data)
                await nodes[number % len(nodes)].publish(TOPIC, data)

            if arrivals == "closed":
                while trio.current_time() < started_s + options.seconds:
                    await publish(trio.current_time())
                    with trio.move_on_after(options.limit):
                        await board.wait_done(len(due_s) - 1)
            else:
                for moment in Arrivals.parse(arrivals).due_s(options.seconds, 1):
                    await trio.sleep_until(started_s + moment)
                    await publish(started_s + moment)
                with trio.move_on_after(options.limit):
                    await board.wait_delivered(len(due_s))
            ended_s, cpu_s = trio.current_time(), time.process_time() - began_cpu_s
            nursery.cancel_scope.cancel()

    with _constants(settings["modules"]):
        try:
            await measure()
        except Exception as error:
            # Stopped with messages under way, its services fall over each other: by then everything is counted.
            if not ended_s:
                why = " ".join(str(_first(error)).split())
                return {"size_bytes": size_bytes, "settings": name, "arrivals": arrivals, "failed": why}
    latencies = Histogram(round(1_000_000 * options.limit))
    for due, done_s in zip(due_s, board.done_s, strict=True):
        if done_s:
            latencies.add(round(1_000_000 * (done_s - due)))
        else:
            latencies.add_missing()
    window_s = ended_s - started_s if arrivals == "closed" else options.seconds
    in_window = sum(0 < done_s <= started_s + window_s for done_s in board.done_s)
    return {
        "size_bytes": size_bytes,
        "nodes": options.nodes,
        "settings": name,
        "arrivals": arrivals,
        "offered_per_s": round(len(due_s) / window_s, 2),
        "delivered_per_s": round(in_window / window_s, 2),
        "delivered_share": round(board.delivered / len(due_s), 4),
        "p50_ms": latencies.milliseconds(0.5),
        "p99_ms": latencies.milliseconds(0.99),
        "wrong": board.wrong,
        "cpu_s": round(cpu_s, 2),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The loads of p2pledger bench gossip on py-libp2p's gossipsub.")
    parser.add_argument("--loads", nargs="+", default=DEFAULT_LOADS, metavar="SIZE@ARRIVALS")
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds after which a payload counts as lost")
    parser.add_argument("--only", choices=sorted(SETTINGS), help="these settings and not the others")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # it warns of each message that it drops; they are counted here
    software = {"libp2p": version("libp2p"), "trio": version("trio"), "python": platform.python_version()}
    names = [options.only] if options.only else list(SETTINGS)
    print("software:", json.dumps(software))
    for name in names:
        print(f"settings {name}:", json.dumps(SETTINGS[name]))
    rows = []
    for load in options.loads:
        for name in names:
            row = trio.run(_run, name, load, options)
            rows.append(row)
            print(json.dumps(row), flush=True)
    print(json.dumps({"software": software, "settings": {name: SETTINGS[name] for name in names}, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
