"""One measured run on a real cluster, in small."""

from __future__ import annotations

import pytest

from p2pledger.bench.settling import Plan, run_plan
from p2pledger.primitives.errors import InvalidInput


class Silent:
    def say(self, sentence: str) -> None:
        pass

    def show(self, elapsed_s: float, expected_s: float, done: int) -> None:
        pass


async def test_a_thousand_legs_settle_by_one_operation_and_are_counted_again() -> None:
    plan = Plan("thousand-leg", "fixed:1", seconds=2, warmup_s=0, validators=1, gateways=1)
    run = await run_plan(plan, Silent())
    assert run.faults == ()  # among them: holdings as books of its own say after 2,000 legs
    assert (run.submitted, run.committed) == (2, 2)


async def test_a_run_follows_its_blocks_and_keeps_its_accounts() -> None:
    plan = Plan("hot-account", "poisson:60", seconds=2, warmup_s=0.5, validators=2, gateways=2, trace=True)
    run = await run_plan(plan, Silent())
    assert run.faults == ()
    assert run.submitted == run.committed + run.timed_out + run.unfinished + sum(run.rejected.values())
    assert len(run.latencies) == run.submitted
    assert run.block_times
    assert all(set(block.times_ms) >= {"voted", "final", "executed"} for block in run.block_times)
    assert {node.name for node in run.nodes} == {"CCDC", "CSDC"}
    assert all(node.bytes_in > 0 for node in run.nodes)


@pytest.mark.parametrize(
    "plan",
    [
        Plan(seconds=1, warmup_s=1),
        Plan(arrivals="now"),
        Plan(workload="x"),
        Plan(parameters={"speed": 1}),
        Plan(limit_s=0),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(plan: Plan) -> None:
    with pytest.raises(InvalidInput):
        plan.check()
