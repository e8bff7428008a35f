"""Native money: paid, staked, taken back, and charged for everything that is done."""

import pytest

from p2pledger.ledger.queries import check_native, native_of, stakes_owned_by
from p2pledger.ledger.tables import Account, Stake, Staked, Table
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.names import stake_id
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.reasons import WHOLE_TRANSACTION, Reason
from p2pledger.primitives.transactions import Operation
from tests.ledger.engines import PRODUCERS, Chain, network
from tests.ledger.small_market import BOND, STRANGER, account, altered, key

ALICE, BOB, CAROL = account("alice"), account("bob"), account("carol")
NODE, OTHER = key(PRODUCERS[0]).public_key, key(PRODUCERS[1]).public_key
SALT = b"s" * 16
FEE = 2


def test_money_is_paid_and_every_operation_charged() -> None:
    chain = Chain(network("pow"))
    assert chain.titles(chain.signed((tx.Pay(ALICE, CAROL, 70), tx.Pay(CAROL, BOB, 20)), "alice", "carol")) == ["ok"]
    assert native_of(chain.version, ALICE) == 100_000 - 70 - 2 * FEE
    assert native_of(chain.version, CAROL) == 50
    assert native_of(chain.version, BOB) == 100_020
    assert check_native(chain.version) == []


def test_an_account_may_pay_with_what_it_receives_but_not_the_fee() -> None:
    """The fee is due before the operations; so no fee can be promised that only the transaction itself brings in."""
    chain = Chain(network("pow"))
    poor = chain.signed((tx.Pay(ALICE, CAROL, 70), tx.Pay(CAROL, BOB, 20)), "carol", "alice", payer=CAROL)
    [receipt] = chain.block(poor)
    assert (receipt.reason, receipt.operation) == (Reason.CANNOT_PAY_FEE, WHOLE_TRANSACTION)
    assert chain.version.count(Table.REPLAY) == 0


def test_a_failed_transaction_costs_its_fee_and_nothing_else() -> None:
    chain = Chain(network("pow"))
    assert chain.titles(chain.signed((tx.Pay(ALICE, BOB, 5), tx.Pay(ALICE, BOB, 10**9)), "alice")) == [
        "insufficient_native"
    ]
    assert native_of(chain.version, ALICE) == 100_000 - 2 * FEE
    assert native_of(chain.version, BOB) == 100_000


def test_all_that_one_has_can_be_spent_and_leaves_no_row() -> None:
    chain = Chain(network("pow"))
    assert chain.titles(chain.signed(tx.Pay(ALICE, BOB, 100_000 - FEE), "alice")) == ["ok"]
    assert chain.version.get(Table.NATIVE, ALICE) is None


@pytest.mark.parametrize("engine", ["pos", "dpos"])
def test_a_stake_is_made_and_taken_back_whole(engine: str) -> None:
    chain = Chain(network(engine))
    before = Staked.decode(chain.version.get(Table.STAKED, NODE) or b"")
    assert chain.titles(chain.signed(tx.Stake(ALICE, 500, SALT, NODE), "alice")) == ["ok"]
    name = stake_id(ALICE, SALT)
    assert dict(stakes_owned_by(chain.version, ALICE))[name] == Stake(ALICE, 500, chain.height, NODE)
    assert chain.version.get(Table.STAKED, NODE) == Staked(before.amount + 500, before.rows + 1).encode()
    assert native_of(chain.version, ALICE) == 99_500 - FEE
    assert check_native(chain.version) == []
    assert chain.titles(chain.signed(tx.Unstake(ALICE, name), "alice")) == ["ok"]
    assert chain.version.get(Table.STAKES, name) is None
    assert chain.version.get(Table.STAKED, NODE) == before.encode()
    assert native_of(chain.version, ALICE) == 100_000 - 2 * FEE


def test_the_last_stake_behind_a_key_leaves_no_row() -> None:
    chain = Chain(network("dpos"))
    candidate = key("candidate").public_key
    assert chain.titles(chain.signed(tx.Stake(ALICE, 5, SALT, candidate), "alice")) == ["ok"]
    assert chain.titles(chain.signed(tx.Unstake(ALICE, stake_id(ALICE, SALT)), "alice")) == ["ok"]
    assert chain.version.get(Table.STAKED, candidate) is None


def test_securities_never_touch_a_stake() -> None:
    """Trades, locks and even a restriction of its owner's account leave amount and age of a stake as they were."""
    chain = Chain(network("pos"))
    assert chain.titles(
        chain.signed(tx.Define(BOND, 0, 0, account("issuer"), "Bond"), "csdc", "issuer"),
        chain.signed(tx.Stake(ALICE, 500, SALT, key("nobody's node").public_key), "alice"),
    ) == ["ok", "ok"]
    stakes = chain.version.get(Table.STAKES, stake_id(ALICE, SALT))
    assert (
        chain.titles(
            chain.signed(tx.Issue(BOND, ALICE, 50), "issuer"),
            chain.signed(tx.Transfer(ALICE, BOB, BOND, 10), "alice"),
            chain.signed(tx.Lock(ALICE, BOND, 40, BOB), "alice"),
            chain.signed(tx.Release(ALICE, BOND, 3, BOB), "bob"),
        )
        == ["ok"] * 4
    )
    ordered = Account(Policy.of(key("alice").public_key), flags=1)
    chain.version = altered(chain.version, Table.ACCOUNTS, ALICE, ordered.encode())
    chain.run(5)
    assert chain.version.get(Table.STAKES, stake_id(ALICE, SALT)) == stakes
    assert chain.titles(chain.signed(tx.Unstake(ALICE, stake_id(ALICE, SALT)), "bob", "alice")) == ["ok"]


TWICE = (tx.Stake(ALICE, 5, SALT, NODE), tx.Stake(ALICE, 6, SALT, OTHER))
REFUSED: dict[str, tuple[str, Operation | tuple[Operation, ...], Reason, int]] = {
    "pay nothing": ("pow", tx.Pay(ALICE, ALICE, 0), Reason.ZERO_AMOUNT, 0),
    "pay oneself": ("pow", tx.Pay(ALICE, ALICE, 10**9), Reason.SAME_ACCOUNT, 0),
    "pay nobody": ("pow", tx.Pay(ALICE, STRANGER, 10**9), Reason.UNKNOWN_ACCOUNT, 0),
    "pay too much": ("pow", tx.Pay(ALICE, BOB, 100_000 - FEE + 1), Reason.INSUFFICIENT_NATIVE, 0),
    "pay another's": ("pow", tx.Pay(BOB, ALICE, 1), Reason.UNAUTHORISED, 0),
    "stake under pow": ("pow", tx.Stake(ALICE, 0, SALT, NODE), Reason.WRONG_ENGINE, 0),
    "stake under simplex": ("simplex", tx.Stake(ALICE, 1, SALT, NODE), Reason.WRONG_ENGINE, 0),
    "stake under poa": ("poa", tx.Stake(ALICE, 1, SALT, NODE), Reason.WRONG_ENGINE, 0),
    "stake nothing": ("pos", tx.Stake(ALICE, 0, SALT, NODE), Reason.ZERO_AMOUNT, 0),
    "stake twice": ("pos", TWICE, Reason.STAKE_EXISTS, 1),
    "stake too much": ("dpos", tx.Stake(ALICE, 100_000, SALT, NODE), Reason.INSUFFICIENT_NATIVE, 0),
    "stake another's": ("dpos", tx.Stake(BOB, 1, SALT, NODE), Reason.UNAUTHORISED, 0),
    "unstake nothing": ("pos", tx.Unstake(ALICE, bytes(32)), Reason.UNKNOWN_STAKE, 0),
    "unstake another's": ("pos", tx.Unstake(ALICE, stake_id(BOB, bytes(16))), Reason.UNKNOWN_STAKE, 0),
    "unstake twice": ("pos", (*TWICE[:1], *(tx.Unstake(ALICE, stake_id(ALICE, SALT)),) * 2), Reason.UNKNOWN_STAKE, 2),
    "unstake without signature": ("pos", tx.Unstake(BOB, stake_id(BOB, bytes(16))), Reason.UNAUTHORISED, 0),
    "finality of no asset": ("pow", tx.SetFinality(BOND, 1), Reason.UNKNOWN_ASSET, 0),
}


@pytest.mark.parametrize(("engine", "operations", "reason", "at"), REFUSED.values(), ids=REFUSED)
def test_each_rule_refuses_with_its_reason(
    engine: str, operations: Operation | tuple[Operation, ...], reason: Reason, at: int
) -> None:
    chain = Chain(network(engine))
    stakes = chain.version.table_root(Table.STAKED)
    [receipt] = chain.block(chain.signed(operations, "alice"))
    assert (receipt.reason, receipt.operation) == (reason, at)
    assert chain.version.table_root(Table.STAKED) == stakes
    assert check_native(chain.version) == []


def test_the_issuer_says_when_holders_may_rely_on_a_block() -> None:
    chain = Chain(network("pow"))
    assert chain.titles(chain.signed(tx.Define(BOND, 0, 0, account("issuer"), "Bond"), "csdc", "issuer")) == ["ok"]
    assert chain.titles(chain.signed(tx.SetFinality(BOND, 6), "issuer")) == ["ok"]
    assert chain.version.get(Table.FINALITY, BOND) == b"\x92\x01\x06"
    assert chain.titles(chain.signed(tx.SetFinality(BOND, 1), "alice")) == ["unauthorised"]
    assert chain.titles(chain.signed(tx.SetFinality(BOND, 0), "issuer")) == ["ok"]
    assert chain.version.count(Table.FINALITY) == 0


def test_a_free_network_stakes_without_fees() -> None:
    """Delegated stake in a consortium: no fee, no reward, and the stakes of the genesis to vote with."""
    chain = Chain(network("dpos", "consortium"))
    own = [name for name, stake in stakes_owned_by(chain.version, ALICE)]
    assert chain.titles(chain.signed(tx.Unstake(ALICE, own[0]), "alice", max_fee=0)) == ["ok"]
    amount = native_of(chain.version, ALICE)
    assert chain.titles(chain.signed(tx.Stake(ALICE, amount, SALT, NODE), "alice", max_fee=0)) == ["ok"]
    assert (chain.version.count(Table.NATIVE), check_native(chain.version)) == (0, [])
