"""Measuring again what a result folder measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from p2pledger.bench import capacity, finality, gossip, storage
from p2pledger.bench.progress import Progress
from p2pledger.bench.results import Results
from p2pledger.primitives.errors import InvalidInput

__all__ = ["run_again"]


def run_again(before: Results, folder: Path, progress: Progress) -> Results:
    """The same measurement with the same arguments, into another folder. InvalidInput where they are not all there."""
    measure: Callable[[Path, Progress], Results]
    try:
        match before.kind:
            case "finality":
                measure = partial(finality.measure_finality, finality.Settings.of(before.arguments))
            case "gossip":
                measure = partial(gossip.measure_gossip, gossip.Settings.of(before.arguments))
            case "capacity":
                measure = partial(capacity.measure_capacity, capacity.Settings.of(before.arguments))
            case "storage":
                measure = partial(storage.measure_storage, storage.Settings.of(before.arguments))
            case _:
                raise _unknown(before.kind)
    except (KeyError, TypeError) as error:
        raise InvalidInput(
            "the arguments of these results cannot be read",
            where=str(before.folder),
            why=repr(error),
            code="no_results",
        ) from error
    return measure(folder, progress)


def _unknown(kind: str) -> InvalidInput:
    return InvalidInput(f"results of {kind} cannot be measured again by this program", code="usage")
