"""How large a block may be, and what binds: ``p2pledger bench capacity``.

Definition. S is the capacity of a block: the bytes of all batches that it may name. For each S,

    (a) the network is saturated, and T_S measured: the mean interval between consecutive full blocks;
    (b) it is offered 0.9 S / T_S bytes a second, open-loop, for N blocks behind a warm-up.

A probe (b) *passes* when every order due in the window was committed before the drain limit (five times the objective)
and none was rejected, the backlog did not grow (the upper bound at 95 % of its slope is at most 1 % of the offered
rate), the 99th percentile of latency is within the objective, blocks were 85 % full on average, and no slot failed
(under simplex: no view was nullified; under dpos and poa: none was missed or reverted while there was work). One that
fails is tried again with less: so each S has a last pass and a first fail. Where T_S alone exceeds the objective no
probe could pass, and none is made.

The *frontier* is S -> bytes a second that it sustains. The *capacity* is the smallest S that reaches 95 % of the best
of them: a larger block buys nothing but latency. *What binds* is found by taking one thing away at a time (distance,
the bound of the uplinks, the disk, half of the signatures, the number of batches) and saturating again: what gives the
most more is what binds, if it gives a tenth at least.

Where blocks come by luck (pow, pos) no slot can fail, and the question is how many blocks are made in vain. There are
two capacities then: *connectivity*, the largest S at which 90 % of the nodes know a block before the next one is due
(Croman et al. 2016), and *security*, the largest S at which at most 1 % of the blocks find a rival, from the integral
of the weight that does not know a block yet (``propagation.stale_share``). Under pos two may win the same slot, so a
share of the blocks finds a rival however small they are; where that alone is too much a row says so. All this is from
(a) alone; unless ``quick``, from four runs of it under four seeds.

``quick`` has ten minutes whatever the machine does: it probes with 200 blocks or 40 s, or with less where that would
take more than this size's share of the time, tries less load only within its first four minutes, and leaves out a size
(and says so) and a way of relaxing for which no time is left. Its answer is *indicative*. Otherwise the answer and the
next size up are confirmed with 3,000 blocks under two seeds; how many of those slots failed is told with the exact
upper bound of what that says about others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

from p2pledger.bench.machine import describe_machine
from p2pledger.bench.progress import Progress
from p2pledger.bench.propagation import CLOCKS, BlockTimes, fit_times, stale_share
from p2pledger.bench.results import Results
from p2pledger.bench.runner import fresh_run
from p2pledger.bench.settling import Plan, lag_allowed_ms
from p2pledger.bench.statistics import failure_bound, slope_bound
from p2pledger.bench.tables import histogram_of
from p2pledger.cluster.development import block_ms
from p2pledger.network.topology import Topology
from p2pledger.primitives.errors import InvalidInput

__all__ = ["DEFAULT_SIZES", "FOUR_REGIONS", "Saturated", "Settings", "judge", "luck_of", "measure_capacity"]

DEFAULT_SIZES: Final = (16_384, 40_000, 100_000, 250_000, 640_000, 1_640_000)
"""Two decades."""
FOUR_REGIONS: Final = """\
[network]
jitter_ms = 2
bandwidth_mbit = 100
[regions.frankfurt]
nodes = ["CCDC"]
[regions.london]
nodes = ["CSDC"]
[regions.virginia]
nodes = ["VENUE-A"]
[regions.tokyo]
nodes = ["VENUE-B"]
"""
_SHARE: Final = 0.9
_LOWER_SHARES: Final = (0.7, 0.5)
_FULL: Final = 0.85
_BEST_SHARE: Final = 0.95
_DRAIN_OBJECTIVES: Final = 5
_SLOPE_SHARE: Final = 0.01
_QUICK_BLOCKS: Final = 200
_QUICK_SECONDS: Final = 40.0
_QUICK_LOWER_WITHIN_S: Final = 240.0
_QUICK_SIZES_WITHIN_S: Final = 420.0
_QUICK_BEGIN_WITHIN_S: Final = 500.0
_QUICK_WARMUP_S: Final = 5.0
_QUICK_SATURATING_S: Final = 10.0
_QUICK_LEAST_S: Final = 8.0
_AROUND_A_RUN_S: Final = 20.0
"""What a run takes beside its window: starting, signing, draining, counting again."""
_CONFIRM_BLOCKS: Final = 3_000
_CONFIRM_SEEDS: Final = 2
_SATURATING_BLOCKS: Final = 25
_LEAST_FULL: Final = 5
_HEADROOM: Final = 1.8
_MOST_PER_S: Final = 9_000.0
_FIRST_GUESS_S: Final = 0.2
_ORDER_BYTES: Final = 460.0
_BINDING_GAIN: Final = 0.10
_BY_LUCK: Final = ("pow", "pos")
_MOST_STALE: Final = 0.01
_CONNECTED: Final = 0.9
_LUCK_SEEDS: Final = 4
_MEMORY_DISK: Final = Path("/dev/shm")

COLUMNS: Final = (
    "size_bytes", "interval_ms", "share", "offered_per_s", "bytes_per_s", "p50_ms", "p99_ms", "fill", "blocks",
    "nullified", "d90_ms", "stale_share", "passed", "why",
)  # fmt: skip
Start = Callable[[Plan], dict[str, Any]]
"""Runs a plan in a fresh process, keeps the run, and gives its values."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure. ``plan`` names workload, validators, engine, network and seed; its rates are not used."""

    sizes: tuple[int, ...]
    objective_ms: float
    quick: bool
    plan: Plan

    def check(self) -> Settings:
        """InvalidInput where it cannot be run."""
        if len(self.sizes) < 2 or list(self.sizes) != sorted(set(self.sizes)) or self.sizes[0] < 16_384:
            raise InvalidInput("two sizes at least, ascending, of 16,384 bytes or more", code="usage")
        if self.objective_ms <= 0:
            raise InvalidInput("the objective must be positive", code="usage")
        if self.plan.network:
            Topology.parse(self.plan.network)
        self.plan.check()
        return self

    def values(self) -> dict[str, Any]:
        return {
            "sizes": list(self.sizes),
            "objective_ms": self.objective_ms,
            "quick": self.quick,
            "plan": asdict(self.plan),
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        return cls(tuple(values["sizes"]), values["objective_ms"], values["quick"], Plan(**values["plan"]))


def measure_capacity(settings: Settings, folder: Path, progress: Progress) -> Results:
    """Measures everything and keeps it in the folder. InvalidInput before anything is run; P2PLedgerError of a run."""
    settings.check()
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe_machine(folder)
    plan = settings.plan
    note = (
        f"{plan.validators} validators and the generator shared {machine.cores} cores; links "
        f"{'shaped' if plan.network else 'on loopback, not shaped'}; objective p99 {settings.objective_ms:g} ms"
        + ("; INDICATIVE (quick)" if settings.quick else "")
    )
    results = Results.create(folder, "capacity", settings.values(), machine, note)
    done = 0

    def start(run: Plan) -> dict[str, Any]:
        nonlocal done
        done += 1
        progress.say(f"run {done}: blocks of {run.parameters['block_bytes']:,} bytes, {run.arrivals}")
        values = fresh_run("settling", asdict(run), progress)
        results.add_run(values)
        return values

    rows, summary = (_by_luck if plan.engine in _BY_LUCK else _by_turn)(settings, start)
    results.finish(rows, summary)
    return results


class _Time:
    """How much of it is left: without bound, or ten minutes in all where it has to be quick."""

    def __init__(self, *, is_quick: bool, now_s: Callable[[], float]) -> None:
        self.is_quick = is_quick
        self._now_s = now_s
        self._began_s = now_s()

    @property
    def _spent_s(self) -> float:
        return self._now_s() - self._began_s

    @property
    def may_begin(self) -> bool:
        return not self.is_quick or self._spent_s < _QUICK_BEGIN_WITHIN_S

    @property
    def may_try_less(self) -> bool:
        return not self.is_quick or self._spent_s < _QUICK_LOWER_WITHIN_S

    def end_s(self, sizes_left: int) -> float | None:
        """When this size is to be done, if each that is left gets as much; None for any time."""
        if not self.is_quick:
            return None
        return self._now_s() + (_QUICK_SIZES_WITHIN_S - self._spent_s) / sizes_left

    def probing_s(self, wanted_s: float, end_s: float | None) -> float:
        """So long a probe may be. In a hurry it is short, but one it is."""
        if end_s is None:
            return wanted_s
        return max(_QUICK_LEAST_S, min(wanted_s, _QUICK_SECONDS, end_s - self._now_s() - _AROUND_A_RUN_S))

    def allows_size(self, end_s: float | None) -> bool:
        return end_s is None or end_s - self._now_s() >= _QUICK_LEAST_S + _AROUND_A_RUN_S


# --- saturating -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Saturated:
    """What (a) found. ``interval_s`` is None where the machine could not fill such blocks."""

    size_bytes: int
    interval_s: float | None
    order_bytes: float
    times: tuple[BlockTimes, ...]
    faults: tuple[str, ...] = ()
    """Why the run was not correct; then it says nothing else."""

    @property
    def bytes_per_s(self) -> float:
        return self.size_bytes / self.interval_s if self.interval_s else 0.0


def _sized(plan: Plan, size_bytes: int, **parameters: int) -> Plan:
    """The plan with blocks of this capacity: every maker's batches find room in it."""
    batch_bytes = min(262_144, size_bytes // max(2, plan.validators))
    sized = {
        "block_bytes": size_bytes,
        "max_batch_bytes": batch_bytes,
        "max_transaction_bytes": min(65_536, batch_bytes - 160),
    }
    return replace(plan, trace=True, parameters={**plan.parameters, **sized, **parameters})


def _saturate(
    settings: Settings, size_bytes: int, guess_s: float, start: Start, plan: Plan | None = None, *, again: bool = True
) -> Saturated:
    """(a). ``guess_s``: what T_S may be. Where the blocks were not full, ``again`` with twice the load."""
    base = plan or settings.plan
    rate = min(_MOST_PER_S, _HEADROOM * size_bytes / (_ORDER_BYTES * guess_s))
    for attempt in range(2):
        warmup_s = max(2.0, 5 * guess_s)
        window_s = max(4.0, min(20.0, _SATURATING_BLOCKS * guess_s))
        if settings.quick:
            warmup_s, window_s = min(warmup_s, _QUICK_WARMUP_S), min(window_s, _QUICK_SATURATING_S)
        run = start(
            replace(
                _sized(base, size_bytes),
                arrivals=f"fixed:{rate:.1f}",
                seconds=round(warmup_s + window_s, 2),
                warmup_s=warmup_s,
                limit_s=_DRAIN_OBJECTIVES * settings.objective_ms / 1000,
            )
        )
        if run["faults"]:
            return Saturated(size_bytes, None, run["transaction_bytes"], (), tuple(run["faults"]))
        times = tuple(BlockTimes.of(values) for values in run["block_times"])
        intervals = [
            (after.made_us - before.made_us) / 1_000_000
            for before, after in pairwise(times)
            if min(before.size_bytes, after.size_bytes) >= _FULL * size_bytes
        ]
        if len(intervals) >= _LEAST_FULL or rate >= _MOST_PER_S or attempt or not again:
            break
        rate = min(_MOST_PER_S, 2 * rate)
    interval_s = fmean(intervals) if len(intervals) >= _LEAST_FULL else None
    return Saturated(size_bytes, interval_s, run["transaction_bytes"], times)


# --- engines whose slots come by turn -------------------------------------------------------------------------------


def _by_turn(
    settings: Settings, start: Start, now_s: Callable[[], float] = time.monotonic
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    saturated: list[Saturated] = []
    guess_s = _FIRST_GUESS_S
    left = _Time(is_quick=settings.quick, now_s=now_s)
    for number, size_bytes in enumerate(settings.sizes):
        end_s = left.end_s(len(settings.sizes) - number)
        if not left.allows_size(end_s):
            rows.append(
                _row(size_bytes) | {"passed": False, "why": "not measured: a quick measurement has ten minutes"}
            )
            continue
        found = _saturate(settings, size_bytes, guess_s, start, again=left.may_try_less)
        saturated.append(found)
        if found.interval_s is None:
            rows.append(_row(size_bytes) | {"share": _SHARE, "passed": False, "why": _why_not(found)})
            continue
        guess_s = 2 * found.interval_s
        rows += _probe_downwards(settings, found, start, left, end_s)
    passed = [row for row in rows if row["passed"]]
    summary: dict[str, Any] = {
        "fit": _fits(saturated),
        "frontier": _frontier(settings, rows),
        "capacity_bytes": None,
        "binds": None,
        "failures": None,
        "upper_bound": None,
        "indicative": settings.quick,
    }
    if passed:
        best = max(row["bytes_per_s"] for row in passed)
        capacity = min(row["size_bytes"] for row in passed if row["bytes_per_s"] >= _BEST_SHARE * best)
        at = next(found for found in saturated if found.size_bytes == capacity)
        summary["capacity_bytes"] = capacity
        summary["binds"], summary["relaxed"] = _what_binds(settings, at, start, left)
        summary |= _failures(settings, rows, saturated, capacity, start)
    return rows, summary


def _why_not(found: Saturated) -> str:
    return "; ".join(found.faults) or "the machine could not fill such blocks"


def _row(size_bytes: int) -> dict[str, Any]:
    return {**dict.fromkeys(COLUMNS), "size_bytes": size_bytes}


def _probe_downwards(
    settings: Settings, found: Saturated, start: Start, left: _Time, end_s: float | None
) -> Iterator[dict[str, Any]]:
    """Probes at 0.9 of what saturation gave, then at less, until one passes."""
    assert found.interval_s is not None
    interval_ms = round(1000 * found.interval_s, 1)
    if interval_ms > settings.objective_ms:
        why = "blocks alone take longer than the objective"
        yield _row(found.size_bytes) | {"interval_ms": interval_ms, "share": _SHARE, "passed": False, "why": why}
        return
    for share in (_SHARE, *_LOWER_SHARES):
        if share != _SHARE and not left.may_try_less:
            return
        row = _probe(settings, found, share, left.probing_s(_QUICK_BLOCKS * found.interval_s, end_s), start)
        yield row
        if row["passed"]:
            return


def _probe(
    settings: Settings, found: Saturated, share: float, seconds: float, start: Start, seed: int = 0
) -> dict[str, Any]:
    """(b): one row."""
    assert found.interval_s is not None
    rate = share * found.size_bytes / found.interval_s / found.order_bytes
    warmup_s = max(2.0, 10 * found.interval_s)
    warmup_s = round(min(warmup_s, _QUICK_WARMUP_S) if settings.quick else warmup_s, 2)
    patient = {"view_timeout_ms": max(2_000, round(4_000 * found.interval_s))}
    run = start(
        replace(
            _sized(settings.plan, found.size_bytes, **patient),
            arrivals=f"poisson:{rate:.2f}",
            seconds=round(warmup_s + seconds, 2),
            warmup_s=warmup_s,
            limit_s=_DRAIN_OBJECTIVES * settings.objective_ms / 1000,
            seed=settings.plan.seed + seed,
        )
    )
    histogram = histogram_of(run)
    times = [BlockTimes.of(values) for values in run["block_times"]]
    loaded = [block for block in times if block.batches]
    fill = fmean(block.size_bytes for block in loaded) / found.size_bytes if loaded else 0.0
    why = judge(run, fill, settings.objective_ms)
    return _row(found.size_bytes) | {
        "interval_ms": round(1000 * found.interval_s, 1),
        "share": share,
        "offered_per_s": run["offered_per_s"],
        "bytes_per_s": round(share * found.bytes_per_s),
        "p50_ms": histogram.milliseconds(0.50),
        "p99_ms": histogram.milliseconds(0.99),
        "fill": round(fill, 3),
        "blocks": len(loaded),
        "nullified": run["nullified"],
        "passed": not why,
        "why": "; ".join(why),
    }


def judge(run: Mapping[str, Any], fill: float, objective_ms: float) -> list[str]:
    """Why a probe does not pass; empty if it does."""
    why = list(run["faults"])
    histogram = histogram_of(run)
    if run["lag_p99_ms"] > lag_allowed_ms(histogram):
        why.append(f"the generator was {run['lag_p99_ms']:g} ms late")
    # What became final after its client had given up is committed, and late all the same.
    if late := max(histogram.over, run["timed_out"] + run["unfinished"]):
        why.append(f"{late:,} orders were not committed before the drain limit")
    if rejected := sum(run["rejected"].values()):
        why.append(f"{rejected:,} orders were rejected")
    p99_us = histogram.percentile_us(0.99)
    if p99_us is None or p99_us > 1000 * objective_ms:
        why.append(f"p99 is {histogram.text(0.99)} ms")
    plan = run["plan"]
    points = [
        (at_s, float(due - final)) for at_s, due, final in run["series"] if plan["warmup_s"] <= at_s < plan["seconds"]
    ]
    if len(points) < 2 or slope_bound(points, seed=1, confidence=0.9).high > _SLOPE_SHARE * run["offered_per_s"]:
        why.append("the backlog may grow by more than 1 % of the load")
    if fill < _FULL:
        why.append(f"blocks were {fill:.0%} full")
    if run["nullified"]:
        why.append(f"{run['nullified']:,} slots failed")
    return why


def _frontier(settings: Settings, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each size what it sustains, the last share that passed and the first that did not."""
    frontier = []
    for size_bytes in settings.sizes:
        here = [row for row in rows if row["size_bytes"] == size_bytes]
        passed = [row for row in here if row["passed"]]
        failed = [row["share"] for row in here if not row["passed"] and row["share"] is not None]
        frontier.append(
            {
                "size_bytes": size_bytes,
                "bytes_per_s": passed[0]["bytes_per_s"] if passed else 0 if failed else None,
                "last_pass": passed[0]["share"] if passed else None,
                "first_fail": min(failed) if failed else None,
            }
        )
    return frontier


def _fits(saturated: Sequence[Saturated]) -> dict[str, Any]:
    """For each clock and share the median of full blocks over their size; None where six sizes do not reach."""
    fits: dict[str, Any] = {}
    for clock in CLOCKS:
        shares = sorted(
            {share for found in saturated for block in found.times for share in block.times_ms.get(clock, {})}
        )
        for share in shares:
            points = [
                (float(block.size_bytes), block.times_ms[clock][share])
                for found in saturated
                for block in found.times
                if share in block.times_ms.get(clock, {}) and block.size_bytes >= _FULL * found.size_bytes
            ]
            fit = fit_times(points)
            fits[f"{clock}_{share}"] = None if fit is None else fit.values()
    return fits


# --- what binds -----------------------------------------------------------------------------------------------------


def _what_binds(
    settings: Settings, at: Saturated, start: Start, left: _Time
) -> tuple[str | None, dict[str, float | None]]:
    """The name of what gives most when it is taken away, and for each what it gives: 0.2 is a fifth more.

    None for one that could not be measured; and nothing is said to bind if that is so of all.
    """
    assert at.interval_s is not None
    plan = settings.plan
    relaxed: dict[str, Plan] = {
        "verification": replace(plan, workload="transfers"),
        "python": replace(plan, parameters={**plan.parameters, "batch_delay_ms": 240}),
    }
    if plan.network:
        topology = Topology.parse(plan.network)
        uplink = min((topology.uplink(node) for node in topology.nodes), default=0)
        mbit = f"bandwidth_mbit = {8 * uplink / 1e6:g}" if uplink else ""
        relaxed["delay"] = replace(plan, network=f"[network]\n{mbit}\n")
        lines = plan.network.splitlines()
        kept = [line for line in lines if not line.strip().startswith("bandwidth_mbit")]
        relaxed["uplink"] = replace(plan, network="\n".join(kept) + "\n")
    if _MEMORY_DISK.is_dir():
        relaxed["fsync"] = replace(plan, disk=str(_MEMORY_DISK))
    gains: dict[str, float | None] = dict.fromkeys(relaxed)
    for name, changed in relaxed.items():
        if not left.may_begin:
            break
        found = _saturate(settings, at.size_bytes, at.interval_s, start, changed, again=not settings.quick)
        if found.interval_s is None:
            continue
        trades, before = (each.bytes_per_s / each.order_bytes for each in (found, at))
        gains[name] = round(trades / before - 1, 3)
    measured = {name: gain for name, gain in gains.items() if gain is not None}
    if not measured:
        return None, gains
    best = max(measured, key=lambda name: measured[name])
    return (best if measured[best] >= _BINDING_GAIN else "nothing alone"), gains


# --- confirming -----------------------------------------------------------------------------------------------------


def _failures(
    settings: Settings,
    rows: list[dict[str, Any]],
    saturated: Sequence[Saturated],
    capacity: int,
    start: Start,
) -> dict[str, Any]:
    """How many slots failed at the capacity, and the exact bound at 95 %; confirmed with many blocks unless quick."""
    if settings.quick:
        here = [row for row in rows if row["size_bytes"] == capacity and row["passed"]]
    else:
        sizes = [capacity, *[size for size in settings.sizes if size > capacity][:1]]
        confirmed = []
        for found in saturated:
            if found.size_bytes not in sizes or found.interval_s is None:
                continue
            share = max(
                (row["share"] for row in rows if row["size_bytes"] == found.size_bytes and row["passed"]), default=None
            )
            for seed in range(_CONFIRM_SEEDS if share is not None else 0):
                assert share is not None
                confirmed.append(
                    _probe(settings, found, share, _CONFIRM_BLOCKS * found.interval_s, start, 1_000 + seed)
                )
        rows += confirmed
        here = [row for row in confirmed if row["size_bytes"] == capacity]
    failures = sum(row["nullified"] for row in here)
    slots = failures + sum(row["blocks"] for row in here)
    return {
        "failures": failures,
        "slots": slots,
        "upper_bound": round(failure_bound(failures, slots), 6) if slots else None,
        "confirmed": None if settings.quick else all(row["passed"] for row in here),
    }


# --- engines whose slots come by luck -------------------------------------------------------------------------------


def _by_luck(settings: Settings, start: Start) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """D_90 against the interval, and the share of blocks that find a rival, for each size. Unless quick, of the blocks
    of several runs under their own seeds: how often blocks come is itself a matter of luck."""
    rows = []
    saturated = []
    plan = settings.plan
    slot_ms = float(plan.cluster_parameters().slot_ms) if plan.engine == "pos" else 0.0
    guess_s = block_ms(plan.engine, plan.cluster_parameters()) / 1000
    for size_bytes in settings.sizes:
        found = [
            _saturate(settings, size_bytes, guess_s, start, replace(plan, seed=plan.seed + seed))
            for seed in range(1 if settings.quick else _LUCK_SEEDS)
        ]
        saturated += found
        rows.append(_row(size_bytes) | luck_of(found, size_bytes, slot_ms))
    connected = [row["size_bytes"] for row in rows if row["d90_ms"] is not None and row["d90_ms"] <= row["interval_ms"]]
    secure = [row["size_bytes"] for row in rows if row["stale_share"] is not None and row["stale_share"] <= _MOST_STALE]
    frontier = [{"size_bytes": row["size_bytes"], "bytes_per_s": row["bytes_per_s"] or 0} for row in rows]
    summary = {
        "fit": _fits(saturated),
        "frontier": frontier,
        "capacity_bytes": max(secure, default=None),
        "connectivity_bytes": max(connected, default=None),
        "security_bytes": max(secure, default=None),
        "binds": None,
        "failures": None,
        "upper_bound": None,
        "indicative": settings.quick,
    }
    return rows, summary


def luck_of(found: Sequence[Saturated], size_bytes: int, slot_ms: float) -> dict[str, Any]:
    """The figures of a row. ``slot_ms``: how often lots are drawn; 0 where that is all the time."""
    if missing := next((each for each in found if each.interval_s is None), None):
        return {"passed": False, "why": _why_not(missing)}
    interval_ms = 1000 * fmean(each.interval_s for each in found if each.interval_s is not None)
    full = [block for each in found for block in each.times if block.size_bytes >= _FULL * size_bytes]
    reached = [at_ms for block in full if (at_ms := _reached(block.informed, _CONNECTED)) is not None]
    whole = [block.informed for block in full if _reached(block.informed, 1.0) is not None]
    d90_ms = median(reached) if reached else None
    stale = fmean(stale_share(curve, interval_ms, slot_ms) for curve in whole) if whole else None
    why = []
    if d90_ms is None or d90_ms > interval_ms:
        why.append("90 % do not know a block before the next")
    if stale is None or stale > _MOST_STALE:
        why.append("more than 1 % of the blocks find a rival")
        if whole and slot_ms:
            at_once = fmean(stale_share([curve[0], (0.001, 1.0)], interval_ms, slot_ms) for curve in whole)
            if at_once > _MOST_STALE:
                why[-1] += f", {at_once:.1%} in the same slot, however small they are"
    return {
        "interval_ms": round(interval_ms, 1),
        "bytes_per_s": round(1000 * size_bytes / interval_ms),
        "blocks": len(full),
        "d90_ms": round(d90_ms, 1) if d90_ms is not None else None,
        "stale_share": round(stale, 5) if stale is not None else None,
        "passed": not why,
        "why": "; ".join(why),
    }


def _reached(informed: Sequence[tuple[float, float]], share: float) -> float | None:
    """Milliseconds until so much of the weight knew a block; None if it never did."""
    return next((at_ms for at_ms, knows in informed if knows >= share), None)
