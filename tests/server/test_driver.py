"""The driver obeys effects in order: records before the sends behind them, groups under load, nothing after a halt.

The peer here is a script: the payload of a frame names the effects that it asks for. The disk is a gate that the test
opens for one commit at a time.
"""

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pledger.network.effects import (
    Compute,
    Computed,
    Disconnect,
    Effect,
    Event,
    Halt,
    Log,
    Mark,
    Persist,
    Received,
    Send,
    SetTimer,
    Stage,
    Started,
    TimerFired,
)
from p2pledger.primitives.errors import NodeStopped
from p2pledger.primitives.records import LAZY_MS, FinalRecord, Record, VoteRecord
from p2pledger.server.clock import Clock
from p2pledger.server.driver import Driver

A, B, C = (VoteRecord(0, view, 1, bytes([view]) * 32, b"") for view in (1, 2, 3))
LAZY = FinalRecord(1, bytes(32))
NOON_MS = 1_700_000_000_000


class Script:
    """A peer that answers each payload with the effects written down for it, and those of b"settle" afterwards, once.

    ``turns``: how many events came between one look around and the next.
    """

    def __init__(self, effects: dict[bytes, list[Effect]]) -> None:
        self.effects = effects
        self.events: list[tuple[Event, int]] = []
        self.turns: list[int] = []

    def settle(self, now_ms: int) -> list[Effect]:
        self.turns.append(len(self.events) - sum(self.turns))
        return self.effects.pop(b"settle", [])

    def step(self, event: Event, now_ms: int, *, more: bool = False) -> list[Effect]:
        assert more, "the driver says itself when to look around"
        self.events.append((event, now_ms))
        match event:
            case Received(_, payload):
                return self.effects.get(payload, [])
            case Started():
                return self.effects.get(b"started", [])
            case TimerFired():
                return self.effects.get(b"timer", [])
            case Computed(_, result):
                return [Log("info", "computed", (("result", str(result)),))]
        return []


class Disk:
    """Commits wait for a permission; with ``open`` they never do."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.groups: list[list[Record]] = []
        self.permissions = threading.Semaphore(1_000_000 if is_open else 0)
        self.error: Exception | None = None

    def commit(self, records: Sequence[Record]) -> None:
        assert self.permissions.acquire(timeout=30)
        if self.error is not None:
            raise self.error
        self.groups.append(list(records))


class Bench:
    """A driver with everything around it written down in one list, in order."""

    def __init__(self, effects: dict[bytes, list[Effect]], disk: Disk) -> None:
        self.did: list[object] = []
        self.peer = Script(effects)
        self.disk = disk
        self.driver = Driver(
            self.peer,
            clock=Clock(lambda: NOON_MS / 1_000),
            commit=disk.commit,
            send=lambda effect: self.did.append(effect.payload),
            disconnect=lambda effect: self.did.append(effect.code),
            log=lambda level, event, fields: self.did.append((event, *fields)),
            stored=lambda records: self.did.append([*records]),
            mark=lambda mark, event: self.did.append(str(mark.stage)),
        )

    async def tell(self, *payloads: bytes) -> None:
        await self.driver.deliver([Received(1, payload) for payload in payloads])
        await wait_all_tasks_blocked()

    async def did_become(self, expected: list[object]) -> None:
        """Wait for what a thread brings."""
        while len(self.did) < len(expected):
            await trio.lowlevel.checkpoint()
        assert self.did == expected


@asynccontextmanager
async def driving(effects: dict[bytes, list[Effect]], disk: Disk) -> AsyncIterator[Bench]:
    bench = Bench(effects, disk)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.driver.run)
        await wait_all_tasks_blocked()
        yield bench
        disk.permissions.release(1_000)
        bench.driver.stop()


async def test_a_send_with_nothing_to_store_leaves_at_once(mock_clock: MockClock) -> None:
    async with driving({b"vote": [Send(1, b"x"), Disconnect(1, "bye", "")]}, Disk()) as bench:
        await bench.tell(b"vote")
        assert bench.did == [b"x", "bye"]


async def test_a_send_waits_for_the_records_before_it_and_not_for_those_after_it(mock_clock: MockClock) -> None:
    effects: dict[bytes, list[Effect]] = {
        b"vote": [Send(1, b"before"), Persist((A,)), Send(1, b"vote a"), Disconnect(1, "bye", "")],
    }
    async with driving(effects, Disk()) as bench:
        await bench.tell(b"vote")
        assert bench.did == [b"before"]
        bench.disk.permissions.release()
        await bench.did_become([b"before", [A], b"vote a", "bye"])


async def test_a_vote_is_timed_when_it_leaves_and_everything_else_when_it_happens(mock_clock: MockClock) -> None:
    marks: list[Effect] = [Mark(Stage.CHECKED, b"block"), Persist((A,)), Send(1, b"vote"), Mark(Stage.VOTED, b"block")]
    effects: dict[bytes, list[Effect]] = {b"vote": [*marks, Mark(Stage.EXECUTED, b"block")]}
    async with driving(effects, Disk()) as bench:
        await bench.tell(b"vote")
        assert bench.did == ["checked", "executed"]
        bench.disk.permissions.release()
        await bench.did_become(["checked", "executed", [A], b"vote", "voted"])


async def test_records_without_a_vote_are_in_no_hurry_and_nothing_waits_for_them(mock_clock: MockClock) -> None:
    async with driving({b"final": [Persist((LAZY,)), Send(1, b"settled")]}, Disk(is_open=True)) as bench:
        await bench.tell(b"final")
        assert bench.did == [b"settled"]
        mock_clock.jump(LAZY_MS / 1_000)
        await bench.did_become([b"settled", [LAZY]])


async def test_a_vote_takes_everything_before_it_to_the_disk_at_once(mock_clock: MockClock) -> None:
    effects: dict[bytes, list[Effect]] = {
        b"final": [Persist((LAZY,)), Send(1, b"settled")],
        b"vote": [Persist((A,)), Send(1, b"vote a")],
    }
    async with driving(effects, Disk(is_open=True)) as bench:
        await bench.tell(b"final")
        await bench.tell(b"vote")
        await bench.did_become([b"settled", [LAZY, A], b"vote a"])


async def test_what_gathers_during_a_commit_becomes_one_group(mock_clock: MockClock) -> None:
    effects: dict[bytes, list[Effect]] = {
        b"a": [Persist((A,)), Send(1, b"vote a")],
        b"b": [Persist((B,)), Send(1, b"vote b")],
        b"c": [Persist((C,)), Send(1, b"vote c")],
    }
    async with driving(effects, Disk()) as bench:
        await bench.tell(b"a")
        await bench.tell(b"b")
        await bench.tell(b"c")
        assert len(bench.peer.events) == 4  # Stepping went on while the disk was busy.
        bench.disk.permissions.release(2)
        await bench.did_become([[A], b"vote a", [B, C], b"vote b", b"vote c"])
    assert bench.disk.groups == [[A], [B, C]]
    assert bench.driver.commits == 2


async def test_a_send_during_a_commit_waits_for_that_one_only(mock_clock: MockClock) -> None:
    effects: dict[bytes, list[Effect]] = {b"a": [Persist((A,))], b"plain": [Send(1, b"x")], b"b": [Persist((B,))]}
    async with driving(effects, Disk()) as bench:
        await bench.tell(b"a")
        await bench.tell(b"plain", b"b")
        assert bench.did == []
        bench.disk.permissions.release()
        await bench.did_become([[A], b"x"])


async def test_a_disk_that_fails_stops_the_node_and_nothing_behind_it_leaves(mock_clock: MockClock) -> None:
    disk = Disk(is_open=True)
    disk.error = NodeStopped("the disk is full", code="storage_failed")
    bench = Bench({b"started": [Persist((A,)), Send(1, b"vote a")]}, disk)
    with pytest.raises(BaseExceptionGroup) as caught:
        await bench.driver.run()
    assert caught.group_contains(NodeStopped, match="the disk is full")
    assert bench.did == []


async def test_after_a_halt_nothing_is_done_but_what_came_before_is_stored(mock_clock: MockClock) -> None:
    sentence = "the state root is not the certified one"
    effects: dict[bytes, list[Effect]] = {
        b"started": [Persist((A,)), Halt("foreign_state_root", sentence), Send(1, b"never"), Persist((B,))]
    }
    bench = Bench(effects, Disk(is_open=True))
    await bench.driver.deliver([Received(1, b"more")])
    with pytest.raises(NodeStopped, match=sentence) as caught:
        await bench.driver.run()
    assert caught.value.code == "foreign_state_root"
    assert bench.did == [("halt", ("code", "foreign_state_root"), ("sentence", sentence)), [A]]
    assert len(bench.peer.events) == 1


async def test_to_stop_stores_what_was_asked_for(mock_clock: MockClock) -> None:
    async with driving({b"a": [Persist((A,)), Send(1, b"vote a")]}, Disk()) as bench:
        await bench.tell(b"a")
        bench.driver.stop()
        await wait_all_tasks_blocked()
        assert bench.disk.groups == []
        bench.disk.permissions.release()
    assert bench.did == [[A], b"vote a"]


@pytest.mark.parametrize(("cost_us", "is_inline"), [(100, True), (50_000, False)])
async def test_small_jobs_are_done_at_once_and_large_ones_in_a_thread(
    mock_clock: MockClock, cost_us: int, is_inline: bool
) -> None:
    threads: list[int] = []

    def run() -> str:
        threads.append(threading.get_ident())
        return "root"

    async with driving({b"block": [Compute(7, run, cost_us)]}, Disk()) as bench:
        await bench.tell(b"block")
        await bench.did_become([("computed", ("result", "root"))])
        assert (threads == [threading.get_ident()]) is is_inline
        assert bench.peer.events[-1][0] == Computed(7, "root")


async def test_stepping_goes_on_while_a_thread_computes(mock_clock: MockClock) -> None:
    gate = threading.Event()
    effects: dict[bytes, list[Effect]] = {
        b"block": [Compute(7, lambda: gate.wait(30), 50_000)],
        b"vote": [Send(1, b"x")],
    }
    async with driving(effects, Disk()) as bench:
        await bench.tell(b"block")
        await bench.tell(b"vote")
        assert bench.did == [b"x"]
        gate.set()
        await bench.did_become([b"x", ("computed", ("result", "True"))])


async def test_a_job_that_fails_is_a_bug_and_stops_the_node(mock_clock: MockClock) -> None:
    def run() -> None:
        raise ZeroDivisionError

    bench = Bench({b"started": [Compute(7, run, 50_000)]}, Disk())
    with pytest.raises(BaseExceptionGroup) as caught:
        await bench.driver.run()
    assert caught.group_contains(ZeroDivisionError)


async def test_the_timer_fires_once_at_its_time_and_the_newest_counts(mock_clock: MockClock) -> None:
    effects: dict[bytes, list[Effect]] = {
        b"started": [SetTimer(NOON_MS + 5_000)],
        b"sooner": [SetTimer(NOON_MS + 2_000)],
        b"off": [SetTimer(None)],
        b"again": [SetTimer(NOON_MS + 9_000)],
    }

    def fired(bench: Bench) -> list[int]:
        return [now_ms - NOON_MS for event, now_ms in bench.peer.events if isinstance(event, TimerFired)]

    async def jump(seconds: float) -> None:
        mock_clock.jump(seconds)
        await wait_all_tasks_blocked()

    async with driving(effects, Disk()) as bench:
        await jump(1.0)
        await bench.tell(b"sooner")
        await jump(0.9)
        assert fired(bench) == []
        await jump(0.1)
        assert fired(bench) == [2_000]
        await jump(4.0)
        assert fired(bench) == [2_000]
        await bench.tell(b"again", b"off")
        await jump(10.0)
        assert fired(bench) == [2_000]
        await bench.tell(b"again")  # Its time has passed: it fires at once.
        assert fired(bench) == [2_000, 16_000]


async def test_the_peer_looks_around_once_for_all_that_came_together_and_after_what_that_led_to(
    mock_clock: MockClock,
) -> None:
    effects: dict[bytes, list[Effect]] = {b"a": [Send(1, b"a")], b"c": [Send(1, b"c")]}
    async with driving(effects, Disk()) as bench:
        assert bench.peer.turns == [1]  # Started
        effects[b"settle"] = [Send(1, b"around"), Compute(7, lambda: "root", 100)]
        await bench.tell(b"a", b"b", b"c")
        assert bench.peer.turns == [1, 3, 1], "and again, for the result of what it wanted to know"
        assert bench.did == [b"a", b"c", b"around", ("computed", ("result", "root"))]


async def test_a_halt_among_events_that_came_together_ends_the_turn(mock_clock: MockClock) -> None:
    effects: dict[bytes, list[Effect]] = {b"a": [Persist((A,)), Send(1, b"vote a")], b"b": [Halt("stop", "enough")]}
    bench = Bench(effects, Disk(is_open=True))
    await bench.driver.deliver([Received(1, payload) for payload in (b"a", b"b", b"c")])
    with pytest.raises(NodeStopped, match="enough"):
        await bench.driver.run()
    assert [event for event, _ in bench.peer.events] == [Started(), Received(1, b"a"), Received(1, b"b")]
    assert bench.peer.turns == []
    assert bench.did == [("halt", ("code", "stop"), ("sentence", "enough")), [A], b"vote a"]


async def test_a_timer_that_is_set_or_due_while_events_keep_coming_is_not_lost(mock_clock: MockClock) -> None:
    effects: dict[bytes, list[Effect]] = {
        b"set": [SetTimer(NOON_MS + 1_000)],
        b"later": [SetTimer(NOON_MS + 3_000)],
        b"timer": [SetTimer(NOON_MS + 2_000)],
    }

    def fired(bench: Bench) -> list[int]:
        return [now_ms - NOON_MS for event, now_ms in bench.peer.events if event == TimerFired()]

    async with driving(effects, Disk()) as bench:
        await bench.tell(b"set")
        for _ in range(9):
            mock_clock.jump(0.1)
            await bench.tell(b"later", b"set")
        assert fired(bench) == []
        mock_clock.jump(0.1)
        await bench.tell(b"other")
        assert fired(bench) == [1_000]
        effects[b"timer"] = []
        mock_clock.jump(0.5)
        await bench.tell(b"other")
        mock_clock.jump(0.5)
        await wait_all_tasks_blocked()
        assert fired(bench) == [1_000, 2_000]


async def test_an_idle_driver_does_nothing(mock_clock: MockClock) -> None:
    async with driving({}, Disk()) as bench:
        mock_clock.jump(3_600)
        await wait_all_tasks_blocked()
        assert len(bench.peer.events) == 1  # Started


async def test_readers_wait_while_too_much_is_queued(mock_clock: MockClock) -> None:
    effects: dict[bytes, list[Effect]] = {}
    bench = Bench(effects, Disk(is_open=True))
    delivered = 0

    async def read() -> None:
        nonlocal delivered
        for _ in range(30):
            await bench.driver.deliver([Received(1, bytes(1_048_576))])
            delivered += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        assert delivered == 8  # 8 MiB and their small change, then it waits.
        nursery.start_soon(bench.driver.run)
        await wait_all_tasks_blocked()
        assert delivered == 30
        bench.driver.stop()


async def test_time_never_goes_back_but_follows_a_clock_that_jumps_ahead(mock_clock: MockClock) -> None:
    machine_s = 1_000.0
    clock = Clock(lambda: machine_s)
    assert clock.now_ms() == 1_000_000
    mock_clock.jump(5)
    machine_s = 400.0  # Set back by ten minutes.
    assert clock.now_ms() == 1_005_000
    machine_s = 1_005.9
    assert clock.now_ms() == 1_005_000
    machine_s = 8_000.0  # The machine slept.
    assert clock.now_ms() == 8_000_000
    machine_s = 7_000.0
    mock_clock.jump(1)
    assert clock.now_ms() == 8_001_000


async def test_an_effect_that_nobody_knows_is_a_bug(mock_clock: MockClock) -> None:
    bench = Bench({b"started": [Effect()]}, Disk())
    with pytest.raises(BaseExceptionGroup) as caught:
        await bench.driver.run()
    assert caught.group_contains(AssertionError, match="nobody obeys")
