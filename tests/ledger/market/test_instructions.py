"""Instructions before they are locked: entered, uploaded in parts, affirmed, held, cancelled, expired."""

from dataclasses import replace

import pytest

from p2pledger.ledger.market.calendars import NO_CALENDAR
from p2pledger.ledger.market.due import DueItem, DueKind
from p2pledger.ledger.market.instructions import (
    EXPIRY_BUSINESS_DAYS,
    NEVER,
    AffirmationRow,
    InstructionRow,
    IsoReason,
    LegRow,
    Matched,
    Moment,
    Processing,
    Settlement,
    affirmation_key,
    legs_of,
    participants_of,
)
from p2pledger.ledger.tables import Table
from p2pledger.primitives.codec import U64_MAX
from p2pledger.primitives.market.calendars import Lateness
from p2pledger.primitives.market.instructions import (
    AddLegs,
    Affirm,
    AuthoriseVenue,
    Cancel,
    Leg,
    Origin,
    SetHold,
)
from p2pledger.primitives.market.instruments import SetVenue
from p2pledger.primitives.market.parties import RegisterParty, RoleNumber
from p2pledger.primitives.names import asset_id
from p2pledger.primitives.transactions import Lock as LockOperation
from tests.ledger.market.market_world import BOND, CASH, DAY_MS, START_MS, World, account, founded
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
    settle,
    state,
    upload,
)

NOWHERE = bytes(31) + b"\x01"
STRANGER = Leg(bytes(32), account("bob"), BOND, 1)


def queue(world: World) -> list[DueItem]:
    return [DueItem.of(key) for key, _ in world.version.scan(Table.DUE, limit=1_000)]


# Instruct


def test_an_instruction_is_entered_and_waits_for_its_counterparty() -> None:
    world = founded()
    entered = instruct("alice", dvp(), "bob", reference="T 1", settle_day=TODAY + 2, tolerance=7)
    world.do(entered, "alice")
    row = state(world, entered.id)
    assert (row.by, row.counterparty, row.reference) == (account("alice"), account("bob"), "T 1")
    assert (row.trade_day, row.settle_day, row.tolerance, row.leg_count) == (TODAY, TODAY + 2, 7, 2)
    assert (row.processing, row.matched, row.settlement) == (
        Processing.ACCEPTED,
        Matched.UNMATCHED,
        Settlement.PENDING,
    )
    assert row.reason is IsoReason.CMIS
    assert row.entry == Moment(world.height, world.now_ms)
    assert row.irrevocable == row.final == NEVER
    assert [(each.giver, each.taker, each.asset, each.amount) for each in legs_of(world.books, entered.id)] == [
        (each.giver, each.taker, each.asset, each.amount) for each in dvp()
    ]
    assert InstructionRow.decode(row.encode()) == row
    expiry_ms = NO_CALENDAR.cut_off_ms(TODAY + 2 + EXPIRY_BUSINESS_DAYS) + 1
    assert queue(world) == [DueItem(expiry_ms, DueKind.INSTRUCTION_EXPIRY, entered.id)]


def test_an_instruction_says_nothing_about_who_holds_what() -> None:
    """It can be entered though nobody has what it moves; that is judged at lock."""
    world = founded()
    world.do(instruct("alice", dvp(quantity=10**12, price=U64_MAX), "bob"), "alice")


BAD_LEGS = {
    "nothing": (replace(dvp()[0], amount=0), "zero_amount"),
    "to itself": (leg("alice", "alice", BOND, 1), "self_trade"),
    "from nobody": (STRANGER, "unknown_account"),
    "to nobody": (replace(STRANGER, giver=account("bob"), taker=bytes(32)), "unknown_account"),
    "of what is not": (leg("alice", "bob", asset_id("GB0002634946@CSDC"), 1), "unknown_asset"),
}


@pytest.mark.parametrize("what", BAD_LEGS)
def test_a_leg_that_cannot_be_is_refused_and_named(what: str) -> None:
    world = founded()
    bad, reason = BAD_LEGS[what]
    world.refuse(reason, instruct("alice", [*dvp(), bad, *dvp()], "bob"), "alice", rule="leg 2")
    entered = instruct("alice", dvp(), "bob", leg_count=3)
    world.do(entered, "alice")
    world.refuse(reason, AddLegs(entered.id, account("alice"), 2, (bad,)), "alice", rule="leg 2")


def test_other_refusals_of_instruct() -> None:
    world = founded()
    entered = instruct("alice", dvp(), "bob")
    world.do(entered, "alice")
    world.refuse("unauthorised", instruct("alice", dvp(), "bob"), "bob")
    world.refuse("identifier_used", instruct("alice", dvp(), "carol", salted=entered.salt), "alice")
    world.refuse("unknown_account", replace(instruct("alice", dvp()), counterparty=bytes(32)), "alice")
    world.refuse("self_trade", instruct("alice", dvp(), "alice"), "alice")
    world.refuse("bad_legs", instruct("alice", dvp(), "bob", leg_count=1), "alice", rule="1 legs were announced")
    world.refuse("not_permitted", instruct("alice", dvp(), origin=Origin.VENUE), "alice")


def test_a_refused_instruction_leaves_no_trace() -> None:
    world = founded()
    world.refuse("zero_amount", instruct("alice", [*dvp(), replace(dvp()[0], amount=0)], "bob"), "alice")
    for table in (Table.INSTRUCTIONS, Table.LEGS, Table.AFFIRMATIONS, Table.MATCHING, Table.DUE):
        assert world.version.scan(table) == []


# Upload in parts


def test_legs_come_in_parts_and_the_digest_does_not_show_it() -> None:
    world = founded()
    legs = [leg("alice", "bob", BOND, amount) for amount in range(1, 12)]
    whole, parts = instruct("alice", legs, "bob"), upload(world, "alice", legs, part=4, counterparty="bob")
    world.do(whole, "alice")
    assert state(world, whole.id).legs_digest == state(world, parts.id).legs_digest == whole.digest
    assert state(world, parts.id).processing is Processing.ACCEPTED


def test_an_upload_is_pending_until_its_last_leg() -> None:
    world = founded()
    entered = instruct("alice", dvp()[:1], "bob", leg_count=2)
    world.do(entered, "alice")
    row = state(world, entered.id)
    assert (row.processing, row.legs_there, row.entry) == (Processing.PENDING, 1, NEVER)
    world.refuse("bad_legs", affirm(entered, "bob"), "bob")
    world.refuse("bad_legs", lock(entered.id, "alice"), "alice", rule="1 of 2 legs are there")
    world.refuse("bad_legs", settle(entered.id, "alice"), "alice", rule="1 of 2 legs are there")
    world.do(AddLegs(entered.id, account("alice"), 1, (dvp()[1],)), "alice")
    row = state(world, entered.id)
    assert (row.processing, row.entry) == (Processing.ACCEPTED, Moment(world.height, world.now_ms))


def test_refusals_of_add_legs() -> None:
    world = founded()
    entered = instruct("alice", dvp()[:1], "bob", leg_count=2)
    world.do(entered, "alice")
    last = (dvp()[1],)
    world.refuse("unknown_instruction", AddLegs(NOWHERE, account("alice"), 1, last), "alice")
    world.refuse("not_a_participant", AddLegs(entered.id, account("bob"), 1, last), "bob")
    world.refuse("unauthorised", AddLegs(entered.id, account("alice"), 1, last), "bob")
    for first in (0, 2):
        world.refuse("bad_legs", AddLegs(entered.id, account("alice"), first, last), "alice", rule="the next leg is 1")
    world.refuse("bad_legs", AddLegs(entered.id, account("alice"), 1, last * 2), "alice", rule="2 legs were announced")
    world.do(AddLegs(entered.id, account("alice"), 1, last), "alice")
    world.refuse("bad_legs", AddLegs(entered.id, account("alice"), 2, last), "alice", rule="the next leg is 2")
    world.do(Cancel(entered.id, account("alice")), "alice")
    world.refuse("instruction_closed", AddLegs(entered.id, account("alice"), 2, last), "alice", rule="CANI")


def test_an_upload_that_ends_after_the_cut_off_is_late_or_moved() -> None:
    for late, ends in ((Lateness.REFUSE, "late"), (Lateness.MOVE, "ok")):
        world = founded()
        world.do(calendar(late=late), "operator")
        entered = instruct("alice", dvp()[:1], "bob", leg_count=2, calendar="TARGET")
        world.do(entered, "alice", at_ms=at(TODAY, 15))
        rest = AddLegs(entered.id, account("alice"), 1, (dvp()[1],))
        assert world.judged(rest, "alice", at_ms=at(TODAY, 16, 0, 1))[0] == ends
        assert state(world, entered.id).effective_day == (TODAY if late is Lateness.REFUSE else TODAY + 1)


def test_an_upload_that_is_not_finished_is_rejected_when_it_expires() -> None:
    world = founded()
    entered = instruct("alice", dvp()[:1], "bob", leg_count=2)
    world.do(entered, "alice")
    world.wait_until(state(world, entered.id).expires_ms)
    assert state(world, entered.id).processing is Processing.PENDING
    world.wait_until(state(world, entered.id).expires_ms + 1)
    row = state(world, entered.id)
    assert (row.processing, row.reason) == (Processing.REJECTED, IsoReason.LATE)
    assert queue(world) == []
    world.refuse("instruction_closed", AddLegs(entered.id, account("alice"), 1, (dvp()[1],)), "alice", rule="LATE")


# Venues


def venue_world() -> World:
    world = founded()
    world.do(SetVenue(account("csdc"), BOND, account("sse"), True), "csdc")
    return world


def test_what_a_venue_instructs_is_matched_on_arrival() -> None:
    world = venue_world()
    trade = instruct("sse", dvp(), origin=Origin.VENUE)
    world.do(trade, "sse")
    row = state(world, trade.id)
    assert (row.processing, row.matched) == (Processing.ACCEPTED, Matched.MATCHED)
    world.refuse("not_matched", settle(trade.id, "sse"), "sse", rule="1 of 3 have affirmed")
    world.do(affirm(trade, "alice"), "alice")
    world.do(affirm(trade, "bob"), "bob")
    world.do(settle(trade.id, "sse"), "sse")


def test_who_authorised_the_venue_need_not_affirm() -> None:
    world = venue_world()
    for name in ("alice", "bob"):
        world.do(AuthoriseVenue(account(name), account("sse"), True), name)
    trade = instruct("sse", dvp(), origin=Origin.VENUE)
    world.do([trade, settle(trade.id, "sse")], "sse")
    world.do(AuthoriseVenue(account("bob"), account("sse"), False), "bob")
    assert world.row(AffirmationRow, affirmation_key(account("sse"), account("bob"))) is None
    again = instruct("sse", dvp(), origin=Origin.VENUE)
    world.do(again, "sse")
    world.refuse("not_matched", settle(again.id, "sse"), "sse", rule="2 of 3 have affirmed")


def test_a_venue_moves_money_alone_only_when_who_gives_it_affirms() -> None:
    """No depository switches a venue off for money: an authority given for its trades is none to empty accounts."""
    world = venue_world()
    for name in ("alice", "bob"):
        world.do(AuthoriseVenue(account(name), account("sse"), True), name)
    world.do(SetVenue(account("csdc"), BOND, account("sse"), False), "csdc")
    trade = instruct("sse", [leg("bob", "alice", CASH, 50_000)], origin=Origin.VENUE)
    world.do(trade, "sse")
    world.refuse("not_matched", settle(trade.id, "sse"), "sse", rule="1 of 2 have affirmed")
    world.do(affirm(trade, "bob"), "bob")
    world.do(settle(trade.id, "sse"), "sse")


def test_who_is_no_venue_any_more_locks_and_settles_nothing_as_one() -> None:
    world = venue_world()
    trade = instruct("sse", dvp(), origin=Origin.VENUE)
    world.do(trade, "sse")
    for name in ("alice", "bob"):
        world.do(affirm(trade, name), name)
    entry = RegisterParty(account("operator"), account("sse"), "sse", "", "CN", (RoleNumber.INVESTOR,))
    world.do(entry, "operator", "sse")
    rule = "venues alone instruct as venues"
    world.refuse("not_permitted", settle(trade.id, "alice"), "alice", rule=rule)


def test_ending_an_authority_concerns_new_trades_only() -> None:
    world = venue_world()
    for name in ("alice", "bob"):
        world.do(AuthoriseVenue(account(name), account("sse"), True), name)
    trade = instruct("sse", dvp(), origin=Origin.VENUE)
    world.do(trade, "sse")
    world.do(AuthoriseVenue(account("bob"), account("sse"), False), "bob")
    world.do(settle(trade.id, "sse"), "sse")


def test_refusals_about_venues() -> None:
    world = venue_world()
    world.refuse("not_permitted", AuthoriseVenue(account("alice"), account("bob"), True), "alice")
    world.refuse("unknown_account", AuthoriseVenue(account("alice"), bytes(32), True), "alice")
    world.refuse("unauthorised", AuthoriseVenue(account("alice"), account("sse"), True), "sse")
    world.do(SetVenue(account("csdc"), BOND, account("sse"), False), "csdc")
    world.refuse(
        "venue_off",
        instruct("sse", dvp(), origin=Origin.VENUE),
        "sse",
        rule="leg 0: venues of DE0005140008@CSDC",
    )
    # Money is admitted everywhere.
    world.do(instruct("sse", dvp()[1:], origin=Origin.VENUE), "sse")


def test_a_venue_settles_its_own_trades_only() -> None:
    world = venue_world()
    identifier = matched(world)
    for operation in (lock(identifier, "sse"), settle(identifier, "sse")):
        world.refuse("not_a_participant", operation, "sse", rule="venues settle trades of their own only")


# Affirm


def test_everybody_who_gives_affirms_and_then_it_is_matched() -> None:
    world = founded()
    legs = [leg("alice", "bob", BOND, 1), leg("bob", "carol", CASH, 2), leg("carol", "alice", CASH, 3)]
    entered = instruct("alice", legs)
    world.do(entered, "alice")
    assert state(world, entered.id).reason is IsoReason.NMAT
    assert {name: said.affirmed for name, said in participants_of(world.books, entered.id)} == {
        account("alice"): True,
        account("bob"): False,
        account("carol"): False,
    }
    world.do(affirm(entered, "bob"), "bob")
    assert state(world, entered.id).matched is Matched.UNMATCHED
    world.do(affirm(entered, "bob"), "bob")
    assert state(world, entered.id).affirmed == 2
    world.do(affirm(entered, "carol"), "carol")
    assert state(world, entered.id).matched is Matched.MATCHED


def test_who_alone_gives_needs_nobodys_agreement() -> None:
    world = founded()
    entered = instruct("alice", [leg("alice", "bob", BOND, 1)])
    world.do([entered, settle(entered.id, "alice")], "alice")
    assert world.free("bob", BOND) == 1_001


def test_refusals_of_affirm() -> None:
    world = founded()
    entered = instruct("alice", dvp(), "bob")
    world.do(entered, "alice")
    world.refuse("unknown_instruction", Affirm(NOWHERE, account("bob"), bytes(32)), "bob")
    world.refuse("not_a_participant", affirm(entered, "carol"), "carol")
    world.refuse("bad_legs", affirm(entered, "bob", dvp()[::-1]), "bob")
    for other_terms in ({"settle_day": TODAY + 1}, {"trade_day": TODAY - 1}, {"calendar": "TARGET"}):
        world.refuse("bad_legs", affirm(replace(entered, **other_terms), "bob"), "bob")  # type: ignore[arg-type]
    world.refuse("unauthorised", affirm(entered, "bob"), "alice")
    world.do(affirm(entered, "bob"), "bob")
    world.do(lock(entered.id, "bob"), "bob")
    world.refuse("irrevocable", affirm(entered, "bob"), "bob")
    world.do(settle(entered.id, "bob"), "bob")
    world.refuse("instruction_closed", affirm(entered, "bob"), "bob")


# Hold


def test_one_hold_is_enough_and_only_who_holds_lets_go() -> None:
    world = founded()
    identifier = matched(world)
    alice, bob = account("alice"), account("bob")
    for party, name in ((alice, "alice"), (bob, "bob"), (bob, "bob")):
        world.do(SetHold(identifier, party, True), name)
    assert (state(world, identifier).holds, state(world, identifier).reason) == (2, IsoReason.PREA)
    world.do(SetHold(identifier, alice, False), "alice")
    world.refuse("on_hold", lock(identifier, "alice"), "alice")
    world.do(SetHold(identifier, bob, False), "bob")
    assert state(world, identifier).reason is IsoReason.CYCL
    world.do(lock(identifier, "alice"), "alice")


def test_refusals_of_set_hold() -> None:
    world = founded()
    identifier = matched(world)
    world.refuse("unknown_instruction", SetHold(NOWHERE, account("bob"), True), "bob")
    world.refuse("not_a_participant", SetHold(identifier, account("carol"), True), "carol")
    world.refuse("unauthorised", SetHold(identifier, account("bob"), True), "carol")
    world.do(lock(identifier, "alice"), "alice")
    world.refuse("irrevocable", SetHold(identifier, account("bob"), True), "bob")
    world.do(settle(identifier, "alice"), "alice")
    world.refuse("instruction_closed", SetHold(identifier, account("bob"), True), "bob")


# Cancel


def test_before_it_is_matched_its_maker_alone_cancels() -> None:
    world = founded()
    entered = instruct("alice", dvp(), "bob")
    world.do(entered, "alice")
    world.refuse("not_a_participant", Cancel(entered.id, account("bob")), "bob")
    world.do(Cancel(entered.id, account("alice")), "alice")
    row = state(world, entered.id)
    assert (row.processing, row.reason) == (Processing.CANCELLED, IsoReason.CANI)
    assert queue(world) == []


def test_after_it_is_matched_both_are_needed() -> None:
    world = founded()
    identifier = matched(world)
    world.do(Cancel(identifier, account("alice")), "alice")
    world.do(Cancel(identifier, account("alice")), "alice")
    row = state(world, identifier)
    assert (row.processing, row.reason, row.cancels) == (Processing.ACCEPTED, IsoReason.CANI, 1)
    world.do(Cancel(identifier, account("bob")), "bob")
    assert state(world, identifier).processing is Processing.CANCELLED
    assert queue(world) == []


def test_a_third_account_that_gives_has_no_say_in_it() -> None:
    world = founded()
    entered = instruct("alice", [*dvp(), leg("carol", "alice", CASH, 5)], "bob")
    world.do([entered, affirm(entered, "bob"), affirm(entered, "carol")], "alice", "bob", "carol")
    rule = world.refuse("not_a_participant", Cancel(entered.id, account("carol")), "carol")
    assert rule == "both parties cancel what is matched"
    world.do([Cancel(entered.id, account(name)) for name in ("alice", "bob")], "alice", "bob")
    assert state(world, entered.id).processing is Processing.CANCELLED


def test_without_a_counterparty_all_participants_are_needed() -> None:
    world = founded()
    entered = instruct("alice", [*dvp(), leg("carol", "alice", CASH, 5)])
    world.do([entered, affirm(entered, "bob"), affirm(entered, "carol")], "alice", "bob", "carol")
    for name, ends in (("alice", Processing.ACCEPTED), ("carol", Processing.ACCEPTED), ("bob", Processing.CANCELLED)):
        world.do(Cancel(entered.id, account(name)), name)
        assert state(world, entered.id).processing is ends


def test_both_instructions_of_a_pair_end_together() -> None:
    world = founded()
    sold, bought = instruct("alice", dvp(), "bob"), instruct("bob", dvp(), "alice")
    world.do(sold, "alice")
    world.do(bought, "bob")
    world.do(Cancel(bought.id, account("bob")), "bob")
    world.do(Cancel(sold.id, account("alice")), "alice")
    for identifier in (sold.id, bought.id):
        assert state(world, identifier).processing is Processing.CANCELLED


def test_one_who_wants_to_cancel_does_not_stop_the_other() -> None:
    world = founded()
    identifier = matched(world)
    world.do(Cancel(identifier, account("alice")), "alice")
    world.do(settle(identifier, "bob"), "bob")


def test_after_lock_nobody_cancels() -> None:
    world = founded()
    identifier = matched(world)
    world.do(lock(identifier, "alice"), "alice")
    for name in ("alice", "bob"):
        world.refuse("irrevocable", Cancel(identifier, account(name)), name)
    world.refuse("irrevocable", [Cancel(identifier, account(name)) for name in ("alice", "bob")], "alice", "bob")


def test_refusals_of_cancel() -> None:
    world = founded()
    identifier = matched(world)
    world.refuse("unknown_instruction", Cancel(NOWHERE, account("bob")), "bob")
    world.refuse("not_a_participant", Cancel(identifier, account("carol")), "carol")
    world.refuse("unauthorised", Cancel(identifier, account("bob")), "carol")
    world.do(settle(identifier, "alice"), "alice")
    world.refuse("instruction_closed", Cancel(identifier, account("bob")), "bob")


# Expiry


def test_what_nobody_matches_is_cancelled_by_the_system() -> None:
    world = founded()
    world.do(calendar(), "operator")
    entered = instruct("alice", dvp(), "bob", calendar="TARGET")
    world.do(entered, "alice")
    expires_ms = state(world, entered.id).expires_ms
    assert expires_ms == at(TODAY + 28, 16, 0, 0, 999)  # 20 business days are four weeks
    world.wait_until(expires_ms)
    assert state(world, entered.id).processing is Processing.ACCEPTED
    world.wait_until(expires_ms + 1)
    row = state(world, entered.id)
    assert (row.processing, row.reason, row.rule) == (Processing.CANCELLED, IsoReason.CANS, "not matched in time")
    assert world.version.scan(Table.MATCHING) == []


def test_an_expiry_at_the_end_of_time_is_held_back_by_nothing() -> None:
    world = founded()
    entered = instruct("alice", dvp(), "bob", settle_day=2**32 - 1)
    world.do(entered, "alice")
    world.wait_until(START_MS + 40_000 * DAY_MS)
    assert state(world, entered.id).is_open


def test_rows_are_read_back_as_they_were_written() -> None:
    row = LegRow(b"a" * 32, b"b" * 32, BOND, 7)
    assert LegRow.decode(row.encode()) == row
    said = AffirmationRow(True, False, True)
    assert AffirmationRow.decode(said.encode()) == said


def test_plain_operations_and_instructions_share_one_holding() -> None:
    """What is locked under a controller is not there to be reserved."""
    world = founded()
    world.do(LockOperation(account("alice"), BOND, 995, account("carol")), "alice")
    identifier = matched(world)
    world.refuse("insufficient_free", lock(identifier, "bob"), "bob", rule="leg 0")
