"""How long it takes until a trade is final, over the offered load: ``p2pledger bench finality``.

Each offered rate is run several times, each time in a fresh process with a fresh cluster, and so that the rates take
turns: what changes on the machine meanwhile meets all of them. Latencies of the runs of one rate are merged; the
intervals come from drawing whole runs. A rate of which one run was not correct, or of which the generator itself was
too late in half of the runs or more, has no figures: the row says what was wrong instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from p2pledger.bench.histogram import Histogram
from p2pledger.bench.machine import describe_machine
from p2pledger.bench.priority import may_run_ahead
from p2pledger.bench.progress import Progress
from p2pledger.bench.results import Results
from p2pledger.bench.runner import fresh_run
from p2pledger.bench.settling import Plan, lag_allowed_ms
from p2pledger.bench.tables import PERCENTILES, histogram_of, percentile_columns

__all__ = ["COLUMNS", "Settings", "measure_finality", "rows_of"]

COLUMNS: Final = (
    "offered_per_s", "committed_per_s", "arrivals", *PERCENTILES, "committed", "rejected", "timed_out", "unfinished",
    "lag_p99_ms", "blocks_per_s", "cores_used", "runs", "saturated", "correct", "faults",
)  # fmt: skip
"""Of a row, beside nothing else."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure: the arrivals of each row, and the plan that they all share."""

    arrivals: tuple[str, ...]
    runs: int
    plan: Plan

    def plans(self) -> list[Plan]:
        """In the order in which they are run: the rows take turns. Each round has a seed of its own."""
        return [
            replace(self.plan, arrivals=arrivals, seed=self.plan.seed + turn)
            for turn in range(self.runs)
            for arrivals in self.arrivals
        ]

    def values(self) -> dict[str, Any]:
        return {"arrivals": list(self.arrivals), "runs": self.runs, "plan": asdict(self.plan)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        return cls(tuple(values["arrivals"]), values["runs"], Plan(**values["plan"]))


def measure_finality(settings: Settings, folder: Path, progress: Progress) -> Results:
    """Runs everything and keeps it in the folder. InvalidInput before anything is run; P2PLedgerError of a run."""
    plans = [plan.check() for plan in settings.plans()]
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe_machine(folder)
    note = f"{settings.plan.validators} validators and the generator shared {machine.cores} cores; sockets on loopback"
    if may_run_ahead():
        note += "; the generator ran at real-time priority"
    results = Results.create(folder, "finality", settings.values(), machine, note)
    for number, plan in enumerate(plans, start=1):
        progress.say(f"run {number} of {len(plans)}: {plan.workload}, {plan.arrivals}")
        results.add_run(fresh_run("settling", asdict(plan), progress))
        results.keep(rows_of(list(results.runs())))
    results.finish(rows_of(list(results.runs())))
    return results


def rows_of(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each way of arrival, in the order in which they first came."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(run["plan"]["arrivals"], []).append(run)
    return [_row(group) for group in groups.values()]


def _row(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    seconds = runs[0]["plan"]["seconds"]
    histograms = [histogram_of(run) for run in runs]
    faults = sorted({fault for run in runs for fault in run["faults"]})
    saturated = sum(_saturated(run, histogram) for run, histogram in zip(runs, histograms, strict=True)) * 2 >= len(
        runs
    )
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {
        "arrivals": runs[0]["plan"]["arrivals"],
        "offered_per_s": median(run["offered_per_s"] for run in runs),
        "committed": sum(run["committed"] for run in runs),
        "rejected": sum(sum(run["rejected"].values()) for run in runs),
        "timed_out": sum(run["timed_out"] for run in runs),
        "unfinished": sum(run["unfinished"] for run in runs),
        "lag_p99_ms": median(run["lag_p99_ms"] for run in runs),
        "runs": len(runs),
        "saturated": saturated,
        "correct": not faults,
        "faults": "; ".join(faults),
    }
    if faults or saturated:
        return row
    row |= {
        "committed_per_s": median(run["committed_per_s"] for run in runs),
        "blocks_per_s": round(median(run["blocks"] for run in runs) / seconds, 2),
        "cores_used": round(median(sum(node["cpu_s"] for node in run["nodes"]) for run in runs) / seconds, 2),
    }
    return row | percentile_columns(histograms)


def _saturated(run: Mapping[str, Any], histogram: Histogram) -> bool:
    """As ``Run.is_saturated``."""
    return bool(run["lag_p99_ms"] > lag_allowed_ms(histogram))
