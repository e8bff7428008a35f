"""Delay, order, bandwidth and cuts of the simulated links."""

from __future__ import annotations

from itertools import pairwise

import pytest

from p2pledger.network.topology import Topology
from p2pledger.sim.chance import stream
from p2pledger.sim.links import DISTRIBUTIONS, Cut, Delay, Lane, Weather


def weather(**settings: int) -> Weather:
    return Weather(stream(1, "weather"), {("a", "b"): Delay("uniform", 1_000, 500)}, **settings)  # type: ignore[arg-type]


def draws(kind: str, count: int = 4_000) -> list[int]:
    chance = stream(2, kind)
    return sorted(Delay(kind, 1_000, 500).draw(chance) for _ in range(count))


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_delays_are_bounded_on_both_sides(kind: str) -> None:
    found = draws(kind)
    assert found[0] >= 500
    assert found[-1] <= 50_000


def test_delays_follow_their_distributions() -> None:
    assert set(draws("constant")) == {1_000}
    uniform, lognormal, pareto = draws("uniform"), draws("lognormal"), draws("pareto")
    assert (uniform[0], uniform[-1]) == (1_000, 1_500)
    assert 950 <= lognormal[2_000] <= 1_050, "the median"
    # Of a Pareto tail one in a hundred is beyond 0.5 * 100^(1/1.3) means; no lognormal of this sigma gets there.
    assert pareto[3_960] > 13_000 > lognormal[3_990]


def test_frames_of_one_lane_arrive_in_order_whatever_their_delays() -> None:
    lane, sky = Lane(), weather(loss_per_million=300_000)
    arrivals = [lane.schedule(at, 100, sky.sending_us("a", "b", 100), sky.travel_us("a", "b")) for at in range(200)]
    assert arrivals == sorted(arrivals)
    assert arrivals[0] >= 1_000
    assert max(later - earlier for earlier, later in pairwise(arrivals)) > 100_000, "no loss?"


def test_a_lane_is_full_until_its_frames_have_left() -> None:
    lane = Lane()
    lane.schedule(0, 600, 50, 0)
    assert not lane.has_room(0, 600, 1_000)
    assert lane.has_room(0, 400, 1_000)
    assert lane.has_room(50, 600, 1_000)
    assert lane.queued_bytes == 0


def test_a_slow_place_slows_both_directions() -> None:
    sky = weather()
    fast_us = sky.sending_us("a", "b", 100_000)
    sky.slow["b"] = 10
    assert sky.sending_us("a", "b", 100_000) > 1_000 * fast_us // 2
    assert sky.sending_us("b", "a", 100_000) == sky.sending_us("a", "b", 100_000)


def test_each_link_has_its_bandwidth() -> None:
    sky = weather()
    sky.rates["a", "b"] = 1_000
    assert sky.sending_us("b", "a", 100_000) == sky.sending_us("a", "b", 100_000) == 100_002
    assert sky.sending_us("a", "c", 100_000) == 1_002


def test_a_cut_lies_across_and_spares_bridges() -> None:
    sky = weather()
    sky.cuts[1] = Cut(frozenset({"a", "b"}))
    assert sky.is_cut("a", "c")
    assert sky.is_cut("c", "b")
    assert not sky.is_cut("a", "b")
    assert not sky.is_cut("c", "d")
    sky.bridges = frozenset({"c"})
    assert not sky.is_cut("a", "c")
    assert sky.is_cut("a", "d")


@pytest.mark.parametrize(("direction", "leaves", "enters"), [("out", True, False), ("in", False, True)])
def test_a_cut_may_lie_in_one_direction(direction: str, leaves: bool, enters: bool) -> None:
    sky = weather()
    sky.cuts[1] = Cut(frozenset({"a"}), direction)
    assert sky.is_cut("a", "b") is leaves
    assert sky.is_cut("b", "a") is enters
    assert sky.is_apart("a", "b"), "a session needs both directions to begin"
    assert not sky.is_apart("b", "c")


def test_a_calm_sky_resets_and_repeats_nothing() -> None:
    calm, rough = weather(), weather(reset_per_million=100_000, duplicates_per_million=100_000)
    assert not any(calm.resets() or calm.duplicates() for _ in range(1_000))
    assert any(rough.resets() for _ in range(1_000))
    assert any(rough.duplicates() for _ in range(1_000))


# --- a network manifest ---------------------------------------------------------------------------------------------

MANIFEST = """
[network]
bandwidth_mbit = 8
[regions.frankfurt]
nodes = ["CCDC"]
[regions.tokyo]
nodes = ["CSDC", "VENUE"]
[[links]]
between = ["CSDC", "VENUE"]
cut = true
"""


def placed(**settings: int) -> Weather:
    sky = weather(**settings)
    sky.topology = Topology.parse(MANIFEST)
    sky.places = {"a": "CCDC", "b": "CSDC", "c": "VENUE"}
    return sky


def test_nodes_of_a_manifest_are_as_far_apart_as_it_says() -> None:
    sky = placed()
    to_b, to_c = sky.lane("a", "b"), sky.lane("a", "c")
    assert sky.latency("a", "b") == 113_500
    assert sky.arrival_us(to_b, "a", "b", 0, 1_000) == 1_000 + 113_500
    assert sky.arrival_us(to_c, "a", "c", 0, 1_000) == 2_000 + 113_500, "one uplink for all"
    assert to_b.queued_bytes == 1_000
    assert sky.is_apart("b", "c")
    assert not sky.is_apart("a", "b")


def test_clients_of_a_manifest_keep_their_weather() -> None:
    sky = placed()
    lane = sky.lane("a", "client")
    assert lane.link is None
    assert sky.arrival_us(lane, "a", "client", 0, 1_000) == 312
    assert not sky.is_apart("a", "client")


def test_storms_surges_and_slow_places_come_on_top_of_a_manifest() -> None:
    calm_us = placed().arrival_us(placed().lane("a", "b"), "a", "b", 0, 1_000)
    for setting, least_us in (({"stretch": 3}, 2 * 113_500), ({"loss_per_million": 1_000_000}, 200_000)):
        sky = placed(**setting)
        assert sky.arrival_us(sky.lane("a", "b"), "a", "b", 0, 1_000) >= calm_us + least_us
    sky = placed()
    sky.slow["b"] = 10
    assert sky.arrival_us(sky.lane("a", "b"), "a", "b", 0, 1_000) == calm_us + 100_000
