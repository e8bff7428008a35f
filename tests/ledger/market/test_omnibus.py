"""Omnibus accounts: the house disposes of its own part, and what authority takes is shared out to the last unit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.ledger.market.buckets import FREE_SPOT, Bucket, Spot
from p2pledger.ledger.market.custody import allocated, beneficiaries_of, misallocations
from p2pledger.ledger.market.holders import HolderSum, miscounts, sum_of
from p2pledger.ledger.market.movement import Cause, Movement, move
from p2pledger.ledger.market.omnibus import HOUSE_RULE, in_proportion
from p2pledger.ledger.rule import Refused
from p2pledger.primitives.market.instruments import Describe, Nature, SetHolderRules
from p2pledger.primitives.market.orders import Order, Power
from p2pledger.primitives.market.parties import (
    AccountKind,
    Allocate,
    Effect,
    RegisterAccount,
    RoleNumber,
    SetPermission,
    Tier,
)
from p2pledger.primitives.names import asset_id
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import Issue, Lock, Redeem, Release, Transfer
from tests.ledger.market.market_world import BOND, World, account, founded, opened

CSDC, ISSUER, BROKER, ALICE, BOB, CAROL, DAVE = (
    account(name) for name in ("csdc", "issuer", "broker", "alice", "bob", "carol", "dave")
)
POOL = opened("alice", "pool")
HOUSE = b""


@pytest.fixture
def world() -> World:
    """The broker's pool holds 500 units of the bond: Bob's share is 200, Carol's 100, the house's 200."""
    world = founded()
    world.open("alice", "pool")
    entry = RegisterAccount(POOL, BROKER, CSDC, Tier.BROKER, AccountKind.OMNIBUS)
    world.do(entry, "broker", "pool", "csdc")
    world.do(Transfer(ALICE, POOL, BOND, 500), "alice")
    world.do([Allocate(POOL, HOUSE, BOB, BOND, 200), Allocate(POOL, HOUSE, CAROL, BOND, 100)], "broker")
    return world


def shares(world: World) -> dict[bytes, int]:
    return dict(beneficiaries_of(world.books, POOL, BOND))


# Allocating


def test_shares_move_between_customers_and_the_house(world: World) -> None:
    assert shares(world) == {BOB: 200, CAROL: 100}
    world.do(Allocate(POOL, BOB, DAVE, BOND, 50), "broker")
    world.do(Allocate(POOL, CAROL, HOUSE, BOND, 100), "broker")
    assert shares(world) == {BOB: 150, DAVE: 50}
    assert allocated(world.books, POOL, BOND) == 200


def test_each_refusal_of_allocate(world: World) -> None:
    world.refuse("bad_custody", Allocate(ALICE, HOUSE, BOB, BOND, 1), "broker", rule="no omnibus account")
    world.refuse("unauthorised", Allocate(POOL, HOUSE, BOB, BOND, 1), "alice", "pool")
    world.refuse("zero_amount", Allocate(POOL, HOUSE, BOB, BOND, 0), "broker")
    world.refuse("same_account", Allocate(POOL, BOB, BOB, BOND, 1), "broker")
    world.refuse("same_account", Allocate(POOL, HOUSE, HOUSE, BOND, 1), "broker")
    world.refuse("unknown_asset", Allocate(POOL, HOUSE, BOB, asset_id("US5949181045@CSDC"), 1), "broker")
    world.refuse("unknown_party", Allocate(POOL, HOUSE, POOL, BOND, 1), "broker")
    world.refuse("unknown_party", Allocate(POOL, bytes(32), BOB, BOND, 1), "broker")
    world.refuse("insufficient_allocation", Allocate(POOL, BOB, CAROL, BOND, 201), "broker", rule="share")
    world.refuse("insufficient_allocation", Allocate(POOL, HOUSE, BOB, BOND, 201), "broker", rule=HOUSE_RULE)
    denied = SetPermission(account("operator"), "no", Effect.DENY, RoleNumber.BROKER, b"", (Allocate.code,))
    world.do(denied, "operator")
    world.refuse("not_permitted", Allocate(POOL, BOB, CAROL, BOND, 1), "broker", rule="no")


def test_nothing_new_begins_with_an_instrument_that_is_not_active(world: World) -> None:
    world.do(Describe(CSDC, BOND, Nature.NATIVE, "DBFTFB", "", "B", "CNY", 0, 0, 0, "CN"), "csdc", "issuer")
    rule = "status of DE0005140008@CSDC"
    world.refuse("inactive", Allocate(POOL, BOB, CAROL, BOND, 1), "broker", rule=rule)


# What the account may do


def test_the_house_disposes_of_its_own_part(world: World) -> None:
    who = ("broker", "pool")
    world.refuse("insufficient_allocation", Transfer(POOL, DAVE, BOND, 201), *who, rule=HOUSE_RULE)
    world.refuse("insufficient_allocation", Lock(POOL, BOND, 201, DAVE), *who, rule=HOUSE_RULE)
    world.refuse("insufficient_allocation", Redeem(BOND, POOL, 201), *who, "issuer", rule=HOUSE_RULE)
    world.do(Lock(POOL, BOND, 50, DAVE), *who)
    world.do(Redeem(BOND, POOL, 50), *who, "issuer")
    world.refuse("insufficient_allocation", Transfer(POOL, DAVE, BOND, 101), *who, rule=HOUSE_RULE)
    world.do(Transfer(POOL, DAVE, BOND, 100), *who)
    world.refuse("insufficient_allocation", Allocate(POOL, HOUSE, BOB, BOND, 1), "broker", rule=HOUSE_RULE)
    world.do(Release(POOL, BOND, 50, DAVE), "dave")
    world.do(Allocate(POOL, HOUSE, BOB, BOND, 50), "broker")


def test_what_a_customer_sells_is_handed_to_the_house_in_the_same_transaction(world: World) -> None:
    sale = [Allocate(POOL, BOB, HOUSE, BOND, 200), Transfer(POOL, DAVE, BOND, 400)]
    world.do(sale, "broker", "pool")
    assert shares(world) == {CAROL: 100}
    assert world.free("dave", BOND) == 400


def test_what_comes_in_is_the_houses(world: World) -> None:
    world.do(Issue(BOND, POOL, 10), "issuer")
    world.refuse("insufficient_allocation", Allocate(POOL, HOUSE, BOB, BOND, 211), "broker")
    world.do(Allocate(POOL, HOUSE, BOB, BOND, 210), "broker")


# Counted holders


def test_customers_are_holders(world: World) -> None:
    world.do(SetHolderRules(CSDC, BOND, most_holders=4), "csdc")
    # Alice 500, Bob 1,000 of his own and his share, the broker's house, Carol's share.
    assert sum_of(world.books, BOND, BOB) == HolderSum(1_200)
    assert sum_of(world.books, BOND, BROKER) == HolderSum(200)
    rule = "holder rule of DE0005140008@CSDC: 4 holders"
    world.refuse("holder_limit", Allocate(POOL, BOB, DAVE, BOND, 1), "broker", rule=rule)
    world.refuse("holder_limit", Allocate(POOL, HOUSE, DAVE, BOND, 1), "broker", rule=rule)
    world.do(Allocate(POOL, CAROL, DAVE, BOND, 100), "broker")
    world.do(Allocate(POOL, HOUSE, BOB, BOND, 200), "broker")
    assert sum_of(world.books, BOND, BROKER) == HolderSum()


def test_a_customer_must_be_eligible(world: World) -> None:
    world.do(SetHolderRules(CSDC, BOND, ("qualified",)), "csdc")
    rule = "holder rule of DE0005140008@CSDC: qualified"
    world.refuse("ineligible", Allocate(POOL, BOB, DAVE, BOND, 1), "broker", rule=rule)
    # To the house it goes only if the house is eligible too; within one holder nothing changes.
    world.refuse("ineligible", Allocate(POOL, BOB, HOUSE, BOND, 1), "broker", rule=rule)
    world.do(Allocate(POOL, HOUSE, BROKER, BOND, 1), "broker")


# Orders of authority


def test_what_authority_takes_falls_on_the_house_first_and_then_on_all_in_proportion(world: World) -> None:
    world.do(SetHolderRules(CSDC, BOND, most_holders=9), "csdc")
    books, place = world.books, world.place
    taken = Movement(BOND, POOL, FREE_SPOT, DAVE, FREE_SPOT, 200, Cause.ORDER, 80)
    move(books, place, taken)
    assert dict(beneficiaries_of(books, POOL, BOND)) == {BOB: 200, CAROL: 100}
    assert sum_of(books, BOND, BROKER) == HolderSum()
    move(books, place, Movement(BOND, POOL, FREE_SPOT, DAVE, FREE_SPOT, 100, Cause.ORDER, 80))
    # 100 of 300: two thirds of it from Bob.
    losses = in_proportion({BOB: 200, CAROL: 100}, 100)
    assert dict(beneficiaries_of(books, POOL, BOND)) == {BOB: 200 - losses[BOB], CAROL: 100 - losses[CAROL]}
    assert sorted(losses.values()) == [33, 67]
    assert sum_of(books, BOND, CAROL) == HolderSum(100 - losses[CAROL])
    move(books, place, Movement(BOND, POOL, FREE_SPOT, DAVE, FREE_SPOT, 200, Cause.ORDER, 80))
    assert (misallocations(books), miscounts(books)) == ([], [])
    assert dict(beneficiaries_of(books, POOL, BOND)) == {}


def test_units_that_are_promised_are_the_houses_so_that_customers_lose_what_is_free(world: World) -> None:
    books, place, spot = world.books, world.place, Spot(Bucket.SETTLING, bytes(32))
    move(books, place, Movement(BOND, POOL, FREE_SPOT, POOL, spot, 200, Cause.OWNER, 55))
    with pytest.raises(Refused) as refused:
        move(books, place, Movement(BOND, POOL, FREE_SPOT, POOL, spot, 1, Cause.OWNER, 55))
    assert refused.value.reason is Reason.INSUFFICIENT_ALLOCATION
    move(books, place, Movement(BOND, POOL, FREE_SPOT, DAVE, FREE_SPOT, 300, Cause.ORDER, 80))
    assert misallocations(books) == []
    move(books, place, Movement(BOND, POOL, spot, DAVE, FREE_SPOT, 200, Cause.SETTLEMENT, 56))
    assert misallocations(books) == []


@given(st.dictionaries(st.binary(min_size=1, max_size=2), st.integers(1, 2**64 - 1), max_size=8), st.data())
def test_losses_are_in_proportion_and_add_up(given_shares: dict[bytes, int], data: st.DataObject) -> None:
    total = sum(given_shares.values())
    loss = data.draw(st.integers(0, total))
    losses = in_proportion(given_shares, loss)
    assert sum(losses.values()) == loss
    for party, lost in losses.items():
        exact = given_shares[party] * loss
        assert exact // total <= lost <= min(given_shares[party], -(-exact // total))


def ordered(power: Power, salt: int, **fields: object) -> Order:
    """An order of the regulator, approved by the court."""
    return Order(account("regulator"), account("court"), salt.to_bytes(16, "big"), power, **fields)  # type: ignore[arg-type]


def test_the_share_of_a_party_under_an_order_stays_where_it_is(world: World) -> None:
    freeze = ordered(Power.FREEZE, 1, party=BOB, catches_later=True)
    world.do(freeze, "regulator", "court")
    name = world.refuse("order_stops", Allocate(POOL, BOB, CAROL, BOND, 1), "broker")
    assert name.startswith("order ")
    world.do(Allocate(POOL, CAROL, BOB, BOND, 1), "broker")
    world.do(ordered(Power.RELEASE, 2, lifts=freeze.id), "regulator", "court")
    world.do(Allocate(POOL, BOB, CAROL, BOND, 1), "broker")


def test_in_an_account_that_an_order_holds_nothing_is_allocated_beyond_the_rest(world: World) -> None:
    world.do(ordered(Power.PARTIAL_FREEZE, 1, account=POOL, asset=BOND, quantity=450), "regulator", "court")
    world.refuse("order_stops", Allocate(POOL, BOB, CAROL, BOND, 51), "broker")
    world.do(Allocate(POOL, BOB, CAROL, BOND, 50), "broker")


def test_a_clawback_from_a_pool_is_shared_out_by_the_whole_ledger(world: World) -> None:
    world.do(SetHolderRules(CSDC, BOND, most_holders=9), "csdc")
    order = ordered(Power.CLAWBACK, 1, account=POOL, asset=BOND, quantity=350, target=DAVE)
    world.do(order, "regulator", "court")
    assert sum(shares(world).values()) == 150
    assert world.free("dave", BOND) == 350
