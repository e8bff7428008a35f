"""Measuring again what a result folder measured."""

from __future__ import annotations

from pathlib import Path

from p2pledger.bench import capacity, finality, gossip, storage
from p2pledger.bench.progress import Progress
from p2pledger.bench.results import Results
from p2pledger.primitives.errors import InvalidInput

__all__ = ["run_again"]


def run_again(before: Results, folder: Path, progress: Progress) -> Results:
    """The same measurement with the same arguments, into another folder."""
    arguments = before.arguments
    match before.kind:
        case "finality":
            return finality.measure_finality(finality.Settings.of(arguments), folder, progress)
        case "gossip":
            return gossip.measure_gossip(gossip.Settings.of(arguments), folder, progress)
        case "capacity":
            return capacity.measure_capacity(capacity.Settings.of(arguments), folder, progress)
        case "storage":
            return storage.measure_storage(storage.Settings.of(arguments), folder, progress)
    raise InvalidInput(f"results of {before.kind} cannot be measured again by this program", code="usage")
