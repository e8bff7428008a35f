"""Claims: whose word counts about what, how long, and what a holder must be."""

from dataclasses import replace

import pytest

from p2pledger.ledger.market.claims import (
    Claim,
    HolderRules,
    Trusted,
    claim_of,
    country_of,
    judge,
    topic_key,
)
from p2pledger.ledger.rule import Refused
from p2pledger.primitives.market.instruments import SetHolderRules
from p2pledger.primitives.market.parties import (
    AccountKind,
    IssueClaim,
    RegisterAccount,
    RegisterParty,
    RevokeClaim,
    RoleNumber,
    Tier,
    TrustIssuer,
)
from p2pledger.primitives.names import asset_id
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import Issue, Lock, Release, Transfer
from tests.ledger.market.market_world import BOND, World, account, founded

CSDC, CCDC, REGULATOR, AUDITOR, ISSUER, BROKER, ALICE, BOB, CAROL = (
    account(name) for name in ("csdc", "ccdc", "regulator", "auditor", "issuer", "broker", "alice", "bob", "carol")
)
TRUST = "supervisors, operators and depositories say whom to trust"
BOUGHT = Transfer(ALICE, BOB, BOND, 1)


@pytest.fixture
def world() -> World:
    """The broker says who is qualified; nobody says anything yet."""
    world = founded()
    world.do(TrustIssuer(REGULATOR, "qualified", BROKER, True), "regulator")
    return world


def rules(**changes: object) -> SetHolderRules:
    return replace(SetHolderRules(CSDC, BOND, ("qualified",)), **changes)  # type: ignore[arg-type]


def condition(text: str) -> str:
    return f"holder rule of DE0005140008@CSDC: {text}"


def test_trust_is_given_and_taken(world: World) -> None:
    assert world.row(Trusted, topic_key("qualified") + BROKER) == Trusted(REGULATOR)
    world.refuse("not_permitted", TrustIssuer(ALICE, "qualified", ALICE, True), "alice", rule=TRUST)
    world.refuse("unknown_party", TrustIssuer(REGULATOR, "qualified", bytes(31) + b"x", True), "regulator")
    world.do(TrustIssuer(CSDC, "qualified", BROKER, False), "csdc")
    ended = TrustIssuer(REGULATOR, "qualified", BROKER, False)
    world.refuse("unknown_record", ended, "regulator", rule="trust in qualified")


def test_a_claim_is_kept_until_it_is_revoked(world: World) -> None:
    until_ms = world.now_ms + 60_000
    world.do(IssueClaim(BROKER, BOB, "qualified", "professional", until_ms), "broker")
    claim = Claim("professional", world.now_ms, until_ms)
    assert claim_of(world.books, world.place, BOB, "qualified") == claim
    assert Claim.decode(claim.encode()) == claim
    world.do(RevokeClaim(BROKER, BOB, "qualified"), "broker")
    assert claim_of(world.books, world.place, BOB, "qualified") is None
    world.refuse("unknown_record", RevokeClaim(BROKER, BOB, "qualified"), "broker", rule="claim about qualified")


def test_each_refusal_of_issue_claim(world: World) -> None:
    rule = "only those trusted in sanctioned state it"
    world.refuse("not_permitted", IssueClaim(BROKER, BOB, "sanctioned"), "broker", rule=rule)
    world.refuse("not_permitted", IssueClaim(BOB, BOB, "qualified"), "bob")
    world.refuse("unknown_account", IssueClaim(BROKER, bytes(31) + b"x", "qualified"), "broker")
    world.refuse("bad_party", IssueClaim(BROKER, BOB, "qualified", "", 5), "broker", rule="until_ms has passed")
    world.do(TrustIssuer(REGULATOR, "country", BROKER, True), "regulator")
    refused = IssueClaim(BROKER, BOB, "country", "China")
    world.refuse("bad_party", refused, "broker", rule="country (ISO 3166-1 alpha-2)")


def test_a_claim_made_anew_is_another(world: World) -> None:
    world.do(IssueClaim(BROKER, BOB, "qualified", "", world.now_ms + 10_000), "broker")
    world.do(IssueClaim(BROKER, BOB, "qualified", "again"), "broker")
    claim = claim_of(world.books, world.place, BOB, "qualified")
    assert claim is not None
    assert (claim.value, claim.until_ms) == ("again", 0)


# What a holder must be


def test_the_condition_that_fails_is_named(world: World) -> None:
    world.do(rules(), "csdc")
    world.refuse("ineligible", BOUGHT, "alice", rule=condition("qualified"))
    world.do(IssueClaim(BROKER, BOB, "qualified"), "broker")
    world.do(BOUGHT, "alice")


def test_a_claim_counts_to_its_last_moment_and_no_longer(world: World) -> None:
    world.do(rules(), "csdc")
    until_ms = world.now_ms + 60_000
    world.do(IssueClaim(BROKER, BOB, "qualified", "", until_ms), "broker")
    world.do(BOUGHT, "alice", at_ms=until_ms)
    world.refuse("ineligible", BOUGHT, "alice", at_ms=until_ms + 1, rule=condition("qualified"))
    # What he has stays his, and he may sell it.
    world.do(IssueClaim(BROKER, ALICE, "qualified"), "broker")
    world.do(Transfer(BOB, ALICE, BOND, 1), "bob")


def test_claims_of_those_no_longer_trusted_count_nothing(world: World) -> None:
    world.do(rules(), "csdc")
    world.do(IssueClaim(BROKER, BOB, "qualified"), "broker")
    world.do(TrustIssuer(REGULATOR, "qualified", BROKER, False), "regulator")
    world.refuse("ineligible", BOUGHT, "alice", rule=condition("qualified"))
    world.do(TrustIssuer(REGULATOR, "qualified", BROKER, True), "regulator")
    world.do(BOUGHT, "alice")


def test_one_of_several_issuers_is_enough(world: World) -> None:
    world.do(TrustIssuer(REGULATOR, "qualified", AUDITOR, True), "regulator")
    world.do(rules(), "csdc")
    until_ms = world.now_ms + 10_000
    world.do(IssueClaim(BROKER, BOB, "qualified", "", until_ms), "broker")
    world.do(IssueClaim(AUDITOR, BOB, "qualified"), "auditor")
    world.do(BOUGHT, "alice", at_ms=until_ms + 1)


def test_a_claim_may_be_what_excludes(world: World) -> None:
    world.do(TrustIssuer(REGULATOR, "sanctioned", REGULATOR, True), "regulator")
    world.do(rules(required=(), refused=("sanctioned",)), "csdc")
    world.do(BOUGHT, "alice")
    world.do(IssueClaim(REGULATOR, BOB, "sanctioned"), "regulator")
    world.refuse("ineligible", BOUGHT, "alice", rule=condition("not sanctioned"))
    world.do(RevokeClaim(REGULATOR, BOB, "sanctioned"), "regulator")
    world.do(BOUGHT, "alice")


def test_a_fresh_account_is_no_way_around_what_excludes(world: World) -> None:
    """Nobody states anything about an account that nobody knows; who it belongs to might be under sanctions."""
    world.do(rules(required=(), refused=("sanctioned",)), "csdc")
    fresh = world.open("bob", "fresh")
    world.refuse("ineligible", Transfer(ALICE, fresh, BOND, 1), "alice", rule=condition("not sanctioned"))
    entry = RegisterAccount(fresh, BOB, account("csdc"), Tier.INVESTOR, AccountKind.OWN)
    world.do(entry, "bob", "fresh", "csdc")
    world.do(Transfer(ALICE, fresh, BOND, 1), "alice")


def test_countries_are_those_of_the_register_of_parties_unless_a_claim_says_otherwise(world: World) -> None:
    world.do(rules(required=(), countries=("CN", "DE")), "csdc")
    world.refuse("ineligible", BOUGHT, "alice", rule=condition("country"))
    world.do(RegisterParty(CSDC, BOB, "bob", "", "CN", (RoleNumber.INVESTOR,)), "csdc", "bob")
    assert country_of(world.books, world.place, BOB) == "CN"
    world.do(BOUGHT, "alice")
    world.do(TrustIssuer(REGULATOR, "country", REGULATOR, True), "regulator")
    world.do(IssueClaim(REGULATOR, BOB, "country", "FR"), "regulator")
    world.refuse("ineligible", BOUGHT, "alice", rule=condition("country"))


def test_the_issuer_may_always_hold_and_accounts_of_one_party_may_exchange(world: World) -> None:
    world.do(rules(), "csdc")
    world.do(Transfer(ALICE, ISSUER, BOND, 1), "alice")
    world.do(Issue(BOND, ISSUER, 1), "issuer")
    second = world.open("alice", "second")
    moved = Transfer(ALICE, second, BOND, 1)
    world.refuse("ineligible", moved, "alice")
    entry = RegisterAccount(second, ALICE, CSDC, Tier.INVESTOR, AccountKind.SEGREGATED)
    world.do(entry, "alice", "second", "csdc")
    world.do(moved, "alice")


def test_issuing_asks_and_locking_does_not(world: World) -> None:
    world.do(rules(), "csdc")
    world.refuse("ineligible", Issue(BOND, BOB, 1), "issuer", rule=condition("qualified"))
    world.do(Lock(ALICE, BOND, 5, BOB), "alice")
    world.do(Release(ALICE, BOND, 5, BOB), "bob")


def test_judge_says_the_same_to_other_rules(world: World) -> None:
    world.do(rules(), "csdc")
    with pytest.raises(Refused) as refused:
        judge(world.books, world.place, BOND, BOB)
    assert (refused.value.reason, refused.value.rule) == (Reason.INELIGIBLE, condition("qualified"))
    judge(world.books, world.place, asset_id("US0378331005@CSDC"), BOB)


# Setting the rules


def test_rules_are_kept_with_their_version(world: World) -> None:
    world.do(rules(most_holders=9), "csdc")
    world.do(rules(most_holders=8, countries=("CN",)), "csdc")
    row = world.row(HolderRules, BOND)
    assert row == HolderRules(2, ("qualified",), (), ("CN",), 8, 0)
    assert row is not None
    assert HolderRules.decode(row.encode()) == row
    world.do(rules(required=()), "csdc")
    assert world.row(HolderRules, BOND) is None
    world.do(BOUGHT, "alice")


def test_each_refusal_of_set_holder_rules(world: World) -> None:
    world.refuse("unknown_asset", rules(asset=asset_id("US5949181045@CSDC")), "csdc")
    world.refuse("not_permitted", rules(by=CCDC), "ccdc", rule="depositories write in their own register only")
    world.refuse("bad_party", rules(countries=("c1",)), "csdc", rule="country (ISO 3166-1 alpha-2)")
