"""A thread for jobs: in their order, with their errors, and never abandoned."""

import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from p2pledger.server.thread import JobThread


async def test_jobs_are_done_in_one_other_thread() -> None:
    threads: list[threading.Thread] = []
    with JobThread("disk") as thread:
        for _ in range(3):
            await thread.run(lambda: threads.append(threading.current_thread()))
    assert len(threads) == 3
    assert len(set(threads)) == 1
    assert threads[0].name == "disk"
    assert threads[0] is not threading.current_thread()
    assert not threads[0].is_alive(), "it ends with the block"


async def test_an_error_comes_back_and_the_thread_goes_on() -> None:
    done: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError

    with JobThread("disk") as thread:
        with pytest.raises(ZeroDivisionError):
            await thread.run(fail)
        await thread.run(lambda: done.append(1))
    assert done == [1]


async def test_others_go_on_meanwhile_and_whoever_is_cancelled_waits_for_the_end() -> None:
    gate, done = threading.Event(), threading.Event()

    def job() -> None:
        assert gate.wait(30)
        done.set()

    with JobThread("disk") as thread:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(thread.run, job)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            gate.set()
        assert done.is_set()


async def test_nothing_is_begun_for_a_task_that_is_cancelled() -> None:
    done: list[int] = []
    with JobThread("disk") as thread:
        with trio.CancelScope() as scope:
            scope.cancel()
            await thread.run(lambda: done.append(1))
        assert scope.cancelled_caught
    assert done == []
