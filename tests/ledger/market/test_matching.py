"""Matching: what must be equal, what may differ by how much, and what both sides are told if it does not."""

from dataclasses import replace

import pytest

from p2pledger.ledger.market.instructions import IsoReason, Matched, participants_of
from p2pledger.ledger.market.matching import MATCHING_FIELDS, Statement
from p2pledger.ledger.tables import Table
from p2pledger.primitives.market.instructions import Cancel, Instruct, SetHold
from tests.ledger.market.market_world import (
    BASE_CASH,
    BOND,
    CASH,
    OTHER_CASH,
    SHARE,
    World,
    account,
    founded,
)
from tests.ledger.market.trading import TODAY, affirm, calendar, dvp, instruct, leg, matched, settle, state, upload


def waiting(world: World) -> int:
    """Rows of MATCHING: two for every instruction that waits."""
    return len(world.version.scan(Table.MATCHING, limit=100))


def entered(world: World, sold: Instruct, bought: Instruct) -> tuple[Matched, IsoReason, IsoReason]:
    """What becomes of two instructions, of alice's and then bob's."""
    world.do(sold, "alice")
    world.do(bought, "bob")
    mine, theirs = state(world, sold.id), state(world, bought.id)
    assert mine.matched == theirs.matched
    return mine.matched, mine.reason, theirs.reason


def test_two_instructions_about_one_trade_find_each_other() -> None:
    world = founded()
    sold, bought = instruct("alice", dvp(), "bob"), instruct("bob", dvp()[::-1], "alice")
    world.do(sold, "alice")
    assert (state(world, sold.id).matched, state(world, sold.id).reason) == (Matched.UNMATCHED, IsoReason.CMIS)
    assert waiting(world) == 2
    world.do(bought, "bob")
    mine, theirs = state(world, sold.id), state(world, bought.id)
    assert mine.matched is theirs.matched is Matched.MATCHED
    assert (mine.pair, theirs.pair) == (bought.id, sold.id)
    assert (mine.is_principal, theirs.is_principal) == (True, False)
    assert waiting(world) == 0


DIFFERENCES = {
    "securities": (instruct("bob", [leg("alice", "bob", SHARE, 10), dvp()[1]], "alice"), "DSEC"),
    "giver of securities": (instruct("bob", [leg("carol", "bob", BOND, 10), dvp()[1]], "alice"), "DSEC"),
    "quantities": (instruct("bob", dvp(quantity=11), "alice"), "DQUA"),
    "cash": (instruct("bob", [dvp()[0], leg("bob", "alice", OTHER_CASH, 1_000)], "alice"), "DMON"),
    "no cash at all": (instruct("bob", dvp()[:1], "alice"), "DMON"),
    "trade_day": (instruct("bob", dvp(), "alice", trade_day=TODAY - 1), "DTRD"),
    "settle_day": (instruct("bob", dvp(), "alice", settle_day=TODAY + 1), "DDAT"),
    "calendar": (instruct("bob", dvp(), "alice", calendar="TARGET"), "DDAT"),
    "amounts": (instruct("bob", dvp(price=1_003), "alice", tolerance=5), "DMON"),
    "reference": (instruct("bob", dvp(), "alice", reference="TRADE 2"), "NMAT"),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_each_field_that_differs_is_told_to_both_sides(what: str) -> None:
    world = founded()
    world.do(calendar(), "operator")
    bought, reason = DIFFERENCES[what]
    sold = instruct("alice", dvp(), "bob", tolerance=2, reference="TRADE 1")
    assert entered(world, sold, bought) == (Matched.UNMATCHED, reason, reason)
    assert waiting(world) == 4


def test_every_field_of_the_table_has_its_difference() -> None:
    told = {reason for _, reason in DIFFERENCES.values()}
    assert told == {field.iso_reason for field in MATCHING_FIELDS}
    assert {field.name for field in MATCHING_FIELDS} <= set(DIFFERENCES)


@pytest.mark.parametrize(
    ("mine", "theirs", "apart", "ends"),
    [
        (2, 2, 2, Matched.MATCHED),
        (2, 2, 3, Matched.UNMATCHED),
        (2, 9, 3, Matched.UNMATCHED),  # the smaller tolerance counts
        (0, 9, 1, Matched.UNMATCHED),
        (0, 0, 0, Matched.MATCHED),
    ],
)
def test_cash_may_differ_by_the_smaller_tolerance(mine: int, theirs: int, apart: int, ends: Matched) -> None:
    world = founded()
    sold = instruct("alice", dvp(price=1_000), "bob", tolerance=mine)
    bought = instruct("bob", dvp(price=1_000 + apart), "alice", tolerance=theirs)
    assert entered(world, sold, bought)[0] is ends


@pytest.mark.parametrize("seller_first", [True, False])
def test_the_sellers_cash_counts_whoever_came_first(seller_first: bool) -> None:
    world = founded()
    sold = instruct("alice", dvp(price=1_000), "bob", tolerance=5)
    bought = instruct("bob", dvp(price=1_003), "alice", tolerance=5)
    for entry, name in ((sold, "alice"), (bought, "bob"))[:: 1 if seller_first else -1]:
        world.do(entry, name)
    assert state(world, sold.id).is_principal
    world.do(settle(bought.id, "bob"), "bob")
    assert world.free("alice", CASH) == 51_000


def test_without_cash_the_one_that_came_first_stands() -> None:
    world = founded()
    given = [leg("alice", "bob", BOND, 10)]
    first, second = instruct("bob", given, "alice"), instruct("alice", given, "bob")
    world.do(first, "bob")
    world.do(second, "alice")
    assert state(world, first.id).is_principal
    assert not state(world, second.id).is_principal


def test_of_several_counterparts_the_nearest_cash_wins_then_the_reference() -> None:
    world = founded()
    prices = (1_004, 1_001, 998, 1_001)
    bought = [
        instruct("bob", dvp(price=price), "alice", tolerance=5, reference=reference)
        for price, reference in zip(prices, ("", "", "", "R"), strict=True)
    ]
    for entry in bought:
        world.do(entry, "bob")
    sold = instruct("alice", dvp(price=1_000), "bob", tolerance=5, reference="R")
    world.do(sold, "alice")
    assert state(world, sold.id).pair == bought[3].id


def test_a_reference_matters_where_both_give_one() -> None:
    world = founded()
    sold = instruct("alice", dvp(), "bob", reference="R")
    assert entered(world, sold, instruct("bob", dvp(), "alice"))[0] is Matched.MATCHED


def test_equal_trades_match_one_to_one() -> None:
    world = founded()
    sold = [instruct("alice", dvp(quantity=1, price=10), "bob") for _ in range(20)]
    bought = [instruct("bob", dvp(quantity=1, price=10), "alice") for _ in range(20)]
    receipts = world.block(*(world.signed(entry, "alice") for entry in sold))
    receipts += world.block(*(world.signed(entry, "bob") for entry in bought))
    assert {receipt.reason.title for receipt in receipts} == {"ok"}
    pairs = {state(world, entry.id).pair for entry in sold}
    assert pairs == {entry.id for entry in bought}
    assert waiting(world) == 0


def test_legs_may_stand_in_any_order_and_come_in_parts() -> None:
    world = founded()
    legs = [leg("alice", "bob", BOND, amount) for amount in range(1, 8)] + [leg("bob", "alice", CASH, 700)]
    sold = upload(world, "alice", legs, part=3, counterparty="bob")
    bought = upload(world, "bob", legs[::-1], part=5, counterparty="alice")
    assert state(world, sold.id).pair == bought.id


def test_a_counterparty_that_affirms_needs_no_instruction_of_its_own() -> None:
    world = founded()
    sold = instruct("alice", dvp(), "bob")
    world.do(sold, "alice")
    world.do(affirm(sold, "bob"), "bob")
    assert state(world, sold.id).matched is Matched.MATCHED
    assert waiting(world) == 0


def test_what_is_cancelled_is_not_found_any_more() -> None:
    world = founded()
    sold, bought = instruct("alice", dvp(), "bob"), instruct("bob", dvp(), "alice")
    world.do(sold, "alice")
    world.do(Cancel(sold.id, account("alice")), "alice")
    assert waiting(world) == 0
    world.do(bought, "bob")
    assert state(world, bought.id).reason is IsoReason.CMIS


def test_nobody_else_is_taken_for_the_counterparty() -> None:
    world = founded()
    world.do(instruct("alice", dvp(), "bob"), "alice")
    stranger = instruct("carol", dvp(), "alice")
    world.do(stranger, "carol")
    assert state(world, stranger.id).matched is Matched.UNMATCHED


def test_what_was_said_to_either_instruction_counts_for_both() -> None:
    """A hold, and the affirmation of a third account that gives, are carried to the principal."""
    world = founded()
    legs = [leg("alice", "bob", BOND, 10), leg("bob", "alice", CASH, 900), leg("carol", "alice", CASH, 100)]
    bought, sold = instruct("bob", legs, "alice"), instruct("alice", legs, "bob")
    world.do(bought, "bob")
    world.do([affirm(bought, "carol"), SetHold(bought.id, account("bob"), True)], "carol", "bob")
    world.do(sold, "alice")
    row = state(world, sold.id)
    assert (row.participants, row.affirmed, row.holds, row.reason) == (3, 3, 1, IsoReason.PREA)
    world.refuse("on_hold", settle(sold.id, "alice"), "alice")
    world.do(SetHold(bought.id, account("bob"), False), "bob")
    world.do(settle(sold.id, "alice"), "alice")


def test_an_affirmation_of_other_legs_is_not_carried() -> None:
    world = founded()
    legs = [leg("alice", "bob", BOND, 10), leg("bob", "alice", CASH, 900), leg("carol", "alice", CASH, 100)]
    bought = instruct("bob", legs, "alice", tolerance=1)
    dearer = [*legs[:2], replace(legs[2], amount=101)]
    sold = instruct("alice", dearer, "bob", tolerance=1)
    world.do(bought, "bob")
    world.do(affirm(bought, "carol"), "carol")
    world.do(sold, "alice")
    assert state(world, sold.id).matched is Matched.MATCHED
    said = dict(participants_of(world.books, sold.id))
    assert not said[account("carol")].affirmed
    world.refuse("not_matched", settle(sold.id, "alice"), "alice", rule="2 of 3 have affirmed")
    world.do(affirm(sold, "carol"), "carol")
    world.do(settle(sold.id, "alice"), "alice")
    assert world.free("carol", CASH) == 50_000 - 101


def test_both_sides_read_the_same_status() -> None:
    world = founded()
    sold, bought = instruct("alice", dvp(), "bob"), instruct("bob", dvp(), "alice")
    entered(world, sold, bought)
    world.do(settle(sold.id, "alice"), "alice")
    mine, theirs = state(world, sold.id), state(world, bought.id)
    assert mine.final == theirs.final
    assert mine.settlement == theirs.settlement
    assert mine.entry != theirs.entry


def test_a_statement_is_read_back_as_it_was_written() -> None:
    world = founded()
    sold = instruct("alice", [*dvp(), leg("bob", "alice", BASE_CASH, 5)], "bob", tolerance=3, reference="R")
    world.do(sold, "alice")
    for _, row in world.books.rows(Statement):
        assert Statement.decode(row.encode()) == row
        assert (row.by, row.counterparty, row.tolerance, row.reference) == (account("alice"), account("bob"), 3, "R")
        assert (row.quantities, sorted(row.amounts)) == ((10,), [5, 1_000])


def test_an_affirmed_trade_leaves_the_counterparts_own_instruction_waiting() -> None:
    world = founded()
    identifier = matched(world)
    late = instruct("bob", dvp(), "alice")
    world.do(late, "bob")
    assert state(world, identifier).pair == b""
    assert state(world, late.id).reason is IsoReason.CMIS
