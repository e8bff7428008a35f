"""Registration: who becomes a party, under which name and roles, and whose an account is."""

from dataclasses import replace

import pytest

from p2pledger.ledger.market import registration
from p2pledger.ledger.market.parties import Owner, accounts_of, has_role, holder_of, party_of, require_party
from p2pledger.ledger.rule import Refused
from p2pledger.ledger.tables import NOBODY, AccountFlag, Party
from p2pledger.primitives.market.parties import (
    AccountKind,
    RegisterAccount,
    RegisterParty,
    Role,
    RoleNumber,
    Tier,
)
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import Transfer
from tests.ledger.market.market_world import BOND, World, account, founded

LEI = "5493001KJTIIGC8Y1R12"
"""The example of ISO 17442's own documentation."""
CSDC, CCDC, OPERATOR, BROKER, ALICE, BOB = (
    account(name) for name in ("csdc", "ccdc", "operator", "broker", "alice", "bob")
)


@pytest.fixture
def world() -> World:
    return founded()


def fund(world: World, name: str = "fund") -> RegisterParty:
    """An entry for an account that is opened first."""
    opened = world.open("alice", name)
    return RegisterParty(CSDC, opened, f"The {name}", LEI, "DE", (RoleNumber.BROKER, RoleNumber.INVESTOR))


# Parties


def test_a_member_of_the_genesis_is_a_party_and_a_stranger_is_none(world: World) -> None:
    books = world.books
    assert party_of(books, ALICE) == ALICE
    assert require_party(books, ALICE).roles == ("investor",)
    assert has_role(books, CSDC, Role.DEPOSITORY)
    stranger = bytes(31) + b"s"
    assert party_of(books, stranger) is None
    assert holder_of(books, stranger) == stranger
    assert not has_role(books, stranger, Role.INVESTOR)
    with pytest.raises(Refused) as refused:
        require_party(books, stranger)
    assert refused.value.reason is Reason.UNKNOWN_PARTY


def test_a_sponsor_makes_an_account_a_party(world: World) -> None:
    entry = fund(world)
    world.do(entry, "csdc", "fund")
    assert world.row(Party, entry.party) == Party("The fund", ("broker", "investor"), LEI, "DE", CSDC)
    assert list(accounts_of(world.books, entry.party)) == [entry.party]


def test_sponsor_and_party_both_sign(world: World) -> None:
    entry = fund(world)
    world.refuse("unauthorised", entry, "csdc")
    world.refuse("unauthorised", entry, "alice", "fund")


def test_an_investor_needs_no_lei(world: World) -> None:
    entry = replace(fund(world), lei="", roles=(RoleNumber.INVESTOR,))
    world.do(entry, "csdc", "fund")
    assert world.row(Party, entry.party) == Party("The fund", ("investor",), "", "DE", CSDC)


def test_who_may_not_sponsor_is_refused_by_the_name_of_the_article(world: World) -> None:
    entry = replace(fund(world), sponsor=BROKER)
    world.refuse("not_permitted", entry, "broker", "fund", rule="operators and depositories sponsor parties")


def test_an_account_must_be_there(world: World) -> None:
    # The account's signature is asked for first, so that there is nobody who could give it.
    entry = replace(fund(world), party=bytes(31) + b"x")
    world.refuse("unknown_account", entry, "csdc", "fund")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"name": "The \u202efund"}, "name (printable characters)"),
        ({"name": "---"}, "name (printable characters)"),
        ({"roles": (RoleNumber.ANYBODY,)}, "roles"),
        ({"lei": "5493001KJTIIGC8Y1R13"}, "LEI (ISO 17442 check digits)"),
        ({"lei": "5493001KJTIIGC8Y1R1"}, "LEI (ISO 17442 check digits)"),
        ({"lei": ""}, "LEI (ISO 17442 check digits)"),
        ({"country": "de"}, "country (ISO 3166-1 alpha-2)"),
        ({"roles": (RoleNumber.REGULATOR,)}, "roles that this sponsor cannot give"),
    ],
)
def test_each_field_of_an_entry_is_judged(world: World, changes: dict[str, object], rule: str) -> None:
    world.refuse("bad_party", replace(fund(world), **changes), "csdc", "fund", rule=rule)


def test_an_operator_gives_every_role(world: World) -> None:
    entry = replace(fund(world), sponsor=OPERATOR, roles=(RoleNumber.REGULATOR, RoleNumber.AUDITOR))
    world.do(entry, "operator", "fund")
    assert has_role(world.books, entry.party, Role.AUDITOR)


@pytest.mark.parametrize("name", ["BROKER", "Br0ker", "b r o k e r", "brоker", "ｂｒｏｋｅｒ", "brökér"])
def test_a_name_that_looks_like_a_members_is_refused_with_it(world: World, name: str) -> None:
    world.refuse("looks_alike", replace(fund(world), name=name), "csdc", "fund", rule="looks like broker")


def test_a_name_is_free_again_when_its_party_takes_another(world: World) -> None:
    entry, other = fund(world), replace(fund(world, "other"), lei="7LTWFZYICNSX8D621K86")
    world.do(entry, "csdc", "fund")
    world.refuse("looks_alike", replace(other, name="the FUND"), "csdc", "other", rule="looks like The fund")
    world.do(replace(entry, name="The first fund"), "csdc", "fund")
    world.do(replace(other, name="the FUND"), "csdc", "other")


def test_an_lei_is_one_partys(world: World) -> None:
    entry, other = fund(world), fund(world, "other")
    world.do(entry, "csdc", "fund")
    world.refuse("bad_party", other, "csdc", "other", rule="LEI of another party")
    world.do(replace(entry, name="The first fund"), "csdc", "fund")
    world.do(replace(entry, lei="7LTWFZYICNSX8D621K86"), "csdc", "fund")
    world.do(other, "csdc", "other")


def test_only_its_sponsor_or_an_operator_changes_an_entry(world: World) -> None:
    entry = fund(world)
    world.do(entry, "csdc", "fund")
    other = replace(entry, sponsor=CCDC, country="FR")
    world.refuse("already_registered", other, "ccdc", "fund", rule="the party has another sponsor")
    world.do(replace(entry, country="FR"), "csdc", "fund")
    world.do(replace(entry, sponsor=OPERATOR, country="IT"), "operator", "fund")
    assert require_party(world.books, entry.party).country == "IT"


def test_a_member_of_the_genesis_is_completed_by_the_first_who_sponsors_it(world: World) -> None:
    entry = RegisterParty(CSDC, ALICE, "alice", "", "CN", (RoleNumber.INVESTOR,))
    world.do(entry, "csdc", "alice")
    assert world.row(Party, ALICE) == Party("alice", ("investor",), "", "CN", CSDC)
    taken = RegisterParty(CSDC, account("regulator"), "regulator", LEI, "CN", (RoleNumber.BROKER,))
    world.refuse("bad_party", taken, "csdc", "regulator", rule="roles that this sponsor cannot give")


# Accounts


def own(opened: bytes, **changes: object) -> RegisterAccount:
    """Alice's second account, kept by the depository."""
    entry = RegisterAccount(opened, ALICE, CSDC, Tier.INVESTOR, AccountKind.SEGREGATED)
    return replace(entry, **changes)  # type: ignore[arg-type]


def test_an_account_gets_an_owner_and_a_custodian(world: World) -> None:
    second = world.open("alice", "second")
    world.do(own(second), "alice", "second", "csdc")
    assert world.row(Owner, second) == Owner(ALICE, CSDC, Tier.INVESTOR, AccountKind.SEGREGATED, NOBODY)
    assert party_of(world.books, second) == ALICE
    assert list(accounts_of(world.books, ALICE)) == [ALICE, second]
    assert require_party(world.books, second).name == "alice"


def test_account_owner_and_custodian_all_sign(world: World) -> None:
    second = world.open("alice", "second")
    for signers in (("alice", "second"), ("alice", "csdc"), ("csdc", "second")):
        world.refuse("unauthorised", own(second), *signers)


def test_an_account_has_one_owner_for_good(world: World) -> None:
    second = world.open("alice", "second")
    world.do(own(second), "alice", "second", "csdc")
    again = own(second, owner=BOB)
    world.refuse("already_registered", again, "bob", "second", "csdc", rule="the account has an owner")
    party = RegisterParty(CSDC, second, "A party", LEI, "DE", (RoleNumber.BROKER,))
    world.refuse("already_registered", party, "csdc", "second", rule="the account belongs to a party")


def test_owner_and_custodian_are_parties(world: World) -> None:
    second, third = world.open("alice", "second"), world.open("alice", "third")
    world.refuse("unknown_party", own(second, owner=third), "alice", "third", "second", "csdc")
    rule = "depositories, brokers and banks keep accounts"
    world.refuse("not_permitted", own(second, custodian=third), "alice", "third", "second", rule=rule)
    world.refuse("not_permitted", own(second, custodian=BOB), "alice", "bob", "second", rule=rule)


def test_a_party_itself_is_nobody_elses_account(world: World) -> None:
    world.refuse("bad_custody", own(BOB), "alice", "bob", "csdc", rule="a party's own account")
    world.do(own(BOB, owner=BOB), "bob", "csdc")
    assert list(accounts_of(world.books, BOB)) == [BOB]


@pytest.mark.parametrize(
    ("changes", "signers", "rule"),
    [
        ({"tier": Tier.BROKER, "custodian": BROKER}, ("broker",), "custodian of tier broker"),
        ({"tier": Tier.DEPOSITORY, "custodian": account("icbc")}, ("icbc",), "custodian of tier depository"),
        ({"tier": Tier.BROKER}, ("csdc",), "owner of tier broker"),
        ({"tier": Tier.DEPOSITORY, "owner": BROKER}, ("csdc", "broker"), "owner of tier depository"),
        ({"kind": AccountKind.OMNIBUS}, ("csdc",), "owner of an omnibus account"),
        ({"custodian": BROKER}, ("broker",), "an upper account is needed"),
        ({"custodian": BROKER, "upper": BOB}, ("broker",), "upper account"),
    ],
)
def test_tier_kind_and_custodian_must_fit(
    world: World, changes: dict[str, object], signers: tuple[str, ...], rule: str
) -> None:
    second = world.open("alice", "second")
    world.refuse("bad_custody", own(second, **changes), "alice", "second", *signers, rule=rule)


def test_nobody_puts_himself_beyond_orders_by_having_more_accounts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order over a party refuses more accounts than it can reach; so no party gets more."""
    monkeypatch.setattr(registration, "MOST_ACCOUNTS", 2)
    second, third = world.open("alice", "second"), world.open("alice", "third")
    world.do(own(second), "alice", "second", "csdc")
    rule = "a party has at most 2 accounts"
    world.refuse("bad_custody", own(third), "alice", "third", "csdc", rule=rule)


def test_the_upper_account_is_the_custodians_own_in_a_higher_tier(world: World) -> None:
    top, middle, low, wrong = (world.open("alice", name) for name in ("top", "middle", "low", "wrong"))
    world.do(RegisterAccount(top, CSDC, CSDC, Tier.DEPOSITORY, AccountKind.OWN), "csdc", "top")
    broker = RegisterAccount(middle, BROKER, CSDC, Tier.BROKER, AccountKind.OMNIBUS, top)
    world.refuse("bad_custody", replace(broker, tier=Tier.INVESTOR, upper=ALICE), "broker", "middle", "csdc")
    world.do(broker, "broker", "middle", "csdc")
    row = world.books.account(middle)
    assert row is not None
    assert row.flags == AccountFlag.OMNIBUS
    dealer = own(wrong, owner=account("dealer"), custodian=account("dealer"), upper=middle)
    world.refuse("bad_custody", dealer, "dealer", "wrong", rule="upper account")
    world.do(own(low, custodian=BROKER, upper=middle), "alice", "low", "broker")
    assert world.row(Owner, low) == Owner(ALICE, BROKER, Tier.INVESTOR, AccountKind.SEGREGATED, middle)


def test_what_a_registered_account_holds_moves_as_before(world: World) -> None:
    second = world.open("alice", "second")
    world.do(Transfer(ALICE, second, BOND, 100), "alice")
    world.do(own(second), "alice", "second", "csdc")
    world.do(Transfer(second, BOB, BOND, 40), "alice", "second")
    assert world.books.holding(BOND, second).free == 60
