"""Runs in processes of their own: how long they may take."""

from __future__ import annotations

import sys

import pytest

from p2pledger.bench.runner import fresh_run
from p2pledger.primitives.errors import P2PLedgerError
from tests.bench.silent import Silent

ECHO = (sys.executable, "-c", "import json, sys; print(json.dumps({'run': json.load(sys.stdin)['plan']}))")
ENDLESS = (sys.executable, "-c", "import threading; threading.Event().wait()")
"""Ends only when it is interrupted."""
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
