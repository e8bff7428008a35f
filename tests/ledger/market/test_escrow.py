"""Escrows: opened under conditions, fulfilled when all are met, returned when the time is over."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from p2pledger.ledger.market.buckets import Bucket, Spot, amount_in
from p2pledger.ledger.market.due import next_due_ms
from p2pledger.ledger.market.escrow import EscrowRow, EscrowStatus
from p2pledger.ledger.market.orders import orders_over
from p2pledger.primitives.market.escrow import FulfilEscrow, OpenEscrow, ReturnEscrow
from p2pledger.primitives.market.orders import Power
from p2pledger.primitives.transactions import Transfer
from tests.ledger.market.authority import by_authority, release
from tests.ledger.market.market_world import BOND, DAY_MS, START_MS, World, account, founded

ALICE, BOB, CAROL, DAVE = (account(name) for name in ("alice", "bob", "carol", "dave"))
SECRET = b"what the other ledger has shown"
HOUR_MS = 3_600_000


def opening(amount: int = 300, salt: int = 0, **terms: object) -> OpenEscrow:
    fields: dict[str, object] = {"expires_ms": START_MS + DAY_MS, **terms}
    return OpenEscrow(ALICE, salt.to_bytes(16, "big"), BOND, amount, BOB, **fields)  # type: ignore[arg-type]


def signers(*names: str) -> tuple[bytes, ...]:
    return tuple(sorted(account(name) for name in names))


def hashed(salt: int = 0, **terms: object) -> OpenEscrow:
    return opening(salt=salt, preimage_hash=hashlib.sha256(SECRET).digest(), **terms)


def row_of(world: World, opened: OpenEscrow) -> EscrowRow:
    row = world.row(EscrowRow, opened.id)
    assert row is not None
    assert EscrowRow.decode(row.encode()) == row
    return row


@pytest.fixture
def world() -> World:
    return founded()


# Opening


def test_opening_sets_the_units_aside(world: World) -> None:
    opened = hashed()
    world.do(opened, "alice")
    assert (world.free("alice", BOND), world.holding("alice", BOND).total) == (700, 1_000)
    assert amount_in(world.books, BOND, ALICE, Spot(Bucket.ESCROWED, opened.id)) == 300
    row = row_of(world, opened)
    assert (row.status, row.parts, row.beneficiary) == (EscrowStatus.OPEN, ((ALICE, 300),), BOB)
    world.refuse("insufficient_free", Transfer(ALICE, BOB, BOND, 701), "alice")


@pytest.mark.parametrize(
    ("reason", "rule", "changes"),
    [
        ("zero_amount", None, {"amount": 0}),
        ("unknown_account", None, {"beneficiary": bytes(31) + b"?"}),
        ("same_account", None, {"beneficiary": ALICE}),
        ("unknown_asset", None, {"asset": bytes(16)}),
        ("unknown_account", None, {"signers": (bytes(31) + b"?",), "threshold": 1}),
        ("bad_escrow", "no condition", {"preimage_hash": b""}),
        ("bad_escrow", "signers and threshold", {"threshold": 1}),
        ("bad_escrow", "signers and threshold", {"signers": (CAROL,)}),
        ("bad_escrow", "signers and threshold", {"signers": (CAROL,), "threshold": 2}),
        ("bad_escrow", "expiry", {"expires_ms": 0}),
        ("bad_escrow", "expiry", {"after_ms": START_MS + DAY_MS + 1}),
        ("insufficient_free", None, {"amount": 1_001}),
        ("unauthorised", None, {"account": BOB, "beneficiary": ALICE}),
    ],
)
def test_each_term_is_judged(world: World, reason: str, rule: str | None, changes: dict[str, object]) -> None:
    world.refuse(reason, replace(hashed(), **changes), "alice", rule=rule)  # type: ignore[arg-type]


def test_a_salt_serves_once_even_when_the_escrow_is_over(world: World) -> None:
    opened = hashed()
    world.do(opened, "alice")
    world.do(ReturnEscrow(opened.id, BOB), "bob")
    world.refuse("identifier_used", opened, "alice")


# Conditions


def test_the_bytes_behind_a_hash_open_it_for_the_beneficiary_whoever_shows_them(world: World) -> None:
    opened = hashed()
    world.do(opened, "alice")
    world.refuse("conditions_unmet", FulfilEscrow(opened.id, (), b"a guess"), "bob", rule="preimage")
    world.do(FulfilEscrow(opened.id, (), SECRET), "dave")
    assert (world.free("bob", BOND), world.holding("alice", BOND).total) == (1_300, 700)
    row = row_of(world, opened)
    assert (row.status, row.parts, row.ended_ms) == (EscrowStatus.FULFILLED, (), world.now_ms)
    assert next_due_ms(world.version) is None
    world.refuse("escrow_ended", FulfilEscrow(opened.id, (), SECRET), "dave", rule="it is fulfilled")
    world.refuse("unknown_escrow", FulfilEscrow(bytes(32), (), SECRET), "dave")


def test_so_many_of_the_signers_sign_as_it_asks(world: World) -> None:
    opened = opening(signers=signers("carol", "dave", "broker"), threshold=2)
    world.do(opened, "alice")
    world.refuse("conditions_unmet", FulfilEscrow(opened.id), "bob", rule="signatures")
    world.refuse("conditions_unmet", FulfilEscrow(opened.id, signers("carol")), "carol", rule="signatures")
    world.refuse(
        "conditions_unmet", FulfilEscrow(opened.id, signers("carol", "bob")), "carol", "bob", rule="signatures"
    )
    world.refuse("unauthorised", FulfilEscrow(opened.id, signers("carol", "dave")), "carol")
    world.do(FulfilEscrow(opened.id, signers("carol", "dave")), "carol", "dave")
    assert world.free("bob", BOND) == 1_300


def test_time_and_height_count_from_the_very_moment(world: World) -> None:
    after_ms = START_MS + HOUR_MS
    opened = opening(after_ms=after_ms, after_height=world.height + 4)
    world.do(opened, "alice")
    world.refuse("conditions_unmet", FulfilEscrow(opened.id), "bob", at_ms=after_ms - 1, rule="time")
    world.refuse("conditions_unmet", FulfilEscrow(opened.id), "bob", at_ms=after_ms, rule="height")
    world.do(FulfilEscrow(opened.id), "bob", at_ms=after_ms + 1)


def test_all_conditions_that_are_named_must_be_met(world: World) -> None:
    opened = hashed(signers=signers("carol"), threshold=1, after_ms=START_MS + HOUR_MS)
    world.do(opened, "alice")
    world.refuse("conditions_unmet", FulfilEscrow(opened.id, (), SECRET), "bob", rule="signatures")
    world.refuse("conditions_unmet", FulfilEscrow(opened.id, signers("carol"), SECRET), "carol", rule="time")
    later = START_MS + HOUR_MS
    world.refuse("conditions_unmet", FulfilEscrow(opened.id, signers("carol")), "carol", at_ms=later, rule="preimage")
    world.do(FulfilEscrow(opened.id, signers("carol"), SECRET), "carol")


# The end


def test_the_beneficiary_alone_gives_it_back_early(world: World) -> None:
    opened = hashed()
    world.do(opened, "alice")
    for name in ("alice", "carol"):
        world.refuse("not_permitted", ReturnEscrow(opened.id, account(name)), name, rule="the beneficiary renounces")
    world.do(ReturnEscrow(opened.id, BOB), "bob")
    assert world.free("alice", BOND) == 1_000
    assert row_of(world, opened).status is EscrowStatus.RETURNED
    world.refuse("escrow_ended", ReturnEscrow(opened.id, BOB), "bob")


def test_it_can_be_fulfilled_to_its_last_millisecond_and_then_goes_back_by_itself(world: World) -> None:
    kept, lost = hashed(1), hashed(2)
    world.do([kept, lost], "alice")
    world.do(FulfilEscrow(kept.id, (), SECRET), "bob", at_ms=START_MS + DAY_MS)
    world.refuse("escrow_ended", FulfilEscrow(lost.id, (), SECRET), "bob", at_ms=START_MS + DAY_MS + 1)
    assert row_of(world, lost).status is EscrowStatus.EXPIRED
    assert (world.free("alice", BOND), world.free("bob", BOND)) == (700, 1_300)


def test_a_hundred_expire_in_one_block_within_the_budget_and_the_rest_in_the_next() -> None:
    world = founded(due_per_block=60)
    world.checked = False
    opened = [hashed(salt, amount=1) for salt in range(100)]
    world.do(opened, "alice")
    world.wait_until(START_MS + 2 * DAY_MS)
    assert world.free("alice", BOND) == 960
    world.wait_until(world.now_ms + 1_000)
    assert world.free("alice", BOND) == 1_000


# Orders


def test_while_an_order_stops_it_the_time_does_not_run_against_the_beneficiary(world: World) -> None:
    opened = hashed()
    world.do(opened, "alice")
    order = by_authority(power=Power.FREEZE, account=ALICE, catches_later=True)
    world.do(order, "regulator", "court")
    world.refuse("order_stops", FulfilEscrow(opened.id, (), SECRET), "bob", rule=f"order {order.id.hex()[:8]}")
    for day in range(2, 5):
        world.wait_until(START_MS + day * DAY_MS)
        assert row_of(world, opened).status is EscrowStatus.OPEN
    world.do(release(order), "regulator", "court")
    world.do(FulfilEscrow(opened.id, (), SECRET), "bob")
    assert world.free("bob", BOND) == 1_300


def test_the_parts_of_an_escrow_go_back_to_whose_they_are(world: World) -> None:
    opened = hashed()
    world.do(opened, "alice")
    for name, quantity in (("carol", 800), ("dave", 50)):
        order = by_authority(
            power=Power.FORCED_TRANSFER, account=ALICE, asset=BOND, quantity=quantity, target=account(name)
        )
        world.do(order, "regulator", "court")
    assert row_of(world, opened).parts == tuple(sorted(((ALICE, 150), (CAROL, 100), (DAVE, 50))))
    world.wait_until(START_MS + 2 * DAY_MS)
    assert [world.free(name, BOND) for name in ("alice", "carol", "dave")] == [150, 800, 50]
    assert row_of(world, opened).parts == ()


def test_a_clawback_takes_of_what_comes_back_no_more_than_it_waits_for(world: World) -> None:
    opened = hashed()
    world.do(opened, "alice")
    world.do(Transfer(ALICE, CAROL, BOND, 700), "alice")
    order = by_authority(power=Power.CLAWBACK, account=ALICE, asset=BOND, quantity=120, target=DAVE)
    world.do(order, "regulator", "court")
    world.wait_until(START_MS + 2 * DAY_MS)
    assert (world.free("alice", BOND), world.free("dave", BOND)) == (180, 120)
    assert orders_over(world.books, BOND, ALICE) == ()
