"""A clock that is made wrong by command, and that never goes back all the same."""

from __future__ import annotations

from itertools import pairwise

from trio.testing import MockClock

from p2pledger.server.clock import Clock


class Machine:
    """A machine whose time runs with the clock of the test."""

    def __init__(self, clock: MockClock) -> None:
        self._clock = clock
        self._began_s = clock.current_time()

    def time_s(self) -> float:
        return 1_000_000.0 + self._clock.current_time() - self._began_s

    @property
    def time_ms(self) -> float:
        return 1_000 * self.time_s()


async def test_it_jumps_ahead(mock_clock: MockClock) -> None:
    machine = Machine(mock_clock)
    clock = Clock(machine.time_s)
    clock.skew(400)
    assert round(clock.exact_ms() - machine.time_ms) == 400
    mock_clock.jump(10)
    assert round(clock.exact_ms() - machine.time_ms) == 400
    clock.skew(5_000)
    assert round(clock.exact_ms() - machine.time_ms) == 5_000


async def test_it_goes_back_by_running_at_half_speed(mock_clock: MockClock) -> None:
    machine = Machine(mock_clock)
    clock = Clock(machine.time_s)
    seen = [clock.exact_ms()]
    clock.skew(-3_000)
    behind_ms = []
    for _ in range(80):
        mock_clock.jump(0.1)
        seen.append(clock.exact_ms())
        behind_ms.append(round(machine.time_ms - seen[-1]))
    assert all(later > earlier for earlier, later in pairwise(seen))
    assert behind_ms[9] == 500, "half of a second"
    assert behind_ms[58] == 2_950
    assert behind_ms[60:] == [3_000] * 20


async def test_a_skew_that_is_taken_back_leaves_nothing_behind(mock_clock: MockClock) -> None:
    machine = Machine(mock_clock)
    clock = Clock(machine.time_s)
    for skew_ms in (700, -700, 20_000, -1_500, 0):
        clock.skew(skew_ms)
        mock_clock.jump(1)
        clock.exact_ms()
    for _ in range(100):
        mock_clock.jump(1)
        clock.exact_ms()
    assert round(clock.exact_ms() - machine.time_ms) == 0


async def test_it_still_follows_a_machine_that_slept(mock_clock: MockClock) -> None:
    slept_s = 0.0
    machine = Machine(mock_clock)
    clock = Clock(lambda: machine.time_s() + slept_s)
    clock.skew(-2_000)
    mock_clock.jump(10)
    assert round(clock.exact_ms() - machine.time_ms) == -2_000
    slept_s = 3_600.0
    assert round(clock.exact_ms() - machine.time_ms) == 3_598_000
