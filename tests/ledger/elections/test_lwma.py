"""The difficulty follows the power of those who produce: numbers made by hand, bounds, and simulated miners."""

import random
from statistics import mean

from hypothesis import given
from hypothesis import strategies as st

from p2pledger.ledger.elections.lwma import next_difficulty


def test_by_hand() -> None:
    """N = 3, T = 10: weights 1, 2, 3."""
    # Intervals 10, 10, 10: L = 60, difficulties 300; 300 * 10 * 4 * 99 / (200 * 60) = 99.
    assert next_difficulty([(0, 100), (10, 100), (20, 100), (30, 100)], 10, 3) == 99
    # Intervals 10, 10, 5: L = 10 + 20 + 15 = 45: 300 * 10 * 4 * 99 / (200 * 45) = 132.
    assert next_difficulty([(0, 100), (10, 100), (20, 100), (25, 100)], 10, 3) == 132
    # The oldest block only lends its time: intervals as above, difficulties 60 + 80 + 100 = 240: 105.6.
    assert next_difficulty([(0, 7), (10, 60), (20, 80), (25, 100)], 10, 3) == 105
    # Two imaginary blocks of 100, 10 apart, then one that took 20: L = 10 + 20 + 60 = 90, 66.
    assert next_difficulty([(0, 100), (20, 100)], 10, 3) == 66
    assert next_difficulty([(0, 100)], 10, 3) == 99


def test_one_block_changes_only_so_much() -> None:
    # Intervals count at most 6 T: 60 * 6 = 360: 300 * 10 * 4 * 99 / (200 * 360) = 16.5.
    assert next_difficulty([(0, 100), (10**6, 100), (10**7, 100), (10**9, 100)], 10, 3) == 16
    # T = 21: the weighted sum, here 6, counts at least N N T / 20 = 9.45, rounded up to 10.
    assert next_difficulty([(0, 100), (1, 100), (2, 100), (2, 100)], 21, 3) == 1_247
    tall = [(at, 10**6) for at in range(46)]
    assert next_difficulty(tall, 1_000, 45) == 45 * 10**6 * 1_000 * 46 * 99 // (200 * 101_250)


windows = st.lists(st.tuples(st.integers(0, 2**48), st.integers(1, 2**64 - 1)), min_size=1, max_size=60)


@given(windows, st.integers(1, 100_000), st.integers(1, 50))
def test_it_is_bounded_by_the_mean_whatever_the_times_are(
    window: list[tuple[int, int]], interval: int, size: int
) -> None:
    found = next_difficulty(window, interval, size)
    known = window[-size - 1 :]
    difficulties = [known[0][1]] * (size - len(known) + 1) + [difficulty for _, difficulty in known[1:]]
    assert mean(difficulties) / 6.2 - 1 <= found <= 20 * max(difficulties)
    assert found >= 1
    assert next_difficulty(window[-size - 1 :], interval, size) == found, "older blocks do not matter"


@given(st.integers(1, 50), st.integers(1, 2**40))
def test_scaling_all_difficulties_scales_the_next(size: int, factor: int) -> None:
    dice = random.Random(size)
    window = [(at * 1_000 + dice.randrange(900), dice.randrange(10**6, 10**7)) for at in range(size + 1)]
    scaled = [(time, difficulty * factor) for time, difficulty in window]
    found, other = next_difficulty(window, 1_000, size), next_difficulty(scaled, 1_000, size)
    assert abs(other - found * factor) <= factor


def mine(power: float, window: list[tuple[int, int]], blocks: int, dice: random.Random) -> list[int]:
    """Exponential times at ``power`` hashes a millisecond; returns the intervals, in milliseconds."""
    intervals = []
    for _ in range(blocks):
        difficulty = next_difficulty(window, 1_000, 45)
        intervals.append(1 + int(dice.expovariate(power / difficulty)))
        window.append((window[-1][0] + intervals[-1], difficulty))
    return intervals


def test_the_rate_converges_and_follows_the_power() -> None:
    """From a first guess that is far off, and again after the power grew tenfold and shrank to a fifth."""
    dice, window = random.Random(5), [(0, 65_536)]
    mine(2_000, window, 300, dice)
    for power in (2_000.0, 20_000.0, 4_000.0):
        mine(power, window, 200, dice)
        settled = mine(power, window, 1_500, dice)
        assert 900 < mean(settled) < 1_100
        # The difficulty stays around the one that the power asks for.
        recent = [difficulty for _, difficulty in window[-1_000:]]
        assert 0.85 * power * 1_000 < mean(recent) < 1.15 * power * 1_000
        assert max(recent) < 3 * min(recent)
