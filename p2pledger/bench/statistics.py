"""What may be said of a handful of runs: medians, intervals, lines and bounds.

Theory. Samples of one run are not independent: a stall makes a thousand of them late at once. So whatever is uncertain
is estimated from *whole runs*: the bootstrap (Efron 1979) draws runs, not samples. The slope of a backlog over time is
bounded by drawing blocks of neighbouring points (the moving-block bootstrap, Kuensch 1989), for the same reason. A line
through a cloud of times is fitted by quantile regression (Koenker and Bassett 1978), since means of times follow their
worst outlier. How often something fails that never failed in n trials is bounded exactly (Clopper and Pearson 1934).

All draws come from a seed: the same data give the same figures.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, lgamma, log, log1p
from typing import Final, TypeVar

from p2pledger.primitives.errors import InvalidInput

__all__ = ["Interval", "Line", "bootstrap", "failure_bound", "least_squares", "quantile_line", "slope_bound"]

Run = TypeVar("Run")

_DRAWS: Final = 2_000
_STEPS: Final = 200


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the interval that holds it with the stated confidence. ``runs`` says from how many."""

    value: float
    low: float
    high: float
    runs: int

    def overlaps(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True, slots=True)
class Line:
    """``intercept + slope * x``."""

    intercept: float
    slope: float

    def at(self, x: float) -> float:
        return self.intercept + self.slope * x


def bootstrap(
    runs: Sequence[Run],
    estimate: Callable[[Sequence[Run]], float],
    *,
    seed: int,
    confidence: float = 0.95,
    draws: int = _DRAWS,
) -> Interval:
    """The estimate over all runs, and the middle share ``confidence`` of it over ``draws`` draws of as many runs with
    repetition. Of one run nothing is known about others: then the interval is the estimate itself."""
    if not runs:
        raise InvalidInput("no runs, so no estimate", code="no_samples")
    value = estimate(runs)
    if len(runs) == 1:
        return Interval(value, value, value, 1)
    chance = random.Random(seed)
    found = sorted(estimate([chance.choice(runs) for _ in runs]) for _ in range(draws))
    tail = (1 - confidence) / 2
    return Interval(value, _at(found, tail), _at(found, 1 - tail), len(runs))


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def least_squares(points: Sequence[tuple[float, float]]) -> Line:
    """The line of least squares; flat where all points have one x. InvalidInput without points."""
    if not points:
        raise InvalidInput("no points, so no line", code="no_samples")
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    return Line(mean_y - slope * mean_x, slope)


def slope_bound(
    points: Sequence[tuple[float, float]], *, seed: int, confidence: float = 0.95, draws: int = 400
) -> Interval:
    """The slope of a series in the order of time, and the interval in which it lies; ``high`` is the upper bound at
    half of what the interval leaves out, so pass 0.9 for the bound at 95 %.

    What the line leaves unexplained is drawn anew in blocks of neighbours, as many as the cube root of the points says.
    """
    line = least_squares(points)
    n = len(points)
    block = max(1, round(n ** (1 / 3)))
    rest = [y - line.at(x) for x, y in points]
    chance = random.Random(seed)
    slopes = []
    for _ in range(draws):
        drawn: list[float] = []
        while len(drawn) < n:
            at = chance.randrange(n - block + 1)
            drawn += rest[at : at + block]
        slopes.append(
            least_squares([(x, line.at(x) + error) for (x, _), error in zip(points, drawn, strict=False)]).slope
        )
    slopes.sort()
    tail = (1 - confidence) / 2
    return Interval(line.slope, _at(slopes, tail), _at(slopes, 1 - tail), 1)


def quantile_line(points: Sequence[tuple[float, float]], quantile: float = 0.5) -> Line:
    """The line with the least sum of residuals, those above it weighing ``quantile``, those below ``1 - quantile``.

    For a given slope the best intercept is that quantile of ``y - slope * x``, and the loss is convex in the slope:
    a search by thirds finds it. InvalidInput with fewer than two different x.
    """
    if len({x for x, _ in points}) < 2:
        raise InvalidInput("a line needs two different sizes", code="no_samples")
    if not 0 < quantile < 1:
        raise InvalidInput(f"a quantile of {quantile} is not between 0 and 1", code="usage")

    def fit(slope: float) -> tuple[float, float]:
        rests = sorted(y - slope * x for x, y in points)
        intercept = rests[min(len(rests) - 1, int(quantile * len(rests)))]
        loss = sum((quantile if rest > intercept else quantile - 1) * (rest - intercept) for rest in rests)
        return loss, intercept

    # The best line passes through two points at least, so its slope is one of theirs, and between the extreme ones.
    ordered = sorted(points)
    reach = max(y for _, y in points) - min(y for _, y in points)
    step = min(b[0] - a[0] for a, b in pairwise(ordered) if b[0] > a[0])
    low, high = -reach / step, reach / step
    for _ in range(_STEPS):
        third = (high - low) / 3
        if fit(low + third)[0] <= fit(high - third)[0]:
            high -= third
        else:
            low += third
    slope = (low + high) / 2
    return Line(fit(slope)[1], slope)


def failure_bound(failures: int, trials: int, confidence: float = 0.95) -> float:
    """The greatest chance of failure that so few failures in so many trials do not yet speak against (one-sided)."""
    if not 0 <= failures <= trials or not trials:
        raise InvalidInput(f"{failures} failures in {trials} trials", code="usage")
    if failures == trials:
        return 1.0
    low, high = failures / trials, 1.0
    for _ in range(_STEPS):
        chance = (low + high) / 2
        if _at_most(failures, trials, chance) > 1 - confidence:
            low = chance
        else:
            high = chance
    return high


def _at_most(failures: int, trials: int, chance: float) -> float:
    """The chance of at most so many failures: the binomial distribution."""
    if chance <= 0:
        return 1.0
    if chance >= 1:
        return 0.0
    total = 0.0
    for k in range(failures + 1):
        ways = lgamma(trials + 1) - lgamma(k + 1) - lgamma(trials - k + 1)
        total += exp(ways + k * log(chance) + (trials - k) * log1p(-chance))
    return total
