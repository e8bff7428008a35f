"""What networks of each engine and profile are made with: nobody is left without what the engine needs."""

import pytest

from p2pledger.cluster.consortium import Consortium
from p2pledger.cluster.development import block_ms, chosen, development_parameters, measured_difficulty, needed_weight
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.genesis import ENGINES, PROFILES, Genesis
from p2pledger.primitives.names import account_named, account_of_key
from p2pledger.primitives.parameters import Parameters


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_pair_of_engine_and_profile_makes_a_network(engine: str, profile: str) -> None:
    consortium = Consortium.make(4, seed=7, engine=engine, profile=profile)
    genesis = consortium.genesis
    assert (genesis.engine, genesis.profile) == (engine, profile)
    assert Genesis.decode(genesis.encode()).hash == genesis.hash
    assert Consortium.make(4, seed=7, engine=engine, profile=profile).genesis.hash == genesis.hash
    money = {entry.account for entry in genesis.money}
    members = {member.account for member in genesis.members}
    if profile == "public":
        assert genesis.parameters.least_fee == 1
        assert members | {account_of_key(seat.key) for seat in genesis.validators} == money
    else:
        assert genesis.parameters.least_fee == genesis.parameters.block_reward == 0
        assert money == (members if engine in ("pos", "dpos") else set())
    staked = {stake.key for stake in genesis.stakes}
    assert staked == ({seat.key for seat in genesis.validators} if engine in ("pos", "dpos") else set())


def test_under_dpos_members_delegate_in_turn() -> None:
    consortium = Consortium.make(4, seed=7, engine="dpos")
    validators = set(consortium.validators)
    voters = {stake.account for stake in consortium.genesis.stakes}
    assert voters == {account_named(name) for name in consortium.member_keys}
    by_delegate = [
        stake.key for stake in consortium.genesis.stakes if stake.account not in map(account_named, validators)
    ]
    assert max(map(by_delegate.count, by_delegate)) - min(map(by_delegate.count, by_delegate)) <= 1


def test_the_default_network_is_what_it_was() -> None:
    genesis = Consortium.make(4, seed=7).genesis
    assert (genesis.profile, genesis.engine, genesis.parameters) == ("consortium", "simplex", Parameters())
    assert genesis.money == genesis.stakes == ()


def test_a_profile_has_its_engine() -> None:
    assert chosen("", "") == ("consortium", "simplex")
    assert chosen("private", "") == ("private", "poa")
    assert chosen("public", "") == ("public", "pow")
    assert chosen("", "dpos") == ("consortium", "dpos")
    with pytest.raises(InvalidInput, match="profile 'club'"):
        chosen("club", "")
    with pytest.raises(InvalidInput, match="engine 'raft'"):
        chosen("", "raft")


def test_how_many_must_run() -> None:
    needed = {engine: needed_weight(Consortium.make(4, seed=7, engine=engine).genesis) for engine in ENGINES}
    assert needed == {"simplex": 3, "pow": 1, "pos": 1, "dpos": 3, "poa": 3}


def test_the_time_between_blocks() -> None:
    assert block_ms("pow", development_parameters("public", "pow", 4)) == 500
    assert block_ms("pos", development_parameters("public", "pos", 4)) == 400


def test_the_difficulty_is_that_of_this_machine() -> None:
    assert measured_difficulty(10) > 0
