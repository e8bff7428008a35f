"""p2pledger bench: measured for real, in small; run again, set side by side, shown; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import Command

SMALL = ("bench", "finality", "--seconds", 2, "--warmup", 0.5, "--runs", 1, "-n", 2)


def test_finality_is_measured_kept_measured_again_and_compared(p2pledger: Command, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    done = p2pledger(*SMALL, "--rates", 40, "--out", first, "--json")
    assert done.code == 0, done.talk
    [row] = done.values["rows"]
    assert set(row) >= {"offered_per_s", "committed_per_s", "p50_ms", "p99_ms", "saturated", "correct"}
    assert (row["correct"], row["committed"], row["offered_per_s"]) == (True, 60, 40.0)
    assert "2 validators and the generator shared" in done.values["note"]
    manifest = json.loads((first / "manifest.json").read_text())
    assert (manifest["status"], manifest["arguments"]["plan"]["validators"]) == ("complete", 2)
    assert (first / "report.html").exists()
    done = p2pledger("bench", "rerun", first, "--out", second, "--json")
    assert done.code == 0, done.talk
    assert done.values["rows"][0]["committed"] == 60
    done = p2pledger("bench", "compare", first, second, "--json")
    assert {line["verdict"] for line in done.values["differences"]} <= {"not comparable", "better", "worse"}
    (first / "report.html").unlink()
    assert p2pledger("bench", "report", first).code == 0
    assert (first / "report.html").exists()


def test_gossip_is_measured(p2pledger: Command, tmp_path: Path) -> None:
    arguments = ("bench", "gossip", "--load", "1000@20", "-n", 3, "--seconds", 1, "--warmup", 0.2, "--runs", 1)
    done = p2pledger(*arguments, "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.talk
    [row] = done.values["rows"]
    assert (row["size_bytes"], row["nodes"], row["delivered_share"]) == (1_000, 3, 1.0)
    assert set(row) >= {"offered_per_s", "delivered_per_s", "p50_ms", "p99_ms", "wire_in", "wire_out_max"}


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("finality", "--workload", "hot-acount"), "hot-account"),
        (("finality", "--rates", "often"), "no way to arrive"),
        (("finality", "--seconds", 2, "--warmup", 3), "warm-up"),
        (("gossip", "--load", "1000"), "no load"),
        (("capacity", "--sizes", "big"), "numbers of bytes"),
        (("capacity", "--sizes", "100000"), "two sizes"),
        (("rerun", "nowhere"), "no results"),
        (("compare", "nowhere", "nowhere"), "no results"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(
    p2pledger: Command, tmp_path: Path, arguments: tuple[object, ...], what: str
) -> None:
    done = p2pledger("bench", *arguments)
    assert done.code == 2
    assert what in done.talk
    assert not list(tmp_path.iterdir())


def test_a_manifest_with_an_unknown_key_is_refused_with_the_nearest(p2pledger: Command, tmp_path: Path) -> None:
    (tmp_path / "network.toml").write_text("[network]\nlatencyms = 3\n")
    done = p2pledger("bench", "capacity", "--network", tmp_path / "network.toml")
    assert done.code != 0
    assert "latency_ms" in done.talk
