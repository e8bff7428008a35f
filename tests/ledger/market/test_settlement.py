"""Settlement: the moment of lock, what stays in force from there on, and what the ledger settles by itself."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pledger.ledger.market.buckets import Bucket, Spot, amount_in
from p2pledger.ledger.market.calendars import CalendarRow, calendar_key
from p2pledger.ledger.market.due import DueItem, DueKind
from p2pledger.ledger.market.holders import holder_count, miscounts
from p2pledger.ledger.market.instructions import (
    NEVER,
    RULES_VERSION,
    IsoReason,
    Matched,
    Moment,
    Processing,
    Settlement,
)
from p2pledger.ledger.market.settlement import simulate_settlement
from p2pledger.ledger.queries import check_conservation
from p2pledger.ledger.tables import Holding, Table, holding_key
from p2pledger.primitives.market.calendars import Lateness
from p2pledger.primitives.market.instructions import (
    Affirm,
    AuthoriseVenue,
    Cancel,
    Instruct,
    Leg,
    Origin,
    SetHold,
)
from p2pledger.primitives.market.instruments import Describe, Nature, SetHolderRules, SetVenue
from p2pledger.primitives.market.money import AuthoriseMoney, MoneyKind, Quarantine, SetPaymentPolicy
from p2pledger.primitives.market.orders import Order, Power
from p2pledger.primitives.market.parties import Effect, IssueClaim, RoleNumber, SetPermission, TrustIssuer
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import Transfer
from tests.ledger.market.market_world import (
    BASE_CASH,
    BOND,
    BOND_ACROSS,
    CASH,
    DAY_MS,
    OTHER_CASH,
    SHARE,
    START_MS,
    World,
    account,
    founded,
)
from tests.ledger.market.trading import (
    TODAY,
    affirm,
    at,
    calendar,
    dvp,
    instruct,
    leg,
    lock,
    matched,
    salt,
    settle,
    state,
    upload,
)
from tests.ledger.small_market import altered

NOWHERE = bytes(31) + b"\x01"


def queue(world: World) -> list[DueItem]:
    return [DueItem.of(key) for key, _ in world.version.scan(Table.DUE, limit=10_000)]


def reserved(world: World, name: str, asset: bytes, identifier: bytes) -> int:
    return amount_in(world.books, asset, account(name), Spot(Bucket.SETTLING, identifier))


# The path of a trade


def test_a_trade_is_instructed_matched_locked_and_settled() -> None:
    world = founded()
    sold, bought = instruct("alice", dvp(), "bob"), instruct("bob", dvp(), "alice")
    world.do(sold, "alice")
    entry = Moment(world.height, world.now_ms)
    world.do(bought, "bob")
    world.do(lock(bought.id, "alice"), "alice")
    irrevocable = Moment(world.height, world.now_ms)
    row = state(world, sold.id)
    assert (row.entry, row.irrevocable, row.final) == (entry, irrevocable, NEVER)
    assert (row.matched, row.settlement, row.rules_version) == (Matched.MATCHED, Settlement.PENDING, RULES_VERSION)
    assert world.holding("alice", BOND) == Holding(990, 10)
    assert world.holding("bob", CASH) == Holding(49_000, 1_000)
    assert reserved(world, "alice", BOND, sold.id) == 10
    world.do(settle(sold.id, "bob"), "bob")
    row = state(world, sold.id)
    assert (row.settlement, row.reason, row.final) == (
        Settlement.SETTLED,
        IsoReason.NONE,
        Moment(world.height, world.now_ms),
    )
    assert world.holding("alice", BOND) == Holding(990)
    assert world.free("bob", BOND) == 1_010
    assert world.free("alice", CASH) == 51_000
    assert queue(world) == []


def test_one_transaction_can_do_it_all() -> None:
    world = founded()
    entered = instruct("alice", dvp(), "bob")
    world.do([entered, affirm(entered, "bob"), lock(entered.id, "bob"), settle(entered.id, "alice")], "alice", "bob")
    row = state(world, entered.id)
    assert row.entry == row.irrevocable == row.final == Moment(world.height, world.now_ms)


def test_settle_locks_and_settles_at_once() -> None:
    world = founded()
    identifier = matched(world)
    world.do(settle(identifier, "alice"), "alice")
    row = state(world, identifier)
    assert row.irrevocable == row.final == Moment(world.height, world.now_ms)


def test_reservation_is_gross() -> None:
    """Delivery versus payment, model 1: what comes in by the same instruction cannot be given by it."""
    world = founded()
    legs = [leg("bob", "alice", CASH, 40_000), leg("alice", "bob", CASH, 80_000)]
    entered = instruct("alice", legs, "bob")
    world.do([entered, affirm(entered, "bob")], "alice", "bob")
    world.refuse("insufficient_free", settle(entered.id, "alice"), "alice", rule="leg 1")


def test_what_is_reserved_cannot_be_given_twice() -> None:
    world = founded()
    first, second = matched(world, dvp(quantity=600)), matched(world, dvp(quantity=600))
    world.do(lock(first, "alice"), "alice")
    world.refuse("insufficient_free", lock(second, "alice"), "alice", rule="leg 0")
    world.refuse("insufficient_free", Transfer(account("alice"), account("carol"), BOND, 401), "alice")


# Refusals of lock and settle


def test_refusals_of_lock_and_settle() -> None:
    world = founded()
    for operation in (lock, settle):
        world.refuse("unknown_instruction", operation(NOWHERE, "alice"), "alice")
    unmatched = instruct("alice", dvp(), "bob")
    world.do(unmatched, "alice")
    identifier = matched(world)
    for operation in (lock, settle):
        world.refuse("not_matched", operation(unmatched.id, "alice"), "alice", rule="1 of 2 have affirmed")
        world.refuse("not_a_participant", operation(identifier, "carol"), "carol")
        world.refuse("unauthorised", operation(identifier, "alice"), "carol")
        world.do(SetHold(identifier, account("bob"), True), "bob")
        world.refuse("on_hold", operation(identifier, "alice"), "alice")
        world.do(SetHold(identifier, account("bob"), False), "bob")
    world.do(lock(identifier, "alice"), "alice")
    world.refuse("irrevocable", lock(identifier, "bob"), "bob")
    world.do(settle(identifier, "bob"), "bob")
    for operation in (lock, settle):
        world.refuse("instruction_closed", operation(identifier, "alice"), "alice")
    world.do(Cancel(unmatched.id, account("alice")), "alice")
    for operation in (lock, settle):
        world.refuse("instruction_closed", operation(unmatched.id, "alice"), "alice", rule="CANI")


def test_before_its_day_it_can_be_locked_but_not_settled() -> None:
    world = founded()
    world.do(calendar(), "operator")
    identifier = matched(world, settle_day=TODAY + 1, calendar="TARGET")
    assert state(world, identifier).reason is IsoReason.FUTU
    world.refuse("too_early", settle(identifier, "alice"), "alice", rule="calendar TARGET")
    assert not state(world, identifier).is_locked
    world.do(lock(identifier, "alice"), "alice")
    opening_ms = at(TODAY + 1, 8)
    world.refuse("too_early", settle(identifier, "alice"), "alice", at_ms=opening_ms - 1)
    world.do(settle(identifier, "alice"), "alice", at_ms=opening_ms)


@pytest.mark.parametrize(("late", "ends"), [(Lateness.REFUSE, "late"), (Lateness.MOVE, "too_early")])
def test_after_the_cut_off_nothing_new_is_locked_for_the_day(late: Lateness, ends: str) -> None:
    world = founded()
    world.do(calendar(late=late), "operator")
    identifier = matched(world, calendar="TARGET", at_ms=at(TODAY, 15))
    assert simulate_settlement(world.version, identifier, world.spec, time_ms=at(TODAY, 16, 0, 0, 999)).reason == 0
    world.refuse(ends, settle(identifier, "alice"), "alice", at_ms=at(TODAY, 16, 0, 1))
    if late is Lateness.MOVE:
        world.do(lock(identifier, "alice"), "alice")
        assert state(world, identifier).effective_day == TODAY + 1


# From lock on


def locked_at_venue(world: World) -> bytes:
    """A trade of the venue for tomorrow, in a bond with rules about its holders."""
    world.do(calendar(), "operator")
    world.do(SetVenue(account("csdc"), BOND, account("sse"), True), "csdc")
    for name in ("alice", "bob"):
        world.do(AuthoriseVenue(account(name), account("sse"), True), name)
    world.do(TrustIssuer(account("regulator"), "qualified", account("auditor"), True), "regulator")
    for name in ("alice", "bob"):
        claim = IssueClaim(account("auditor"), account(name), "qualified", "yes", START_MS + DAY_MS // 2)
        world.do(claim, "auditor")
    world.do(SetHolderRules(account("csdc"), BOND, required=("qualified",)), "csdc")
    trade = instruct("sse", dvp(), origin=Origin.VENUE, calendar="TARGET", settle_day=TODAY + 1)
    world.do(trade, "sse")
    world.do(lock(trade.id, "sse"), "sse")
    return trade.id


def switch_venue_off(world: World) -> None:
    world.do(SetVenue(account("csdc"), BOND, account("sse"), False), "csdc")


def forbid_instructing(world: World) -> None:
    denied = SetPermission(
        account("operator"), "nobody instructs", Effect.DENY, RoleNumber(0), b"", (Instruct.code,), "", b""
    )
    world.do(denied, "operator")


def move_the_calendar(world: World) -> None:
    world.do(calendar(holidays=(TODAY + 1,), opening=23 * 60, settlement=23 * 60 + 30, cut_off=1440), "operator")


def let_claims_expire(world: World) -> None:
    world.wait_until(START_MS + DAY_MS // 2 + 1)
    world.refuse("ineligible", Transfer(account("alice"), account("bob"), BOND, 1), "alice")


def suspend_the_instrument(world: World) -> None:
    described = Describe(
        account("csdc"), BOND, Nature.NATIVE, "DBFTFB", "", "BOND 1", "CNY", 0, TODAY, 0, "German law", ()
    )
    world.do(described, "csdc", "issuer")
    world.refuse("inactive", Transfer(account("alice"), account("bob"), BOND, 1), "alice")


def refuse_all_holders(world: World) -> None:
    world.do(SetHolderRules(account("csdc"), BOND, countries=("ZZ",)), "csdc")


def spend_the_rest(world: World) -> None:
    world.do(Transfer(account("alice"), account("carol"), CASH, world.free("alice", CASH)), "alice")
    world.do(Transfer(account("bob"), account("carol"), CASH, world.free("bob", CASH)), "bob")


def only_authorised_money(world: World) -> None:
    world.do(AuthoriseMoney(account("pboc"), BASE_CASH, MoneyKind.BASE), "pboc")
    world.do(SetPaymentPolicy(account("pboc"), "CNY", True), "pboc")
    world.refuse("unapproved_money", Transfer(account("alice"), account("bob"), CASH, 1), "alice")


def quarantine_the_bank(world: World) -> None:
    world.do(AuthoriseMoney(account("pboc"), BASE_CASH, MoneyKind.BASE), "pboc")
    bank_money = AuthoriseMoney(
        account("pboc"), CASH, MoneyKind.BANK, BASE_CASH, account("icbc"), account("auditor"), DAY_MS
    )
    world.do(bank_money, "pboc", "icbc")
    world.do(Quarantine(account("pboc"), CASH, True, bytes(range(32))), "pboc")
    world.refuse("quarantined", Transfer(account("alice"), account("bob"), CASH, 1), "alice")


CHANGES = (
    only_authorised_money,
    quarantine_the_bank,
    switch_venue_off,
    forbid_instructing,
    move_the_calendar,
    let_claims_expire,
    suspend_the_instrument,
    refuse_all_holders,
    spend_the_rest,
)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_locked_settles_at_its_date_whatever_lies_between(change: object) -> None:
    world = founded()
    identifier = locked_at_venue(world)
    said = simulate_settlement(world.version, identifier, world.spec)
    assert (said.reason, said.rule, said.time_ms) == (Reason.OK, "", at(TODAY + 1, 8))
    change(world)  # type: ignore[operator]
    assert simulate_settlement(world.version, identifier, world.spec) == said
    world.do(settle(identifier, "sse"), "sse", at_ms=at(TODAY + 1, 8))
    assert world.free("bob", BOND) == 1_010


def test_all_of_it_at_once_and_by_itself() -> None:
    world = founded()
    identifier = locked_at_venue(world)
    for change in (switch_venue_off, let_claims_expire, move_the_calendar, forbid_instructing, spend_the_rest):
        change(world)
    world.wait_until(at(TODAY + 1, 14))
    assert state(world, identifier).settlement is Settlement.SETTLED


@pytest.mark.parametrize(
    ("change", "reason", "rule"),
    [
        (switch_venue_off, "venue_off", "venues of DE0005140008@CSDC"),
        (forbid_instructing, "not_permitted", "nobody instructs"),
        (only_authorised_money, "unapproved_money", None),
        (quarantine_the_bank, "quarantined", None),
        (suspend_the_instrument, "inactive", None),
    ],
)
def test_the_same_changes_stop_what_is_not_locked(change: object, reason: str, rule: str | None) -> None:
    world = founded()
    world.do(SetVenue(account("csdc"), BOND, account("sse"), True), "csdc")
    for name in ("alice", "bob"):
        world.do(AuthoriseVenue(account(name), account("sse"), True), name)
    trade = instruct("sse", dvp(), origin=Origin.VENUE)
    world.do(trade, "sse")
    change(world)  # type: ignore[operator]
    for operation in (lock, settle):
        world.refuse(reason, operation(trade.id, "alice"), "alice", rule=rule)


def allow(name: str, operation: int, party: str, most_amount: int) -> SetPermission:
    """Nobody else may then, in bonds."""
    return SetPermission(
        account("operator"), name, Effect.ALLOW, RoleNumber(0), account(party), (operation,), "", b"CSDC", most_amount
    )


def test_makers_are_judged_by_all_that_moves_and_givers_by_what_they_give() -> None:
    """The broker may instruct 30 bonds at once, and bob may affirm 10; both is asked at lock, asset by asset."""
    world = founded()
    world.do(allow("brokers up to 30", Instruct.code, "broker", 30), "operator")
    world.do(allow("bob up to 10", Affirm.code, "bob", 10), "operator")
    for amounts, refused_by in (((10, 20), ""), ((10, 21), "brokers up to 30"), ((11, 9), "bob up to 10")):
        legs = [leg("bob", "carol", BOND, amounts[0]), leg("broker", "carol", BOND, amounts[1])]
        entered = instruct("broker", legs)
        world.do([entered, affirm(entered, "bob")], "broker", "bob")
        world.do(Transfer(account("alice"), account("broker"), BOND, amounts[1]), "alice")
        if refused_by:
            world.refuse("not_permitted", lock(entered.id, "bob"), "bob", rule=refused_by)
        else:
            world.do(lock(entered.id, "bob"), "bob")
    entered = instruct("alice", [leg("alice", "bob", BOND, 1)])
    world.do(entered, "alice")
    world.refuse("not_permitted", lock(entered.id, "alice"), "alice", rule="brokers up to 30")


def test_who_may_not_hold_is_refused_at_lock_with_the_leg_and_the_condition() -> None:
    world = founded()
    world.do(TrustIssuer(account("regulator"), "qualified", account("auditor"), True), "regulator")
    world.do(IssueClaim(account("auditor"), account("alice"), "qualified", "yes", 0), "auditor")
    identifier = matched(world)
    world.do(SetHolderRules(account("csdc"), BOND, required=("qualified",)), "csdc")
    rule = world.refuse("ineligible", lock(identifier, "alice"), "alice")
    assert rule.startswith("leg 0: ")
    assert "BOND" in rule or "DE0005140008" in rule


def test_limits_of_holders_count_all_legs_of_an_instruction_together() -> None:
    """Each of two newcomers alone would fit; both do not."""
    world = founded()
    world.do(SetHolderRules(account("csdc"), BOND, most_holders=3), "csdc")
    legs = [leg("alice", "carol", BOND, 1), leg("alice", "dave", BOND, 1)]
    entered = instruct("alice", legs)
    world.do(entered, "alice")
    assert world.refuse("holder_limit", lock(entered.id, "alice"), "alice").startswith("leg 1: ")
    fits = instruct("alice", legs[:1])
    world.do(fits, "alice")
    world.do(lock(fits.id, "alice"), "alice")
    world.do(settle(fits.id, "alice"), "alice")


def test_a_place_among_the_holders_is_reserved_at_lock() -> None:
    world = founded()
    world.do(SetHolderRules(account("csdc"), BOND, most_holders=3), "csdc")
    entered = instruct("alice", [leg("alice", "carol", BOND, 5)], settle_day=TODAY + 1)
    world.do([entered, lock(entered.id, "alice")], "alice")
    world.refuse("holder_limit", Transfer(account("alice"), account("dave"), BOND, 1), "alice")
    assert miscounts(world.books) == []
    world.wait_until(at(TODAY + 1))
    assert world.free("carol", BOND) == 5
    assert miscounts(world.books) == []
    assert (holder_count(world.books, BOND).amount, holder_count(world.books, BOND).promised) == (3, 0)


def test_a_place_that_is_not_needed_any_more_is_free_again() -> None:
    world = founded()
    world.do(SetHolderRules(account("csdc"), BOND, most_holders=3), "csdc")
    legs = [leg("alice", "carol", BOND, 5), leg("carol", "alice", CASH, 5)]
    entered = instruct("alice", legs, "carol")
    world.do([entered, affirm(entered, "carol"), lock(entered.id, "alice")], "alice", "carol")
    world.checked = False
    encumbrance = CASH + account("carol") + entered.id
    world.version = altered(world.version, Table.ENCUMBRANCES, encumbrance, None)
    world.wait_until(at(TODAY + 1))
    assert state(world, entered.id).processing is Processing.CANCELLED
    assert (holder_count(world.books, BOND).amount, holder_count(world.books, BOND).promised) == (2, 0)
    world.do(Transfer(account("alice"), account("dave"), BOND, 1), "alice")


# Orders of authority


def ordered(power: Power, **scope: object) -> Order:
    return Order(account("regulator"), account("court"), salt(), power, document=bytes(range(32)), **scope)  # type: ignore[arg-type]


def test_an_order_stops_what_is_locked_and_its_release_lets_it_go_on() -> None:
    world = founded()
    world.do(calendar(), "operator")
    identifier = matched(world, settle_day=TODAY + 1, calendar="TARGET")
    world.do(lock(identifier, "alice"), "alice")
    freeze = ordered(Power.FREEZE, account=account("alice"), asset=BOND)
    world.do(freeze, "regulator", "court")
    rule = world.refuse("order_stops", settle(identifier, "bob"), "bob", at_ms=at(TODAY + 1, 9))
    assert rule.startswith("leg 0: ")
    world.wait_until(at(TODAY + 1, 14))
    row = state(world, identifier)
    assert (row.processing, row.settlement, row.reason) == (
        Processing.ACCEPTED,
        Settlement.PENDING,
        IsoReason.SBLO,
    )
    assert [(item.kind, item.time_ms) for item in queue(world)] == [(DueKind.RECYCLE, at(TODAY + 2, 14))]
    for number in range(2, 60):  # It never expires: it is irrevocable.
        world.wait_until(at(TODAY + number, 14))
    assert state(world, identifier).is_open
    world.refuse("irrevocable", Cancel(identifier, account("bob")), "bob")
    world.do(ordered(Power.RELEASE, lifts=freeze.id), "regulator", "court")
    world.do(settle(identifier, "bob"), "bob")


def test_an_order_stops_what_is_not_locked_too() -> None:
    world = founded()
    identifier = matched(world)
    world.do(ordered(Power.FREEZE, account=account("alice"), asset=BOND), "regulator", "court")
    world.refuse("order_stops", lock(identifier, "alice"), "alice")
    world.wait_until(at(TODAY + 1))
    row = state(world, identifier)
    assert (row.settlement, row.reason) == (Settlement.FAILING, IsoReason.SBLO)


def test_what_an_order_took_ends_the_instruction_and_the_rest_is_given_back() -> None:
    """No power takes settling units today; if one did, the other side would not stay reserved for ever."""
    world = founded()
    identifier = matched(world)
    world.do(lock(identifier, "alice"), "alice")
    world.checked = False
    encumbrance = BOND + account("alice") + identifier
    world.version = altered(world.version, Table.ENCUMBRANCES, encumbrance, None)
    world.version = altered(world.version, Table.HOLDINGS, holding_key(BOND, account("alice")), Holding(990).encode())
    world.wait_until(at(TODAY + 1))
    row = state(world, identifier)
    assert (row.processing, row.reason, row.rule) == (
        Processing.CANCELLED,
        IsoReason.CANS,
        "an order took what was reserved",
    )
    assert world.holding("bob", CASH) == Holding(50_000)


# By itself, at its time


def test_it_settles_by_itself_at_the_settlement_minute_of_its_day() -> None:
    world = founded()
    world.do(calendar(utc_offset_minutes=8 * 60), "operator")
    identifier = matched(world, settle_day=TODAY + 1, calendar="TARGET")
    due_ms = at(TODAY + 1, 14) - 8 * 3_600_000
    assert queue(world) == [DueItem(due_ms, DueKind.SETTLE, identifier)]
    world.wait_until(due_ms - 1)
    assert state(world, identifier).settlement is Settlement.PENDING
    world.wait_until(due_ms)
    row = state(world, identifier)
    assert (row.settlement, row.final) == (Settlement.SETTLED, Moment(world.height, due_ms))
    assert queue(world) == []


def test_what_is_matched_after_the_settlement_minute_is_tried_on_the_next_business_day() -> None:
    world = founded()
    world.do(calendar(), "operator")
    friday = TODAY + 4
    identifier = matched(world, settle_day=friday, calendar="TARGET", at_ms=at(friday, 14, 0, 0, 1))
    assert queue(world)[0].time_ms == at(friday + 3, 14)
    assert state(world, identifier).reason is IsoReason.CYCL


FAILURES = {
    "LACK": (dvp(quantity=1_001), None),
    "MONY": (dvp(price=50_001), None),
    "PREA": (dvp(), lambda world, identifier: world.do(SetHold(identifier, account("bob"), True), "bob")),
    "NARR": (dvp(), lambda world, identifier: forbid_instructing(world)),
    "SBLO": (
        dvp(),
        lambda world, identifier: world.do(
            ordered(Power.FREEZE, account=account("bob"), asset=CASH), "regulator", "court"
        ),
    ),
}


@pytest.mark.parametrize("reason", FAILURES)
def test_what_cannot_settle_fails_with_a_reason_and_is_tried_on_the_next_business_day(reason: str) -> None:
    legs, hindrance = FAILURES[reason]
    world = founded()
    world.do(calendar(), "operator")
    friday = TODAY + 4
    identifier = matched(world, legs, settle_day=friday, calendar="TARGET")
    if hindrance is not None:
        hindrance(world, identifier)
    world.wait_until(at(friday, 14))
    row = state(world, identifier)
    assert (row.processing, row.settlement, row.reason) == (Processing.ACCEPTED, Settlement.FAILING, reason)
    assert queue(world) == [DueItem(at(friday + 3, 14), DueKind.RECYCLE, identifier)]
    assert check_conservation(world.version) == []


def test_the_rule_that_failed_is_remembered() -> None:
    world = founded()
    identifier = matched(world, dvp(price=50_001))
    world.wait_until(at(TODAY + 1))
    assert (state(world, identifier).reason, state(world, identifier).rule) == (IsoReason.MONY, "leg 1")


def test_who_has_not_affirmed_keeps_it_failing() -> None:
    world = founded()
    entered = instruct("alice", [*dvp(), leg("carol", "alice", CASH, 5)], "bob")
    world.do([entered, affirm(entered, "bob")], "alice", "bob")
    world.wait_until(at(TODAY + 1))
    assert (state(world, entered.id).settlement, state(world, entered.id).reason) == (
        Settlement.FAILING,
        IsoReason.NMAT,
    )


def test_it_settles_as_soon_as_what_was_missing_is_there() -> None:
    world = founded()
    identifier = matched(world, dvp(price=60_000))
    world.wait_until(at(TODAY + 1))
    world.do(Transfer(account("carol"), account("bob"), CASH, 10_000), "carol")
    world.wait_until(at(TODAY + 2))
    assert state(world, identifier).settlement is Settlement.SETTLED


def test_after_twenty_business_days_it_is_cancelled() -> None:
    world = founded()
    world.do(calendar(holidays=(TODAY + 7,)), "operator")
    identifier = matched(world, dvp(price=50_001), calendar="TARGET")
    expires_ms = state(world, identifier).expires_ms
    assert expires_ms == at(TODAY + 29, 16, 0, 0, 999)  # four weeks and a holiday
    tries = 0
    while state(world, identifier).is_open:
        world.wait_until(queue(world)[0].time_ms)
        tries += 1
    assert tries == 22  # its own day, 20 more, and the one on which it ends
    row = state(world, identifier)
    assert (row.processing, row.reason, row.rule) == (
        Processing.CANCELLED,
        IsoReason.CANS,
        "not settled in time: MONY",
    )
    assert queue(world) == []


def test_what_has_run_out_is_not_locked_in_the_last_moment() -> None:
    world = founded()
    identifier = matched(world)
    world.do(SetHold(identifier, account("bob"), True), "bob")
    for number in range(1, 21):
        world.wait_until(at(TODAY + number))
    world.do(SetHold(identifier, account("bob"), False), "bob")
    expires_ms = state(world, identifier).expires_ms
    row = state(world, identifier)
    assert simulate_settlement(world.version, identifier, world.spec, time_ms=expires_ms).reason is Reason.OK
    late = simulate_settlement(world.version, identifier, world.spec, time_ms=expires_ms + 1)
    assert (late.reason, late.rule) == (Reason.LATE, "20 business days after the settlement day")
    assert row.is_open


def test_a_day_that_became_a_holiday_settles_on_the_next_business_day() -> None:
    world = founded()
    world.do(calendar(), "operator")
    identifier = matched(world, settle_day=TODAY + 1, calendar="TARGET")
    world.do(calendar(holidays=(TODAY + 1,)), "operator")
    world.wait_until(at(TODAY + 1, 14))
    row = state(world, identifier)
    assert (row.settlement, row.reason) == (Settlement.PENDING, IsoReason.FUTU)
    world.wait_until(at(TODAY + 2, 14))
    assert state(world, identifier).settlement is Settlement.SETTLED


# Time jumps, weekends, branches


def test_a_jump_over_many_due_times_does_all_of_it_in_order() -> None:
    world = founded()
    identifiers = [matched(world, dvp(quantity=1, price=10), settle_day=TODAY + number) for number in range(1, 11)]
    world.wait_until(at(TODAY + 20))
    assert [state(world, each).settlement for each in identifiers] == [Settlement.SETTLED] * 10
    assert {state(world, each).final.height for each in identifiers} == {world.height}


def test_a_jump_over_a_year_leaves_nothing_in_the_queue() -> None:
    """What is locked settles; what is not has run out."""
    world = founded()
    locked, agreed = matched(world, settle_day=TODAY + 1), matched(world, settle_day=TODAY + 1)
    alone = instruct("alice", dvp(), "bob", settle_day=TODAY + 1)
    world.do(alone, "alice")
    world.do(lock(locked, "alice"), "alice")
    world.wait_until(at(TODAY + 400))
    assert state(world, locked).settlement is Settlement.SETTLED
    for identifier in (agreed, alone.id):
        assert (state(world, identifier).processing, state(world, identifier).reason) == (
            Processing.CANCELLED,
            IsoReason.CANS,
        )
    assert queue(world) == []


def test_a_jump_past_the_cut_off_is_late_and_past_the_weekend_too() -> None:
    """The ledger's own attempts are bound by the cut-off of the day like everybody's."""
    friday = TODAY + 4
    for jump_ms, settled in (
        (at(friday, 14, 5), True),
        (at(friday, 16, 0, 0, 999), True),
        (at(friday, 16, 0, 1), False),
        (at(friday + 1, 10), False),  # Saturday: it waits for Monday's opening
        (at(friday + 3, 7), False),  # Monday before opening
        (at(friday + 3, 9), True),
    ):
        world = founded()
        world.do(calendar(), "operator")
        identifier = matched(world, settle_day=friday, calendar="TARGET")
        world.wait_until(jump_ms)
        assert (state(world, identifier).settlement is Settlement.SETTLED) is settled, jump_ms
        if not settled:
            world.wait_until(at(friday + 3, 14))
            assert state(world, identifier).settlement is Settlement.SETTLED


def test_what_is_locked_settles_however_late_the_block_is() -> None:
    world = founded()
    world.do(calendar(), "operator")
    identifier = matched(world, settle_day=TODAY + 4, calendar="TARGET")
    world.do(lock(identifier, "bob"), "bob")
    world.wait_until(at(TODAY + 5, 3))  # in the night to Saturday
    assert state(world, identifier).settlement is Settlement.SETTLED


def test_a_reorganisation_across_the_cut_off() -> None:
    """Two branches from one state: in one the block came in time, in the other it did not. Each is right for itself."""
    world = founded()
    world.do(calendar(), "operator")
    identifier = matched(world, calendar="TARGET", at_ms=at(TODAY, 15))
    fork, height = world.version, world.height
    world.do(settle(identifier, "alice"), "alice", at_ms=at(TODAY, 16, 0, 0, 999))
    assert state(world, identifier).settlement is Settlement.SETTLED
    in_time = world.version.root()
    world.version, world.height = fork, height
    world.refuse("late", settle(identifier, "alice"), "alice", at_ms=at(TODAY, 16, 0, 1))
    assert state(world, identifier).settlement is Settlement.PENDING
    world.wait_until(at(TODAY + 1, 14))
    assert state(world, identifier).final.time_ms == at(TODAY + 1, 14)
    world.version, world.height = fork, height
    world.salt -= 2  # the very same transaction, on the first branch again
    world.do(settle(identifier, "alice"), "alice", at_ms=at(TODAY, 16, 0, 0, 999))
    assert world.version.root() == in_time


def test_a_long_queue_is_carried_over_and_nothing_is_lost_or_done_twice() -> None:
    world = founded(due_per_block=16)
    identifiers = [matched(world, dvp(quantity=1, price=10), settle_day=TODAY + 1) for _ in range(30)]
    world.wait_until(at(TODAY + 1))
    done = [8]  # each has two legs
    while len(queue(world)):
        settled = [each for each in identifiers if state(world, each).settlement is Settlement.SETTLED]
        assert len(settled) == done[-1]
        world.wait_until(world.now_ms + 1)
        done.append(min(30, done[-1] + 8))
    assert [state(world, each).settlement for each in identifiers] == [Settlement.SETTLED] * 30
    assert {state(world, each).final.height for each in identifiers} == set(range(world.height - 3, world.height + 1))
    assert world.free("bob", BOND) == 1_030
    order = sorted(identifiers, key=lambda each: (state(world, each).final.height, each))
    assert order == sorted(identifiers), "equal times are done in the order of identifiers"


def test_what_the_queue_carries_past_the_cut_off_is_late() -> None:
    world = founded(due_per_block=2)
    world.do(calendar(), "operator")
    identifiers = [matched(world, dvp(1, 10), calendar="TARGET") for dvp in [_one] * 3]
    world.wait_until(at(TODAY, 16))
    world.wait_until(at(TODAY, 16, 0, 0, 999))
    world.wait_until(at(TODAY, 16, 0, 1))
    rows = [state(world, each) for each in sorted(identifiers)]
    assert [row.settlement for row in rows] == [Settlement.SETTLED, Settlement.SETTLED, Settlement.FAILING]
    assert rows[2].reason is IsoReason.LATE
    assert rows[2].rule == "calendar TARGET"


def _one(quantity: int, price: int) -> list[Leg]:
    return dvp(quantity=quantity, price=price)


def test_transactions_of_a_block_see_what_was_due_in_it() -> None:
    world = founded()
    identifier = matched(world, dvp(quantity=1_000), settle_day=TODAY + 1)
    world.do(Transfer(account("bob"), account("carol"), BOND, 2_000), "bob", at_ms=at(TODAY + 1))
    assert state(world, identifier).settlement is Settlement.SETTLED


# Many legs


PEOPLE = ("alice", "bob", "carol", "dave")


def ring(count: int, *, last: int = 1) -> list[Leg]:
    """Legs over three assets and three currencies; ``last`` is the amount of the last one."""
    kinds = (
        ("alice", "bob", BOND),
        ("bob", "carol", CASH),
        ("carol", "dave", SHARE),
        ("dave", "alice", OTHER_CASH),
        ("alice", "dave", SHARE),
        ("icbc", "alice", BASE_CASH),
    )
    legs = [leg(*kinds[index % len(kinds)], 1) for index in range(count)]
    return [*legs[:-1], replace(legs[-1], amount=last)]


def test_a_thousand_legs_settle_by_one_operation() -> None:
    world = founded()
    legs = ring(1_000)
    entered = upload(world, "alice", legs)
    assert state(world, entered.id).leg_count == 1_000
    for name in ("bob", "carol", "dave", "icbc"):
        world.do(affirm(entered, name, legs), name)
    world.do(settle(entered.id, "dave"), "dave")
    row = state(world, entered.id)
    assert row.settlement is Settlement.SETTLED
    assert world.free("bob", BOND) == 1_000 + 167
    assert world.free("alice", BASE_CASH) == 166


def test_the_same_with_its_last_leg_short_fails_whole_with_that_leg_named() -> None:
    world = founded()
    legs = ring(1_000, last=50_000)  # dave gives 166 before, and has 50,000
    entered = upload(world, "alice", legs)
    for name in ("bob", "carol", "dave", "icbc"):
        world.do(affirm(entered, name, legs), name)
    before = {name: world.holding(name, asset) for name in PEOPLE for asset in (BOND, CASH, SHARE, OTHER_CASH)}
    for operation in (lock, settle):
        world.refuse("insufficient_free", operation(entered.id, "dave"), "dave", rule="leg 999")
    world.wait_until(at(TODAY + 1))
    row = state(world, entered.id)
    assert (row.settlement, row.reason, row.rule) == (Settlement.FAILING, IsoReason.MONY, "leg 999")
    assert before == {name: world.holding(name, asset) for name in PEOPLE for asset in (BOND, CASH, SHARE, OTHER_CASH)}


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_the_first_leg_that_is_short_is_named(data: st.DataObject) -> None:
    amounts = data.draw(st.lists(st.integers(1, 400), min_size=2, max_size=8))
    left, expected = 1_000, None
    for index, amount in enumerate(amounts):
        left -= amount
        if left < 0:
            expected = index
            break
    world = founded()
    entered = instruct("alice", [leg("alice", "bob", BOND, amount) for amount in amounts])
    world.do(entered, "alice")
    if expected is None:
        world.do(settle(entered.id, "alice"), "alice")
    else:
        world.refuse("insufficient_free", settle(entered.id, "alice"), "alice", rule=f"leg {expected}")


def test_legs_over_both_registers_settle_together() -> None:
    world = founded()
    world.version = altered(
        world.version, Table.HOLDINGS, holding_key(BOND_ACROSS, account("carol")), Holding(5).encode()
    )
    world.checked = False
    legs = [leg("alice", "carol", BOND, 5), leg("carol", "alice", BOND_ACROSS, 5)]
    entered = instruct("alice", legs, "carol")
    world.do([entered, affirm(entered, "carol"), settle(entered.id, "carol")], "alice", "carol")
    assert (world.free("carol", BOND), world.free("alice", BOND_ACROSS)) == (5, 5)


# Foretold


def test_simulate_settlement_says_what_settle_gives() -> None:
    world = founded()
    assert simulate_settlement(world.version, NOWHERE, world.spec).reason is Reason.UNKNOWN_INSTRUCTION
    for legs, expected in ((dvp(), (Reason.OK, "")), (dvp(quantity=2_000), (Reason.INSUFFICIENT_FREE, "leg 0"))):
        identifier = matched(world, legs, settle_day=TODAY + 3)
        said = simulate_settlement(world.version, identifier, world.spec)
        assert (said.reason, said.rule, said.time_ms) == (*expected, at(TODAY + 3))
        root = world.version.root()
        simulate_settlement(world.version, identifier, world.spec)
        assert world.version.root() == root, "nothing is written"


def test_the_version_of_the_calendar_that_was_judged_is_kept() -> None:
    world = founded()
    world.do(calendar(), "operator")
    identifier = matched(world, settle_day=TODAY + 1, calendar="TARGET")
    world.do(calendar(), "operator")
    world.do(lock(identifier, "bob"), "bob")
    world.do(calendar(), "operator")
    row, now = state(world, identifier), world.row(CalendarRow, calendar_key("TARGET"))
    assert now is not None
    assert (row.calendar_version, now.version) == (2, 3)


def test_where_the_reason_codes_come_from() -> None:
    told = {reason.value for reason in IsoReason if reason}
    assert told == {
        "CMIS", "DSEC", "DQUA", "DMON", "DTRD", "DDAT", "NMAT", "FUTU", "CYCL", "PREA",
        "LACK", "MONY", "LATE", "SBLO", "NARR", "CANI", "CANS",
    }  # fmt: skip
