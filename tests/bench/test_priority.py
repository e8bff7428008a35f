"""The generator runs ahead of others while its window is open, and only then."""

from __future__ import annotations

import os

import pytest

from p2pledger.bench.priority import ahead_of_others, may_run_ahead


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no scheduling policies here")
def test_the_policy_is_what_it_was_afterwards() -> None:
    before = os.sched_getscheduler(0)
    with ahead_of_others() as is_ahead:
        assert (os.sched_getscheduler(0) != before) == is_ahead
    assert os.sched_getscheduler(0) == before
    assert may_run_ahead() == is_ahead
