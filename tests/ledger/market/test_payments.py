"""Payments between customers of two banks: at once through reserves, or in a queue that nothing overtakes."""

import pytest

from p2pledger.ledger.market.buckets import Bucket, Spot, amount_in
from p2pledger.ledger.market.due import DueItem, next_due_ms
from p2pledger.ledger.market.payments import (
    DAY_MS,
    Payment,
    PaymentStatus,
    queue_of,
    retry_payment,
    waiting_amount,
)
from p2pledger.ledger.tables import Asset, Table
from p2pledger.primitives.market.money import (
    AuthoriseMoney,
    CancelPayment,
    MoneyKind,
    PayAcross,
    Quarantine,
    ReleasePayment,
)
from p2pledger.primitives.market.parties import Effect, RoleNumber, SetPermission
from p2pledger.primitives.names import AssetKind, asset_id
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import Define, Issue, Redeem, Transfer
from tests.ledger.market.market_world import (
    BASE_CASH,
    BOND,
    CASH,
    HOUR_MS,
    OTHER_CASH,
    World,
    account,
    founded,
    with_money,
)

ALICE, BOB, CAROL, DAVE = (account(name) for name in ("alice", "bob", "carol", "dave"))
PBOC, ICBC, CMBC = account("pboc"), account("icbc"), account("cmbc")


def pay(
    payer: str,
    payee: str,
    amount: int,
    salt: int = 0,
    *,
    source: bytes = CASH,
    target: bytes = OTHER_CASH,
    until: int = 0,
) -> PayAcross:
    return PayAcross(account(payer), account(payee), source, target, amount, salt.to_bytes(16, "big"), until)


@pytest.fixture
def world() -> World:
    return with_money(founded())


@pytest.fixture
def short() -> World:
    """ICBC has 1,000 of reserves left."""
    world = with_money(founded())
    world.do(Transfer(ICBC, account("auditor"), BASE_CASH, 99_000), "icbc")
    return world


def payment_of(world: World, operation: PayAcross) -> Payment:
    row = world.row(Payment, operation.id)
    assert row is not None
    assert Payment.decode(row.encode()) == row
    return row


def circulating(world: World, asset: bytes) -> int:
    row = world.row(Asset, asset)
    assert row is not None
    return row.circulating


def queued(world: World) -> list[bytes]:
    return [identifier for identifier, _ in queue_of(world.books, CASH)]


# At once


def test_one_bank_burns_reserves_move_and_the_other_one_mints(world: World) -> None:
    paid = pay("alice", "dave", 20_000)
    world.do(paid, "alice")
    assert (world.free("alice", CASH), world.free("dave", OTHER_CASH)) == (30_000, 70_000)
    assert (world.free("icbc", BASE_CASH), world.free("cmbc", BASE_CASH)) == (80_000, 120_000)
    assert (circulating(world, CASH), circulating(world, OTHER_CASH)) == (130_000, 70_000)
    row = payment_of(world, paid)
    assert (row.status, row.entry_ms, row.end_ms, row.end_height) == (
        PaymentStatus.SETTLED,
        world.now_ms,
        world.now_ms,
        world.height,
    )


def test_it_may_stand_beside_other_operations_in_one_transaction(world: World) -> None:
    """All or nothing: the second payment lacks cover in the payer's account, so the first does not happen either."""
    both = (pay("alice", "dave", 50_000, 1), pay("alice", "dave", 1, 2))
    world.refuse("insufficient_free", both, "alice")
    assert world.free("alice", CASH) == 50_000
    assert world.row(Payment, both[0].id) is None


def test_what_a_payment_across_is_refused_for(world: World) -> None:
    world.refuse("zero_amount", pay("alice", "dave", 0), "alice")
    world.refuse(
        "wrong_money", pay("alice", "bob", 1, target=CASH), "alice", rule="within one bank money is transferred"
    )
    world.refuse("unauthorised", pay("alice", "dave", 1), "dave")
    world.refuse("insufficient_free", pay("alice", "dave", 50_001), "alice")
    world.refuse("wrong_money", pay("icbc", "dave", 1, source=BASE_CASH), "icbc", rule="CNY@PBOC is base money")
    world.refuse("unknown_money", pay("alice", "dave", 1, target=asset_id("CNY@CSDC")), "alice")
    stranger = PayAcross(ALICE, b"?" * 32, CASH, OTHER_CASH, 1, bytes(16))
    world.refuse("unknown_account", stranger, "alice")
    world.refuse("wrong_time", pay("alice", "dave", 1, until=world.now_ms + 1_000), "alice")
    world.do(pay("alice", "dave", 1), "alice")
    world.refuse("identifier_used", pay("alice", "dave", 2), "alice")


@pytest.mark.parametrize("bank", ["icbc", "cmbc"])
def test_a_permission_of_either_banks_register_may_limit_payments(world: World, bank: str) -> None:
    register = bank.upper().encode()
    limit = SetPermission(
        account("operator"), "small payments", Effect.ALLOW, RoleNumber.ANYBODY, b"", (67,), "", register, 100
    )
    world.do(limit, "operator")
    world.do(pay("alice", "dave", 100), "alice")
    world.refuse("not_permitted", pay("alice", "dave", 101, 1), "alice", rule="small payments")


def test_banks_without_common_base_money_cannot_pay_each_other(world: World) -> None:
    second = asset_id("CNY@CSDC")
    world.do(Define(second, int(AssetKind.MONEY), 2, PBOC, "More base money"), "csdc", "pboc")
    third = asset_id("CNY@CCDC")
    world.do(Define(third, int(AssetKind.MONEY), 2, CMBC, "More money of CMBC"), "ccdc", "cmbc")
    world.do(AuthoriseMoney(PBOC, second, MoneyKind.BASE), "pboc")
    terms = AuthoriseMoney(PBOC, third, MoneyKind.BANK, second, CMBC, account("auditor"), HOUR_MS)
    world.do(terms, "pboc", "cmbc")
    world.refuse("wrong_money", pay("alice", "dave", 1, target=third), "alice", rule="the banks share no base money")


def test_two_moneys_of_one_reserve_account_need_no_reserves(world: World) -> None:
    second = asset_id("CNY@CSDC")
    world.do(Define(second, int(AssetKind.MONEY), 2, ICBC, "Savings at ICBC"), "csdc", "icbc")
    world.do(AuthoriseMoney(PBOC, second, MoneyKind.BANK, BASE_CASH, ICBC, account("auditor"), HOUR_MS), "pboc", "icbc")
    world.do(Redeem(BASE_CASH, ICBC, 100_000), "icbc", "pboc")
    world.do(pay("alice", "alice", 500, target=second), "alice")
    assert (world.free("alice", CASH), world.free("alice", second)) == (49_500, 500)


def test_a_payment_mints_without_an_attestation_for_reserves_stand_behind_it(world: World) -> None:
    world.wait_until(world.now_ms + 2 * HOUR_MS)
    world.refuse("stale_attestation", Issue(OTHER_CASH, DAVE, 1), "cmbc")
    world.do(pay("alice", "dave", 1), "alice")


# The queue


def test_short_reserves_make_a_payment_wait_and_it_is_pending_meanwhile(short: World) -> None:
    first = pay("alice", "dave", 5_000)
    short.do(first, "alice")
    assert payment_of(short, first).status is PaymentStatus.WAITING
    holding = short.holding("alice", CASH)
    assert (holding.free, holding.locked) == (45_000, 5_000)
    assert amount_in(short.books, CASH, ALICE, Spot(Bucket.PENDING, first.id)) == 5_000
    assert short.free("dave", OTHER_CASH) == 50_000
    assert waiting_amount(short.books, CASH) == 5_000
    short.refuse("insufficient_free", Transfer(ALICE, BOB, CASH, 45_001), "alice")


def test_nothing_overtakes(short: World) -> None:
    """The second payment is small enough for the reserves, and still comes after the first."""
    great, small = pay("alice", "dave", 5_000, 1), pay("bob", "dave", 10, 2)
    short.do(great, "alice")
    short.do(small, "bob")
    assert queued(short) == [great.id, small.id]
    short.wait_until(short.now_ms + HOUR_MS)
    assert queued(short) == [great.id, small.id]
    short.do(Transfer(account("auditor"), ICBC, BASE_CASH, 4_000), "auditor")
    short.wait_until(short.now_ms + 60_000)
    assert queued(short) == [small.id]
    assert short.free("icbc", BASE_CASH) == 0


def test_where_it_may_not_wait_it_is_refused_and_what_it_pays_for_does_not_move(short: World) -> None:
    """Delivery against payment across two banks: the bond must not go while the money waits."""
    price = PayAcross(ALICE, DAVE, CASH, OTHER_CASH, 1_001, bytes(16), may_wait=False)
    sale = (Transfer(BOB, ALICE, BOND, 10), price)
    short.refuse("short_reserves", sale, "alice", "bob", rule="reserves of CNY@ICBC")
    assert short.free("bob", BOND) == 1_000
    cheaper = PayAcross(ALICE, DAVE, CASH, OTHER_CASH, 1_000, bytes(16), may_wait=False)
    short.do((Transfer(BOB, ALICE, BOND, 10), cheaper), "alice", "bob")
    assert payment_of(short, cheaper).status is PaymentStatus.SETTLED


def test_payments_of_one_block_wait_in_their_order(short: World) -> None:
    payments = [pay("alice", "dave", 2_000 + number, number) for number in range(6)]
    short.block(*(short.signed(payment, "alice") for payment in payments))
    assert queued(short) == [payment.id for payment in payments]


def test_reserves_that_come_by_a_payment_are_used_in_the_next_block(short: World) -> None:
    waiting = pay("alice", "dave", 5_000, 1)
    short.do(waiting, "alice")
    short.do(pay("dave", "bob", 4_000, 2, source=OTHER_CASH, target=CASH), "dave")
    assert payment_of(short, waiting).status is PaymentStatus.WAITING
    assert next_due_ms(short.version) == short.now_ms
    short.wait_until(short.now_ms + 1)
    row = payment_of(short, waiting)
    assert (row.status, row.end_ms) == (PaymentStatus.SETTLED, short.now_ms)
    assert short.free("dave", OTHER_CASH) == 50_000 - 4_000 + 5_000
    assert short.holding("alice", CASH).locked == 0
    assert next_due_ms(short.version) is None


def test_it_is_tried_after_1_2_4_seconds_and_then_every_minute(short: World) -> None:
    waiting = pay("alice", "dave", 5_000)
    short.do(waiting, "alice")
    delays = []
    for _ in range(9):
        due_ms = next_due_ms(short.version)
        assert due_ms is not None
        delays.append((due_ms - short.now_ms) // 1_000)
        short.wait_until(due_ms)
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert payment_of(short, waiting).tries == 9


def test_reserves_that_came_otherwise_are_used_by_releasing(short: World) -> None:
    waiting, other = pay("alice", "dave", 5_000, 1), pay("bob", "dave", 100, 2)
    short.do(waiting, "alice")
    short.do(other, "bob")
    rule = short.refuse("short_reserves", ReleasePayment(ALICE, waiting.id), "alice")
    assert rule == "reserves of CNY@ICBC"
    short.do(Transfer(account("auditor"), ICBC, BASE_CASH, 4_100), "auditor", at_ms=short.now_ms + 1)
    short.do(ReleasePayment(ICBC, other.id), "icbc", at_ms=short.now_ms + 1)  # and what waited before it
    assert [payment_of(short, item).status for item in (waiting, other)] == [PaymentStatus.SETTLED] * 2
    assert next_due_ms(short.version) is None
    short.refuse("payment_over", ReleasePayment(ALICE, waiting.id), "alice", rule="it is settled")


def test_releasing_moves_no_other_payment_unless_its_own_is_made(short: World) -> None:
    payments = [pay("alice", "dave", amount, amount) for amount in (1_500, 2_000)]
    for payment in payments:
        short.do(payment, "alice")
    short.do(Transfer(account("auditor"), ICBC, BASE_CASH, 1_000), "auditor", at_ms=short.now_ms + 1)
    short.refuse("short_reserves", ReleasePayment(ALICE, payments[1].id), "alice", at_ms=short.now_ms + 1)
    assert queued(short) == [payment.id for payment in payments]


def test_the_payer_or_his_bank_cancels_what_waits(short: World) -> None:
    payments = [pay("alice", "dave", 5_000, 1), pay("alice", "dave", 6_000, 2)]
    for payment in payments:
        short.do(payment, "alice")
    short.refuse("unknown_payment", CancelPayment(DAVE, payments[0].id), "dave")
    short.refuse("unknown_payment", CancelPayment(ALICE, b"?" * 32), "alice")
    short.do(CancelPayment(ICBC, payments[0].id), "icbc")
    short.do(CancelPayment(ALICE, payments[1].id), "alice")
    assert short.holding("alice", CASH).free == 50_000
    assert queued(short) == []
    assert next_due_ms(short.version) is None
    assert payment_of(short, payments[1]).status is PaymentStatus.CANCELLED
    short.refuse("payment_over", CancelPayment(ALICE, payments[1].id), "alice", rule="it is cancelled")


@pytest.mark.parametrize("until_ms", [5_000, 0])
def test_what_waits_is_returned_when_it_expires(short: World, until_ms: int) -> None:
    entry_ms = short.now_ms + 1_000
    waiting = pay("alice", "dave", 5_000, until=until_ms and entry_ms + until_ms)
    short.do(waiting, "alice")
    expires_ms = payment_of(short, waiting).expires_ms
    assert expires_ms == entry_ms + (until_ms or DAY_MS)
    short.wait_until(expires_ms - 1)
    assert payment_of(short, waiting).status is PaymentStatus.WAITING
    short.wait_until(expires_ms)
    row = payment_of(short, waiting)
    assert (row.status, row.reason, row.end_ms) == (PaymentStatus.RETURNED, Reason.WRONG_TIME, expires_ms)
    assert short.free("alice", CASH) == 50_000
    assert next_due_ms(short.version) is None


@pytest.mark.parametrize("asset", [CASH, OTHER_CASH])
def test_what_waits_is_returned_when_one_of_the_banks_has_failed(short: World, asset: bytes) -> None:
    waiting, other = pay("alice", "dave", 5_000, 1), pay("bob", "dave", 5_000, 2)
    short.do(waiting, "alice")
    short.do(other, "bob")
    short.do(Quarantine(PBOC, asset, True, bytes(32)), "pboc")
    short.wait_until(short.now_ms + 60_000)
    for payment in (waiting, other):
        row = payment_of(short, payment)
        assert (row.status, row.reason) == (PaymentStatus.RETURNED, Reason.QUARANTINED)
    assert short.free("alice", CASH) == 50_000


def test_a_release_says_what_else_stands_in_the_way(short: World) -> None:
    waiting = pay("alice", "dave", 5_000)
    short.do(waiting, "alice")
    short.do(Transfer(account("auditor"), ICBC, BASE_CASH, 4_000), "auditor", at_ms=short.now_ms + 1)
    short.do(Quarantine(PBOC, OTHER_CASH, True, bytes(32)), "pboc", at_ms=short.now_ms + 1)
    refused = ReleasePayment(ALICE, waiting.id)
    short.refuse("quarantined", refused, "alice", rule="quarantine of CNY@CMBC", at_ms=short.now_ms + 1)


def test_due_work_about_a_payment_that_is_over_does_nothing(world: World) -> None:
    paid = pay("alice", "dave", 1)
    world.do(paid, "alice")
    books = world.books
    assert retry_payment(books, world.place, paid.id) == 1
    assert retry_payment(books, world.place, b"?" * 32) == 1
    assert books.mark() == {}


def test_a_long_queue_is_no_long_agenda(short: World) -> None:
    """The first alone is tried again and again: who hands in many payments does not crowd out other due work."""
    payments = [pay("alice", "dave", 2_000, number) for number in range(20)]
    short.block(*(short.signed(payment, "alice") for payment in payments))
    soon_ms = short.now_ms + HOUR_MS

    def planned() -> list[bytes]:
        items = [DueItem.of(key) for key, _ in short.version.scan(Table.DUE)]
        return [item.reference for item in items if item.time_ms <= soon_ms]

    assert planned() == [payments[0].id]
    short.do(CancelPayment(ALICE, payments[0].id), "alice")
    assert planned() == [payments[1].id]
    assert short.wait_until(short.now_ms + 60_000).due.cost == 1
    assert planned() == [payments[1].id]


def test_a_long_queue_is_made_in_parts(short: World) -> None:
    payments = [pay("alice", "dave", 10, number) for number in range(1, 101)]
    short.do(pay("bob", "dave", 1_001, 0), "bob")
    short.block(*(short.signed(payment, "alice") for payment in payments))
    assert waiting_amount(short.books, CASH) == 2_001
    short.do(Transfer(account("auditor"), ICBC, BASE_CASH, 10_000), "auditor")
    short.wait_until(short.now_ms + 60_000)
    short.wait_until(short.now_ms + 60_000)
    assert queued(short) == []
    assert next_due_ms(short.version) is None
    assert short.free("icbc", BASE_CASH) == 11_000 - 2_001
