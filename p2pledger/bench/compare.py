"""Two results side by side: what became better, what became worse, and what is noise.

A row of one is set beside the row of the same load in the other. A latency is worse if it is greater *and* the
intervals of the two, each from whole runs, do not overlap. Without repetitions there is no interval, so nothing is
called a regression but what one side did correctly and the other did not. What was measured has to be the same: the
same load on as many nodes, links and cores as the plan names; and whole, for a partial result may lack its worst row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from p2pledger.bench.results import Results
from p2pledger.bench.statistics import Interval
from p2pledger.primitives.errors import InvalidInput

__all__ = ["Difference", "compare"]

_KEYS: Final = {
    "finality": ("arrivals",),
    "gossip": ("size_bytes", "nodes", "degree", "arrivals"),
}
_SAME: Final = ("workload", "validators", "engine", "network", "seconds", "warmup_s", "limit_s", "parameters")
"""Of the plans. What differs in these was another measurement, not a faster or a slower one."""
_FLAGS: Final = (("correct", False), ("saturated", True), ("sustained", False))
"""And which of the two is bad."""
_LATENCIES: Final = ("p50_ms", "p99_ms")


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of one row. ``verdict``: better, worse, or same (the intervals overlap), or not comparable."""

    row: str
    figure: str
    before: str
    after: str
    verdict: str


def compare(before: Results, after: Results) -> list[Difference]:
    """Row by row. InvalidInput where the two measured different things."""
    if before.kind != after.kind:
        raise InvalidInput(f"results of {before.kind} and of {after.kind} cannot be compared", code="usage")
    if before.kind not in _KEYS:
        raise InvalidInput(f"results of {before.kind} have no rows to compare", code="usage")
    for results in (before, after):
        if results.status != "complete":
            raise InvalidInput(
                "these results are partial: the measurement was interrupted", where=str(results.folder), code="usage"
            )
    plans = [results.arguments.get("plan", {}) for results in (before, after)]
    for name in _SAME:
        one, other = (plan.get(name) for plan in plans)
        if one != other:
            raise InvalidInput(
                "the two measured different things", why=f"{name} was {one!r} and then {other!r}", code="usage"
            )
    keys = _KEYS[before.kind]
    others = {tuple(row.get(key) for key in keys): row for row in after.rows}
    found = [
        difference
        for row in before.rows
        if (other := others.get(tuple(row.get(key) for key in keys))) is not None
        for difference in _differences(", ".join(f"{key} {row.get(key)}" for key in keys), row, other)
    ]
    if not found:
        raise InvalidInput("the two results have no row in common", code="usage")
    return found


def _differences(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for flag, bad in _FLAGS:
        if before.get(flag) != after.get(flag):
            if before.get(flag) is None or after.get(flag) is None:
                continue  # it was not asked, for want of figures
            verdict = "worse" if after.get(flag) == bad else "better"
            yield Difference(name, flag, str(before.get(flag)), str(after.get(flag)), verdict)
    for figure in _LATENCIES:
        one, other = before.get(figure), after.get(figure)
        if one is None or other is None:
            yield Difference(name, figure, _text(one), _text(other), "not comparable")
            continue
        was, now = _interval(before, figure), _interval(after, figure)
        if was is None or now is None or was.overlaps(now):
            verdict = "same" if was is not None and now is not None else "not comparable"
        else:
            verdict = "worse" if now.low > was.high else "better"
        yield Difference(name, figure, _text(one), _text(other), verdict)


def _interval(row: Mapping[str, Any], figure: str) -> Interval | None:
    """None where a single run says nothing about others."""
    stem = figure.removesuffix("_ms")
    low, high = row.get(f"{stem}_low_ms"), row.get(f"{stem}_high_ms")
    if low is None or high is None or row.get("runs", 1) < 2:
        return None
    return Interval((low + high) / 2, low, high, row["runs"])


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
