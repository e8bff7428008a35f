"""Blocks: replay, expiry, memory, mixed runs, and that the bulk path, Python and ``simulate`` tell the same story.

Every ``Market.block`` executes twice, in bulk and in Python alone, and compares codes and roots; so does every test.
"""

import random
from dataclasses import replace
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pledger import core
from p2pledger.ledger.genesis_state import genesis_state
from p2pledger.ledger.queries import check_conservation, holding_of, remembered, rows
from p2pledger.ledger.receipts import Receipt
from p2pledger.ledger.rule import Refused
from p2pledger.ledger.tables import Account, Asset, Holding, Native, ReplayRow, Table, holding_key
from p2pledger.ledger.transition import execute_block, execute_block_in_python, simulate
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.market.offers import PlaceOffer
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import (
    Define,
    Issue,
    Lock,
    Open,
    Operation,
    Redeem,
    Release,
    SetPolicy,
    SignedTransaction,
    Transfer,
)
from tests.ledger.small_market import (
    BOND,
    BOND_ACROSS,
    CASH,
    NAMES,
    PARAMETERS,
    SPEC,
    STRANGER,
    UNKNOWN_ASSET,
    Market,
    account,
    altered,
    batch,
    copy_into,
    founded,
    genesis,
    header,
    implementations,
    key,
    signed,
)

ALICE, BOB, CAROL = account("alice"), account("bob"), account("carol")
WHOLE = 65535
PAY = Transfer(ALICE, BOB, BOND, 1)


@pytest.fixture(params=implementations(), ids=lambda module: module.__name__)
def market(request: pytest.FixtureRequest) -> Market:
    """The founded market in the reference core and, where it is built, in the compiled one."""
    return founded(request.param)


def test_an_empty_block_changes_nothing_and_has_the_root_of_no_receipts(market: Market) -> None:
    root = market.version.root()
    outcome = market.outcome([])
    assert (len(outcome), outcome.ids, outcome.codes) == (0, b"", b"")
    assert outcome.state_root == root
    assert outcome.receipts_root == core.merkle_root([])


def test_receipts_stand_in_the_order_of_execution_over_all_batches(market: Market) -> None:
    payments = [signed(PAY, "alice", salt=salt) for salt in range(5)]
    wrong = signed(Transfer(BOB, ALICE, BOND, 1), "alice", salt="wrong")
    outcome = market.outcome([payments[:2], [wrong, *payments[2:]]])
    ids = [SignedTransaction.decode(data).id for data in (*payments[:2], wrong, *payments[2:])]
    receipts = list(outcome.receipts())
    assert [receipt.id for receipt in receipts] == ids
    assert [receipt.reason for receipt in receipts] == [Reason.OK] * 2 + [Reason.UNAUTHORISED] + [Reason.OK] * 3
    assert outcome.receipts_root == core.merkle_root([receipt.encode() for receipt in receipts])
    assert outcome.state_root == outcome.version.root()
    with pytest.raises(IndexError):
        outcome.receipt(6)


def test_the_parent_stays_as_it_was(market: Market) -> None:
    parent, root = market.version, market.version.root()
    market.block(signed(PAY, "alice"))
    assert parent.root() == root != market.version.root()


def test_nobody_can_burn_a_strangers_transaction(market: Market) -> None:
    """The identifier does not cover the signatures, so anybody can submit the body with signatures too few."""
    burnt = signed(PAY, "bob", payer="alice")
    real = signed(PAY, "alice", payer="alice")
    assert SignedTransaction.decode(burnt).id == SignedTransaction.decode(real).id
    root = market.version.root()
    assert market.reasons(burnt) == [("unauthorised", WHOLE)]
    assert market.version.root() == root
    assert market.reasons(burnt, real, burnt) == [("unauthorised", WHOLE), ("ok", 0), ("duplicate", WHOLE)]


def test_a_duplicate_never_replaces_the_first_receipt(market: Market) -> None:
    good, bad = signed(PAY, "alice"), signed(Transfer(ALICE, BOB, BOND, 5_000), "alice")
    assert market.reasons(good, bad) == [("ok", 0), ("insufficient_free", 0)]
    height, root = market.height, market.version.root()
    market.block(signed(Issue(BOND, ALICE, 10_000), "issuer", salt="more"))
    assert market.reasons(good, bad, bad) == [("duplicate", WHOLE)] * 3
    ids = [SignedTransaction.decode(data).id for data in (good, bad)]
    assert remembered(market.version, 50, ids[0]) == ReplayRow(height, 0, 0)
    assert remembered(market.version, 50, ids[1]) == ReplayRow(height, int(Reason.INSUFFICIENT_FREE), 0)
    assert market.version.root() != root


def test_the_same_transaction_twice_in_a_block_executes_once(market: Market) -> None:
    twice = signed(PAY, "alice")
    outcome = market.outcome([[twice, twice], [twice]])
    assert [receipt.reason for receipt in outcome.receipts()] == [Reason.OK, Reason.DUPLICATE, Reason.DUPLICATE]
    assert holding_of(market.version, BOND, BOB) == Holding(1_001)


def test_memory_lasts_until_valid_until_and_not_longer(market: Market) -> None:
    payment = signed(PAY, "alice", valid_until=9)
    identifier = SignedTransaction.decode(payment).id
    assert market.reasons(payment) == [("ok", 0)]
    count = market.version.count(Table.REPLAY)
    market.outcome([], height=9)
    assert remembered(market.version, 9, identifier) is not None
    assert market.reasons() == []
    assert remembered(market.version, 9, identifier) is None
    assert market.version.count(Table.REPLAY) == count - 1
    assert market.reasons(payment) == [("expired", WHOLE)]


def test_validity_is_inclusive_at_both_ends(market: Market) -> None:
    height, window = market.height + 1, PARAMETERS.replay_window
    ends = [signed(PAY, "alice", valid_until=height + window + 1), signed(PAY, "alice", valid_until=height + window)]
    assert market.reasons(*ends) == [("too_far_ahead", WHOLE), ("ok", 0)]
    height += 1
    ends = [signed(PAY, "alice", valid_until=height), signed(PAY, "alice", valid_until=height - 1)]
    assert market.reasons(*ends) == [("ok", 0), ("expired", WHOLE)]
    assert market.reasons(signed(PAY, "alice", valid_until=2**64 - 1)) == [("too_far_ahead", WHOLE)]


def test_the_fee_is_allowed_before_authority_and_paid_after_it(market: Market) -> None:
    low, high = signed(PAY, "bob", payer="alice", max_fee=4), signed(PAY, "alice", max_fee=5)
    unsigned, poor = signed(PAY, "bob", payer="alice", max_fee=5), signed((PAY, PAY), "alice", max_fee=99)
    market.alter(Table.NATIVE, ALICE, Native(9).encode())
    outcome = market.outcome([[low, unsigned, high, poor]], fee=5)
    reasons = [receipt.reason for receipt in outcome.receipts()]
    assert reasons == [Reason.FEE_TOO_LOW, Reason.UNAUTHORISED, Reason.OK, Reason.CANNOT_PAY_FEE]
    assert outcome.version.get(Table.NATIVE, ALICE) == Native(4).encode()


def test_a_transaction_with_many_operations_is_all_or_nothing(market: Market) -> None:
    """The last of several operations fails, over rows that the earlier ones have made, changed and deleted."""
    before = [market.version.table_root(table) for table in Table if table is not Table.REPLAY]
    steps: tuple[Operation, ...] = (
        Transfer(ALICE, CAROL, BOND, 1_000),
        Lock(BOB, BOND, 1_000, CAROL),
        Release(BOB, BOND, 500, CAROL),
        Issue(BOND, ALICE, 7),
        Redeem(BOND, ALICE, 3),
        Define(UNKNOWN_ASSET, 0, 0, account("csdc"), "x"),
        Open(ALICE, bytes(16), Policy.of(key("dave").public_key)),
        SetPolicy(ALICE, Policy.of(key("dave").public_key, version=2)),
        Transfer(CAROL, ALICE, BOND, 1_001),
    )
    signers = ("alice", "bob", "carol", "issuer", "csdc")
    assert market.reasons(signed(steps, *signers)) == [("insufficient_free", 8)]
    assert [market.version.table_root(table) for table in Table if table is not Table.REPLAY] == before
    assert market.reasons(signed(steps[:-1], *signers)) == [("ok", 0)]
    assert check_conservation(market.version) == []


def test_plain_transactions_fail_in_the_middle_without_a_trace(market: Market) -> None:
    before = [market.version.table_root(table) for table in Table if table is not Table.REPLAY]
    steps = (Transfer(ALICE, CAROL, BOND, 1_000), Lock(CAROL, BOND, 900, BOB), Transfer(CAROL, BOB, BOND, 101))
    assert market.reasons(signed(steps, "alice", "carol")) == [("insufficient_free", 2)]
    assert [market.version.table_root(table) for table in Table if table is not Table.REPLAY] == before


def test_a_row_that_no_rule_could_have_written_stops_the_node(market: Market) -> None:
    """The core does not decide it, and Python says that the state is broken: no peer's fault, no receipt."""
    market.alter(Table.HOLDINGS, holding_key(BOND, ALICE), b"\x93\x02\x00\x00")
    with pytest.raises(AssertionError, match="the state is broken: a row of HOLDINGS has version 2"):
        market.block(signed(PAY, "alice"))


def test_a_transaction_that_is_none_cannot_be_simulated() -> None:
    with pytest.raises(PeerFault):
        simulate(founded().version, b"\x92", height=2, time_ms=0, spec=SPEC)


# Random transactions: mostly sensible, often not, from a seed.


def some_transaction(dice: random.Random, height: int) -> bytes:
    """Any operations among few names and small amounts, so that successes and every kind of failure are common."""
    names = (*NAMES[:7], "fund")

    def who() -> str:
        return dice.choice(names)

    def one() -> tuple[Operation, list[str]]:
        first, second, third = who(), who(), who()
        asset = dice.choices((BOND, CASH, BOND_ACROSS, UNKNOWN_ASSET), weights=(10, 8, 4, 1))[0]
        issuer = "bank" if asset == CASH else "issuer"
        amount = dice.choices((1, 7, 90, 0, 2**63, 2**64 - 1), weights=(30, 20, 10, 1, 2, 2))[0]
        target = account(second) if dice.random() < 0.95 else STRANGER
        version = dice.choice((1, 2, 3))
        choices: list[tuple[Operation, list[str]]] = [
            (Transfer(account(first), target, asset, amount), [first]),
            (Lock(account(first), asset, amount, target), [first]),
            (Release(account(first), asset, amount, account(third)), [third]),
            (Issue(asset, target, amount), [issuer]),
            (Redeem(asset, account(first), amount), [first, issuer]),
            (Define(dice.choice((UNKNOWN_ASSET, BOND)), 0, 0, account("issuer"), "x"), ["csdc", "issuer"]),
            (Open(account(first), bytes([dice.randrange(3)]) * 16, Policy.of(key(third).public_key)), [first]),
            (SetPolicy(account(first), Policy.of(key(first).public_key, version=version)), [first]),
        ]
        return dice.choices(choices, weights=(40, 10, 10, 6, 3, 2, 2, 2))[0]

    steps = [one() for _ in range(dice.choice((1, 1, 1, 2, 4)))]
    signers = {name for _, needed in steps for name in needed}
    if "fund" in signers:
        signers = (signers - {"fund"}) | {"fund-1", "fund-2", "fund-3"}
    if dice.random() < 0.1:
        signers.discard(dice.choice(sorted(signers)))
    payer = dice.choice((*sorted(name for name in signers if name in names), "alice"))
    if dice.random() < 0.95:
        signers |= {"fund-1", "fund-2", "fund-3"} if payer == "fund" else {payer}
    edges = (-1, 0, 1, PARAMETERS.replay_window, PARAMETERS.replay_window + 1)
    valid_until = height + (dice.choice(edges) if dice.random() < 0.2 else 50)
    return signed(
        [operation for operation, _ in steps],
        *sorted(signers or {"dave"}),
        payer=payer,
        salt=dice.randrange(1_000_000),
        valid_until=max(valid_until, 0),
    )


def some_restrictions(version: core.Version, dice: random.Random) -> core.Version:
    """Flags on an account or an asset make the core hand over transactions that look plain."""
    name = dice.choice(NAMES[4:7])
    row = version.get(Table.ACCOUNTS, account(name))
    assert row is not None
    return altered(version, Table.ACCOUNTS, account(name), Account(Account.decode(row).policy, flags=1).encode())


@pytest.mark.parametrize("implementation", implementations(), ids=lambda module: module.__name__)
@pytest.mark.parametrize("seed", range(6))
def test_mixed_blocks_give_in_bulk_what_they_give_in_strict_order(implementation: ModuleType, seed: int) -> None:
    """Plain and other operations, failures, duplicates and restrictions, in several batches a block."""
    dice = random.Random(seed)
    market = founded(implementation)
    reference = founded(implementations()[0])
    sent: list[bytes] = []
    seen: set[Reason] = set()
    for round_number in range(4):
        if round_number == 2:
            market.version = some_restrictions(market.version, random.Random(seed))
            reference.version = some_restrictions(reference.version, random.Random(seed))
        batches = []
        for _ in range(3):
            items = [some_transaction(dice, market.height + 1) for _ in range(25)]
            items += dice.sample(sent, min(len(sent), 3))
            dice.shuffle(items)
            sent += items
            batches.append(items)
        outcome = market.outcome(batches)
        assert outcome.codes == (witness := reference.outcome(batches)).codes
        assert outcome.state_root == witness.state_root
        assert check_conservation(market.version) == []
        seen |= {receipt.reason for receipt in outcome.receipts()}
    assert {Reason.OK, Reason.DUPLICATE, Reason.UNAUTHORISED, Reason.INSUFFICIENT_FREE} <= seen


def test_flags_that_nobody_guards_change_the_way_and_not_the_outcome() -> None:
    """In one market every account and asset has a flag that means nothing, so that all of it goes through Python."""
    dice = random.Random(3)
    plain, flagged = founded(), founded()
    for table, kind in ((Table.ACCOUNTS, Account), (Table.ASSETS, Asset)):
        for row_key, row in list(rows(flagged.version, table)):
            flagged.alter(table, row_key, replace(kind.decode(row), flags=128).encode())
    for _ in range(3):
        # What opens accounts or defines assets would make some without the flag.
        items = [some_transaction(dice, plain.height + 1) for _ in range(60)]
        assert plain.outcome([items]).codes == flagged.outcome([items]).codes
        for table in (Table.HOLDINGS, Table.LOCKS, Table.REPLAY):
            assert plain.version.table_root(table) == flagged.version.table_root(table)


def test_the_rule_that_refuses_is_named_beside_the_receipt_and_remembered() -> None:
    """An offer whose expiry has passed, in the second batch of a block; its height has a time of one second."""
    market = founded()
    late = PlaceOffer(ALICE, bytes(16), BOND, 1, CASH, 1, 1, 5, b"")
    refused = signed(late, "alice", salt="late")
    batches = [[signed(PAY, "alice", salt=1), signed(PAY, "alice", salt=2)], [signed(PAY, "alice", salt=3), refused]]
    said = simulate(market.version, refused, height=2, time_ms=2_000, spec=SPEC)
    outcome = market.outcome(batches)
    assert [receipt.code for receipt in outcome.receipts()] == [0, 0, 0, Reason.LATE]
    assert dict(outcome.rules) == {3: "expiry of the offer"}
    assert dict(outcome.rules_of(2, 2)) == {1: "expiry of the offer"}
    assert dict(outcome.rules_of(0, 2)) == {}
    assert said.rule == "expiry of the offer"
    row = remembered(market.version, 50, SignedTransaction.decode(refused).id)
    assert row == ReplayRow(2, int(Reason.LATE), 0, "expiry of the offer")
    again = market.outcome([[refused]])
    assert (again.receipt(0).reason, dict(again.rules)) == (Reason.DUPLICATE, {})


def test_a_long_name_of_a_rule_is_cut_to_whole_characters_of_64_bytes() -> None:
    assert Refused(Reason.LATE, "x" * 64).rule == "x" * 64
    assert Refused(Reason.LATE, "x" * 63 + "\u00e9y").rule == "x" * 63
    assert Refused(Reason.LATE).rule == ""
    assert "order 1234" in str(Refused(Reason.LATE, "order 1234"))


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), later=st.integers(0, 60))
def test_simulate_gives_the_receipt_that_execution_gives(seed: int, later: int) -> None:
    """On the same version, height and block time, for any transaction, whatever came before."""
    dice = random.Random(seed)
    market = founded()
    market.block(*(some_transaction(dice, 2) for _ in range(15)))
    height = market.height + 1 + later
    for _ in range(8):
        data = some_transaction(dice, height)
        columns = batch([data])
        simulation = simulate(market.version, data, height=height, time_ms=9, spec=SPEC)
        outcome = execute_block(market.version, [columns], header=header(height, 9), spec=SPEC)
        assert simulation.receipt == outcome.receipt(0)
        assert (simulation.height, simulation.time_ms) == (height, 9)
        assert simulation.generation == market.version.generation
        assert simulation.state_root == market.version.root()
        decoded = SignedTransaction.decode(data)
        assert simulate(market.version, decoded, height=height, time_ms=9, spec=SPEC) == simulation


def test_simulate_writes_nothing_and_its_answer_may_be_asked_before_signing() -> None:
    market = founded()
    root = market.version.root()
    pay = signed(PAY, "alice")
    answer = simulate(market.version, pay, height=2, time_ms=0, spec=SPEC)
    assert answer.receipt == Receipt(SignedTransaction.decode(pay).id, 0, 0)
    assert market.version.root() == root
    assert market.version.count(Table.REPLAY) == founded().version.count(Table.REPLAY)
    forged = pay[:-64] + bytes(64)
    assert simulate(market.version, forged, height=2, time_ms=0, spec=SPEC).receipt == answer.receipt


def test_the_block_time_is_no_part_of_a_plain_rule() -> None:
    market = founded()
    columns = batch([signed(PAY, "alice")])
    roots = {
        execute_block(market.version, [columns], header=header(2, time_ms), spec=SPEC).state_root
        for time_ms in (0, 2**63)
    }
    assert len(roots) == 1


def test_the_state_and_receipts_of_a_fixed_block_are_pinned() -> None:
    """A change of these roots is a change of the protocol: every network's history would read differently."""
    market = founded()
    market.block(signed((PAY, Lock(ALICE, BOND, 5, BOB)), "alice"), signed(Release(ALICE, BOND, 9, BOB), "bob"))
    outcome = market.outcome([[signed(Redeem(BOND, BOB, 1), "bob", "issuer")]])
    assert genesis_state(genesis()).root().hex() == "67d5e948ff12e5ae2979bad63f8821e24bf76f299990374e7f1f0e1a4d32da03"
    assert outcome.state_root.hex() == "d67172190263f3e82898bf5ea4e680d69cca39b3593c0a3804b85303e131960d"
    assert outcome.receipts_root.hex() == "fd1fb2ffcffaa14502a9af206e636bc9c88521346594a2b6407c623a0b018f13"


def test_a_state_copied_from_one_core_into_the_other_has_the_same_root() -> None:
    version = founded().version
    for implementation in implementations():
        assert copy_into(implementation, version).root() == version.root()


def test_both_ways_of_execution_take_the_same_arguments() -> None:
    columns = batch([signed(PAY, "alice")])
    version = founded().version
    bulk = execute_block(version, [columns], header=header(2, 0), spec=SPEC)
    python = execute_block_in_python(version, [columns], header=header(2, 0), spec=SPEC)
    assert (bulk.ids, bulk.codes, bulk.state_root) == (python.ids, python.codes, python.state_root)
    assert list(bulk.receipts()) == list(python.receipts())
