"""Waking at a moment, and not up to a millisecond after it.

Trio waits in ``epoll_wait``, whose timeout counts whole milliseconds, rounded up: whoever sleeps until the next trade
is due wakes half a millisecond late on average. A timer of the kernel that can be read like a file (``timerfd``)
ends the same wait within some 50 microseconds. Linux only; elsewhere Trio's own sleep has to do.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

__all__ = ["SleepUntil", "alarm"]

SleepUntil = Callable[[float], Awaitable[object]]
"""Waits until a moment on Trio's clock; at once, but with a checkpoint, if it is past."""

_CLOCK_MONOTONIC: Final = 1
_LEAST_S: Final = 0.000_001
"""A timer that is set to nothing is stopped."""


class _TimerSpec(ctypes.Structure):
    """``struct itimerspec``: the interval, here none, and the time that is left, in seconds and nanoseconds."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


@asynccontextmanager
async def alarm() -> AsyncIterator[SleepUntil]:
    """A way to sleep, for one task at a time."""
    if sys.platform != "linux":
        yield trio.sleep_until
        return
    system = ctypes.CDLL(None, use_errno=True)
    timer = system.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    if timer < 0:  # no descriptor is left: then it is a millisecond late
        yield trio.sleep_until
        return

    async def sleep_until(moment: float) -> None:
        left_s = moment - trio.current_time()
        if left_s <= 0:
            await trio.lowlevel.checkpoint()
            return
        seconds, rest_s = divmod(max(left_s, _LEAST_S), 1)
        spec = _TimerSpec(0, 0, int(seconds), int(1_000_000_000 * rest_s))
        if system.timerfd_settime(timer, 0, ctypes.byref(spec), None):
            await trio.sleep_until(moment)
            return
        await trio.lowlevel.wait_readable(timer)
        os.read(timer, 8)

    try:
        yield sleep_until
    finally:
        os.close(timer)
