"""How fast payloads reach every node, over size and rate: ``p2pledger bench gossip``.

Each load (a size and a way to arrive) is run several times, each time in a fresh process, and the loads take turns.
A load is *sustained* if the backlog, what was due and had not reached everybody, did not grow: the upper bound at 95 %
of its slope is at most 1 % of the offered rate, in most runs. The generator shares the process with the nodes, so it
may be late itself; latencies count from the moment that was meant, so this is in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from p2pledger.bench.machine import describe_machine
from p2pledger.bench.progress import Progress
from p2pledger.bench.results import Results
from p2pledger.bench.runner import fresh_run
from p2pledger.bench.spreading import SpreadPlan
from p2pledger.bench.statistics import slope_bound
from p2pledger.bench.tables import PERCENTILES, histogram_of, percentile_columns
from p2pledger.primitives.errors import InvalidInput

__all__ = ["COLUMNS", "DEFAULT_LOADS", "Settings", "measure_gossip", "rows_of"]

DEFAULT_LOADS: Final = ("1000@200", "1000@1000", "100000@60", "4000000@0.5", "1000@burst:200,1000")
COLUMNS: Final = (
    "size_bytes", "nodes", "degree", "arrivals", "offered_per_s", "delivered_per_s", "delivered_share", *PERCENTILES,
    "wire_in", "wire_out_max", "sustained", "dropped_frames", "refused", "asked", "duplicates", "lag_p99_ms",
    "cores_used", "runs", "correct", "faults",
)  # fmt: skip
_SLOPE_SHARE: Final = 0.01
_SAMPLES_PER_S: Final = 4


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure. ``loads``: SIZE@ARRIVALS each, such as ``1000@poisson:200``."""

    loads: tuple[str, ...]
    runs: int
    plan: SpreadPlan

    def plans(self) -> list[SpreadPlan]:
        """In the order in which they are run. InvalidInput for what is no load."""
        return [
            replace(_loaded(self.plan, load), seed=self.plan.seed + turn).check()
            for turn in range(self.runs)
            for load in self.loads
        ]

    def values(self) -> dict[str, Any]:
        return {"loads": list(self.loads), "runs": self.runs, "plan": asdict(self.plan)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        return cls(tuple(values["loads"]), values["runs"], SpreadPlan(**values["plan"]))


def _loaded(plan: SpreadPlan, load: str) -> SpreadPlan:
    size, at, arrivals = load.partition("@")
    if not at or not size.isdecimal():
        raise InvalidInput(f"{load!r} is no load", hint="SIZE@ARRIVALS, such as 1000@fixed:200", code="usage")
    return replace(plan, size_bytes=int(size), arrivals=arrivals)


def measure_gossip(settings: Settings, folder: Path, progress: Progress) -> Results:
    """Runs everything and keeps it in the folder. InvalidInput before anything is run; P2PLedgerError of a run."""
    plans = settings.plans()
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe_machine(folder)
    note = f"{settings.plan.nodes} nodes in one process, so on one of {machine.cores} cores; sockets on loopback"
    results = Results.create(folder, "gossip", settings.values(), machine, note)
    for number, plan in enumerate(plans, start=1):
        progress.say(f"run {number} of {len(plans)}: {plan.size_bytes:,} bytes, {plan.arrivals}")
        results.add_run(fresh_run("spreading", asdict(plan), progress))
        results.keep(rows_of(list(results.runs())))
    results.finish(rows_of(list(results.runs())))
    return results


def rows_of(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each load, in the order in which they first came."""
    groups: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["plan"]["size_bytes"], run["plan"]["arrivals"]), []).append(run)
    return [_row(group) for group in groups.values()]


def _row(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    plan = runs[0]["plan"]
    faults = sorted({fault for run in runs for fault in run["faults"]})
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {name: plan[name] for name in ("size_bytes", "nodes", "degree", "arrivals")}
    row |= {name: sum(run[name] for run in runs) for name in ("dropped_frames", "refused", "asked", "duplicates")}
    row |= {
        "offered_per_s": median(run["offered_per_s"] for run in runs),
        "delivered_share": round(sum(run["delivered"] for run in runs) / sum(run["submitted"] for run in runs), 6),
        "lag_p99_ms": median(run["lag_p99_ms"] for run in runs),
        "runs": len(runs),
        "correct": not faults,
        "faults": "; ".join(faults),
    }
    if faults:
        return row
    row |= {name: median(run[name] for run in runs) for name in ("delivered_per_s", "wire_in", "wire_out_max")}
    row |= percentile_columns([histogram_of(run) for run in runs])
    row["sustained"] = sum(_sustained(run) for run in runs) * 2 > len(runs)
    row["cores_used"] = round(median(run["cpu_s"] for run in runs) / plan["seconds"], 2)
    return row


def _sustained(run: Mapping[str, Any]) -> bool:
    """Whether the backlog behind the warm-up did not grow."""
    plan = run["plan"]
    points = [(at / _SAMPLES_PER_S, float(left)) for at, left in enumerate(run["backlog"], start=1)]
    points = [(at_s, left) for at_s, left in points if at_s >= plan["warmup_s"]]
    if len(points) < 2:
        return False
    offered_per_s: float = run["offered_per_s"]
    return slope_bound(points, seed=1, confidence=0.9).high <= _SLOPE_SHARE * offered_per_s
