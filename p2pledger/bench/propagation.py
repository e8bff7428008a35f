"""How a block spreads, on two clocks, and what its size does to it.

*Data*. Batches are streamed ahead of their ordering. This clock starts with the first byte that any maker sends of any
batch that a block names, and stops when nodes with X % of the voting weight have found all of them right; S is the
number of bytes that the batches hold together. *Order*. This clock starts with the first byte of the header, and stops
when X % have voted for the block, know it to be final, have executed it. The proposer's own weight counts from zero on.

Both come from the traces of all nodes (``network/tracing.py``), on one machine and so on one clock. Values of X that
mean the same number of nodes are told once.

A line is fitted to the times over S by quantile regression; below a *knee* times do not depend on S: there the floor of
latency stands alone. Nothing is said outside of the sizes that were measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp
from typing import Any, Final

from p2pledger.bench.statistics import Line, quantile_line
from p2pledger.network.tracing import Timelines
from p2pledger.node.effects import Stage
from p2pledger.primitives.errors import InvalidInput

__all__ = ["CLOCKS", "SHARES", "BlockTimes", "Fit", "block_times", "distinct_shares", "fit_times", "stale_share"]

SHARES: Final = (50, 67, 90, 100)
"""X, in per cent of the voting weight; 67 stands for a quorum: more than two thirds."""
CLOCKS: Final = ("data", "voted", "final", "executed")
_LEAST_SIZES: Final = 6
_LEAST_SPAN: Final = 100
_SAME_SIZE: Final = 1.2
"""Blocks of one capacity are called full from 85 % of it on: sizes so near to each other are one."""


@dataclass(frozen=True, slots=True)
class BlockTimes:
    """One block: the bytes of its batches, when it was made, and for each clock the milliseconds to each share.

    ``times_ms["data"][67]``; a share that was not reached is missing. ``informed``: (milliseconds, share of the weight
    that has executed it from then on), ascending; it ends below 1 where somebody never did.
    """

    size_bytes: int
    batches: int
    made_us: int
    times_ms: dict[str, dict[int, float]]
    informed: tuple[tuple[float, float], ...] = ()

    def values(self) -> dict[str, Any]:
        times = {clock: {str(share): ms for share, ms in shares.items()} for clock, shares in self.times_ms.items()}
        plain = {"size_bytes": self.size_bytes, "batches": self.batches, "made_us": self.made_us}
        return {**plain, "times_ms": times, "informed": [list(step) for step in self.informed]}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> BlockTimes:
        times = {
            clock: {int(share): ms for share, ms in shares.items()} for clock, shares in values["times_ms"].items()
        }
        informed = tuple((ms, share) for ms, share in values.get("informed", ()))
        return cls(values["size_bytes"], values["batches"], values["made_us"], times, informed)


def distinct_shares(weights: Mapping[str, int]) -> tuple[int, ...]:
    """Of ``SHARES`` those that ask for different weights."""
    total = sum(weights.values())
    found: dict[int, int] = {}
    for share in SHARES:
        found.setdefault(_needed(total, share), share)
    return tuple(found.values())


def _needed(total: int, share: int) -> int:
    """The weight that is this share of all of it; at 67 a quorum."""
    return 2 * total // 3 + 1 if share == 67 else -(-total * share // 100)


def block_times(timelines: Timelines, weights: Mapping[str, int]) -> list[BlockTimes]:
    """The times of each block that became final somewhere, in the order of their making. ``weights`` by node name."""
    found = []
    for block in timelines.blocks:
        made = [time_us for name in weights if (time_us := timelines.first(name, Stage.MADE, block)) is not None]
        if not made or all(timelines.first(name, Stage.FINAL, block) is None for name in weights):
            continue
        batches = timelines.batches_of.get(block, ())
        times = {
            clock: _shares(weights, min(made), {name: timelines.first(name, stage, block) for name in weights})
            for clock, stage in (("voted", Stage.VOTED), ("final", Stage.FINAL), ("executed", Stage.EXECUTED))
        }
        began = [
            time_us
            for batch in batches
            if (time_us := timelines.first(timelines.made_by.get(batch, ""), Stage.MADE, batch)) is not None
        ]
        if began:
            times["data"] = _shares(
                weights, min(began), {name: _all_checked(timelines, name, batches) for name in weights}
            )
        size_bytes = sum(timelines.sizes.get(batch, 0) for batch in batches)
        informed = _informed(timelines, weights, block, min(made))
        found.append(BlockTimes(size_bytes, len(batches), min(made), times, informed))
    return found


def _informed(
    timelines: Timelines, weights: Mapping[str, int], block: bytes, made_us: int
) -> tuple[tuple[float, float], ...]:
    """How much of the weight builds on a block, over time: its producer at once, others when they have executed it."""
    producer = timelines.made_by.get(block)
    known = []
    for name, weight in weights.items():
        time_us = made_us if name == producer else timelines.first(name, Stage.EXECUTED, block)
        if time_us is not None:
            known.append((max(0, time_us - made_us), weight))
    total, weight, steps = sum(weights.values()), 0, dict[float, float]()
    for after_us, of_node in sorted(known):
        weight += of_node
        steps[after_us / 1000] = weight / total
    return tuple(steps.items())


def _all_checked(timelines: Timelines, name: str, batches: Sequence[bytes]) -> int | None:
    """When the last of the batches was found right there; one's own ones are when they are made."""
    latest = 0
    for batch in batches:
        stage = Stage.MADE if timelines.made_by.get(batch) == name else Stage.CHECKED
        time_us = timelines.first(name, stage, batch)
        if time_us is None:
            return None
        latest = max(latest, time_us)
    return latest


def _shares(weights: Mapping[str, int], start_us: int, reached: Mapping[str, int | None]) -> dict[int, float]:
    """Milliseconds from the start until nodes with each share of the weight had come so far."""
    total = sum(weights.values())
    ordered = sorted((time_us, weights[name]) for name, time_us in reached.items() if time_us is not None)
    found = {}
    for share in distinct_shares(weights):
        weight = 0
        for time_us, of_node in ordered:
            weight += of_node
            if weight >= _needed(total, share):
                found[share] = round(max(0, time_us - start_us) / 1000, 3)
                break
    return found


@dataclass(frozen=True, slots=True)
class Fit:
    """Times over size: ``floor_ms`` up to ``knee_bytes``, the line from there on to ``to_bytes``."""

    quantile: float
    floor_ms: float
    knee_bytes: float
    line: Line
    from_bytes: float
    to_bytes: float

    def at(self, size_bytes: float) -> float:
        """InvalidInput outside of what was measured."""
        if not self.from_bytes <= size_bytes <= self.to_bytes:
            raise InvalidInput(f"{size_bytes:,.0f} bytes are outside of what was measured", code="not_measured")
        return max(self.floor_ms, self.line.at(size_bytes))

    @property
    def ms_per_mib(self) -> float:
        return self.line.slope * 2**20

    def values(self) -> dict[str, float]:
        return {
            "quantile": self.quantile,
            "floor_ms": round(self.floor_ms, 3),
            "knee_bytes": round(self.knee_bytes),
            "ms_per_mib": round(self.ms_per_mib, 3),
            "from_bytes": round(self.from_bytes),
            "to_bytes": round(self.to_bytes),
        }


def fit_times(points: Sequence[tuple[float, float]], quantile: float = 0.5) -> Fit | None:
    """The fit of (bytes, milliseconds). None with fewer than six sizes, or where they span less than two decades:
    then a line would be a guess. Sizes within a fifth of each other are one."""
    groups = _groups(points)
    if len(groups) < _LEAST_SIZES or groups[-1][0] < _LEAST_SPAN / _SAME_SIZE * groups[0][0]:
        return None
    best: tuple[float, Fit] | None = None
    for below in range(1, len(groups) - 1):
        flat = sorted(ms for _, times in groups[:below] for ms in times)
        floor_ms = flat[min(len(flat) - 1, int(quantile * len(flat)))]
        rising = [(size, ms) for size, times in groups[below - 1 :] for ms in times]
        line = quantile_line(rising, quantile)
        knee = (floor_ms - line.intercept) / line.slope if line.slope > 0 else groups[-1][0]
        knee = min(max(knee, groups[0][0]), groups[-1][0])
        fit = Fit(quantile, floor_ms, knee, line, groups[0][0], groups[-1][0])
        loss = 0.0
        for size, times in groups:
            for ms in times:
                rest = ms - max(floor_ms, line.at(size))
                loss += rest * quantile if rest > 0 else rest * (quantile - 1)
        if best is None or loss < best[0]:
            best = loss, fit
    assert best is not None
    return best[1]


def _groups(points: Iterable[tuple[float, float]]) -> list[tuple[float, list[float]]]:
    """Points by size, ascending; sizes within a fifth of the first of a group belong to it."""
    groups: list[tuple[float, list[float]]] = []
    for size, ms in sorted(points):
        if groups and size <= _SAME_SIZE * groups[-1][0]:
            groups[-1][1].append(ms)
        else:
            groups.append((size, [ms]))
    return groups


def stale_share(informed: Sequence[tuple[float, float]], interval_ms: float, slot_ms: float = 0.0) -> float:
    """The share of blocks that find a rival, where blocks come by chance, one in ``interval_ms`` on average.

    While a share ``1 - I(t)`` of the weight does not know a block that is t old, it goes on building beside it: a rival
    comes with the rate of that share. Over the life of a block the rivals are Poisson with the mean

        m = integral over t of (1 - I(t)) / interval

    and at least one comes with ``1 - exp(-m)`` (Decker and Wattenhofer 2013, section V, in continuous form).

    Where lots are drawn once in each ``slot_ms`` (pos), at its beginning, only who does not know the block *then* makes
    a rival, and the integral becomes a sum over the slots. In the block's own slot all others draw without knowing it.
    Two that win there are each other's rival, and one of them is in vain: that slot counts half.

        m = (slot / interval) (1/2 (1 - I(0)) + sum over k >= 1 of (1 - I(k slot)))

    So m does not fall below half a slot's worth, however fast blocks travel. A block is taken to be made when its slot
    begins. ``informed``: (milliseconds, share of weight that knows it from then on), ascending, ending at 1.

    ``interval_ms`` is that of all blocks, rivals too. What the formula leaves out (rivals of rivals, an interval that
    wavers) is of the order of m squared: nothing at the one per cent for which it is asked.
    """
    if not informed or interval_ms <= 0 or slot_ms < 0:
        raise InvalidInput("no curve of informed weight, or no interval", code="usage")
    mean, before_ms, knows = 0.0, 0.0, 0.0
    for at_ms, share in informed:
        until_ms = at_ms
        if slot_ms:  # drawn at 0, slot_ms, ...: who knows it in between draws next on top of it
            until_ms = 0.0 if at_ms <= 0 else slot_ms * (ceil(at_ms / slot_ms) - 0.5)
        mean += (until_ms - before_ms) * (1 - knows) / interval_ms
        before_ms, knows = until_ms, share
    if knows < 1:
        raise InvalidInput("the curve of informed weight does not reach everybody", code="usage")
    return 1 - exp(-mean)
