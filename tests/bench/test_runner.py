"""Runs in processes of their own: how long they may take."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from p2pledger.bench.runner import fresh_run
from p2pledger.primitives.errors import P2PLedgerError
from tests.bench.silent import Silent

ECHO = (sys.executable, "-c", "import json, sys; print(json.dumps({'run': json.load(sys.stdin)['plan']}))")
ENDLESS = (sys.executable, "-c", "import threading; threading.Event().wait()")
"""Ends only when it is interrupted."""
REFUSING = """
import json, signal, sys, threading
met = threading.Event()
signal.signal(signal.SIGINT, lambda *_: met.set())
error = {"code": "usage", "what": "no such engine", "where": "", "why": "", "hint": ""}
print(json.dumps({"error": error}), flush=True)
sys.exit(print("interrupted while it ended", file=sys.stderr) if met.wait(0.5) else 1)
"""
"""Takes a moment to end behind its error, as an interpreter does."""
FAILING = (sys.executable, "-c", "import sys; sys.exit(3)")


def test_a_run_that_ends_in_time_gives_its_values() -> None:
    assert fresh_run("settling", {"seed": 7}, Silent(), 60.0, ECHO) == {"seed": 7}
    assert fresh_run("settling", {"seed": 8}, Silent(), command=ECHO) == {"seed": 8}


def test_a_run_that_is_overdue_is_interrupted() -> None:
    with pytest.raises(P2PLedgerError, match="longer than it may") as raised:
        fresh_run("settling", {}, Silent(), 0.2, ENDLESS)
    assert raised.value.code == "overdue"


def test_a_run_that_just_ends_is_told_as_that() -> None:
    with pytest.raises(P2PLedgerError, match="without a result") as raised:
        fresh_run("settling", {}, Silent(), 60.0, FAILING)
    assert raised.value.code == "run_failed"


def test_a_run_that_told_its_error_is_not_interrupted_while_it_ends(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(P2PLedgerError, match="no such engine") as raised:
        fresh_run("settling", {}, Silent(), 60.0, (sys.executable, "-c", REFUSING))
    assert raised.value.code == "usage"
    assert capfd.readouterr().err == ""


def test_a_worker_whose_reader_is_gone_ends_without_a_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    task = json.dumps({"kind": "settling", "plan": {"engine": "raft"}})
    worker = subprocess.run(
        (sys.executable, "-m", "p2pledger.bench.worker"), input=task, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert (worker.returncode, worker.stderr) == (1, "")
