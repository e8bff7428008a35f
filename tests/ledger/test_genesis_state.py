"""What stands in the books before the first block."""

from dataclasses import replace

import pytest

from p2pledger.ledger.genesis_state import genesis_state
from p2pledger.ledger.market.lookalikes import Lookalike, NameKind
from p2pledger.ledger.queries import (
    account_of,
    accounts_named,
    check_conservation,
    parameters_of,
    party_of,
    registers,
    validators_of,
)
from p2pledger.ledger.tables import Account, Party, Register, Table
from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import BadConfiguration
from p2pledger.primitives.genesis import Genesis, Money, Stake
from p2pledger.primitives.genesis import Register as GenesisRegister
from p2pledger.primitives.market.lookalikes import skeleton_key
from p2pledger.primitives.names import account_of_key, stake_id
from p2pledger.primitives.policies import Policy
from tests.ledger.small_market import PARAMETERS, account, genesis


def test_the_members_have_their_accounts_and_parties() -> None:
    version = genesis_state(genesis())
    for member in genesis().members:
        assert account_of(version, member.account) == Account(member.policy)
        assert party_of(version, member.account) == Party(member.name, member.roles)
        assert accounts_named(version, member.name) == (member.account,)
    assert version.count(Table.PARTIES) == len(genesis().members)
    seat = genesis().validators[0]
    assert account_of(version, account_of_key(seat.key)) == Account(Policy.of(seat.key))
    assert version.count(Table.ACCOUNTS) == len(genesis().members) + len(genesis().validators)


def test_the_names_of_members_are_taken_and_of_two_that_look_alike_the_first_is() -> None:
    founder = genesis()
    twin = replace(founder.members[0], name=founder.members[0].name.upper())
    version = genesis_state(replace(founder, members=(*founder.members, twin)))
    assert version.count(Table.LOOKALIKES) == len(founder.members)
    row = version.get(Table.LOOKALIKES, skeleton_key(NameKind.PARTY, twin.name))
    assert row is not None
    assert Lookalike.decode(row) == Lookalike(NameKind.PARTY, founder.members[0].name, founder.members[0].account)


def test_native_money_and_stakes_are_there() -> None:
    alice, bob, keys = account("alice"), account("bob"), (b"a" * 32, b"b" * 32)
    version = genesis_state(
        replace(
            genesis(),
            engine="pos",
            money=(Money(alice, 70), Money(bob, 5)),
            stakes=(Stake(alice, 10, keys[0]), Stake(bob, 20, keys[0]), Stake(bob, 40, keys[1])),
        )
    )
    assert version.get(Table.NATIVE, alice) == encode((1, 70))
    assert version.get(Table.STAKES, stake_id(bob, bytes(15) + b"\1")) == encode((1, bob, 20, 0, keys[0]))
    assert version.get(Table.STAKED, keys[0]) == encode((1, 30, 2))
    assert version.get(Table.ENGINE, bytes(8)) == encode((1, 145))
    assert (version.count(Table.NATIVE), version.count(Table.STAKES), version.count(Table.STAKED)) == (2, 3, 2)
    assert account_of(version, account_of_key(keys[1])) == Account(Policy.of(keys[1]))


def test_parameters_registers_and_validators_are_there() -> None:
    version = genesis_state(genesis())
    assert parameters_of(version) == PARAMETERS
    assert list(registers(version)) == [
        (b"BANK", Register(account("bank"), "cash at the bank")),
        (b"CCDC", Register(account("ccdc"), "the register of CCDC")),
        (b"CSDC", Register(account("csdc"), "the register of CSDC")),
    ]
    assert validators_of(version, 0) == genesis().validator_set
    assert validators_of(version, 1) is None


def test_there_are_no_assets_holdings_or_memories() -> None:
    version = genesis_state(genesis())
    for table in (Table.ASSETS, Table.HOLDINGS, Table.LOCKS, Table.REPLAY):
        assert version.count(table) == 0
    assert check_conservation(version) == []


def test_equal_geneses_give_equal_roots_and_others_do_not() -> None:
    root = genesis_state(genesis()).root()
    assert genesis_state(Genesis.decode(genesis().encode())).root() == root
    shuffled = replace(genesis(), members=genesis().members[::-1])
    assert genesis_state(shuffled).root() == root  # the same books, though another network
    assert genesis_state(replace(genesis(), members=genesis().members[1:], registers=())).root() != root


def test_a_genesis_that_contradicts_itself_founds_nothing() -> None:
    with pytest.raises(BadConfiguration):
        genesis_state(replace(genesis(), registers=(GenesisRegister("CSDC", "nobody", "x"),)))
