"""The offline check against somebody who can write anything into a store, checksums included.

A checksum finds a failing disk. Whoever changes a row and its checksum is found by signatures, hashes, certificates
and by executing everything again.
"""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from p2pledger.cli.audit import Audit, audit_store
from p2pledger.cluster.consortium import load_genesis, node_directory
from p2pledger.cluster.local import Cluster
from p2pledger.primitives.errors import P2PLedgerError
from p2pledger.storage.tables import BATCHES, BLOCKS, CERTIFICATES, CHAIN_FILE, RECEIPTS, Column, Table


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of one validator that was opened: some blocks, with transactions and certificates."""
    directory = tmp_path_factory.mktemp("made")

    async def make() -> None:
        async with Cluster(1, seed=7, directory=directory):
            pass

    trio.run(make)
    return directory


@pytest.fixture
def cluster(made: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def audited(cluster: Path) -> Audit:
    genesis = load_genesis(cluster)
    [seat] = genesis.validators
    try:
        return audit_store(genesis, node_directory(cluster, seat.name), node_key=seat.key, name=seat.name)
    except P2PLedgerError as error:  # found before the walk began
        return Audit(seat.name, 0, 0, "", (str(error),))


Change = Callable[[list[Column]], None]


def rewrite(cluster: Path, table: Table, change: Change) -> None:
    """Changes every row of a table, and puts the right checksum beneath each."""
    connection = sqlite3.connect(node_directory(cluster, "CCDC") / CHAIN_FILE)
    with connection:
        for row in connection.execute(table.select).fetchall():
            key = " AND ".join(f"{column} = ?" for column in table.columns[: table.key_width])
            connection.execute(f"DELETE FROM {table.name} WHERE {key}", row[: table.key_width])
            columns = list(row[:-1])
            change(columns)
            connection.execute(table.replace, table.seal(*columns))
    connection.close()


def test_an_untouched_store_is_sound(cluster: Path) -> None:
    audit = audited(cluster)
    assert audit.findings == ()
    assert audit.height >= 2
    assert audit.transactions > 3
    assert len(audit.block_ids) == audit.height


def flip(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def test_a_changed_transaction_is_found_by_its_signature(cluster: Path) -> None:
    def change(row: list[Column]) -> None:
        row[-1] = flip(row[-1], len(row[-1]) // 2)

    rewrite(cluster, BATCHES, change)
    [finding] = audited(cluster).findings
    assert "at height 1" in finding
    assert "is not valid" in finding or "another one" in finding


def test_a_changed_outcome_is_found_by_executing_again(cluster: Path) -> None:
    def change(row: list[Column]) -> None:
        row[-1] = flip(row[-1], 1) if row[-1] else row[-1]

    rewrite(cluster, RECEIPTS, change)
    [finding] = audited(cluster).findings
    assert "receipts" in finding


def test_a_changed_header_is_found(cluster: Path) -> None:
    def change(row: list[Column]) -> None:
        row[-1] = flip(row[-1], 40)

    rewrite(cluster, BLOCKS, change)
    assert any("block" in finding for finding in audited(cluster).findings)


def test_a_forged_certificate_is_found(cluster: Path) -> None:
    def change(row: list[Column]) -> None:
        row[-1] = flip(row[-1], len(row[-1]) - 1)

    rewrite(cluster, CERTIFICATES, change)
    assert any("not signed by a quorum" in finding for finding in audited(cluster).findings)


def test_blocks_without_a_certificate_are_not_believed(cluster: Path) -> None:
    connection = sqlite3.connect(node_directory(cluster, "CCDC") / CHAIN_FILE)
    with connection:
        connection.execute("DELETE FROM certificates")
    connection.close()
    assert any("certif" in finding for finding in audited(cluster).findings)


def test_another_genesis_does_not_believe_this_store(cluster: Path, tmp_path: Path) -> None:
    async def make() -> None:
        async with Cluster(1, seed=8, directory=tmp_path / "other", opening=False):
            pass

    trio.run(make)
    shutil.copy(tmp_path / "other" / "genesis.bin", cluster / "genesis.bin")
    [finding] = audited(cluster).findings
    assert "another network" in finding or "belongs" in finding
