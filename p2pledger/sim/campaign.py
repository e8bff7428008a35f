"""A campaign: many seeds, lived through by several processes.

The processes share nothing. Each is given one seed at a time and answers with what came of it; one that dies in the
middle (killed, out of memory) is reported with its seed, and another takes its place. Whoever interrupts a campaign
gets a report of what is done.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from p2pledger.sim.evidence import Violation
from p2pledger.sim.run import run_seed

__all__ = ["Orders", "Progress", "Report", "campaign"]

_TELL_EVERY_S: Final = 0.5
_COLLECT_EVERY: Final = 16


@dataclass(frozen=True, slots=True)
class Orders:
    """What kind of worlds to live through; the seed is all that differs."""

    engine: str = "simplex"
    seconds: int | None = None
    beyond: bool = False
    plant: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a campaign is."""

    done: int
    total: int
    violations: int
    elapsed_s: float

    @property
    def seeds_per_s(self) -> float:
        return self.done / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def remaining_s(self) -> float:
        """At the pace so far; 0 while there is none."""
        return (self.total - self.done) / self.seeds_per_s if self.done else 0.0


@dataclass(slots=True)
class Report:
    """What a campaign came to. ``violations`` are in the order of their seeds."""

    orders: Orders
    total: int
    done: int = 0
    violations: list[Violation] = field(default_factory=list)
    simulated_s: float = 0.0
    elapsed_s: float = 0.0
    interrupted: bool = False

    @property
    def progress(self) -> Progress:
        return Progress(self.done, self.total, len(self.violations), self.elapsed_s)


@dataclass(slots=True, eq=False)
class _Worker:
    process: multiprocessing.process.BaseProcess
    line: Connection
    seed: int | None = None


def campaign(
    seeds: Sequence[int],
    orders: Orders,
    *,
    jobs: int = 0,
    failed: Callable[[Violation], None] = lambda violation: None,
    moved: Callable[[Progress], None] = lambda progress: None,
    live: Callable[[int, Orders], tuple[tuple[Violation, ...], float]] | None = None,
) -> Report:
    """Live through all seeds. ``jobs`` 0: one process for each core.

    ``failed`` is called for each violation as it is found, ``moved`` now and then. ``live`` is what a process does with
    a seed (for tests; a function of a module).
    """
    began_s = time.monotonic()
    report = Report(orders, len(seeds))
    waiting = list(reversed(seeds))
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []

    def hire() -> None:
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, orders, live or _live), daemon=True)
        process.start()
        there.close()
        workers.append(_Worker(process, here))

    def give(worker: _Worker) -> None:
        worker.seed = waiting.pop() if waiting else None
        if worker.seed is not None:
            worker.line.send(worker.seed)

    def note(violations: Sequence[Violation]) -> None:
        for violation in violations:
            report.violations.append(violation)
            failed(violation)

    told_s = 0.0
    try:
        for _ in range(min(len(seeds), jobs or os.cpu_count() or 1)):
            hire()
        for worker in workers:
            give(worker)
        while any(worker.seed is not None for worker in workers):
            for line in wait([worker.line for worker in workers if worker.seed is not None], _TELL_EVERY_S):
                worker = next(worker for worker in workers if worker.line is line)
                assert worker.seed is not None
                report.done += 1
                try:
                    violations, simulated_s = worker.line.recv()
                except (EOFError, ConnectionError):
                    worker.process.join()
                    detail = f"the process that lived through it died with {_last_words(worker.process.exitcode)}"
                    note([Violation(worker.seed, "process", detail)])
                    workers.remove(worker)
                    if waiting:
                        hire()
                        worker = workers[-1]
                    else:
                        continue
                else:
                    note(violations)
                    report.simulated_s += simulated_s
                give(worker)
            report.elapsed_s = time.monotonic() - began_s
            if report.elapsed_s - told_s >= _TELL_EVERY_S:
                told_s = report.elapsed_s
                moved(report.progress)
    except KeyboardInterrupt:
        report.interrupted = True
    finally:
        for worker in workers:
            worker.line.close()
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
    report.elapsed_s = time.monotonic() - began_s
    report.violations.sort(key=lambda violation: violation.seed)
    moved(report.progress)
    return report


def _last_words(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"signal {signal.Signals(-exitcode).name}"
    return f"exit code {exitcode}"


def _live(seed: int, orders: Orders) -> tuple[tuple[Violation, ...], float]:
    outcome = run_seed(seed, orders.seconds, engine=orders.engine, beyond=orders.beyond, plant=orders.plant)
    return outcome.violations, outcome.simulated_s


def _work(line: Connection, orders: Orders, live: Callable[[int, Orders], Any]) -> None:
    """One process: a seed comes in, what came of it goes out, until the line is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A world is many small objects that live as long as it does: looking for garbage among them is a waste of time.
    gc.disable()
    count = 0
    while True:
        try:
            seed = line.recv()
        except EOFError:
            return
        try:
            answer = live(seed, orders)
        except Exception as error:
            answer = ((Violation(seed, "simulator", f"{type(error).__name__}: {error}"),), 0.0)
        line.send(answer)
        count += 1
        if count % _COLLECT_EVERY == 0:
            gc.collect()
