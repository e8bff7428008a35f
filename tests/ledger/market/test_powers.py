"""The table of powers: complete, printed, and every cell of it played on a real state.

For each bucket there is a *scene*: alice has 400 units of something, all of them in that bucket. What is played with it
follows from what the table says of bucket and power, so that a cell that says something else is played otherwise.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import pytest

from p2pledger.ledger.market.buckets import FACTS, FREE_SPOT, Spot, amount_in
from p2pledger.ledger.market.orders import OrderRow, OrderStatus, holds_on, orders_over
from p2pledger.ledger.market.powers import TABLE, Outcome, missing_cells, render
from p2pledger.ledger.tables import AccountFlag
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.market.escrow import FulfilEscrow, OpenEscrow, ReturnEscrow
from p2pledger.primitives.market.money import CancelPayment, PayAcross
from p2pledger.primitives.market.offers import TakeOffer
from p2pledger.primitives.market.orders import Order, Power
from p2pledger.primitives.transactions import Lock, Release, Transfer
from tests.ledger.market.authority import by_authority, release
from tests.ledger.market.market_world import (
    BASE_CASH,
    BOND,
    CASH,
    DAY_MS,
    OTHER_CASH,
    World,
    account,
    founded,
    with_money,
)
from tests.ledger.market.trading import dvp, lock, matched, offer, settle

ALICE, BOB, CSDC = account("alice"), account("bob"), account("csdc")
UNITS, PRICE = 400, 4_000
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "orders.md"


@dataclass
class Scene:
    """Alice's 400 units in one spot; how the right upon them is used, and how they come back to her."""

    world: World
    asset: bytes
    spot: Spot
    use: Callable[[], bool]
    """Tries to bring the units to whom they are promised; whether they got there."""
    end: tuple[Operation, str] | None
    """Ends the encumbrance, without orders in alice's favour; and who signs."""

    def total(self, name: str) -> int:
        return self.world.holding(name, self.asset).total

    def in_spot(self, name: str = "alice") -> int:
        return amount_in(self.world.books, self.asset, account(name), self.spot)

    def can_transfer(self) -> bool:
        """Whether all of the units are at alice's disposal."""
        return self.world.judged(Transfer(ALICE, BOB, self.asset, UNITS), "alice")[0] == "ok"

    def order(self, power: Power, **terms: object) -> Order:
        named = {"account": ALICE, "asset": self.asset, **terms}
        if power in (Power.CLAWBACK, Power.FORCED_TRANSFER):
            named["target"] = CSDC
        return by_authority(power=power, **named)


def scene_of(bucket: Bucket) -> Scene:
    """A fresh world in which alice's units lie in this bucket, and nowhere else."""
    return {
        Bucket.FREE: _free,
        Bucket.LOCKED: _locked,
        Bucket.SETTLING: _settling,
        Bucket.ESCROWED: _escrowed,
        Bucket.PENDING: _pending,
    }[bucket]()


def _with_units(world: World, asset: bytes = BOND) -> World:
    spare = world.free("alice", asset) - UNITS
    world.do(Transfer(ALICE, account("carol"), asset, spare), "alice")
    return world


def _free() -> Scene:
    world = _with_units(founded())
    use = lambda: world.judged(Transfer(ALICE, BOB, BOND, UNITS), "alice")[0] == "ok"  # noqa: E731
    return Scene(world, BOND, FREE_SPOT, use, None)


def _locked() -> Scene:
    world = _with_units(founded())
    world.do(Lock(ALICE, BOND, UNITS, BOB), "alice")
    return Scene(world, BOND, Spot(Bucket.LOCKED, BOB), lambda: False, (Release(ALICE, BOND, UNITS, BOB), "bob"))


def _settling() -> Scene:
    world = _with_units(founded())
    identifier = matched(world, dvp(quantity=UNITS, price=PRICE))
    world.do(lock(identifier, "alice"), "alice")
    use = lambda: world.judged(settle(identifier, "bob"), "bob")[0] == "ok"  # noqa: E731
    return Scene(world, BOND, Spot(Bucket.SETTLING, identifier), use, None)


def _escrowed() -> Scene:
    world = _with_units(founded())
    secret = b"the ship has come in"
    opened = OpenEscrow(
        ALICE,
        bytes(16),
        BOND,
        UNITS,
        BOB,
        preimage_hash=hashlib.sha256(secret).digest(),
        expires_ms=world.now_ms + DAY_MS,
    )
    world.do(opened, "alice")
    use = lambda: world.judged(FulfilEscrow(opened.id, (), secret), "carol")[0] == "ok"  # noqa: E731
    return Scene(world, BOND, Spot(Bucket.ESCROWED, opened.id), use, (ReturnEscrow(opened.id, BOB), "bob"))


def _pending() -> Scene:
    """ICBC has no reserves; they come in when the payment is to be made, and the ledger tries it by itself."""
    world = _with_units(with_money(founded()), CASH)
    world.do(Transfer(account("icbc"), account("pboc"), BASE_CASH, 100_000), "icbc")
    paid = PayAcross(ALICE, account("dave"), CASH, OTHER_CASH, UNITS, bytes(16), world.now_ms + DAY_MS)
    world.do(paid, "alice")

    def use() -> bool:
        before = world.free("dave", OTHER_CASH)
        world.do(Transfer(account("pboc"), account("icbc"), BASE_CASH, 100_000), "pboc")
        world.wait_until(world.now_ms + 61_000)
        return world.free("dave", OTHER_CASH) == before + UNITS

    return Scene(world, CASH, Spot(Bucket.PENDING, paid.id), use, (CancelPayment(ALICE, paid.id), "alice"))


# The table itself ----------------------------------------------------------------------------------------------------


def test_the_table_is_the_product_of_buckets_and_powers() -> None:
    assert list(TABLE) == list(itertools.product(Bucket, Power))
    assert missing_cells(TABLE) == []


def test_a_new_bucket_or_power_without_its_cells_is_found() -> None:
    pledged = IntEnum("Bucket", [*((bucket.name, bucket.value) for bucket in Bucket), ("PLEDGED", 5)])
    seizure = IntEnum("Power", [*((power.name, power.value) for power in Power), ("SEIZURE", 5)])
    assert missing_cells(TABLE, buckets=pledged) == [f"no cell PLEDGED x {power.name}" for power in Power]
    assert missing_cells(TABLE, powers=seizure) == [f"no cell {bucket.name} x SEIZURE" for bucket in Bucket]
    fewer = {cell: outcome for cell, outcome in TABLE.items() if cell != (Bucket.LOCKED, Power.CLAWBACK)}
    assert missing_cells(fewer) == ["no cell LOCKED x CLAWBACK"]


def test_every_outcome_of_the_closed_list_is_somewhere_in_the_table() -> None:
    assert set(TABLE.values()) == set(Outcome)


def test_the_documentation_prints_the_table_and_the_facts_of_the_buckets() -> None:
    text = DOCUMENT.read_text()
    assert render() in text
    for bucket, fact in FACTS.items():
        cells = (bucket.name.lower(), fact.what, fact.title, fact.income, fact.votes, fact.released_by)
        assert f"| {' | '.join(cells)} |" in text, cells


# Every cell, played --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bucket", "power"), TABLE, ids=lambda part: part.name.lower())
def test_a_cell_does_what_it_says(bucket: Bucket, power: Power) -> None:
    outcome = TABLE[bucket, power]
    if power is Power.RELEASE:
        _play_release(bucket)
    elif power in (Power.FREEZE, Power.PARTIAL_FREEZE):
        terms = {"quantity": UNITS} if power is Power.PARTIAL_FREEZE else {}
        {Outcome.EFFECTIVE_NOW: _play_hold_now, Outcome.EFFECTIVE_WHEN_ENCUMBRANCE_ENDS: _play_hold_later}[outcome](
            bucket, power, terms
        )
    else:
        {
            Outcome.EFFECTIVE_NOW: _play_take_now,
            Outcome.EFFECTIVE_WHEN_ENCUMBRANCE_ENDS: _play_take_later,
            Outcome.ATTACHES_TO_PROCEEDS: _play_proceeds,
            Outcome.TRANSFERS_SUBJECT_TO_PRIOR_RIGHT: _play_subject,
            Outcome.REFUSED: _play_refused,
        }[outcome](bucket, power)


def _play_hold_now(bucket: Bucket, power: Power, terms: dict[str, int]) -> None:
    """What is promised is not fulfilled while the order stands, and the units stay alice's."""
    scene = scene_of(bucket)
    order = scene.order(power, **terms)
    scene.world.do(order, "regulator", "court")
    held = holds_on(scene.world.books, scene.world.place, scene.asset, ALICE)
    assert [(item.spot, item.amount, item.stay) for item in held] == [(scene.spot, UNITS, True)]
    assert not scene.use()
    assert scene.total("alice") == UNITS
    scene.world.do(release(order), "regulator", "court")
    if bucket is Bucket.PENDING:
        # Its bank gave the payment back, for it would have held up the others; the units were frozen as free ones.
        assert scene.can_transfer()
    else:
        assert scene.use()
        assert scene.total("alice") == 0
    if (other := scene_of(bucket)).end is not None:
        other.world.do(other.order(power, **terms), "regulator", "court")
        operation, signer = other.end
        other.world.do(operation, signer)
        assert other.world.free("alice", other.asset) == UNITS
        assert not other.can_transfer()


def _play_hold_later(bucket: Bucket, power: Power, terms: dict[str, int]) -> None:
    """Nothing happens to the right; when it ends, the units are frozen."""
    scene = scene_of(bucket)
    order = scene.order(power, **terms)
    scene.world.do(order, "regulator", "court")
    assert scene.in_spot() == UNITS
    assert scene.end is not None
    operation, signer = scene.end
    scene.world.do(operation, signer)
    assert scene.world.free("alice", scene.asset) == UNITS
    assert not scene.can_transfer()
    scene.world.do(release(order), "regulator", "court")
    assert scene.can_transfer()


def _play_take_now(bucket: Bucket, power: Power) -> None:
    scene = scene_of(bucket)
    order = scene.order(power, quantity=UNITS)
    scene.world.do(order, "regulator", "court")
    assert (scene.total("alice"), scene.world.free("csdc", scene.asset)) == (0, UNITS)
    _require_executed(scene, order, TABLE[bucket, power])
    assert not scene.use()
    part = scene_of(bucket)
    part.world.do(part.order(power, quantity=150), "regulator", "court")
    assert (part.total("alice"), part.world.free("csdc", part.asset)) == (UNITS - 150, 150)


def _require_executed(scene: Scene, order: Order, outcome: Outcome) -> None:
    row = scene.world.row(OrderRow, order.id)
    assert row is not None
    assert (row.status, row.over) == (OrderStatus.EXECUTED, ())
    assert [(line.bucket, line.outcome, line.amount) for line in row.effects] == [(scene.spot.bucket, outcome, UNITS)]
    alice = scene.world.books.account(ALICE)
    assert alice is not None
    assert not alice.flags & AccountFlag.ORDERED


def _play_take_later(bucket: Bucket, power: Power) -> None:
    """The prior right stays; what comes back from it is taken, and what it takes itself is not."""
    scene = scene_of(bucket)
    order = scene.order(power, quantity=UNITS)
    scene.world.do(order, "regulator", "court")
    assert (scene.in_spot(), scene.total("csdc")) == (UNITS, 0)
    assert orders_over(scene.world.books, scene.asset, ALICE) == (order.id,)
    assert scene.end is not None
    operation, signer = scene.end
    scene.world.do(operation, signer)
    assert (scene.total("alice"), scene.world.free("csdc", scene.asset)) == (0, UNITS)
    _require_executed(scene, order, TABLE[bucket, power])

    other = scene_of(bucket)
    order = other.order(power, quantity=UNITS)
    other.world.do(order, "regulator", "court")
    if other.use():
        assert (other.total("alice"), other.total("csdc")) == (0, 0)
        _require_executed(other, order, TABLE[bucket, power])

    lifted = scene_of(bucket)
    order = lifted.order(power, quantity=UNITS)
    lifted.world.do(order, "regulator", "court")
    lifted.world.do(release(order), "regulator", "court")
    assert lifted.end is not None
    lifted.world.do(lifted.end[0], lifted.end[1])
    assert lifted.can_transfer()


def _play_proceeds(bucket: Bucket, power: Power) -> None:
    """A quarter of the units is reached: they go where they were promised, and a quarter of the price is held."""
    scene = scene_of(bucket)
    before = scene.world.free("alice", CASH)
    order = scene.order(power, quantity=UNITS // 4)
    scene.world.do(order, "regulator", "court")
    assert (scene.in_spot(), scene.total("csdc")) == (UNITS, 0)
    assert scene.use()
    assert (scene.total("alice"), scene.total("csdc")) == (0, 0)
    everything = before + PRICE
    assert scene.world.free("alice", CASH) == everything
    allowed = everything - PRICE // 4
    scene.world.refuse("order_stops", Transfer(ALICE, BOB, CASH, allowed + 1), "alice")
    # What is held is disposed of by an order about the money; the first one has no more to hold then.
    disposing = by_authority(power=power, account=ALICE, asset=CASH, quantity=PRICE // 4, target=CSDC)
    scene.world.do(Transfer(ALICE, BOB, CASH, allowed), "alice")
    scene.world.do(disposing, "regulator", "court")
    assert scene.world.holding("alice", CASH).total == 0
    scene.world.do(Transfer(BOB, ALICE, CASH, 7), "bob")
    scene.world.do(Transfer(ALICE, BOB, CASH, 7), "alice")

    lifted = scene_of(bucket)
    order = lifted.order(power, quantity=UNITS)
    lifted.world.do(order, "regulator", "court")
    assert lifted.use()
    lifted.world.refuse("order_stops", Transfer(ALICE, BOB, CASH, everything), "alice")
    lifted.world.do(release(order), "regulator", "court")
    lifted.world.do(Transfer(ALICE, BOB, CASH, everything), "alice")


def _play_subject(bucket: Bucket, power: Power) -> None:
    """The title is another's at once, and what lay on the units still does: used, or ended in his favour."""
    scene = scene_of(bucket)
    order = scene.order(power, quantity=UNITS)
    scene.world.do(order, "regulator", "court")
    assert (scene.total("alice"), scene.in_spot("csdc"), scene.world.free("csdc", scene.asset)) == (0, UNITS, 0)
    _require_executed(scene, order, TABLE[bucket, power])
    assert scene.end is not None
    operation, signer = scene.end
    if isinstance(operation, Release):
        operation = Release(CSDC, operation.asset, UNITS, operation.controller)
    scene.world.do(operation, signer)
    assert scene.world.free("csdc", scene.asset) == UNITS

    part = scene_of(bucket)
    before = part.total("bob")
    part.world.do(part.order(power, quantity=150), "regulator", "court")
    assert (part.in_spot("alice"), part.in_spot("csdc")) == (UNITS - 150, 150)
    if part.use():
        assert (part.total("alice"), part.total("csdc"), part.total("bob")) == (0, 0, before + UNITS)

    # Who gets the units that he himself controls holds them free; a beneficiary keeps his condition.
    own = scene_of(bucket)
    before = own.world.free("bob", own.asset)
    own.world.do(
        by_authority(power=power, account=ALICE, asset=own.asset, quantity=UNITS, target=BOB), "regulator", "court"
    )
    assert own.world.free("bob", own.asset) == before + (UNITS if bucket is Bucket.LOCKED else 0)
    if own.use():
        assert own.world.free("bob", own.asset) == before + UNITS


def _play_refused(bucket: Bucket, power: Power) -> None:
    scene = scene_of(bucket)
    rule = f"{bucket.name.lower()} x {power.name.lower()}"
    scene.world.refuse("out_of_reach", scene.order(power, quantity=1), "regulator", "court", rule=rule)
    scene.world.refuse("out_of_reach", scene.order(power), "regulator", "court", rule=rule)
    # An order that names other buckets does not meet it.
    elsewhere = tuple(other for other in Bucket if other is not bucket)
    scene.world.refuse("order_short", scene.order(power, quantity=1, consumes=elsewhere), "regulator", "court")
    assert (scene.in_spot(), orders_over(scene.world.books, scene.asset, ALICE)) == (UNITS, ())
    assert scene.use()


def _play_release(bucket: Bucket) -> None:
    """Of two freezes one is lifted, then the other: the units are where they were, with the right that lay on them."""
    scene = scene_of(bucket)
    orders = [scene.order(Power.FREEZE, catches_later=True), scene.order(Power.PARTIAL_FREEZE, quantity=UNITS)]
    for order in orders:
        scene.world.do(order, "regulator", "court")
    scene.world.do(release(orders[0]), "regulator", "court")
    assert orders_over(scene.world.books, scene.asset, ALICE) == (orders[1].id,)
    scene.world.do(release(orders[1]), "court", "regulator")
    assert orders_over(scene.world.books, scene.asset, ALICE) == ()
    assert scene.in_spot() == UNITS
    if scene.end is None:
        assert scene.use()
    else:
        scene.world.do(*scene.end)
        assert scene.can_transfer()


# Standing offers -----------------------------------------------------------------------------------------------------


def test_a_freeze_stops_whoever_takes_an_offer_as_far_as_it_reaches() -> None:
    world = _with_units(founded())
    placed = offer(gives_amount=100, takes_amount=1, lots=4)
    world.do(placed, "alice")
    order = by_authority(power=Power.PARTIAL_FREEZE, account=ALICE, asset=BOND, quantity=150)
    world.do(order, "regulator", "court")
    world.do(TakeOffer(placed.id, BOB, 2), "bob")
    world.refuse("order_stops", TakeOffer(placed.id, BOB, 1), "bob")
    world.do(release(order), "regulator", "court")
    world.do(TakeOffer(placed.id, BOB, 2), "bob")


@pytest.mark.parametrize("power", [Power.CLAWBACK, Power.FORCED_TRANSFER])
def test_an_order_that_takes_withdraws_an_offer(power: Power) -> None:
    world = _with_units(founded())
    placed = offer(gives_amount=100, takes_amount=1, lots=4)
    world.do(placed, "alice")
    world.do(by_authority(power=power, account=ALICE, asset=BOND, quantity=150, target=CSDC), "regulator", "court")
    assert (world.free("alice", BOND), world.free("csdc", BOND)) == (UNITS - 150, 150)
    world.refuse("unknown_offer", TakeOffer(placed.id, BOB, 1), "bob")
    world.wait_until(placed.expires_ms + 1)
    assert world.free("alice", BOND) == UNITS - 150


# Consumption ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("consumes", "free", "locked"),
    [((), 0, 900), ((Bucket.FREE, Bucket.LOCKED), 0, 900), ((Bucket.LOCKED, Bucket.FREE), 600, 300)],
)
def test_the_quantity_is_taken_from_the_buckets_in_the_order_that_is_named(
    consumes: tuple[Bucket, ...], free: int, locked: int
) -> None:
    """600 free and 900 locked; 600 go by forced transfer, the lock with the title."""
    world = founded()
    world.do(Transfer(BOB, ALICE, BOND, 500), "bob")
    world.do(Lock(ALICE, BOND, 900, BOB), "alice")
    order = by_authority(
        power=Power.FORCED_TRANSFER, account=ALICE, asset=BOND, quantity=600, target=CSDC, consumes=consumes
    )
    world.do(order, "regulator", "court")
    held = world.holding("alice", BOND)
    assert (held.free, held.locked) == (free, locked)
    target = world.holding("csdc", BOND)
    assert (target.free, target.locked) == (600 - free, 900 - locked)


def test_a_partial_freeze_can_spare_the_free_units_while_others_last() -> None:
    world = founded()
    world.do(Lock(ALICE, BOND, 400, BOB), "alice")
    order = by_authority(
        power=Power.PARTIAL_FREEZE,
        account=ALICE,
        asset=BOND,
        quantity=400,
        consumes=(Bucket.LOCKED, Bucket.FREE),
        catches_later=True,
    )
    world.do(order, "regulator", "court")
    world.do(Transfer(ALICE, BOB, BOND, 600), "alice")
    world.do(Release(ALICE, BOND, 100, BOB), "bob")
    world.refuse("order_stops", Transfer(ALICE, BOB, BOND, 1), "alice")


def test_an_instruction_is_stopped_whole_by_one_unit_of_its_leg() -> None:
    """A freeze of 601 of 1,000, of which 400 are settling: 600 free units and one that settles."""
    scene = _settling()
    scene.world.do(Transfer(account("carol"), ALICE, BOND, 600), "carol")
    order = scene.order(Power.PARTIAL_FREEZE, quantity=600)
    scene.world.do(order, "regulator", "court")
    more = scene.order(Power.PARTIAL_FREEZE, quantity=1)
    scene.world.do(more, "regulator", "court")
    assert not scene.use()
    scene.world.do(release(more), "regulator", "court")
    assert scene.use()
