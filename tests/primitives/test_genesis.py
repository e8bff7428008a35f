"""The genesis: equal values name the same network, and contradictions are told before anybody starts a node."""

import hashlib
from dataclasses import replace

import pytest

from p2pledger.primitives.errors import BadConfiguration, PeerFault
from p2pledger.primitives.genesis import ENGINES, PROFILES, Genesis, Member, Money, Register, Stake, default_engine
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.names import account_named, account_of_key
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.validators import Validator
from tests.primitives import samples
from tests.primitives.samples import KEYS

GENESIS = samples.genesis()
ALICE, KEY = GENESIS.members[0].account, KEYS[0].public_key
PUBLIC = replace(
    GENESIS,
    profile="public",
    engine="pos",
    parameters=replace(GENESIS.parameters, least_fee=2, block_reward=50),
    money=(Money(ALICE, 500), Money(account_of_key(KEY), 7)),
    stakes=(Stake(ALICE, 100, KEY), Stake(ALICE, 100, KEYS[6].public_key)),
).check()


def test_a_genesis_reads_back_with_the_same_hash() -> None:
    again = Genesis.decode(GENESIS.encode())
    assert again == GENESIS
    assert again.hash == GENESIS.hash == hashlib.sha256(b"p2pl.ge1" + GENESIS.encode()).digest()
    assert again.network_id == GENESIS.hash[:8]


def test_the_order_in_which_validators_were_written_does_not_matter() -> None:
    assert replace(GENESIS, validators=GENESIS.validators[::-1]).hash == GENESIS.hash


def test_every_part_of_it_names_the_network() -> None:
    others = [
        replace(GENESIS, name="another"),
        replace(GENESIS, time_ms=1),
        replace(GENESIS, validators=GENESIS.validators[:3]),
        replace(GENESIS, members=GENESIS.members[:1]),
        replace(GENESIS, members=GENESIS.members[::-1]),
        replace(GENESIS, registers=()),
        replace(GENESIS, parameters=Parameters(replay_window=11)),
    ]
    assert len({genesis.hash for genesis in [GENESIS, *others]}) == len(others) + 1


def test_money_stakes_profile_and_engine_name_the_network_and_read_back() -> None:
    assert Genesis.decode(PUBLIC.encode()) == PUBLIC
    assert PUBLIC.issued == 707
    others = [
        replace(PUBLIC, money=PUBLIC.money[:1]),
        replace(PUBLIC, money=PUBLIC.money[::-1]),
        replace(PUBLIC, stakes=PUBLIC.stakes[:1]),
        replace(PUBLIC, engine="dpos"),
        replace(GENESIS, profile="private"),
    ]
    assert len({genesis.check().hash for genesis in [GENESIS, PUBLIC, *others]}) == len(others) + 2


def test_every_profile_has_its_engine() -> None:
    assert {profile: default_engine(profile) for profile in PROFILES} == {
        "public": "pow",
        "private": "poa",
        "consortium": "simplex",
    }
    assert {default_engine(profile) for profile in PROFILES} < set(ENGINES)
    with pytest.raises(BadConfiguration):
        default_engine("bazaar")


def test_the_genesis_block_carries_its_hash_and_validators() -> None:
    header = GENESIS.block.header
    assert (header.parent, header.network_id, header.time_ms) == (GENESIS.hash, GENESIS.network_id, GENESIS.time_ms)
    assert header.validators_hash == GENESIS.validator_set.hash
    assert header.parent_state_root == ZERO_HASH
    assert GENESIS.members[0].account == account_named("csdc")


def test_another_way_of_writing_the_same_genesis_is_refused() -> None:
    """Otherwise two files of one network would have two hashes."""
    first, second = (seat.key for seat in GENESIS.validator_set.members[:2])
    data = GENESIS.encode()
    at, then = data.index(first), data.index(second)
    swapped = bytearray(data)
    swapped[at : at + 32], swapped[then : then + 32] = second, first
    with pytest.raises(PeerFault):
        Genesis.decode(bytes(swapped))


CONTRADICTIONS = {
    "unknown profile": replace(GENESIS, profile="bazaar"),
    "unknown engine": replace(GENESIS, engine="dice"),
    "no validators": replace(GENESIS, validators=()),
    "a validator twice": replace(GENESIS, validators=(GENESIS.validators[0],) * 2),
    "a validator without weight": replace(GENESIS, validators=(Validator(KEYS[0].public_key, 0),)),
    "a member twice": replace(GENESIS, members=GENESIS.members + GENESIS.members),
    "an unknown role": replace(GENESIS, members=(Member("csdc", Policy.of(KEYS[0].public_key), ("king",)),)),
    "a register twice": replace(GENESIS, registers=GENESIS.registers * 2),
    "a register of nobody": replace(GENESIS, registers=(Register("CSDC", "nobody", "x"),)),
    "an impossible register code": replace(GENESIS, registers=(Register("csdc!", "csdc", "x"),)),
    "fees in a consortium": replace(GENESIS, parameters=replace(GENESIS.parameters, least_fee=1)),
    "rewards in private": replace(PUBLIC, profile="private", parameters=Parameters(block_reward=1)),
    "public without a fee": replace(PUBLIC, parameters=Parameters(block_reward=1)),
    "public without money": replace(PUBLIC, engine="pow", parameters=Parameters(least_fee=1), money=()),
    "pos without stakes": replace(PUBLIC, stakes=()),
    "dpos without stakes": replace(GENESIS, engine="dpos"),
    "money of nobody": replace(PUBLIC, money=(Money(account_named("nobody"), 1),)),
    "no money": replace(PUBLIC, money=(Money(ALICE, 0),)),
    "money twice": replace(PUBLIC, money=PUBLIC.money * 2),
    "too much money": replace(PUBLIC, money=(Money(ALICE, 2**64 - 100),)),
    "a stake of nobody": replace(PUBLIC, stakes=(Stake(account_named("nobody"), 1, KEY),)),
    "a stake behind no key": replace(PUBLIC, stakes=(Stake(ALICE, 1, b"short"),)),
    "limits that do not nest": replace(GENESIS, parameters=Parameters(max_transaction_bytes=2**20)),
}


@pytest.mark.parametrize("genesis", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions_are_told(genesis: Genesis) -> None:
    with pytest.raises(BadConfiguration):
        genesis.check()


def test_contradictions_are_told_when_it_is_read() -> None:
    for name in ("unknown profile", "an unknown role", "a register of nobody", "limits that do not nest"):
        with pytest.raises(BadConfiguration):
            Genesis.decode(CONTRADICTIONS[name].encode())
