"""A proof of finality from a real store, checked by the command as a stranger would: with the genesis hash alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from p2pledger.cluster.consortium import load_genesis
from p2pledger.cluster.local import Cluster
from p2pledger.ledger.finality import FinalityProof
from p2pledger.primitives.parameters import Parameters
from tests.cli.commands import Command


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of one validator that was opened, with an epoch for each height."""
    directory = tmp_path_factory.mktemp("made") / "cluster"

    async def make() -> None:
        async with Cluster(1, seed=7, directory=directory, parameters=Parameters(epoch_blocks=1)):
            pass

    trio.run(make)
    return directory


def test_each_block_can_be_proved_and_checked_far_from_any_node(p2pledger: Command, made: Path, tmp_path: Path) -> None:
    known = load_genesis(made).hash.hex()
    height = 1
    while True:
        file = tmp_path / f"{height}.final"
        done = p2pledger("certificate", "--height", height, "--out", file, "--directory", made, "--json")
        if done.code:
            break
        told = done.values
        assert (told["schema"], told["height"], told["epoch"]) == ("p2pledger.certificate/1", height, height - 1)
        found = p2pledger(
            "verify", "--certificate", file, "--genesis-hash", known, "--directory", tmp_path, "--json"
        ).values
        assert found["ok"] is True
        assert found["block"] == told["block"]
        assert found["signers"] == ["CCDC"]
        height += 1
    assert done.code == 2
    assert done.values["code"] == "unknown_height"
    assert height > 3, "several epochs, each with a turn"


def test_a_file_is_refused_with_its_reason(p2pledger: Command, made: Path, tmp_path: Path) -> None:
    file = tmp_path / "block.final"
    assert p2pledger("certificate", "--height", 3, "--out", file, "--directory", made).code == 0
    words = p2pledger("verify", "--certificate", file, "--directory", made)
    assert words.code == 0
    assert "as known here" in words.data
    alone = p2pledger("verify", "--certificate", file, "--directory", tmp_path)
    assert "compare it" in alone.data
    wrong = p2pledger("verify", "--certificate", file, "--genesis-hash", "0" * 64, "--json")
    assert (wrong.code, wrong.values["reason"]) == (1, "wrong_genesis")
    proof = FinalityProof.decode(file.read_bytes())
    file.write_bytes(replace(proof, turns=()).encode())
    cut = p2pledger("verify", "--certificate", file, "--directory", made, "--json")
    assert (cut.code, cut.values["ok"], cut.values["reason"]) == (1, False, "wrong_epoch")
    file.write_bytes(b"\x90")
    assert p2pledger("verify", "--certificate", file, "--json").values["reason"] == "malformed"
    assert p2pledger("verify", "--certificate", tmp_path / "nothing").code == 2
    assert p2pledger("verify", "--certificate", file, "--genesis-hash", "12").code == 2
