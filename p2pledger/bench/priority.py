"""Who runs first where the load and the nodes share processors.

A generator that waits until a node has had its turn is late, and then its lateness is in the latencies: they would be
the scheduler's and not the ledger's. A client of its own machine does not wait so. Where the system permits it
(Linux, to root or with CAP_SYS_NICE) the generator therefore runs at real-time priority while the window is open; what
it uses is missing to the nodes as before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["ahead_of_others", "may_run_ahead"]


@contextmanager
def ahead_of_others() -> Iterator[bool]:
    """The calling thread runs before all ordinary ones; says whether it does. Its children do not inherit it."""
    if not hasattr(os, "sched_setscheduler"):
        yield False
        return
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, policy, parameter)


def may_run_ahead() -> bool:
    """Whether this process is permitted to."""
    with ahead_of_others() as is_ahead:
        return is_ahead
