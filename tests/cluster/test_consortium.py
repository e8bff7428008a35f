"""Genesis and keys of a consortium on this machine."""

import json
import stat
from pathlib import Path

import pytest

from p2pledger.cluster.consortium import (
    Consortium,
    MemberPlan,
    load_genesis,
    load_node_key,
    suggestion,
    validator_names,
)
from p2pledger.cluster.keyfiles import KeyFile, development_keypair
from p2pledger.primitives.errors import BadConfiguration, InvalidInput


def test_the_default_is_the_joint_bond_ledger() -> None:
    consortium = Consortium.make(seed=7)
    assert consortium.validators == ("CCDC", "CSDC", "VENUE-A", "VENUE-B")
    roles = {member.name: member.roles for member in consortium.genesis.members}
    assert roles["CCDC"] == roles["CSDC"] == ("depository",)
    assert roles["ICBC"] == ("bank",)
    assert roles["VENUE-B"] == ("venue",)
    assert roles["broker-1"] == ("broker",)
    assert {register.code for register in consortium.genesis.registers} == {"CCDC", "CSDC", "ICBC"}


def test_equal_seeds_give_equal_networks_and_others_give_others() -> None:
    assert Consortium.make(seed=7).genesis.hash == Consortium.make(seed=7).genesis.hash
    assert Consortium.make(seed=7).genesis.hash != Consortium.make(seed=8).genesis.hash
    assert Consortium.make().genesis.hash != Consortium.make().genesis.hash


def test_a_node_key_is_not_the_business_key() -> None:
    consortium = Consortium.make(seed=7)
    assert not set(consortium.node_keys.values()) & set(consortium.member_keys.values())


@pytest.mark.parametrize("count", [1, 2, 4, 7, 28, 40])
def test_any_number_of_validators_has_names(count: int) -> None:
    names = validator_names(count)
    assert len(set(names)) == len(names) == count
    assert Consortium.make(count, seed=1).genesis.validator_set.total_weight == count


@pytest.mark.parametrize("count", [0, 41])
def test_too_few_and_too_many_validators_are_refused(count: int) -> None:
    with pytest.raises(InvalidInput, match="validators"):
        validator_names(count)


def test_a_member_may_keep_a_register_of_its_own() -> None:
    plans = [MemberPlan("PBOC", ("central_bank",), "PBOC"), MemberPlan("MOF", ("issuer",))]
    registers = Consortium.make(1, seed=1, brokers=0, members=plans).genesis.registers
    assert [(register.code, register.depository) for register in registers] == [
        ("CCDC", "CCDC"), ("CSDC", "CSDC"), ("ICBC", "ICBC"), ("PBOC", "PBOC"),
    ]  # fmt: skip
    with pytest.raises(BadConfiguration):
        Consortium.make(1, seed=1, members=[MemberPlan("PBOC", ("central_bank",), "CSDC")])


def test_members_can_be_added() -> None:
    consortium = Consortium.make(2, seed=1, brokers=0, members=[MemberPlan("regulator", ("regulator",))])
    assert consortium.account("regulator") in {member.account for member in consortium.genesis.members}


def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    made = Consortium.make(seed=3)
    made.save(tmp_path)
    read = Consortium.load(tmp_path, seed=3)
    assert read.genesis.hash == made.genesis.hash
    assert (read.node_keys, read.member_keys) == (made.node_keys, made.member_keys)
    assert read.validators == made.validators
    assert load_genesis(tmp_path).hash == made.genesis.hash


def test_secret_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    Consortium.make(seed=3).save(tmp_path)
    for path in [*tmp_path.glob("keys/*.json"), *tmp_path.glob("nodes/*/node.key")]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_directory_without_a_cluster_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration) as caught:
        Consortium.load(tmp_path)
    assert caught.value.code == "no_cluster"
    assert str(tmp_path) in str(caught.value)


def test_a_node_key_that_is_not_in_the_genesis_is_refused(tmp_path: Path) -> None:
    Consortium.make(seed=3).save(tmp_path)
    path = tmp_path / "nodes" / "CSDC" / "node.key"
    other = development_keypair(9, "node", "CSDC")
    path.write_text(json.dumps({"public_key": other.public_key.hex(), "seed": other.seed.hex()}))
    read = Consortium.load(tmp_path)
    assert set(read.node_keys) == {"CCDC", "VENUE-A", "VENUE-B"}
    assert set(read.validators) == {"CCDC", "CSDC", "VENUE-A", "VENUE-B"}
    csdc = next(seat for seat in read.genesis.validators if seat.name == "CSDC")
    with pytest.raises(BadConfiguration, match="node key of CSDC"):
        load_node_key(tmp_path, csdc)


def test_a_damaged_genesis_is_refused(tmp_path: Path) -> None:
    Consortium.make(seed=3).save(tmp_path)
    data = bytearray((tmp_path / "genesis.bin").read_bytes())
    (tmp_path / "genesis.bin").write_bytes(data[:-1])
    with pytest.raises(BadConfiguration, match="genesis"):
        load_genesis(tmp_path)


def test_an_unknown_member_comes_with_a_suggestion() -> None:
    consortium = Consortium.make(seed=3)
    with pytest.raises(InvalidInput) as caught:
        consortium.account("Broker1")
    assert caught.value.code == "unknown_member"
    assert caught.value.hint == "Did you mean broker-1?"
    assert suggestion("zzz", ["a", "b"]) == "Known: a, b"
    assert suggestion("zzz", []) == ""


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "alice.json"
    KeyFile("alice", development_keypair(1, "member", "alice")).save(path)
    with pytest.raises(InvalidInput, match="exists"):
        KeyFile("alice", development_keypair(2, "member", "alice")).save(path)
    assert KeyFile.load(path).keypair == development_keypair(1, "member", "alice")


@pytest.mark.parametrize(
    "change", [{"schema": "other/1"}, {"secret_seed": "00"}, {"secret_seed": "zz"}, {"public_key": "00" * 32}]
)
def test_a_bad_key_file_is_refused(tmp_path: Path, change: dict[str, str]) -> None:
    path = tmp_path / "alice.json"
    KeyFile("alice", development_keypair(1, "member", "alice")).save(path)
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, **change}))
    with pytest.raises(BadConfiguration):
        KeyFile.load(path)


@pytest.mark.parametrize(("text", "why"), [("{}", "'schema' is missing"), ("[]", "not made of texts"), ("x", "line 1")])
def test_what_is_no_key_file_says_why(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "alice.json"
    path.write_text(text)
    with pytest.raises(BadConfiguration) as caught:
        KeyFile.load(path)
    assert why in caught.value.why


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration) as caught:
        KeyFile.load(tmp_path / "bob.json")
    assert "bob.json" in str(caught.value)


def test_a_key_file_does_not_show_its_secret() -> None:
    keypair = development_keypair(1, "member", "alice")
    assert keypair.seed.hex() not in repr(KeyFile("alice", keypair))
    assert keypair.seed.hex() not in repr(Consortium.make(seed=1))
