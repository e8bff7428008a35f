"""`p2pledger cluster fault` on a cluster whose links are shaped, and the commands that read a network manifest."""

from pathlib import Path

import pytest

from p2pledger.network.tracing import Timelines
from p2pledger.server.tracing import TRACE_FILE, read_trace
from tests.cli.commands import Command

SHARE = "CNE100000007@CSDC"
MANIFEST = """
[network]
bandwidth_mbit = 100
[regions.frankfurt]
nodes = ["CCDC", "CSDC"]
[regions.london]
nodes = ["VENUE-A", "VENUE-B"]
"""


def test_what_goes_wrong_by_command_is_seen_and_set_right(p2pledger: Command, tmp_path: Path) -> None:
    place = ("--directory", tmp_path / "cluster")
    manifest = tmp_path / "network.toml"
    manifest.write_text(MANIFEST)
    up = p2pledger("cluster", "up", "--detach", "--seed", 7, "--network", manifest, "--trace", "--json", *place)
    assert up.code == 0, up.talk
    assert up.values["faults"] == []

    def fault(*arguments: object) -> list[str]:
        done = p2pledger("cluster", "fault", *arguments, "--json", *place)
        assert done.code == 0, done.talk
        faults = done.values["faults"]
        assert isinstance(faults, list)
        return faults

    def settles() -> bool:
        return p2pledger("tx", "transfer", "broker-1", "broker-2", SHARE, 1, "--node", "CCDC", *place).code == 0

    try:
        assert fault("delay", "CCDC", "VENUE-A", 30) == ["delay CCDC VENUE-A 30 ms more"]
        assert fault("skew", "CSDC", -200)[-1] == "skew CSDC -200 ms"
        assert fault("partition", "VENUE-B")[0] == "partition VENUE-B | CCDC,CSDC,VENUE-A"
        assert settles(), "three of four go on"
        assert fault("heal") == []
        assert fault("pause", "VENUE-A") == ["pause VENUE-A"]
        states = {node["name"]: node["state"] for node in p2pledger("cluster", "ps", "--json", *place).values["nodes"]}
        assert states["VENUE-A"] == "paused"
        assert fault("bandwidth", "CCDC", 5) == ["bandwidth CCDC 5 Mbit/s", "pause VENUE-A"]
        assert settles()
        assert fault("restart", "VENUE-A") == ["bandwidth CCDC 5 Mbit/s"]
        assert fault("kill", "VENUE-A") == ["bandwidth CCDC 5 Mbit/s"]
        assert fault("heal") == []
        assert "fault in force" not in p2pledger("cluster", "ps", *place).talk
        for arguments, hint in (
            (("delay", "CCDC", "VENUEA", 3), "Did you mean VENUE-A?"),
            (("delay", "CCDC", "CCDC", 3), "itself"),
            (("partition", "CCDC,CSDC", "CCDC"), "two parts"),
            (("pause", "VENUE-A"), "not running"),
            (("bandwidth", "CCDC", 10**9), "0 to"),
        ):
            wrong = p2pledger("cluster", "fault", *arguments, *place)
            assert wrong.code == 2, arguments
            assert hint in wrong.talk
    finally:
        assert p2pledger("cluster", "down", *place).code == 0
    traces = sorted((tmp_path / "cluster" / "nodes").glob(f"*/{TRACE_FILE}"))
    lines = Timelines(read_trace(path) for path in traces)
    assert lines.nodes == ["CCDC", "CSDC", "VENUE-A", "VENUE-B"]
    assert any(lines.batches_of.values())


@pytest.mark.parametrize("command", [("cluster", "up"), ("sim", "run"), ("bench", "links")], ids=" ".join)
def test_a_manifest_that_is_wrong_is_refused_with_what_may_be_meant(
    p2pledger: Command, tmp_path: Path, command: tuple[str, ...]
) -> None:
    manifest = tmp_path / "network.toml"
    place = ("--directory", tmp_path / "cluster") if command[0] == "cluster" else ()
    manifest.write_text("[network]\nlatncy_ms = 3\n")
    wrong = p2pledger(*command, "--network", manifest, *place)
    assert wrong.code == 3
    assert "Did you mean latency_ms?" in wrong.talk
    assert str(manifest) in wrong.talk
    missing = p2pledger(*command, "--network", tmp_path / "none.toml", *place)
    assert missing.code == 3
    assert "cannot be read" in missing.talk


def test_a_manifest_for_other_nodes_makes_no_cluster(p2pledger: Command, tmp_path: Path) -> None:
    manifest = tmp_path / "network.toml"
    manifest.write_text(MANIFEST.replace("VENUE-B", "VENU-B"))
    wrong = p2pledger("cluster", "up", "--network", manifest, "--directory", tmp_path / "cluster")
    assert wrong.code == 3
    assert "Did you mean VENUE-B?" in wrong.talk
    assert not (tmp_path / "cluster" / "genesis.bin").exists()
