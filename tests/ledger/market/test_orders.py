"""Orders of authority: scope, approval, quantities that add up, pairs in both sequences, expiry, appeal, release.

What each power does to units in each bucket is played in ``test_powers.py``.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from p2pledger.ledger.market.orders import OrderOver, OrderRow, OrderStatus, holds_on, orders_over, over_key
from p2pledger.ledger.tables import AccountFlag, AssetFlag
from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.market.instruments import SetHolderRules
from p2pledger.primitives.market.links import AgreeLink, Cross
from p2pledger.primitives.market.orders import Appeal, Order, Power
from p2pledger.primitives.names import register_code
from p2pledger.primitives.transactions import Issue, Lock, Redeem, Release, Transfer
from tests.ledger.market.authority import by_authority, release
from tests.ledger.market.market_world import BOND, BOND_ACROSS, CASH, DAY_MS, SHARE, START_MS, World, account, founded

ALICE, BOB = account("alice"), account("bob")
TARGET = account("csdc")


def give(amount: int, to: str = "bob", asset: bytes = BOND, who: str = "alice") -> Transfer:
    return Transfer(account(who), account(to), asset, amount)


def usable(world: World, name: str = "alice", asset: bytes = BOND) -> int:
    """How much of the free units no order holds."""
    held = holds_on(world.books, world.place, asset, account(name))
    return world.free(name, asset) - sum(item.amount for item in held if item.spot.bucket is Bucket.FREE)


def is_flagged(world: World, name: str) -> bool:
    row = world.books.account(account(name))
    assert row is not None
    return bool(row.flags & AccountFlag.ORDERED)


# Who may -------------------------------------------------------------------------------------------------------------


def test_an_order_needs_two_regulators_of_different_parties() -> None:
    world = founded()
    plain = {"power": Power.FREEZE, "account": ALICE}
    world.refuse("unauthorised", by_authority(**plain), "regulator")
    world.refuse("not_permitted", by_authority(authority="broker", **plain), "broker", "court")
    world.refuse("second_approver", by_authority(approver="broker", **plain), "regulator", "broker")
    world.refuse("second_approver", by_authority(approver="regulator", **plain), "regulator")
    world.refuse("second_approver", by_authority(approver="alice", **plain), "regulator", "alice")
    world.do(by_authority(**plain), "regulator", "court")


def test_the_same_order_twice_is_one() -> None:
    world = founded()
    order = by_authority(power=Power.PARTIAL_FREEZE, account=ALICE, asset=BOND, quantity=100)
    world.do(order, "regulator", "court")
    world.refuse("identifier_used", order, "regulator", "court")
    assert usable(world) == 900
    assert orders_over(world.books, BOND, ALICE) == (order.id,)


@pytest.mark.parametrize(
    ("what", "terms"),
    [
        ("no scope", {"power": Power.FREEZE}),
        ("a freeze has no quantity", {"power": Power.FREEZE, "account": ALICE, "asset": BOND, "quantity": 1}),
        ("a freeze has no target", {"power": Power.FREEZE, "account": ALICE, "target": TARGET}),
        ("no quantity", {"power": Power.PARTIAL_FREEZE, "account": ALICE, "asset": BOND}),
        ("a quantity of no asset", {"power": Power.PARTIAL_FREEZE, "account": ALICE, "quantity": 1}),
        ("no target", {"power": Power.CLAWBACK, "account": ALICE, "asset": BOND}),
        ("the target is in the scope", {"power": Power.CLAWBACK, "account": ALICE, "asset": BOND, "target": ALICE}),
        ("the target is in the scope", {"power": Power.CLAWBACK, "party": ALICE, "asset": BOND, "target": ALICE}),
        ("the account is not the party's", {"power": Power.FREEZE, "account": ALICE, "party": BOB}),
        ("a bucket twice", {"power": Power.FREEZE, "account": ALICE, "consumes": (Bucket.FREE, Bucket.FREE)}),
        (
            "what is held when it is free needs the free bucket",
            {"power": Power.FREEZE, "account": ALICE, "consumes": (Bucket.LOCKED, Bucket.PENDING)},
        ),
        ("only a release lifts an order", {"power": Power.FREEZE, "account": ALICE, "lifts": bytes(32)}),
        ("a release names the order that it lifts", {"power": Power.RELEASE}),
        ("a release has no terms of its own", {"power": Power.RELEASE, "lifts": bytes(32), "account": ALICE}),
        ("over everybody there is only a lasting freeze", {"power": Power.FREEZE, "asset": BOND}),
        (
            "over everybody there is only a lasting freeze",
            {"power": Power.CLAWBACK, "asset": BOND, "target": TARGET, "catches_later": True},
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(what: str, terms: dict[str, object]) -> None:
    founded().refuse("bad_order", by_authority(**terms), "regulator", "court", rule=what)


def test_unknown_names_and_past_moments_are_refused() -> None:
    world = founded()
    stranger = bytes(range(32))
    for reason, terms in (
        ("unknown_account", {"power": Power.FREEZE, "account": stranger}),
        ("unknown_party", {"power": Power.FREEZE, "party": stranger}),
        ("unknown_asset", {"power": Power.FREEZE, "asset": stranger[:16], "catches_later": True}),
        ("unknown_account", {"power": Power.CLAWBACK, "account": ALICE, "target": stranger}),
        ("unknown_order", {"power": Power.RELEASE, "lifts": stranger}),
        ("order_expired", {"power": Power.FREEZE, "account": ALICE, "expires_ms": START_MS}),
        ("order_expired", {"power": Power.FREEZE, "account": ALICE, "appeal_until_ms": START_MS}),
        (
            "order_short",
            {"power": Power.CLAWBACK, "account": ALICE, "asset": BOND, "quantity": 1_001, "target": TARGET},
        ),
        ("order_short", {"power": Power.CLAWBACK, "account": account("dave"), "asset": BOND, "target": TARGET}),
        ("order_short", {"power": Power.FREEZE, "account": account("dave"), "asset": BOND}),
    ):
        world.refuse(reason, by_authority(**terms), "regulator", "court")
    assert world.row(OrderRow, by_authority(power=Power.FREEZE, account=ALICE).id) is None


# Scope ---------------------------------------------------------------------------------------------------------------


def test_a_freeze_of_an_account_reaches_all_its_assets_and_nobody_else() -> None:
    world = founded()
    order = by_authority(power=Power.FREEZE, account=ALICE, catches_later=True)
    world.do(order, "regulator", "court")
    name = f"order {order.id.hex()[:8]}"
    world.refuse("order_stops", give(1), "alice", rule=name)
    world.refuse("order_stops", give(1, asset=CASH), "alice", rule=name)
    world.refuse("order_stops", Lock(ALICE, BOND, 1, BOB), "alice", rule=name)
    world.refuse("order_stops", Redeem(SHARE, ALICE, 1), "alice", "issuer", rule=name)
    world.do(give(1, to="alice", who="bob"), "bob")
    world.refuse("order_stops", give(1), "alice")
    world.do(release(order), "regulator", "court")
    world.do(give(1_001), "alice")


def test_a_freeze_of_an_asset_of_an_account_leaves_the_others() -> None:
    world = founded()
    world.do(by_authority(power=Power.FREEZE, account=ALICE, asset=BOND, catches_later=True), "regulator", "court")
    world.refuse("order_stops", give(1), "alice")
    world.do(give(1, asset=SHARE), "alice")


def test_an_asset_is_frozen_for_everybody() -> None:
    world = founded()
    order = by_authority(power=Power.FREEZE, asset=BOND, catches_later=True)
    world.do(order, "regulator", "court")
    for name, other in (("alice", "bob"), ("bob", "alice")):
        world.refuse("order_stops", give(1, to=other, who=name), name)
    world.do(Issue(BOND, account("dave"), 5), "issuer")
    world.refuse("order_stops", give(5, who="dave"), "dave")
    row = world.books.asset(BOND)
    assert row is not None
    assert row.flags & AssetFlag.ORDERED
    assert not is_flagged(world, "alice")
    world.do(release(order), "regulator", "court")
    row = world.books.asset(BOND)
    assert row is not None
    assert row.flags == 0
    world.do(give(5, who="dave"), "dave")


def test_the_target_can_be_anybody_else_and_the_taken_units_are_his() -> None:
    world = founded()
    order = by_authority(power=Power.FORCED_TRANSFER, account=ALICE, asset=BOND, quantity=400, target=BOB)
    world.do(order, "regulator", "court")
    assert (world.free("alice", BOND), world.free("bob", BOND)) == (600, 1_400)
    row = world.row(OrderRow, order.id)
    assert row is not None
    assert row.status is OrderStatus.EXECUTED
    assert [(line.bucket, line.outcome.words, line.amount) for line in row.effects] == [
        (Bucket.FREE, "effective now", 400)
    ]
    assert not is_flagged(world, "alice")
    world.refuse("order_ended", release(order), "regulator", "court")


def test_everything_of_an_account_can_be_taken_at_once() -> None:
    world = founded()
    world.do(by_authority(power=Power.FORCED_TRANSFER, account=ALICE, target=BOB), "regulator", "court")
    assert [world.holding("alice", asset).total for asset in (BOND, SHARE, CASH)] == [0, 0, 0]
    assert [world.free("bob", asset) for asset in (BOND, SHARE, CASH)] == [2_000, 1_000, 100_000]


# Quantities ----------------------------------------------------------------------------------------------------------


def freeze_of(quantity: int, *, later: bool) -> Order:
    power = Power.PARTIAL_FREEZE if quantity else Power.FREEZE
    return by_authority(power=power, account=ALICE, asset=BOND, quantity=quantity, catches_later=later)


@pytest.mark.parametrize("later", [False, True])
def test_two_partial_freezes_add_up_and_lifting_one_leaves_the_other(later: bool) -> None:
    for lifted in (0, 1):
        world = founded()
        orders = [freeze_of(300, later=later), freeze_of(500, later=later)]
        for order in orders:
            world.do(order, "regulator", "court")
        assert usable(world) == 200
        world.refuse("order_stops", give(201), "alice", rule=f"order {orders[1].id.hex()[:8]}")
        world.do(give(200), "alice")
        assert usable(world) == 0
        world.do(release(orders[lifted]), "regulator", "court")
        assert usable(world) == (300, 500)[lifted]
        assert is_flagged(world, "alice")
        world.do(release(orders[1 - lifted]), "regulator", "court")
        assert usable(world) == 800
        assert not is_flagged(world, "alice")


def test_a_freeze_of_everything_overlaps_with_a_partial_one() -> None:
    for sequence in itertools.permutations((freeze_of(0, later=True), freeze_of(300, later=True))):
        world = founded()
        for order in sequence:
            world.do(order, "regulator", "court")
        assert usable(world) == 0
        world.do(release(next(order for order in sequence if order.power is Power.FREEZE)), "regulator", "court")
        assert usable(world) == 700


@pytest.mark.parametrize("later", [False, True])
def test_later_credits_are_caught_or_not(later: bool) -> None:
    for quantity, held_of_100_more in ((0, 100), (1_050, 50), (900, 0)):
        world = founded()
        world.do(freeze_of(quantity, later=later), "regulator", "court")
        before = usable(world)
        world.do(give(100, to="alice", who="bob"), "bob")
        assert usable(world) - before == (100 - held_of_100_more if later else 100)


def test_what_is_behind_moves_up_when_the_order_before_it_is_lifted() -> None:
    """1,000 units, two orders of 700 that catch nothing later: the second holds 300, and 700 when the first goes."""
    for lifted in (0, 1):
        world = founded()
        orders = [freeze_of(700, later=False), freeze_of(700, later=False)]
        for order in orders:
            world.do(order, "regulator", "court")
        assert usable(world) == 0
        world.do(give(500, to="alice", who="bob"), "bob")
        assert usable(world) == 500
        world.do(release(orders[lifted]), "regulator", "court")
        assert usable(world) == 800


def test_old_units_that_left_are_not_replaced_by_new_ones() -> None:
    world = founded()
    world.do(freeze_of(600, later=False), "regulator", "court")
    world.do(
        by_authority(power=Power.CLAWBACK, account=ALICE, asset=BOND, quantity=900, target=TARGET), "regulator", "court"
    )
    assert world.free("alice", BOND) == 100
    world.do(give(1_000, to="alice", who="bob"), "bob")
    assert usable(world) == 1_000


# Pairs in both sequences ---------------------------------------------------------------------------------------------


def take_of(quantity: int, power: Power = Power.CLAWBACK) -> Order:
    return by_authority(power=power, account=ALICE, asset=BOND, quantity=quantity, target=TARGET)


PAIRS: dict[str, tuple[Callable[[], Order], Callable[[], Order], tuple[int, int]]] = {
    "partial freeze, partial freeze": (
        lambda: freeze_of(400, later=False), lambda: freeze_of(400, later=True), (200, 1_000)),
    "freeze, partial freeze": (lambda: freeze_of(0, later=True), lambda: freeze_of(400, later=False), (0, 1_000)),
    "partial freeze, clawback": (lambda: freeze_of(400, later=True), lambda: take_of(700), (0, 300)),
    "partial freeze, forced transfer": (
        lambda: freeze_of(400, later=False), lambda: take_of(500, Power.FORCED_TRANSFER), (100, 500)),
    "freeze, clawback": (lambda: freeze_of(0, later=True), lambda: take_of(700), (0, 300)),
    "freeze, forced transfer": (
        lambda: freeze_of(0, later=False), lambda: take_of(700, Power.FORCED_TRANSFER), (0, 300)),
    "clawback, forced transfer": (lambda: take_of(300), lambda: take_of(200, Power.FORCED_TRANSFER), (500, 500)),
    "clawback, clawback": (lambda: take_of(300), lambda: take_of(200), (500, 500)),
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_pairs_come_out_alike_in_both_sequences(pair: str) -> None:
    first, second, expected = PAIRS[pair]
    for sequence in ((first(), second()), (second(), first())):
        world = founded()
        for order in sequence:
            world.do(order, "regulator", "court")
        assert (usable(world), world.holding("alice", BOND).total) == expected
        assert world.holding("csdc", BOND).total == 1_000 - expected[1]
        for order in sequence:
            if order.power in (Power.FREEZE, Power.PARTIAL_FREEZE):
                world.do(release(order), "regulator", "court")
        assert usable(world) == world.holding("alice", BOND).total
        assert not is_flagged(world, "alice")


def test_a_release_lifts_only_the_order_that_it_names_and_only_once() -> None:
    world = founded()
    one, other = freeze_of(0, later=True), freeze_of(0, later=True)
    world.do(one, "regulator", "court")
    world.do(other, "court", "regulator")
    world.do(release(one), "court", "regulator")
    world.refuse("order_ended", release(one), "regulator", "court", rule=f"order {one.id.hex()[:8]}")
    world.refuse("order_stops", give(1), "alice", rule=f"order {other.id.hex()[:8]}")
    lifting = release(other)
    world.do(lifting, "regulator", "court")
    world.refuse("order_ended", release(lifting), "regulator", "court")
    world.do(give(1), "alice")


# Takings that wait ---------------------------------------------------------------------------------------------------


def test_a_clawback_that_catches_later_credits_takes_them_up_to_its_quantity() -> None:
    world = founded()
    order = by_authority(
        power=Power.CLAWBACK, account=ALICE, asset=BOND, quantity=1_300, target=TARGET, catches_later=True
    )
    world.do(order, "regulator", "court")
    assert (world.free("alice", BOND), world.free("csdc", BOND)) == (0, 1_000)
    assert is_flagged(world, "alice")
    world.do(give(200, to="alice", who="bob"), "bob")
    assert (world.free("alice", BOND), world.free("csdc", BOND)) == (0, 1_200)
    world.do(give(200, to="alice", who="bob"), "bob")
    assert (world.free("alice", BOND), world.free("csdc", BOND)) == (100, 1_300)
    row = world.row(OrderRow, order.id)
    assert row is not None
    assert (row.status, row.over) == (OrderStatus.EXECUTED, ())
    assert not is_flagged(world, "alice")


def test_a_clawback_of_everything_later_goes_on_until_it_is_lifted() -> None:
    world = founded()
    order = by_authority(power=Power.CLAWBACK, account=account("dave"), target=TARGET, catches_later=True)
    world.do(order, "regulator", "court")
    world.do(give(200, to="dave"), "alice")
    world.do(give(300, to="dave", asset=SHARE), "alice")
    assert (world.free("dave", BOND), world.free("dave", SHARE)) == (0, 0)
    assert (world.free("csdc", BOND), world.free("csdc", SHARE)) == (200, 300)
    world.do(release(order), "regulator", "court")
    world.do(give(200, to="dave"), "alice")
    assert world.free("dave", BOND) == 200


def test_two_orders_that_wait_for_a_lock_never_count_the_same_units() -> None:
    for sequence in ((400, 500), (500, 400)):
        world = founded()
        world.do(Lock(ALICE, BOND, 800, BOB), "alice")
        world.do(give(200), "alice")
        orders = [take_of(quantity) for quantity in sequence]
        world.do(orders[0], "regulator", "court")
        world.refuse("order_short", orders[1], "regulator", "court")
        third = by_authority(
            power=Power.FORCED_TRANSFER, account=ALICE, asset=BOND, quantity=800 - sequence[0], target=account("dave")
        )
        world.do(third, "regulator", "court")
        world.do(Release(ALICE, BOND, sequence[0], BOB), "bob")
        assert world.holding("alice", BOND).total == 0
        assert world.free("csdc", BOND) == sequence[0]
        assert world.holding("dave", BOND).locked == 800 - sequence[0]


# Time ----------------------------------------------------------------------------------------------------------------


def test_an_order_stands_to_its_last_millisecond_and_then_ends_by_itself() -> None:
    world = founded()
    until = world.now_ms + 10_000
    order = by_authority(power=Power.FREEZE, account=ALICE, expires_ms=until, catches_later=True)
    world.do(order, "regulator", "court")
    world.refuse("order_stops", give(1), "alice", at_ms=until)
    world.do(give(1), "alice", at_ms=until + 1)
    row = world.row(OrderRow, order.id)
    assert row is not None
    assert (row.status, row.ended_ms) == (OrderStatus.EXPIRED, until + 1)
    assert not is_flagged(world, "alice")
    world.refuse("order_ended", release(order), "regulator", "court")


def test_an_order_whose_time_is_over_holds_nothing_though_nobody_has_ended_it() -> None:
    """The queue of due work may be long: what an order holds depends on the block's time alone."""
    world = founded()
    until = world.now_ms + 10_000
    world.do(
        by_authority(power=Power.FREEZE, account=ALICE, expires_ms=until, catches_later=True), "regulator", "court"
    )
    place = world.place
    assert holds_on(world.books, place, BOND, ALICE)
    assert not holds_on(world.books, type(place)(place.height, until + 1, place.spec), BOND, ALICE)


def test_a_lifted_order_leaves_nothing_in_the_queue() -> None:
    world = founded()
    order = by_authority(power=Power.FREEZE, account=ALICE, expires_ms=world.now_ms + DAY_MS)
    world.do(order, "regulator", "court")
    world.do(release(order), "regulator", "court")
    row = world.row(OrderRow, order.id)
    world.wait_until(world.now_ms + 2 * DAY_MS)
    assert world.row(OrderRow, order.id) == row


def test_an_appeal_is_recorded_in_time_by_whom_the_order_concerns() -> None:
    world = founded()
    until = world.now_ms + 60_000
    order = by_authority(power=Power.FREEZE, account=ALICE, appeal_until_ms=until)
    world.do(order, "regulator", "court")
    document = bytes(range(32))
    world.refuse("unknown_order", Appeal(document, ALICE, document), "alice")
    world.refuse("bad_appeal", Appeal(order.id, BOB, document), "bob", rule="the order does not concern the party")
    world.do(Appeal(order.id, ALICE, document), "alice")
    world.refuse("bad_appeal", Appeal(order.id, ALICE, document), "alice", rule="it was appealed against")
    world.refuse("order_stops", give(1), "alice")
    row = world.row(OrderRow, order.id)
    assert row is not None
    assert [(line.party, line.document) for line in row.appeals] == [(ALICE, document)]
    late = by_authority(power=Power.FREEZE, account=BOB, appeal_until_ms=until)
    world.do(late, "regulator", "court")
    world.refuse("bad_appeal", Appeal(late.id, BOB, document), "bob", at_ms=until + 1)
    world.do(release(late), "regulator", "court")
    world.refuse("order_ended", Appeal(late.id, BOB, document), "bob")


def test_what_was_taken_can_be_appealed_against_while_the_order_says_so() -> None:
    world = founded()
    order = by_authority(
        power=Power.CLAWBACK, account=ALICE, asset=BOND, target=TARGET, appeal_until_ms=world.now_ms + DAY_MS
    )
    world.do(order, "regulator", "court")
    world.do(Appeal(order.id, ALICE, bytes(32)), "alice")
    silent = by_authority(power=Power.CLAWBACK, account=BOB, asset=BOND, target=TARGET)
    world.do(silent, "regulator", "court")
    world.refuse("order_ended", Appeal(silent.id, BOB, bytes(32)), "bob")
    halt = by_authority(power=Power.FREEZE, asset=CASH, catches_later=True)
    world.do(halt, "regulator", "court")
    world.do(Appeal(halt.id, account("icbc"), bytes(32)), "icbc")
    world.do(Appeal(halt.id, account("carol"), bytes(32)), "carol")
    world.refuse("bad_appeal", Appeal(halt.id, account("dave"), bytes(32)), "dave")


def test_whoever_is_frozen_can_still_sign() -> None:
    """Authority is no matter of flags: what an order forbids is judged where units move."""
    world = founded()
    world.do(by_authority(power=Power.FREEZE, account=ALICE, catches_later=True), "regulator", "court")
    world.do(Lock(BOB, BOND, 10, ALICE), "bob")
    world.do(Release(BOB, BOND, 10, ALICE), "alice")


# Between registers ---------------------------------------------------------------------------------------------------


def linked() -> World:
    world = founded()
    ends = register_code("CSDC"), register_code("CCDC")
    world.do(AgreeLink(*ends, BOND[:12], 500), "csdc", "ccdc")
    return world


def cross(amount: int, salt: int) -> Cross:
    return Cross(ALICE, BOND, register_code("CCDC"), amount, salt.to_bytes(16, "big"))


def test_what_is_held_does_not_leave_the_register() -> None:
    world = linked()
    order = freeze_of(900, later=False)
    world.do(order, "regulator", "court")
    world.refuse("order_stops", cross(101, 1), "alice", rule=f"order {order.id.hex()[:8]}")
    world.do(cross(100, 2), "alice")


def test_an_order_over_all_assets_follows_into_the_other_register() -> None:
    world = linked()
    world.do(cross(100, 1), "alice")
    order = by_authority(power=Power.FREEZE, account=ALICE, catches_later=True)
    world.do(order, "regulator", "court")
    world.refuse("order_stops", give(1, asset=BOND_ACROSS), "alice")
    world.do(release(order), "regulator", "court")
    world.do(by_authority(power=Power.CLAWBACK, account=ALICE, asset=BOND, target=TARGET), "regulator", "court")
    later = by_authority(
        power=Power.CLAWBACK, account=ALICE, asset=BOND_ACROSS, quantity=150, target=TARGET, catches_later=True
    )
    world.do(later, "regulator", "court")
    world.do(give(80, to="alice", who="bob"), "bob")
    world.do(cross(80, 2), "alice")
    assert (world.free("alice", BOND_ACROSS), world.free("csdc", BOND_ACROSS)) == (30, 150)


# The counters of others ----------------------------------------------------------------------------------------------


def test_what_an_order_moves_is_counted_by_the_rules_about_holders() -> None:
    """An order is not stopped by a limit, and whoever comes after it is: the counters are exact."""
    world = founded()
    rules = SetHolderRules(account("csdc"), BOND, (), (), (), 3, 1_000_000)
    world.do(rules, "csdc")
    world.do(give(10, to="carol"), "alice")
    world.refuse("holder_limit", give(10, to="dave"), "alice")
    world.do(
        by_authority(power=Power.FORCED_TRANSFER, account=ALICE, asset=BOND, quantity=5, target=account("dave")),
        "regulator",
        "court",
    )
    world.refuse("holder_limit", give(10, to="dealer"), "alice")
    world.do(take_of(985), "regulator", "court")
    world.do(give(10, to="bob", who="carol"), "carol")
    world.refuse("holder_limit", give(10, to="dealer", who="bob"), "bob")
    world.do(give(5, to="bob", who="dave"), "dave")
    world.do(give(10, to="dealer", who="bob"), "bob")


def test_rows_are_written_and_read_back_alike() -> None:
    world = founded()
    world.do(Lock(ALICE, BOND, 300, BOB), "alice")
    order = by_authority(
        power=Power.CLAWBACK,
        account=ALICE,
        asset=BOND,
        quantity=2_000,
        target=TARGET,
        consumes=(Bucket.LOCKED, Bucket.FREE),
        catches_later=True,
        appeal_until_ms=world.now_ms + DAY_MS,
    )
    world.do(order, "regulator", "court")
    world.do(Appeal(order.id, ALICE, bytes(32)), "alice")
    row = world.row(OrderRow, order.id)
    assert row is not None
    assert OrderRow.decode(row.encode()) == row
    assert [(line.bucket, line.amount) for line in row.effects] == [(Bucket.LOCKED, 300), (Bucket.FREE, 700)]
    over = world.row(OrderOver, over_key(ALICE, BOND, order.id))
    assert over is not None
    assert OrderOver.decode(over.encode()) == over
    assert (over.takes, [(item.amount, item.reserved) for item in over.attached]) == (1_000, [(300, 300)])


@pytest.mark.parametrize("seed", range(8))
def test_freezes_come_and_go_in_any_sequence_as_if_those_that_went_had_never_been(seed: int) -> None:
    chance = random.Random(seed)
    drawn = [(chance.choice((0, 150, 300, 450)), chance.random() < 0.5) for _ in range(5)]
    lifted = chance.sample(range(5), 2)
    seen = set()
    for _ in range(4):
        world = founded()
        world.checked = False
        orders = {at: freeze_of(quantity, later=later) for at, (quantity, later) in enumerate(drawn)}
        for at in chance.sample(range(5), 5):
            world.do(orders[at], "regulator", "court")
        for at in chance.sample(lifted, 2):
            world.do(release(orders[at]), "regulator", "court")
        world.do(give(200, to="alice", who="bob"), "bob")
        seen.add(usable(world))
    world = founded()
    for at, (quantity, later) in enumerate(drawn):
        if at not in lifted:
            world.do(freeze_of(quantity, later=later), "regulator", "court")
    world.do(give(200, to="alice", who="bob"), "bob")
    assert seen == {usable(world)}
