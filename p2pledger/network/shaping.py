"""A model of what a link does to a stream of bytes. Pure: times come in, times go out, and nothing is ever lost.

A node has one *uplink*. Whatever it sends, to whomever, leaves through it, one byte after the other; while it is busy,
the next bytes wait. Behind it lies a *link* for each session, which takes its time:

    departure    when the last byte has left: after what is ahead of it in the uplink, and as fast as that carries it
    travel       the one-way latency, and up to as much jitter more, drawn evenly
    repair       what was lost on the way is sent again (below)
    arrival      departure + travel + repair, but never before what was sent earlier: a session is one stream

*Loss* takes nothing from a stream of TCP but time. Each packet is lost with the stated probability. If three packets
of the same piece follow it, their acknowledgements tell, and it comes one round trip later (RFC 5681, fast
retransmit); else a timer does, after a round trip and 200 ms (RFC 6298 with the least variance that Linux assumes),
and that wait doubles while the packet is lost again. All behind it waits as well.

A *congestion window*, where it is asked for, limits what may be under way without an acknowledgement: 10 packets at
first (RFC 6928), doubling with every round trip in which it was used, growing by a packet a round trip after a loss,
which halves it (RFC 5681), and back to 10 packets when nothing was sent for as long as the timer takes. A node that
streams a block into a connection that was idle pays for it in round trips, and that is often what decides how fast
blocks spread. Without the option a link behaves like one whose window is always open.

What is not modelled: packets that overtake each other, what acknowledgements and repeated packets take of the
bandwidth, queues in routers, the receiver's own line. Times are integers of microseconds; sizes are bytes of frames.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

__all__ = ["INITIAL_WINDOW_BYTES", "SEGMENT_BYTES", "TURN_BYTES", "UNSHAPED", "Chance", "Link", "LinkShape", "Passage",
           "Uplink"]  # fmt: skip

SEGMENT_BYTES: Final = 1_448
"""What one packet of an Ethernet carries of a TCP stream with time stamps."""
INITIAL_WINDOW_BYTES: Final = 10 * SEGMENT_BYTES
TURN_BYTES: Final = 65_536
"""Sessions that share an uplink take turns of this size, where the sender can wait between them (``transport.py``)."""
_LARGEST_WINDOW_BYTES: Final = 4 * 1_048_576
"""About what a kernel sets aside for a connection."""
_TELLING_PACKETS: Final = 3
"""So many packets behind a lost one, and the sender learns of it."""
_TIMER_US: Final = 200_000
_MOST_REPEATS: Final = 6


class Chance(Protocol):
    """Where draws come from: ``random.Random``."""

    def random(self) -> float:
        """At least 0, less than 1."""
        ...


@dataclass(frozen=True, slots=True)
class LinkShape:
    """One direction between two nodes. ``bytes_per_s`` belongs to this link alone; 0 means without a bound.

    ``loss`` is the share of packets, ``window`` whether the congestion window is modelled.
    """

    latency_us: int = 0
    jitter_us: int = 0
    bytes_per_s: int = 0
    loss: float = 0.0
    window: bool = False

    @property
    def round_trip_us(self) -> int:
        """The usual one, without waiting for bandwidth."""
        return 2 * self.latency_us + self.jitter_us

    @property
    def timeout_us(self) -> int:
        """How long a sender waits for an acknowledgement before it sends again."""
        return self.round_trip_us + _TIMER_US


UNSHAPED: Final = LinkShape()


class Passage(NamedTuple):
    """When the last byte has left the sender, and when it is at the other end."""

    departure_us: int
    arrival_us: int


@dataclass(slots=True)
class Uplink:
    """A line that carries one byte after the other. ``bytes_per_s`` 0: at once."""

    bytes_per_s: int = 0
    _free_ns: int = 0
    """In nanoseconds, or the rounding of many small frames would add up."""

    def takes_us(self, size_bytes: int) -> int:
        """How long the line is busy with so many bytes."""
        return size_bytes * 1_000_000 // self.bytes_per_s if self.bytes_per_s else 0

    def send(self, now_us: int, size_bytes: int) -> int:
        """When the last of these bytes has left, behind all that was sent before."""
        if not self.bytes_per_s:
            return now_us
        start_ns = max(self._free_ns, now_us * 1_000)
        self._free_ns = start_ns + size_bytes * 1_000_000_000 // self.bytes_per_s
        return -(-self._free_ns // 1_000)

    def set_rate(self, bytes_per_s: int) -> None:
        """From now on; what was waiting at the old rate does not wait any more."""
        self.bytes_per_s, self._free_ns = bytes_per_s, 0


@dataclass(slots=True)
class Link:
    """One direction of one session. ``send`` with times that never decrease, and obey what it says."""

    shape: LinkShape
    uplink: Uplink
    chance: Chance
    _line: Uplink = field(init=False)
    _arrival_us: int = 0
    _departure_us: int = 0
    _window_bytes: int = INITIAL_WINDOW_BYTES
    _threshold_bytes: int = _LARGEST_WINDOW_BYTES
    """Below it the window doubles, above it grows by a packet, each round trip."""
    _unconfirmed: deque[tuple[int, int, bool]] = field(default_factory=deque)
    """(when it is acknowledged, bytes, whether the window was in use), in order"""
    _unconfirmed_bytes: int = 0

    def __post_init__(self) -> None:
        self._line = Uplink(self.shape.bytes_per_s)

    def send(self, now_us: int, size_bytes: int) -> Passage:
        """Put so many bytes on their way."""
        shape = self.shape
        departure_us = self._through_window(now_us, size_bytes) if shape.window else self._leave(now_us, size_bytes)
        travel_us = shape.latency_us
        if shape.jitter_us:
            travel_us += int(self.chance.random() * (shape.jitter_us + 1))
        if shape.loss:
            travel_us += self._repair_us(size_bytes)
        self._departure_us = departure_us
        self._arrival_us = max(self._arrival_us, departure_us + travel_us)
        return Passage(departure_us, self._arrival_us)

    def _leave(self, now_us: int, size_bytes: int) -> int:
        departure_us = self.uplink.send(now_us, size_bytes)
        if self._line.bytes_per_s:
            # Two lines in a row, the first byte through the second as soon as it is through the first.
            departure_us = max(departure_us, self._line.send(now_us, size_bytes))
        return departure_us

    # --- loss -------------------------------------------------------------------------------------------------------

    def _repair_us(self, size_bytes: int) -> int:
        """How much later the piece is whole, because of what was lost of it; 0 most of the time."""
        loss, shape = self.shape.loss, self.shape
        packets = -(-size_bytes // SEGMENT_BYTES)
        first = self._first_lost(packets)
        if first is None:
            return 0
        is_told = packets - 1 - first >= _TELLING_PACKETS
        wait_us, next_wait_us = (shape.round_trip_us, shape.timeout_us) if is_told else (shape.timeout_us,) * 2
        self._threshold_bytes = max(self._window_bytes // 2, 2 * SEGMENT_BYTES)
        self._window_bytes = self._threshold_bytes if is_told else SEGMENT_BYTES
        for _ in range(_MOST_REPEATS):
            if self.chance.random() >= loss:
                break
            wait_us += next_wait_us
            next_wait_us *= 2
        return wait_us

    def _first_lost(self, packets: int) -> int | None:
        """Which packet is the first to be lost, from one draw: the inverse of a geometric distribution."""
        draw, kept = self.chance.random(), 1.0
        # Almost always the whole piece comes through, which one comparison tells.
        if draw < (1.0 - self.shape.loss) ** packets:
            return None
        for index in range(packets):
            kept *= 1.0 - self.shape.loss
            if draw >= kept:
                # Of the draws that are left, the largest belong to the first packet.
                return index
        return packets - 1

    # --- the congestion window --------------------------------------------------------------------------------------

    def _through_window(self, now_us: int, size_bytes: int) -> int:
        """When the last byte has left, if no more may be under way than the window allows."""
        shape, time_us, departure_us, left_bytes = self.shape, now_us, now_us, size_bytes
        self._confirm(now_us)
        if not self._unconfirmed and now_us - self._departure_us > shape.timeout_us:
            self._window_bytes = min(self._window_bytes, INITIAL_WINDOW_BYTES)
        while left_bytes:
            room_bytes = self._window_bytes - self._unconfirmed_bytes
            if room_bytes <= 0:
                time_us = max(time_us, self._unconfirmed[0][0])
                self._confirm(time_us)
                continue
            piece_bytes = min(room_bytes, left_bytes)
            left_bytes -= piece_bytes
            # The line is charged at once: what waits for the window must not keep the line from others.
            line_us = self._leave(now_us, piece_bytes)
            slowest_us = max(self.uplink.takes_us(piece_bytes), self._line.takes_us(piece_bytes))
            departure_us = max(departure_us, line_us, time_us + slowest_us)
            self._unconfirmed_bytes += piece_bytes
            in_use = 2 * self._unconfirmed_bytes >= self._window_bytes
            self._unconfirmed.append((departure_us + shape.round_trip_us, piece_bytes, in_use))
        return departure_us

    def _confirm(self, time_us: int) -> None:
        """What is acknowledged by then leaves room; and the window grows, if it was needed."""
        while self._unconfirmed and self._unconfirmed[0][0] <= time_us:
            _, size_bytes, in_use = self._unconfirmed.popleft()
            self._unconfirmed_bytes -= size_bytes
            if in_use:
                slow = self._window_bytes < self._threshold_bytes
                grown = size_bytes if slow else SEGMENT_BYTES * size_bytes // self._window_bytes
                self._window_bytes = min(self._window_bytes + grown, _LARGEST_WINDOW_BYTES)
