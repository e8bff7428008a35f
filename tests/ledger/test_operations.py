"""Every rule of docs/protocol.md, section 4.1, broken once in a real signed transaction, in the order of the checks.

One entry of REFUSALS is one sentence: this transaction, on the founded market, ends with this reason at this operation.
"""

import csv
import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest

from p2pledger.ledger.operations import RULES
from p2pledger.ledger.queries import account_of, asset_row, check_conservation, holding_of, rows
from p2pledger.ledger.rule import Refused
from p2pledger.ledger.tables import Account, Asset, Holding, Lock, Table, holding_key, lock_key
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.codec import U64_MAX
from p2pledger.primitives.names import AssetKind, account_opened, asset_id, isin_is_valid
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.reasons import Reason, sentence_of
from p2pledger.primitives.transactions import (
    Define,
    Issue,
    Open,
    Operation,
    Redeem,
    Release,
    SetPolicy,
    Transfer,
)
from p2pledger.primitives.transactions import (
    Lock as LockOperation,
)
from tests.ledger.small_market import (
    BOND,
    BOND_ACROSS,
    CASH,
    STRANGER,
    UNKNOWN_ASSET,
    Market,
    account,
    founded,
    implementations,
    key,
    signed,
)

ALICE, BOB, CAROL, DAVE, FUND = (account(name) for name in ("alice", "bob", "carol", "dave", "fund"))
WHOLE = 65535
SECURITY, MONEY = int(AssetKind.SECURITY), int(AssetKind.MONEY)


def policy_of(*names: str, threshold: int = 1, version: int = 1) -> Policy:
    return Policy.of(*(key(name).public_key for name in names), threshold=threshold, version=version)


@dataclass(frozen=True)
class Refusal:
    """``transaction`` ends with ``reason`` at ``operation``, on the founded market after ``prepare``."""

    title: str
    transaction: bytes
    reason: Reason
    operation: int = 0
    prepare: Callable[[Market], object] = lambda market: None
    fee: int = 0


class Unheard(Refusal):
    """Refused by rules 1 to 4: no trace but the receipt. Every other refusal is remembered."""


def flag_account(name: str) -> Callable[[Market], object]:
    def prepare(market: Market) -> None:
        row = account_of(market.version, account(name))
        assert row is not None
        market.alter(Table.ACCOUNTS, account(name), replace(row, flags=1).encode())

    return prepare


def flag_asset(asset: bytes) -> Callable[[Market], object]:
    def prepare(market: Market) -> None:
        row = asset_row(market.version, asset)
        assert row is not None
        market.alter(Table.ASSETS, asset, replace(row, flags=4).encode())

    return prepare


def fill_holding(name: str, free: int, locked: int = 0) -> Callable[[Market], object]:
    """Puts a holding there that nobody issued, to reach the end of 64 bits."""
    return lambda market: market.alter(Table.HOLDINGS, holding_key(BOND, account(name)), Holding(free, locked).encode())


def fill_supply(market: Market) -> None:
    row = asset_row(market.version, BOND)
    assert row is not None
    market.alter(Table.ASSETS, BOND, replace(row, issued=U64_MAX - 5).encode())


def open_account_first(market: Market) -> None:
    assert market.reasons(signed(Open(ALICE, bytes(16), policy_of("alice")), "alice")) == [("ok", 0)]


PAY = Transfer(ALICE, BOB, BOND, 1)

REFUSALS = [
    # Rules 1 to 4: the whole transaction, and authority.
    Unheard("expired", signed(PAY, "alice", valid_until=1), Reason.EXPIRED, WHOLE),
    Unheard("too far ahead", signed(PAY, "alice", valid_until=103), Reason.TOO_FAR_AHEAD, WHOLE),
    Unheard("fee", signed(PAY, "alice", max_fee=6), Reason.FEE_TOO_LOW, WHOLE, fee=7),
    Unheard("payer unknown", signed(PAY, "alice", payer="nobody"), Reason.UNKNOWN_ACCOUNT, WHOLE),
    Unheard("payer has not signed", signed(PAY, "alice", payer="bob"), Reason.UNAUTHORISED, WHOLE),
    Unheard("payer before source", signed(Transfer(STRANGER, BOB, BOND, 1), "alice", payer="bob"),
            Reason.UNAUTHORISED, WHOLE),
    Unheard("source unknown", signed((PAY, Transfer(STRANGER, BOB, BOND, 1)), "alice"), Reason.UNKNOWN_ACCOUNT, 1),
    Unheard("source has not signed", signed((PAY, Transfer(BOB, ALICE, BOND, 1)), "alice"), Reason.UNAUTHORISED, 1),
    Unheard("flags are no matter of authority", signed((PAY, Transfer(BOB, ALICE, BOND, 1)), "alice"),
            Reason.UNAUTHORISED, 1, flag_account("bob")),
    Unheard("authority before amounts", signed((Transfer(ALICE, BOB, BOND, 0), Transfer(BOB, ALICE, BOND, 1)), "alice"),
            Reason.UNAUTHORISED, 1),
    Unheard("two of three weights are too few", signed(Transfer(FUND, BOB, BOND, 1), "alice", "fund-1"),
            Reason.UNAUTHORISED, 0),
    # transfer
    Refusal("transfer nothing", signed(Transfer(ALICE, ALICE, BOND, 0), "alice"), Reason.ZERO_AMOUNT),
    Refusal("transfer to itself", signed(Transfer(ALICE, ALICE, UNKNOWN_ASSET, 1), "alice"), Reason.SAME_ACCOUNT),
    Refusal("transfer to nobody", signed(Transfer(ALICE, STRANGER, UNKNOWN_ASSET, 1), "alice"),
            Reason.UNKNOWN_ACCOUNT),
    Refusal("transfer unknown asset", signed(Transfer(ALICE, BOB, UNKNOWN_ASSET, 1), "alice"), Reason.UNKNOWN_ASSET),
    Refusal("transfer too much", signed(Transfer(ALICE, BOB, BOND, 1_001), "alice"), Reason.INSUFFICIENT_FREE),
    Refusal("transfer the locked", signed(Transfer(ALICE, BOB, BOND, 2), "alice"), Reason.INSUFFICIENT_FREE, 0,
            fill_holding("alice", 1, 99)),
    Refusal("transfer over 64 bits", signed(Transfer(ALICE, BOB, BOND, 11), "alice"), Reason.OVERFLOW, 0,
            fill_holding("bob", U64_MAX - 110, 100)),
    Refusal("too little before overflow", signed(Transfer(ALICE, BOB, BOND, 1_001), "alice"),
            Reason.INSUFFICIENT_FREE, 0, fill_holding("bob", U64_MAX)),
    # lock
    Refusal("lock nothing", signed(LockOperation(ALICE, BOND, 0, ALICE), "alice"), Reason.ZERO_AMOUNT),
    Refusal("lock under oneself", signed(LockOperation(ALICE, UNKNOWN_ASSET, 1, ALICE), "alice"), Reason.SAME_ACCOUNT),
    Refusal("lock under nobody", signed(LockOperation(ALICE, UNKNOWN_ASSET, 1, STRANGER), "alice"),
            Reason.UNKNOWN_ACCOUNT),
    Refusal("lock unknown asset", signed(LockOperation(ALICE, UNKNOWN_ASSET, 1, BOB), "alice"), Reason.UNKNOWN_ASSET),
    Refusal("lock too much", signed(LockOperation(ALICE, BOND, 1_001, BOB), "alice"), Reason.INSUFFICIENT_FREE),
    # release
    Refusal("release nothing", signed(Release(ALICE, UNKNOWN_ASSET, 0, BOB), "bob"), Reason.ZERO_AMOUNT),
    Refusal("release unknown asset", signed(Release(ALICE, UNKNOWN_ASSET, 1, BOB), "bob"), Reason.UNKNOWN_ASSET),
    Refusal("release without a lock", signed(Release(ALICE, BOND, 1, BOB), "bob"), Reason.INSUFFICIENT_LOCKED),
    Refusal("release more than is locked",
            signed((LockOperation(ALICE, BOND, 5, BOB), Release(ALICE, BOND, 6, BOB)), "alice", "bob"),
            Reason.INSUFFICIENT_LOCKED, 1),
    Refusal("release another's lock",
            signed((LockOperation(ALICE, BOND, 5, BOB), Release(ALICE, BOND, 5, CAROL)), "alice", "carol"),
            Reason.INSUFFICIENT_LOCKED, 1),
    Unheard("the owner does not release", signed(Release(ALICE, BOND, 1, BOB), "alice"), Reason.UNAUTHORISED),
    # issue
    Unheard("issue unknown asset", signed(Issue(UNKNOWN_ASSET, ALICE, 0), "issuer"), Reason.UNKNOWN_ASSET),
    Unheard("issue by another", signed(Issue(BOND, ALICE, 0), "alice"), Reason.UNAUTHORISED),
    Unheard("issue what the transaction defines",
            signed((Define(asset_id("US0378331005@CSDC"), SECURITY, 0, account("issuer"), "x"),
                    Issue(UNKNOWN_ASSET, ALICE, 1)), "csdc", "issuer"), Reason.UNKNOWN_ASSET, 1),
    Refusal("issue nothing", signed(Issue(BOND, STRANGER, 0), "issuer"), Reason.ZERO_AMOUNT, 0, flag_asset(BOND)),
    Refusal("issue to nobody", signed(Issue(BOND, STRANGER, 1), "issuer"), Reason.UNKNOWN_ACCOUNT),
    Refusal("issue over 64 bits of supply", signed(Issue(BOND, ALICE, 6), "issuer"), Reason.OVERFLOW, 0, fill_supply),
    Refusal("issue over 64 bits of holding", signed(Issue(BOND, ALICE, 6), "issuer"), Reason.OVERFLOW, 0,
            fill_holding("alice", 0, U64_MAX - 5)),
    # redeem
    Unheard("redeem another's", signed(Redeem(UNKNOWN_ASSET, ALICE, 0), "issuer"), Reason.UNAUTHORISED),
    Unheard("redeem unknown asset", signed(Redeem(UNKNOWN_ASSET, ALICE, 0), "alice"), Reason.UNKNOWN_ASSET),
    Unheard("redeem without the issuer", signed(Redeem(BOND, ALICE, 0), "alice"), Reason.UNAUTHORISED),
    Refusal("redeem nothing", signed(Redeem(BOND, ALICE, 0), "alice", "issuer"), Reason.ZERO_AMOUNT, 0,
            flag_asset(BOND)),
    Refusal("redeem too much", signed(Redeem(BOND, ALICE, 1_001), "alice", "issuer"), Reason.INSUFFICIENT_FREE),
    # define
    Unheard("define in no register", signed(Define(asset_id("DE0005140008@XXXX"), SECURITY, 0, ALICE, "x"), "alice"),
            Reason.UNKNOWN_REGISTER),
    Unheard("define without the depository", signed(Define(UNKNOWN_ASSET, SECURITY, 0, ALICE, "x"), "alice"),
            Reason.UNAUTHORISED),
    Unheard("define without the issuer", signed(Define(UNKNOWN_ASSET, SECURITY, 0, ALICE, "x"), "csdc"),
            Reason.UNAUTHORISED),
    Unheard("define asks the depository first", signed(Define(UNKNOWN_ASSET, SECURITY, 0, STRANGER, "x"), "alice"),
            Reason.UNAUTHORISED),
    Unheard("define for an unknown issuer", signed(Define(UNKNOWN_ASSET, SECURITY, 0, STRANGER, "x"), "csdc"),
            Reason.UNKNOWN_ACCOUNT),
    Refusal("define a bad check digit",
            signed(Define(asset_id("US0378331006@CSDC"), SECURITY, 0, account("csdc"), "x"), "csdc"), Reason.BAD_ISIN),
    Refusal("define money as a security",
            signed(Define(asset_id("USD@BANK"), SECURITY, 0, account("bank"), "x"), "bank"), Reason.BAD_ISIN),
    Refusal("define bytes that are no text", signed(Define(b"\xff" * 12 + b"BANK", SECURITY, 0, account("bank"), "x"),
            "bank"), Reason.BAD_ISIN),
    Refusal("define a security as money",
            signed(Define(UNKNOWN_ASSET, MONEY, 0, account("csdc"), "x"), "csdc"), Reason.BAD_CURRENCY),
    Refusal("define money in small letters",
            signed(Define(b"usd".ljust(12, b"\0") + b"BANK", MONEY, 0, account("bank"), "x"), "bank"),
            Reason.BAD_CURRENCY),
    Refusal("define money with a tail", signed(Define(asset_id("USDX@BANK"), MONEY, 0, account("bank"), "x"), "bank"),
            Reason.BAD_CURRENCY),
    Refusal("define again", signed(Define(CASH, MONEY, 2, account("bank"), "x"), "bank"), Reason.ASSET_EXISTS),
    # open and set_policy
    Unheard("open without signature", signed(Open(BOB, bytes(16), policy_of("dave")), "alice"), Reason.UNAUTHORISED),
    Refusal("open at version 2", signed(Open(ALICE, bytes(16), policy_of("alice", version=2)), "alice"),
            Reason.BAD_POLICY_VERSION),
    Refusal("open again", signed(Open(ALICE, bytes(16), policy_of("alice")), "alice", salt="again"),
            Reason.ACCOUNT_EXISTS, 0, open_account_first),
    Refusal("open twice at once", signed((Open(ALICE, bytes(16), policy_of("alice")),) * 2, "alice"),
            Reason.ACCOUNT_EXISTS, 1),
    Unheard("set another's policy", signed(SetPolicy(BOB, policy_of("alice", version=2)), "alice"),
            Reason.UNAUTHORISED),
    Refusal("set the same version", signed(SetPolicy(ALICE, policy_of("bob")), "alice"), Reason.BAD_POLICY_VERSION),
    Refusal("skip a version", signed(SetPolicy(ALICE, policy_of("bob", version=3)), "alice"),
            Reason.BAD_POLICY_VERSION),
]  # fmt: skip


def books_without_memory(market: Market) -> dict[tuple[Table, bytes], bytes]:
    return {
        (table, row_key): row
        for table in Table
        if table is not Table.REPLAY
        for row_key, row in rows(market.version, table)
    }


@pytest.mark.parametrize("implementation", implementations(), ids=lambda module: module.__name__)
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.title)
def test_each_rule_refuses_with_its_reason_and_changes_nothing(refusal: Refusal, implementation: ModuleType) -> None:
    market = founded(implementation)
    refusal.prepare(market)
    before, memory, root = books_without_memory(market), market.version.count(Table.REPLAY), market.version.root()
    [receipt] = market.block(refusal.transaction, fee=refusal.fee)
    assert (receipt.reason, receipt.operation) == (refusal.reason, refusal.operation)
    assert sentence_of(refusal.reason) in receipt.sentence
    assert books_without_memory(market) == before
    if isinstance(refusal, Unheard):
        assert market.version.root() == root
    else:
        assert market.version.count(Table.REPLAY) == memory + 1


def test_every_reason_that_can_stand_in_a_receipt_is_met_here_or_in_the_tests_of_the_transition() -> None:
    met = {refusal.reason for refusal in REFUSALS} | {Reason.OK, Reason.DUPLICATE}
    assert met == {reason for reason in Reason if reason < Reason.CANNOT_PAY_FEE} - {Reason.RESTRICTED}


def test_every_operation_has_a_rule_with_the_same_headings() -> None:
    assert set(RULES) == set(tx.OPERATIONS.values())
    for rule in RULES.values():
        headings = re.findall(r"^ {4}(\w+(?: by| may)?) {2,}\S", type(rule).__doc__ or "", re.MULTILINE)
        assert headings == ["who may", "signed by", "needs", "changes", "refuses"]


def test_a_refusal_carries_the_stable_code() -> None:
    assert Refused(Reason.OVERFLOW).code == "overflow"
    assert str(Refused(Reason.OVERFLOW)) == sentence_of(Reason.OVERFLOW)


# What the operations do when nothing stands in their way.


def ok(market: Market, operations: Operation | tuple[Operation, ...], *signers: str, salt: object = 0) -> None:
    assert market.reasons(signed(operations, *signers, salt=salt)) == [("ok", 0)]
    assert check_conservation(market.version) == []


def test_delivery_versus_payment_moves_both_legs_or_none() -> None:
    market = founded()
    legs = tx.delivery_versus_payment(seller=ALICE, buyer=CAROL, security=BOND, quantity=10, money=CASH, price=50_001)
    trade = signed(tuple(legs), "alice", "carol")
    assert market.reasons(trade) == [("insufficient_free", 1)]
    assert holding_of(market.version, BOND, CAROL) == Holding()
    legs = tx.delivery_versus_payment(seller=ALICE, buyer=CAROL, security=BOND, quantity=10, money=CASH, price=49_999)
    ok(market, tuple(legs), "alice", "carol")
    assert holding_of(market.version, BOND, CAROL) == Holding(10)
    assert holding_of(market.version, CASH, CAROL) == Holding(1)
    assert holding_of(market.version, CASH, ALICE) == Holding(99_999)


def test_a_holding_that_becomes_empty_is_no_longer_a_row() -> None:
    market = founded()
    ok(market, Transfer(ALICE, DAVE, BOND, 1_000), "alice")
    assert market.version.get(Table.HOLDINGS, holding_key(BOND, ALICE)) is None
    assert holding_of(market.version, BOND, DAVE) == Holding(1_000)


def test_locks_add_up_and_vanish_when_released() -> None:
    market = founded()
    ok(market, (LockOperation(ALICE, BOND, 600, BOB), LockOperation(ALICE, BOND, 400, CAROL)), "alice")
    ok(market, Release(ALICE, BOND, 200, BOB), "bob")
    assert holding_of(market.version, BOND, ALICE) == Holding(200, 800)
    row = market.version.get(Table.LOCKS, lock_key(BOND, ALICE, BOB))
    assert row is not None
    assert Lock.decode(row) == Lock(400)
    ok(market, Release(ALICE, BOND, 400, BOB), "bob", salt=1)
    ok(market, Release(ALICE, BOND, 400, CAROL), "carol")
    assert market.version.count(Table.LOCKS) == 0
    assert holding_of(market.version, BOND, ALICE) == Holding(1_000)


def test_released_holdings_can_be_paid_out_in_the_same_transaction() -> None:
    market = founded()
    ok(market, LockOperation(ALICE, BOND, 1_000, BOB), "alice")
    ok(market, (Release(ALICE, BOND, 300, BOB), Transfer(ALICE, CAROL, BOND, 300)), "alice", "bob")
    assert holding_of(market.version, BOND, ALICE) == Holding(0, 700)


def test_a_bond_moves_from_one_register_to_the_other_in_one_transaction() -> None:
    market = founded()
    ok(market, (Redeem(BOND, ALICE, 250), Issue(BOND_ACROSS, ALICE, 250)), "alice", "issuer")
    here, there = asset_row(market.version, BOND), asset_row(market.version, BOND_ACROSS)
    assert here is not None
    assert there is not None
    assert (here.circulating, there.circulating) == (2_750, 250)


def test_the_last_unit_of_64_bits_can_be_issued_and_no_more() -> None:
    market = founded()
    ok(market, Issue(BOND_ACROSS, ALICE, U64_MAX), "issuer")
    assert holding_of(market.version, BOND_ACROSS, ALICE) == Holding(U64_MAX)
    assert market.reasons(signed(Issue(BOND_ACROSS, BOB, 1), "issuer")) == [("overflow", 0)]
    ok(market, Transfer(ALICE, BOB, BOND_ACROSS, U64_MAX), "alice")
    ok(market, LockOperation(BOB, BOND_ACROSS, U64_MAX, CAROL), "bob")
    ok(market, Release(BOB, BOND_ACROSS, U64_MAX, CAROL), "carol")
    ok(market, Redeem(BOND_ACROSS, BOB, U64_MAX), "bob", "issuer")
    # What was issued once counts for good: redeeming makes no room.
    assert market.reasons(signed(Issue(BOND_ACROSS, BOB, 1), "issuer", salt=2)) == [("overflow", 0)]


def test_an_opened_account_acts_under_its_own_policy() -> None:
    market = founded()
    policy = policy_of("fund-1", "fund-2", threshold=2)
    opened = account_opened(ALICE, b"s" * 16, policy.values())
    ok(market, (Open(ALICE, b"s" * 16, policy), Transfer(ALICE, opened, BOND, 70)), "alice")
    pay = Transfer(opened, BOB, BOND, 70)
    assert market.reasons(signed(pay, "alice", "fund-1")) == [("unauthorised", 0)]
    assert account_of(market.version, opened) == Account(policy)
    ok(market, pay, "alice", "fund-1", "fund-2")


def test_weights_count_not_heads() -> None:
    """The fund's keys weigh 2, 1, 1 in some order, and 3 are needed."""
    market = founded()
    row = account_of(market.version, FUND)
    assert row is not None
    weight = {name: dict(row.policy.keys)[key(name).public_key] for name in ("fund-1", "fund-2", "fund-3")}
    heavy = max(weight, key=lambda name: weight[name])
    light = sorted(set(weight) - {heavy})
    pay = Transfer(FUND, BOB, BOND, 1)
    assert market.reasons(signed(pay, "alice", *light)) == [("unauthorised", 0)]
    ok(market, pay, "alice", heavy, light[0])
    assert market.reasons(signed(pay, "alice", heavy, light[1], salt=1), signed(pay, "alice", heavy, salt=2)) == [
        ("ok", 0),
        ("unauthorised", 0),
    ]


def test_keys_are_rotated_and_the_old_ones_are_worth_nothing_then() -> None:
    market = founded()
    ok(market, SetPolicy(ALICE, policy_of("dave", version=2)), "alice")
    pay = Transfer(ALICE, BOB, BOND, 1)
    assert market.reasons(
        signed(pay, "alice", payer="alice"), signed(pay, "dave", payer="alice", salt=1)
    ) == [("unauthorised", WHOLE), ("ok", 0)]  # fmt: skip


def test_authority_is_judged_before_the_policy_changes_in_the_same_transaction() -> None:
    market = founded()
    steps = (
        SetPolicy(ALICE, policy_of("dave", version=2)),
        Transfer(ALICE, BOB, BOND, 1),
        SetPolicy(ALICE, policy_of("carol", version=3)),
    )
    ok(market, steps, "alice")
    row = account_of(market.version, ALICE)
    assert row is not None
    assert row.policy == policy_of("carol", version=3)


def test_both_kinds_of_assets_are_defined_with_what_their_rows_say() -> None:
    market = founded()
    assert asset_row(market.version, CASH) == Asset(AssetKind.MONEY, 2, account("bank"), "Yuan", 150_000, 0)
    apple = Define(UNKNOWN_ASSET, SECURITY, 18, ALICE, "Apple")
    ok(market, apple, "csdc", "alice")
    assert asset_row(market.version, UNKNOWN_ASSET) == Asset(AssetKind.SECURITY, 18, ALICE, "Apple")


def test_the_real_isins_of_a_trading_day_can_be_defined(shared_data: Path) -> None:
    """Those of one hour of Xetra; and none of them with another check digit."""
    [tape] = sorted((shared_data / "xetra_20170728").glob("*XETR09.csv.gz"))
    with gzip.open(tape, "rt", encoding="utf-8") as lines:
        isins = sorted({row["ISIN"] for row in csv.DictReader(lines)})
    assert len(isins) > 500
    assert all(isin_is_valid(isin) for isin in isins)
    for isin in isins:
        wrong = {isin[:11] + digit for digit in "0123456789"} - {isin}
        assert not any(isin_is_valid(other) for other in wrong)
    market = founded()
    defines = [Define(asset_id(f"{isin}@CSDC"), SECURITY, 0, account("csdc"), isin) for isin in isins[:30]]
    ok(market, tuple(defines), "csdc")
    assert all(asset_row(market.version, define.asset) is not None for define in defines)
