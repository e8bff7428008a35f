"""The measurements of the core run, compare what they say they compare, and put the CPU level back."""

import json
import subprocess
import sys

from p2pledger import core
from p2pledger.bench.core import SECTIONS, Amounts, describe, measure

SMALL = Amounts(rounds=2, accounts=200, scale=0.01)


def test_every_section_gives_figures_at_every_level() -> None:
    before = core.level()
    figures = list(measure(SMALL))
    assert core.level() == before
    assert {figure.section for figure in figures} == set(SECTIONS)
    for section in ("hashing", "merkle", "signatures", "block", "tree"):
        assert {figure.level for figure in figures if figure.section == section} == set(core.levels())
    for figure in figures:
        assert 0 <= figure.ours.minimum_ns <= figure.ours.median_ns
        assert all(figure.ratio(peer) > 0 for peer in figure.peers)


def test_only_one_level_and_section() -> None:
    figures = list(measure(SMALL, "hashing", ("portable",)))
    assert {(figure.section, figure.level) for figure in figures} == {("hashing", "portable")}
    assert all(figure.peers[0].name == "hashlib loop" for figure in figures)


def test_the_command_tells_where_the_figures_come_from() -> None:
    arguments = ["bench", "core", "--json", "--only", "merkle", "--rounds", "1", "--scale", "0.01"]
    told = subprocess.run(
        [sys.executable, "-m", "p2pledger", *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    report = json.loads(told.stdout)
    assert report["schema"] == "p2pledger.bench.core/1"
    assert report["environment"]["cpu"] == describe().cpu
    assert report["environment"]["levels"] == core.levels()
    assert report["figures"][0]["ratios"]["hashlib loop"] > 0
    wrong = subprocess.run(
        [sys.executable, "-m", "p2pledger", "bench", "core", "--level", "abacus"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert wrong.returncode == 2
