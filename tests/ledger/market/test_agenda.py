"""Due work: in the order of its time, within a budget, first in a block, and the same in a simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

import pytest

from p2pledger.ledger.books import Books
from p2pledger.ledger.market import agenda
from p2pledger.ledger.market.due import Due, DueItem, DueKind, due_key, next_due_ms, schedule, unschedule
from p2pledger.ledger.rule import Place, Refused
from p2pledger.ledger.tables import Holding, Table
from p2pledger.ledger.transition import simulate
from p2pledger.primitives.codec import U64_MAX
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import Transfer
from tests.ledger.market.market_world import BOND, DAY_MS, START_MS, World, account, founded

ALICE, BOB, DAVE = account("alice"), account("bob"), account("dave")
Handlers = Callable[[int], "Diary"]


def reference(number: int) -> bytes:
    return number.to_bytes(32, "big")


class Diary:
    """A handler for every kind that notes what it did, in the state itself: a unit to dave for each item."""

    def __init__(self, cost: int) -> None:
        self.cost = cost
        self.fails: set[bytes] = set()
        self.again_ms: int | None = None

    def __call__(self, books: Books, place: Place, about: bytes) -> int:
        alice, dave = books.holding(BOND, ALICE), books.holding(BOND, DAVE)
        books.put_holding(BOND, ALICE, Holding(alice.free - 1, alice.locked))
        books.put_holding(BOND, DAVE, Holding(dave.free + 1, dave.locked))
        if about in self.fails:
            raise Refused(Reason.OVERFLOW)
        if self.again_ms is not None:
            schedule(books, self.again_ms, DueKind.SETTLE, about)
        return self.cost


@pytest.fixture
def diary(monkeypatch: pytest.MonkeyPatch) -> Handlers:
    def put_in(cost: int) -> Diary:
        found = Diary(cost)
        monkeypatch.setattr(agenda, "HANDLERS", MappingProxyType(dict.fromkeys(DueKind, found)))
        return found

    return put_in


def plan(world: World, *items: tuple[int, DueKind, int]) -> None:
    books = world.books
    for time_ms, kind, number in items:
        schedule(books, time_ms, kind, reference(number))
    with world.version.branch() as branch:
        books.post(branch)
        world.version = branch.commit()


def left(world: World) -> list[int]:
    """The numbers of the items that are still there, in their order."""
    return [int.from_bytes(DueItem.of(key).reference, "big") for key, _ in world.books.rows(Due)]


def done(world: World) -> int:
    return world.free("dave", BOND)


def test_items_lie_in_the_order_of_time_then_kind_then_reference() -> None:
    wanted = [(5, DueKind.SETTLE, 2), (5, DueKind.RECYCLE, 1), (5, DueKind.RECYCLE, 2), (256, DueKind.SETTLE, 1)]
    keys = [due_key(time_ms, kind, reference(number)) for time_ms, kind, number in wanted]
    assert keys == sorted(keys)
    assert [DueItem.of(key) for key in keys] == [DueItem(at, kind, reference(number)) for at, kind, number in wanted]
    assert due_key(U64_MAX + 9, DueKind.SETTLE, reference(1))[:8] == b"\xff" * 8
    with pytest.raises(AssertionError):
        due_key(1, DueKind.SETTLE, b"short")


def test_what_is_scheduled_twice_is_there_once_and_can_be_taken_back() -> None:
    world = founded()
    books = world.books
    for _ in range(2):
        schedule(books, START_MS, DueKind.SETTLE, reference(1))
    assert len(list(books.rows(Due))) == 1
    unschedule(books, START_MS, DueKind.SETTLE, reference(2))
    unschedule(books, START_MS, DueKind.SETTLE, reference(1))
    assert list(books.rows(Due)) == []
    assert next_due_ms(world.version) is None


def test_nothing_happens_a_millisecond_before_its_time(diary: Handlers) -> None:
    diary(1)
    world = founded()
    time_ms = world.now_ms + DAY_MS
    plan(world, (time_ms, DueKind.SETTLE, 1))
    assert next_due_ms(world.version) == time_ms
    assert world.wait_until(time_ms - 1).due.cost == 0
    assert done(world) == 0
    assert world.wait_until(time_ms).due.cost == 1
    assert (done(world), left(world)) == (1, [])


def test_a_jump_over_many_times_does_all_of_them_in_their_order_within_the_budget(diary: Handlers) -> None:
    diary(1)
    world = founded(due_per_block=4)
    start_ms = world.now_ms
    plan(world, *((start_ms + DAY_MS * (9 - number), DueKind.SETTLE, number) for number in range(9)))
    world.wait_until(start_ms + 30 * DAY_MS)
    assert (done(world), left(world)) == (4, [4, 3, 2, 1, 0])
    world.block()
    assert (done(world), left(world)) == (8, [0])
    world.block()
    assert (done(world), left(world)) == (9, [])
    assert world.outcome(()).due.cost == 0


@pytest.mark.parametrize(("cost", "expected"), [(1, 5), (3, 2), (5, 1), (1_000, 1), (0, 5)])
def test_the_first_always_runs_and_the_last_may_exceed_the_budget(diary: Handlers, cost: int, expected: int) -> None:
    diary(cost)
    world = founded(due_per_block=5)
    plan(world, *((START_MS, DueKind.SETTLE, number) for number in range(7)))
    outcome = world.outcome(())
    assert done(world) == expected
    assert outcome.due.cost == expected * max(1, cost)


def test_what_comes_into_the_queue_while_it_is_done_is_done_too_if_its_time_has_come(diary: Handlers) -> None:
    keeper = diary(1)
    world = founded(due_per_block=3)
    plan(world, (START_MS, DueKind.SETTLE, 1))
    keeper.again_ms = START_MS + 1
    world.block()
    assert (done(world), left(world)) == (3, [1]), "the budget ends what would never end"
    keeper.again_ms = world.now_ms + DAY_MS
    world.block()
    assert (done(world), left(world)) == (4, [1])
    world.block()
    assert done(world) == 4


def test_a_handler_that_refuses_leaves_no_trace_and_holds_nobody_up(diary: Handlers) -> None:
    keeper = diary(1)
    keeper.fails = {reference(2)}
    world = founded()
    plan(world, *((START_MS, DueKind.SETTLE, number) for number in (1, 2, 3)))
    world.due_may_refuse = True
    outcome = world.outcome(())
    assert (done(world), left(world)) == (2, [])
    assert outcome.due.dropped == (DueItem(START_MS, DueKind.SETTLE, reference(2)),)


def test_due_work_comes_before_the_transactions_of_its_block_and_of_a_simulation(diary: Handlers) -> None:
    """Alice has 1,000: after the item she cannot pay all of them. ``World`` compares what both say."""
    diary(1)
    world = founded()
    time_ms = world.now_ms + DAY_MS
    plan(world, (time_ms, DueKind.SETTLE, 1))
    payment = world.signed(Transfer(ALICE, BOB, BOND, 1_000), "alice")

    def said(at_ms: int) -> Reason:
        return simulate(world.version, payment, height=world.height + 1, time_ms=at_ms, spec=world.spec).receipt.reason

    root = world.version.root()
    assert said(time_ms - 1) is Reason.OK
    assert said(time_ms) is Reason.INSUFFICIENT_FREE
    assert world.version.root() == root, "a simulation leaves no trace"
    world.refuse("insufficient_free", Transfer(ALICE, BOB, BOND, 1_000), "alice", at_ms=time_ms)
    assert done(world) == 1


def test_two_branches_across_a_time_do_each_what_is_due_on_it(diary: Handlers) -> None:
    """A reorganisation across a cut-off: the branch that is followed decides, and nothing of the other one is left."""
    diary(1)
    world = founded()
    time_ms = world.now_ms + 1_500
    plan(world, (time_ms, DueKind.SETTLE, 1))
    fork, height, now_ms = world.version, world.height, world.now_ms

    def follow(times: Sequence[int]) -> tuple[int, list[int]]:
        world.version, world.height, world.now_ms = fork, height, now_ms
        for at_ms in times:
            world.wait_until(at_ms)
        return done(world), left(world)

    assert follow([time_ms - 1]) == (0, [1])
    before = world.version.root()
    assert follow([time_ms]) == (1, [])
    assert follow([time_ms - 1]) == (0, [1])
    assert world.version.root() == before
    assert follow([time_ms - 1, time_ms + 1]) == (1, [])


def test_every_kind_has_a_handler() -> None:
    assert set(agenda.HANDLERS) == set(DueKind)


def test_the_rows_of_the_queue_count_for_the_securities_root_and_travel_in_snapshots() -> None:
    from p2pledger.ledger.securities import securities_root
    from p2pledger.ledger.snapshot import export_chunks, import_chunks

    world = founded()
    before = securities_root(world.version)
    plan(world, (START_MS + DAY_MS, DueKind.SETTLE, 1))
    assert securities_root(world.version) != before
    copy = import_chunks(export_chunks(world.version), root=world.version.root())
    assert copy.get(Table.DUE, due_key(START_MS + DAY_MS, DueKind.SETTLE, reference(1))) == Due().encode()
