"""The check of shaped links: over real sockets under a clock that jumps, so that only the shaping takes time."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from p2pledger.bench.links import MANIFEST, DelayFigure, RateFigure, Report, measure
from p2pledger.network.topology import Topology
from p2pledger.primitives.errors import InvalidInput

SMALL = """
[network]
bandwidth_mbit = 16
[regions.frankfurt]
nodes = ["A"]
[regions.tokyo]
nodes = ["B", "C"]
[[links]]
between = ["B", "C"]
latency_ms = 20
jitter_ms = 8
bandwidth_mbit = 4
"""


async def test_delays_and_rates_are_those_of_the_manifest(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.005
    report = await measure(Topology.parse(SMALL), samples=15)
    assert report.is_right, report
    delays_ms = {(row.source, row.target): row.measured_ms for row in report.delays}
    assert len(delays_ms) == 6
    assert delays_ms["A", "B"] == pytest.approx(113.5, abs=1)
    assert delays_ms["C", "B"] == pytest.approx(24, abs=4)
    rates = {(row.source, row.targets): row.measured_mbit for row in report.rates}
    assert rates == {
        ("A", ("B", "C")): pytest.approx(16, rel=0.05),
        ("B", ("A",)): pytest.approx(16, rel=0.05),
        ("B", ("C",)): pytest.approx(4, rel=0.05),
        ("C", ("A",)): pytest.approx(16, rel=0.05),
        ("C", ("B",)): pytest.approx(4, rel=0.05),
    }


async def test_a_manifest_of_one_node_cannot_be_measured() -> None:
    with pytest.raises(InvalidInput, match="names 1 node"):
        await measure(Topology.parse('[regions.tokyo]\nnodes = ["A"]'))


def test_the_manifest_that_is_built_in_is_one() -> None:
    topology = Topology.parse(MANIFEST)
    ways = [(one, other) for one in topology.nodes for other in topology.nodes if one != other]
    delays_us = [topology.shape(*way).latency_us for way in ways]
    assert min(delays_us) > 20_000, "five percent of less would be lost among what a scheduler takes"


def test_what_is_off_is_wrong_unless_it_is_within_a_millisecond() -> None:
    def delay(manifest_ms: float, measured_ms: float) -> DelayFigure:
        return DelayFigure("a", "b", manifest_ms, measured_ms, 0, 0, 5)

    def rate(measured_mbit: float, *, is_judged: bool = True) -> RateFigure:
        return RateFigure("a", ("b",), 40.0, measured_mbit, is_judged)

    assert delay(100, 104).is_right
    assert not delay(100, 106).is_right
    assert delay(2, 2.9).is_right
    assert rate(38.5).is_right
    assert not rate(37).is_right
    assert rate(3, is_judged=False).is_right
    assert Report(0.3, (delay(100, 100),), (rate(40),)).is_right
    assert not Report(0.3, (delay(100, 100),), (rate(30),)).is_right
    assert not Report(0.3, (delay(100, 120),), (rate(40),)).is_right
