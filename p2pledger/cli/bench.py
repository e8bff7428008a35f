"""p2pledger bench: measurements, each beside its peers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2pledger.cli.measuring import NetworkOption, OutOption, Watched, folder_of, read_network, show, tell
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


@app.command("finality")
@command
def bench_finality(
    rates: Annotated[
        str, typer.Option("--rates", metavar="R,R,...", help="Trades per second of each row; fixed intervals.")
    ] = "100,500,1000,2000",
    arrivals: Annotated[
        list[str] | None,
        typer.Option(
            "--arrivals", metavar="HOW", help="A row with other arrivals: poisson:R, ramp:A-B, burst:R,N, trace:FILE."
        ),
    ] = None,
    workload: Annotated[
        str,
        typer.Option("--workload", metavar="NAME", help="dvp, transfers, hot-account, cross, tape:FOLDER, file:FILE."),
    ] = "dvp",
    validators: Annotated[int, typer.Option("--validators", "-n", min=1, help="Validators, each a process.")] = 4,
    engine: Annotated[str, typer.Option("--engine", help="simplex, pow, pos, dpos or poa.")] = "simplex",
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.5, help="Length of the window, warm-up included.")
    ] = 20.0,
    warmup: Annotated[
        float, typer.Option("--warmup", min=0.0, help="Seconds at its beginning that do not count.")
    ] = 3.0,
    limit: Annotated[
        float, typer.Option("--limit", min=0.1, help="Seconds after which a client stops waiting.")
    ] = 10.0,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Repetitions of each row, each in a fresh process.")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="Of trades and moments.")] = 1,
    network: NetworkOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how long it takes until a trade is final, over the offered load.

    \b
    Examples: p2pledger bench finality --rates 500,5000 --runs 5
              p2pledger bench finality --arrivals poisson:300 --arrivals burst:300,50 --workload hot-account --json
    """
    from p2pledger.bench.finality import Settings, measure_finality
    from p2pledger.bench.settling import Plan

    text = "" if network is None else read_network(network)
    plan = Plan(workload, "1", seconds, warmup, limit, validators, engine, seed, validators, text)
    ways = list(arrivals or [])
    if not ways:
        ways = [f"fixed:{rate.strip()}" for rate in rates.split(",")]
    with Watched() as watched:
        results = measure_finality(Settings(tuple(ways), runs, plan), folder_of("finality", out), watched)
    show(results, as_json)


@app.command("gossip")
@command
def bench_gossip(
    load: Annotated[
        list[str] | None,
        typer.Option("--load", metavar="SIZE@HOW", help="A row: bytes and arrivals, such as 1000@poisson:200."),
    ] = None,
    nodes: Annotated[int, typer.Option("--nodes", "-n", min=2, help="Nodes, all in one process.")] = 8,
    degree: Annotated[int, typer.Option("--degree", min=0, help="Neighbours of each; 0: everybody.")] = 0,
    seconds: Annotated[float, typer.Option("--seconds", min=0.5, help="The window, warm-up included.")] = 10.0,
    warmup: Annotated[float, typer.Option("--warmup", min=0.0, help="Its first seconds, not counted.")] = 1.0,
    limit: Annotated[float, typer.Option("--limit", min=0.1, help="Seconds after which a payload is lost.")] = 10.0,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Repetitions of each row, each in a fresh process.")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="Of payloads, moments and neighbours.")] = 1,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how fast payloads reach every node, encrypted and authenticated, over size and rate.

    \b
    Examples: p2pledger bench gossip
              p2pledger bench gossip --load 1000@1000 --seconds 61
              p2pledger bench gossip --nodes 32 --degree 4 --load 1000@50 --load 100000@5 --json
    """
    from p2pledger.bench.gossip import DEFAULT_LOADS, Settings, measure_gossip
    from p2pledger.bench.spreading import SpreadPlan

    plan = SpreadPlan(nodes, degree, seconds=seconds, warmup_s=warmup, limit_s=limit, seed=seed)
    with Watched() as watched:
        settings = Settings(tuple(load or DEFAULT_LOADS), runs, plan)
        results = measure_gossip(settings, folder_of("gossip", out), watched)
    show(results, as_json)


@app.command("capacity")
@command
def bench_capacity(
    quick: Annotated[bool, typer.Option("--quick", help="Short probes: indicative, in minutes.")] = False,
    sizes: Annotated[str, typer.Option("--sizes", metavar="B,B,...", help="Bytes that a block may name.")] = "",
    objective: Annotated[
        float, typer.Option("--objective", metavar="MS", help="The 99th percentile to keep.")
    ] = 1500.0,
    workload: Annotated[str, typer.Option("--workload", metavar="NAME", help="What is traded.")] = "dvp",
    validators: Annotated[int, typer.Option("--validators", "-n", min=1, help="Validators, each a process.")] = 4,
    engine: Annotated[str, typer.Option("--engine", help="simplex, pow, pos, dpos or poa.")] = "simplex",
    interval: Annotated[
        int,
        typer.Option("--block-ms", metavar="MS", min=0, help="Time between blocks; 0: as a local network has it."),
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of trades and moments.")] = 1,
    network: NetworkOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how large a block may be, what the network then sustains, and what binds.

    Without --network the links of four validators are shaped to Frankfurt, London, Virginia and Tokyo.

    \b
    Examples: p2pledger bench capacity --quick
              p2pledger bench capacity --network network.toml --objective 800 --json
              p2pledger bench capacity --engine pow --block-ms 5000 --sizes 100000,1000000
    """
    from p2pledger.bench.capacity import (
        DEFAULT_SIZES,
        FOUR_REGIONS,
        Settings,
        interval_parameters,
        measure_capacity,
    )
    from p2pledger.bench.settling import Plan
    from p2pledger.primitives.errors import InvalidInput

    if sizes and not all(part.strip().isdecimal() for part in sizes.split(",")):
        raise InvalidInput("--sizes must be numbers of bytes", hint="Such as 100000,1000000", code="usage")
    numbers = tuple(int(part) for part in sizes.split(",")) if sizes else DEFAULT_SIZES
    text = read_network(network) if network is not None else FOUR_REGIONS if validators == 4 else ""
    plan = Plan(
        workload,
        validators=validators,
        engine=engine,
        seed=seed,
        gateways=validators,
        network=text,
        parameters=interval_parameters(engine, interval) if interval else {},
    )
    with Watched() as watched:
        settings = Settings(numbers, objective, quick, plan)
        results = measure_capacity(settings, folder_of("capacity", out), watched)
    show(results, as_json)


@app.command("storage")
@command
def bench_storage(
    trades: Annotated[int, typer.Option("--trades", min=1, help="How many are settled.")] = 20_000,
    workload: Annotated[str, typer.Option("--workload", metavar="NAME", help="What is traded.")] = "dvp",
    validators: Annotated[int, typer.Option("--validators", "-n", min=1, help="Validators, each a process.")] = 4,
    engine: Annotated[str, typer.Option("--engine", help="simplex, pow, pos, dpos or poa.")] = "simplex",
    runs: Annotated[int, typer.Option("--runs", min=1, help="Repetitions, each in a fresh process.")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="Of the trades.")] = 1,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what a settled trade costs on disk, and how long the nodes take to come back from it.

    \b
    Example: p2pledger bench storage --trades 50000 --runs 1
    """
    from p2pledger.bench.storage import Settings, StoragePlan, measure_storage

    with Watched() as watched:
        settings = Settings(runs, StoragePlan(trades, workload, validators, engine, seed))
        results = measure_storage(settings, folder_of("storage", out), watched)
    show(results, as_json)


@app.command("all")
@command
def bench_all(
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="A folder for all results.")] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Repetitions of each row.")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="Of everything.")] = 1,
) -> None:
    """Measure gossip, finality, storage, and the capacity of blocks (quick), one after another, each in its own folder.

    \b
    Example: p2pledger bench all --out results
    """
    from p2pledger.bench import capacity, finality, gossip, storage
    from p2pledger.bench.settling import Plan
    from p2pledger.bench.spreading import SpreadPlan

    top = folder_of("all", out)
    plan, four = Plan(seed=seed), Plan(seed=seed, network=capacity.FOUR_REGIONS)
    rates = tuple(f"fixed:{rate}" for rate in (100, 500, 1_000, 2_000))
    with Watched() as watched:
        measured = [
            gossip.measure_gossip(
                gossip.Settings(gossip.DEFAULT_LOADS, runs, SpreadPlan(seed=seed)), top / "gossip", watched
            ),
            finality.measure_finality(finality.Settings(rates, runs, plan), top / "finality", watched),
            storage.measure_storage(storage.Settings(runs, storage.StoragePlan(seed=seed)), top / "storage", watched),
            capacity.measure_capacity(
                capacity.Settings(capacity.DEFAULT_SIZES, 1_500.0, True, four), top / "capacity", watched
            ),
        ]
    # All of them are told, whatever the first was.
    correct = [tell(results, as_json=False) for results in measured]
    if not all(correct):
        raise SystemExit(1)


@app.command("rerun")
@command
def bench_rerun(
    folder: Annotated[Path, typer.Argument(help="A result folder.")],
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure again what a result folder measured, with the same arguments, into a new folder.

    \b
    Example: p2pledger bench rerun p2pledger-bench/finality-1 --out again
    """
    from p2pledger.bench.again import run_again
    from p2pledger.bench.results import Results

    before = Results.open(folder)
    with Watched() as watched:
        results = run_again(before, folder_of(before.kind, out), watched)
    show(results, as_json)


@app.command("compare")
@command
def bench_compare(
    before: Annotated[Path, typer.Argument(help="A result folder.")],
    after: Annotated[Path, typer.Argument(help="Another one of the same kind.")],
    as_json: JsonOption = False,
) -> None:
    """Set two results side by side. Exit code 1 where the second one is worse beyond the intervals of both.

    \b
    Example: p2pledger bench compare before after
    """
    from dataclasses import asdict

    from p2pledger.bench.compare import compare
    from p2pledger.bench.results import Results

    differences = compare(Results.open(before), Results.open(after))
    worse = any(difference.verdict == "worse" for difference in differences)
    if as_json:
        emit("p2pledger.bench.compare/1", {"worse": worse, "differences": [asdict(line) for line in differences]})
    else:
        rows = [(line.row, line.figure, line.before, line.after, line.verdict) for line in differences]
        print(table(("row", "figure", "before", "after", "verdict"), rows, right=("before", "after")))
    if worse:
        raise SystemExit(1)


@app.command("report")
@command
def bench_report(folder: Annotated[Path, typer.Argument(help="A result folder.")]) -> None:
    """Write the page of a result folder anew, of a partial one too: report.html in it.

    \b
    Example: p2pledger bench report p2pledger-bench/finality-1
    """
    from p2pledger.bench.report import write_report
    from p2pledger.bench.results import Results

    print(write_report(Results.open(folder)))


@app.command("links")
@command
def bench_links(
    network: NetworkOption = None,
    samples: Annotated[int, typer.Option("--samples", min=5, help="Small frames on each way.")] = 41,
    kernel: Annotated[bool, typer.Option("--kernel/--no-kernel", help="Beside netem and tbf, where permitted.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Check shaped links without their model: are delays and rates within 5 % of the manifest? Exit code 1 if not.

    \b
    Examples: p2pledger bench links
              p2pledger bench links --network network.toml --json
    """
    from dataclasses import asdict
    from functools import partial

    import trio

    from p2pledger.bench import links
    from p2pledger.network.topology import Topology
    from p2pledger.server.config import load_manifest

    topology = Topology.parse(links.MANIFEST) if network is None else load_manifest(network)
    report = trio.run(partial(links.measure, topology, samples=samples, tell=say))
    beside = links.kernel_figures() if kernel else ()
    if as_json:
        emit(
            "p2pledger.bench.links/1",
            {
                "ok": report.is_right,
                "tolerance": links.TOLERANCE,
                "bare_ms": report.bare_ms,
                "delays": [{**asdict(row), "deviation": row.deviation, "ok": row.is_right} for row in report.delays],
                "rates": [{**asdict(row), "deviation": row.deviation, "ok": row.is_right} for row in report.rates],
                "kernel": [asdict(row) for row in beside],
            },
        )
    else:
        print(f"a session that is not shaped: {report.bare_ms:.2f} ms one way\n")
        delays = [
            (row.source, row.target, f"{row.manifest_ms:.1f}", f"{row.measured_ms:.1f}", f"{row.lowest_ms:.1f}",
             f"{row.highest_ms:.1f}", f"{row.deviation:+.1%}", "ok" if row.is_right else "WRONG")
            for row in report.delays
        ]  # fmt: skip
        numbers: tuple[str, ...] = ("manifest ms", "median ms", "least", "most", "off by")
        print(table(("from", "to", *numbers, ""), delays, right=numbers))
        rates = [
            (row.source, ", ".join(row.targets), f"{row.manifest_mbit:.1f}", f"{row.measured_mbit:.1f}",
             f"{row.deviation:+.1%}", ("ok" if row.is_right else "WRONG") if row.is_judged else "not judged: loss")
            for row in report.rates
        ]  # fmt: skip
        numbers = ("manifest Mbit/s", "Mbit/s", "off by")
        print("\n" + table(("from", "to", *numbers, ""), rates, right=numbers))
        for row in beside:
            figures = f"{row.kernel:.1f} there, {row.ours:.1f} here" if not row.skipped else f"skipped: {row.skipped}"
            print(f"\nbeside the kernel, {row.what}, {row.asked:g} {row.unit}: {figures}")
    if not report.is_right:
        raise SystemExit(1)
