"""What lies between two places: delay, bandwidth, loss, partitions. Frames of a session stay in order, as with TCP.

* *Delay* is drawn for each frame around the mean of its link, and added after the time that its bytes take.
* *Loss* is what TCP makes of it: the frame, and all behind it, come a retransmission later. A session may also be
  reset: everything in flight is lost, and both ends are told.
* *Reordering* happens between sessions, never within one.
* A *partition* holds frames back until it heals, or resets the sessions that cross it; nobody can dial across.
* The *queue* of a sender is bounded as in the server: bulk frames that find it full are dropped and counted, any other
  frame that finds it full ends the session.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

__all__ = ["QUEUE_BYTES", "Lane", "Weather"]

QUEUE_BYTES = 4 * 1024 * 1024
_RETRANSMISSION_US = 200_000


@dataclass(slots=True)
class Weather:
    """The state of all links. ``latency_us`` by pair of names, in order; ``slow`` by name: bytes per millisecond."""

    chance: random.Random
    latency_us: dict[tuple[str, str], int]
    jitter_us: int
    loss_per_million: int = 0
    reset_per_million: int = 0
    bytes_per_ms: int = 100_000
    slow: dict[str, int] = field(default_factory=dict)
    partitions: dict[int, frozenset[str]] = field(default_factory=dict)
    bridges: frozenset[str] = frozenset()
    """Those whom no partition cuts off: the worst villain is the one who reaches both sides."""

    def is_cut(self, one: str, other: str) -> bool:
        """Whether a partition lies between two places: each names the side that is alone."""
        return any(self.is_across(side, one, other) for side in self.partitions.values())

    def is_across(self, side: frozenset[str], one: str, other: str) -> bool:
        """Whether two places are on different sides of a partition."""
        return (one in side) != (other in side) and one not in self.bridges and other not in self.bridges

    def latency(self, one: str, other: str) -> int:
        """Mean one-way delay in microseconds."""
        return self.latency_us.get((one, other) if one < other else (other, one), 300)

    def sending_us(self, source: str, target: str, size_bytes: int) -> int:
        """How long the bytes of a frame occupy the sender's line."""
        rate = min(self.slow.get(source, self.bytes_per_ms), self.slow.get(target, self.bytes_per_ms))
        return 2 + size_bytes * 1_000 // rate

    def travel_us(self, source: str, target: str) -> int:
        delay_us = self.latency(source, target) + self.chance.randrange(self.jitter_us + 1)
        if self.loss_per_million and self.chance.randrange(1_000_000) < self.loss_per_million:
            delay_us += _RETRANSMISSION_US
        return delay_us

    def resets(self) -> bool:
        return self.reset_per_million > 0 and self.chance.randrange(1_000_000) < self.reset_per_million


@dataclass(slots=True)
class Lane:
    """One direction of a session: the sender's queue, and the order of arrival."""

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
        self.queue.append((self.free_us, size_bytes))
        self.queued_bytes += size_bytes
        self.arrival_us = max(self.arrival_us, self.free_us + travel_us)
        return self.arrival_us
