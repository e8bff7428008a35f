"""One run in a process of its own: ``python -m p2pledger.bench.worker``, plan in, run out.

Repetitions that share a process share its memory, its caches and its garbage: they are not repetitions. So each run
gets a fresh one. The plan comes as one JSON object on stdin; on stdout go lines of JSON, each with one key:

    {"say": sentence}   {"show": [elapsed_s, expected_s, done]}   {"run": {...}}   {"error": {code, what, ...}}
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["main"]


def _tell(key: str, value: Any) -> None:
    print(json.dumps({key: value}), flush=True)


def _tell_error(**error: str) -> None:
    try:
        _tell("error", error)
    except BrokenPipeError:
        # Whoever asked was killed, and nobody reads this. The interpreter must not try it again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Told:
    def say(self, sentence: str) -> None:
        _tell("say", sentence)

    def show(self, elapsed_s: float, expected_s: float, committed: int) -> None:
        _tell("show", [elapsed_s, expected_s, committed])


def main() -> int:
    """Exit code 0 with a run, 1 with an error that has been told, 130 after an interruption, at any moment."""
    try:
        # Importing takes longer than many an interruption waits.
        _run(json.load(sys.stdin))
    except BaseException as error:
        causes = list(_leaves(error))
        # What else is in a group with an interruption are the ends of what was interrupted.
        if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
            return 130
        from p2pledger.primitives.errors import P2PLedgerError

        for cause in causes:
            if isinstance(cause, P2PLedgerError):
                _tell_error(**{name: getattr(cause, name) for name in ("code", "what", "where", "why", "hint")})
                return 1
        for cause in causes:
            if isinstance(cause, OSError):
                _tell_error(code="system", what=str(cause), where="", why="", hint="")
                return 1
        raise
    return 0


def _run(task: dict[str, Any]) -> None:
    import trio

    from p2pledger.bench.settling import Plan, run_plan
    from p2pledger.bench.spreading import SpreadPlan, run_spread
    from p2pledger.bench.storage import StoragePlan, run_storage

    # A collection in the middle of the window would be a stall of the generator, not of the ledger.
    gc.disable()
    if task["kind"] == "settling":
        _tell("run", trio.run(run_plan, Plan(**task["plan"]), _Told()).values())
    elif task["kind"] == "spreading":
        _tell("run", trio.run(run_spread, SpreadPlan(**task["plan"]), _Told()).values())
    elif task["kind"] == "storage":
        _tell("run", trio.run(run_storage, StoragePlan(**task["plan"]), _Told()))
    else:
        raise AssertionError(f"no runs of kind {task['kind']!r}")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


if __name__ == "__main__":
    sys.exit(main())
