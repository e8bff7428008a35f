"""Campaigns: many seeds in several processes, with a report whatever happens to one of them."""

from __future__ import annotations

import os
import signal

from p2pledger.sim.campaign import Orders, Progress, campaign
from p2pledger.sim.evidence import Violation
from p2pledger.sim.run import run_seed


def live_and_die(seed: int, orders: Orders) -> tuple[tuple[Violation, ...], float]:
    """What a process does with a seed in these tests: nothing, or die, or fail, or find something."""
    if seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 4:
        raise ZeroDivisionError("planted")
    found = (Violation(seed, "agreement", "two blocks"),) if seed == 5 else ()
    return found, 3_600.0


def test_a_killed_process_is_reported_and_replaced() -> None:
    told: list[Violation] = []
    moves: list[Progress] = []
    report = campaign(range(1, 9), Orders(), jobs=2, failed=told.append, moved=moves.append, live=live_and_die)
    assert (report.done, report.total, report.interrupted) == (8, 8, False)
    assert [(violation.seed, violation.checker) for violation in report.violations] == [
        (3, "process"),
        (4, "simulator"),
        (5, "agreement"),
    ]
    assert "SIGKILL" in report.violations[0].detail
    assert "ZeroDivisionError: planted" in report.violations[1].detail
    assert sorted(told, key=lambda violation: violation.seed) == report.violations
    assert report.simulated_s == 6 * 3_600.0
    assert moves[-1].done == 8
    assert moves[-1].seeds_per_s > 0
    assert moves[-1].remaining_s == 0


def test_an_interrupted_campaign_reports_what_is_done() -> None:
    def stop(violation: Violation) -> None:
        raise KeyboardInterrupt

    report = campaign(range(5, 1_000), Orders(), jobs=1, failed=stop, live=live_and_die)
    assert report.interrupted
    assert 1 <= report.done < 10
    assert report.violations[0].seed == 5


def test_a_process_finds_what_one_run_finds() -> None:
    report = campaign([1], Orders(plant="quorum-too-small"), jobs=1)
    assert tuple(report.violations) == run_seed(1, plant="quorum-too-small").violations
    assert report.violations
