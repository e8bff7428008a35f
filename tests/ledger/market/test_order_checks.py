"""The checks of orders and escrows find what is wrong, each kind once; on sound books they find nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pledger.ledger.market.buckets import Bucket, Encumbrance, Spot, encumbrance_key
from p2pledger.ledger.market.escrow import EscrowRow, EscrowStatus
from p2pledger.ledger.market.order_checks import check_escrows, check_orders
from p2pledger.ledger.market.orders import Attachment, OrderOver, OrderRow, OrderStatus, over_key
from p2pledger.ledger.tables import Table
from p2pledger.primitives.market.escrow import OpenEscrow
from p2pledger.primitives.market.orders import Power
from tests.ledger.market.authority import by_authority
from tests.ledger.market.market_world import BOND, CASH, DAY_MS, World, account, founded
from tests.ledger.small_market import altered

ALICE, BOB = account("alice"), account("bob")
ORDERS = (
    by_authority(power=Power.FREEZE, party=ALICE, catches_later=True),
    by_authority(power=Power.FREEZE, asset=CASH, catches_later=True),
    by_authority(power=Power.CLAWBACK, account=ALICE, asset=BOND, quantity=1_000, target=BOB),
)
ESCROW = OpenEscrow(ALICE, bytes(16), BOND, 300, BOB, after_height=9, expires_ms=2**60)


@pytest.fixture(scope="module")
def world() -> World:
    world = founded()
    world.do(ESCROW, "alice")
    for order in ORDERS:
        world.do(order, "regulator", "court")
    assert check_orders(world.version) == check_escrows(world.version) == []
    world.wait_until(world.now_ms + DAY_MS)
    return world


def test_flags_that_are_missing_or_left_over_are_found(world: World) -> None:
    for name, flags in (("alice", 0), ("bob", 1)):
        row = world.books.account(account(name))
        assert row is not None
        version = altered(world.version, Table.ACCOUNTS, account(name), replace(row, flags=flags).encode())
        assert check_orders(version) == [f"account {account(name).hex()} is {'' if flags else 'not '}flagged"]
    asset = world.books.asset(CASH)
    assert asset is not None
    version = altered(world.version, Table.ASSETS, CASH, replace(asset, flags=0).encode())
    assert check_orders(version) == [f"asset {CASH.hex()} is not flagged"]


def test_rows_that_no_order_lists_and_orders_that_ended_and_reach_are_found(world: World) -> None:
    key = over_key(BOB, BOND, ORDERS[0].id)
    version = altered(world.version, Table.ORDERS_OVER, key, OrderOver(holds=1).encode())
    assert "1 rows lie over something" in check_orders(version)[0]
    row = world.row(OrderRow, ORDERS[0].id)
    assert row is not None
    ended = replace(row, status=OrderStatus.LIFTED)
    version = altered(world.version, Table.ORDERS, ORDERS[0].id, ended.encode())
    assert "has ended and still reaches something" in check_orders(version)[0]


def test_more_waited_for_than_there_is_is_found(world: World) -> None:
    key = over_key(ALICE, BOND, ORDERS[2].id)
    row = world.row(OrderOver, key)
    assert row is not None
    assert [item.amount for item in row.attached] == [300]
    spot = Spot(Bucket.ESCROWED, ESCROW.id)
    more = replace(row, attached=(Attachment(spot, 301, 301),))
    assert "orders wait for 301 units" in check_orders(altered(world.version, Table.ORDERS_OVER, key, more.encode()))[0]


def test_escrows_that_are_not_what_is_set_aside_are_found(world: World) -> None:
    row = world.row(EscrowRow, ESCROW.id)
    assert row is not None
    for wrong in (
        replace(row, parts=((ALICE, 299),)),
        replace(row, parts=((BOB, 300),)),
        replace(row, status=EscrowStatus.FULFILLED),
    ):
        assert check_escrows(altered(world.version, Table.ESCROWS, ESCROW.id, wrong.encode()))
    assert check_escrows(altered(world.version, Table.ESCROWS, ESCROW.id, None))
    key = encumbrance_key(BOND, ALICE, ESCROW.id)
    fewer = Encumbrance(Bucket.ESCROWED, 299).encode()
    assert check_escrows(altered(world.version, Table.ENCUMBRANCES, key, fewer))
