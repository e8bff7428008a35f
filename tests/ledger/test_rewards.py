"""What a block earns: the fees that were paid in it and what it brings into being, and not a unit more."""

from dataclasses import replace

import pytest

from p2pledger.ledger.queries import account_of, check_native, native_of
from p2pledger.ledger.tables import Account, Issued, Table, engine_key
from p2pledger.ledger.transition import reward_at
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.codec import U64_MAX
from p2pledger.primitives.names import account_of_key
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from tests.ledger.engines import Chain, network
from tests.ledger.small_market import account, altered, key

ALICE, BOB = account("alice"), account("bob")


def test_the_reward_is_halved_again_and_again() -> None:
    parameters = Parameters(block_reward=50, halving_blocks=10)
    assert [reward_at(height, parameters) for height in (1, 9, 10, 19, 20, 59, 60, 10**9)] == [
        50, 50, 25, 25, 12, 1, 0, 0
    ]  # fmt: skip
    assert reward_at(10**12, replace(parameters, halving_blocks=0)) == 50
    assert reward_at(1, Parameters()) == 0


def test_the_proposer_gets_the_fees_and_the_reward() -> None:
    chain = Chain(network("pow"))
    header = chain.header(producer=key("a new miner").public_key)
    transactions = [chain.signed(tx.Pay(ALICE, BOB, 5), "alice") for _ in range(3)]
    failed = chain.signed(tx.Pay(ALICE, BOB, 10**9), "alice")
    refused = chain.signed(tx.Pay(BOB, ALICE, 5), "alice")
    chain.outcome([*transactions, failed, refused], header)
    miner = account_of_key(header.proposer)
    assert native_of(chain.version, miner) == 4 * 2 + 1_000
    # Nobody had opened its account: it belongs to the key that mined.
    assert account_of(chain.version, miner) == Account(Policy.of(header.proposer))
    assert check_native(chain.version) == []
    assert chain.titles(chain.signed(tx.Pay(miner, BOB, 900), "a new miner", payer=miner)) == ["ok"]


def test_what_was_issued_is_counted_and_never_exceeds_64_bits() -> None:
    chain = Chain(network("pow", block_reward=2**62, halving_blocks=30))
    for _ in range(3):
        chain.run(1)
        assert check_native(chain.version) == []
    chain.run(5)
    assert chain.version.get(Table.ENGINE, engine_key(0)) == Issued(U64_MAX).encode()
    assert check_native(chain.version) == []
    before = native_of(chain.version, account_of_key(chain.last.proposer))
    chain.run(4)
    assert native_of(chain.version, account_of_key(chain.last.proposer)) == before


def test_an_account_with_flags_earns_all_the_same() -> None:
    chain = Chain(network("poa"))
    header = chain.header()
    miner = account_of_key(header.proposer)
    ordered = Account(Policy.of(header.proposer), flags=1)
    chain.version = altered(chain.version, Table.ACCOUNTS, miner, ordered.encode())
    chain.block(at=header)
    assert native_of(chain.version, miner) == 1_000
    assert account_of(chain.version, miner) == ordered


@pytest.mark.parametrize("engine", ["simplex", "poa"])
def test_a_consortium_earns_nothing_and_an_empty_block_changes_nothing(engine: str) -> None:
    chain = Chain(network(engine, "consortium"))
    root = chain.version.root()
    chain.run(3)
    assert chain.version.root() == root
