"""A proof of finality from a real store, checked by the command as a stranger would: with the genesis hash alone."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from p2pledger import core
from p2pledger.cluster.consortium import load_genesis, load_node_key, node_directory
from p2pledger.cluster.local import Cluster
from p2pledger.ledger.finality import FinalityProof
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.records import BlockRecord, CertificateRecord
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from p2pledger.storage.store import Store
from p2pledger.storage.tables import CHAIN_FILE
from tests.cli.commands import Command


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of one validator that was opened, with an epoch for each height."""
    directory = tmp_path_factory.mktemp("made") / "cluster"

    async def make() -> None:
        cluster = Cluster(1, seed=7, directory=directory, parameters=Parameters(epoch_blocks=1))
        async with cluster, cluster.connect() as client:
            # One block defines, one issues, and an empty one bears the root; with it the network rests.
            while (await client.status()).final_height < 3:
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


def test_a_last_block_that_only_a_closing_block_proves_is_final(p2pledger: Command, made: Path, tmp_path: Path) -> None:
    """The votes for the block itself were lost; those for an empty block above it made it final."""
    cluster = tmp_path / "cluster"
    shutil.copytree(made, cluster)
    genesis = load_genesis(cluster)
    [seat] = genesis.validators
    folder, key = node_directory(cluster, seat.name), load_node_key(cluster, seat)

    def opened() -> Store:
        return Store.open(folder, network_id=genesis.network_id, node_key=seat.key, name="test", fresh=False)

    with opened() as store:
        stored = store.block_at(store.load().height)
    assert stored is not None
    tip = Block.decode(stored.data).header
    connection = sqlite3.connect(folder / CHAIN_FILE)
    with connection:
        connection.execute("DELETE FROM certificates WHERE block = ?", (tip.id,))
    connection.close()
    unproved = p2pledger("verify", "--directory", cluster)
    assert unproved.code == 1
    assert f"no certificate proves the final blocks from height {tip.height} to {tip.height}" in unproved.talk
    refused = p2pledger(
        "certificate", "--height", tip.height, "--out", tmp_path / "x", "--directory", cluster, "--json"
    )
    assert refused.values["code"] == "no_certificate"

    closing = Block(
        replace(tip, view=tip.view + 2, height=tip.height + 1, parent=tip.id, time_ms=tip.time_ms + 1,
                batches_root=core.merkle_root([])), ()
    )  # fmt: skip
    vote = Vote.make(genesis.network_id, tip.epoch, closing.header.view, VoteKind.FINALISE, closing.id, 0, key)
    signed = Certificate.of({0: vote})
    header = closing.header
    with opened() as store:
        store.commit(
            [
                BlockRecord(closing.id, header.height, header.view, header.parent, closing.encode()),
                CertificateRecord(int(signed.kind), signed.epoch, signed.view, signed.block, signed.encode()),
            ]
        )
    assert p2pledger("verify", "--directory", cluster).code == 0
    file = tmp_path / "tip.final"
    told = p2pledger("certificate", "--height", tip.height, "--out", file, "--directory", cluster, "--json").values
    assert (told["height"], told["certified_height"], told["certified_epoch"]) == (tip.height, header.height, tip.epoch)
    assert p2pledger("verify", "--certificate", file, "--directory", made).code == 0


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
