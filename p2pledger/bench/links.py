"""Whether shaped links do what their manifest says, without the model that shapes them: ``p2pledger bench links``.

Every node of the manifest is a set of real sessions (TCP and TLS on 127.0.0.1) in this process, with nothing above
them. Frames carry the time at which they were handed over; whoever gets them looks at the same clock. So

    delay   is the median over small frames, one at a time, on each way from one node to another
    rate    is what arrives in the second half of a flood, so that a connection which begins slowly has begun

and both are held against the numbers in the manifest: latency and half the jitter, bandwidth. Nothing is subtracted:
what sockets, TLS and the scheduler take is in the figures, and is shown beside them as the delay of a session that is
not shaped. Five percent of a short delay is less than that; so a delay may be 1 ms off in any case.

Where the kernel can do the same (netem for delays, tbf for rates, in a network namespace of its own), sessions that are
not shaped run over it, and its figures stand beside ours.
"""

from __future__ import annotations

import json
import random
import statistics
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from p2pledger.network.certificates import NodeCertificate
from p2pledger.network.effects import VALIDATOR, Event, Identity, Received, SessionOpened
from p2pledger.network.frames import HEADER_BYTES
from p2pledger.network.handshake import LocalEnd
from p2pledger.network.topology import NodeLinks, Topology
from p2pledger.network.transport import Sessions
from p2pledger.primitives.errors import InvalidInput, P2PLedgerError
from p2pledger.primitives.keys import Keypair

__all__ = ["MANIFEST", "TOLERANCE", "DelayFigure", "KernelFigure", "RateFigure", "Report", "kernel_figures", "measure"]

MANIFEST: Final = """\
[network]
bandwidth_mbit = 40
[regions.frankfurt]
nodes = ["FRANKFURT"]
[regions.virginia]
nodes = ["VIRGINIA"]
[regions.singapore]
nodes = ["SINGAPORE"]
[regions.tokyo]
nodes = ["TOKYO"]
bandwidth_mbit = 20
[[links]]
between = ["frankfurt", "virginia"]
jitter_ms = 4
[[links]]
between = ["singapore", "tokyo"]
bandwidth_mbit = 10
"""
"""What is measured if nothing else is asked for: delays of 35 to 115 ms, three bandwidths, jitter on one link."""
TOLERANCE: Final = 0.05
_SLACK_MS: Final = 1.0
_SAMPLES: Final = 41
_FRAMES_PER_S: Final = 150
_FLOOD_S: Final = 2.0
_FLOOD_FRAME_BYTES: Final = 16_384
_TOGETHER_S: Final = 0.001
_LARGEST_FLOOD_BYTES: Final = 8 * 1_048_576
_MOST_NODES: Final = 12
_PATIENCE_S: Final = 60.0
_HEAD: Final = struct.Struct(">BHQ")
"""What it is, a number, and nanoseconds when it was handed over."""
_PROBE, _FLOOD = 0, 1
_KERNEL_DELAY_MS: Final = 30
_KERNEL_RATE_MBIT: Final = 20


@dataclass(frozen=True, slots=True)
class DelayFigure:
    """One way from a node to another, in milliseconds."""

    source: str
    target: str
    manifest_ms: float
    measured_ms: float
    lowest_ms: float
    highest_ms: float
    samples: int

    @property
    def deviation(self) -> float:
        """Share of the manifest's figure; 0 where that is 0."""
        return self.measured_ms / self.manifest_ms - 1 if self.manifest_ms else 0.0

    @property
    def is_right(self) -> bool:
        return abs(self.measured_ms - self.manifest_ms) <= max(TOLERANCE * self.manifest_ms, _SLACK_MS)


@dataclass(frozen=True, slots=True)
class RateFigure:
    """What a node gets through to others at the same time, in megabits of frames a second."""

    source: str
    targets: tuple[str, ...]
    manifest_mbit: float
    measured_mbit: float
    is_judged: bool
    """Not where packets are lost: that costs time, and no line of a manifest says how much."""

    @property
    def deviation(self) -> float:
        return self.measured_mbit / self.manifest_mbit - 1

    @property
    def is_right(self) -> bool:
        return not self.is_judged or abs(self.deviation) <= TOLERANCE


@dataclass(frozen=True, slots=True)
class Report:
    """``bare_ms``: the one-way delay of a session that is not shaped, in the same minute."""

    bare_ms: float
    delays: tuple[DelayFigure, ...]
    rates: tuple[RateFigure, ...]

    @property
    def is_right(self) -> bool:
        return all(delay.is_right for delay in self.delays) and all(rate.is_right for rate in self.rates)


def _now_ns() -> int:
    return int(trio.current_time() * 1e9)


class _Place:
    """One node: sessions by the names of others, and what came in."""

    def __init__(self, name: str, number: int, topology: Topology | None) -> None:
        self.name = name
        self.keypair = Keypair.from_seed(f"link {number}".encode().ljust(32))
        self.numbers: dict[str, int] = {}
        self.delays_ms: dict[int, list[float]] = {}
        self.flood: dict[int, list[tuple[float, int]]] = {}
        """Number of the sender -> (seconds, bytes) of each frame."""
        self.news = trio.Event()
        self.sessions = Sessions(
            LocalEnd(bytes(32), self.keypair, VALIDATOR, name),
            NodeCertificate.fresh(),
            admit=lambda identity: None,
            deliver=self._deliver,
            log=lambda level, event, fields: None,
        )
        if topology is not None:
            links = NodeLinks(topology, name, random.Random(number))
            self.sessions.shape(lambda identity: links.link(identity.name))

    async def _deliver(self, events: Sequence[Event]) -> None:
        now_ns = _now_ns()
        for event in events:
            match event:
                case Received(_, payload):
                    kind, number, sent_ns = _HEAD.unpack_from(payload)
                    if kind == _PROBE:
                        self.delays_ms.setdefault(number, []).append((now_ns - sent_ns) / 1e6)
                    else:
                        self.flood.setdefault(number, []).append((now_ns / 1e9, HEADER_BYTES + len(payload)))
                case SessionOpened(session, Identity(_, _, name)):
                    self.numbers[name] = session
                case _:
                    pass
        self.news.set()
        self.news = trio.Event()

    def send(self, target: str, kind: int, number: int, size_bytes: int) -> None:
        """One frame of this many bytes with its header. P2PLedgerError if it does not fit into the queue."""
        head = _HEAD.pack(kind, number, _now_ns())
        if not self.sessions.send(self.numbers[target], head.ljust(size_bytes - HEADER_BYTES, b"\0")):
            raise P2PLedgerError(f"the session from {self.name} to {target} has ended", code="link_failed")

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self.news.wait()


@asynccontextmanager
async def _places(names: Sequence[str], topology: Topology | None) -> AsyncIterator[list[_Place]]:
    """Nodes with a session between each two whom the manifest does not cut off."""
    places = [_Place(name, number, topology) for number, name in enumerate(names)]

    def are_apart(one: _Place, other: _Place) -> bool:
        return one is other or (topology is not None and topology.is_cut(one.name, other.name))

    with trio.fail_after(_PATIENCE_S + len(names) ** 2):
        async with trio.open_nursery() as nursery:
            ports = {}
            for place in places:
                ports[place.keypair.public_key] = "127.0.0.1", await place.sessions.listen("127.0.0.1", 0)
                await nursery.start(place.sessions.run)
            for place in places:
                others = [other for other in places if not are_apart(place, other)]
                place.sessions.set_peers(
                    {other.keypair.public_key: ports[other.keypair.public_key] for other in others}
                )
            for place in places:
                wanted = sum(not are_apart(place, other) for other in places)
                await place.wait_until(lambda place=place, wanted=wanted: len(place.numbers) >= wanted)  # type: ignore[misc]
            yield places
            nursery.cancel_scope.cancel()


async def _delays(places: Sequence[_Place], samples: int) -> dict[tuple[str, str], list[float]]:
    """(source, target) -> milliseconds of each small frame. All ways take turns, so that a busy moment meets all."""
    by_name = {place.name: place for place in places}
    ways = [(place.name, target) for place in places for target in place.numbers]
    for _ in range(samples):
        for number, (source, target) in enumerate(ways):
            by_name[source].send(target, _PROBE, number, 64)
            await trio.sleep(1 / _FRAMES_PER_S)
    found = {}
    for number, (source, target) in enumerate(ways):
        heard = by_name[target].delays_ms.setdefault(number, [])
        await by_name[target].wait_until(lambda heard=heard: len(heard) >= samples)  # type: ignore[misc]
        found[source, target] = heard
    return found


async def _rate_mbit(places: Sequence[_Place], source: _Place, targets: Sequence[str], rate_mbit: float) -> float:
    """Flood some others at once, and see how fast the second half of it comes in, at all of them together."""
    total_bytes = min(rate_mbit * 125_000 * _FLOOD_S, _LARGEST_FLOOD_BYTES * len(targets))
    frames = max(8, int(total_bytes / len(targets) / _FLOOD_FRAME_BYTES))
    receivers = [place for place in places if place.name in targets]
    number = places.index(source)
    for receiver in receivers:
        receiver.flood[number] = []
    for _ in range(frames):
        for target in targets:
            source.send(target, _FLOOD, number, _FLOOD_FRAME_BYTES)
    bytes_per_s = 0.0
    for receiver in receivers:
        heard = receiver.flood[number]
        await receiver.wait_until(lambda heard=heard: len(heard) >= frames)  # type: ignore[misc]
        first_s, last_s = heard[frames // 2][0], heard[-1][0]
        # Frames come some at a time; what comes with the first one belongs to the time before it.
        late_bytes = sum(size_bytes for at_s, size_bytes in heard if at_s > first_s + _TOGETHER_S)
        bytes_per_s += late_bytes / max(last_s - first_s, 1e-9)
    return bytes_per_s / 125_000


def _floods(topology: Topology, names: Sequence[str]) -> list[tuple[str, tuple[str, ...], float, bool]]:
    """(source, targets, megabits a second by the manifest, whether it is judged) of each flood."""
    floods: list[tuple[str, tuple[str, ...], float, bool]] = []
    for source in names:
        others = [name for name in names if name != source and not topology.is_cut(source, name)]
        uplink = topology.uplink(source)
        free = tuple(name for name in others if not topology.shape(source, name).bytes_per_s)
        if uplink and free:
            lossless = not any(topology.shape(source, name).loss for name in free)
            floods.append((source, free, uplink / 125_000, lossless))
        for name in others:
            shape = topology.shape(source, name)
            if shape.bytes_per_s:
                rate = min(shape.bytes_per_s, uplink or shape.bytes_per_s)
                floods.append((source, (name,), rate / 125_000, not shape.loss))
    return floods


async def measure(
    topology: Topology, *, samples: int = _SAMPLES, tell: Callable[[str], None] = lambda line: None
) -> Report:
    """Delays on all ways and rates of all that the manifest bounds. InvalidInput if it names too few or many nodes."""
    names = topology.nodes
    if not 2 <= len(names) <= _MOST_NODES:
        raise InvalidInput(f"the manifest names {len(names)} nodes", hint=f"2 to {_MOST_NODES} can be measured here")
    async with _places(names[:2], None) as places:
        bare = statistics.median(delay for found in (await _delays(places, samples)).values() for delay in found)
    async with _places(names, topology) as places:
        tell(f"delays: {samples} frames on each of {sum(len(place.numbers) for place in places)} ways")
        delays = []
        for (source, target), found in (await _delays(places, samples)).items():
            shape = topology.shape(source, target)
            manifest_ms = (shape.latency_us + shape.jitter_us / 2) / 1_000
            delays.append(
                DelayFigure(source, target, manifest_ms, statistics.median(found), min(found), max(found), len(found))
            )
        rates = []
        by_name = {place.name: place for place in places}
        for source, targets, rate_mbit, is_judged in _floods(topology, names):
            tell(f"rate: {source} to {', '.join(targets)}")
            measured = await _rate_mbit(places, by_name[source], targets, rate_mbit)
            rates.append(RateFigure(source, targets, rate_mbit, measured, is_judged))
    return Report(bare, tuple(delays), tuple(rates))


# --- beside the kernel ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KernelFigure:
    """The same by the kernel's queueing discipline and by ours. ``skipped`` says why there is no figure."""

    what: str
    unit: str
    asked: float
    kernel: float = 0.0
    ours: float = 0.0
    skipped: str = ""


_IN_NAMESPACE: Final = """\
ip link set lo up mtu 1500 || exit 3
tc qdisc add dev lo root $1 || exit 3
exec "$2" -m p2pledger.bench.links $3 $4
"""


async def _probe(what: str, amount: float, topology: Topology | None) -> float:
    """One figure between two nodes: a delay in milliseconds, or a rate in megabits a second."""
    async with _places(("A", "B"), topology) as places:
        if what == "delay":
            return statistics.median((await _delays(places, _SAMPLES))["A", "B"])
        return await _rate_mbit(places, places[0], ("B",), amount)


def kernel_figures() -> tuple[KernelFigure, ...]:
    """A delay by netem and a rate by tbf, each beside ours; skipped with the reason where the kernel refuses."""
    figures = []
    for what, unit, amount, discipline, line in (
        ("delay", "ms", _KERNEL_DELAY_MS, f"netem delay {_KERNEL_DELAY_MS}ms", f"latency_ms = {_KERNEL_DELAY_MS}"),
        (
            "rate",
            "Mbit/s",
            _KERNEL_RATE_MBIT,
            f"tbf rate {_KERNEL_RATE_MBIT}mbit burst 32kb latency 500ms",
            f"bandwidth_mbit = {_KERNEL_RATE_MBIT}",
        ),
    ):
        command = ["unshare", "-n", "sh", "-c", _IN_NAMESPACE, "sh", discipline, sys.executable, what, str(amount)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            figures.append(KernelFigure(f"{what} by {discipline}", unit, amount, skipped=str(error)))
            continue
        if done.returncode:
            why = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
            figures.append(KernelFigure(f"{what} by {discipline}", unit, amount, skipped=why))
            continue
        topology = Topology.parse(f"[network]\n{line}\n")
        ours = trio.run(_probe, what, float(amount), topology)
        figures.append(KernelFigure(f"{what} by {discipline}", unit, amount, json.loads(done.stdout), ours))
    return tuple(figures)


if __name__ == "__main__":
    print(json.dumps(trio.run(partial(_probe, topology=None), sys.argv[1], float(sys.argv[2]))))
