"""A result folder: everything that a figure was made from, so that anybody can look again, or run it again.

    manifest.json     what was measured, with which arguments, on which machine; *partial* until the last run is in
    runs/NNN.json     one run each: its plan, its counts, its histogram (base64), its series, its faults
    rows.csv          the rows of the table, as shown
    report.html       the same with plots; needs no network

Each file is written whole or not at all. A measurement that is interrupted leaves a folder that says so and can be
read up to the last run that ended.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from p2pledger.bench.machine import Machine
from p2pledger.primitives.errors import InvalidInput

__all__ = ["SCHEMA", "Results"]

SCHEMA: Final = "p2pledger.bench.results/1"
_MANIFEST: Final = "manifest.json"
_RUNS: Final = "runs"


@dataclass(slots=True)
class Results:
    """The results of one command. ``arguments`` are those that ``kind`` needs to be run again."""

    folder: Path
    kind: str
    arguments: dict[str, Any]
    machine: Machine
    note: str
    """How many validators shared how many cores, and whatever else must be known to read the figures."""
    status: str = "partial"
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(cls, folder: Path, kind: str, arguments: Mapping[str, Any], machine: Machine, note: str) -> Self:
        """Makes the folder. InvalidInput (``folder_in_use``) if there is something in it already."""
        if folder.exists() and any(folder.iterdir()):
            raise InvalidInput(
                "the result folder is not empty",
                where=str(folder),
                hint="Name a new one with --out",
                code="folder_in_use",
            )
        (folder / _RUNS).mkdir(parents=True)
        results = cls(folder, kind, dict(arguments), machine, note)
        results.save()
        return results

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Reads a folder. InvalidInput where it is none, or one of another version of the schema."""
        path = folder / _MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InvalidInput(
                "there are no results", where=str(folder), why=f"no {_MANIFEST} in it", code="no_results"
            ) from None
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        schema = manifest.get("schema") if isinstance(manifest, dict) else None
        if schema != SCHEMA:
            raise InvalidInput(
                f"these results are of schema {schema}, this program reads {SCHEMA}",
                where=str(folder),
                hint="Read them with the version that wrote them, or measure again with: p2pledger bench",
                code="foreign_schema",
            )
        try:
            return cls(
                folder,
                manifest["kind"],
                manifest["arguments"],
                Machine(**manifest["machine"]),
                manifest["note"],
                manifest["status"],
                manifest["rows"],
                manifest["summary"],
            )
        except (KeyError, TypeError) as error:
            raise _unreadable(path, error) from error

    def add_run(self, values: Mapping[str, Any]) -> None:
        """Keeps a run. It counts from now on, even if the machine stops here."""
        number = len(list((self.folder / _RUNS).glob("*.json"))) + 1
        _write(self.folder / _RUNS / f"{number:03d}.json", json.dumps(values))

    def runs(self) -> Iterator[dict[str, Any]]:
        """All runs in the order in which they ended."""
        for path in sorted((self.folder / _RUNS).glob("*.json")):
            try:
                yield json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise _unreadable(path, error) from error

    def finish(self, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any] | None = None) -> None:
        """The last run is in: the results are complete."""
        self.summary, self.status = dict(summary or {}), "complete"
        self.keep(rows)

    def keep(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The rows of the runs that are in, whether others follow or not."""
        self.rows = [dict(row) for row in rows]
        if self.rows:
            table = io.StringIO()
            writer = csv.DictWriter(table, list(self.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
            _write(self.folder / "rows.csv", table.getvalue())
        self.save()

    def save(self) -> None:
        manifest = {
            "schema": SCHEMA,
            "kind": self.kind,
            "status": self.status,
            "arguments": self.arguments,
            "machine": asdict(self.machine),
            "note": self.note,
            "rows": self.rows,
            "summary": self.summary,
        }
        _write(self.folder / _MANIFEST, json.dumps(manifest, indent=2) + "\n")


def _unreadable(path: Path, error: Exception) -> InvalidInput:
    return InvalidInput("the results cannot be read", where=str(path), why=repr(error), code="no_results")


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
