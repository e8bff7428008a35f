"""Orders over a party: all of its accounts, those that it gets later too, and quantities over them together."""

from __future__ import annotations

from types import ModuleType

import pytest

from p2pledger.ledger.market import order_rules, orders, takings
from p2pledger.ledger.market.orders import OrderRow, OrderStatus, holds_on
from p2pledger.ledger.tables import AccountFlag
from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.market.instructions import Affirm, Leg
from p2pledger.primitives.market.orders import Appeal, Order, Power
from p2pledger.primitives.market.parties import AccountKind, RegisterAccount, Tier
from p2pledger.primitives.transactions import Lock, Release, Transfer
from tests.ledger.market.authority import by_authority, release
from tests.ledger.market.market_world import BOND, CASH, SHARE, account, founded
from tests.ledger.market.trading import instruct, lock, settle

ALICE, BOB = account("alice"), account("bob")
CSDC = account("csdc")


class Household:
    """Alice as a party with two more accounts: `one` holds 300 bonds, `two` holds nothing; she herself holds 700."""

    def __init__(self) -> None:
        self.world = founded()
        self.one, self.two = (self.world.open("alice", name) for name in ("one", "two"))
        self.register(self.one, "one")
        self.world.do(Transfer(ALICE, self.one, BOND, 300), "alice")

    def register(self, opened: bytes, name: str) -> None:
        entry = RegisterAccount(opened, ALICE, CSDC, Tier.INVESTOR, AccountKind.SEGREGATED, b"")
        self.world.do(entry, "alice", name, "csdc")

    def usable(self, held_by: bytes, asset: bytes = BOND) -> int:
        held = holds_on(self.world.books, self.world.place, asset, held_by)
        return self.world.books.holding(asset, held_by).free - sum(
            item.amount for item in held if item.spot.bucket is Bucket.FREE
        )

    def is_flagged(self, opened: bytes) -> bool:
        row = self.world.books.account(opened)
        assert row is not None
        return bool(row.flags & AccountFlag.ORDERED)

    def do(self, order: Order) -> None:
        self.world.do(order, "regulator", "court")

    def transfer(self, source: bytes, amount: int, name: str, target: bytes = BOB) -> str:
        return self.world.judged(Transfer(source, target, BOND, amount), "bob", name)[0]


@pytest.fixture
def home() -> Household:
    return Household()


def test_a_freeze_of_a_party_reaches_all_its_accounts_and_those_to_come(home: Household) -> None:
    order = by_authority(power=Power.FREEZE, party=ALICE, catches_later=True)
    home.do(order)
    assert home.transfer(ALICE, 1, "alice") == "order_stops"
    assert home.transfer(home.one, 1, "one") == "order_stops"
    home.world.do(Transfer(BOB, home.two, BOND, 5), "bob")
    assert home.transfer(home.two, 1, "two") == "ok"
    home.register(home.two, "two")
    assert home.is_flagged(home.two)
    assert home.transfer(home.two, 1, "two") == "order_stops"
    home.do(release(order))
    assert not any(home.is_flagged(opened) for opened in (ALICE, home.one, home.two))
    assert home.transfer(home.two, 1, "two") == "ok"


def test_an_order_over_one_account_of_a_party_leaves_the_others(home: Household) -> None:
    for named in ({}, {"party": ALICE}):
        order = by_authority(power=Power.FREEZE, account=home.one, catches_later=True, **named)
        home.do(order)
        assert home.transfer(home.one, 1, "one") == "order_stops"
        assert home.transfer(ALICE, 1, "alice") == "ok"
        home.do(release(order))
    own = by_authority(power=Power.FREEZE, account=ALICE, catches_later=True)
    home.do(own)
    assert home.transfer(ALICE, 1, "alice") == "order_stops"
    assert home.transfer(home.one, 1, "one") == "ok"
    assert not home.is_flagged(home.one)


@pytest.mark.parametrize("later", [False, True])
def test_a_quantity_over_a_party_is_one_over_its_accounts_together(home: Household, later: bool) -> None:
    order = by_authority(power=Power.PARTIAL_FREEZE, party=ALICE, asset=BOND, quantity=800, catches_later=later)
    home.do(order)
    accounts = (ALICE, home.one)
    assert sum(home.usable(opened) for opened in accounts) == 200
    free = next(opened for opened in accounts if home.usable(opened))
    name = "alice" if free == ALICE else "one"
    assert home.transfer(free, 201, name) == "order_stops"
    assert home.transfer(free, 200, name) == "ok"
    assert sum(home.usable(opened) for opened in accounts) == 0
    home.world.do(Transfer(BOB, home.one, BOND, 50), "bob")
    assert sum(home.usable(opened) for opened in accounts) == 50


@pytest.mark.parametrize("later", [False, True])
def test_two_quantities_over_a_party_add_up(home: Household, later: bool) -> None:
    orders = [
        by_authority(power=Power.PARTIAL_FREEZE, party=ALICE, asset=BOND, quantity=400, catches_later=later)
        for _ in range(2)
    ]
    accounts = (ALICE, home.one)
    for order in orders:
        home.do(order)
    assert sum(home.usable(opened) for opened in accounts) == 200
    for lifted, usable in zip(orders, (600, 1_000), strict=True):
        home.do(release(lifted))
        assert sum(home.usable(opened) for opened in accounts) == usable


def test_of_an_order_over_the_party_and_one_over_an_account_each_has_its_own(home: Household) -> None:
    """300 in one account and 500 of the party: 800 of 1,000, whichever came first, and whichever account it is."""
    over_party = {"power": Power.PARTIAL_FREEZE, "party": ALICE, "asset": BOND, "quantity": 500}
    for opened in (home.one, ALICE):
        over_account = {"power": Power.PARTIAL_FREEZE, "account": opened, "asset": BOND, "quantity": 300}
        for sequence in ((over_account, over_party), (over_party, over_account)):
            orders = [by_authority(**terms, catches_later=True) for terms in sequence]
            for order in orders:
                home.do(order)
            assert home.usable(ALICE) + home.usable(home.one) == 200
            for order in orders:
                home.do(release(order))


def test_a_clawback_from_a_party_goes_through_its_accounts(home: Household) -> None:
    order = by_authority(
        power=Power.CLAWBACK, party=ALICE, asset=BOND, quantity=900, target=CSDC, appeal_until_ms=2**60
    )
    home.do(order)
    assert home.world.free("csdc", BOND) == 900
    assert home.usable(ALICE) + home.usable(home.one) == 100
    row = home.world.row(OrderRow, order.id)
    assert row is not None
    assert {line.account for line in row.effects} == {ALICE, home.one}
    home.world.do(Appeal(order.id, home.one, bytes(32)), "bob", "one")


def test_a_clawback_from_a_party_catches_what_any_of_its_accounts_gets(home: Household) -> None:
    order = by_authority(power=Power.CLAWBACK, party=ALICE, asset=BOND, quantity=1_100, target=CSDC, catches_later=True)
    home.do(order)
    home.register(home.two, "two")
    home.world.do(Transfer(BOB, home.two, BOND, 60), "bob")
    home.world.do(Transfer(BOB, home.one, BOND, 60), "bob")
    assert home.world.free("csdc", BOND) == 1_100
    assert home.usable(home.one) == 20
    row = home.world.row(OrderRow, order.id)
    assert row is not None
    assert row.status is OrderStatus.EXECUTED
    assert not home.is_flagged(home.one)


def test_the_target_of_a_taking_is_no_account_of_the_party(home: Household) -> None:
    order = by_authority(power=Power.CLAWBACK, party=ALICE, asset=BOND, target=home.one)
    home.world.refuse("bad_order", order, "regulator", "court", rule="the target is in the scope")


def test_an_order_over_a_party_and_an_asset_leaves_its_other_assets(home: Household) -> None:
    home.do(by_authority(power=Power.FREEZE, party=ALICE, asset=BOND, catches_later=True))
    home.world.do(Transfer(ALICE, BOB, CASH, 5), "alice")
    assert home.transfer(home.one, 1, "one") == "order_stops"


def test_proceeds_are_held_in_whichever_account_of_the_party_they_come_in(home: Household) -> None:
    legs = [Leg(home.one, BOB, BOND, 300), Leg(BOB, ALICE, CASH, 900), Leg(BOB, home.two, CASH, 90)]
    home.register(home.two, "two")
    world = home.world
    entered = instruct("bob", legs)
    world.do([entered, Affirm(entered.id, home.one, entered.digest)], "bob", "one")
    world.do(lock(entered.id, "bob"), "bob")
    orders = [
        by_authority(power=Power.CLAWBACK, account=home.one, asset=BOND, quantity=quantity, target=CSDC)
        for quantity in (100, 200)
    ]
    for order in orders:
        home.do(order)
    before = home.usable(ALICE, CASH)
    world.do(settle(entered.id, "bob"), "bob")
    assert (home.usable(ALICE, CASH), home.usable(home.two, CASH)) == (before, 0)
    home.do(release(orders[0]))
    assert (home.usable(ALICE, CASH), home.usable(home.two, CASH)) == (before + 300, 30)
    home.do(release(orders[1]))
    assert not any(home.is_flagged(opened) for opened in (ALICE, home.one, home.two))


def test_the_same_instruction_over_two_assets_is_not_counted_twice(home: Household) -> None:
    legs = [Leg(ALICE, BOB, BOND, 100), Leg(ALICE, BOB, SHARE, 100), Leg(BOB, ALICE, CASH, 50)]
    world = home.world
    entered = instruct("bob", legs)
    world.do([entered, Affirm(entered.id, ALICE, entered.digest)], "bob", "alice")
    world.do(lock(entered.id, "bob"), "bob")
    order = by_authority(power=Power.CLAWBACK, account=ALICE, target=CSDC, consumes=(Bucket.SETTLING,))
    home.do(order)
    before = home.usable(ALICE, CASH)
    world.do(settle(entered.id, "bob"), "bob")
    assert home.usable(ALICE, CASH) == before


# Too wide ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "limit", "terms"),
    [
        (orders, "MOST_ACCOUNTS", {"power": Power.FREEZE, "party": ALICE, "catches_later": True}),
        (order_rules, "_MOST_SPREAD", {"power": Power.FREEZE, "party": ALICE}),
        (
            order_rules,
            "_MOST_TOGETHER",
            {"power": Power.PARTIAL_FREEZE, "party": ALICE, "asset": BOND, "quantity": 5, "catches_later": True},
        ),
        (takings, "_MOST_LOOKS", {"power": Power.CLAWBACK, "party": ALICE, "target": CSDC}),
        (takings, "_MOST_EFFECTS", {"power": Power.CLAWBACK, "party": ALICE, "asset": BOND, "target": CSDC}),
    ],
)
def test_what_reaches_too_much_at_once_is_refused_and_leaves_no_trace(
    home: Household, monkeypatch: pytest.MonkeyPatch, module: ModuleType, limit: str, terms: dict[str, object]
) -> None:
    monkeypatch.setattr(module, limit, 1)
    home.world.refuse("order_too_wide", by_authority(**terms), "regulator", "court")
    assert not home.is_flagged(ALICE)
    assert orders.orders_over(home.world.books, BOND, ALICE) == ()


def test_who_splits_a_holding_over_many_locks_is_reached_by_several_orders(
    home: Household, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of spots that one order reaches is limited; the next one passes over those that are taken care of."""
    monkeypatch.setattr(takings, "_MOST_EFFECTS", 3)
    controllers = ("bob", "carol", "dave", "broker", "dealer", "icbc")
    for name in controllers:
        home.world.do(Lock(ALICE, BOND, 100, account(name)), "alice")
    terms = {"power": Power.CLAWBACK, "account": ALICE, "asset": BOND, "target": CSDC}
    home.world.refuse("order_too_wide", by_authority(**terms, quantity=700), "regulator", "court")
    for _ in range(2):
        home.do(by_authority(**terms, quantity=300, consumes=(Bucket.LOCKED,)))
    for name in controllers:
        home.world.do(Release(ALICE, BOND, 100, account(name)), name)
    assert home.world.free("csdc", BOND) == 600
    assert home.usable(ALICE) == 100
