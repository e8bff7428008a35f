"""p2pledger sim: the same nodes in a seeded world with its own clock, where networks and disks misbehave."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pledger.cli.options import JsonOption
from p2pledger.cli.output import ExitCode, command, counted, emit, say, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from p2pledger.sim.campaign import Progress
    from p2pledger.sim.evidence import Violation
    from p2pledger.sim.run import Outcome

EngineOption = Annotated[str, typer.Option("--engine", help="simplex, pow, pos, dpos or poa.")]
PlantOption = Annotated[str, typer.Option("--plant", metavar="FAULT", help="Plant a fault, to see that it is found.")]
BeyondOption = Annotated[
    bool, typer.Option("--beyond", help="More villains than the engine survives: two ledgers, but never silently.")
]
SecondsOption = Annotated[
    int | None, typer.Option("--seconds", min=1, help="Simulated seconds with orders and faults; 4, or 32 for chains.")
]
app = typer.Typer(help="Run nodes in a seeded world.", no_args_is_help=True)


@app.callback()
def sim() -> None:
    """Run nodes in a seeded world with faults, and judge what they did."""


@app.command()
@command
def run(
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="One seed; 1 if nothing is given.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", metavar="A..B", help="All seeds from A to B.")] = "",
    seconds: SecondsOption = None,
    engine: EngineOption = "simplex",
    plant: PlantOption = "",
    beyond: BeyondOption = False,
    transcript: Annotated[
        Path | None, typer.Option("--trace", help="Write what happens to this file, one line an event.")
    ] = None,
    network: Annotated[
        Path | None, typer.Option("--network", metavar="FILE", help="What lies between the nodes (docs/measuring.md).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Live through seeded worlds and judge them: agreement, conservation, progress. Exit code 1 on a violation.

    \b
    Examples: p2pledger sim run --seed 7
              p2pledger sim run --seeds 1..300
              p2pledger sim run --seed 7 --network network.toml
    """
    from contextlib import nullcontext

    from p2pledger.primitives.errors import InvalidInput
    from p2pledger.server.config import load_manifest
    from p2pledger.sim.run import run_seed

    wanted = _range_of(seeds) if seeds else range(1 if seed is None else seed, 2 if seed is None else seed + 1)
    if seeds and seed is not None:
        raise InvalidInput("--seed and --seeds exclude each other", code="usage")
    _check(engine, plant)
    topology = None if network is None else load_manifest(network)
    outcomes: list[Outcome] = []
    with nullcontext() if transcript is None else transcript.open("w", encoding="utf-8") as file:
        for number in wanted:
            outcome = run_seed(number, seconds, file, engine=engine, beyond=beyond, plant=plant, topology=topology)
            outcomes.append(outcome)
            for line in _lines(outcome):
                say(line)
    violations = [violation for outcome in outcomes for violation in outcome.violations]
    if as_json:
        emit(
            "p2pledger.sim/1",
            {
                "engine": engine,
                "seeds": len(outcomes),
                "seconds": seconds,
                "violations": _listed(violations),
                "failures": _listed(violations),
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


@app.command()
@command
def model(
    views: Annotated[int, typer.Option("--views", min=1, max=8, help="How many views.")] = 3,
    faulty: Annotated[int, typer.Option("--faulty", min=0, max=2, help="How many of the four are faulty.")] = 1,
    condensed: Annotated[
        bool, typer.Option("--condensed", help="Keep of past views their certificates only: the same verdict, sooner.")
    ] = False,
    any_order: Annotated[
        bool, typer.Option("--any-order", help="Explore votes in all orders, not view by view: a check of the search.")
    ] = False,
    without: Annotated[
        str, typer.Option("--without", metavar="RULE", help="Honest validators break this rule; see below.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Search a small model of Simplex to its last state: can two conflicting blocks become final?

    Four validators, every choice of the faulty ones. Exit code 1 if a property is broken, with a shortest run.
    Rules that can be left out: one-block, parent, gap, exclusive, quorum.

    \b
    Examples: p2pledger sim model
              p2pledger sim model --views 5 --condensed
              p2pledger sim model --faulty 2
              p2pledger sim model --condensed --without gap
    """
    import time

    from p2pledger.primitives.errors import InvalidInput
    from p2pledger.sim.model import PROPERTIES, Model, Rule, Survey, choices, survey

    if without and without not in list(Rule):
        raise InvalidInput(f"no rule is called {without!r}", hint=f"One of {', '.join(Rule)}", code="usage")
    if condensed and any_order:
        raise InvalidInput("--condensed and --any-order exclude each other", code="usage")
    bounds = (
        f"4 validators, {faulty} faulty; views 1 to {views}, led by validator v mod 4; blocks in a view: 1 of an "
        "honest leader, 2 of a faulty one, each on any parent that it may have; votes late or lost at will"
    )
    say(bounds)
    began_s = time.monotonic()
    surveys: list[Survey] = []
    for culprits in choices(4, faulty):
        machine = Model(
            views=views,
            faulty=culprits,
            without=Rule(without) if without else None,
            in_order=not any_order,
            condensed=condensed,
        )
        found = survey(machine)
        surveys.append(found)
        names = ", ".join(f"node-{node}" for node in culprits) or "nobody"
        broken = ", ".join(f"{finding.property} after {finding.votes}" for finding in found.findings)
        say(
            f"faulty {names}: {found.states:,} states, {found.moves:,} moves, up to {found.depth} honest votes, "
            + (f"broken: {broken}" if broken else "nothing broken")
            + ("" if found.complete else "; the search ended there")
        )
    elapsed_s = time.monotonic() - began_s
    first = {
        name: min(
            (finding for found in surveys for finding in found.findings if finding.property == name),
            key=lambda finding: finding.votes,
            default=None,
        )
        for name in PROPERTIES
    }
    worst = first["agreement"]
    if as_json:
        emit(
            "p2pledger.sim.model/1",
            {
                "nodes": 4,
                "faulty": faulty,
                "quorum": 3,
                "views": views,
                "blocks_per_honest_view": 1,
                "blocks_per_faulty_view": 2,
                "condensed": condensed,
                "any_order": any_order,
                "without": without,
                "states": sum(found.states for found in surveys),
                "moves": sum(found.moves for found in surveys),
                "seconds": round(elapsed_s, 3),
                "complete": all(found.complete for found in surveys),
                "cases": [
                    {
                        "faulty": list(found.faulty),
                        "states": found.states,
                        "moves": found.moves,
                        "depth": found.depth,
                        "complete": found.complete,
                    }
                    for found in surveys
                ],
                "violations": {name: finding.votes for name, finding in first.items() if finding is not None},
                "trace": [] if worst is None else list(worst.trace),
            },
        )
    else:
        if worst is not None:
            print(f"Agreement is broken. A shortest run, {worst.votes} honest votes:")
            for line in worst.trace:
                print(f"  {line}")
        for name, finding in first.items():
            print(f"{name + ':':<14}{'holds' if finding is None else f'broken after {finding.votes} honest votes'}")
        print(f"bounds:       {bounds}")
        print(f"states:       {sum(found.states for found in surveys):,}, merged under symmetry, in {elapsed_s:.1f} s")
    if any(first.values()):
        raise SystemExit(1)


@app.command()
@command
def campaign(
    seeds: Annotated[str, typer.Option("--seeds", metavar="A..B", help="All seeds from A to B.")],
    engine: EngineOption = "simplex",
    jobs: Annotated[int, typer.Option("--jobs", min=0, help="Processes; 0: one for each core.")] = 0,
    seconds: SecondsOption = None,
    plant: PlantOption = "",
    beyond: BeyondOption = False,
    as_json: JsonOption = False,
) -> None:
    """Live through many seeded worlds in several processes. Exit code 1 on a violation.

    \b
    Examples: p2pledger sim campaign --seeds 1..2000
              p2pledger sim campaign --seeds 1..500 --engine pos --plant keep-coin-age
    """
    from p2pledger.sim.campaign import Orders
    from p2pledger.sim.campaign import campaign as live_through

    wanted = _range_of(seeds)
    _check(engine, plant)
    again = f"--engine {engine}" + (f" --plant {plant}" if plant else "") + (" --beyond" if beyond else "")
    again += f" --seconds {seconds}" if seconds is not None else ""

    def failed(violation: Violation) -> None:
        replay = f"p2pledger sim run --seed {violation.seed} {again} --trace FILE"
        say(f"seed {violation.seed} {violation.checker}: {violation.detail}; see it again: {replay}")

    report = live_through(wanted, Orders(engine, seconds, beyond, plant), jobs=jobs, failed=failed, moved=_tell)
    progress, hours = report.progress, report.simulated_s / 3_600
    if report.interrupted:
        say(f"interrupted after {progress.done:,} of {counted(progress.total, 'seed')}; this is what is known")
    if as_json:
        emit(
            "p2pledger.campaign/1",
            {
                "engine": engine,
                "seeds": report.done,
                "violations": len(report.violations),
                "failures": _listed(report.violations),
                "seeds_per_s": round(progress.seeds_per_s, 3),
                "simulated_hours": round(hours, 3),
            },
        )
    else:
        worlds, violations = counted(report.done, "world"), counted(len(report.violations), "violation")
        print(f"{engine}: {worlds}, {violations}, {progress.seeds_per_s:,.1f} seeds/s, {hours:,.1f} simulated hours")
    if report.interrupted:
        raise SystemExit(ExitCode.INTERRUPTED)
    if report.violations:
        raise SystemExit(1)


def _tell(progress: Progress) -> None:
    """One line on a terminal, over and over; elsewhere a line each ten seconds."""
    minutes, seconds = divmod(round(progress.remaining_s), 60)
    line = (
        f"{progress.done:,} of {counted(progress.total, 'seed')}, {progress.seeds_per_s:,.1f} seeds/s, "
        f"{counted(progress.violations, 'violation')}, {minutes}:{seconds:02d} left"
    )
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="\n" if progress.done == progress.total else "", file=sys.stderr, flush=True)
    elif progress.done == progress.total or progress.elapsed_s % 10 < 0.5:
        say(line)


@app.command()
@command
def views(
    validators: Annotated[int, typer.Option("--validators", min=1, max=1_000, help="How many, of equal weight.")] = 30,
    count: Annotated[int, typer.Option("--views", min=3, help="How many views to live through.")] = 50,
    delay_ms: Annotated[int, typer.Option("--delay-ms", min=1, help="What every message takes.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Measure what a view of Simplex costs with many validators: network delays, processor time, bytes.

    \b
    Examples: p2pledger sim views --validators 30 --views 50
              p2pledger sim views --validators 100 --views 10 --json
    """
    from p2pledger import core
    from p2pledger.sim.views import measure_views

    found = measure_views(validators, count, delay_ms=delay_ms)
    if as_json:
        emit(
            "p2pledger.sim.views/1",
            {
                "validators": found.validators,
                "quorum": found.quorum,
                "views": found.views,
                "delay_ms": delay_ms,
                "final_blocks": len(found.delays),
                "delays_median": found.delays_median,
                "delays_max": found.delays_most,
                "cpu_us_per_view": round(found.cpu_us_per_view, 1),
                "messages_per_view": round(found.messages_per_view, 1),
                "bytes_per_view": round(found.bytes_per_view),
                "certificate_batch_us": round(found.certificate_batch_us, 1),
                "certificate_single_us": round(found.certificate_single_us, 1),
                "core": core.description(),
            },
        )
        return
    print(f"{found.validators} validators, quorum {found.quorum}, {counted(found.views, 'view')} of Simplex")
    print(f"  final after            {found.delays_median:g} network delays (most {found.delays_most:g})")
    print(f"  processor              {found.cpu_us_per_view:,.0f} us a view and validator")
    print(
        f"  messages               {found.messages_per_view:,.0f} a view, {found.bytes_per_view / 1000:,.1f} kB in all"
    )
    print(
        f"  certificate            {found.certificate_batch_us:,.0f} us to check {found.quorum} signatures at once, "
        f"{found.certificate_single_us:,.0f} us one by one"
    )


@app.command()
@command
def engines(
    trades: Annotated[int, typer.Option("--trades", min=1, max=100_000, help="How many trades.")] = 2_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Trades and worlds come from this number.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Settle the same trades under every engine, and compare who holds what. Exit code 1 if anything differs.

    The root is the one over the securities tables: native money, rewards, stakes and what the engines note are theirs.

    \b
    Examples: p2pledger sim engines --trades 200
              p2pledger sim engines --trades 2000 --seed 7 --json
    """
    from p2pledger.primitives.genesis import ENGINES
    from p2pledger.sim.engines import EngineRun, recount, run_engine

    expected = recount(seed, trades)
    runs: list[EngineRun] = []
    for engine in ENGINES:
        found = run_engine(engine, seed, trades)
        runs.append(found)
        say(
            f"{engine + ':':<8} {found.settled:,} of {counted(trades, 'trade')} settled at height "
            f"{found.final_height:,}, {found.simulated_s:,.1f} simulated seconds in {found.seconds:,.1f} s"
        )
        for violation in found.violations:
            say(f"  VIOLATION {violation.checker}: {violation.detail}")
    roots = {found.engine: found.root for found in runs}
    holdings_equal = all(found.holdings == expected for found in runs)
    roots_equal = len(set(roots.values())) == 1 and "" not in roots.values()
    settled = all(found.settled == trades for found in runs)
    violations = [violation for found in runs for violation in found.violations]
    if as_json:
        emit(
            "p2pledger.sim.engines/1",
            {
                "seed": seed,
                "trades": trades,
                "roots": roots,
                "roots_equal": roots_equal,
                "holdings_equal": holdings_equal,
                "settled": {found.engine: found.settled for found in runs},
                "heights": {found.engine: found.final_height for found in runs},
                "violations": _listed(violations),
            },
        )
    else:
        rows = [(found.engine, found.settled, found.final_height, found.root or "NONE") for found in runs]
        print(table(("engine", "settled", "height", "securities root"), rows, right=("settled", "height")))
        print(f"roots:     {'equal' if roots_equal else 'DIFFERENT'}")
        print(f"holdings:  {'equal, and as recounted' if holdings_equal else 'DIFFERENT from the recount'}")
    if not (roots_equal and holdings_equal and settled) or violations:
        raise SystemExit(1)


@app.command()
@command
def baseline(
    trades: Annotated[int, typer.Option("--trades", min=1, max=100_000, help="How many sales.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Trades and world come from this number.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Sell bonds from one depository's market to the other's, as before and on one ledger; compare the times.

    Before: two registers, and custody transfer between them at T+1. Exit code 1 if books do not add up or differ.

    \b
    Examples: p2pledger sim baseline
              p2pledger sim baseline --trades 1000 --seed 7 --json
    """
    from p2pledger.sim.baseline import MODELLED, compare, percentile

    found = compare(seed, trades)
    before, ledger = found.before, found.ledger
    shares = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
    times = {
        name: {title: percentile(world.times_s, share) for title, share in shares}
        for name, world in (("before", before), ("ledger", ledger))
    }
    if as_json:
        emit(
            "p2pledger.sim.baseline/1",
            {
                "seed": seed,
                "trades": trades,
                "before": {
                    "settled": len(before.times_s),
                    "failed": before.failed,
                    "seconds": {title: round(value, 3) for title, value in times["before"].items()},
                    "most_units_in_transit": before.most_in_transit,
                    "longest_in_transit_s": before.longest_in_transit_s,
                },
                "ledger": {
                    "settled": len(ledger.times_s),
                    "failed": ledger.failed,
                    "seconds": {title: round(value, 3) for title, value in times["ledger"].items()},
                    "most_units_in_transit": 0,
                    "longest_in_transit_s": 0,
                    "final_height": ledger.final_height,
                    "findings": list(ledger.findings),
                },
                "median_times_sooner": round(found.times_sooner, 1),
                "same_holdings": found.same_holdings,
                "modelled": list(MODELLED),
            },
        )
    else:
        rows = [
            (
                title,
                f"{len(world.times_s):,}",
                f"{world.failed:,}",
                *(_duration(value) for value in times[name].values()),
            )
            for title, name, world in (
                ("two registers, T+1", "before", before),
                ("one ledger", "ledger", ledger),
            )
        ]
        titles = ("from trade to settlement", "settled", "failed", *(title for title, _ in shares))
        print(table(titles, rows, right=titles[1:]))
        print(f"median:      {found.times_sooner:,.0f} times sooner on one ledger")
        print(
            f"in transit:  before, up to {before.most_in_transit:,} units stood in neither register, for up to "
            f"{_duration(before.longest_in_transit_s)}; on the ledger none ever did"
        )
        print(f"books:       {'everybody holds the same in the end' if found.same_holdings else 'HOLDINGS DIFFER'}")
        for finding in ledger.findings:
            print(f"             {finding}")
        print("What is modelled:")
        for sentence in MODELLED:
            print(f"  {sentence}")
    if ledger.findings or not found.same_holdings:
        raise SystemExit(1)


def _check(engine: str, plant: str) -> None:
    from p2pledger.primitives.errors import InvalidInput
    from p2pledger.sim.assumptions import ASSUMPTIONS
    from p2pledger.sim.plants import PLANTS

    if engine not in ASSUMPTIONS:
        raise InvalidInput(f"no engine is called {engine!r}", hint=f"One of {', '.join(ASSUMPTIONS)}", code="usage")
    if plant and plant not in PLANTS:
        raise InvalidInput(f"no fault is called {plant!r}", hint=f"One of {', '.join(PLANTS)}", code="usage")
    if plant and engine not in PLANTS[plant].engines:
        engines = ", ".join(PLANTS[plant].engines)
        raise InvalidInput(f"{plant} means nothing under {engine}", hint=f"Take --engine {engines}", code="usage")


def _listed(violations: Iterable[Violation]) -> list[dict[str, object]]:
    return [{"seed": item.seed, "checker": item.checker, "detail": item.detail} for item in violations]


def _lines(outcome: Outcome) -> Iterator[str]:
    orders = ", ".join(f"{reason} {count}" for reason, count in outcome.orders)
    yield (
        f"seed {outcome.seed}: height {outcome.final_height}, {outcome.events:,} events in {outcome.simulated_s:,.1f} "
        f"simulated seconds, orders: {orders or 'none'}, trace {outcome.trace_hash[:16]}"
    )
    for violation in outcome.violations:
        yield f"  VIOLATION {violation.checker}: {violation.detail}"


def _duration(seconds: float) -> str:
    """``0.145 s``, or ``21 h 54 min``."""
    if seconds < 60:
        return f"{seconds:.3f} s"
    hours, rest_s = divmod(round(seconds), 3_600)
    return f"{hours} h {rest_s // 60:02d} min"


def _range_of(text: str) -> range:
    """``A..B``, both included."""
    from p2pledger.primitives.errors import InvalidInput

    first, dots, last = text.partition("..")
    if not dots or not first.isdecimal() or not last.isdecimal() or int(first) > int(last):
        raise InvalidInput(f"{text!r} is not a range of seeds", hint="For example --seeds 1..300", code="usage")
    return range(int(first), int(last) + 1)
