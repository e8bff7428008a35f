"""What a modelled link does to bytes: when they leave, when they arrive, and what that costs behind a window."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from p2pledger.network.shaping import (
    INITIAL_WINDOW_BYTES,
    SEGMENT_BYTES,
    UNSHAPED,
    Link,
    LinkShape,
    Passage,
    Uplink,
)

MBIT = 125_000
"""Bytes a second."""


def link(uplink: Uplink | None = None, seed: int = 1, **settings: float) -> Link:
    return Link(LinkShape(**settings), Uplink() if uplink is None else uplink, Random(seed))  # type: ignore[arg-type]


def test_an_unshaped_link_takes_no_time() -> None:
    assert Link(UNSHAPED, Uplink(), Random(1)).send(7, 1_000_000) == Passage(7, 7)


def test_latency_comes_after_the_time_that_the_bytes_take() -> None:
    slow = link(Uplink(8 * MBIT), latency_us=20_000)
    assert slow.send(0, 1_000) == Passage(1_000, 21_000)
    # The next bytes wait for the line, not for the first ones to arrive.
    assert slow.send(0, 2_000) == Passage(3_000, 23_000)
    assert slow.send(10_000, 1_000) == Passage(11_000, 31_000)


def test_all_links_of_a_node_share_its_uplink() -> None:
    uplink = Uplink(8 * MBIT)
    near, far = link(uplink, latency_us=1_000), link(uplink, latency_us=50_000)
    assert near.send(0, 4_000) == Passage(4_000, 5_000)
    assert far.send(0, 4_000) == Passage(8_000, 58_000)
    assert near.send(0, 4_000) == Passage(12_000, 13_000)


def test_many_small_frames_take_as_long_as_one_large() -> None:
    small, large = link(Uplink(1_000 * MBIT)), link(Uplink(1_000 * MBIT))
    departures_us = [small.send(0, 100).departure_us for _ in range(10_000)]
    assert departures_us[-1] == large.send(0, 1_000_000).departure_us == 8_000


def test_a_link_of_its_own_bandwidth_does_not_hold_the_uplink() -> None:
    uplink = Uplink(80 * MBIT)
    narrow, wide = link(uplink, bytes_per_s=8 * MBIT), link(uplink)
    assert narrow.send(0, 10_000).departure_us == 10_000
    assert wide.send(0, 10_000).departure_us == 2_000


def test_another_rate_holds_from_now_on() -> None:
    uplink = Uplink(8 * MBIT)
    slow = link(uplink)
    slow.send(0, 1_000_000)
    uplink.set_rate(80 * MBIT)
    assert slow.send(5_000, 10_000).departure_us == 6_000


def test_jitter_is_added_and_never_lets_bytes_overtake() -> None:
    shaky = link(latency_us=10_000, jitter_us=4_000)
    alone = [shaky.send(at, 100).arrival_us - at for at in range(0, 100_000_000, 100_000)]
    assert min(alone) >= 10_000
    assert max(alone) <= 14_000
    assert 11_800 <= sorted(alone)[500] <= 12_200, "half the jitter in the middle"
    dense = [shaky.send(100_000_000 + at, 100).arrival_us for at in range(0, 100_000, 100)]
    assert dense == sorted(dense)


def test_the_same_seed_draws_the_same() -> None:
    one, other = (link(seed=5, latency_us=100, jitter_us=1_000, loss=0.1) for _ in range(2))
    assert [one.send(at, 9_000) for at in range(50)] == [other.send(at, 9_000) for at in range(50)]


# --- loss -----------------------------------------------------------------------------------------------------------


def test_what_is_lost_comes_late_as_often_as_it_should() -> None:
    lossy = link(latency_us=20_000, loss=0.01)
    packets, count = 20, 5_000
    delays_us = [lossy.send(at * 10**8, packets * SEGMENT_BYTES).arrival_us - at * 10**8 for at in range(count)]
    late = [delay_us for delay_us in delays_us if delay_us > 20_000]
    assert len(late) / count == pytest.approx(1 - 0.99**packets, abs=0.02)
    # One round trip if three packets behind it tell, else the timer: a round trip and 200 ms.
    assert {60_000, 20_000 + 240_000} <= set(late)
    told = sum(delay_us == 60_000 for delay_us in late) / len(late)
    assert told == pytest.approx((packets - 3) / packets, abs=0.05)


def test_a_lone_packet_that_is_lost_waits_for_the_timer_which_doubles() -> None:
    lossy = link(latency_us=10_000, loss=0.4)
    delays_us = {lossy.send(at * 10**9, 100).arrival_us - at * 10**9 for at in range(400)}
    timeout_us = 220_000
    assert delays_us >= {10_000, 10_000 + timeout_us, 10_000 + 2 * timeout_us, 10_000 + 4 * timeout_us}


def test_what_follows_a_loss_waits_behind_it() -> None:
    lossy = link(latency_us=10_000, loss=0.2)
    arrivals_us = [lossy.send(at, 1_000).arrival_us for at in range(0, 1_000_000, 10_000)]
    assert arrivals_us == sorted(arrivals_us)
    assert any(later == earlier for earlier, later in pairwise(arrivals_us)), "nothing waited"


# --- the congestion window ------------------------------------------------------------------------------------------


def test_a_fresh_connection_doubles_what_it_sends_in_a_round_trip() -> None:
    fresh = link(latency_us=50_000, window=True)
    size_bytes = INITIAL_WINDOW_BYTES * (1 + 2 + 4 + 8)
    assert fresh.send(0, size_bytes) == Passage(300_000, 350_000), "four round trips, the last one not waited for"
    assert link(latency_us=50_000, window=True).send(0, INITIAL_WINDOW_BYTES) == Passage(0, 50_000)


def test_a_connection_in_use_is_open_and_an_idle_one_begins_again() -> None:
    used = link(latency_us=50_000, window=True)
    size_bytes = 8 * INITIAL_WINDOW_BYTES
    first_us = used.send(0, size_bytes).departure_us
    again_us = first_us + 150_000
    assert used.send(again_us, size_bytes).departure_us == again_us
    later_us = again_us + 1_000_000
    assert used.send(later_us, size_bytes).departure_us > later_us + 200_000


def test_a_window_that_was_not_needed_does_not_grow() -> None:
    quiet = link(latency_us=50_000, window=True)
    at_us = 0
    for at_us in range(0, 20_000_000, 200_000):
        quiet.send(at_us, 100)
    assert quiet.send(at_us + 200_000, 2 * INITIAL_WINDOW_BYTES).departure_us > at_us + 200_000


def test_a_line_that_is_slower_than_the_window_decides() -> None:
    narrow = link(Uplink(8 * MBIT), latency_us=1_000, window=True)
    assert narrow.send(0, 2_000_000).departure_us == pytest.approx(2_000_000, rel=0.02)


def test_a_loss_halves_the_window() -> None:
    whole, lossy = link(latency_us=50_000, window=True), link(latency_us=50_000, window=True, loss=0.02)
    at_us = 0
    for _ in range(20):
        sent = [each.send(at_us, 500_000).departure_us for each in (whole, lossy)]
        at_us = max(sent) + 120_000
    assert lossy.send(at_us, 2_000_000).departure_us - at_us > 2 * (whole.send(at_us, 2_000_000).departure_us - at_us)


def test_what_waits_for_a_window_does_not_keep_the_line_from_others() -> None:
    uplink = Uplink(80 * MBIT)
    waiting, other = link(uplink, latency_us=50_000, window=True), link(uplink)
    assert waiting.send(0, 8 * INITIAL_WINDOW_BYTES).departure_us > 300_000
    assert other.send(0, 10_000).departure_us < 15_000
