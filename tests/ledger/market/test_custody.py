"""Custody: the chain above an account, and who may look through it."""

from dataclasses import dataclass

import pytest

from p2pledger.ledger.market.custody import (
    LOOK_THROUGH,
    Beneficiary,
    allocated,
    beneficiaries_of,
    beneficiary_key,
    chain_of,
    entitlement,
    is_omnibus,
    look_through,
    misallocations,
)
from p2pledger.ledger.rule import Refused
from p2pledger.primitives.market.parties import AccountKind, Allocate, RegisterAccount, Tier
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import Transfer
from tests.ledger.market.market_world import BOND, BOND_ACROSS, World, account, founded

CSDC, BROKER, ALICE, BOB = (account(name) for name in ("csdc", "broker", "alice", "bob"))


@dataclass(frozen=True)
class Chain:
    """The depository's account over the broker's pool over Alice's account; of the pool's 500 units Bob has 200."""

    world: World
    top: bytes
    pool: bytes
    low: bytes


@pytest.fixture
def chain() -> Chain:
    world = founded()
    top, pool, low = (world.open("alice", name) for name in ("top", "pool", "low"))
    world.do(RegisterAccount(top, CSDC, CSDC, Tier.DEPOSITORY, AccountKind.OWN), "csdc", "top")
    world.do(RegisterAccount(pool, BROKER, CSDC, Tier.BROKER, AccountKind.OMNIBUS, top), "broker", "pool", "csdc")
    entry = RegisterAccount(low, ALICE, BROKER, Tier.INVESTOR, AccountKind.SEGREGATED, pool)
    world.do(entry, "alice", "low", "broker")
    world.do(Transfer(ALICE, pool, BOND, 500), "alice")
    world.do(Transfer(ALICE, low, BOND, 100), "alice")
    world.do(Allocate(pool, b"", BOB, BOND, 200), "broker")
    return Chain(world, top, pool, low)


def test_the_chain_leads_from_the_investor_to_the_depository(chain: Chain) -> None:
    books = chain.world.books
    assert [each for each, _ in chain_of(books, chain.low)] == [chain.low, chain.pool, chain.top]
    assert [row.custodian for _, row in chain_of(books, chain.low)] == [BROKER, CSDC, CSDC]
    assert chain_of(books, ALICE) == ()
    assert [is_omnibus(books, each) for each in (chain.low, chain.pool, chain.top)] == [False, True, False]


@pytest.mark.parametrize(
    ("asker", "why"),
    [
        ("alice", "owners see what is theirs"),
        ("broker", "custodians see what is held through them"),
        ("csdc", "custodians see what is held through them"),
        ("regulator", "regulators and auditors see every account"),
        ("auditor", "regulators and auditors see every account"),
        ("ccdc", ""),
        ("operator", ""),
        ("dealer", ""),
        ("bob", ""),
        ("issuer", ""),
        ("sse", ""),
        ("icbc", ""),
    ],
)
def test_who_may_look_through_an_investors_account(chain: Chain, asker: str, why: str) -> None:
    assert entitlement(chain.world.books, account(asker), chain.low, BOND) == why


def test_a_depository_sees_its_own_register_and_no_other(chain: Chain) -> None:
    books = chain.world.books
    why = "depositories see their own register"
    assert entitlement(books, CSDC, BOB, BOND) == why
    assert entitlement(books, CSDC, BOB, BOND_ACROSS) == ""
    assert entitlement(books, account("ccdc"), BOB, BOND_ACROSS) == why
    assert entitlement(books, CSDC, BOB) == ""


def test_a_party_asks_through_any_of_its_accounts(chain: Chain) -> None:
    assert entitlement(chain.world.books, chain.low, ALICE, BOND) == "owners see what is theirs"
    assert entitlement(chain.world.books, chain.pool, chain.low, BOND) == "custodians see what is held through them"


def test_behind_a_pool_are_the_house_and_its_customers(chain: Chain) -> None:
    books = chain.world.books
    for asker in ("broker", "csdc", "regulator", "auditor"):
        assert look_through(books, account(asker), chain.pool, BOND) == ((BROKER, 300), (BOB, 200))
    assert look_through(books, BROKER, chain.low, BOND) == ((ALICE, 100),)
    assert look_through(books, BROKER, chain.low, BOND_ACROSS) == ()


def test_a_customer_sees_its_own_share_and_a_stranger_nothing(chain: Chain) -> None:
    books = chain.world.books
    assert look_through(books, BOB, chain.pool, BOND) == ((BOB, 200),)
    for asker in (ALICE, account("ccdc"), account("operator"), bytes(32), bytes(31) + b"x"):
        with pytest.raises(Refused) as refused:
            look_through(books, asker, chain.pool, BOND)
        assert (refused.value.reason, refused.value.rule) == (Reason.NOT_PERMITTED, LOOK_THROUGH)


def test_shares_are_kept_with_their_sum(chain: Chain) -> None:
    books = chain.world.books
    assert (allocated(books, chain.pool, BOND), allocated(books, chain.pool, BOND, BOB)) == (200, 200)
    assert list(beneficiaries_of(books, chain.pool, BOND)) == [(BOB, 200)]
    assert Beneficiary.decode(Beneficiary(5).encode()) == Beneficiary(5)


def test_wrong_shares_are_found(chain: Chain) -> None:
    books = chain.world.books
    assert misallocations(books) == []
    books.put(Beneficiary, beneficiary_key(chain.pool, BOND, ALICE), Beneficiary(301))
    books.put(Beneficiary, beneficiary_key(chain.low, BOND, ALICE), Beneficiary(1))
    found = {(account_, what) for _, account_, what, _, _ in misallocations(books)}
    assert found == {
        (chain.pool, "the sum of all shares is another"),
        (chain.pool, "more is allocated than is free"),
        (chain.low, "the sum of all shares is another"),
        (chain.low, "shares in an account that is no omnibus account"),
    }
