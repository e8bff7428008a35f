"""Alarm: where the adversary is greater than an engine survives, two ledgers are possible, but never silently.

If two honest nodes, or one node twice, called different blocks final at a height, then by the end of the run somebody
honest has stopped with *finality violated*: the network was whole again, and the proof went around.
"""

from __future__ import annotations

from p2pledger.sim.checkers.agreement import check_agreement
from p2pledger.sim.evidence import Evidence

__all__ = ["check_alarm", "has_alarm"]

ALARM = "finality_violated"


def has_alarm(evidence: Evidence) -> bool:
    """Whether an honest node stopped with the alarm."""
    return any(checker == "halt" and sentence.startswith(ALARM) for checker, _, sentence in evidence.breaches)


def check_alarm(evidence: Evidence) -> list[str]:
    broken = check_agreement(evidence)
    if broken and not has_alarm(evidence):
        return [f"nobody says so: {broken[0]}"]
    return []
