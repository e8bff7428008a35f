"""What a client hears of an order must make a story that can be true, in the order in which it heard it."""

from __future__ import annotations

import pytest

from p2pledger.sim.checkers.delivery import CONFIRMED, PENDING, REVERTED, check_delivery
from p2pledger.sim.evidence import Evidence, ProgressNotice

ORDER = b"o" * 32


def told(*words: tuple[int, int]) -> list[str]:
    """What the checker says of an order of which its client heard these words: (time in microseconds, status)."""
    evidence = Evidence(1, b"")
    evidence.asked["client-0", 7, ORDER] = 1
    for time_us, status in words:
        evidence.progress.append(ProgressNotice(time_us, "node-0", "client-0", 7, ORDER, status, 3, bytes(4)))
    return check_delivery(evidence)


def test_two_moves_of_the_head_at_one_moment_are_told_in_their_order() -> None:
    assert not told((1, PENDING), (2, REVERTED), (2, PENDING), (3, REVERTED), (4, PENDING), (5, CONFIRMED))


@pytest.mark.parametrize("moment", [2, 3])
def test_nothing_is_taken_back_twice(moment: int) -> None:
    [fault] = told((1, PENDING), (2, REVERTED), (moment, REVERTED))
    assert "reverted after reverted" in fault


def test_what_is_confirmed_stays() -> None:
    [fault] = told((1, PENDING), (2, CONFIRMED), (3, REVERTED))
    assert "reverted after confirmed" in fault
