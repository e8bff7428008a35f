"""`p2pledger cluster` and everything that needs a running one, on one cluster that is left in the background."""

import os
import select
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from p2pledger.cluster.directory import ClusterState
from p2pledger.storage.tables import CHAIN_FILE
from tests.cli.commands import Command, environment

SHARE = "CNE100000007@CSDC"


def test_a_cluster_in_the_background_from_its_start_to_its_verification(p2pledger: Command, tmp_path: Path) -> None:
    directory = tmp_path / "a directory with a name so long that no socket path could hold it" / ("x" * 60)
    place = ("--directory", directory)

    # Nothing is there yet, and every command says so.
    for command in (("cluster", "ps"), ("holdings", "broker-1"), ("verify",), ("cluster", "down")):
        nothing = p2pledger(*command, *place)
        assert (nothing.code, nothing.data) == (3, "")
        assert "no cluster here" in nothing.talk

    up = p2pledger("cluster", "up", "--detach", "--seed", 7, "--json", *place)
    assert up.code == 0, up.talk
    assert "DEV KEYS" in up.talk
    assert up.values["schema"] == "p2pledger.cluster.ps/1"
    try:
        assert [(node["state"], node["votes"]) for node in up.values["nodes"]] == [("running", True)] * 4
        assert all(node["port"] > 0 for node in up.values["nodes"])

        twice = p2pledger("cluster", "up", "--detach", *place)
        assert twice.code == 2
        assert "in use by a running cluster" in twice.talk
        assert str(directory) in twice.talk

        # A trade, as people make it.
        first = p2pledger("tx", "transfer", "broker-1", "broker-2", SHARE, 100, "--json", *place)
        assert first.values["reason"] == "ok"
        look = ("tx", "show", first.values["id"], "--valid-until")
        shown = p2pledger(*look, first.values["valid_until"], "--json", *place)
        assert (shown.code, shown.values["found"], shown.values["reason"]) == (0, True, "ok")
        assert shown.values["height"] == first.values["height"]
        assert "final at height" in p2pledger(*look, first.values["valid_until"], *place).data
        unknown = p2pledger(*look, first.values["valid_until"] + 1, *place)
        assert (unknown.code, unknown.data.startswith("not found")) == (1, True)
        trade = p2pledger("tx", "trade", "broker-2", "broker-3", SHARE, 50, "CNY@ICBC", "1,050.25", *place)
        assert trade.code == 0, trade.talk
        assert "final at height" in trade.data
        for member, units in (("broker-1", 999_900), ("broker-2", 1_000_050), ("broker-3", 1_000_050)):
            lines = p2pledger("holdings", member, "--json", *place).values["holdings"]
            assert {line["asset"]: line["free"] for line in lines}[SHARE] == units
        assert "9,998,949.75" in p2pledger("holdings", "broker-3", *place).data

        # What cannot be, and why.
        poor = p2pledger("tx", "transfer", "broker-1", "broker-2", SHARE, 10**9, *place)
        assert poor.code == 1
        assert "insufficient_free" in poor.data
        asked = p2pledger("tx", "transfer", "broker-1", "broker-2", SHARE, 10**9, "--simulate", "--json", *place)
        assert (asked.code, asked.values["simulated"], asked.values["reason"]) == (1, True, "insufficient_free")
        for arguments, hint in (
            (("tx", "transfer", "brokr-1", "broker-2", SHARE, 1), "Did you mean broker-1?"),
            (("tx", "transfer", "broker-1", "broker-2", "CNE100000008@CSDC", 1), f"Did you mean {SHARE}?"),
            (("tx", "transfer", "broker-1", "broker-2", SHARE, "1.5"), "0 decimals"),
            (("tx", "transfer", "broker-1", "broker-2", SHARE, "many"), "not an amount"),
            (("holdings", "broker-1", "--node", "VENUE-Z"), "Did you mean VENUE-"),
            (("cluster", "kill", "VENUEA"), "Did you mean VENUE-A?"),
            (("cluster", "logs", "VENUEA"), "Did you mean VENUE-A?"),
            (("block", "show", 9_999), "not final here"),
        ):
            wrong = p2pledger(*arguments, *place)
            assert wrong.code == 2
            assert hint in wrong.talk

        # The block of the first transfer, as a table of trades.
        height = first.values["height"]
        block = p2pledger("block", "show", height, "--json", *place).values
        [row] = block["operations"]
        assert (row["what"], row["from"], row["to"], row["asset"]) == ("transfer", "broker-1", "broker-2", SHARE)
        assert (row["amount"], row["outcome"]) == ("100", "ok")
        parent = p2pledger("block", "show", height - 1, "--json", *place).values
        assert (block["parent"], block["after_ms"]) == (parent["id"], parent["time_ms"])
        assert "broker-1" in p2pledger("block", "show", height, *place).data
        assert p2pledger("block", "show", 0, "--json", *place).values["operations"] == []

        # One node dies and comes back.
        assert "killed" in p2pledger("cluster", "kill", "VENUE-A", *place).data
        gone = p2pledger("holdings", "broker-1", "--node", "VENUE-A", *place)
        assert gone.code == 4
        assert "not running" in gone.talk
        assert p2pledger("tx", "transfer", "broker-1", "broker-2", SHARE, 1, *place).code == 0
        assert p2pledger("cluster", "restart", "VENUE-A", *place).code == 0
        nodes = p2pledger("cluster", "ps", "--json", *place).values["nodes"]
        assert len({node["height"] for node in nodes}) == 1
        log = p2pledger("cluster", "logs", "VENUE-A", "--lines", 3, "--json", *place).values
        assert len(log["lines"]) == 3

        busy = p2pledger("verify", *place)
        assert busy.code == 2
        assert "in use by" in busy.talk
        assert "p2pledger cluster down" in busy.talk
    finally:
        down = p2pledger("cluster", "down", *place)
    assert down.code == 0
    assert "VENUE-A" in down.talk
    assert p2pledger("holdings", "broker-1", *place).code == 4

    # Everything is checked again offline; then one byte of one block is changed, and found.
    sound = p2pledger("verify", "--json", *place).values
    assert sound["ok"]
    assert len({node["state_root"] for node in sound["nodes"]}) == 1
    assert {node["height"] for node in sound["nodes"]} == {nodes[0]["height"]}
    change_one_byte(directory / "nodes" / "CSDC" / CHAIN_FILE, block["id"])
    damaged = p2pledger("verify", *place)
    assert damaged.code == 1
    assert block["id"] in damaged.talk
    assert f"at height {height}" in damaged.talk
    assert "CSDC" in damaged.talk
    assert p2pledger("verify", "CCDC", *place).code == 0

    assert p2pledger("cluster", "down", "--purge", *place).code == 0
    assert not directory.exists()


def test_nodes_that_failed_or_do_not_vote_are_named(p2pledger: Command, tmp_path: Path) -> None:
    directory = tmp_path / "cluster"
    place = ("--directory", directory)
    assert p2pledger("cluster", "up", "--detach", "--seed", 7, *place).code == 0
    assert p2pledger("cluster", "down", *place).code == 0
    (directory / "nodes" / "VENUE-B" / CHAIN_FILE).write_bytes(b"this is no database" * 1_000)
    for file in (directory / "nodes" / "VENUE-A").glob("votes.db*"):
        file.unlink()
    try:
        up = p2pledger("cluster", "up", "--detach", *place)
        assert up.code == 0, up.talk
        for told in (up, p2pledger("cluster", "ps", *place)):
            assert "VENUE-A does not vote" in told.talk
            assert "VENUE-B failed" in told.talk
            assert "chain.db is damaged" in told.talk
            assert "2 of 4 nodes are ready and vote: fewer than a quorum" in told.talk
        nodes = p2pledger("cluster", "ps", "--json", *place).values["nodes"]
        assert [(node["state"], node["votes"]) for node in nodes[2:]] == [("running", False), ("failed", None)]
        assert "chain.db is damaged" in nodes[3]["failure"]
    finally:
        assert p2pledger("cluster", "down", *place).code == 0
    (directory / "nodes" / "VENUE-B" / CHAIN_FILE).unlink()
    (directory / "nodes" / "VENUE-B" / CHAIN_FILE).mkdir()
    refused = p2pledger("verify", "VENUE-B", "--json", *place)
    assert (refused.code, refused.values["nodes"][0]["verdict"]) == (1, "unreadable")


def change_one_byte(database: Path, block_id: str) -> None:
    """In the bytes of one block, as a failing disk would."""
    with sqlite3.connect(database) as connection:
        [(data,)] = connection.execute("SELECT data FROM blocks WHERE id = ?", (bytes.fromhex(block_id),))
        changed = bytearray(data)
        changed[len(changed) // 2] ^= 1
        connection.execute("UPDATE blocks SET data = ? WHERE id = ?", (bytes(changed), bytes.fromhex(block_id)))
    connection.close()


def test_a_crashed_cluster_is_recognised_and_goes_on(p2pledger: Command, tmp_path: Path) -> None:
    """The process that runs the cluster is killed; its state file tells of processes that are no more."""
    place = ("--directory", tmp_path / "cluster")
    up = p2pledger("cluster", "up", "--detach", "-n", 1, "--seed", 7, "--json", *place).values
    state = ClusterState.load(tmp_path / "cluster")
    assert state is not None
    descriptors = [os.pidfd_open(pid) for pid in (up["supervisor_pid"], up["nodes"][0]["pid"])]
    assert state.supervisor.kill()
    for descriptor in descriptors:
        wait_readable(descriptor)
        os.close(descriptor)
    crashed = p2pledger("cluster", "ps", "--json", *place).values
    assert (crashed["running"], crashed["nodes"][0]["state"]) == (False, "dead")
    assert p2pledger("cluster", "restart", "CCDC", *place).code == 4
    again = p2pledger("cluster", "up", "--detach", *place)
    assert again.code == 0, again.talk
    assert p2pledger("cluster", "down", "--json", *place).values["ended"] == ["CCDC"]
    assert p2pledger("cluster", "down", "--json", *place).values["ended"] == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_in_the_foreground_it_runs_until_it_is_interrupted(tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "p2pledger", "cluster", "up", "-n", "1", "-d", tmp_path / "cluster"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Running."):
            break
    process.send_signal(number)
    _, talk = process.communicate(timeout=60)
    assert (process.returncode, talk) == (code, "ended\n")
    state = ClusterState.load(tmp_path / "cluster")
    assert state is not None
    assert [(node.state, node.process) for node in state.nodes] == [("stopped", None)]


def wait_readable(descriptor: int) -> None:
    assert select.select([descriptor], [], [], 30)[0]


def test_a_foreign_directory_is_left_alone(p2pledger: Command, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for more in ((), ("--detach",)):
        done = p2pledger("cluster", "up", "--directory", tmp_path, *more)
        assert done.code == 3
        assert "thesis.tex" in done.talk
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
