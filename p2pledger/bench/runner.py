"""Starts runs, each in a fresh process, one after another, and follows what they tell."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Event, Timer
from typing import Any, Final

from p2pledger.bench.progress import Progress
from p2pledger.primitives.errors import P2PLedgerError

__all__ = ["fresh_run"]

_END_WITHIN_S: Final = 30.0
_WORKER: Final = (sys.executable, "-m", "p2pledger.bench.worker")


def fresh_run(
    kind: str,
    plan: Mapping[str, Any],
    progress: Progress,
    within_s: float | None = None,
    command: Sequence[str] = _WORKER,
) -> dict[str, Any]:
    """The values of one run (``Run.values``). P2PLedgerError as the run raised it, or where its process just ended.

    An interruption is passed on, and waits until the run's cluster is down. So does the end of ``within_s``: what has
    not ended by then is interrupted, and raises with the code ``overdue`` half a minute later at most. ``command`` is
    the program that is given the plan on its input.
    """
    process = subprocess.Popen(
        list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    overdue = Event()

    def interrupt() -> None:
        overdue.set()
        process.send_signal(signal.SIGINT)

    alarms = []
    if within_s is not None:
        alarms = [Timer(max(0.0, within_s), interrupt), Timer(max(0.0, within_s) + _END_WITHIN_S, process.kill)]
    for alarm in alarms:
        alarm.daemon = True
        alarm.start()
    try:
        with process.stdin:
            json.dump({"kind": kind, "plan": dict(plan)}, process.stdin)
        values: dict[str, Any] | None = None
        for line in process.stdout:
            told = json.loads(line)
            if "say" in told:
                progress.say(told["say"])
            elif "show" in told:
                progress.show(*told["show"])
            elif "error" in told:
                # It ends by itself now; to interrupt it while it does would only make it complain.
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_END_WITHIN_S)
                if overdue.is_set():
                    break  # the error is what the interruption made of it
                error = told["error"]
                raise P2PLedgerError(error.pop("what"), **error)
            else:
                values = told["run"]
        code = process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    finally:
        for alarm in alarms:
            alarm.cancel()
        process.stdout.close()
    if values is None and overdue.is_set():
        raise P2PLedgerError("a run took longer than it may", why=f"{within_s:.0f} s", code="overdue")
    if values is None:
        raise P2PLedgerError("a run ended without a result", why=f"exit code {code}", code="run_failed")
    return values
