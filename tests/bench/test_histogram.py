"""Percentiles over everything that was due."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.bench.histogram import Histogram, bucket_of, ceiling_of
from p2pledger.primitives.errors import InvalidInput, PeerFault


@given(st.integers(0, 2**50))
def test_a_bucket_is_never_wider_than_a_thousandth_of_its_values(value: int) -> None:
    top = ceiling_of(bucket_of(value))
    assert value <= top <= value + value // 1_000
    assert bucket_of(top + 1) == bucket_of(value) + 1


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_percentile_is_that_of_the_sorted_samples(samples: list[int], share: float) -> None:
    histogram = Histogram.of(10**9, samples)
    if share >= 0.999 and share < 1:
        return
    rank = max(1, -int(-share * len(samples) // 1))
    exact = sorted(samples)[rank - 1]
    found = histogram.percentile_us(share)
    assert found is not None
    assert exact <= found <= exact + exact // 1_000


def test_what_never_came_stands_above_every_number() -> None:
    histogram = Histogram.of(5_000_000, [1_000] * 98)
    histogram.add_missing()
    histogram.add(5_000_001)  # came, but after everybody had stopped to wait
    assert histogram.text(0.5) == "1"
    assert histogram.text(0.98) == "1"
    assert histogram.text(0.99) == "> 5000"
    assert histogram.milliseconds(1.0) == "> 5000"


def test_a_rare_percentile_needs_many_samples() -> None:
    assert Histogram.of(10**6, range(9_999)).text(0.999) == "-"
    assert Histogram.of(10**6, range(10_000)).milliseconds(0.999) is not None
    assert Histogram(10**6).text(0.5) == "-"
    for share in (0.0, 1.01):
        with pytest.raises(InvalidInput):
            Histogram.of(10**6, [1]).percentile_us(share)


def test_merging_runs_is_counting_them_together() -> None:
    chance = random.Random(5)
    samples = [int(chance.expovariate(1e-4)) for _ in range(2_000)]
    one, other = Histogram.of(50_000, samples[:700]), Histogram.of(50_000, samples[700:])
    one.merge(other)
    assert one.encode() == Histogram.of(50_000, samples).encode()
    assert one.over > 0
    with pytest.raises(InvalidInput, match="different limits"):
        one.merge(Histogram(40_000))


def test_the_bytes_bring_back_the_histogram() -> None:
    histogram = Histogram.of(10**6, [0, 5, 5, 999_999, 2_000_000])
    assert Histogram.decode(histogram.encode()) == histogram
    with pytest.raises(PeerFault):
        Histogram.decode(b"\x93\x01\x02\x03")


def test_the_curve_ends_below_one_where_something_is_missing() -> None:
    histogram = Histogram.of(100, [10, 20, 200])
    assert list(histogram.curve()) == [(10, 1 / 3), (20, 2 / 3)]
