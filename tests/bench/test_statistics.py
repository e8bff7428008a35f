"""What may be said of a handful of runs."""

from __future__ import annotations

import random
from statistics import median

import pytest

from p2pledger.bench.statistics import Interval, bootstrap, failure_bound, least_squares, quantile_line, slope_bound
from p2pledger.primitives.errors import InvalidInput


def test_the_interval_comes_from_whole_runs_and_from_the_seed() -> None:
    runs = [10.0, 11.0, 12.0, 30.0, 11.5]
    found = bootstrap(runs, median, seed=3)
    assert found == bootstrap(runs, median, seed=3)
    assert (found.value, found.runs) == (11.5, 5)
    assert 10.0 <= found.low < found.value < found.high <= 30.0
    assert bootstrap([7.0], median, seed=1) == Interval(7.0, 7.0, 7.0, 1)
    with pytest.raises(InvalidInput):
        bootstrap([], median, seed=1)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    chance = random.Random(1)
    held = 0
    for trial in range(200):
        runs = [chance.gauss(50, 5) for _ in range(15)]
        found = bootstrap(runs, median, seed=trial, draws=300)
        held += found.low <= 50 <= found.high
    assert 170 <= held <= 200


def test_intervals_that_do_not_overlap_are_a_difference() -> None:
    assert Interval(5, 4, 6, 3).overlaps(Interval(7, 6, 8, 3))
    assert not Interval(5, 4, 6, 3).overlaps(Interval(7, 6.5, 8, 3))


def test_one_outlier_does_not_move_the_line_of_medians() -> None:
    points = [(float(x), 3.0 + 0.5 * x) for x in range(1, 20)] + [(10.0, 900.0)]
    line = quantile_line(points)
    assert line.intercept == pytest.approx(3.0, abs=1e-6)
    assert line.slope == pytest.approx(0.5, abs=1e-6)
    assert least_squares(points).intercept > 20


def test_the_line_of_a_high_quantile_has_that_share_below_it() -> None:
    chance = random.Random(2)
    points = [
        (x, 10 + 2 * x + chance.expovariate(1 / (1 + x))) for x in (1.0, 3.0, 10.0, 30.0, 100.0) for _ in range(60)
    ]
    line = quantile_line(points, 0.9)
    below = sum(y <= line.at(x) + 1e-9 for x, y in points)
    assert 0.87 <= below / len(points) <= 0.93
    with pytest.raises(InvalidInput):
        quantile_line([(1.0, 2.0), (1.0, 3.0)])


def test_a_backlog_that_grows_is_told_from_one_that_only_shakes() -> None:
    chance = random.Random(4)
    steady, level = [], 0.0
    for at in range(200):
        level = 0.8 * level + chance.gauss(0, 10)
        steady.append((float(at), level))
    growing = [(at, value + 2 * at) for at, value in steady]
    assert slope_bound(steady, seed=1, confidence=0.9).low < 0.1
    assert slope_bound(growing, seed=1, confidence=0.9).low > 1.5


@pytest.mark.parametrize(
    ("failures", "trials", "bound"), [(0, 3_000, 0.000998), (0, 200, 0.014867), (3, 100, 0.075714), (10, 10, 1.0)]
)
def test_the_bound_is_that_of_clopper_and_pearson(failures: int, trials: int, bound: float) -> None:
    assert failure_bound(failures, trials) == pytest.approx(bound, abs=2e-5)


def test_nonsense_is_refused() -> None:
    for failures, trials in ((1, 0), (3, 2), (-1, 5)):
        with pytest.raises(InvalidInput):
            failure_bound(failures, trials)
    with pytest.raises(InvalidInput):
        least_squares([])
    with pytest.raises(InvalidInput):
        quantile_line([(1.0, 1.0), (2.0, 1.0)], 1.0)
