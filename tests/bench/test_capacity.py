"""What makes a probe pass, and what does not."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import asdict
from statistics import fmean
from typing import Any

import pytest

from p2pledger.bench.capacity import (
    DEFAULT_SIZES,
    FOUR_REGIONS,
    Saturated,
    Settings,
    _by_luck,
    _by_turn,
    _Load,
    _next_load,
    _Time,
    interval_parameters,
    judge,
    luck_of,
)
from p2pledger.bench.histogram import Histogram
from p2pledger.bench.propagation import BlockTimes, stale_share
from p2pledger.bench.settling import Plan
from p2pledger.cluster.development import block_ms
from p2pledger.network.topology import Topology
from p2pledger.primitives.errors import BadConfiguration, InvalidInput, P2PLedgerError


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


class SmallNetwork:
    """A network whose blocks take ``floor_s`` and some for each byte, or their least interval if that is longer.

    It is offered orders of 460 bytes, which come in four batches a block. What it cannot carry waits: then blocks are
    full and orders late. Runs take their window and some time around it, and are interrupted when they take too long.
    """

    def __init__(self, floor_s: float, s_per_byte: float = 0.0, around_s: float = 5.0, **changes: Any) -> None:
        self.now_s = 0.0
        self.floor_s = floor_s
        self.s_per_byte = s_per_byte
        self.around_s = around_s
        self.changes = changes
        self.plans: list[Plan] = []

    def interval_s(self, plan: Plan, size_bytes: float) -> float:
        least_s = plan.parameters.get("block_interval_ms", 20) / 1000 if plan.engine == "simplex" else 0.0
        return max(least_s, self.floor_s + self.s_per_byte * size_bytes)

    def start(self, plan: Plan, within_s: float | None) -> dict[str, Any]:
        self.plans.append(plan)
        kind, _, rate = plan.arrivals.partition(":")
        assert kind in ("fixed", "poisson")
        taken_s = plan.seconds * (1 + float(rate) / 12_000) + self.around_s
        if within_s is not None and taken_s > within_s:
            self.now_s += within_s + 30
            raise P2PLedgerError("a run took longer than it may", code="overdue")
        self.now_s += taken_s
        most_bytes = plan.parameters["block_bytes"]
        size_bytes = 0.0
        for _ in range(200):  # to the size at which a block carries what comes in its time
            size_bytes = min(most_bytes, 640 + 460 * float(rate) * self.interval_s(plan, size_bytes))
        interval_s = self.interval_s(plan, size_bytes)
        late_ms = 3_000 if size_bytes == most_bytes else 100
        made_s = [plan.warmup_s + interval_s * i for i in range(int((plan.seconds - plan.warmup_s) / interval_s))]
        times = [
            BlockTimes(round(size_bytes), 4, round(1e6 * at_s), {"final": {100: 50.0}}).values() for at_s in made_s
        ]
        changes = {
            "latencies": b64encode(Histogram.of(5_000_000, [1_000 * late_ms] * 1_000).encode()).decode(),
            "offered_per_s": float(rate),
            **self.changes,
        }
        return probe(plan=asdict(plan), block_times=times, transaction_bytes=460.0, **changes)


def measured(
    network: SmallNetwork, sizes: tuple[int, ...] = DEFAULT_SIZES, *, quick: bool = False, engine: str = "simplex"
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    settings = Settings(sizes, 1_500, quick, Plan(network=FOUR_REGIONS, engine=engine))
    left = _Time(is_quick=quick, now_s=lambda: network.now_s)
    return _by_turn(settings, network.start, left, lambda rows: None)


@pytest.mark.parametrize("floor_s", [0.05, 1.0])
@pytest.mark.parametrize("around_s", [5.0, 45.0, 130.0, 700.0])
@pytest.mark.parametrize("lag_ms", [1.0, 100.0])
def test_a_quick_measurement_has_ten_minutes_whatever_the_machine_does(
    floor_s: float, around_s: float, lag_ms: float
) -> None:
    network = SmallNetwork(floor_s, 1e-7, around_s, lag_p99_ms=lag_ms)
    rows, summary = measured(network, quick=True)
    assert network.now_s < 600
    assert {row["size_bytes"] for row in rows} == set(DEFAULT_SIZES)
    for row in summary["frontier"]:
        why = next(each["why"] for each in rows if each["size_bytes"] == row["size_bytes"])
        is_open = any(said in why for said in ("not measured", "generator was", "could not fill"))
        assert (row["bytes_per_s"] is None) == is_open


def test_a_quick_measurement_of_blocks_that_grow_slower_gives_fit_and_frontier() -> None:
    network = SmallNetwork(0.1, 2e-7, 12.0)
    rows, summary = measured(network, quick=True)
    assert [row["size_bytes"] for row in rows if row["passed"]] == list(DEFAULT_SIZES)
    assert all(row["fill"] >= 0.85 and row["share"] == 0.9 for row in rows)
    assert summary["fit"]["final_100"] is not None
    assert all(row["last_pass"] == 0.9 for row in summary["frontier"])
    assert summary["slots_of"] == f"all probes of blocks of {summary['capacity_bytes']:,} bytes: 1"


def test_blocks_of_a_probe_come_no_sooner_than_full_ones() -> None:
    network = SmallNetwork(0.1, 1e-6)
    rows, _ = measured(network, (100_000, 640_000))
    # As fast as they can, blocks of 640,000 bytes would be half full at 0.9 of what saturation gives.
    assert [(row["interval_ms"], row["paced_ms"], row["passed"]) for row in rows[:2]] == [
        (200.0, 200, True),
        (740.0, 740, True),
    ]
    assert [row["fill"] for row in rows[:2]] == pytest.approx([0.9, 0.9], abs=0.01)


@pytest.mark.parametrize("intervals_s", [(0.1,), (0.06, 0.14), (0.05, 0.07, 0.15, 0.13), (0.2, 0.25, 0.26, 0.3, 0.31)])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.9, 0.95])
def test_the_pace_is_that_at_which_blocks_come_as_seldom_as_full_ones(
    intervals_s: tuple[float, ...], share: float
) -> None:
    pace_s = Saturated(100_000, intervals_s, 460.0, ()).pace_s(share)
    coming_s = fmean(max(pace_s, 0.9 * interval_s) for interval_s in intervals_s)
    assert coming_s == pytest.approx(max(1.0, 0.9 / share) * fmean(intervals_s))
    # Should they take as long as full ones, or a tenth less, they are between 85 and 97 % full at 0.9.
    for factor in (1.0, 0.9):
        fill = 0.9 * fmean(max(pace_s, factor * interval_s) for interval_s in intervals_s) / fmean(intervals_s)
        assert share != 0.9 or 0.85 < fill < 0.97


def test_less_load_is_tried_in_blocks_as_full() -> None:
    network = SmallNetwork(0.2)
    start = network.start

    def overrun(plan: Plan, within_s: float | None) -> dict[str, Any]:
        late = (
            {"timed_out": 1}
            if plan.arrivals.startswith("poisson") and plan.parameters["block_interval_ms"] < 240
            else {}
        )
        return start(plan, within_s) | late

    network.start = overrun  # type: ignore[method-assign]
    rows, summary = measured(network, (100_000, 250_000))
    assert [(row["share"], row["paced_ms"], row["passed"]) for row in rows[:2]] == [
        (0.9, 200, False),
        (0.8, 225, False),
    ]
    assert rows[1]["fill"] == pytest.approx(0.9, abs=0.01)
    assert summary["frontier"][0] | {"bytes_per_s": 0} == {
        "size_bytes": 100_000,
        "bytes_per_s": 0,
        "last_pass": 0.7,
        "first_fail": 0.8,
    }


def test_too_empty_blocks_that_kept_everything_else_are_offered_more() -> None:
    # In slots no parameter sets a pace: at 0.9 blocks that grow slower are 67 % full.
    network = SmallNetwork(0.1, 3e-7)
    rows, summary = measured(network, (100_000, 640_000), engine="poa")
    large = [row for row in rows if row["size_bytes"] == 640_000]
    assert [row["paced_ms"] for row in large] == [None] * len(large)
    assert [row["why"] for row in large[:-1]] == ["blocks were 76% full"]
    assert [row["share"] for row in large] == pytest.approx([0.9, 1.0], abs=0.1)
    assert summary["frontier"][1]["first_fail"] is None or summary["frontier"][1]["first_fail"] > 0.9


@pytest.mark.parametrize(
    ("probed", "share"),
    [
        ([(0.9, 0.9, "")], None),
        ([(0.9, 0.9, "p99 is 2000 ms")], 0.8),
        ([(0.9, 0.66, "p99 is 2000 ms")], 0.6),
        ([(0.9, 0.5, "p99 is 2000 ms; blocks were 50% full")], 0.4),
        ([(0.9, 0.1, "p99 is 2000 ms")], None),
        ([(0.9, 0.81, "blocks were 81% full")], 1.0),
        ([(0.9, 0.84, "blocks were 84% full")], 0.964),
        ([(0.9, 0.84, "blocks were 84% full"), (0.964, 0.95, "p99 is 2000 ms")], None),
        ([(0.9, 0.9, "p99 is 2000 ms"), (0.7, 0.8, "blocks were 80% full")], 0.787),
        ([(0.9, 0.9, "p99 is 2000 ms"), (0.7, 0.6, "blocks were 60% full")], None),
        ([(1.0, 0.8, "blocks were 80% full")], None),
        ([(0.3, 0.9, "p99 is 2000 ms")], None),
    ],
)
def test_the_next_load_is_less_for_what_was_too_much_and_more_for_what_was_too_empty(
    probed: list[tuple[float, float, str]], share: float | None
) -> None:
    """``probed``: what was offered, how full the blocks were and how much they carried, why it did not pass."""
    rows = [
        {"share": at, "paced_ms": None, "fill": fill, "carried_share": fill, "why": why, "passed": not why}
        for at, fill, why in probed
    ]
    assert _next_load(rows) == (None if share is None else _Load(share))


def test_too_empty_blocks_that_are_paced_come_later_still_under_the_same_load() -> None:
    row = {"share": 0.9, "paced_ms": 100, "fill": 0.8, "carried_share": 0.9, "why": "blocks were 80% full"}
    rows = [{**row, "passed": False}]
    assert _next_load(rows) == _Load(0.9, 112)
    assert _next_load([*rows, *rows, *rows]) is None


def test_a_network_that_became_faster_is_paced_again() -> None:
    network = SmallNetwork(0.1, 3e-7)
    start = network.start

    def faster(plan: Plan, within_s: float | None) -> dict[str, Any]:
        run = start(plan, within_s)
        network.floor_s = 0.05 if len(network.plans) >= 2 else 0.1
        return run

    network.start = faster  # type: ignore[method-assign]
    rows, summary = measured(network, quick=True)
    assert all(row["share"] == 0.9 for row in rows)
    assert all(row["last_pass"] == 0.9 and row["first_fail"] is None for row in summary["frontier"])


def test_where_the_generator_is_at_its_end_blocks_are_measured_as_it_fills_them() -> None:
    network = SmallNetwork(0.1, 1e-8)
    rows, summary = measured(network, (640_000, 2_000_000))
    assert network.plans[-1].arrivals != "fixed:9000.0"
    large = rows[-1]
    # 9,000 orders a second fill 2,000,000 bytes in some 480 ms, although such blocks take 120.
    assert large["interval_ms"] == pytest.approx(500, abs=25)
    assert large["passed"]
    assert (summary["capacity_bytes"], summary["binds"]) == (640_000, "generator")


def test_rows_are_kept_as_they_come() -> None:
    network = SmallNetwork(0.1)
    kept: list[int] = []
    settings = Settings(DEFAULT_SIZES, 1_500, True, Plan())
    left = _Time(is_quick=True, now_s=lambda: network.now_s)
    rows, _ = _by_turn(settings, network.start, left, lambda rows: kept.append(len(rows)))
    assert kept == [*range(1, len(rows) + 1), len(rows)]


def test_what_the_frames_of_batches_take_is_not_offered_as_orders() -> None:
    times = tuple(BlockTimes(9_500 + 500 * at, 10, 100_000 * at, {}) for at in range(2))
    found = Saturated(10_000, (0.1,), 460.0, times)
    assert found.orders_per_block == pytest.approx((10_000 - 10 * 160) / 460)
    assert found.carried_per_s == pytest.approx((10_000 - 10 * 160) / 460 / 0.1)


def test_a_run_that_is_not_correct_gives_no_capacity() -> None:
    rows, summary = measured(SmallNetwork(0.3, faults=["the nodes do not agree"]))
    assert [row["why"] for row in rows] == ["the nodes do not agree"] * len(DEFAULT_SIZES)
    assert summary["capacity_bytes"] is None
    assert set(summary["fit"].values()) <= {None}


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [({"faults": ["VENUE-A did not answer at the end"]}, "VENUE-A did"), ({"lag_p99_ms": 90.0}, "generator was 90 ms")],
)
def test_a_dead_node_and_a_late_generator_are_told_and_never_as_a_figure(spoilt: dict[str, Any], why: str) -> None:
    network = SmallNetwork(0.3)

    def start(plan: Plan, within_s: float | None) -> dict[str, Any]:
        return network.start(plan, within_s) | (spoilt if plan.arrivals.startswith("poisson") else {})

    settings = Settings((40_000, 100_000), 1_500, True, Plan())
    left = _Time(is_quick=True, now_s=lambda: network.now_s)
    rows, summary = _by_turn(settings, start, left, lambda rows: None)
    assert all(why in row["why"] for row in rows)
    figures = ("bytes_per_s", "p50_ms", "p99_ms", "fill", "carried_share", "blocks", "nullified")
    assert all(row[name] is None for row in rows for name in figures)
    assert [(row["bytes_per_s"], row["first_fail"]) for row in summary["frontier"]] == [(None, None)] * 2
    assert [row["share"] for row in rows if row["size_bytes"] == 40_000][:2] == [0.9, 0.8]


def test_a_confirmation_without_figures_confirms_nothing() -> None:
    network = SmallNetwork(0.3)

    def start(plan: Plan, within_s: float | None) -> dict[str, Any]:
        return network.start(plan, within_s) | ({"faults": ["VENUE-A is gone"]} if plan.seed > 1_000 else {})

    settings = Settings((40_000, 100_000), 1_500, False, Plan())
    left = _Time(is_quick=False, now_s=lambda: network.now_s)
    _, summary = _by_turn(settings, start, left, lambda rows: None)
    assert (summary["failures"], summary["upper_bound"], summary["confirmed"]) == (None, None, False)


def test_a_capacity_that_its_confirmation_contradicts_is_not_called_confirmed() -> None:
    network = SmallNetwork(0.3)

    def start(plan: Plan, within_s: float | None) -> dict[str, Any]:
        return network.start(plan, within_s) | ({"nullified": 3} if plan.seed > 1_000 else {})

    settings = Settings((40_000, 100_000), 1_500, False, Plan())
    left = _Time(is_quick=False, now_s=lambda: network.now_s)
    _, summary = _by_turn(settings, start, left, lambda rows: None)
    assert summary["capacity_bytes"] == 100_000
    assert (summary["failures"], summary["confirmed"]) == (6, False)
    assert summary["upper_bound"] > 6 / summary["slots"]
    assert summary["slots_of"] == "the confirming probes of blocks of 100,000 bytes: 2"


def test_the_failed_slots_of_a_quick_answer_are_those_of_all_its_probes() -> None:
    network = SmallNetwork(0.3)

    def start(plan: Plan, within_s: float | None) -> dict[str, Any]:
        is_first = plan.arrivals.startswith("poisson") and plan.parameters["block_interval_ms"] <= 300
        return network.start(plan, within_s) | ({"nullified": 2} if is_first else {})

    settings = Settings((40_000, 100_000), 1_500, True, Plan())
    left = _Time(is_quick=True, now_s=lambda: network.now_s)
    rows, summary = _by_turn(settings, start, left, lambda rows: None)
    assert [(row["share"], row["passed"]) for row in rows] == [(0.9, False), (0.8, True)] * 2
    assert (summary["failures"], summary["slots_of"]) == (2, "all probes of blocks of 100,000 bytes: 2")
    assert summary["slots"] == 2 + sum(row["blocks"] for row in rows[2:])


@pytest.mark.parametrize(
    ("engine", "parameters"),
    [
        ("simplex", {"block_interval_ms": 800, "view_timeout_ms": 3_200, "view_timeout_cap_ms": 16_000}),
        ("poa", {"slot_ms": 800}),
        ("dpos", {"slot_ms": 800}),
        ("pos", {"slot_ms": 200}),
    ],
)
def test_the_time_between_blocks_is_set_for_each_engine(engine: str, parameters: dict[str, int]) -> None:
    assert interval_parameters(engine, 800) == parameters
    plan = Plan(engine=engine, parameters=parameters)
    plan.cluster_parameters().check()
    if engine != "simplex":
        assert block_ms(engine, plan.cluster_parameters()) == 800


def test_work_is_set_by_what_the_machine_hashes_in_the_time_of_a_block() -> None:
    parameters = interval_parameters("pow", 800)
    assert parameters["slot_ms"] == 800
    assert parameters["initial_difficulty"] > 1


@pytest.mark.parametrize("around_s", [5.0, 700.0])
def test_blocks_by_luck_are_measured_within_ten_minutes_too(around_s: float) -> None:
    network = SmallNetwork(4.0, 0.0, around_s)
    settings = Settings(DEFAULT_SIZES, 1_500, True, Plan(engine="pow", parameters={"slot_ms": 4_000}))
    rows, summary = _by_luck(
        settings, network.start, _Time(is_quick=True, now_s=lambda: network.now_s), lambda rows: None
    )
    assert network.now_s < 600
    assert [row["size_bytes"] for row in rows] == list(DEFAULT_SIZES)
    assert len(summary["frontier"]) == len(rows)
    assert (rows[0]["interval_ms"] is None) == (around_s > 100)


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
    with pytest.raises(BadConfiguration, match="'CCCD', which is no node here") as raised:
        Settings(DEFAULT_SIZES, 1_000, True, Plan(network='[regions.frankfurt]\nnodes = ["CCCD"]')).check()
    assert "CCDC" in raised.value.hint


@pytest.mark.parametrize("objective_ms", [0.0, -1.0, float("nan"), float("inf")])
def test_an_objective_is_a_time(objective_ms: float) -> None:
    with pytest.raises(InvalidInput, match="objective"):
        Settings(DEFAULT_SIZES, objective_ms, True, Plan()).check()


def test_a_size_that_no_block_can_have_is_refused_before_anything_starts() -> None:
    with pytest.raises(BadConfiguration, match="block_bytes"):
        Settings((16_384, 10**20), 1_000, True, Plan()).check()


def by_luck(
    interval_s: float | None, *informed: tuple[tuple[float, float], ...], faults: tuple[str, ...] = ()
) -> Saturated:
    """Full blocks of 100,000 bytes, each known as one of the curves says."""
    times = tuple(BlockTimes(100_000, 4, number, {}, curve) for number, curve in enumerate(informed))
    return Saturated(100_000, (interval_s,) if interval_s else (), 460.0, times, faults)


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
