"""What makes a probe pass, and what does not."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import asdict
from typing import Any

import pytest

from p2pledger.bench.capacity import DEFAULT_SIZES, FOUR_REGIONS, Settings, judge
from p2pledger.bench.histogram import Histogram
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
        ({"latencies": b64encode(Histogram(5_000_000, over=20).encode()).decode()}, 0.9, "> 5000"),
    ],
)
def test_one_that_breaks_a_condition_says_which(changes: dict[str, Any], fill: float, why: str) -> None:
    [found] = judge(probe(**changes), fill, 1_000)
    assert why in found


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
