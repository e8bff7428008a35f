"""How hard the next block must be, so that blocks come at the rate that was agreed: LWMA-1, in exact integers.

zawy12, "LWMA difficulty algorithm", github.com/zawy12/difficulty-algorithms, issue 3. The next difficulty is the mean
of the last N, times the wanted interval over a mean of the last N intervals in which the newest weighs N and the
oldest 1:

    next = 99/100 * (sum of difficulties / N) * T * N (N + 1) / 2 / (sum over i of i * interval_i)

The weights answer a change of the producers' power within some ten blocks and do not swing; the 99/100 corrects that
intervals are exponentially distributed. Two clamps keep one block from doing much: no interval counts more than 6 T,
and the weighted sum counts at least N^2 T / 20; so the next difficulty lies between about a sixth of the mean and ten
times the mean. Times rise from block to block, so an interval is never below 1.

A chain younger than N blocks is completed with imaginary blocks before its first one: of the first difficulty, and
exactly T apart.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["next_difficulty"]


def next_difficulty(window: Sequence[tuple[int, int]], interval: int, size: int) -> int:
    """The difficulty of the next block, at least 1.

    ``window`` holds (time, difficulty) of the newest blocks, oldest first, at most ``size + 1`` of them and at least
    one; ``interval`` is T in the unit of the times, ``size`` is N.
    """
    known = window[-size - 1 :]
    imaginary = size - (len(known) - 1)
    difficulties = imaginary * known[0][1] + sum(difficulty for _, difficulty in known[1:])
    weighted = interval * imaginary * (imaginary + 1) // 2
    for index in range(1, len(known)):
        solve_time = min(max(known[index][0] - known[index - 1][0], 1), 6 * interval)
        weighted += (imaginary + index) * solve_time
    # Where size^2 T / 20 is no integer, it is rounded up: the clamp is a least value.
    weighted = max(weighted, -(-size * size * interval // 20))
    return max(1, difficulties * interval * (size + 1) * 99 // (200 * weighted))
