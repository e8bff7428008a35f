"""p2pledger bench: measurements, each beside its peers."""

from __future__ import annotations

from typing import Annotated

import typer

from p2pledger.cli.options import JsonOption
from p2pledger.cli.output import command, emit, say, table

app = typer.Typer(help="Measure what runs here.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure what runs here, beside every peer that is installed."""


@app.command("core")
@command
def bench_core(
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Runs of each; minimum and median count.")] = 11,
    accounts: Annotated[int, typer.Option("--accounts", min=2, help="Accounts of the large state.")] = 1_000_000,
    scale: Annotated[float, typer.Option("--scale", min=0.001, help="Multiplies all other amounts of work.")] = 1.0,
    only: Annotated[str, typer.Option("--only", metavar="WORD", help="Only sections whose name contains it.")] = "",
    level: Annotated[list[str] | None, typer.Option("--level", help="Only this CPU level; may be repeated.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure hashing, Merkle trees, signatures, blocks and the state tree on one core, beside their peers.

    \b
    Examples: taskset -c 1 p2pledger bench core
              p2pledger bench core --only hashing --rounds 5 --json
    """
    from dataclasses import asdict

    from p2pledger import core
    from p2pledger.bench.core import SECTIONS, Amounts, describe, measure
    from p2pledger.primitives.errors import InvalidInput

    unknown = sorted(set(level or []) - set(core.levels()))
    if unknown:
        raise InvalidInput(f"no level {unknown[0]!r} here", hint=f"one of {', '.join(core.levels())}", code="usage")
    if not any(only in name for name in SECTIONS):
        raise InvalidInput(f"no section has {only!r} in its name", hint=f"one of {', '.join(SECTIONS)}", code="usage")
    environment = describe()
    say(f"{environment.cpu}; {environment.core}; {environment.compiler or 'not compiled'}")
    figures = []
    for figure in measure(Amounts(rounds, accounts, scale), only, level or ()):
        figures.append(figure)
        say(f"  {figure.what} at {figure.level}: {figure.ours.median_ns:,.1f} ns a {figure.item}")
    if as_json:
        emit(
            "p2pledger.bench.core/1",
            {
                "environment": asdict(environment),
                "rounds": rounds,
                "figures": [
                    {
                        **asdict(figure),
                        "per_second": figure.per_second,
                        "ratios": {peer.name: figure.ratio(peer) for peer in figure.peers},
                    }
                    for figure in figures
                ],
            },
        )
        return
    print(
        f"{environment.cpu}\n{environment.core}, Python {environment.python}, commit {environment.commit or 'unknown'}"
    )
    print(f"peers: {', '.join(environment.peers) or 'none'}\n")
    rows = []
    for figure in figures:
        peers = ", ".join(f"{figure.ratio(peer):.2f} x {peer.name}" for peer in figure.peers)
        target = "" if figure.target is None else f"{figure.target:,g}{' x' if figure.peers else '/s'}"
        rows.append(
            (figure.what, figure.level, f"{figure.ours.minimum_ns:,.1f}", f"{figure.ours.median_ns:,.1f}",
             f"{figure.per_second:,.0f}", peers, target)
        )  # fmt: skip
    titles = ("what", "level", "min ns", "median ns", "per second", "beside (same rounds)", "target")
    print(table(titles, rows, right=("min ns", "median ns", "per second", "target")))
