"""What lies between two places: delay, bandwidth, loss, partitions. Frames of a session stay in order, as with TCP.

* *Delay* is drawn for each frame from the distribution of its pair, and added after the time that its bytes take.
* *Bandwidth* belongs to each pair; a place may also be slow as a whole.
* *Loss* is what TCP makes of it: the frame, and all behind it, come a retransmission later. A session may also be
  reset: everything in flight is lost, and both ends are told.
* *Reordering* happens between sessions, never within one.
* *Duplication*: TCP never delivers a frame twice, but a sender who was cut off says everything again. Here a frame may
  come a second time, later, behind others.
* A *cut* lies between a side and all others, in both directions or in one. It holds frames back until it heals, or
  resets the sessions that cross it; nobody can dial across. (With a cut in one direction a TCP session would in the
  end stop in the other one too, for want of acknowledgements; here the other one goes on, which is worse.)
* The *queue* of a sender is bounded as in the server: bulk frames that find it full are dropped and counted, any other
  frame that finds it full ends the session.

With a network manifest (``p2pledger.network.topology``) what lies between nodes is what the manifest says, by the very
model that shapes the links of servers (``p2pledger.network.shaping``): latency, jitter, an uplink that all sessions of
a node share, loss, the congestion window. Storms, surges and slow places come on top. A server's sessions take turns
on the uplink; here whole frames stand in line, in the order in which they were sent.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from p2pledger.network.shaping import Link, Uplink
from p2pledger.network.topology import Topology

__all__ = ["DISTRIBUTIONS", "QUEUE_BYTES", "Cut", "Delay", "Lane", "Weather"]

QUEUE_BYTES: Final = 4 * 1024 * 1024
DISTRIBUTIONS: Final = ("constant", "uniform", "lognormal", "pareto")
_RETRANSMISSION_US: Final = 200_000
_SIGMA: Final = 0.7
_ALPHA: Final = 1.3
_TAIL: Final = 50


@dataclass(frozen=True, slots=True)
class Delay:
    """A distribution of one-way delays in microseconds, never below half of ``mean_us`` and with a bound above.

    constant: always ``mean_us``. uniform: from ``mean_us`` to ``mean_us + spread_us``. lognormal: median ``mean_us``
    and sigma 0.7, as round trips of the internet are often found. pareto: a heavy tail with exponent 1.3, which has a
    mean but no variance. The last two end at 50 times ``mean_us``.
    """

    kind: str
    mean_us: int
    spread_us: int = 0

    def draw(self, chance: random.Random) -> int:
        """The delay of one frame."""
        if self.kind == "constant":
            return self.mean_us
        if self.kind == "uniform":
            return self.mean_us + chance.randrange(self.spread_us + 1)
        stretch = chance.lognormvariate(0.0, _SIGMA) if self.kind == "lognormal" else chance.paretovariate(_ALPHA) * 0.5
        return int(self.mean_us * min(max(0.5, stretch), _TAIL))


@dataclass(frozen=True, slots=True)
class Cut:
    """``side`` is alone: nothing crosses, or nothing leaves it (``out``), or nothing enters it (``in``)."""

    side: frozenset[str]
    direction: str = "both"

    def stops(self, source: str, target: str) -> bool:
        """Whether a frame from source to target is held back."""
        leaves = source in self.side
        if leaves == (target in self.side):
            return False
        return self.direction == "both" or (self.direction == "out") == leaves


@dataclass(slots=True)
class Weather:
    """The state of all links. ``delays`` and ``rates`` by pair of names in order; ``slow`` by name.

    Rates are bytes per millisecond.
    """

    chance: random.Random
    delays: dict[tuple[str, str], Delay]
    default: Delay = Delay("constant", 300)
    loss_per_million: int = 0
    reset_per_million: int = 0
    duplicates_per_million: int = 0
    stretch: int = 1
    """All delays are so many times what they are drawn as."""
    bytes_per_ms: int = 100_000
    rates: dict[tuple[str, str], int] = field(default_factory=dict)
    slow: dict[str, int] = field(default_factory=dict)
    cuts: dict[int, Cut] = field(default_factory=dict)
    bridges: frozenset[str] = frozenset()
    """Those whom no partition cuts off: the worst villain is the one who reaches both sides."""
    topology: Topology = field(default_factory=Topology)
    places: Mapping[str, str] = field(default_factory=dict)
    """name here -> name in the manifest, of those for whom it speaks"""
    _uplinks: dict[str, Uplink] = field(default_factory=dict)

    def lane(self, source: str, target: str) -> Lane:
        """One direction of a new session."""
        if source not in self.places or target not in self.places:
            return Lane()
        place = self.places[source]
        uplink = self._uplinks.setdefault(source, Uplink(self.topology.uplink(place)))
        return Lane(Link(self.topology.shape(place, self.places[target]), uplink, self.chance))

    def arrival_us(self, lane: Lane, source: str, target: str, now_us: int, size_bytes: int) -> int:
        """Take a frame into the queue of a lane; the time at which it arrives."""
        if lane.link is None:
            sending_us, travel_us = self.sending_us(source, target, size_bytes), self.travel_us(source, target)
            return lane.schedule(now_us, size_bytes, sending_us, travel_us)
        passage = lane.link.send(now_us, size_bytes)
        more_us = (self.stretch - 1) * lane.link.shape.latency_us
        rates = [self.slow[place] for place in (source, target) if place in self.slow]
        if rates:
            more_us += size_bytes * 1_000 // min(rates)
        if self.loss_per_million and self.chance.randrange(1_000_000) < self.loss_per_million:
            more_us += _RETRANSMISSION_US
        return lane.take(size_bytes, passage.departure_us, passage.arrival_us + more_us)

    def is_cut(self, source: str, target: str) -> bool:
        """Whether a frame on this way is held back."""
        if not self.cuts or source in self.bridges or target in self.bridges:
            return False
        return any(cut.stops(source, target) for cut in self.cuts.values())

    def is_apart(self, one: str, other: str) -> bool:
        """Whether no session can begin between these two."""
        if one in self.places and other in self.places:
            if self.topology.is_cut(self.places[one], self.places[other]):
                return True
        return bool(self.cuts) and (self.is_cut(one, other) or self.is_cut(other, one))

    def is_across(self, cut: Cut, one: str, other: str) -> bool:
        """Whether a cut lies between two places, in any direction."""
        return (one in cut.side) != (other in cut.side) and one not in self.bridges and other not in self.bridges

    def latency(self, one: str, other: str) -> int:
        """Mean one-way delay in microseconds."""
        if one in self.places and other in self.places:
            shape = self.topology.shape(self.places[one], self.places[other])
            return (shape.latency_us + shape.jitter_us // 2) * self.stretch
        return self._delay(one, other).mean_us * self.stretch

    def _delay(self, one: str, other: str) -> Delay:
        return self.delays.get((one, other) if one < other else (other, one), self.default)

    def sending_us(self, source: str, target: str, size_bytes: int) -> int:
        """How long the bytes of a frame occupy the sender's line."""
        rate = self.bytes_per_ms
        if self.rates:
            rate = self.rates.get((source, target) if source < target else (target, source), rate)
        if self.slow:
            rate = min(rate, self.slow.get(source, rate), self.slow.get(target, rate))
        return 2 + size_bytes * 1_000 // rate

    def travel_us(self, source: str, target: str) -> int:
        delay_us = self._delay(source, target).draw(self.chance) * self.stretch
        if self.loss_per_million and self.chance.randrange(1_000_000) < self.loss_per_million:
            delay_us += _RETRANSMISSION_US
        return delay_us

    def resets(self) -> bool:
        return self.reset_per_million > 0 and self.chance.randrange(1_000_000) < self.reset_per_million

    def duplicates(self) -> bool:
        return self.duplicates_per_million > 0 and self.chance.randrange(1_000_000) < self.duplicates_per_million


@dataclass(slots=True)
class Lane:
    """One direction of a session: the sender's queue, and the order of arrival."""

    link: Link | None = None
    """What lies between two nodes of a manifest."""
    free_us: int = 0
    arrival_us: int = 0
    queued_bytes: int = 0
    dropped: int = 0
    queue: deque[tuple[int, int]] = field(default_factory=deque)
    held: deque[bytes] = field(default_factory=deque)

    def has_room(self, now_us: int, size_bytes: int, limit_bytes: int) -> bool:
        """Whether the queue takes a frame; forgets those that have left."""
        while self.queue and self.queue[0][0] <= now_us:
            self.queued_bytes -= self.queue.popleft()[1]
        return self.queued_bytes + size_bytes <= limit_bytes

    def schedule(self, now_us: int, size_bytes: int, sending_us: int, travel_us: int) -> int:
        """Take a frame into the queue; the time at which it arrives."""
        self.free_us = max(self.free_us, now_us) + sending_us
        return self.take(size_bytes, self.free_us, self.free_us + travel_us)

    def take(self, size_bytes: int, departure_us: int, arrival_us: int) -> int:
        """Take a frame that leaves at this time; it arrives then, or behind those before it."""
        self.queue.append((departure_us, size_bytes))
        self.queued_bytes += size_bytes
        self.arrival_us = max(self.arrival_us, arrival_us)
        return self.arrival_us
