"""The load generator against a ledger that is played by the test, on a clock that the test owns.

What must hold: latency runs from when a trade was due, whoever was slow; nothing is counted twice or forgotten;
and what a client was told when its node went away is told again by the next.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from p2pledger.load.generator import Load, Outcome, Session, percentile
from p2pledger.load.orders import Order
from p2pledger.load.trades import Trade
from p2pledger.primitives.errors import P2PLedgerError
from p2pledger.primitives.reasons import Reason

Answer = Callable[["FakeLedger", bytes], tuple[int, float | None]]
"""transaction -> (code at the edge, after how many seconds it is final; None: never)"""


def orders(count: int) -> list[Order]:
    trade = Trade(0, "ann", "bob", "A@CSDC", "A@CSDC", 1, "CNY@ICBC", 1)
    return [Order(trade, i.to_bytes(32, "big"), 100, i.to_bytes(32, "big")) for i in range(count)]


class FakeLedger:
    """Nodes that share one ledger; each submission is answered by the function."""

    def __init__(self, answer: Answer, *, nodes: int = 2) -> None:
        self.answer = answer
        self.final: dict[bytes, Outcome] = {}
        self.submissions: list[tuple[int, float, int]] = []
        self.busy_once: set[bytes] = set()
        self.down: set[int] = set()
        self.nursery: trio.Nursery
        self._sessions: list[FakeSession] = []

    @asynccontextmanager
    async def connect(self, node: int) -> AsyncIterator[Session]:
        if node in self.down:
            raise P2PLedgerError("nobody is there", code="cannot_connect")
        session = FakeSession(self, node)
        self._sessions.append(session)
        yield session

    def kill(self, node: int) -> None:
        self.down.add(node)
        for session in self._sessions:
            if session.node == node:
                session.sender.close()


class FakeSession:
    def __init__(self, ledger: FakeLedger, node: int) -> None:
        self.ledger, self.node = ledger, node
        self.sender, self.receiver = trio.open_memory_channel[Outcome](10_000)

    async def submit(self, transactions: Sequence[bytes]) -> tuple[Sequence[int], int]:
        await trio.lowlevel.checkpoint()
        if self.node in self.ledger.down:
            raise P2PLedgerError("the connection is lost", code="connection_lost")
        self.ledger.submissions.append((self.node, trio.current_time(), len(transactions)))
        codes = []
        for data in transactions:
            code, delay_s = self.ledger.answer(self.ledger, data)
            codes.append(code)
            if delay_s is not None:
                self.ledger.nursery.start_soon(self._settle, data, delay_s)
        return codes, 50

    async def _settle(self, data: bytes, delay_s: float) -> None:
        await trio.sleep(delay_s)
        outcome = self.ledger.final.setdefault(data, Outcome(data, 1, 0))
        if self.node not in self.ledger.down:
            self.sender.send_nowait(outcome)

    async def next_outcomes(self) -> Sequence[Outcome]:
        try:
            return [await self.receiver.receive()]
        except trio.EndOfChannel:
            raise P2PLedgerError("the connection is lost", code="connection_lost") from None


async def play(
    answer: Answer, *, count: int = 100, rate_per_s: float = 100, during: Callable[[FakeLedger], None] | None = None,
    at_s: float = 0.0,
) -> tuple[Load, FakeLedger]:  # fmt: skip
    ledger = FakeLedger(answer)
    load = Load(
        iter(orders(count)), moments=[number / rate_per_s for number in range(count)], nodes=2, gateways=2,
        connect=ledger.connect, patience_s=30.0,
    )  # fmt: skip
    await load.sign_ahead()
    async with trio.open_nursery() as nursery:
        ledger.nursery = nursery

        async def interfere() -> None:
            await trio.sleep(at_s)
            assert during is not None
            during(ledger)

        if during is not None:
            nursery.start_soon(interfere)
        await load.run()
        nursery.cancel_scope.cancel()
    return load, ledger


async def test_every_trade_is_sent_when_it_is_due_and_counted_once(autojump_clock: trio.testing.MockClock) -> None:
    load, ledger = await play(lambda ledger, data: (0, 0.2))
    result = load.result()
    assert (result.submitted, result.committed, result.timed_out, result.unfinished) == (100, 100, 0, 0)
    assert result.rejected == {}
    assert sum(count for _, _, count in ledger.submissions) == 100
    assert {node for node, _, _ in ledger.submissions} == {0, 1}
    # Never early; late by a slot at most.
    assert min(result.latencies_s) >= 0.2 - 1e-9
    assert max(result.latencies_s) < 0.22


async def test_a_stall_is_counted_from_the_moment_a_trade_was_due(autojump_clock: trio.testing.MockClock) -> None:
    """The ledger settles nothing for two seconds: the first trades wait two seconds, and nobody stops sending."""
    begun = trio.current_time()
    load, ledger = await play(lambda ledger, data: (0, max(0.01, begun + 2 - trio.current_time())))
    ordered = sorted(load.result().latencies_s)
    assert ordered[-1] > 1.8
    assert ordered[0] < 1.0
    assert max(moment for _, moment, _ in ledger.submissions) - begun < 1.2


async def test_busy_is_not_an_outcome_and_its_time_counts(autojump_clock: trio.testing.MockClock) -> None:
    def answer(ledger: FakeLedger, data: bytes) -> tuple[int, float | None]:
        if data not in ledger.busy_once:
            ledger.busy_once.add(data)
            return Reason.BUSY, None
        return 0, 0.1

    load, _ = await play(answer)
    result = load.result()
    assert result.committed == 100
    assert min(result.latencies_s) >= 0.15


async def test_refusals_are_counted_by_their_reason(autojump_clock: trio.testing.MockClock) -> None:
    def answer(ledger: FakeLedger, data: bytes) -> tuple[int, float | None]:
        if data[-1] == 7:
            return Reason.BAD_SIGNATURE, None
        if data[-1] == 8:
            ledger.final[data] = Outcome(data, 1, Reason.INSUFFICIENT_FREE)
        return 0, 0.1

    load, _ = await play(answer)
    result = load.result()
    assert result.rejected == {"bad_signature": 1, "insufficient_free": 1}
    assert result.committed == 98
    assert len(result.latencies_s) == 98


async def test_what_never_becomes_final_times_out(autojump_clock: trio.testing.MockClock) -> None:
    load, _ = await play(lambda ledger, data: (0, None if data[-1] < 5 else 0.1))
    result = load.result()
    assert (result.committed, result.timed_out, result.unfinished) == (95, 5, 0)


async def test_late_is_committed_with_its_true_latency(autojump_clock: trio.testing.MockClock) -> None:
    """One trade comes after its client stopped waiting, while others still run; one is only found at the end."""

    def answer(ledger: FakeLedger, data: bytes) -> tuple[int, float | None]:
        return 0, {0: 35.0, 1: None}.get(int.from_bytes(data, "big"), 0.1)

    load, _ = await play(answer, count=1_000, rate_per_s=25)
    before = load.result()
    assert (before.committed, before.timed_out) == (999, 1)
    assert max(before.latencies_s) == pytest.approx(35.0, abs=0.1)

    async def lookup(asked: Sequence[Order]) -> Sequence[Outcome | None]:
        await trio.lowlevel.checkpoint()
        return [Outcome(order.id, 2, 0) for order in asked]

    await load.settle_late(lookup)
    result = load.result()
    assert (result.committed, result.timed_out, result.unfinished) == (1_000, 0, 0)
    assert max(result.latencies_s) > 39


async def test_when_a_node_dies_its_clients_go_to_the_next_and_send_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    load, ledger = await play(lambda ledger, data: (0, 0.3), during=lambda ledger: ledger.kill(0), at_s=0.5)
    result = load.result()
    assert (result.submitted, result.committed) == (100, 100)
    assert set(ledger.final) == {order.id for order in load.orders}
    assert all(node == 1 for node, moment, _ in ledger.submissions if moment > trio.current_time() - 0.3)
    assert sum(count for _, _, count in ledger.submissions) > 100


async def test_an_outcome_that_is_heard_twice_is_counted_once(autojump_clock: trio.testing.MockClock) -> None:
    heard: list[int] = []
    ledger = FakeLedger(lambda ledger, data: (0, 0.1))
    load = Load(
        iter(orders(10)), moments=[number / 100 for number in range(10)], nodes=1, gateways=1, connect=ledger.connect
    )
    load.on_final = lambda order, code: heard.append(code)
    async with trio.open_nursery() as nursery:
        ledger.nursery = nursery
        await load.sign_ahead()
        await load.run()
        for order in load.orders:
            load.seen_final(Outcome(order.id, 1, 0))
    assert heard == [0] * 10
    assert load.result().committed == 10


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(100, 0.50, 50), (100, 0.99, 99), (100, 1.0, 100), (1, 0.99, 1), (10, 0.99, 10), (101, 0.5, 51)],
)
def test_percentiles_are_samples(count: int, share: float, expected: int) -> None:
    assert percentile(range(1, count + 1), share) == expected


def test_the_percentile_of_nothing_is_zero() -> None:
    assert percentile([], 0.99) == 0
