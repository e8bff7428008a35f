"""p2pledger demo: a consortium settles trades, and proves that all nodes hold the same books."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pledger.cli.options import JsonOption
from p2pledger.cli.output import command, say

if TYPE_CHECKING:
    from p2pledger.demo.report import Report

__all__ = ["demo"]


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
    as_json: JsonOption = False,
) -> None:
    """Run the joint bond ledger: trades settle by delivery versus payment, and all books are compared at the end.

    \b
    Examples: p2pledger demo
              p2pledger demo --kill
              p2pledger demo --seconds 20 --rate 500 --json
              p2pledger demo --engine pow --partition
              p2pledger demo --engine dpos --kill
    """
    import json
    import os
    import signal
    import sys

    import trio

    from p2pledger.demo.live import view_for
    from p2pledger.demo.run import Settings, run_demo

    rate_per_s = rate or (200.0 if trades is None else 500.0)
    settings = Settings(
        validators, seconds, rate_per_s, trades, limit, seed, kill, directory, engine, profile, partition
    )
    view = view_for()

    async def run() -> None:
        """Ctrl-C is Trio's business. SIGTERM is ours: shells start jobs in the background with Ctrl-C ignored.

        SIGHUP is, too: a terminal that is closed must not leave the temporary folder behind.
        """
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:

                async def hear() -> None:
                    heard.append(await anext(signals))
                    nursery.cancel_scope.cancel()

                nursery.start_soon(hear)
                reports.append(await run_demo(settings, view))
                nursery.cancel_scope.cancel()

    reports: list[Report] = []
    heard: list[int] = []
    try:
        trio.run(run)
    finally:
        view.close()
    if not reports:
        say("terminated")
        raise SystemExit(128 + heard[0])
    [report] = reports
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
