"""What clients read, and the check that the books add up, which must find every way in which they might not."""

import pytest

from p2pledger.ledger import queries
from p2pledger.ledger.queries import Finding, HoldingLine, LockLine
from p2pledger.ledger.tables import Holding, Lock, Table, holding_key, lock_key, parameter_key
from p2pledger.primitives.names import account_opened
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.transactions import Issue, Open, SignedTransaction, Transfer
from p2pledger.primitives.transactions import Lock as LockOperation
from tests.ledger.small_market import (
    BOND,
    BOND_ACROSS,
    CASH,
    STRANGER,
    UNKNOWN_ASSET,
    Market,
    account,
    founded,
    key,
    signed,
)

ALICE, BOB, CAROL = account("alice"), account("bob"), account("carol")


@pytest.fixture
def market() -> Market:
    market = founded()
    locks = (LockOperation(ALICE, BOND, 30, BOB), LockOperation(ALICE, BOND, 12, CAROL))
    assert market.reasons(signed(locks, "alice")) == [("ok", 0)]
    return market


def test_the_statement_of_an_account_lists_all_it_holds(market: Market) -> None:
    assert list(queries.holdings_of(market.version, ALICE)) == [
        HoldingLine(CASH, ALICE, Holding(50_000)),
        HoldingLine(BOND, ALICE, Holding(958, 42)),
    ]
    assert list(queries.holdings_of(market.version, STRANGER)) == []
    assert queries.holding_of(market.version, BOND, ALICE) == Holding(958, 42)
    assert queries.holding_of(market.version, UNKNOWN_ASSET, ALICE) == Holding()


def test_the_holders_of_an_asset_come_page_by_page(market: Market) -> None:
    everybody = queries.holders_of(market.version, BOND)
    assert {line.account: line.holding.total for line in everybody} == dict.fromkeys(
        (ALICE, BOB, account("fund")), 1_000
    )
    assert [line.account for line in everybody] == sorted(line.account for line in everybody)
    first = queries.holders_of(market.version, BOND, limit=1)
    rest = queries.holders_of(market.version, BOND, after=first[0].account)
    assert first + rest == everybody
    assert queries.holders_of(market.version, BOND, after=everybody[-1].account) == []
    assert queries.holders_of(market.version, UNKNOWN_ASSET) == []


def test_locks_are_listed_by_controller(market: Market) -> None:
    lines = list(queries.locks_of(market.version, BOND, ALICE))
    assert sorted(lines, key=lambda line: line.amount) == [
        LockLine(BOND, ALICE, CAROL, 12),
        LockLine(BOND, ALICE, BOB, 30),
    ]
    assert [line.controller for line in lines] == sorted((BOB, CAROL))


def test_assets_and_accounts(market: Market) -> None:
    assert [asset for asset, _ in queries.assets(market.version)] == sorted((BOND, BOND_ACROSS, CASH))
    assert queries.asset_row(market.version, UNKNOWN_ASSET) is None
    assert queries.account_of(market.version, STRANGER) is None
    assert queries.party_of(market.version, STRANGER) is None
    assert queries.accounts_named(market.version, "nobody") == ()
    names = [party.name for _, party in queries.parties(market.version)]
    assert sorted(names) == sorted(("csdc", "ccdc", "bank", "issuer", "alice", "bob", "carol", "dave", "fund"))


def test_an_opened_account_has_no_party(market: Market) -> None:
    policy = Policy.of(key("dave").public_key)
    market.block(signed(Open(ALICE, bytes(16), policy), "alice"))
    opened = account_opened(ALICE, bytes(16), policy.values())
    assert queries.account_of(market.version, opened) is not None
    assert queries.party_of(market.version, opened) is None


def test_what_became_of_a_transaction(market: Market) -> None:
    payment = signed(Transfer(ALICE, BOB, BOND, 959), "alice")
    identifier = SignedTransaction.decode(payment).id
    assert queries.remembered(market.version, 50, identifier) is None
    market.block(payment)
    row = queries.remembered(market.version, 50, identifier)
    assert row is not None
    assert (row.height, row.code) == (market.height, 8)
    assert queries.remembered(market.version, 51, identifier) is None


def test_long_tables_are_read_to_their_end(market: Market) -> None:
    branch = market.version.branch()
    for number in range(2_000):
        branch.put(Table.HOLDINGS, holding_key(BOND_ACROSS, number.to_bytes(32, "big")), Holding(1).encode())
    version = branch.commit()
    assert len(list(queries.rows(version, Table.HOLDINGS, BOND_ACROSS))) == 2_000
    assert len(queries.holders_of(version, BOND_ACROSS)) == 1_000


def test_a_missing_parameter_is_a_broken_state(market: Market) -> None:
    market.alter(Table.PARAMETERS, parameter_key(1), None)
    with pytest.raises(AssertionError, match="parameter 1 is missing"):
        queries.parameters_of(market.version)


def test_honest_books_add_up(market: Market) -> None:
    assert queries.check_conservation(market.version) == []
    market.block(signed(Issue(BOND, BOB, 5), "issuer"))
    assert queries.check_conservation(market.version) == []


def test_money_from_nowhere_is_found(market: Market) -> None:
    market.alter(Table.HOLDINGS, holding_key(BOND, BOB), Holding(1_001).encode())
    [finding] = queries.check_conservation(market.version)
    assert finding == Finding(BOND, None, "holdings are not issued less redeemed, and in less out", 3_000, 3_001)


def test_a_lock_without_cover_is_found(market: Market) -> None:
    market.alter(Table.LOCKS, lock_key(BOND, ALICE, BOB), Lock(31).encode())
    [finding] = queries.check_conservation(market.version)
    assert finding == Finding(BOND, ALICE, "locked is not the sum of locks and encumbrances", 43, 42)


def test_a_lock_without_any_holding_is_found(market: Market) -> None:
    market.alter(Table.LOCKS, lock_key(BOND, CAROL, BOB), Lock(2).encode())
    [finding] = queries.check_conservation(market.version)
    assert finding == Finding(BOND, CAROL, "locks without a holding", 0, 2)


def test_locked_without_locks_and_free_exchanged_is_found(market: Market) -> None:
    market.alter(Table.HOLDINGS, holding_key(BOND, BOB), Holding(999, 1).encode())
    [finding] = queries.check_conservation(market.version)
    assert (finding.account, finding.expected, finding.found) == (BOB, 0, 1)


def test_holdings_of_what_does_not_exist_are_found(market: Market) -> None:
    market.alter(Table.HOLDINGS, holding_key(UNKNOWN_ASSET, BOB), Holding(9).encode())
    [finding] = queries.check_conservation(market.version)
    assert finding == Finding(UNKNOWN_ASSET, None, "holdings of an unknown asset", 0, 9)


def test_an_asset_that_nobody_holds_any_more_is_found(market: Market) -> None:
    for name in ("alice", "bob", "carol"):
        market.alter(Table.HOLDINGS, holding_key(CASH, account(name)), None)
    [finding] = queries.check_conservation(market.version)
    assert (finding.asset, finding.expected, finding.found) == (CASH, 150_000, 0)
