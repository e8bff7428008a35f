"""How peers behave: offences add points, time takes them away.

A single offence can be bad luck: a clock that is off, a restart with an old memory. What is of this kind is counted and
no more: who dates its blocks to the edge could otherwise set honest nodes against each other. Who offends again and
again in other ways is disconnected at 100 points, and in a public network, where anybody may come, not let in again
before half of them have faded. Nothing of this is stored. In a network of known members a ban could cost a quorum more
than the offences do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["LIMIT_POINTS", "Conduct"]

LIMIT_POINTS: Final = 100
_OFFENCE_POINTS: Final = 25
_LUCK_POINTS: Final = 5
_MOST_LUCK_POINTS: Final = 45
"""More than this nobody gets for what may be luck: it neither ends a session nor keeps anybody away."""
_FADE_MS: Final = 2_000
"""In this time one point is forgotten."""
_REMEMBERED: Final = 1_024
_PERHAPS_LUCK: Final = frozenset({"from_the_future", "below_final"})
"""What a node may send whose clock is a little off, or that was away for long."""


@dataclass(slots=True)
class _Record:
    points: int
    at_ms: int


class Conduct:
    """Points by node key, for the worst 1,024."""

    def __init__(self) -> None:
        self._records: dict[bytes, _Record] = {}
        self.offences = 0
        """All that were ever counted."""

    def points(self, key: bytes, now_ms: int) -> int:
        record = self._records.get(key)
        return 0 if record is None else max(0, record.points - (now_ms - record.at_ms) // _FADE_MS)

    def offend(self, key: bytes, code: str, now_ms: int, *, is_grave: bool = False) -> int:
        """Count an offence; how many points the peer has now. A grave one reaches the limit by itself."""
        self.offences += 1
        before = self.points(key, now_ms)
        if code in _PERHAPS_LUCK and not is_grave:
            points = max(before, min(before + _LUCK_POINTS, _MOST_LUCK_POINTS))
        else:
            points = min(before + (LIMIT_POINTS if is_grave else _OFFENCE_POINTS), 2 * LIMIT_POINTS)
        if key not in self._records and len(self._records) >= _REMEMBERED:
            del self._records[min(self._records, key=lambda other: self.points(other, now_ms))]
        self._records[key] = _Record(points, now_ms)
        return points

    def is_shunned(self, key: bytes, now_ms: int) -> bool:
        """Whether this peer has offended so much that it should stay away for a while."""
        return 2 * self.points(key, now_ms) >= LIMIT_POINTS
