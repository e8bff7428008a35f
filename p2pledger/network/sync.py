"""Catching up: which peer to ask for the next piece of the chain of final blocks.

There is one outstanding wish at a time, and the next one waits until what came has been executed. Whoever claims a
greater final height may be asked; a claim is only words, so:

* Under simplex a piece carries its proof. Who does not answer within two seconds is passed over for the next one.
* In the chain family nothing proves a height but the blocks themselves, each of which is judged as if it had been
  announced. Who was asked and did not bring the node forward within two seconds is not believed any more, until it
  claims something anew. A piece may overlap what is known: the next one then begins behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from p2pledger.network.session import PeerSession

__all__ = ["SYNC_BLOCKS", "Sync"]

SYNC_BLOCKS: Final = 256
"""Blocks in one piece, at most."""
_PATIENCE_MS: Final = 2_000


@dataclass(slots=True)
class Sync:
    """``is_proved``: pieces carry certificates (simplex). All else is the state of the one wish."""

    is_proved: bool
    due_ms: int = 0
    _peer: bytes | None = None
    _tried: set[bytes] = field(default_factory=set)
    _from_height: int | None = None
    """Where the next piece begins, once one has come; else above the own final block. (Chain family.)"""
    _awaited: bytes | None = None
    """The last block of a piece that has come and is not executed yet. (Chain family.)"""
    _own_height: int = 0
    _brought_news: bool = False
    """Whether the last piece held a block that was not executed before. (Chain family.)"""

    @property
    def is_waiting(self) -> bool:
        return self._peer is not None

    def forget(self, key: bytes) -> None:
        """The session with this peer has ended."""
        if self._peer == key:
            self.due_ms = 0

    def came(self, key: bytes, last_block: bytes, last_height: int, now_ms: int, *, is_news: bool = True) -> bool:
        """A piece came, with news at its end or not. False if nobody asked this peer for one."""
        if self._peer != key:
            return False
        if self.is_proved:
            self._peer = None
            self._tried.clear()
        else:
            self._awaited, self._from_height, self._brought_news = last_block, last_height + 1, is_news
            self.due_ms = now_ms + _PATIENCE_MS
        return True

    def request(
        self,
        sessions: Mapping[bytes, PeerSession],
        own_height: int,
        final_height: int,
        now_ms: int,
        is_executed: Callable[[bytes], bool],
    ) -> tuple[PeerSession, int] | None:
        """Whom to ask now, and from which height on. ``own_height`` is the executed head's in the chain family."""
        ahead = sorted(key for key, other in sessions.items() if other.final_height > own_height)
        if not ahead:
            self._stop()
            return None
        if self._peer is not None and not self._is_over(sessions, own_height, now_ms, is_executed):
            return None
        candidates = [key for key in ahead if key not in self._tried and sessions[key].final_height > own_height]
        if not candidates:
            self._tried.clear()
            candidates = [key for key in ahead if sessions[key].final_height > own_height]
            if not candidates:
                self._stop()
                return None
        key = self._peer
        # Who has just brought what it was asked for is asked for more, unless all of it was known.
        if key is None or key not in (ahead if self._brought_news else candidates):
            self._peer = key = candidates[0]
            self._from_height = None
        self._tried.add(key)
        self.due_ms, self._own_height = now_ms + _PATIENCE_MS, own_height
        return sessions[key], self._from_height or final_height + 1

    def _is_over(
        self,
        sessions: Mapping[bytes, PeerSession],
        own_height: int,
        now_ms: int,
        is_executed: Callable[[bytes], bool],
    ) -> bool:
        """Whether the outstanding wish is fulfilled or given up."""
        if self._awaited is not None and is_executed(self._awaited):
            self._awaited = None
            return True
        if self._awaited is not None and own_height > self._own_height:
            self.due_ms, self._own_height = now_ms + _PATIENCE_MS, own_height  # It goes on.
        if now_ms < self.due_ms:
            return False
        if not self.is_proved and self._peer is not None and self._peer in sessions:
            sessions[self._peer].final_height = 0
        self._peer = self._awaited = self._from_height = None
        return True

    def _stop(self) -> None:
        self._peer = self._awaited = self._from_height = None
        self._tried.clear()
