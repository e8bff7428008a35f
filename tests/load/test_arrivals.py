"""When things fall due."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pledger.load.arrivals import Arrivals
from p2pledger.primitives.errors import InvalidInput


def due(text: str, seconds: float = 10.0, seed: int = 1) -> list[float]:
    return list(Arrivals.parse(text).due_s(seconds, seed))


@pytest.mark.parametrize("text", ["fixed:200", "poisson:200", "burst:200,50", "ramp:100-300"])
def test_so_many_come_as_the_rate_says_in_ascending_order_within_the_window(text: str) -> None:
    moments = due(text)
    assert len(moments) == pytest.approx(2_000, rel=0.08)
    assert moments == sorted(moments)
    assert moments[0] >= 0
    assert moments[-1] < 10


def test_the_seed_decides() -> None:
    assert due("poisson:50") == due("poisson:50")
    assert due("poisson:50") != due("poisson:50", seed=2)


def test_a_bare_number_is_a_fixed_rate() -> None:
    assert due("4", 1.0) == [0.0, 0.25, 0.5, 0.75]
    assert str(Arrivals.parse("4")) == "fixed:4"


def test_a_ramp_is_slow_first_and_fast_last() -> None:
    moments = due("ramp:0-200")
    assert sum(moment < 5 for moment in moments) == pytest.approx(250, abs=2)
    assert sum(moment >= 5 for moment in moments) == pytest.approx(750, abs=2)
    falling = due("ramp:200-0")
    assert sum(moment < 5 for moment in falling) == pytest.approx(750, abs=2)


def test_a_burst_comes_at_once() -> None:
    moments = due("burst:100,50", 1.0)
    assert moments == [0.0] * 50 + [0.5] * 50


def test_a_trace_is_played_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "moments").write_text("0\n0.5\n0.5\n2\n")
    assert due(f"trace:{tmp_path / 'moments'}", 1.0) == [0.0, 0.5, 0.5]


@pytest.mark.parametrize("text", ["", "fixed:", "fixed:0", "fixed:-3", "poisson:x", "ramp:0-0", "burst:5", "uniform:5"])
def test_other_words_are_refused_with_the_ways_there_are(text: str) -> None:
    with pytest.raises(InvalidInput, match="no way to arrive"):
        Arrivals.parse(text)


@pytest.mark.parametrize(
    ("content", "what"), [("1\nx\n", "no number"), ("2\n1\n", "ascend"), ("", "empty"), ("-1", "ascend")]
)
def test_a_bad_trace_is_refused_by_its_line(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "moments").write_text(content)
    with pytest.raises(InvalidInput, match=what):
        Arrivals.parse(f"trace:{tmp_path / 'moments'}")
