"""The directory of a node: what is written is read back, and what is wrong is named."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from p2pledger.primitives.errors import BadConfiguration
from p2pledger.server import (
    PeerAddress,
    ServerConfig,
    load_config,
    load_genesis,
    load_keypair,
    write_config,
    write_node_directory,
)
from tests.server.small_node import genesis_of, make_directory, node_key

PEER = PeerAddress(node_key(1).public_key.hex(), "127.0.0.1", 40_123)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    genesis = genesis_of(4)
    config = ServerConfig(tmp_path / "a", "CCDC", "127.0.0.1", 7_000, (PEER,), snapshot_every=50, log_level="debug")
    write_node_directory(config, genesis, node_key(0), never_voted=True)
    assert load_config(config.directory) == config
    seeking = replace(config, degree=4, seeds=(("seed.example.org", 4_000),))
    for one in (seeking, replace(seeking, seeds=())):
        write_config(one)
        assert load_config(config.directory) == one
    assert load_genesis(config.directory).hash == genesis.hash
    assert load_keypair(config.directory) == node_key(0)
    assert (config.directory / "never_voted").exists()
    assert config.peer_addresses == {node_key(1).public_key: ("127.0.0.1", 40_123)}


def test_only_the_declaration_makes_a_node_one_that_never_voted(tmp_path: Path) -> None:
    write_node_directory(ServerConfig(tmp_path / "a", "CCDC"), genesis_of(4), node_key(0), never_voted=False)
    assert not (tmp_path / "a" / "never_voted").exists()


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    config = make_directory(tmp_path, genesis_of(1), 0)
    path = config.directory / "node.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(BadConfiguration, match=r"can be read by others.*chmod 600"):
        load_keypair(config.directory)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}", "no seed of 32 bytes"),
        ('{"seed": "zz"}', "no seed of 32 bytes"),
        ('{"seed": "' + "00" * 32 + '", "public_key": "00"}', "public_key does not belong"),
        ("[]", "not a JSON object"),
        ("seed", "not JSON"),
    ],
)
def test_a_key_file_that_is_wrong_says_how(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "node.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(BadConfiguration, match=sentence):
        load_keypair(tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schema": "other"}, "not the configuration of a node"),
        ({"nane": "x"}, "setting 'nane' is unknown"),
        ({"listen_port": "7000"}, "'listen_port' must be int"),
        ({"listen_port": 70_000}, "listen_port must be 0 to 65535"),
        ({"listen_port": True}, "'listen_port' must be int"),
        ({"name": ""}, "name '' must have 1 to 64 bytes"),
        ({"log_level": "loud"}, "log_level 'loud' is not known"),
        ({"snapshot_every": 0}, "snapshot_every must be at least 1"),
        ({"peers": {"abc": ["127.0.0.1", 1]}}, "peer 'abc'"),
        ({"peers": {"00" * 32: ["127.0.0.1"]}}, "is not a key with"),
        ({"peers": {"00" * 32: ["127.0.0.1", 0]}}, "is not a key with"),
        ({"seeds": [["seed.example.org", 4000]]}, "seeds need a degree"),
        ({"degree": 4, "seeds": ["seed.example.org:4000"]}, "is not .host, port."),
        ({"degree": 4, "seeds": [["seed.example.org", 70_000]]}, "is not .host, port."),
    ],
)
def test_a_configuration_that_is_wrong_says_how(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    config = make_directory(tmp_path, genesis_of(1), 0)
    path = config.directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(BadConfiguration, match=sentence):
        load_config(config.directory)


def test_what_makes_no_sense_is_not_written(tmp_path: Path) -> None:
    config = make_directory(tmp_path, genesis_of(1), 0)
    before = (config.directory / "config.json").read_bytes()
    with pytest.raises(BadConfiguration):
        write_config(replace(config, snapshot_every=0))
    assert (config.directory / "config.json").read_bytes() == before


@pytest.mark.parametrize("file", ["config.json", "genesis.bin", "node.key"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    config = make_directory(tmp_path, genesis_of(1), 0)
    os.unlink(config.directory / file)
    load = {"config.json": load_config, "genesis.bin": load_genesis, "node.key": load_keypair}[file]
    with pytest.raises(BadConfiguration, match=file):
        load(config.directory)


def test_a_damaged_genesis_is_named(tmp_path: Path) -> None:
    config = make_directory(tmp_path, genesis_of(1), 0)
    (config.directory / "genesis.bin").write_bytes(b"\x93")
    with pytest.raises(BadConfiguration, match="the genesis is damaged"):
        load_genesis(config.directory)
