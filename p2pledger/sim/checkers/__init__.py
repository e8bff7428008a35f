"""Judges of a run. They read bytes with msgpack and hashlib and share no code with what they judge.

Each is a function from the evidence to sentences, empty where all is well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from p2pledger.sim.checkers.agreement import check_agreement
from p2pledger.sim.checkers.alarm import check_alarm
from p2pledger.sim.checkers.books import History, replay
from p2pledger.sim.checkers.bounds import check_bounds
from p2pledger.sim.checkers.certificates import check_certificates
from p2pledger.sim.checkers.conservation import check_conservation
from p2pledger.sim.checkers.delivery import check_delivery
from p2pledger.sim.checkers.finality import check_finality
from p2pledger.sim.checkers.idle import check_idle
from p2pledger.sim.checkers.progress import check_progress
from p2pledger.sim.checkers.validity import check_validity
from p2pledger.sim.checkers.votes import check_votes
from p2pledger.sim.evidence import Evidence, Violation

__all__ = ["BOOKKEEPERS", "CHECKERS", "judge", "judge_beyond"]

CHECKERS: Final[tuple[tuple[str, Callable[[Evidence], list[str]]], ...]] = (
    ("agreement", check_agreement),
    ("finality", check_finality),
    ("votes", check_votes),
    ("delivery", check_delivery),
    ("progress", check_progress),
    ("bounds", check_bounds),
    ("idle", check_idle),
)
BOOKKEEPERS: Final[tuple[tuple[str, Callable[[Evidence, History], list[str]]], ...]] = (
    ("conservation", check_conservation),
    ("validity", check_validity),
    ("certificates", check_certificates),
)
"""Those who also want to know what the final chain means according to the second books."""
_MOST_PER_CHECKER: Final = 5


def judge(evidence: Evidence) -> list[Violation]:
    """All violations, at most five of each checker: the first ones tell."""
    found = _breaches(evidence)
    for name, check in CHECKERS:
        found += [Violation(evidence.seed, name, sentence) for sentence in check(evidence)[:_MOST_PER_CHECKER]]
    history = replay(evidence)
    for name, judge_books in BOOKKEEPERS:
        sentences = judge_books(evidence, history)[:_MOST_PER_CHECKER]
        found += [Violation(evidence.seed, name, sentence) for sentence in sentences]
    return found


def _breaches(evidence: Evidence) -> list[Violation]:
    """What the world itself ran into, each thing once."""
    found: list[Violation] = []
    counts: Counter[str] = Counter()
    for checker, node, sentence in dict.fromkeys(evidence.breaches):
        counts[checker] += 1
        if counts[checker] <= _MOST_PER_CHECKER:
            found.append(Violation(evidence.seed, checker, f"{node}: {sentence}"))
    return found


_OWN_FAULTS: Final = ("exception", "disk", "livelock")


def judge_beyond(evidence: Evidence) -> list[Violation]:
    """What may not happen either where the adversary is greater than the engine survives.

    No honest node breaks its own word, contradicts its votes, overfills its queues or runs into an exception, and two
    ledgers raise the alarm.
    """
    found = [violation for violation in _breaches(evidence) if violation.checker in _OWN_FAULTS]
    for name, check in (("alarm", check_alarm), ("votes", check_votes), ("bounds", check_bounds)):
        found += [Violation(evidence.seed, name, sentence) for sentence in check(evidence)[:_MOST_PER_CHECKER]]
    return found
