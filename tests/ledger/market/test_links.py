"""Links: a bond moves from one depository's register to the other's, and nothing is made or lost by it."""

import pytest

from p2pledger.ledger.market.links import (
    Crossing,
    Link,
    RegisterLine,
    check_registers,
    link_key,
    links_of,
    register_lines,
)
from p2pledger.ledger.tables import Flow, Table, holding_key
from p2pledger.primitives.codec import U64_MAX
from p2pledger.primitives.market.instruments import SetHolderRules
from p2pledger.primitives.market.links import AgreeLink, Cross, EndLink
from p2pledger.primitives.market.parties import Effect, RoleNumber, SetPermission
from p2pledger.primitives.names import AssetKind, asset_id, register_code
from p2pledger.primitives.transactions import Define, Issue, Lock, Redeem, Transfer
from tests.ledger.market.market_world import (
    BOND,
    BOND_ACROSS,
    CASH,
    SHARE,
    World,
    account,
    founded,
)
from tests.ledger.small_market import altered

CSDC, CCDC, ISIN = register_code("CSDC"), register_code("CCDC"), BOND[:12]
ALICE, BOB, DEPOSITORY = account("alice"), account("bob"), account("csdc")


def there(limit: int = 100, until_ms: int = 0, *, source: bytes = CSDC, target: bytes = CCDC) -> AgreeLink:
    return AgreeLink(source, target, ISIN, limit, until_ms)


def cross(amount: int, salt: int = 0, *, name: str = "alice", asset: bytes = BOND, register: bytes = CCDC) -> Cross:
    return Cross(account(name), asset, register, amount, salt.to_bytes(16, "big"))


@pytest.fixture
def world() -> World:
    """A link from CSDC to CCDC over at most 100 units, and none back."""
    world = founded()
    world.do(there(), "csdc", "ccdc")
    return world


def test_a_register_never_holds_more_than_64_bits_of_an_asset(world: World) -> None:
    """What crosses comes beside what was issued: no holder's sum, and no settlement, meets a total beyond 64 bits."""
    world.do(SetHolderRules(account("ccdc"), BOND_ACROSS, most_holders=10), "ccdc")
    world.do(Issue(BOND_ACROSS, BOB, U64_MAX - 50), "issuer")
    world.refuse("overflow", cross(51), "alice")
    world.do(cross(50), "alice")
    world.refuse("overflow", Issue(BOND_ACROSS, account("carol"), 1), "issuer")
    world.do(Redeem(BOND_ACROSS, BOB, 1), "bob", "issuer")
    world.do(cross(1, 1), "alice")
    assert check_registers(world.version) == []


def sold(world: World) -> tuple[int, int]:
    return world.free("alice", BOND), world.free("bob", BOND_ACROSS)


# The sale


def test_a_bond_crosses_and_is_sold_in_one_transaction(world: World) -> None:
    sale = (cross(60), Transfer(ALICE, BOB, BOND_ACROSS, 60), Transfer(BOB, ALICE, CASH, 6_000))
    world.do(sale, "alice", "bob")
    assert sold(world) == (940, 60)
    assert world.free("alice", CASH) == 56_000
    assert world.row(Flow, BOND) == Flow(0, 60)
    assert world.row(Flow, BOND_ACROSS) == Flow(60, 0)
    assert check_registers(world.version) == []


def test_if_the_buyer_cannot_pay_the_bond_stays_where_it_is(world: World) -> None:
    sale = (cross(60), Transfer(ALICE, BOB, BOND_ACROSS, 60), Transfer(BOB, ALICE, CASH, 50_001))
    world.refuse("insufficient_free", sale, "alice", "bob")
    assert sold(world) == (1_000, 0)
    assert world.row(Flow, BOND) is None


def test_neither_depository_signs_a_crossing_and_each_is_noted(world: World) -> None:
    first = cross(5, 1)
    world.do(first, "alice")
    row = world.row(Crossing, first.id)
    assert row == Crossing(ALICE, BOND, BOND_ACROSS, 5, world.height, world.now_ms)
    assert Crossing.decode(row.encode()) == row
    world.refuse("identifier_used", cross(5, 1), "alice")
    world.do(cross(5, 2), "alice")


def test_what_crossed_may_be_redeemed_where_it_stands(world: World) -> None:
    """More is redeemed in that register than was ever issued there, and it still adds up."""
    world.do(cross(50), "alice")
    world.do(Redeem(BOND_ACROSS, ALICE, 50), "alice", "issuer")
    assert check_registers(world.version) == []
    lines = {line.asset: line for line in register_lines(world.version)}
    assert lines[BOND_ACROSS] == RegisterLine(BOND_ACROSS, 0, 0, 50, 50, 0, 0)
    assert lines[BOND] == RegisterLine(BOND, 0, 2_000, 0, 0, 50, 1_950)


def test_what_is_locked_does_not_cross(world: World) -> None:
    world.do(Lock(ALICE, BOND, 990, BOB), "alice")
    world.refuse("insufficient_free", cross(11), "alice")
    world.do(cross(10), "alice")


# Outside of a link


def test_outside_a_link_neither_depository_can_write_in_the_others_register() -> None:
    world = founded()
    world.refuse("no_link", cross(1), "alice", rule="link CSDC to CCDC")
    world.refuse("unauthorised", there(), "csdc")
    world.refuse("unauthorised", there(), "ccdc")
    world.refuse("unauthorised", Issue(BOND_ACROSS, ALICE, 1), "csdc")
    assert sold(world) == (1_000, 0)


def test_a_link_is_for_one_instrument_and_one_direction(world: World) -> None:
    world.do(cross(10), "alice")
    world.refuse("no_link", cross(1, asset=BOND_ACROSS, register=CSDC), "alice", rule="link CCDC to CSDC")
    across = SHARE[:12] + CCDC
    world.do(Define(across, int(AssetKind.SECURITY), 0, account("issuer"), "Share of the issuer"), "ccdc", "issuer")
    world.refuse("no_link", cross(1, asset=SHARE), "alice")
    world.refuse("no_link", cross(1, register=CSDC), "alice", rule="link CSDC to CSDC")


def test_a_link_has_an_end_and_its_last_moment_is_in_time(world: World) -> None:
    until_ms = world.now_ms + 10_000
    world.do(there(until_ms=until_ms), "csdc", "ccdc")
    world.do(cross(1, 1), "alice", at_ms=until_ms)
    world.refuse("no_link", cross(1, 2), "alice", at_ms=until_ms + 1)
    rule = world.refuse("wrong_time", there(until_ms=until_ms), "csdc", "ccdc")
    assert rule == "a link ends at a moment to come"


@pytest.mark.parametrize("name", ["csdc", "ccdc"])
def test_either_depository_ends_a_link_and_what_stands_there_may_go_home(world: World, name: str) -> None:
    world.do(there(source=CCDC, target=CSDC), "csdc", "ccdc")
    world.do(cross(40, 1), "alice")
    world.do(EndLink(account(name), CSDC, CCDC, ISIN), name)
    world.refuse("no_link", cross(1, 2), "alice")
    world.refuse("no_link", EndLink(account(name), CSDC, CCDC, ISIN), name)
    world.do(cross(40, 3, asset=BOND_ACROSS, register=CSDC), "alice")
    assert sold(world) == (1_000, 0)
    assert check_registers(world.version) == []


def test_nobody_else_ends_a_link(world: World) -> None:
    rule = world.refuse("not_permitted", EndLink(account("icbc"), CSDC, CCDC, ISIN), "icbc")
    assert rule == "depositories link their own register only"
    world.refuse("unauthorised", EndLink(DEPOSITORY, CSDC, CCDC, ISIN), "ccdc")
    world.refuse("unknown_register", EndLink(DEPOSITORY, CSDC, register_code("NONE"), ISIN), "csdc")


# The limit


def test_a_limit_is_on_what_stands_in_the_other_register(world: World) -> None:
    world.do(there(limit=10, source=CCDC, target=CSDC), "csdc", "ccdc")
    world.do(cross(100, 1), "alice")
    assert world.refuse("above_link_limit", cross(1, 2), "alice") == "link CSDC to CCDC"
    home = cross(70, 3, asset=BOND_ACROSS, register=CSDC)  # going home meets no limit
    world.do(home, "alice")
    world.refuse("above_link_limit", cross(71, 4), "alice")
    world.do(cross(70, 5), "alice")
    row = world.row(Link, link_key(CSDC, CCDC, ISIN))
    assert row == Link(100, 0, True, 170)


def test_new_terms_count_what_crossed_before(world: World) -> None:
    world.do(cross(100, 1), "alice")
    world.do(there(limit=150), "csdc", "ccdc")
    world.refuse("above_link_limit", cross(51, 2), "alice")
    world.do(cross(50, 3), "alice")


# Bad input


def test_what_an_agreement_is_refused_for() -> None:
    world = founded()
    world.refuse("zero_amount", there(0), "csdc", "ccdc")
    world.refuse("no_link", there(target=CSDC), "csdc", rule="a link joins two registers")
    world.refuse("unknown_register", there(target=register_code("NONE")), "csdc", "ccdc")
    money = AgreeLink(register_code("ICBC"), register_code("CMBC"), CASH[:12], 1)
    world.refuse("bad_isin", money, "icbc", "cmbc")


def test_what_a_crossing_is_refused_for(world: World) -> None:
    world.refuse("zero_amount", cross(0), "alice")
    world.refuse("unauthorised", cross(1), "csdc", "ccdc")
    world.refuse("unknown_asset", cross(1, asset=SHARE), "alice")
    world.refuse("unknown_asset", cross(1, asset=asset_id("DE0001102531@CSDC")), "alice")
    world.refuse("insufficient_free", cross(1, name="carol"), "carol")


@pytest.mark.parametrize("register", [CSDC, CCDC])
def test_a_permission_of_either_register_may_forbid_a_crossing(world: World, register: bytes) -> None:
    keeper = "csdc" if register == CSDC else "ccdc"
    rule = SetPermission(
        account(keeper), "brokers alone cross", Effect.ALLOW, RoleNumber.BROKER, b"", (Cross.code,), register=register
    )
    world.do(rule, keeper)
    world.refuse("not_permitted", cross(1), "alice", rule="brokers alone cross")


def test_registers_that_count_in_different_units_have_no_link() -> None:
    world = founded()
    across = SHARE[:12] + CCDC
    world.do(Define(across, int(AssetKind.SECURITY), 3, account("issuer"), "Thousandths of a share"), "ccdc", "issuer")
    world.do(AgreeLink(CSDC, CCDC, SHARE[:12], 100), "csdc", "ccdc")
    world.refuse("no_link", cross(1, asset=SHARE), "alice", rule="the registers count in different units")


def test_registers_that_name_different_issuers_have_no_link() -> None:
    """Else who is let into one register as the issuer of a bond would bring units of it into the other from nothing."""
    world = founded()
    across = SHARE[:12] + CCDC
    world.do(Define(across, int(AssetKind.SECURITY), 0, DEPOSITORY, "Share of somebody else"), "ccdc", "csdc")
    world.do(AgreeLink(CCDC, CSDC, SHARE[:12], 100), "ccdc", "csdc")
    world.do(Issue(across, ALICE, 10), "csdc")
    operation = cross(10, asset=across, register=CSDC)
    world.refuse("no_link", operation, "alice", rule="the registers name different issuers")


# The registers add up


def test_register_lines_between_two_versions_begin_with_what_was_there(world: World) -> None:
    world.do(cross(10, 1), "alice")
    before = world.version
    world.do(cross(20, 2), "alice")
    world.do(Issue(BOND, BOB, 5), "issuer")
    lines = {line.asset: line for line in register_lines(world.version, before)}
    assert lines[BOND] == RegisterLine(BOND, 1_990, 5, 0, 0, 20, 1_975)
    assert lines[BOND_ACROSS] == RegisterLine(BOND_ACROSS, 10, 0, 0, 20, 0, 30)
    assert all(line.closing == line.expected for line in lines.values())
    assert check_registers(world.version, before) == []


def test_links_are_listed_by_the_register_they_leave(world: World) -> None:
    world.do(there(source=CCDC, target=CSDC), "csdc", "ccdc")
    assert [key for key, _ in links_of(world.version)] == [link_key(CCDC, CSDC, ISIN), link_key(CSDC, CCDC, ISIN)]
    assert [key for key, _ in links_of(world.version, CSDC)] == [link_key(CSDC, CCDC, ISIN)]


@pytest.mark.parametrize(
    ("table", "key", "row", "what"),
    [
        (Table.FLOWS, BOND, Flow(0, 11).encode(), "opening + issued - redeemed + in - out is not held"),
        (Table.FLOWS, BOND_ACROSS, None, "in is not the sum of its crossings"),
        (Table.HOLDINGS, holding_key(BOND_ACROSS, ALICE), None, "opening + issued - redeemed + in - out is not held"),
        (Table.CROSSINGS, cross(10).id, None, "out is not the sum of its crossings"),
        (
            Table.LINKS,
            link_key(CSDC, CCDC, ISIN),
            Link(100, 0, True, 9).encode(),
            "what crossed by the link CSDC to CCDC",
        ),
        (
            Table.CROSSINGS,
            cross(10).id,
            Crossing(ALICE, BOND, BOND, 10, 1, 1).encode(),
            "a crossing does not join two registers",
        ),
    ],
)
def test_a_register_that_does_not_add_up_is_found(
    world: World, table: Table, key: bytes, row: bytes | None, what: str
) -> None:
    world.do(cross(10), "alice")
    assert check_registers(world.version) == []
    findings = check_registers(altered(world.version, table, key, row))
    assert any(finding.what.startswith(what) for finding in findings), findings
