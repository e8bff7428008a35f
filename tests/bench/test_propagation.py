"""How a block spreads: two clocks, from the traces of all nodes."""

from __future__ import annotations

import math
import random

import pytest

from p2pledger.bench.propagation import BlockTimes, block_times, distinct_shares, fit_times, stale_share
from p2pledger.network.tracing import Moment, Timelines, Trace
from p2pledger.primitives.errors import InvalidInput

NAMES = ("A", "B", "C", "D")
BLOCK, BATCH, OTHER = b"b" * 32, b"1" * 32, b"2" * 32


def traces() -> list[Trace]:
    """A makes the first batch at 1,000 us, B the second one at 3,000; A names both in a block at 10,000."""
    rows: dict[str, list[Moment]] = {name: [] for name in NAMES}

    def mark(name: str, time_us: int, stage: str, item: bytes, size_bytes: int = 0, block: bytes = b"") -> None:
        rows[name].append(Moment(time_us, stage, item == BLOCK, item, size_bytes, block))

    mark("A", 1_000, "made", BATCH, 600)
    mark("B", 3_000, "made", OTHER, 400)
    for late, name in enumerate(NAMES):
        if name != "A":
            mark(name, 2_000 + 1_000 * late, "checked", BATCH)
        if name != "B":
            mark(name, 5_000 + 1_000 * late, "checked", OTHER)
        for batch in (BATCH, OTHER):
            mark(name, 10_000 + late, "named", batch, block=BLOCK)
        mark(name, 11_000 + 1_000 * late, "voted", BLOCK)
        mark(name, 21_000 + 1_000 * late, "final", BLOCK)
        mark(name, 31_000 + 1_000 * late, "executed", BLOCK)
    mark("A", 10_000, "made", BLOCK)
    return [Trace(name, name.encode() * 32, tuple(rows[name])) for name in NAMES]


def test_values_of_x_that_mean_the_same_nodes_are_told_once() -> None:
    assert distinct_shares(dict.fromkeys(NAMES, 1)) == (50, 67, 90)
    assert distinct_shares({"A": 1}) == (50,)
    assert distinct_shares({str(i): 1 for i in range(40)}) == (50, 67, 90, 100)


def test_the_two_clocks() -> None:
    [block] = block_times(Timelines(traces()), dict.fromkeys(NAMES, 1))
    assert (block.size_bytes, block.batches) == (1_000, 2)
    # From A's first byte at 1,000: B has both at 3,000 (its own), A at 5,000, C at 7,000, D at 8,000.
    assert block.times_ms["data"] == {50: 4.0, 67: 6.0, 90: 7.0}
    # From the header at 10,000.
    assert block.times_ms["voted"] == {50: 2.0, 67: 3.0, 90: 4.0}
    assert block.times_ms["final"] == {50: 12.0, 67: 13.0, 90: 14.0}
    assert BlockTimes.of(block.values()) == block


def test_a_share_that_was_not_reached_is_missing() -> None:
    cut = [Trace(trace.name, trace.key, trace.moments if trace.name != "D" else ()) for trace in traces()]
    [block] = block_times(Timelines(cut), dict.fromkeys(NAMES, 1))
    assert set(block.times_ms["final"]) == {50, 67}


def test_the_fit_finds_floor_and_slope_and_says_nothing_beyond() -> None:
    chance = random.Random(1)
    sizes = (40_000, 100_000, 250_000, 640_000, 1_600_000, 4_000_000)
    points = [(float(size), max(50.0, 10 + size / 10_000) + chance.uniform(0, 2)) for size in sizes for _ in range(20)]
    fit = fit_times(points)
    assert fit is not None
    assert fit.floor_ms == pytest.approx(51, abs=1.5)
    assert fit.line.slope == pytest.approx(1e-4, rel=0.05)
    assert 300_000 < fit.knee_bytes < 500_000
    assert fit.at(40_000) == fit.floor_ms
    assert fit.at(1_000_000) == pytest.approx(111, abs=3)
    for outside in (39_000, 4_000_001):
        with pytest.raises(InvalidInput, match="outside"):
            fit.at(outside)


def test_full_blocks_of_one_capacity_are_one_size() -> None:
    """From 85 to 100 % of it; six capacities across two decades are enough, however full each was."""
    chance = random.Random(2)
    sizes = (16_384, 40_000, 100_000, 250_000, 640_000, 1_640_000)
    points = [(chance.uniform(0.85, 1.0) * size, 50 + size / 10_000) for size in sizes for _ in range(30)]
    assert fit_times(points) is not None
    assert fit_times([point for point in points if not 85_000 <= point[0] <= 100_000]) is None
    least = [(size * (1.0 if size < 20_000 else 0.85), 50.0 + size) for size in sizes]
    assert fit_times(least) is not None


def test_few_sizes_or_less_than_two_decades_give_no_line() -> None:
    assert fit_times([(float(size), 1.0) for size in (1, 10, 100, 1_000, 10_000)]) is None
    assert fit_times([(float(size), 1.0) for size in (10, 20, 30, 40, 50, 60, 70)]) is None


def test_the_stale_share_is_that_of_a_poisson_race() -> None:
    # Nobody but the producer (a tenth) knows the block for 100 ms, then everybody: a mean of 0.9 x 100 / 1000 rivals.
    assert stale_share([(0.0, 0.1), (100.0, 1.0)], 1_000) == pytest.approx(1 - math.exp(-0.09))
    assert stale_share([(0.0, 1.0)], 1_000) == 0
    # Drawn every 250 ms: nine tenths draw once beside it, and that counts half; behind 300 ms they drew once more.
    assert stale_share([(0.0, 0.1), (100.0, 1.0)], 1_000, 250) == pytest.approx(1 - math.exp(-0.9 / 8))
    assert stale_share([(0.0, 0.1), (300.0, 1.0)], 1_000, 250) == pytest.approx(1 - math.exp(-0.9 * 3 / 8))
    for curve, interval in (([], 1.0), ([(0.0, 0.5)], 1.0), ([(0.0, 1.0)], 0.0)):
        with pytest.raises(InvalidInput):
            stale_share(curve, interval)


def test_the_stale_share_is_what_a_race_of_miners_counts() -> None:
    """Miners of equal power find blocks by chance; who does not know the newest one builds beside it."""
    chance = random.Random(7)
    miners, interval_ms, delay_ms, blocks = 20, 1_000.0, 150.0, 40_000
    found_ms, rivals = 0.0, 0
    newest_ms, newest_miner = -1e9, 0
    for _ in range(blocks):
        found_ms += chance.expovariate(1 / interval_ms)
        miner = chance.randrange(miners)
        if found_ms - newest_ms < delay_ms and miner != newest_miner:
            rivals += 1  # it had not heard of the newest one yet
        else:
            newest_ms, newest_miner = found_ms, miner
    expected = stale_share([(0.0, 1 / miners), (delay_ms, 1.0)], interval_ms)
    assert rivals / (blocks - rivals) == pytest.approx(expected, rel=0.1)
