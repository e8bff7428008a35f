"""What a trade costs on disk."""

from __future__ import annotations

import pytest

from p2pledger.bench.storage import Settings, StoragePlan, rows_of, run_storage
from p2pledger.primitives.errors import InvalidInput
from tests.bench.silent import Silent


async def test_trades_are_weighed_and_the_nodes_come_back_where_they_were() -> None:
    run = await run_storage(StoragePlan(trades=300, validators=1), Silent())
    assert run["faults"] == []
    assert run["bytes_per_trade in chain.db"] > 300  # a trade alone has more bytes than that
    assert run["restart_s"] > 0
    rows = rows_of([run, run])
    assert {row["what"] for row in rows} >= {"bytes_per_trade", "restart_s"}
    assert all(row["correct"] for row in rows)
    assert rows_of([run, {**run, "faults": ["roots"]}])[0]["value"] is None


def test_what_cannot_be_run_is_refused() -> None:
    for plan in (
        StoragePlan(trades=0),
        StoragePlan(validators=0),
        StoragePlan(workload="none"),
        StoragePlan(engine="pow"),
    ):
        with pytest.raises(InvalidInput):
            plan.check()
    settings = Settings(2, StoragePlan())
    assert Settings.of(settings.values()) == settings
