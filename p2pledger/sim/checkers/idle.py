"""Idle: a cluster with nothing to do sends nothing, and wakes up at most once in ten seconds a node.

What a villain has named and taken with it nobody can find: for that a node may ask once in a minute.
"""

from __future__ import annotations

from typing import Final

from p2pledger.sim.evidence import Evidence

__all__ = ["check_idle"]

_TIMERS_PER_NODE_HOUR: Final = 360
_FRAMES_PER_NODE_HOUR: Final = 60


def check_idle(evidence: Evidence) -> list[str]:
    faults = []
    node_seconds = len(evidence.heights) * evidence.idle_s
    frames = _FRAMES_PER_NODE_HOUR * node_seconds // 3_600 if evidence.has_villains else 0
    if evidence.idle_frames > frames:
        faults.append(
            f"{evidence.idle_frames} frames were sent in {evidence.idle_s} idle seconds; {frames} are allowed"
        )
    timers = _TIMERS_PER_NODE_HOUR * node_seconds // 3_600
    if evidence.idle_timers > timers:
        faults.append(f"{evidence.idle_timers} timers fired in {evidence.idle_s} idle seconds; {timers} are allowed")
    return faults
