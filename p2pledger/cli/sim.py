"""p2pledger sim: the same nodes in a seeded world with its own clock, where networks and disks misbehave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pledger.cli.options import JsonOption
from p2pledger.cli.output import command, counted, emit, say

if TYPE_CHECKING:
    from p2pledger.sim.run import Outcome

app = typer.Typer(help="Run nodes in a seeded world.", no_args_is_help=True)


@app.callback()
def sim() -> None:
    """Run nodes in a seeded world with faults, and judge what they did."""


@app.command()
@command
def run(
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="One seed; 1 if nothing is given.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", metavar="A..B", help="All seeds from A to B.")] = "",
    seconds: Annotated[int, typer.Option("--seconds", min=1, help="Simulated seconds with orders and faults.")] = 4,
    transcript: Annotated[
        Path | None, typer.Option("--trace", help="Write what happens to this file, one line an event.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Live through seeded worlds and judge them: agreement, conservation, progress. Exit code 1 on a violation.

    \b
    Examples: p2pledger sim run --seed 7
              p2pledger sim run --seeds 1..300
    """
    from contextlib import nullcontext

    from p2pledger.primitives.errors import InvalidInput
    from p2pledger.sim.run import run_seed

    wanted = _range_of(seeds) if seeds else range(1 if seed is None else seed, 2 if seed is None else seed + 1)
    if seeds and seed is not None:
        raise InvalidInput("--seed and --seeds exclude each other", code="usage")
    outcomes: list[Outcome] = []
    with nullcontext() if transcript is None else transcript.open("w", encoding="utf-8") as file:
        for number in wanted:
            outcome = run_seed(number, seconds, file)
            outcomes.append(outcome)
            for line in _lines(outcome):
                say(line)
    violations = [violation for outcome in outcomes for violation in outcome.violations]
    if as_json:
        emit(
            "p2pledger.sim/1",
            {
                "seeds": len(outcomes),
                "seconds": seconds,
                "violations": [
                    {"seed": item.seed, "checker": item.checker, "detail": item.detail} for item in violations
                ],
                "runs": [
                    {
                        "seed": outcome.seed,
                        "trace_hash": outcome.trace_hash,
                        "events": outcome.events,
                        "frames": outcome.frames,
                        "simulated_s": outcome.simulated_s,
                        "final_height": outcome.final_height,
                        "orders": dict(outcome.orders),
                        "violations": len(outcome.violations),
                    }
                    for outcome in outcomes
                ],
            },
        )
    else:
        print(f"{counted(len(outcomes), 'world')}, {counted(len(violations), 'violation')}")
    if violations:
        raise SystemExit(1)


def _lines(outcome: Outcome) -> Iterator[str]:
    orders = ", ".join(f"{reason} {count}" for reason, count in outcome.orders)
    yield (
        f"seed {outcome.seed}: height {outcome.final_height}, {outcome.events:,} events in {outcome.simulated_s:,.1f} "
        f"simulated seconds, orders: {orders or 'none'}, trace {outcome.trace_hash[:16]}"
    )
    for violation in outcome.violations:
        yield f"  VIOLATION {violation.checker}: {violation.detail}"


def _range_of(text: str) -> range:
    """``A..B``, both included."""
    from p2pledger.primitives.errors import InvalidInput

    first, dots, last = text.partition("..")
    if not dots or not first.isdecimal() or not last.isdecimal() or int(first) > int(last):
        raise InvalidInput(f"{text!r} is not a range of seeds", hint="For example --seeds 1..300", code="usage")
    return range(int(first), int(last) + 1)
