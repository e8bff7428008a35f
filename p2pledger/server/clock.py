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
    """

    __slots__ = ("_base_ms", "_unix_time")

    def __init__(self, unix_time: Callable[[], float] = time.time) -> None:
        self._unix_time = unix_time
        self._base_ms = unix_time() * 1_000 - trio.current_time() * 1_000

    def exact_ms(self) -> float:
        now_ms = self._base_ms + trio.current_time() * 1_000
        ahead_ms = self._unix_time() * 1_000 - now_ms
        if ahead_ms > _STEP_MS:
            self._base_ms += ahead_ms
            now_ms += ahead_ms
        return now_ms

    def now_ms(self) -> int:
        return int(self.exact_ms())
