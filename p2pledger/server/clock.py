"""The node's clock: Unix time in milliseconds that never goes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

__all__ = ["Clock"]

_STEP_MS: Final = 1_000


class Clock:
    """Starts at the machine's time and then runs with Trio's monotonic clock.

    When the machine's time is more than a second ahead, it follows: a laptop that slept must not refuse the blocks of
    those who were awake. When the machine's time is set back, it goes on as before.

    ``skew`` makes it wrong, for whoever wants to see what a wrong clock does. It jumps ahead, but goes back by running
    at half speed until it has lost enough.
    """

    __slots__ = ("_base_ms", "_losing_from_ms", "_losing_ms", "_skew_ms", "_unix_time")

    def __init__(self, unix_time: Callable[[], float] = time.time) -> None:
        self._unix_time = unix_time
        self._base_ms = unix_time() * 1_000 - trio.current_time() * 1_000
        self._skew_ms = 0.0
        self._losing_ms = 0.0
        self._losing_from_ms = 0.0

    def exact_ms(self) -> float:
        now_ms = self._base_ms + trio.current_time() * 1_000
        if self._losing_ms:
            now_ms = self._lose(now_ms)
        ahead_ms = self._unix_time() * 1_000 + self._skew_ms + self._losing_ms - now_ms
        if ahead_ms > _STEP_MS:
            self._base_ms += ahead_ms
            now_ms += ahead_ms
        return now_ms

    def now_ms(self) -> int:
        return int(self.exact_ms())

    def skew(self, skew_ms: float) -> None:
        """Be so far ahead of the machine's time from now on, or behind it if negative."""
        now_ms = self.exact_ms()
        more_ms = skew_ms - self._skew_ms
        self._skew_ms = skew_ms
        self._losing_ms -= more_ms
        if self._losing_ms < 0:
            self._base_ms -= self._losing_ms
            self._losing_ms = 0.0
        self._losing_from_ms = now_ms

    def _lose(self, now_ms: float) -> float:
        """Half of what has passed since the last look is taken back."""
        lost_ms = min(self._losing_ms, max(0.0, now_ms - self._losing_from_ms) / 2)
        self._losing_ms -= lost_ms
        self._base_ms -= lost_ms
        self._losing_from_ms = now_ms - lost_ms
        return self._losing_from_ms
