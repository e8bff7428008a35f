"""Delay, order, bandwidth and partitions of the simulated links."""

from __future__ import annotations

from itertools import pairwise

from p2pledger.sim.chance import stream
from p2pledger.sim.links import Lane, Weather


def weather(**settings: int) -> Weather:
    return Weather(stream(1, "weather"), {("a", "b"): 1_000}, 500, **settings)


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


def test_a_partition_cuts_across_and_spares_bridges() -> None:
    sky = weather()
    sky.partitions[1] = frozenset({"a", "b"})
    assert sky.is_cut("a", "c")
    assert sky.is_cut("c", "b")
    assert not sky.is_cut("a", "b")
    assert not sky.is_cut("c", "d")
    sky.bridges = frozenset({"c"})
    assert not sky.is_cut("a", "c")
    assert sky.is_cut("a", "d")


def test_a_calm_sky_resets_nothing() -> None:
    calm, rough = weather(), weather(reset_per_million=100_000)
    assert not any(calm.resets() for _ in range(1_000))
    assert any(rough.resets() for _ in range(1_000))
