"""A result folder as one page: what was measured, on what, the table, and plots. It needs no network and no script."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from statistics import median
from typing import Any, Final

from p2pledger.bench.histogram import Histogram
from p2pledger.bench.plots import Line, plot
from p2pledger.bench.results import Results
from p2pledger.bench.settling import lag_allowed_ms
from p2pledger.bench.tables import histogram_of
from p2pledger.primitives.errors import InvalidInput

__all__ = ["PLOTS", "page", "write_report"]

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --faint: #d9d9d9;
  --c0: #0b5fa5; --c1: #b3480b; --c2: #2d7a33; --c3: #7a3fa0; --c4: #8a6d00; --c5: #555555; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181a; --faint: #3a3d40;
  --c0: #6db3f2; --c1: #f0995e; --c2: #7fce86; --c3: #c79be6; --c4: #dcc25a; --c5: #b5b5b5; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--faint); padding: .25rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 2rem 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
svg text { fill: var(--ink); font-size: 12px; } .grid { stroke: var(--faint); }
.line { fill: none; stroke-width: 1.8; } .mark { stroke-width: 1.5; }
.partial { border: 2px solid var(--c1); padding: .5rem 1rem; }
""" + "".join(
    f".line.c{i}, .mark.c{i} {{ stroke: var(--c{i}); }} .mark.c{i} {{ fill: var(--c{i}); }}"
    f" svg text.c{i} {{ fill: var(--c{i}); }}\n"
    for i in range(6)
)


def write_report(results: Results) -> Path:
    """Writes report.html into the result folder. InvalidInput where something is missing in its files."""
    path = results.folder / "report.html"
    try:
        text = page(results)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            "the page cannot be made of these runs", where=str(results.folder), why=repr(error), code="no_results"
        ) from error
    path.write_text(text, encoding="utf-8")
    return path


def page(results: Results) -> str:
    """The whole page."""
    machine = "".join(
        f"<tr><td>{escape(k)}</td><td>{escape(str(v))}</td></tr>" for k, v in asdict(results.machine).items()
    )
    partial = (
        ""
        if results.status == "complete"
        else '<p class="partial">These results are <b>partial</b>: the measurement was interrupted.</p>'
    )
    runs = list(results.runs())
    plots = "".join(PLOTS[results.kind](results, runs)) if results.kind in PLOTS else ""
    summary = (
        "<h2>Summary</h2><table>"
        + "".join(f"<tr><td>{escape(k)}</td><td>{_cell(v)}</td></tr>" for k, v in results.summary.items())
        + "</table>"
        if results.summary
        else ""
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>p2pledger bench {escape(results.kind)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>p2pledger bench {escape(results.kind)}</h1>{partial}<p>{escape(results.note)}. "
        "Times are wall-clock times of real processes; loopback is not a wide-area network.</p>"
        f"{summary}<h2>Rows</h2>{_table(results.rows)}{plots}"
        f"<h2>Machine</h2><table>{machine}</table>"
        f"<h2>Arguments</h2><table>{_arguments(results.arguments)}</table></body></html>\n"
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>No rows yet.</p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row.values()) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,g}" if type(value) is float else escape(str(value))


def _arguments(arguments: Mapping[str, Any]) -> str:
    return "".join(f"<tr><td>{escape(k)}</td><td>{escape(str(v))}</td></tr>" for k, v in arguments.items())


def _finality_plots(results: Results, runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [row for row in results.rows if type(row["p50_ms"]) is float and type(row["p99_ms"]) is float]
    yield plot(
        "Time until a trade is final, over the offered load",
        "trades offered per second",
        "milliseconds",
        [
            Line(
                name,
                tuple((row["offered_per_s"], row[f"{name}_ms"]) for row in rows),
                tuple(row[f"{name}_low_ms"] for row in rows),
                tuple(row[f"{name}_high_ms"] for row in rows),
            )
            for name in ("p50", "p99")
        ],
        log_y=True,
    )
    yield plot(
        "Trades committed over trades offered",
        "trades offered per second",
        "trades committed per second",
        [Line("committed", tuple((row["offered_per_s"], row["committed_per_s"]) for row in rows))],
    )
    yield _curves("Share of all trades that were final within a time (what never ended is missing above)", runs)
    yield plot(
        "Processors used by all validators together",
        "trades offered per second",
        "cores",
        [Line("cores", tuple((row["offered_per_s"], row["cores_used"]) for row in rows))],
    )


def _gossip_plots(results: Results, runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield _curves("Share of all payloads that had reached every node within a time", runs)
    yield plot(
        "Payloads due and not yet everywhere, in the first run of each load",
        "seconds",
        "payloads",
        [
            Line(name, tuple(((at + 1) / 4, float(left)) for at, left in enumerate(run["backlog"])))
            for name, run in {_load_name(run): run for run in reversed(runs)}.items()
        ],
    )


def _is_as_asked(plan: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether a run was of the network that was asked about, and not one from which something had been taken away."""
    same = all(plan[name] == asked[name] for name in ("workload", "network", "disk"))
    delay = "batch_delay_ms"
    return same and plan["parameters"].get(delay) == asked["parameters"].get(delay)


def _capacity_plots(results: Results, runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    runs = [run for run in runs if not run["faults"] and _is_as_asked(run["plan"], results.arguments["plan"])]
    frontier = [row for row in results.summary.get("frontier", ()) if row["bytes_per_s"]]
    yield plot(
        "The frontier: what blocks of a size sustain",
        "bytes that a block may name",
        "bytes per second",
        [Line("sustained", tuple((float(row["size_bytes"]), float(row["bytes_per_s"])) for row in frontier))],
        log_x=True,
    )
    times: dict[str, dict[int, list[float]]] = {}
    for run in runs:
        for block in run["block_times"]:
            for clock in ("data", "final"):
                for share, ms in block["times_ms"].get(clock, {}).items():
                    size = run["plan"]["parameters"]["block_bytes"]
                    times.setdefault(f"{clock} {share} %", {}).setdefault(size, []).append(ms)
    yield plot(
        "Median time until a share of the weight has the data of a block, or knows it to be final",
        "bytes that a block may name",
        "milliseconds",
        [
            Line(name, tuple((float(size), median(found)) for size, found in sorted(sizes.items())))
            for name, sizes in sorted(times.items())
        ],
        log_x=True,
        log_y=True,
    )


def _curves(title: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """Of the runs that were right, and whose generator was not too late: the others have no figures."""
    merged: dict[str, Histogram] = {}
    for run in runs:
        histogram = histogram_of(run)
        if run["faults"] or ("size_bytes" not in run["plan"] and run["lag_p99_ms"] > lag_allowed_ms(histogram)):
            continue
        merged.setdefault(_load_name(run), Histogram(histogram.limit_us)).merge(histogram)
    lines = [
        Line(name, tuple((us / 1000, share) for us, share in histogram.curve())) for name, histogram in merged.items()
    ]
    return plot(title, "milliseconds", "share", lines, log_x=True)


def _load_name(run: Mapping[str, Any]) -> str:
    plan = run["plan"]
    return f"{plan['size_bytes']:,} B, {plan['arrivals']}" if "size_bytes" in plan else str(plan["arrivals"])


PLOTS: dict[str, Callable[[Results, Sequence[Mapping[str, Any]]], Iterator[str]]] = {
    "finality": _finality_plots,
    "gossip": _gossip_plots,
    "capacity": _capacity_plots,
}
"""Kind of results -> its plots."""
