"""Fetching what is missing: batches and blocks, by hash, from one peer after the other.

Each wanted item is asked of one peer at a time: first of those that surely have it (the hints), then of all others in
turn. An answer, a *missing* or a silence of ``_PATIENCE_MS`` moves on to the next. When all have been asked in vain
more than once there is a pause, twice as long each time: perhaps nobody has it, because whoever named it keeps it.
Nothing is asked twice at once, and after many turns an item is forgotten: whoever still needs it wants it again.
Hashes name what they ask for, so a wrong answer cannot be taken for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["Fetcher", "Request"]

_PATIENCE_MS: Final = 500
_MOST_WANTED: Final = 8_192
_PER_REQUEST: Final = 32
_EAGER_TURNS: Final = 8
_MOST_TURNS: Final = 256
_MOST_DOUBLINGS: Final = 13


@dataclass(frozen=True, slots=True)
class Request:
    """Ask this peer (a node key) for these items."""

    peer: bytes
    items: tuple[bytes, ...]


@dataclass(slots=True)
class _Wanted:
    hints: tuple[bytes, ...]
    asked: bytes | None = None
    due_ms: int = 0
    turn: int = 0
    round: int = 0
    """How often everybody has been asked in vain."""
    rested: int = 0
    """The turn before which the last pause was made."""


class Fetcher:
    """The wanted items of one kind. Pure: it says whom to ask; the peer asks."""

    def __init__(self) -> None:
        self._wanted: dict[bytes, _Wanted] = {}
        self.given_up = 0
        """Items that were forgotten: too many are wanted, or nobody has sent them in many turns."""

    def __len__(self) -> int:
        return len(self._wanted)

    def __contains__(self, item: bytes) -> bool:
        return item in self._wanted

    @property
    def next_due_ms(self) -> int | None:
        """When the next silence is to be noticed."""
        return min((wanted.due_ms for wanted in self._wanted.values()), default=None)

    def want(self, items: Iterable[bytes], hints: tuple[bytes, ...]) -> None:
        for item in items:
            if item in self._wanted:
                continue
            if len(self._wanted) >= _MOST_WANTED:
                # The oldest may be a villain's invention; if it is not, it will be wanted again.
                del self._wanted[next(iter(self._wanted))]
                self.given_up += 1
            self._wanted[item] = _Wanted(hints)

    def got(self, item: bytes) -> bool:
        """The item is here. True if it was wanted."""
        return self._wanted.pop(item, None) is not None

    def missing_at(self, peer: bytes, items: Iterable[bytes]) -> None:
        """The peer says that it has not got them: the next one's turn, at once."""
        for item in items:
            wanted = self._wanted.get(item)
            if wanted is not None and wanted.asked == peer:
                wanted.due_ms = 0

    def lost(self, peer: bytes) -> None:
        """The session with this peer has ended."""
        for wanted in self._wanted.values():
            if wanted.asked == peer:
                wanted.due_ms = 0

    def requests(self, peers: list[bytes], now_ms: int) -> list[Request]:
        """Whom to ask for what, now. ``peers`` are the connected ones, in a fixed order."""
        if not peers:
            for wanted in self._wanted.values():
                wanted.due_ms = now_ms + _PATIENCE_MS
            return []
        by_peer: dict[bytes, list[bytes]] = {}
        for item, wanted in list(self._wanted.items()):
            if wanted.due_ms > now_ms:
                continue
            if wanted.turn == _MOST_TURNS:
                del self._wanted[item]
                self.given_up += 1
                continue
            order = [peer for peer in wanted.hints if peer in peers]
            order += [peer for peer in peers if peer not in order]
            if wanted.turn >= max(_EAGER_TURNS, wanted.rested + len(order)):
                wanted.rested = wanted.turn
                wanted.due_ms = now_ms + (_PATIENCE_MS << min(wanted.round, _MOST_DOUBLINGS))
                wanted.round += 1
                continue
            wanted.asked = order[wanted.turn % len(order)]
            wanted.turn += 1
            wanted.due_ms = now_ms + _PATIENCE_MS
            by_peer.setdefault(wanted.asked, []).append(item)
        requests = []
        for peer, asked in by_peer.items():
            for at in range(0, len(asked), _PER_REQUEST):
                requests.append(Request(peer, tuple(asked[at : at + _PER_REQUEST])))
        return requests
