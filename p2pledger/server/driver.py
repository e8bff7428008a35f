"""Drives one ``Peer``: events in, one at a time; effects out, in order.

One task steps. What has come together it takes in one turn, and only then the peer looks around, once for all of it
(``Peer.settle``): a busy node spends less on each. A commit runs in a thread, and the stepping goes on meanwhile; what
it asks to be stored next gathers in a group that is committed as a whole when the disk is free again (group commit). A
group with an own vote in it is committed as soon as possible, and what is sent after the vote waits for it; any other
group is in no hurry: it is committed with the next vote, or after 50 ms, and nothing waits for it. What a send waits
for:

    a vote waits for the disk                       its group
    none waits, but one is just being committed     that group
    otherwise                                       nothing

So no vote leaves before it is durable with all that came before it, and under load a commit carries many steps.

Readers wait while more than 8 MiB of frames have not been stepped through, stepping waits while more than 64 MiB of
records have not been stored: a slow disk slows the peers down, it does not fill the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from time import perf_counter
from typing import Any, Final, Protocol

import trio

from p2pledger.network.effects import (
    Compute,
    Computed,
    Dial,
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
from p2pledger.primitives.records import LAZY_MS, Record, must_be_durable
from p2pledger.server.clock import Clock
from p2pledger.server.thread import JobThread

__all__ = ["Driver", "Steps"]

_INLINE_US: Final = 1_500
"""Smaller jobs are done at once: a thread costs about 200 us, and the answer comes later."""
_WORKERS: Final = 2
_INBOX_LIMIT_BYTES: Final = 8 * 1_048_576
_EVENT_BYTES: Final = 64
"""What an event counts beside its payload."""
_UNSTORED_LIMIT_BYTES: Final = 64 * 1_048_576
_HURRY_BYTES: Final = 4 * 1_048_576
_LATER: Final = Event()
"""What brought about a mark that had to wait for the disk does not matter any more."""
_ABOUT_S: Final = 0.0001
"""The timer is moved only by more than this."""
_TURN_S: Final = 0.005
"""After this much stepping the sockets get their turn."""


class Steps(Protocol):
    """What is driven: a ``Peer``."""

    def step(self, event: Event, now_ms: int, *, more: bool = False) -> list[Effect]: ...
    def settle(self, now_ms: int) -> list[Effect]: ...


@dataclass(slots=True)
class _Group:
    """Records that become durable together, and what may leave afterwards."""

    records: list[Record] = field(default_factory=list)
    effects: list[Send | Disconnect | Mark] = field(default_factory=list)
    size_bytes: int = 0
    is_urgent: bool = False
    """An own vote is among the records."""


def _size_bytes(record: Record) -> int:
    data = getattr(record, "data", b"") or getattr(record, "codes", b"")
    return len(data) + _EVENT_BYTES


class Driver:
    """``deliver`` from any task; ``run`` in one, until ``stop``, a ``Halt`` or an error.

    ``commit`` is called in a thread, one call at a time. ``handed_over`` and ``stored`` are told, in the stepping task,
    which records have been given to the disk and which have got there. ``after_steps`` is called when a turn is over.
    ``mark`` is told of each ``Mark`` with the event that brought it about, and of a vote when it leaves; ``dial`` is to
    call somebody.
    """

    def __init__(
        self,
        peer: Steps,
        *,
        clock: Clock,
        commit: Callable[[Sequence[Record]], None],
        send: Callable[[Send], None],
        disconnect: Callable[[Disconnect], None],
        log: Callable[[str, str, tuple[tuple[str, str | int], ...]], None],
        handed_over: Callable[[Sequence[Record]], None] = lambda records: None,
        stored: Callable[[Sequence[Record]], None] = lambda records: None,
        saw: Callable[[Event], None] = lambda event: None,
        mark: Callable[[Mark, Event], None] = lambda mark, event: None,
        dial: Callable[[Dial], None] = lambda dial: None,
        after_steps: Callable[[], None] = lambda: None,
    ) -> None:
        self._peer = peer
        self._clock = clock
        self._commit = commit
        self._send = send
        self._disconnect = disconnect
        self._log = log
        self._handed_over = handed_over
        self._stored = stored
        self._saw = saw
        self._mark = mark
        self._dial = dial
        self._after_steps = after_steps
        self._inbox: deque[Event] = deque()
        self._inbox_bytes = 0
        self._is_full = False
        """Somebody waits to deliver."""
        self._wake = trio.Event()
        self._room = trio.Event()
        self._timer_ms: int | None = None
        self._waiting = _Group()
        self._running: _Group | None = None
        self._to_store = trio.Event()
        self._hurry = trio.Event()
        self._commit_done = trio.Event()
        self._workers = trio.CapacityLimiter(_WORKERS)
        self._halt: Halt | None = None
        self._is_stopping = False
        self.steps = 0
        self.commits = 0

    async def deliver(self, events: Sequence[Event]) -> None:
        """Queue events in order. Waits while too many are queued."""
        while self._inbox_bytes > _INBOX_LIMIT_BYTES:
            self._is_full = True
            await self._room.wait()
        self._put(events)

    def _put(self, events: Sequence[Event]) -> None:
        for event in events:
            self._inbox_bytes += _EVENT_BYTES + (len(event.payload) if isinstance(event, Received) else 0)
            self._inbox.append(event)
        self._wake.set()

    def _put_first(self, event: Event) -> None:
        self._inbox_bytes += _EVENT_BYTES
        self._inbox.appendleft(event)

    def stop(self) -> None:
        """Step no more; ``run`` returns when everything that was asked for is stored."""
        self._is_stopping = True
        self._wake.set()

    async def run(self) -> None:
        """NodeStopped after a Halt, with its code; whatever ``step``, ``commit`` or a job raises, in a group."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._store)
            self._put_first(Started())
            while self._is_going_on:
                await self._go_on_until_timer()
                while self._waiting.size_bytes > _UNSTORED_LIMIT_BYTES:
                    await self._commit_done.wait()
            self._hurry.set()
            while self._waiting.records or self._running is not None:
                await self._commit_done.wait()
            nursery.cancel_scope.cancel()
        if self._halt is not None:
            raise NodeStopped(self._halt.sentence, code=self._halt.code)

    @property
    def _is_going_on(self) -> bool:
        return not self._is_stopping and self._halt is None

    async def _go_on_until_timer(self) -> None:
        """Turn after turn, until the timer is due, too much is not stored yet, or this is the end.

        The timer is the deadline of one scope for many turns: to enter and leave one each time costs more than to move
        it.
        """
        with trio.CancelScope() as scope:
            while True:
                self._turn()
                self._after_steps()
                if not self._is_going_on or self._waiting.size_bytes > _UNSTORED_LIMIT_BYTES:
                    return
                deadline_s = inf
                if self._timer_ms is not None:  # Looked at anew each time: the clock may have been set.
                    deadline_s = trio.current_time() + (self._timer_ms - self._clock.exact_ms()) / 1_000
                if abs(deadline_s - scope.deadline) > _ABOUT_S:
                    scope.deadline = deadline_s
                if self._inbox:
                    await trio.lowlevel.checkpoint()  # The sockets get their turn.
                else:
                    self._wake = trio.Event()
                    await self._wake.wait()

    def _turn(self) -> None:
        """Step through what is queued, for as long as a turn takes."""
        inbox, until_s = self._inbox, perf_counter() + _TURN_S
        if self._timer_ms is not None and self._clock.exact_ms() >= self._timer_ms:
            self._timer_ms = None
            self._put_first(TimerFired())
        while inbox and self._is_going_on and perf_counter() < until_s:
            now_ms = self._clock.now_ms()
            while inbox and perf_counter() < until_s:
                event = inbox.popleft()
                self._inbox_bytes -= _EVENT_BYTES + (len(event.payload) if isinstance(event, Received) else 0)
                self.steps += 1
                self._obey(self._peer.step(event, now_ms, more=True), event)
                self._saw(event)
                if self._halt is not None:
                    return
            self._obey(self._peer.settle(self._clock.now_ms()), _LATER)
        if self._is_full and self._inbox_bytes <= _INBOX_LIMIT_BYTES:
            self._is_full = False
            self._room.set()
            self._room = trio.Event()

    def _obey(self, effects: Sequence[Effect], event: Event) -> None:
        for effect in effects:
            match effect:
                case Send() | Disconnect():
                    self._leave(effect)
                case Persist(records):
                    self._persist(records)
                case Compute():
                    self._compute(effect)
                case Dial():
                    self._dial(effect)
                case SetTimer(at_ms):
                    self._timer_ms = at_ms
                case Log(level, name, fields):
                    self._log(level, name, fields)
                case Mark():
                    if effect.stage is Stage.VOTED:
                        self._leave(effect)
                    else:
                        self._mark(effect, event)
                case Halt(code, sentence):
                    self._log("critical", "halt", (("code", code), ("sentence", sentence)))
                    self._halt = effect
                    return
                case _:
                    raise AssertionError(f"nobody obeys {effect!r}")

    # --- the disk ---------------------------------------------------------------------------------------------------

    def _persist(self, records: Sequence[Record]) -> None:
        if records:
            self._handed_over(records)
            self._waiting.records.extend(records)
            self._waiting.size_bytes += sum(map(_size_bytes, records))
            self._to_store.set()
            if must_be_durable(records):
                self._waiting.is_urgent = True
                self._hurry.set()

    def _leave(self, effect: Send | Disconnect | Mark) -> None:
        if self._waiting.is_urgent:
            self._waiting.effects.append(effect)
        elif self._running is not None and self._running.is_urgent:
            self._running.effects.append(effect)
        else:
            self._release(effect)

    def _release(self, effect: Send | Disconnect | Mark) -> None:
        if type(effect) is Send:
            self._send(effect)
        elif type(effect) is Disconnect:
            self._disconnect(effect)
        elif type(effect) is Mark:
            self._mark(effect, _LATER)

    async def _store(self) -> None:
        with JobThread("disk") as disk:
            await self._store_in(disk)

    async def _store_in(self, disk: JobThread) -> None:
        while True:
            await self._to_store.wait()
            if not self._waiting.is_urgent and self._waiting.size_bytes < _HURRY_BYTES:
                with trio.move_on_after(LAZY_MS / 1_000):
                    await self._hurry.wait()
            self._to_store, self._hurry = trio.Event(), trio.Event()
            group = self._running = self._waiting
            self._waiting = _Group()
            await disk.run(partial(self._commit, group.records))
            self._stored(group.records)
            self._running = None
            self.commits += 1
            for effect in group.effects:
                self._release(effect)
            self._commit_done.set()
            self._commit_done = trio.Event()

    # --- heavy work -------------------------------------------------------------------------------------------------

    def _compute(self, job: Compute) -> None:
        if job.cost_us < _INLINE_US:
            self._put([Computed(job.job, job.run())])
        else:
            self._nursery.start_soon(self._work, job)

    async def _work(self, job: Compute) -> None:
        result: Any = await trio.to_thread.run_sync(job.run, limiter=self._workers)
        self._put([Computed(job.job, result)])
