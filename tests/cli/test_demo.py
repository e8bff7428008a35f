"""The demonstration as a process: its contract for programs, a killed validator, a real ending on Ctrl-C."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import Command, environment

FIELDS = {
    "schema", "seed", "validators", "seconds", "submitted", "committed", "rejected", "timed_out", "unfinished",
    "offered_per_s", "committed_per_s", "finality_ms", "blocks", "state_roots_equal", "supply_conserved", "nodes",
    "core",
}  # fmt: skip


def test_the_report_for_programs(p2pledger_process: Command) -> None:
    done = p2pledger_process("demo", "--seconds", 2, "--rate", 50, "--seed", 3, "--json")
    assert done.code == 0, done.talk
    report = done.values
    assert report.keys() >= FIELDS
    assert (report["schema"], report["seed"], report["validators"]) == ("p2pledger.demo/1", 3, 4)
    assert report["submitted"] == report["committed"] == 100
    assert (report["rejected"], report["timed_out"], report["unfinished"]) == ({}, 0, 0)
    assert report["state_roots_equal"] is report["supply_conserved"] is True
    latency = report["finality_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert [node["name"] for node in report["nodes"]] == ["CCDC", "CSDC", "VENUE-A", "VENUE-B"]
    for node in report["nodes"]:
        assert node["cpu_s"] > 0
        assert node["rss_mib"] > 1
        assert node["bytes_in"] > 10_000
        assert node["bytes_out"] > 10_000
        assert node["height"] >= report["blocks"]
    assert set(report["core"]) == {"compiled", "level"}
    assert "seed 3" in done.talk
    assert "VERDICT: GREEN" in done.talk
    assert "\x1b" not in done.talk


def test_a_killed_validator_comes_back_and_nothing_is_lost(p2pledger: Command) -> None:
    done = p2pledger("demo", "--seconds", 3, "--rate", 50, "--kill", "--json")
    assert done.code == 0, done.talk
    report = done.values
    assert report["killed"] == "VENUE-B"
    assert report["committed"] == report["submitted"] == 150
    assert len({(node["height"], node["state_root"]) for node in report["nodes"]}) == 1


def test_two_halves_go_on_apart_and_become_one_chain_again(p2pledger: Command) -> None:
    done = p2pledger("demo", "--engine", "poa", "--partition", "--seconds", 4, "--rate", 40, "--json")
    assert done.code == 0, done.talk
    report = done.values
    assert (report["engine"], report["profile"]) == ("poa", "consortium")
    assert report["committed"] == report["submitted"] == 160
    assert report["reorganisations"] > 0
    assert report["deepest"] >= report["partition"]["depth"] > 0
    assert report["applied_again"] == report["reverted"]
    assert [half["won"] for half in report["partition"]["halves"]].count(True) == 1
    assert all(half["height"] > half["height_before"] for half in report["partition"]["halves"])
    assert sum(report["blocks_by_proposer"].values()) == report["blocks"]
    assert "its chain won" in done.talk


def test_without_a_quorum_both_halves_wait(p2pledger: Command) -> None:
    done = p2pledger("demo", "--partition", "--seconds", 3, "--rate", 30, "--json")
    assert done.code == 0, done.talk
    assert done.values["partition"]["depth"] == 0
    assert done.values["committed"] == done.values["submitted"] == 90
    assert all(half["final_height"] == half["final_before"] for half in done.values["partition"]["halves"])


@pytest.mark.slow
def test_the_chain_with_more_work_wins(p2pledger: Command) -> None:
    done = p2pledger("demo", "--engine", "pow", "--partition", "--seconds", 3, "--rate", 30, "--json")
    assert done.code == 0, done.talk
    report = done.values
    assert report["partition"]["depth"] > 0
    assert "weight" in report["partition"]["reason"]
    assert report["committed"] == report["submitted"] == 90


def test_a_delegate_is_killed(p2pledger: Command) -> None:
    done = p2pledger("demo", "--engine", "dpos", "--seconds", 3, "--rate", 30, "--kill", "--json")
    assert done.code == 0, done.talk
    assert (done.values["killed"], done.values["committed"]) == ("VENUE-B", 90)


def test_a_tape_is_played(p2pledger: Command, tmp_path: Path) -> None:
    (tmp_path / "tape.csv").write_text(
        "ISIN,SecurityDesc,Currency,Date,Time,MinPrice,MaxPrice,TradedVolume,NumberOfTrades\n"
        "DE000A0D6554,NORDEX SE O.N.,EUR,2017-07-28,07:00,11.85,11.885,3777,60\n"
        "DE000A0WMPJ6,AIXTRON SE NA O.N.,EUR,2017-07-28,07:00,7.67,7.726,21136,18\n"
    )
    done = p2pledger("demo", "--trades", tmp_path, "--limit", 70, "--rate", 70, "--json", "-n", 1)
    assert done.code == 0, done.talk
    assert done.values["committed"] == 70
    assert "70 trades of 2 securities" in done.values["input"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_ends_it_without_orphans(tmp_path: Path, number: signal.Signals, code: int) -> None:
    directory = tmp_path / "ledger"
    process = subprocess.Popen(
        [sys.executable, "-m", "p2pledger", "demo", "--seconds", "60", "--directory", directory, "-n", "2"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "committed" in line:
            break
    process.send_signal(number)
    data, talk = process.communicate(timeout=60)
    assert process.returncode == code
    assert data == ""
    assert "Traceback" not in talk
    state = json.loads((directory / "cluster.json").read_text())
    assert [node["state"] for node in state["nodes"]] == ["stopped", "stopped"]
    assert [node["process"] for node in state["nodes"]] == [None, None]
