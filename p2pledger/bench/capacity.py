"""How large a block may be, and what binds: ``p2pledger bench capacity``.

Definition. S is the capacity of a block: the bytes of all batches that it may name. For each S,

    (a) the network is saturated, and T_S measured: the mean interval between consecutive full blocks;
    (b) it is offered 0.9 S / T_S bytes a second, open-loop, for N blocks behind a warm-up.

A probe (b) *passes* when every order due in the window was committed before the drain limit (five times the objective)
and none was rejected, the backlog did not grow (the upper bound at 95 % of its slope is at most 1 % of the offered
rate), the 99th percentile of latency is within the objective, blocks were 85 % full on average, and no slot failed
(under simplex: no view was nullified; under dpos and poa: none was missed or reverted while there was work). One that
fails is tried again with less, in tenths of S / T_S, down to 0.3: so each S has a last pass and a first fail. What a
probe carried while it was offered too much says where to go on. Where T_S alone exceeds the objective no probe could
pass, and none is made.

Blocks of S. A block takes some time whatever it holds, and some for each byte: below full load blocks of a network that
makes them as fast as it can come sooner than full ones do, so they are emptier than the load says (of 0.9 S / T_S some
were 41 % full), and a probe of them says nothing about S. An operator who wants blocks of S sets the interval to fit.
So in (b) the least interval between blocks, a parameter of the network, is such that blocks come 90 % full under this
load: on average every (0.9 / share) T_S. A block takes the longer of that interval and of its own time, which depends
on its leader's place and wavers around T_S. At this load its own time is less than that of a full one, by nothing where
distance is all of it, by much where the network was swamped in (a): a tenth is taken. So the interval is the I for
which the mean of max(I, 0.9 t) over the times t between full blocks in (a) is (0.9 / share) T_S. Should they be too
empty all the same while everything else was kept (the machine was slower in (a)), they are probed again under the same
load, with the interval longer by 0.9 over the fill. Where no parameter sets a pace (dpos and poa have their slots) the
next probe offers *more* instead, by as much, and never more than S / T_S: less load could only make emptier blocks.
What failed by its fill alone is no limit of the network, and so neither last pass nor first fail.

Bytes are those of batches. What the frames of the batches take (as many to a block as in (a)) is not offered as orders.
Where the generator at its fastest cannot fill blocks as fast as they come, (a) is measured at the interval in which it
does: T_S is then the generator's, and so says what binds.

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

``quick`` has ten minutes whatever the machine does. First all sizes are saturated (the fit needs all of them), then
each is probed once, with 200 blocks or 40 s, or less where that would take more than its share of the time; other loads
are tried, and one thing after another is taken away, in the time that is left. A size for which there is none is told
as not measured, and a run that is under way at the end is interrupted. Its answer is *indicative*, its failed slots
are those of all probes at the answer, whether they passed or not. Otherwise the answer and the next size up are
confirmed with 3,000 blocks under two seeds, whose failed slots are told with the exact upper bound of what that says
about others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from math import inf
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
from p2pledger.cluster.development import block_ms, measured_difficulty
from p2pledger.ledger.elections.pos import SLOTS_PER_BLOCK
from p2pledger.network.topology import Topology
from p2pledger.primitives.errors import InvalidInput, P2PLedgerError
from p2pledger.primitives.parameters import BATCH_OVERHEAD_BYTES

__all__ = [
    "DEFAULT_SIZES",
    "FOUR_REGIONS",
    "Saturated",
    "Settings",
    "interval_parameters",
    "judge",
    "luck_of",
    "measure_capacity",
]

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
_LOWER_SHARES: Final = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
_CARRIED: Final = 0.95
"""Of what a probe carried that was too much, so much is tried next at the most."""
_SOONER: Final = 0.9
"""How long a block takes at the load of a probe, beside a full one of a saturated network."""
_PACES: Final = 3
"""For how many times one load is probed, where blocks are too empty."""
_FULL: Final = 0.85
_BEST_SHARE: Final = 0.95
_DRAIN_OBJECTIVES: Final = 5
_SLOPE_SHARE: Final = 0.01
_PROBE_BLOCKS: Final = 200
_QUICK_SECONDS: Final = 40.0
_PROBE_LEAST_S: Final = 20.0
"""So long it takes to bound the slope of a backlog by 1 % of the load: its saw teeth are a tenth of a second high."""
_QUICK_WARMUP_S: Final = 5.0
_QUICK_SATURATING_S: Final = 10.0
# Behind the beginning of a quick measurement: until when each kind of runs is to be done.
_QUICK_SATURATED_S: Final = 230.0
_QUICK_SATURATED_AGAIN_S: Final = 170.0
_QUICK_PROBED_S: Final = 330.0
_QUICK_PROBED_AGAIN_S: Final = 490.0
_QUICK_END_S: Final = 555.0
"""Then a run is interrupted, and takes half a minute at most to end."""
_AROUND_A_RUN_S: Final = 15.0
"""What a run takes beside its window and its orders, before any was seen: starting, draining, agreeing, ending."""
_PREPARED_PER_S: Final = 15_000.0
"""Orders that are signed before the window, and counted again behind it, in a second; on a busy machine."""
_CONFIRM_BLOCKS: Final = 3_000
_CONFIRM_SEEDS: Final = 2
_SATURATING_BLOCKS: Final = 25
_LEAST_FULL: Final = 5
_HEADROOM: Final = 1.8
_NEXT_SIZE: Final = 1.25
"""How much longer than those of the last size the next size's blocks are taken to be, before they are measured."""
_LESS_BINDS: Final = 1.5
"""How much sooner blocks may come where something was taken away."""
_ATTEMPTS: Final = 3
_MOST_PER_S: Final = 9_000.0
_FIRST_GUESS_S: Final = 0.2
_ORDER_BYTES: Final = 460.0
_BINDING_GAIN: Final = 0.10
_BY_LUCK: Final = ("pow", "pos")
_MOST_STALE: Final = 0.01
_CONNECTED: Final = 0.9
_LUCK_SEEDS: Final = 4
_MEMORY_DISK: Final = Path("/dev/shm")

_NO_TIME: Final = "not measured: a quick measurement has ten minutes"

COLUMNS: Final = (
    "size_bytes", "interval_ms", "share", "paced_ms", "offered_per_s", "bytes_per_s", "p50_ms", "p99_ms", "fill",
    "carried_share", "blocks", "nullified", "d90_ms", "stale_share", "passed", "why",
)  # fmt: skip
Start = Callable[[Plan, float | None], dict[str, Any]]
"""Runs a plan in a fresh process, within so many seconds, keeps the run, and gives its values. P2PLedgerError with the
code ``overdue`` if it took longer."""
Run = Callable[[Plan], dict[str, Any]]
"""The same, within the time that is left."""
Rows = list[dict[str, Any]]
Keep = Callable[[Rows], None]
"""Keeps the rows that are in, should nothing follow."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure. ``plan`` names workload, validators, engine, network and seed; its rates are not used."""

    sizes: tuple[int, ...]
    objective_ms: float
    quick: bool
    plan: Plan

    def check(self) -> Settings:
        """InvalidInput or BadConfiguration where it cannot be run."""
        if len(self.sizes) < 2 or list(self.sizes) != sorted(set(self.sizes)) or self.sizes[0] < 16_384:
            raise InvalidInput("two sizes at least, ascending, of 16,384 bytes or more", code="usage")
        if not 0 < self.objective_ms < inf:
            raise InvalidInput("the objective must be positive, and end", code="usage")
        self.plan.check()
        for size_bytes in self.sizes:
            _sized(self.plan, size_bytes).cluster_parameters().check()
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
    left = _Time(is_quick=settings.quick, now_s=time.monotonic)
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

    def start(run: Plan, within_s: float | None) -> dict[str, Any]:
        nonlocal done
        done += 1
        progress.say(f"run {done}: blocks of {run.parameters['block_bytes']:,} bytes, {run.arrivals}")
        values = fresh_run("settling", asdict(run), progress, within_s)
        results.add_run(values)
        return values

    rows, summary = (_by_luck if plan.engine in _BY_LUCK else _by_turn)(settings, start, left, results.keep)
    results.finish(rows, summary)
    return results


def interval_parameters(engine: str, interval_ms: int) -> dict[str, int]:
    """The parameters that make a block come every so many milliseconds: at the soonest (simplex), by the clock (dpos,
    poa) or on average (pow, pos). For pow that depends on the machine, whose hashes are counted now."""
    if engine == "simplex":
        return _interval(interval_ms)
    if engine == "pos":
        return {"slot_ms": max(1, interval_ms // SLOTS_PER_BLOCK)}
    difficulty = {"initial_difficulty": measured_difficulty(interval_ms)} if engine == "pow" else {}
    return {"slot_ms": interval_ms, **difficulty}


class _Time:
    """How much of it is left: without bound, or ten minutes in all where it has to be quick."""

    def __init__(self, *, is_quick: bool, now_s: Callable[[], float]) -> None:
        self.is_quick = is_quick
        self._now_s = now_s
        self._began_s = now_s()
        self._around_s = [_AROUND_A_RUN_S]

    @property
    def _spent_s(self) -> float:
        return self._now_s() - self._began_s

    def following(self, start: Start) -> Run:
        """Runs that are interrupted when no time is left, and from which is learned what runs take beside windows."""

        def run(plan: Plan) -> dict[str, Any]:
            began_s = self._now_s()
            values = start(plan, max(0.0, _QUICK_END_S - self._spent_s) if self.is_quick else None)
            rest_s = self._now_s() - began_s - plan.seconds * (1 + _rate_of(plan) / _PREPARED_PER_S)
            self._around_s = [*self._around_s[-2:], max(0.0, rest_s)]
            return values

        return run

    def allows(self, seconds: float, until_s: float, rate: float) -> bool:
        """Whether a run with such a window and so many orders a second would be done by then."""
        taken_s = max(self._around_s) + seconds * (1 + rate / _PREPARED_PER_S)
        return not self.is_quick or self._spent_s + taken_s <= until_s

    def window_s(self, least_s: float, wanted_s: float, until_s: float, rate: float, runs: int) -> float | None:
        """So long the next of ``runs`` windows may be, if each gets as much time; None where that is too short."""
        if not self.is_quick:
            return wanted_s
        share_s = ((until_s - self._spent_s) / runs - max(self._around_s)) / (1 + rate / _PREPARED_PER_S)
        if share_s < least_s and not self.allows(least_s, until_s, rate):
            return None
        return min(wanted_s, max(least_s, share_s))


def _rate_of(plan: Plan) -> float:
    """Orders a second of arrivals that are named here."""
    return float(plan.arrivals.partition(":")[2])


@contextmanager
def _what_is_overdue_ends_it() -> Iterator[None]:
    """Nothing more is measured then, and the rest is made of what there is."""
    try:
        yield
    except P2PLedgerError as error:
        if error.code != "overdue":
            raise


# --- saturating -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Saturated:
    """What (a) found."""

    size_bytes: int
    intervals_s: tuple[float, ...]
    """Between neighbours that were both full; empty where they were too few to say anything."""
    order_bytes: float
    times: tuple[BlockTimes, ...]
    faults: tuple[str, ...] = ()
    """Why the run was not correct; then it says nothing else."""
    paced_ms: int = 0
    """The least interval between its blocks, where the generator could not fill them as they came."""

    @property
    def interval_s(self) -> float | None:
        """T_S; None where the machine could not fill such blocks."""
        return fmean(self.intervals_s) if self.intervals_s else None

    @property
    def bytes_per_s(self) -> float:
        return self.size_bytes / self.interval_s if self.interval_s else 0.0

    @property
    def orders_per_block(self) -> float:
        """How many a full block holds, beside the frames of its batches."""
        batches = fmean(block.batches for block in self.times if block.size_bytes >= _FULL * self.size_bytes)
        return max(self.size_bytes / 2, self.size_bytes - BATCH_OVERHEAD_BYTES * batches) / self.order_bytes

    def rate_of(self, share: float) -> float:
        """Orders a second that make this share of S / T_S."""
        return share * self.orders_per_block / fmean(self.intervals_s)

    def pace_s(self, share: float) -> float:
        """The least interval between blocks with which they come 90 % full at this share of S / T_S."""
        needed_s = max(1.0, _SHARE / share) * fmean(self.intervals_s) * len(self.intervals_s)
        own_s = sorted(_SOONER * interval_s for interval_s in self.intervals_s)
        # Above the k shortest ones, and not above the next, it takes their place in the sum.
        rest_s = sum(own_s)
        for k, each_s in enumerate(own_s, 1):
            rest_s -= each_s
            pace_s = (needed_s - rest_s) / k
            if k == len(own_s) or pace_s <= own_s[k]:
                break
        return pace_s

    @property
    def carried_per_s(self) -> float | None:
        """Orders a second in all blocks, full or not; None of fewer than two blocks."""
        if len(self.times) < 2:
            return None
        carried = sum(block.size_bytes - BATCH_OVERHEAD_BYTES * block.batches for block in self.times[1:])
        return 1e6 * carried / self.order_bytes / (self.times[-1].made_us - self.times[0].made_us)


def _sized(plan: Plan, size_bytes: int, **parameters: int) -> Plan:
    """The plan with blocks of this capacity: every maker's batches find room in it."""
    batch_bytes = min(262_144, size_bytes // max(2, plan.validators))
    sized = {
        "block_bytes": size_bytes,
        "max_batch_bytes": batch_bytes,
        "max_transaction_bytes": min(65_536, batch_bytes - BATCH_OVERHEAD_BYTES),
    }
    return replace(plan, trace=True, parameters={**plan.parameters, **sized, **parameters})


def _saturating_s(settings: Settings, guess_s: float) -> tuple[float, float]:
    """The warm-up and the window behind it."""
    warmup_s, window_s = max(2.0, 5 * guess_s), max(4.0, min(20.0, _SATURATING_BLOCKS * guess_s))
    if settings.quick:
        return min(warmup_s, _QUICK_WARMUP_S), min(window_s, _QUICK_SATURATING_S)
    return warmup_s, window_s


def _saturating_rate(size_bytes: int, guess_s: float) -> float:
    """Orders a second."""
    return min(_MOST_PER_S, _HEADROOM * size_bytes / (_ORDER_BYTES * guess_s))


def _saturate(
    settings: Settings,
    size_bytes: int,
    guess_s: float,
    run: Run,
    plan: Plan | None = None,
    *,
    again: Callable[[], bool] = lambda: True,
    window_s: float | None = None,
) -> Saturated:
    """(a). ``guess_s``: what T_S may be; where the blocks were not full, and ``again``, with twice the load, and where
    there is no more of it, with blocks that come as the generator fills them. ``window_s``: another than the usual."""
    base = plan or settings.plan
    rate = _saturating_rate(size_bytes, guess_s)
    warmup_s, usual_s = _saturating_s(settings, guess_s)
    paced_ms = 0
    for attempt in range(_ATTEMPTS):
        pace = _pace(base, paced_ms) if paced_ms else {}
        values = run(
            replace(
                _sized(base, size_bytes, **pace),
                arrivals=f"fixed:{rate:.1f}",
                seconds=round(warmup_s + (window_s or usual_s), 2),
                warmup_s=warmup_s,
                limit_s=_DRAIN_OBJECTIVES * settings.objective_ms / 1000,
            )
        )
        if values["faults"]:
            return Saturated(size_bytes, (), values["transaction_bytes"], (), tuple(values["faults"]))
        times = tuple(BlockTimes.of(block) for block in values["block_times"])
        intervals = [
            (after.made_us - before.made_us) / 1_000_000
            for before, after in pairwise(times)
            if min(before.size_bytes, after.size_bytes) >= _FULL * size_bytes
        ]
        # A few full blocks among others are a burst: the network was not saturated.
        is_filled = len(intervals) >= (_LEAST_FULL if base.engine in _BY_LUCK else max(_LEAST_FULL, len(times) / 2))
        enough = tuple(intervals) if len(intervals) >= _LEAST_FULL else ()
        found = Saturated(size_bytes, enough, values["transaction_bytes"], times, (), paced_ms)
        if is_filled or attempt + 1 == _ATTEMPTS or not again():
            break
        if rate < _MOST_PER_S:
            rate = min(_MOST_PER_S, 2 * rate)
            continue
        if base.engine != "simplex" or paced_ms or not found.carried_per_s:
            break
        filling_ms = 1000 * size_bytes / (found.carried_per_s * found.order_bytes)
        if filling_ms > settings.objective_ms:
            break
        paced_ms = round(1.05 * filling_ms)
    return found


def _pace(plan: Plan, interval_ms: float) -> dict[str, int]:
    """The parameters with which blocks come no sooner, and views are given the time for that; none where blocks have
    their slots."""
    if plan.engine != "simplex":
        return {}
    return _interval(max(1, round(interval_ms), plan.parameters.get("block_interval_ms", 0)))


def _interval(least_ms: int) -> dict[str, int]:
    patience_ms = max(2_000, 4 * least_ms)
    return {
        "block_interval_ms": least_ms,
        "view_timeout_ms": patience_ms,
        "view_timeout_cap_ms": max(16_000, patience_ms),
    }


# --- engines whose slots come by turn -------------------------------------------------------------------------------


def _by_turn(settings: Settings, start: Start, left: _Time, keep: Keep) -> tuple[Rows, dict[str, Any]]:
    rows: Rows = []
    saturated: list[Saturated] = []
    run = left.following(start)
    with _what_is_overdue_ends_it():
        guess_s = _FIRST_GUESS_S
        for size_bytes in settings.sizes:
            window_s, rate = sum(_saturating_s(settings, guess_s)), _saturating_rate(size_bytes, guess_s)
            if not left.allows(window_s, _QUICK_SATURATED_S, rate):
                break
            again = partial(left.allows, window_s, _QUICK_SATURATED_AGAIN_S, rate)
            found = _saturate(settings, size_bytes, guess_s, run, again=again)
            saturated.append(found)
            if found.interval_s is not None:
                guess_s = _NEXT_SIZE * found.interval_s
            if why := _why_no_probe(found, settings.objective_ms):
                rows.append(_row(size_bytes) | {"interval_ms": _ms(found), "passed": False, "why": why})
                keep(rows)
        _probe_all(settings, saturated, run, left, rows, keep)
    for size_bytes in settings.sizes:
        if all(row["size_bytes"] != size_bytes for row in rows):
            rows.append(_row(size_bytes) | {"passed": False, "why": _NO_TIME})
    rows.sort(key=lambda row: row["size_bytes"])
    keep(rows)
    summary: dict[str, Any] = {
        "fit": _fits(saturated),
        "frontier": _frontier(settings, rows),
        "capacity_bytes": None,
        "binds": None,
        "failures": None,
        "upper_bound": None,
        "indicative": settings.quick,
    }
    if passed := [row for row in rows if row["passed"]]:
        best = max(row["bytes_per_s"] for row in passed)
        capacity = min(row["size_bytes"] for row in passed if row["bytes_per_s"] >= _BEST_SHARE * best)
        at = next(found for found in saturated if found.size_bytes == capacity)
        summary["capacity_bytes"] = capacity
        summary["binds"], summary["relaxed"] = _what_binds(settings, at, run, left)
        summary |= _failures(settings, rows, saturated, capacity, run)
    return rows, summary


def _probe_all(
    settings: Settings, saturated: Sequence[Saturated], run: Run, left: _Time, rows: Rows, keep: Keep
) -> None:
    """Each size at 0.9 of what saturation gave; then, round after round, those that failed at their next loads."""
    waiting = [(found, _Load(_SHARE)) for found in saturated if not _why_no_probe(found, settings.objective_ms)]
    until_s = _QUICK_PROBED_S
    while waiting:
        late, following = [], []
        for number, (found, load) in enumerate(waiting):
            assert found.interval_s is not None
            warmup_s, rate = _warmup_s(settings, found.interval_s), found.rate_of(load.share)
            wanted_s = max(_PROBE_LEAST_S, _PROBE_BLOCKS * found.interval_s * max(1.0, _SHARE / load.share))
            if settings.quick:
                wanted_s = min(_QUICK_SECONDS, wanted_s)
            least_s = _PROBE_LEAST_S + warmup_s
            window_s = left.window_s(least_s, wanted_s + warmup_s, until_s, rate, len(waiting) - number)
            if window_s is None:
                late.append((found, load))
                continue
            rows.append(_probe(settings, found, load, window_s - warmup_s, run))
            keep(rows)
            next_load = _next_load([row for row in rows if row["size_bytes"] == found.size_bytes])
            if next_load is not None:
                following.append((found, next_load))
        # What found no time in the first round comes first in the second.
        waiting = [*(late if until_s == _QUICK_PROBED_S else ()), *following]
        until_s = _QUICK_PROBED_AGAIN_S


@dataclass(frozen=True, slots=True)
class _Load:
    """Of S / T_S a share, in blocks that come no sooner than ``paced_ms``; None where T_S alone says how soon."""

    share: float
    paced_ms: int | None = None


def _next_load(probed: Sequence[Mapping[str, Any]]) -> _Load | None:
    """The one that is worth a probe behind these of one size, in their order; None if there is none."""
    last = probed[-1]
    share = last["share"]
    if last["passed"]:
        return None
    if _is_fill_alone(last):
        missing = _SHARE / max(last["fill"], 0.1)
        if last["paced_ms"]:
            tried = sum(row["share"] == share for row in probed)
            return _Load(share, round(missing * last["paced_ms"])) if tried < _PACES else None
        failed = min((row["share"] for row in probed if not row["passed"] and not _is_fill_alone(row)), default=None)
        more = min(1.0, round(missing * share, 3))
        return _Load(more) if more > share and (failed is None or more < failed) else None
    if share > _SHARE:
        return None  # with less it was too empty
    carried = last["carried_share"]  # None where the probe has no figures: then only the share says what is less
    most = share - 0.01 if carried is None else min(share - 0.01, _CARRIED * carried)
    return next((_Load(less) for less in _LOWER_SHARES if less <= most), None)


def _is_fill_alone(row: Mapping[str, Any]) -> bool:
    """Whether it kept everything, but its blocks were too empty to speak for their size."""
    return row["fill"] is not None and row["why"] == _too_empty(row["fill"])


def _too_empty(fill: float) -> str:
    return f"blocks were {fill:.0%} full"


def _why_no_probe(found: Saturated, objective_ms: float) -> str:
    """Empty if there is one to make."""
    if found.interval_s is None:
        return _why_not(found)
    return "blocks alone take longer than the objective" if 1000 * found.interval_s > objective_ms else ""


def _ms(found: Saturated) -> float | None:
    return None if found.interval_s is None else round(1000 * found.interval_s, 1)


def _why_not(found: Saturated) -> str:
    return "; ".join(found.faults) or "the machine could not fill such blocks"


def _row(size_bytes: int) -> dict[str, Any]:
    return {**dict.fromkeys(COLUMNS), "size_bytes": size_bytes}


def _warmup_s(settings: Settings, interval_s: float) -> float:
    warmup_s = max(2.0, 10 * interval_s)
    return round(min(warmup_s, _QUICK_WARMUP_S) if settings.quick else warmup_s, 2)


def _probe(
    settings: Settings, found: Saturated, load: _Load, seconds: float, run: Run, seed: int = 0
) -> dict[str, Any]:
    """(b): one row. Without figures where the run was not correct, or the generator too late: then it is no verdict."""
    assert found.interval_s is not None
    warmup_s = _warmup_s(settings, found.interval_s)
    pace = _pace(settings.plan, load.paced_ms or 1000 * found.pace_s(load.share))
    values = run(
        replace(
            _sized(settings.plan, found.size_bytes, **pace),
            arrivals=f"poisson:{found.rate_of(load.share):.2f}",
            seconds=round(warmup_s + seconds, 2),
            warmup_s=warmup_s,
            limit_s=_DRAIN_OBJECTIVES * settings.objective_ms / 1000,
            seed=settings.plan.seed + seed,
        )
    )
    row = _row(found.size_bytes) | {
        "interval_ms": _ms(found),
        "share": load.share,
        "paced_ms": pace.get("block_interval_ms"),
        "offered_per_s": values["offered_per_s"],
        "passed": False,
    }
    if unusable := _unusable(values):
        return row | {"why": "; ".join(unusable)}
    histogram = histogram_of(values)
    loaded = [block for block in map(BlockTimes.of, values["block_times"]) if block.batches]
    fill = round(fmean(block.size_bytes for block in loaded) / found.size_bytes, 3) if loaded else 0.0
    span_s = (loaded[-1].made_us - loaded[0].made_us) / 1e6 if len(loaded) > 1 else 0.0
    carried = sum(block.size_bytes for block in loaded[1:]) / span_s if span_s else 0.0
    why = judge(values, fill, settings.objective_ms)
    return row | {
        "bytes_per_s": round(load.share * found.bytes_per_s),
        "p50_ms": histogram.milliseconds(0.50),
        "p99_ms": histogram.milliseconds(0.99),
        "fill": fill,
        "carried_share": round(carried / found.bytes_per_s, 3),
        "blocks": len(loaded),
        "nullified": values["nullified"],
        "passed": not why,
        "why": "; ".join(why),
    }


def _unusable(run: Mapping[str, Any]) -> list[str]:
    """Why a run says nothing about the network; empty if it does."""
    why = list(run["faults"])
    if run["lag_p99_ms"] > lag_allowed_ms(histogram_of(run)):
        why.append(f"the generator was {run['lag_p99_ms']:g} ms late")
    return why


def judge(run: Mapping[str, Any], fill: float, objective_ms: float) -> list[str]:
    """Why a probe does not pass; empty if it does."""
    why = _unusable(run)
    histogram = histogram_of(run)
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
        why.append(_too_empty(fill))
    if run["nullified"]:
        why.append(f"{run['nullified']:,} slots failed")
    return why


def _frontier(settings: Settings, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each size what it sustains, the greatest share of S / T_S that passed and the least that failed.

    0 bytes a second where all that was tried failed; None where nothing was, where its blocks were too empty to say so,
    or where no run had figures.
    """
    frontier = []
    for size_bytes in settings.sizes:
        here = [row for row in rows if row["size_bytes"] == size_bytes]
        passed = max((row for row in here if row["passed"]), key=lambda row: row["share"], default=None)
        failed = [row for row in here if not row["passed"] and not _is_fill_alone(row) and not _is_unmeasured(row)]
        shares = [row["share"] for row in failed if row["share"] is not None]
        frontier.append(
            {
                "size_bytes": size_bytes,
                "bytes_per_s": passed["bytes_per_s"] if passed else 0 if failed else None,
                "last_pass": passed["share"] if passed else None,
                "first_fail": min(shares, default=None),
            }
        )
    return frontier


def _is_unmeasured(row: Mapping[str, Any]) -> bool:
    """Whether it says nothing about the network: there was no time, a run was wrong, or a generator too late."""
    asked = row["interval_ms"] if row["share"] is None else row["fill"]
    return asked is None


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


def _what_binds(settings: Settings, at: Saturated, run: Run, left: _Time) -> tuple[str | None, dict[str, float | None]]:
    """The name of what gives most when it is taken away, and for each what it gives: 0.2 is a fifth more.

    None for one that could not be measured; and nothing is said to bind if that is so of all. Where the generator was
    at its end already, it is what binds.
    """
    assert at.interval_s is not None
    plan = settings.plan
    relaxed: dict[str, Plan] = {
        "verification": replace(plan, workload="transfers"),
        "python": replace(plan, parameters={**plan.parameters, "batch_delay_ms": 240}),
    }
    if plan.network:
        topology = Topology.parse(plan.network)
        relaxed["delay"] = replace(plan, network=topology.without_distance().manifest())
        relaxed["uplink"] = replace(plan, network=topology.without_bandwidth().manifest())
    if _MEMORY_DISK.is_dir():
        relaxed["fsync"] = replace(plan, disk=str(_MEMORY_DISK))
    gains: dict[str, float | None] = dict.fromkeys(relaxed)
    before = at.carried_per_s
    if at.paced_ms or not before:
        return ("generator" if at.paced_ms else None), gains
    guess_s = at.interval_s / _LESS_BINDS
    window_s = sum(_saturating_s(settings, guess_s))
    with _what_is_overdue_ends_it():
        for name, changed in relaxed.items():
            if not left.allows(window_s, _QUICK_END_S, _saturating_rate(at.size_bytes, guess_s)):
                break
            found = _saturate(settings, at.size_bytes, guess_s, run, changed, again=lambda: False)
            # Of all blocks: what was offered may not fill them any more, and then is the least that is gained.
            if not found.faults and found.carried_per_s:
                gains[name] = round(found.carried_per_s / before - 1, 3)
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
    run: Run,
) -> dict[str, Any]:
    """How many slots failed at the capacity, and the exact bound at 95 %; confirmed with many blocks unless quick.

    Of all probes there: those that passed are those without a failure.
    """
    if settings.quick:
        here = [row for row in rows if row["size_bytes"] == capacity and row["blocks"] is not None]
    else:
        sizes = [capacity, *[size for size in settings.sizes if size > capacity][:1]]
        confirmed = []
        for found in saturated:
            if found.size_bytes not in sizes or found.interval_s is None:
                continue
            passed = [row for row in rows if row["size_bytes"] == found.size_bytes and row["passed"]]
            for row in sorted(passed, key=lambda row: row["share"])[-1:]:
                load, seconds = _Load(row["share"], row["paced_ms"]), _CONFIRM_BLOCKS * found.interval_s
                confirmed += [
                    _probe(settings, found, load, seconds, run, 1_000 + seed) for seed in range(_CONFIRM_SEEDS)
                ]
        rows += confirmed
        here = [row for row in confirmed if row["size_bytes"] == capacity]
    counted = [row for row in here if row["blocks"] is not None]
    failures = sum(row["nullified"] for row in counted)
    slots = failures + sum(row["blocks"] for row in counted)
    which = "all" if settings.quick else "the confirming"
    return {
        "failures": failures if counted else None,
        "slots": slots,
        "slots_of": f"{which} probes of blocks of {capacity:,} bytes: {len(counted)}",
        "upper_bound": round(failure_bound(failures, slots), 6) if slots else None,
        "confirmed": None if settings.quick else all(row["passed"] for row in here),
    }


# --- engines whose slots come by luck -------------------------------------------------------------------------------


def _by_luck(settings: Settings, start: Start, left: _Time, keep: Keep) -> tuple[Rows, dict[str, Any]]:
    """D_90 against the interval, and the share of blocks that find a rival, for each size. Unless quick, of the blocks
    of several runs under their own seeds: how often blocks come is itself a matter of luck."""
    rows = [_row(size_bytes) | {"passed": False, "why": _NO_TIME} for size_bytes in settings.sizes]
    saturated = []
    plan = settings.plan
    run = left.following(start)
    slot_ms = float(plan.cluster_parameters().slot_ms) if plan.engine == "pos" else 0.0
    guess_s = block_ms(plan.engine, plan.cluster_parameters()) / 1000
    warmup_s, _ = _saturating_s(settings, guess_s)
    with _what_is_overdue_ends_it():
        for number, size_bytes in enumerate(settings.sizes):
            wanted_s = warmup_s + max(4.0, _SATURATING_BLOCKS * guess_s)
            rate = _saturating_rate(size_bytes, guess_s)
            runs = len(settings.sizes) - number
            window_s = left.window_s(warmup_s + 4.0, wanted_s, _QUICK_PROBED_AGAIN_S, rate, runs)
            if window_s is None:
                break
            again = partial(left.allows, window_s, _QUICK_SATURATED_S, rate)
            found = [
                _saturate(
                    settings,
                    size_bytes,
                    guess_s,
                    run,
                    replace(plan, seed=plan.seed + seed),
                    again=again,
                    window_s=max(4.0, window_s - warmup_s),
                )
                for seed in range(1 if settings.quick else _LUCK_SEEDS)
            ]
            saturated += found
            rows[number] = _row(size_bytes) | luck_of(found, size_bytes, slot_ms)
            keep(rows)
    connected = [row["size_bytes"] for row in rows if row["d90_ms"] is not None and row["d90_ms"] <= row["interval_ms"]]
    secure = [row["size_bytes"] for row in rows if row["stale_share"] is not None and row["stale_share"] <= _MOST_STALE]
    frontier = [
        {"size_bytes": row["size_bytes"], "bytes_per_s": None if _is_unmeasured(row) else row["bytes_per_s"] or 0}
        for row in rows
    ]
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
