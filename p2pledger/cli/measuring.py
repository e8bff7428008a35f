"""What the commands of ``p2pledger bench`` share: options, where results go, progress, and how results are shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from p2pledger.cli.output import say, table

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from p2pledger.bench.results import Results

__all__ = ["NetworkOption", "OutOption", "Watched", "folder_of", "read_network", "show", "tell"]

_VERDICTS = ("correct", "sustained", "passed")
NetworkOption = Annotated[
    Path | None, typer.Option("--network", metavar="FILE", help="A network.toml by which the links are shaped.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The result folder; a new one by default.")
]


def folder_of(kind: str, out: Path | None) -> Path:
    """The folder that was named, else the next free one below ``p2pledger-bench``."""
    if out is not None:
        return out
    number = 1
    while (folder := Path("p2pledger-bench") / f"{kind}-{number}").exists():
        number += 1
    return folder


def read_network(path: Path) -> str:
    """The text of a network.toml. InvalidInput if it cannot be read, or is none."""
    from p2pledger.network.topology import Topology
    from p2pledger.primitives.errors import InvalidInput

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("the network cannot be read", where=str(path), why=str(error), code="usage") from error
    Topology.parse(text)
    return text


class Watched:
    """Progress for people: a bar with the time that remains on a terminal, else a line for each step."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[done]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=None, done="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, sentence: str) -> None:
        if self._bar is None:
            say(sentence)
        else:
            self._bar.update(self._task, description=sentence, total=None, completed=0, done="")

    def show(self, elapsed_s: float, expected_s: float, committed: int) -> None:
        if self._bar is not None:
            self._bar.update(
                self._task, completed=min(elapsed_s, expected_s), total=expected_s, done=f"{committed:,} done"
            )


def show(results: Results, as_json: bool) -> None:
    """The rows of finished results, as ``tell``; SystemExit with 1 where a run was not correct."""
    if not tell(results, as_json):
        raise SystemExit(1)


def tell(results: Results, as_json: bool) -> bool:
    """The rows of finished results; their page is written. With --json the last line is one object.

    Whether everything in them is correct: a fast wrong run has failed.
    """
    from p2pledger.bench.report import write_report

    path = write_report(results)
    is_correct = all(row.get("correct", True) for row in results.rows)
    say(f"results in {results.folder}, page {path}")
    if as_json:
        machine = {name: getattr(results.machine, name) for name in results.machine.__dataclass_fields__}
        schema = f"p2pledger.bench.{results.kind}/1"
        values = {"schema": schema, "folder": str(results.folder), "note": results.note, "machine": machine}
        print(json.dumps({**values, **results.summary, "rows": results.rows}, ensure_ascii=False), flush=True)
        return is_correct
    print(results.note)
    if results.rows:
        shown = [name for name in results.rows[0] if any(_is_telling(name, row[name]) for row in results.rows)]
        print(table(shown, [[_cell(row[name]) for name in shown] for row in results.rows], right=shown))
    for name, value in results.summary.items():
        print(f"{name}: {value}")
    return is_correct


def _is_telling(name: str, value: Any) -> bool:
    """Whether a column is worth its room. A verdict is, above all where it is no."""
    return value not in (None, "") and (value != 0 or name in _VERDICTS)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if type(value) is bool:
        return "yes" if value else "no"
    return f"{value:,.4g}" if type(value) is float else str(value)
