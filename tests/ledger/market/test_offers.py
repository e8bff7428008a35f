"""Standing offers: placed, taken lot by lot, withdrawn, expired."""

from dataclasses import replace

import pytest

from p2pledger.ledger.market.buckets import Bucket, Spot, amount_in
from p2pledger.ledger.market.offers import OfferRow
from p2pledger.ledger.tables import Holding, Table
from p2pledger.primitives.codec import U64_MAX
from p2pledger.primitives.market.instruments import SetHolderRules
from p2pledger.primitives.market.offers import TakeOffer, WithdrawOffer
from p2pledger.primitives.market.orders import Order, Power
from p2pledger.primitives.names import asset_id
from p2pledger.primitives.transactions import Transfer
from tests.ledger.market.market_world import BOND, CASH, DAY_MS, START_MS, World, account, founded
from tests.ledger.market.trading import offer, salt

NOWHERE = bytes(31) + b"\x01"


def take(identifier: bytes, name: str, lots: int = 1) -> TakeOffer:
    return TakeOffer(identifier, account(name), lots)


def withdraw(identifier: bytes, name: str) -> WithdrawOffer:
    return WithdrawOffer(identifier, account(name))


def placed(world: World, **terms: object) -> bytes:
    made = offer(**terms)  # type: ignore[arg-type]
    world.do(made, "alice")
    return made.id


def test_one_bond_for_13_000_in_cash_settles_at_once_with_whoever_takes_it() -> None:
    world = founded()
    identifier = placed(world)
    assert world.holding("alice", BOND) == Holding(999, 1)
    assert amount_in(world.books, BOND, account("alice"), Spot(Bucket.ESCROWED, identifier)) == 1
    world.do(take(identifier, "carol"), "carol")
    assert (world.free("carol", BOND), world.free("carol", CASH)) == (1, 37_000)
    assert (world.holding("alice", BOND), world.free("alice", CASH)) == (Holding(999), 63_000)
    assert world.row(OfferRow, identifier) is None
    assert world.version.scan(Table.DUE) == []
    world.refuse("unknown_offer", take(identifier, "bob"), "bob")


def test_lots_are_taken_one_by_one_and_the_rest_comes_back() -> None:
    world = founded()
    identifier = placed(world, gives_amount=3, takes_amount=100, lots=10)
    world.do(take(identifier, "bob", 4), "bob")
    world.do(take(identifier, "carol", 5), "carol")
    row = world.row(OfferRow, identifier)
    assert row is not None
    assert row.lots == 1
    assert OfferRow.decode(row.encode()) == row
    world.refuse("insufficient_encumbered", take(identifier, "carol", 2), "carol", rule="1 lots are left")
    world.do(withdraw(identifier, "alice"), "alice")
    assert world.holding("alice", BOND) == Holding(1_000 - 27)
    assert (world.free("bob", BOND), world.free("carol", BOND)) == (1_012, 15)
    assert world.version.scan(Table.DUE) == []


def test_an_offer_can_be_for_one_taker_alone() -> None:
    world = founded()
    identifier = placed(world, taker="bob")
    world.refuse("not_a_participant", take(identifier, "carol"), "carol")
    world.do(take(identifier, "bob"), "bob")


def test_an_offer_of_money_for_securities() -> None:
    world = founded()
    identifier = placed(world, gives=CASH, gives_amount=500, takes=BOND, takes_amount=2, lots=3)
    world.do(take(identifier, "bob", 3), "bob")
    assert (world.free("alice", BOND), world.free("bob", CASH)) == (1_006, 51_500)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gives_amount": 0}, "zero_amount"),
        ({"takes_amount": 0}, "zero_amount"),
        ({"gives_amount": 1_001}, "insufficient_free"),
        ({"lots": U64_MAX}, "insufficient_free"),
        ({"gives_amount": 2, "lots": U64_MAX}, "overflow"),
        ({"takes_amount": U64_MAX, "lots": 2}, "overflow"),
        ({"takes": asset_id("GB0002634946@CSDC")}, "unknown_asset"),
        ({"gives": asset_id("GB0002634946@CSDC")}, "unknown_asset"),
        ({"taker": bytes(32)}, "unknown_account"),
        ({"taker": account("alice")}, "self_trade"),
        ({"takes": BOND}, "self_trade"),
        ({"expires_ms": START_MS}, "late"),
    ],
)
def test_refusals_of_place_offer(changes: dict[str, object], reason: str) -> None:
    world = founded()
    world.refuse(reason, replace(offer(takes_amount=1), **changes), "alice")  # type: ignore[arg-type]


def test_an_offer_is_made_once_and_by_its_owner() -> None:
    world = founded()
    made = offer()
    world.refuse("unauthorised", made, "bob")
    world.do(made, "alice")
    world.refuse("identifier_used", replace(made, gives_amount=2), "alice")


def test_refusals_of_take_and_withdraw() -> None:
    world = founded()
    identifier = placed(world)
    world.refuse("unknown_offer", take(NOWHERE, "bob"), "bob")
    world.refuse("unknown_offer", withdraw(NOWHERE, "alice"), "alice")
    world.refuse("self_trade", take(identifier, "alice"), "alice")
    world.refuse("unauthorised", take(identifier, "bob"), "carol")
    world.refuse("insufficient_free", take(identifier, "dave"), "dave")
    world.refuse("insufficient_encumbered", take(identifier, "bob", U64_MAX), "bob")
    world.refuse("not_a_participant", withdraw(identifier, "bob"), "bob")


def test_what_is_offered_is_not_there_for_anything_else() -> None:
    world = founded()
    placed(world, gives_amount=600)
    world.refuse("insufficient_free", offer(gives_amount=401), "alice")
    world.refuse("insufficient_free", Transfer(account("alice"), account("bob"), BOND, 401), "alice")


def test_an_offer_can_be_taken_up_to_the_ms_of_its_expiry() -> None:
    expires_ms = START_MS + DAY_MS
    for time_ms, ends in ((expires_ms, "ok"), (expires_ms + 1, "unknown_offer")):
        world = founded()
        identifier = placed(world)
        assert world.judged(take(identifier, "bob"), "bob", at_ms=time_ms)[0] == ends
        assert world.holding("alice", BOND) == Holding(1_000 - (ends == "ok"))


def test_an_expired_offer_that_still_waits_in_the_queue_is_late() -> None:
    world = founded(due_per_block=1)
    offers = sorted(placed(world) for _ in range(3))
    expired_ms = START_MS + DAY_MS + 1
    world.refuse("late", take(offers[2], "bob"), "bob", at_ms=expired_ms)
    assert world.row(OfferRow, offers[0]) is None
    world.wait_until(expired_ms + 1)
    world.wait_until(expired_ms + 2)
    assert world.holding("alice", BOND) == Holding(1_000)


def test_who_may_not_hold_cannot_take() -> None:
    world = founded()
    identifier = placed(world)
    world.do(SetHolderRules(account("csdc"), BOND, required=("qualified",)), "csdc")
    world.refuse("ineligible", take(identifier, "bob"), "bob")


@pytest.mark.parametrize("withdrawn", [True, False])
def test_an_order_of_authority_stops_the_taking_and_not_the_return(withdrawn: bool) -> None:
    world = founded()
    identifier = placed(world)
    freeze = Order(
        account("regulator"), account("court"), salt(), Power.FREEZE, account=account("alice"), asset=BOND,
        document=bytes(range(32)),
    )  # fmt: skip
    world.do(freeze, "regulator", "court")
    world.refuse("order_stops", take(identifier, "bob"), "bob")
    if withdrawn:
        world.do(withdraw(identifier, "alice"), "alice")
    world.wait_until(START_MS + DAY_MS + 1)
    assert world.holding("alice", BOND) == Holding(1_000)
    assert world.version.scan(Table.OFFERS) == []
    world.refuse("order_stops", Transfer(account("alice"), account("bob"), BOND, 1), "alice")
