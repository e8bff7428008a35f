"""Idle: a cluster with nothing to do sends nothing, and wakes up at most once in ten seconds a node."""

from __future__ import annotations

from typing import Final

from p2pledger.sim.evidence import Evidence

__all__ = ["check_idle"]

_TIMERS_PER_NODE_HOUR: Final = 360


def check_idle(evidence: Evidence) -> list[str]:
    faults = []
    if evidence.idle_frames:
        faults.append(f"{evidence.idle_frames} frames were sent in {evidence.idle_s} idle seconds")
    allowed = _TIMERS_PER_NODE_HOUR * len(evidence.heights) * evidence.idle_s // 3_600
    if evidence.idle_timers > allowed:
        faults.append(f"{evidence.idle_timers} timers fired in {evidence.idle_s} idle seconds; {allowed} are allowed")
    return faults
