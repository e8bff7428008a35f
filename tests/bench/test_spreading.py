"""Payloads over real sockets, TLS and handshakes, in one process."""

from __future__ import annotations

import pytest

from p2pledger.bench.gossip import Settings, rows_of
from p2pledger.bench.spreading import SpreadPlan, run_spread
from p2pledger.primitives.errors import InvalidInput
from tests.bench.silent import Silent


@pytest.mark.parametrize(
    ("nodes", "degree", "size_bytes"), [(4, 0, 1_000), (4, 0, 300_000), (8, 4, 1_000), (8, 4, 300_000)]
)
async def test_every_payload_reaches_every_node_whole(nodes: int, degree: int, size_bytes: int) -> None:
    plan = SpreadPlan(nodes, degree, size_bytes, "fixed:20", seconds=1.0, warmup_s=0.1, limit_s=20.0)
    run = await run_spread(plan, Silent())
    assert run.faults == ()
    assert run.delivered == run.submitted == 18
    assert run.deliveries == 20 * (nodes - 1)
    assert run.wire_in >= 1
    if size_bytes > 100_000:
        assert run.wire_in < 1.5  # also where it is relayed, a large payload comes in about once
    [row] = rows_of([{**run.values(), "plan": run.values()["plan"]}])
    assert (row["size_bytes"], row["nodes"], row["delivered_share"], row["correct"]) == (size_bytes, nodes, 1.0, True)


def test_each_node_has_its_degree_and_no_neighbour_twice() -> None:
    edges = SpreadPlan(32, 4).edges()
    degrees = [sum(node in edge for edge in edges) for node in range(32)]
    assert degrees == [4] * 32
    assert len(set(edges)) == len(edges)
    assert len(SpreadPlan(8).edges()) == 28


@pytest.mark.parametrize(
    "plan",
    [
        SpreadPlan(nodes=1),
        SpreadPlan(seconds=float("inf")),
        SpreadPlan(limit_s=float("inf")),
        SpreadPlan(nodes=8, degree=3),
        SpreadPlan(nodes=4, degree=4),
        SpreadPlan(size_bytes=8),
        SpreadPlan(size_bytes=2**30),
        SpreadPlan(arrivals="sometimes"),
        SpreadPlan(seconds=1, warmup_s=1),
        SpreadPlan(arrivals="burst:1,50", seconds=10, warmup_s=1),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(plan: SpreadPlan) -> None:
    with pytest.raises(InvalidInput):
        plan.check()


@pytest.mark.parametrize("load", ["1000", "@5", "x@5", "1000@never"])
def test_what_is_no_load_is_refused(load: str) -> None:
    with pytest.raises(InvalidInput):
        Settings((load,), 1, SpreadPlan()).plans()
