"""Waking when a trade is due."""

from __future__ import annotations

import trio

from p2pledger.load.alarm import alarm


async def test_nobody_is_woken_before_the_moment() -> None:
    async with alarm() as sleep_until:
        for delay_s in (0.002, 0.0005, 0.000_000_1):
            moment = trio.current_time() + delay_s
            await sleep_until(moment)
            assert trio.current_time() >= moment - 1e-6


async def test_a_moment_that_is_past_lets_others_run_and_does_not_wait() -> None:
    ran = []

    async def other() -> None:
        ran.append(True)

    async with alarm() as sleep_until, trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(3):  # who of two runs first is nobody's promise
            await sleep_until(trio.current_time() - 1)
        assert ran


async def test_a_sleep_can_be_cancelled_and_the_next_one_is_none_the_worse() -> None:
    async with alarm() as sleep_until:
        with trio.move_on_after(0) as scope:
            await sleep_until(trio.current_time() + 3_600)
        assert scope.cancelled_caught
        moment = trio.current_time() + 0.001
        await sleep_until(moment)
        assert trio.current_time() >= moment - 1e-6
