"""Permissions: the rulebook first, then what denies, then what allows; and each refusal bears a name."""

from dataclasses import replace

import pytest

from p2pledger.ledger.market import permissions
from p2pledger.ledger.market.permissions import MOST_PERMISSIONS, Permission, explain, permission_key, require
from p2pledger.ledger.rule import Refused
from p2pledger.ledger.tables import AssetFlag
from p2pledger.primitives.market.instruments import Accredit, Describe, InstrumentStatus, Nature, SetStatus, SetVenue
from p2pledger.primitives.market.parties import (
    AccountKind,
    DropPermission,
    Effect,
    RegisterAccount,
    RoleNumber,
    SetPermission,
    Tier,
)
from p2pledger.primitives.names import AssetKind, asset_id
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import Define, Issue, Lock, Pay, Redeem, Release, Transfer
from tests.ledger.market.market_world import BOND, BOND_ACROSS, CASH, SHARE, World, account, founded

OPERATOR, CSDC, CCDC, ALICE, BOB, CAROL, ISSUER, BROKER, SSE = (
    account(name) for name in ("operator", "csdc", "ccdc", "alice", "bob", "carol", "issuer", "broker", "sse")
)
REGISTERS_ONLY = "depositories write in their own register only"


@pytest.fixture
def world() -> World:
    return founded()


def denial(**changes: object) -> SetPermission:
    """Nobody transfers anything."""
    entry = SetPermission(OPERATOR, "no transfers", Effect.DENY, RoleNumber.ANYBODY, b"", (Transfer.code,))
    return replace(entry, **changes)  # type: ignore[arg-type]


def describe(world: World, asset: bytes = BOND, cfi: str = "DBFTFB") -> None:
    """Describes an asset and activates it."""
    depository = "csdc" if asset.endswith(b"CSDC") else "ccdc"
    by = account(depository)
    world.do(Accredit(by, ISSUER, 0), depository)
    ticker = f"T{asset[:4].decode()}"
    world.do(Describe(by, asset, Nature.NATIVE, cfi, "", ticker, "CNY", 0, 0, 0, "CN"), depository, "issuer")
    world.do(SetStatus(by, asset, InstrumentStatus.ACTIVE), depository)


# The rulebook


def test_a_depository_writes_in_its_own_register_only(world: World) -> None:
    world.refuse("not_permitted", SetVenue(CSDC, BOND_ACROSS, SSE, True), "csdc", rule=REGISTERS_ONLY)
    world.do(SetVenue(CCDC, BOND_ACROSS, SSE, True), "ccdc")


def test_the_keeper_of_a_register_may_write_there_whatever_its_role(world: World) -> None:
    books, place = world.books, world.place
    icbc = account("icbc")
    assert require(books, place, icbc, SetVenue.code, asset=CASH) == REGISTERS_ONLY
    assert not explain(books, place, icbc, SetVenue.code, asset=BOND).allowed
    assert not explain(books, place, icbc, SetVenue.code).allowed


def test_an_explanation_shows_the_decision_and_what_was_weighed(world: World) -> None:
    decision = explain(world.books, world.place, CSDC, Define.code, asset=BOND_ACROSS)
    assert not decision.allowed
    assert decision.rule == REGISTERS_ONLY
    assert decision.why == "the rulebook grants it to the depository of the register"
    assert (decision.party, decision.roles) == (CSDC, ("depository",))

    world.do(denial(party=BOB, most_amount=100), "operator")
    ours = explain(world.books, world.place, ALICE, Transfer.code, asset=BOND, amount=1_000)
    assert (ours.allowed, ours.rule) == (True, "owners dispose of their own accounts")
    assert [(item.name, item.why_not) for item in ours.weighed] == [("no transfers", "concerns another party")]
    small = explain(world.books, world.place, BOB, Transfer.code, asset=BOND, amount=100)
    assert [item.why_not for item in small.weighed] == ["denies above 100"]
    large = explain(world.books, world.place, BOB, Transfer.code, asset=BOND, amount=101)
    assert (large.allowed, large.rule, large.why) == (False, "no transfers", "a permission denies it")


def test_an_operation_that_there_is_not_is_explained_too(world: World) -> None:
    decision = explain(world.books, world.place, CSDC, 31)
    assert (decision.allowed, decision.rule) == (False, "operation 31")


def test_require_raises_with_the_name(world: World) -> None:
    with pytest.raises(Refused) as refused:
        require(world.books, world.place, CSDC, SetVenue.code, asset=BOND_ACROSS)
    assert (refused.value.reason, refused.value.rule) == (Reason.NOT_PERMITTED, REGISTERS_ONLY)


# Denying and allowing


def test_a_denial_stops_plain_transfers_as_long_as_it_stands(world: World) -> None:
    world.do(denial(), "operator")
    world.refuse("not_permitted", Transfer(ALICE, BOB, BOND, 1), "alice", rule="no transfers")
    world.do(Lock(ALICE, BOND, 1, BOB), "alice")
    world.do(Release(ALICE, BOND, 1, BOB), "bob")
    world.do(DropPermission(OPERATOR, "no transfers"), "operator")
    world.do(Transfer(ALICE, BOB, BOND, 1), "alice")


def test_allowing_some_excludes_the_others(world: World) -> None:
    allowance = denial(name="investors transfer", effect=Effect.ALLOW, role=RoleNumber.INVESTOR, most_amount=10)
    world.do(allowance, "operator")
    world.do(Transfer(ALICE, BROKER, BOND, 10), "alice")
    world.refuse("not_permitted", Transfer(BROKER, ALICE, BOND, 1), "broker", rule="investors transfer")
    world.refuse("not_permitted", Transfer(ALICE, BOB, BOND, 11), "alice", rule="investors transfer")
    world.do(replace(allowance, name="brokers transfer", role=RoleNumber.BROKER), "operator")
    world.do(Transfer(BROKER, ALICE, BOND, 1), "broker")


def test_a_denial_goes_before_what_allows(world: World) -> None:
    world.do(denial(name="all", effect=Effect.ALLOW), "operator")
    world.do(denial(party=ALICE), "operator")
    world.refuse("not_permitted", Transfer(ALICE, BOB, BOND, 1), "alice", rule="no transfers")
    world.do(Transfer(BOB, ALICE, BOND, 1), "bob")


def test_a_permission_holds_from_one_moment_to_another_both_included(world: World) -> None:
    first = world.now_ms + 10_000
    world.do(denial(from_ms=first, until_ms=first + 5_000), "operator")
    one = Transfer(ALICE, BOB, BOND, 1)
    world.do(one, "alice", at_ms=first - 1)
    world.refuse("not_permitted", one, "alice", at_ms=first)
    world.refuse("not_permitted", one, "alice", at_ms=first + 5_000)
    world.do(one, "alice", at_ms=first + 5_001)


def test_what_allowed_and_has_run_out_opens_nothing(world: World) -> None:
    until_ms = world.now_ms + 5_000
    world.do(denial(name="for a while", effect=Effect.ALLOW, until_ms=until_ms), "operator")
    one = Transfer(ALICE, BOB, BOND, 1)
    world.do(one, "alice", at_ms=until_ms)
    world.refuse("not_permitted", one, "alice", at_ms=until_ms + 1, rule="for a while")


def test_the_scope_may_be_a_register(world: World) -> None:
    world.do(denial(by=CCDC, register=b"CCDC"), "ccdc")
    world.do(Issue(BOND_ACROSS, ALICE, 10), "issuer")
    world.refuse("not_permitted", Transfer(ALICE, BOB, BOND_ACROSS, 1), "alice")
    world.do(Transfer(ALICE, BOB, BOND, 1), "alice")


def test_the_scope_may_be_a_class_of_instruments(world: World) -> None:
    world.do(denial(instrument_class="DB"), "operator")
    world.do(Transfer(ALICE, BOB, BOND, 1), "alice")
    describe(world, BOND, "DBFTFB")
    describe(world, SHARE, "ESVUFR")
    world.refuse("not_permitted", Transfer(ALICE, BOB, BOND, 1), "alice")
    world.do(Transfer(ALICE, BOB, SHARE, 1), "alice")


@pytest.mark.parametrize(
    ("code", "operation", "signers"),
    [
        (Transfer.code, Transfer(ALICE, BOB, BOND, 1), ("alice",)),
        (Lock.code, Lock(ALICE, BOND, 1, BOB), ("alice",)),
        (Issue.code, Issue(BOND, ALICE, 1), ("issuer",)),
        (Redeem.code, Redeem(BOND, ALICE, 1), ("alice", "issuer")),
    ],
)
def test_every_plain_operation_can_be_denied(
    world: World, code: int, operation: Transfer, signers: tuple[str, ...]
) -> None:
    world.do(denial(operations=(code,)), "operator")
    world.refuse("not_permitted", operation, *signers, rule="no transfers")


def test_operations_of_the_market_ask_for_themselves(world: World) -> None:
    world.do(denial(operations=(SetVenue.code,)), "operator")
    world.refuse("not_permitted", SetVenue(CSDC, BOND, SSE, True), "csdc", rule="no transfers")


# The flag that takes assets off the bulk path


def is_flagged(world: World, asset: bytes) -> bool:
    row = world.books.asset(asset)
    assert row is not None
    return bool(row.flags & AssetFlag.PERMISSIONED)


def test_the_flag_follows_the_permissions_that_cover_an_asset(world: World) -> None:
    world.do(denial(by=CCDC, register=b"CCDC"), "ccdc")
    assert (is_flagged(world, BOND), is_flagged(world, BOND_ACROSS)) == (False, True)
    world.do(denial(by=CCDC, name="also", register=b"CCDC"), "ccdc")
    world.do(DropPermission(CCDC, "no transfers"), "ccdc")
    assert is_flagged(world, BOND_ACROSS)
    world.do(denial(by=CCDC, name="also", register=b"CCDC", operations=(SetVenue.code,)), "ccdc")
    assert not is_flagged(world, BOND_ACROSS)


def test_an_asset_is_born_with_it_and_gets_it_with_its_class(world: World) -> None:
    world.do(denial(by=CCDC, register=b"CCDC"), "ccdc")
    world.do(denial(name="no bonds", instrument_class="DB"), "operator")
    across = asset_id("US0378331005@CCDC")
    world.do(Define(across, int(AssetKind.SECURITY), 0, ISSUER, "Another share"), "ccdc", "issuer")
    assert is_flagged(world, across)
    assert not is_flagged(world, BOND)
    describe(world)
    assert is_flagged(world, BOND)


# Setting and dropping


@pytest.mark.parametrize(
    ("entry", "signer", "reason", "rule"),
    [
        (denial(register=b"NONE"), "operator", "unknown_register", ""),
        (denial(by=CSDC), "csdc", "not_permitted", "operators set permissions, depositories in their register"),
        (denial(by=CSDC, register=b"CCDC"), "csdc", "not_permitted", None),
        (denial(by=ALICE, register=b"CSDC"), "alice", "not_permitted", None),
        (denial(party=bytes(31) + b"x"), "operator", "unknown_party", ""),
        (denial(operations=(Pay.code,)), "operator", "bad_permission", f"operation {Pay.code}"),
        (denial(operations=(Release.code,)), "operator", "bad_permission", None),
        (denial(operations=(9_999,)), "operator", "bad_permission", "operation 9999"),
        (denial(operations=(SetPermission.code,)), "operator", "bad_permission", None),
        (denial(operations=(Accredit.code,)), "operator", "bad_permission", None),
        (denial(from_ms=6, until_ms=5), "operator", "bad_permission", "until_ms is before from_ms"),
        (denial(name="a\0b"), "operator", "bad_permission", "name"),
    ],
)
def test_each_refusal_of_set_permission(
    world: World, entry: SetPermission, signer: str, reason: str, rule: str | None
) -> None:
    world.refuse(reason, entry, signer, rule=rule)


def test_a_permission_is_written_as_it_was_set(world: World) -> None:
    entry = denial(by=CSDC, register=b"CSDC", role=RoleNumber.BROKER, most_amount=5, from_ms=1, until_ms=2)
    world.do(entry, "csdc")
    row = world.row(Permission, permission_key("no transfers"))
    assert row == Permission(CSDC, Effect.DENY, RoleNumber.BROKER, b"", (Transfer.code,), "", b"CSDC", 5, 1, 2)
    assert row is not None
    assert Permission.decode(row.encode()) == row
    assert list(permissions.permissions_of(world.books)) == [("no transfers", row)]


def test_only_its_setter_or_an_operator_changes_or_drops_it(world: World) -> None:
    world.do(denial(by=CSDC, register=b"CSDC"), "csdc")
    other = denial(by=CCDC, register=b"CCDC")
    world.refuse("already_registered", other, "ccdc", rule="no transfers")
    world.refuse("not_permitted", DropPermission(CCDC, "no transfers"), "ccdc")
    world.do(denial(register=b"CSDC", most_amount=9), "operator")
    world.refuse("already_registered", DropPermission(CSDC, "no transfers"), "csdc", rule="no transfers")
    world.do(DropPermission(OPERATOR, "no transfers"), "operator")
    world.refuse("unknown_record", DropPermission(OPERATOR, "no transfers"), "operator", rule="no transfers")


def test_there_are_so_many_permissions_and_no_more(world: World) -> None:
    world.do([denial(name=f"number {at}", operations=(SetVenue.code,)) for at in range(MOST_PERMISSIONS)], "operator")
    world.refuse("bad_permission", denial(), "operator", rule=f"at most {MOST_PERMISSIONS} permissions")
    world.do(denial(name="number 0", party=ALICE), "operator")


def test_accounts_act_with_the_roles_of_their_party(world: World) -> None:
    world.do(denial(effect=Effect.ALLOW, role=RoleNumber.INVESTOR), "operator")
    second = world.open("alice", "second")
    world.do(Transfer(ALICE, second, BOND, 5), "alice")
    one = Transfer(second, BOB, BOND, 1)
    world.refuse("not_permitted", one, "alice", "second", rule="no transfers")
    entry = RegisterAccount(second, ALICE, CSDC, Tier.INVESTOR, AccountKind.SEGREGATED)
    world.do(entry, "alice", "second", "csdc")
    world.do(one, "alice", "second")
