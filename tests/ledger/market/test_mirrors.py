"""Mirrors: what a register outside the ledger holds, repeated here, and compared day by day."""

import pytest

from p2pledger.ledger.market.mirrors import Statement, statement_key, statements_of
from p2pledger.primitives.market.instruments import Accredit, Describe, InstrumentStatus, Nature, SetStatus
from p2pledger.primitives.market.links import AgreeLink, Cross, Reconcile
from p2pledger.primitives.names import register_code
from p2pledger.primitives.transactions import Issue
from tests.ledger.market.market_world import BOND, BOND_ACROSS, DAY_MS, START_MS, World, account, founded

TODAY = START_MS // DAY_MS
DIGEST = bytes(range(32))


def mirrored(world: World, asset: bytes) -> None:
    """CCDC describes the asset as a mirror, and makes it active."""
    ticker = f"M{asset[5:10].decode()}"
    world.do(
        Describe(account("ccdc"), asset, Nature.MIRROR, "DBFTFB", "XSHG", ticker, "CNY", 0, TODAY, 0, "CN", (DIGEST,)),
        "ccdc",
        "issuer",
    )
    world.do(Accredit(account("regulator"), account("issuer"), 0), "regulator")
    world.do(SetStatus(account("ccdc"), asset, InstrumentStatus.ACTIVE), "ccdc")


@pytest.fixture
def world() -> World:
    """CCDC's bond is a mirror of a register outside, and shows 700 units."""
    world = founded()
    mirrored(world, BOND_ACROSS)
    world.do(Issue(BOND_ACROSS, account("carol"), 700), "issuer")
    return world


def test_a_statement_stands_beside_what_the_ledger_holds(world: World) -> None:
    world.do(Reconcile(BOND_ACROSS, TODAY, 690, DIGEST), "ccdc")
    row = world.row(Statement, statement_key(BOND_ACROSS, TODAY))
    assert row == Statement(690, 700, DIGEST, world.height, world.now_ms)
    assert row.difference == 10
    assert Statement.decode(row.encode()) == row


def test_statements_come_day_by_day_and_are_never_replaced(world: World) -> None:
    world.do(Reconcile(BOND_ACROSS, TODAY, 690, DIGEST), "ccdc")
    again = Reconcile(BOND_ACROSS, TODAY, 700, DIGEST)
    world.refuse("wrong_time", again, "ccdc", rule="a statement about this day is there")
    tomorrow = Reconcile(BOND_ACROSS, TODAY + 1, 700, DIGEST)
    world.refuse("wrong_time", tomorrow, "ccdc", rule="a statement is about a day that has begun")
    world.do(tomorrow, "ccdc", at_ms=START_MS + DAY_MS)
    found = [(asset, day, row.difference) for asset, day, row in statements_of(world.version, BOND_ACROSS)]
    assert found == [(BOND_ACROSS, TODAY, 10), (BOND_ACROSS, TODAY + 1, 0)]


def test_only_the_mirrors_depository_reconciles_and_only_a_mirror(world: World) -> None:
    world.refuse("unauthorised", Reconcile(BOND_ACROSS, TODAY, 700, DIGEST), "csdc")
    world.refuse("not_a_mirror", Reconcile(BOND, TODAY, 700, DIGEST), "csdc")
    nothing = BOND[:12] + register_code("NONE")
    world.refuse("unknown_asset", Reconcile(nothing, TODAY, 700, DIGEST), "csdc")


@pytest.mark.parametrize(("source", "target"), [(BOND, BOND_ACROSS), (BOND_ACROSS, BOND)])
def test_a_mirror_does_not_cross_for_it_carries_no_title(world: World, source: bytes, target: bytes) -> None:
    world.do(AgreeLink(source[12:], target[12:], BOND[:12], 100), "csdc", "ccdc")
    holder = "alice" if source == BOND else "carol"
    crossing = Cross(account(holder), source, target[12:], 1, bytes(16))
    world.refuse("is_mirror", crossing, holder, rule="a mirror of DE0005140008")
