"""The world's machines do for a peer what a server does, and lose what a server loses."""

from __future__ import annotations

import pytest

from p2pledger.network.effects import (
    Compute,
    Computed,
    Disconnect,
    Event,
    Halt,
    Persist,
    Received,
    Send,
    SessionClosed,
    SessionOpened,
    SetTimer,
    Started,
    TimerFired,
)
from p2pledger.primitives.records import LAZY_MS, BatchRecord, VoteRecord
from p2pledger.sim.evidence import QueuePeak
from p2pledger.sim.links import Cut
from tests.sim.small_world import Puppet, SmallWorld


def session_of(puppet: Puppet) -> int:
    opened = puppet.of(SessionOpened)[-1]
    assert isinstance(opened, SessionOpened)
    return opened.session


def payloads(puppet: Puppet) -> list[bytes]:
    return [event.payload for event in puppet.of(Received) if isinstance(event, Received)]


def record(number: int) -> BatchRecord:
    return BatchRecord(number.to_bytes(32, "big"), bytes(32), number, b"batch")


def vote(number: int) -> VoteRecord:
    return VoteRecord(0, number, 1, bytes(32), b"vote")


def test_peers_are_started_and_introduced() -> None:
    small = SmallWorld(3)
    for index in range(3):
        puppet = small.puppet(index)
        assert isinstance(puppet.heard[0][1], Started)
        names = {event.identity.name for event in puppet.of(SessionOpened) if isinstance(event, SessionOpened)}
        assert names == {f"node-{other}" for other in range(3) if other != index}
        assert puppet.recovery is None


def test_what_comes_together_is_taken_in_one_turn_and_the_last_of_it_is_told_apart() -> None:
    small = SmallWorld()
    machine, puppet = small.machines[0], small.puppet(0)
    machine.turn_us = 5_000
    began = len(puppet.heard)
    for payload in (b"one", b"two", b"three"):
        machine.frame_arrived(0, payload)
    assert len(puppet.heard) == began, "they gather"
    small.run_for(5_000)
    assert [event for _, event in puppet.heard[began:]] == [Received(0, each) for each in (b"one", b"two", b"three")]
    assert len({now_ms for now_ms, _ in puppet.heard[began:]}) == 1
    assert puppet.mores[began:] == [True, True, False]
    machine.frame_arrived(0, b"four")
    small.run_for(5_000)
    assert puppet.mores[-1] is False
    assert payloads(puppet)[-1] == b"four"


def test_what_gathers_when_the_process_dies_or_stands_still_is_lost_or_waits() -> None:
    small = SmallWorld()
    machine, puppet = small.machines[0], small.puppet(0)
    machine.turn_us = 5_000
    machine.frame_arrived(0, b"before")
    machine.pause(50_000)
    machine.frame_arrived(0, b"during")
    small.run_for(49_999)
    assert b"before" not in payloads(puppet)
    small.run_for(1)
    assert payloads(puppet)[-2:] == [b"before", b"during"]
    machine.frame_arrived(0, b"lost")
    machine.crash()
    machine.start()
    machine.frame_arrived(0, b"found")
    small.run_for(5_000)
    reborn = small.puppet(0)
    assert isinstance(reborn.heard[0][1], Started)
    assert payloads(reborn) == [b"found"]


def test_events_of_one_moment_happen_in_the_order_of_planning() -> None:
    world = SmallWorld().world
    happened: list[int] = []
    for number in (3, 1, 2):
        world.after(50, lambda number=number: happened.append(number))  # type: ignore[misc]
    world.after(10, lambda: happened.append(0))
    world.run_until(world.now_us + 100)
    assert happened == [0, 3, 1, 2]


def test_time_that_never_passes_is_noticed() -> None:
    world = SmallWorld().world

    def again() -> None:
        world.after(0, again)

    again()
    assert not world.run_until(world.now_us + 1, most_events=1_000)


def test_frames_of_a_session_stay_in_order() -> None:
    small = SmallWorld(jitter_us=50_000)
    sent = [b"%d" % number for number in range(50)]
    small.make(0, *(Send(session_of(small.puppet(0)), payload) for payload in sent))
    small.run_for(500_000)
    assert payloads(small.puppet(1)) == sent


def test_a_partition_holds_frames_back_and_keeps_their_order() -> None:
    small = SmallWorld()
    session = session_of(small.puppet(0))
    small.make(0, Send(session, b"in flight"))
    small.world.cut(1, Cut(frozenset({"node-0"})), reset=False)
    small.make(0, Send(session, b"behind"))
    small.run_for(300_000)
    assert payloads(small.puppet(1)) == []
    small.world.heal(1)
    small.make(0, Send(session, b"after"))
    small.run_for(300_000)
    assert payloads(small.puppet(1)) == [b"in flight", b"behind", b"after"]


def test_a_partition_that_resets_loses_what_is_in_flight() -> None:
    small = SmallWorld()
    small.make(0, Send(session_of(small.puppet(0)), b"lost"))
    small.world.cut(1, Cut(frozenset({"node-0"})), reset=True)
    small.run_for(2_000_000)
    assert payloads(small.puppet(1)) == []
    assert len(small.puppet(0).of(SessionClosed)) == len(small.puppet(1).of(SessionClosed)) == 1
    assert len(small.puppet(0).of(SessionOpened)) == 1, "nobody dials across"
    small.world.heal(1)
    small.run_for(5_000_000)
    assert len(small.puppet(0).of(SessionOpened)) == 2
    assert session_of(small.puppet(0)) > 2, "numbers are never used twice"


def test_what_is_sent_after_a_record_waits_until_it_is_durable() -> None:
    small = SmallWorld()
    machine, session = small.machines[0], session_of(small.puppet(0))
    machine.sync_us = 100_000
    small.make(0, Send(session, b"before"), Persist((record(1), vote(1))), Send(session, b"behind"))
    small.make(0, Send(session, b"also behind"))
    small.run_for(20_000)
    assert payloads(small.puppet(1)) == [b"before"]
    assert machine.disk.batch(record(1).digest) is None
    small.run_for(200_000)
    assert payloads(small.puppet(1)) == [b"before", b"behind", b"also behind"]
    assert machine.disk.batch(record(1).digest) == b"batch"


def test_records_without_a_vote_are_written_soon_and_nothing_waits_for_them() -> None:
    small = SmallWorld()
    machine, session = small.machines[0], session_of(small.puppet(0))
    small.make(0, Persist((record(1),)), Send(session, b"at once"))
    small.run_for(3_000)
    assert payloads(small.puppet(1)) == [b"at once"]
    small.run_for(1_000 * LAZY_MS + 100_000)
    assert machine.disk.batch(record(1).digest) == b"batch"


def test_records_that_come_during_a_sync_share_the_next_one() -> None:
    small = SmallWorld()
    machine, session = small.machines[0], session_of(small.puppet(0))
    machine.sync_us = 100_000
    small.make(0, Persist((record(1), vote(1))), Send(session, b"first"))
    small.make(0, Persist((record(2), vote(2))), Send(session, b"second"))
    small.make(0, Persist((record(3), vote(3))), Send(session, b"third"))
    small.run_for(1_000_000)
    assert payloads(small.puppet(1)) == [b"first", b"second", b"third"]
    arrived = [now_ms for now_ms, event in small.puppet(1).heard if isinstance(event, Received)]
    assert arrived[0] < arrived[1] == arrived[2]


def test_a_crash_forgets_memory_and_what_was_not_durable() -> None:
    small = SmallWorld()
    machine, session = small.machines[0], session_of(small.puppet(0))
    small.make(0, Persist((record(1), vote(1))), Send(session, b"durable"))
    small.run_for(50_000)
    machine.sync_us = 1_000_000
    small.make(0, SetTimer(0), Persist((record(2), vote(2))), Send(session, b"never sent"))
    small.make(0, Persist((record(3), vote(3))))
    machine.crash()
    assert not machine.is_up
    small.run_for(3_000_000)
    machine.start()
    small.run_for(3_000_000)
    assert payloads(small.puppet(1)) == [b"durable"]
    reborn = small.puppet(0)
    assert reborn.recovery is not None
    assert record(1).data in reborn.recovery.batches
    assert machine.disk.batch(record(3).digest) is None
    assert not reborn.of(TimerFired)
    assert not reborn.of(SessionClosed), "it never heard of those sessions"
    assert len(reborn.of(SessionOpened)) == 1


def test_only_the_newest_timer_counts_and_it_is_never_early() -> None:
    small = SmallWorld()
    machine = small.machines[0]
    start_ms = machine.now_ms
    small.make(0, SetTimer(start_ms + 50), SetTimer(start_ms + 200))
    small.run_for(1_000_000)
    fired = [now_ms for now_ms, event in small.puppet(0).heard if isinstance(event, TimerFired)]
    assert fired[0] == start_ms + 200
    assert len(fired) <= 2
    small.make(0, SetTimer(machine.now_ms + 50), SetTimer(None))
    small.run_for(1_000_000)
    assert len(small.puppet(0).of(TimerFired)) == len(fired)


def test_work_takes_its_modelled_time() -> None:
    small = SmallWorld()
    start_ms = small.machines[0].now_ms
    small.make(0, *(Compute(job, lambda job=job: job * job, 100_000) for job in range(3)))  # type: ignore[misc]
    small.run_for(2_000_000)
    results = {event.job: event.result for event in small.puppet(0).of(Computed) if isinstance(event, Computed)}
    assert results == {0: 0, 1: 1, 2: 4}
    times = [now_ms - start_ms for now_ms, event in small.puppet(0).heard if isinstance(event, Computed)]
    assert 100 <= times[0] <= 150
    assert times[2] >= 200, "there are two workers"


def test_a_bug_in_work_stops_the_node_and_is_told() -> None:
    small = SmallWorld()

    def fail() -> object:
        raise ZeroDivisionError("planted")

    small.make(0, Compute(1, fail, 100))
    small.run_for(10_000)
    assert not small.machines[0].is_up
    [(checker, node, sentence)] = small.world.evidence.breaches
    assert (checker, node) == ("exception", "node-0")
    assert "planted" in sentence
    assert "fail" in sentence
    small.machines[0].start()
    assert not small.machines[0].is_up, "it stays down"


def test_a_halt_and_an_accusation_of_an_honest_node_are_told() -> None:
    small = SmallWorld()
    small.make(0, Disconnect(session_of(small.puppet(0)), "malformed", "planted"))
    small.make(1, Halt("foreign_state_root", "planted"))
    assert [breach[:2] for breach in small.world.evidence.breaches] == [("accusation", "node-0"), ("halt", "node-1")]
    assert not small.machines[1].is_up


def test_a_full_queue_drops_bulk_and_ends_sessions_for_the_rest() -> None:
    small = SmallWorld()
    small.world.queue_bytes = 1_000
    session = session_of(small.puppet(0))
    small.make(0, *(Send(session, bytes(400), bulk=True) for _ in range(5)))
    small.run_for(50_000)
    assert len(payloads(small.puppet(1))) == 2
    assert not small.puppet(0).of(SessionClosed)
    small.make(0, *(Send(session, bytes(400)) for _ in range(5)))
    small.run_for(50_000)
    assert len(small.puppet(0).of(SessionClosed)) == 1
    place = "session node-0 to node-1"
    peak = small.world.evidence.queues[place]
    assert peak == QueuePeak(place, peak.bytes, 1_000)
    assert peak.bytes <= 1_000


def test_a_paused_process_gets_its_events_later_and_in_order() -> None:
    small = SmallWorld()
    small.machines[1].pause(200_000)
    session = session_of(small.puppet(0))
    small.make(0, Send(session, b"one"), Send(session, b"two"))
    small.run_for(100_000)
    assert payloads(small.puppet(1)) == []
    small.run_for(150_000)
    assert payloads(small.puppet(1)) == [b"one", b"two"]


def test_clocks_may_differ() -> None:
    small = SmallWorld()
    small.machines[1].skew_ms = 250
    assert small.machines[1].now_ms == small.machines[0].now_ms + 250


@pytest.mark.parametrize("effect", [Event(), None])
def test_an_unknown_effect_is_a_bug(effect: object) -> None:
    small = SmallWorld()
    with pytest.raises(AssertionError, match="no effect of a peer"):
        small.make(0, effect)  # type: ignore[arg-type]
