"""Bounds: no queue, pool or lane held more than its stated limit, at any moment that was looked at."""

from __future__ import annotations

from p2pledger.sim.evidence import Evidence

__all__ = ["check_bounds"]


def check_bounds(evidence: Evidence) -> list[str]:
    return [
        f"{peak.place} held {peak.bytes} bytes; its limit is {peak.limit_bytes}"
        for _, peak in sorted(evidence.queues.items())
        if peak.bytes > peak.limit_bytes
    ]
