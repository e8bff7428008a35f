"""p2pledger demo: a consortium settles trades, and proves that all nodes hold the same books."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from p2pledger.cli.options import JsonOption
from p2pledger.cli.output import command, say

__all__ = ["demo"]

_T = TypeVar("_T")


@command
def demo(
    validators: Annotated[int, typer.Option("--validators", "-n", min=1, max=40, help="How many validators.")] = 4,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, max=1e6, help="How long trades fall due.")] = 20.0,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.1, max=1e6, help="Trades a second; 200 if not given, 500 of a tape.")
    ] = None,
    trades: Annotated[
        Path | None, typer.Option("--trades", metavar="DIR", help="Play a real tape: Xetra one-minute bars, *.csv.gz.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many trades; a tape is played up to there.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Trades and DEV KEYS come from this number.")] = 1,
    kill: Annotated[bool, typer.Option("--kill", help="Kill a validator in the middle and restart it later.")] = False,
    partition: Annotated[
        bool, typer.Option("--partition", help="Cut the network into halves in the middle and heal it later.")
    ] = False,
    engine: Annotated[
        str, typer.Option("--engine", help="simplex, pow, pos, dpos or poa; the profile's own if not given.")
    ] = "",
    profile: Annotated[
        str, typer.Option("--profile", help="consortium (simplex), private (poa) or public (pow, with fees).")
    ] = "",
    directory: Annotated[
        Path | None, typer.Option("--directory", "-d", help="Keep the ledger here; a temporary folder if not given.")
    ] = None,
    scenario: Annotated[
        str, typer.Option("--scenario", metavar="NAME", help="Play a scenario file instead: its name, or its path.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Run the joint bond ledger: trades settle by delivery versus payment, and all books are compared at the end.

    A scenario is played step by step, each with the outcome that it should have; exit code 1 if one differs.

    \b
    Examples: p2pledger demo
              p2pledger demo --kill
              p2pledger demo --scenario joint_bond_ledger
              p2pledger demo --seconds 20 --rate 500 --json
              p2pledger demo --engine pow --partition
              p2pledger demo --engine dpos --kill
    """
    from p2pledger.primitives.errors import InvalidInput

    if scenario:
        if kill or partition or trades or limit or engine or profile:
            raise InvalidInput("a scenario says itself what runs: only --directory and --json go with it", code="usage")
        _play(scenario, directory, as_json=as_json)
        return

    import json
    import os
    import sys

    from p2pledger.demo.live import view_for
    from p2pledger.demo.run import Settings, run_demo

    rate_per_s = rate or (200.0 if trades is None else 500.0)
    settings = Settings(
        validators, seconds, rate_per_s, trades, limit, seed, kill, directory, engine, profile, partition
    )
    view = view_for()

    try:
        report = _run(lambda: run_demo(settings, view))
    finally:
        view.close()
    colour = typer.colors.GREEN if report.passed else typer.colors.RED
    for line in report.lines():
        if as_json:
            say(line)
        elif line.startswith("VERDICT") and sys.stdout.isatty() and "NO_COLOR" not in os.environ:
            print(typer.style(line, fg=colour, bold=True))
        else:
            print(line)
    if as_json:
        print(json.dumps(report.values()), flush=True)
    if not report.passed:
        raise SystemExit(1)


def _run(work: Callable[[], Awaitable[_T]]) -> _T:
    """Runs it to its end. Ctrl-C is Trio's business. SIGTERM is ours: shells start jobs in the background with Ctrl-C
    ignored. SIGHUP is, too: a terminal that is closed must not leave the temporary folder behind."""
    import signal

    import trio

    reports: list[_T] = []
    heard: list[int] = []

    async def run() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:

                async def hear() -> None:
                    heard.append(await anext(signals))
                    nursery.cancel_scope.cancel()

                nursery.start_soon(hear)
                reports.append(await work())
                nursery.cancel_scope.cancel()

    trio.run(run)
    if not reports:
        say("terminated")
        raise SystemExit(128 + heard[0])
    return reports[0]


def _play(name: str, directory: Path | None, *, as_json: bool) -> None:
    """Plays a scenario; the world before, with its custody transfers at T+1, is set beside what it measured."""
    import json
    import sys

    from p2pledger.cli.output import counted
    from p2pledger.demo.live import PlainView
    from p2pledger.demo.play import operation_fields, play
    from p2pledger.demo.scenario import find_scenario, read_scenario

    scenario = read_scenario(find_scenario(name), operation_fields())
    view = PlainView(sys.stderr if as_json else sys.stdout)
    report = _run(lambda: play(scenario, view, directory=directory))
    before_s = _world_before_s() if report.measured_ms else 0.0
    for what, took_ms in report.measured_ms.items():
        view.say(f"{what.replace('_', ' ')}: final after {took_ms:.0f} ms")
    if before_s:
        view.say(
            f"  before, with custody transfers at T+1 (modelled: p2pledger sim baseline): {before_s / 3_600:.1f} h"
        )
    for finding in report.findings:
        view.say(f"FINDING  {finding}")
    view.say(
        f"{counted(len(report.steps), 'step')}, {counted(report.refusals, 'refusal')} among them, "
        f"{sum(not step.ok for step in report.steps)} not as expected; state roots "
        f"{'equal' if report.state_roots_equal else 'DIFFER'}, supply "
        f"{'conserved' if report.supply_conserved else 'NOT CONSERVED'}; {report.seconds:.1f} s"
    )
    view.say(f"VERDICT: {'GREEN' if report.passed else 'RED'}")
    if as_json:
        print(json.dumps({**report.values(), "world_before_s": before_s}), flush=True)
    if not report.passed:
        raise SystemExit(1)


def _world_before_s() -> float:
    """How long a sale into the other register took in the world before: the median of modelled ones, in seconds."""
    from p2pledger.sim.baseline import custody_transfer, percentile, sales

    return float(percentile(custody_transfer(sales(1, 1_000)).times_s, 0.5))
