"""One measured run on a real cluster, in small."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest

from p2pledger.bench.settling import Plan, failed_slots, nullified_between, run_plan
from p2pledger.primitives.blocks import Header
from p2pledger.primitives.errors import InvalidInput
from tests.bench.silent import Silent
from tests.primitives.samples import header


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
        Plan(seconds=float("inf")),
        Plan(limit_s=float("inf")),
        Plan(engine="raft"),
        Plan(validators=41),
        Plan(parameters={"block_bytes": 2**63}),
        Plan(network='[regions.frankfurt]\nnodes = ["CCCD"]'),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(plan: Plan) -> None:
    with pytest.raises(InvalidInput):
        plan.check()


async def test_a_file_that_is_too_short_for_what_falls_due_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    row = "broker-1,broker-2,CNE100000007@CSDC,100,CNY@ICBC,5000\n"
    path.write_text("seller,buyer,asset,quantity,money,price\n" + 3 * row, encoding="utf-8")
    with pytest.raises(InvalidInput, match="has 3 trades, and 20 fall due") as caught:
        await run_plan(Plan(f"file:{path}", "fixed:10", seconds=2, warmup_s=0), Silent())
    assert caught.value.hint.endswith("--seconds 0.3")


async def test_failed_views_are_counted_in_every_epoch() -> None:
    """An epoch of 1,000 blocks ends within a long run; what failed before and behind it has failed."""
    views = list(accumulate([1] * 2_500, initial=1))
    for height in (10, 999, 1_001, 2_400):
        views[height:] = [view + 2 for view in views[height:]]  # two views without a block
    for height in (1_000, 2_000):
        views[height:] = [view + 1 for view in views[height:]]  # a block that closes the epoch before
    asked: list[int] = []

    async def header_at(height: int) -> Header:
        asked.append(height)
        return replace(header(height), epoch=height // 1_000, view=views[height])

    found = await nullified_between(await header_at(1), await header_at(2_499), header_at)
    assert found == 8
    assert len(asked) < 60


def test_a_slot_fails_where_somebody_waited_through_it_and_no_block_came_to_stay() -> None:
    taken = (10, 11, 13, 17, 20)
    # An order waits from the middle of slot 10 to that of 18: through 11 to 17, of which 12, 14, 15, 16 gave nothing.
    assert failed_slots(taken, [(5.25, 9.25)], 0.5) == 4
    assert failed_slots(taken, [(5.25, 9.25), (6.0, 9.0)], 0.5) == 4  # each slot once
    # Nobody waited through 18 and 19 as a whole: that nothing came then is rest.
    assert failed_slots(taken, [(9.25, 9.9)], 0.5) == 0
    # Behind the last block of the chain nothing is known yet.
    assert failed_slots(taken, [(9.5, 60.0)], 0.5) == 1
    assert failed_slots((), [(0.0, 9.0)], 0.5) == 0


async def test_slots_in_which_an_engine_rests_have_not_failed() -> None:
    plan = Plan("dvp", "fixed:0.5", seconds=4, warmup_s=1, validators=1, gateways=1, engine="poa")
    run = await run_plan(plan, Silent())
    assert run.faults == ()
    assert run.nullified == 0
