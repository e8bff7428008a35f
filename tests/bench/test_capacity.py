"""What makes a probe pass, and what does not."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import asdict
from typing import Any

import pytest

from p2pledger.bench.capacity import DEFAULT_SIZES, FOUR_REGIONS, Saturated, Settings, _by_turn, judge, luck_of
from p2pledger.bench.histogram import Histogram
from p2pledger.bench.propagation import BlockTimes, stale_share
from p2pledger.bench.settling import Plan
from p2pledger.network.topology import Topology
from p2pledger.primitives.errors import InvalidInput, P2PLedgerError


def probe(**changes: Any) -> dict[str, Any]:
    """A run that passes, but for what is said."""
    latencies = Histogram.of(5_000_000, [100_000] * 1_000)
    return {
        "plan": asdict(Plan(arrivals="fixed:100", seconds=12, warmup_s=2)),
        "latencies": b64encode(latencies.encode()).decode(),
        "lag_p99_ms": 1.0,
        "offered_per_s": 100.0,
        "rejected": {},
        "timed_out": 0,
        "unfinished": 0,
        "nullified": 0,
        "faults": [],
        "series": [[at / 4, 25 * at, 25 * at - 10] for at in range(1, 49)],
        **changes,
    }


def test_one_that_keeps_everything_passes() -> None:
    assert judge(probe(), 0.9, 1_000) == []


@pytest.mark.parametrize(
    ("changes", "fill", "why"),
    [
        ({"faults": ["the nodes do not agree"]}, 0.9, "do not agree"),
        ({"lag_p99_ms": 5.1}, 0.9, "generator"),
        ({"timed_out": 1}, 0.9, "drain limit"),
        ({"unfinished": 1}, 0.9, "drain limit"),
        ({"rejected": {"insufficient_free": 1}}, 0.9, "rejected"),
        ({"nullified": 1}, 0.9, "slots failed"),
        ({}, 0.84, "full"),
        ({"series": [[at / 4, 25 * at, 24 * at] for at in range(1, 49)]}, 0.9, "backlog"),
        (
            {"latencies": b64encode(Histogram.of(5_000_000, [100_000] * 980 + [1_100_000] * 20).encode()).decode()},
            0.9,
            "p99",
        ),
    ],
)
def test_one_that_breaks_a_condition_says_which(changes: dict[str, Any], fill: float, why: str) -> None:
    [found] = judge(probe(**changes), fill, 1_000)
    assert why in found


def test_what_was_committed_after_its_client_gave_up_is_late() -> None:
    late = Histogram.of(5_000_000, [100_000] * 999 + [5_000_001])
    [found] = judge(probe(latencies=b64encode(late.encode()).decode()), 0.9, 1_000)
    assert found == "1 orders were not committed before the drain limit"
    nothing = Histogram(5_000_000, over=20)
    assert "p99 is > 5000 ms" in judge(probe(latencies=b64encode(nothing.encode()).decode()), 0.9, 1_000)


class SlowMachine:
    """Runs take their window and some time around it; blocks are full, one in ``interval_s``."""

    def __init__(self, interval_s: float, around_s: float, **changes: Any) -> None:
        self.now_s = 0.0
        self.interval_s = interval_s
        self.around_s = around_s
        self.changes = changes
        self.plans: list[Plan] = []

    def start(self, plan: Plan) -> dict[str, Any]:
        self.plans.append(plan)
        self.now_s += plan.seconds + self.around_s
        size_bytes = plan.parameters["block_bytes"]
        made_s = [
            plan.warmup_s + self.interval_s * i for i in range(int((plan.seconds - plan.warmup_s) / self.interval_s))
        ]
        times = [BlockTimes(size_bytes, 4, round(1e6 * at_s), {"final": {100: 50.0}}).values() for at_s in made_s]
        return probe(plan=asdict(plan), block_times=times, transaction_bytes=460.0, **self.changes)


@pytest.mark.parametrize("interval_s", [0.05, 1.0])
@pytest.mark.parametrize("around_s", [5.0, 45.0])
@pytest.mark.parametrize("lag_ms", [1.0, 100.0])
def test_a_quick_measurement_has_ten_minutes_whatever_the_machine_does(
    interval_s: float, around_s: float, lag_ms: float
) -> None:
    machine = SlowMachine(interval_s, around_s, lag_p99_ms=lag_ms)
    settings = Settings(DEFAULT_SIZES, 1_500, True, Plan(network=FOUR_REGIONS))
    rows, summary = _by_turn(settings, machine.start, lambda: machine.now_s)
    assert machine.now_s < 600
    assert {row["size_bytes"] for row in rows} == set(DEFAULT_SIZES)
    for row in summary["frontier"]:
        why = next(each["why"] for each in rows if each["size_bytes"] == row["size_bytes"])
        assert (row["bytes_per_s"] is None) == why.startswith("not measured")


def test_a_run_that_is_not_correct_gives_no_capacity() -> None:
    machine = SlowMachine(0.3, 5.0, faults=["the nodes do not agree"])
    rows, summary = _by_turn(Settings(DEFAULT_SIZES, 1_500, False, Plan()), machine.start, lambda: machine.now_s)
    assert [row["why"] for row in rows] == ["the nodes do not agree"] * len(DEFAULT_SIZES)
    assert summary["capacity_bytes"] is None
    assert set(summary["fit"].values()) <= {None}


def test_a_capacity_that_its_confirmation_contradicts_is_not_called_confirmed() -> None:
    machine = SlowMachine(0.3, 5.0)

    def start(plan: Plan) -> dict[str, Any]:
        return machine.start(plan) | ({"nullified": 3} if plan.seed > 1_000 else {})

    sizes = (40_000, 100_000)
    _, summary = _by_turn(Settings(sizes, 1_500, False, Plan()), start, lambda: machine.now_s)
    assert summary["capacity_bytes"] == 100_000
    assert (summary["failures"], summary["confirmed"]) == (6, False)
    assert summary["upper_bound"] > 6 / summary["slots"]


@pytest.mark.parametrize("sizes", [(40_000,), (100_000, 40_000), (40_000, 40_000), (1_000, 40_000)])
def test_sizes_ascend_and_are_two_at_least(sizes: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="sizes"):
        Settings(sizes, 1_000, True, Plan()).check()


def test_the_built_in_network_is_one_and_a_bad_one_is_refused() -> None:
    assert len(Topology.parse(FOUR_REGIONS).regions) == 4
    settings = Settings(DEFAULT_SIZES, 1_000, True, Plan(network=FOUR_REGIONS)).check()
    assert Settings.of(settings.values()) == settings
    with pytest.raises(P2PLedgerError):
        Settings(DEFAULT_SIZES, 1_000, True, Plan(network="[nonsense]")).check()


def by_luck(
    interval_s: float | None, *informed: tuple[tuple[float, float], ...], faults: tuple[str, ...] = ()
) -> Saturated:
    """Full blocks of 100,000 bytes, each known as one of the curves says."""
    times = tuple(BlockTimes(100_000, 4, number, {}, curve) for number, curve in enumerate(informed))
    return Saturated(100_000, interval_s, 460.0, times, faults)


THREE = ((0.0, 1 / 3), (40.0, 2 / 3), (60.0, 1.0))


def test_blocks_that_come_by_luck_are_judged_by_who_knows_them() -> None:
    row = luck_of([by_luck(10.0, THREE, THREE)], 100_000, 0)
    assert (row["d90_ms"], row["interval_ms"], row["bytes_per_s"], row["blocks"]) == (60.0, 10_000.0, 10_000, 2)
    assert row["stale_share"] == pytest.approx(stale_share(THREE, 10_000), abs=1e-5)
    assert (row["passed"], row["why"]) == (True, "")
    slow = luck_of([by_luck(0.05, THREE)], 100_000, 0)
    assert slow["why"] == "90 % do not know a block before the next; more than 1 % of the blocks find a rival"
    # A block that one of three never got: 90 % never knew it, and its rivals cannot be told.
    lost = luck_of([by_luck(10.0, THREE[:2])], 100_000, 0)
    assert (lost["d90_ms"], lost["stale_share"], lost["passed"]) == (None, None, False)


def test_under_pos_a_row_says_what_is_won_twice_however_small_blocks_are() -> None:
    row = luck_of([by_luck(0.4, THREE)], 100_000, 100.0)
    assert row["stale_share"] == pytest.approx(stale_share(((0.0, 1 / 3), (1.0, 1.0)), 400, 100), abs=1e-5)
    assert "8.0% in the same slot" in row["why"]


def test_a_run_that_is_not_correct_gives_no_figure() -> None:
    row = luck_of([by_luck(10.0, THREE), by_luck(None, faults=("the nodes do not agree",))], 100_000, 0)
    assert row == {"passed": False, "why": "the nodes do not agree"}
    assert luck_of([by_luck(None)], 100_000, 0)["why"] == "the machine could not fill such blocks"
