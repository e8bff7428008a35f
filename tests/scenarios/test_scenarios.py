"""Every scenario comes out as it is written; ``pytest tests/scenarios --rewrite`` writes it as it comes out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.golden import check_golden
from tests.scenarios.scenario import MakeDriver, ScenarioError, parse, play
from tests.scenarios.simplex import SimplexDriver

DRIVERS: dict[str, MakeDriver] = {"simplex": SimplexDriver}
FILES = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_scenario_comes_out_as_written(path: Path, rewrite: bool) -> None:
    check_golden(path, play(parse(path.read_text(encoding="utf-8")), DRIVERS), rewrite=rewrite)


def test_there_are_scenarios_for_every_driver() -> None:
    assert {parse(path.read_text(encoding="utf-8")).engine for path in FILES} == DRIVERS.keys()


# --- the format -----------------------------------------------------------------------------------------------------


class Parrot:
    """A driver that repeats what it is told, as often as the options say."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self.times = int(options.get("times", "1"))

    def do(self, step: str) -> list[str]:
        if step == "nonsense":
            raise ScenarioError("what?")
        return [step] * self.times


WRITTEN = """\
engine parrot
times 2

A bird is spoken to.

> hello
  something old
and said goodbye to:
> bye
"""
EXPECTED = """\
engine parrot
times 2

A bird is spoken to.

> hello
  hello
  hello
and said goodbye to:
> bye
  bye
  bye
"""


def test_results_are_replaced_and_all_else_is_kept() -> None:
    assert play(parse(WRITTEN), {"parrot": Parrot}) == EXPECTED
    assert play(parse(EXPECTED), {"parrot": Parrot}) == EXPECTED


def test_a_scenario_that_came_out_otherwise_is_a_failure_with_a_diff(tmp_path: Path) -> None:
    path = tmp_path / "bird.txt"
    path.write_text(WRITTEN, encoding="utf-8")
    text = play(parse(WRITTEN), {"parrot": Parrot})
    with pytest.raises(pytest.fail.Exception, match=r"(?s)-  something old.*\+  hello.*--rewrite"):
        check_golden(path, text, rewrite=False)
    check_golden(path, text, rewrite=True)
    check_golden(path, text, rewrite=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "first line"),
        ("nodes 4\n", "first line"),
        ("engine crystal-ball\n", "no driver"),
        ("engine parrot\n\n> nonsense\n", "'> nonsense'.*what"),
        ("engine simplex\nnodes 4\n\n> node-0 sings\n", "no such step"),
        ("engine simplex\nnodes 4\nmood bad\n", "unknown options"),
        ("engine simplex\nnodes 4\n\n> work at node-7\n", "not nodes"),
        ("engine simplex\nengines node-0\n\n> work at node-1\n", "no engine"),
        ("engine simplex\n\n> node-0 builds A\n", "not asked"),
        ("engine simplex\n\n> give A to node-0\n", "no block"),
    ],
)
def test_what_makes_no_sense_is_said(text: str, reason: str) -> None:
    with pytest.raises(ScenarioError, match=reason):
        play(parse(text), {"parrot": Parrot, **DRIVERS})
