"""Open-loop load: every trade has a moment at which it is due, whatever happened to those before it.

The latency of a trade runs from that moment to the moment at which the client that sent it has seen it final. If the
ledger, or this generator, stalls, then trades that fall due meanwhile wait, and their waiting is counted. Nothing is
sent later because something else was slow.

    waiting    not due yet, or not signed yet
    sent       given to a node, outcome unknown
    committed  final, all operations executed
    rejected   final with a reason, or refused at the edge with one that no retry can cure
    given_up   its client stopped waiting after ``patience_s``; if it turns out to be on the ledger, it is committed

A gateway is one client with a home node. It sends what is due in groups, because a message costs the same whatever it
carries. *Busy* is not an outcome: the trade is sent again after the time that the node named, and its clock runs on.
If the gateway's node goes away, it connects to the next one and sends everything again that it has not seen final:
a transaction is executed once, whatever the number of copies, and every session that submitted it is told its outcome.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import IntEnum
from heapq import heappop, heappush
from typing import Final, Protocol

import trio

from p2pledger.load.alarm import SleepUntil
from p2pledger.load.orders import Order
from p2pledger.primitives.errors import P2PLedgerError
from p2pledger.primitives.reasons import Reason

__all__ = ["Load", "LoadResult", "Outcome", "Session", "State", "percentile"]

_SLOT_S: Final = 0.005
"""Trades that fell due within this time travel in one message; nothing is sent before it is due."""
_MOST_AT_ONCE: Final = 500
_SIGNED_AHEAD: Final = 100_000
"""Orders that are signed before the window opens; further ones are signed while it is open."""
_RECONNECT_S: Final = 0.2
_RETRY_STEP_S: Final = 0.01


class State(IntEnum):
    WAITING = 0
    SENT = 1
    COMMITTED = 2
    REJECTED = 3
    GIVEN_UP = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a transaction: at which height, with which code."""

    id: bytes
    height: int
    code: int


class Session(Protocol):
    """What a gateway needs of a client. A lost connection is a P2PLedgerError or trio.BrokenResourceError."""

    async def submit(self, transactions: Sequence[bytes]) -> tuple[Sequence[int], int]:
        """One code per transaction, and after how many milliseconds to retry those that are busy."""

    async def next_outcomes(self) -> Sequence[Outcome]:
        """Waits for final outcomes of what this session submitted."""


Connect = Callable[[int], AbstractAsyncContextManager[Session]]
"""Opens a session with the node of an index; P2PLedgerError or OSError if it cannot be had now."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """How the window went. Latencies in seconds, of committed trades, unsorted."""

    submitted: int
    committed: int
    rejected: dict[str, int]
    timed_out: int
    unfinished: int
    latencies_s: list[float]
    window_s: float
    last_final_s: float
    """From the opening of the window to the last outcome."""
    lags_s: list[float]
    """By how much this generator itself was late, for each message, by the first trade in it."""

    @property
    def send_lag_s(self) -> float:
        """The longest of them."""
        return max(self.lags_s, default=0.0)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest sample that at least this share of all samples does not exceed (nearest rank); 0 for none."""
    if not ordered:
        return 0.0
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[min(len(ordered), int(rank)) - 1]


class _Gateway:
    """One client: its home node, what it has to send, and what it has sent."""

    def __init__(self, index: int, home: int) -> None:
        self.index = index
        self.node = home
        self.outbox: deque[int] = deque()
        self.retries: list[tuple[float, int]] = []
        self.open: set[int] = set()
        self.wake = trio.Event()
        self.is_refused = trio.Event()
        """There is something to send again."""

    def put(self, number: int) -> None:
        self.outbox.append(number)
        self.wake.set()


class Load:
    """Sends ``orders`` through ``gateways`` clients, each when it is due, and follows them to their ends.

    ``moments``: seconds after the opening of the window, ascending, one for each order. ``slot_s``: what fell due
    within it travels in one message. ``sleep_until``: how it waits for the next moment.
    """

    def __init__(
        self,
        orders: Iterator[Order],
        *,
        moments: Sequence[float],
        nodes: int,
        gateways: int,
        connect: Connect,
        patience_s: float = 30.0,
        slot_s: float = _SLOT_S,
        signed_ahead: int = _SIGNED_AHEAD,
        sleep_until: SleepUntil = trio.sleep_until,
    ) -> None:
        self._source = orders
        self._connect = connect
        self._nodes = nodes
        self._patience_s = patience_s
        self._slot_s = slot_s
        self._signed_ahead = signed_ahead
        self._sleep_until = sleep_until
        self.moments = moments
        self.count = count = len(moments)
        self.orders: list[Order] = []
        self.states = bytearray(count)
        self.codes: dict[int, int] = {}
        self.heights: dict[int, int] = {}
        self.latencies_s: dict[int, float] = {}
        self.number_of: dict[bytes, int] = {}
        self.gateways = [_Gateway(i, i % nodes) for i in range(gateways)]
        self.on_final: Callable[[Order, int], None] = lambda order, code: None
        """Called once for each trade that is final on the ledger, with its code."""
        self.started_s = 0.0
        self.last_final_s = 0.0
        self.lags_s: list[float] = []
        self.sent = 0
        self.pending = count
        self.opened = trio.Event()
        """The window is open: ``started_s`` is known."""
        self.settled = trio.Event()
        self._closing = False

    # --- before the window ------------------------------------------------------------------------------------------

    async def sign_ahead(self) -> None:
        """Signs the first orders, so that signing does not compete with the ledger while it is measured."""
        while len(self.orders) < min(self.count, self._signed_ahead):
            self._sign_some(100)
            await trio.lowlevel.checkpoint()

    def _sign_some(self, most: int) -> None:
        for _ in range(min(most, self.count - len(self.orders))):
            order = next(self._source)
            self.number_of[order.id] = len(self.orders)
            self.orders.append(order)

    # --- the window -------------------------------------------------------------------------------------------------

    @property
    def window_s(self) -> float:
        """From the first moment to the one at which another order would fall due, at the rate of those that did."""
        return self.moments[-1] * self.count / max(1, self.count - 1) if self.count else 0.0

    def due_s(self, number: int) -> float:
        """When a trade is due, on Trio's clock."""
        return self.started_s + self.moments[number]

    async def run(self) -> None:
        """Connects all gateways, opens the window, and returns when every trade has ended or was given up."""
        async with trio.open_nursery() as nursery:
            for gateway in self.gateways:
                await nursery.start(self._run_gateway, gateway)
            self.started_s = trio.current_time() + 0.1
            self.opened.set()
            nursery.start_soon(self._sign_the_rest)
            nursery.start_soon(self._give_up)
            await self._send_what_is_due()
            await self.settled.wait()
            self._closing = True
            nursery.cancel_scope.cancel()

    async def _sign_the_rest(self) -> None:
        while len(self.orders) < self.count:
            ahead = len(self.orders) - self.sent
            self._sign_some(20 if ahead > 1_000 else 100)
            await trio.sleep(0.002 if ahead > 1_000 else 0)

    async def _send_what_is_due(self) -> None:
        slot = 0
        while self.sent < self.count:
            await self._sleep_until(self.due_s(self.sent))
            while self.sent >= len(self.orders):
                await trio.lowlevel.checkpoint()
            now = trio.current_time()
            self.lags_s.append(now - self.due_s(self.sent))
            gateway = self.gateways[slot % len(self.gateways)]
            # A slot's trades go through one gateway, the next slot's through the next.
            while self.sent < len(self.orders) and self.due_s(self.sent) <= now:
                self.states[self.sent] = State.SENT
                gateway.open.add(self.sent)
                gateway.put(self.sent)
                self.sent += 1
            slot += 1
            await self._sleep_until(now + self._slot_s)

    async def _give_up(self) -> None:
        """Clients stop waiting; the connection stays, so a late outcome is still heard."""
        oldest = 0
        while True:
            await trio.sleep(0.25)
            now = trio.current_time()
            while oldest < self.sent and now - self.due_s(oldest) > self._patience_s:
                if self.states[oldest] == State.SENT:
                    self.states[oldest] = State.GIVEN_UP
                    self._one_less()
                oldest += 1

    def _one_less(self) -> None:
        self.pending -= 1
        if self.pending == 0:
            self.settled.set()

    # --- outcomes ---------------------------------------------------------------------------------------------------

    def seen_final(self, outcome: Outcome) -> None:
        """A client has seen that a trade is final. Seeing it again changes nothing."""
        number = self.number_of.get(outcome.id)
        if number is None or self.states[number] in (State.COMMITTED, State.REJECTED):
            return
        late = self.states[number] == State.GIVEN_UP
        now = trio.current_time()
        self.states[number] = State.COMMITTED if outcome.code == Reason.OK else State.REJECTED
        self.codes[number], self.heights[number] = outcome.code, outcome.height
        if outcome.code == Reason.OK:
            self.latencies_s[number] = now - self.due_s(number)
        self.last_final_s = now
        self.on_final(self.orders[number], outcome.code)
        for gateway in self.gateways:
            gateway.open.discard(number)
        if not late:
            self._one_less()

    def _refused(self, gateway: _Gateway, number: int, code: int) -> None:
        """A node refused it at the edge, for a reason that no retry can cure."""
        if self.states[number] in (State.SENT, State.GIVEN_UP):
            late = self.states[number] == State.GIVEN_UP
            self.states[number], self.codes[number] = State.REJECTED, code
            gateway.open.discard(number)
            if not late:
                self._one_less()

    # --- gateways ---------------------------------------------------------------------------------------------------

    async def _run_gateway(
        self, gateway: _Gateway, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        first = True
        while not self._closing:
            try:
                async with self._connect(gateway.node) as session:
                    if first:
                        first = False
                        task_status.started()
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._send, gateway, session)
                        nursery.start_soon(self._retry, gateway)
                        nursery.start_soon(self._listen, session)
            except* (P2PLedgerError, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                gateway.node = (gateway.node + 1) % self._nodes
                # What was sent there may or may not have reached the others: it is sent again.
                gateway.retries.clear()
                gateway.outbox = deque(sorted(gateway.open))
            await trio.sleep(_RECONNECT_S)

    async def _send(self, gateway: _Gateway, session: Session) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                if not gateway.outbox:
                    gateway.wake = trio.Event()
                    await gateway.wake.wait()
                numbers: list[int] = []
                while gateway.outbox and len(numbers) < _MOST_AT_ONCE:
                    number = gateway.outbox.popleft()
                    if number in gateway.open:
                        numbers.append(number)
                if numbers:
                    # Not awaited: the next group does not wait for the answer to this one.
                    nursery.start_soon(self._submit, gateway, session, numbers)
                await trio.lowlevel.checkpoint()

    async def _submit(self, gateway: _Gateway, session: Session, numbers: Sequence[int]) -> None:
        codes, retry_after_ms = await session.submit([self.orders[number].data for number in numbers])
        again_s = trio.current_time() + max(retry_after_ms, 5) / 1000
        for number, code in zip(numbers, codes, strict=True):
            if code in (Reason.BUSY, Reason.NOT_READY):
                heappush(gateway.retries, (again_s, number))
                gateway.is_refused.set()
            elif code not in (Reason.OK, Reason.ALREADY_PENDING, Reason.DUPLICATE):
                self._refused(gateway, number, code)
            # Otherwise it is on its way, or on the ledger already: the node will tell this session its outcome.

    async def _retry(self, gateway: _Gateway) -> None:
        while True:
            await gateway.is_refused.wait()
            while gateway.retries:
                await trio.sleep(_RETRY_STEP_S)
                while gateway.retries and gateway.retries[0][0] <= trio.current_time():
                    gateway.put(heappop(gateway.retries)[1])
            gateway.is_refused = trio.Event()

    async def _listen(self, session: Session) -> None:
        while True:
            for outcome in await session.next_outcomes():
                self.seen_final(outcome)

    # --- afterwards -------------------------------------------------------------------------------------------------

    async def settle_late(self, lookup: Callable[[Sequence[Order]], Awaitable[Sequence[Outcome | None]]]) -> None:
        """At the end: what clients gave up may be on the ledger after all. Then it is committed, and late."""
        numbers = [i for i in range(self.sent) if self.states[i] in (State.GIVEN_UP, State.SENT)]
        for at in range(0, len(numbers), _MOST_AT_ONCE):
            found = await lookup([self.orders[number] for number in numbers[at : at + _MOST_AT_ONCE]])
            for outcome in found:
                if outcome is not None:
                    self.seen_final(outcome)

    def title_of(self, number: int) -> str:
        """Why an order was rejected."""
        return Reason(self.codes[number]).title

    def result(self) -> LoadResult:
        """The tally. submitted = committed + rejected + timed_out + unfinished."""
        tally = Counter(self.states[: self.sent])
        rejected = Counter(self.title_of(i) for i in range(self.sent) if self.states[i] == State.REJECTED)
        return LoadResult(
            submitted=self.sent,
            committed=tally[State.COMMITTED],
            rejected=dict(sorted(rejected.items())),
            timed_out=tally[State.GIVEN_UP],
            unfinished=tally[State.SENT] + tally[State.WAITING],
            latencies_s=list(self.latencies_s.values()),
            window_s=self.window_s,
            last_final_s=max(0.0, self.last_final_s - self.started_s),
            lags_s=self.lags_s,
        )
