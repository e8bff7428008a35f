"""Result folders: kept whole, read again, refused by name, set side by side, shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from p2pledger.bench import finality
from p2pledger.bench.again import run_again
from p2pledger.bench.compare import compare
from p2pledger.bench.histogram import Histogram
from p2pledger.bench.machine import Machine, describe_machine, fsync_histogram
from p2pledger.bench.report import page, write_report
from p2pledger.bench.results import Results
from p2pledger.bench.settling import Plan, Run, Usage
from p2pledger.cli.bench import bench_compare
from p2pledger.cli.measuring import show, tell
from p2pledger.cli.output import command
from p2pledger.primitives.errors import InvalidInput
from tests.bench.silent import Silent

MACHINE = Machine("a cpu", 2, 1_024, "Linux 6", "CPython 3", "0", "abc", "compiled", "avx2", 0.2, 0.9)


def run(arrivals: str, latencies_ms: list[float], **changes: Any) -> dict[str, Any]:
    """A run as it is kept: all trades committed, unless something else is said."""
    plan = Plan(arrivals=arrivals, seconds=10, warmup_s=1)
    histogram = Histogram.of(10_000_000, [round(1_000 * ms) for ms in latencies_ms])
    count = len(latencies_ms)
    values = Run(
        plan=plan, submitted=count, committed=count, rejected={}, timed_out=0, unfinished=0, latencies=histogram,
        lag_p99_ms=0.5, offered_per_s=count / 9, committed_per_s=count / 9, blocks=90, nullified=0,
        transaction_bytes=450.0, block_times=(), series=((1.0, 10, 9),), nodes=(Usage("CCDC", 1.0, 50.0, 10, 10),),
        faults=(),
    ).values()  # fmt: skip
    return json.loads(json.dumps({**values, **changes}))  # type: ignore[no-any-return]


def results(folder: Path, *runs: dict[str, Any]) -> Results:
    found = Results.create(folder, "finality", {"runs": 1}, MACHINE, "4 validators shared 2 cores")
    for values in runs:
        found.add_run(values)
    found.finish(finality.rows_of(list(found.runs())))
    return found


def test_a_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = results(tmp_path / "r", run("fixed:10", [5, 6, 7]), run("fixed:10", [5, 6, 9]))
    read = Results.open(tmp_path / "r")
    assert (read.rows, read.machine, read.status) == (written.rows, MACHINE, "complete")
    assert [values["committed"] for values in read.runs()] == [3, 3]
    assert (tmp_path / "r" / "rows.csv").read_text().splitlines()[0].startswith("offered_per_s,committed_per_s,")


def test_an_interrupted_measurement_says_that_it_is_partial_and_can_be_read(tmp_path: Path) -> None:
    begun = Results.create(tmp_path / "r", "finality", {}, MACHINE, "a note")
    begun.add_run(run("fixed:10", [5]))
    read = Results.open(tmp_path / "r")
    assert read.status == "partial"
    assert len(list(read.runs())) == 1
    assert "<b>partial</b>" in page(read)


def test_another_schema_is_refused_by_name(tmp_path: Path) -> None:
    results(tmp_path / "r", run("fixed:10", [5]))
    path = tmp_path / "r" / "manifest.json"
    path.write_text(path.read_text().replace("results/1", "results/9"))
    with pytest.raises(InvalidInput, match="results/9, this program reads") as caught:
        Results.open(tmp_path / "r")
    assert caught.value.code == "foreign_schema"
    path.write_text("{")
    with pytest.raises(InvalidInput, match="cannot be read"):
        Results.open(tmp_path / "r")
    with pytest.raises(InvalidInput, match="no results"):
        Results.open(tmp_path)


def test_a_folder_with_something_in_it_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("")
    with pytest.raises(InvalidInput, match="not empty"):
        Results.create(tmp_path, "finality", {}, MACHINE, "")


def test_runs_are_merged_and_not_averaged() -> None:
    [row] = finality.rows_of([run("fixed:10", [1.0] * 99 + [900.0]), run("fixed:10", [1.0] * 100)])
    assert row["p50_ms"] == 1.0
    assert row["p99_ms"] == 1.0  # one of 200; the average of the two runs' own would be hundreds
    assert (row["runs"], row["committed"], row["blocks_per_s"]) == (2, 200, 9.0)


def test_a_run_that_is_not_correct_has_no_figures() -> None:
    [row] = finality.rows_of([run("fixed:10", [5.0], faults=["the nodes do not agree"]), run("fixed:10", [5.0])])
    assert (row["correct"], row["p50_ms"], row["committed_per_s"]) == (False, None, None)
    assert row["faults"] == "the nodes do not agree"


def test_a_generator_that_was_late_has_no_figures_of_the_ledger() -> None:
    [late] = finality.rows_of([run("fixed:10", [100.0], lag_p99_ms=5.1)])
    [just] = finality.rows_of([run("fixed:10", [100.0], lag_p99_ms=5.0)])
    assert (late["saturated"], late["p50_ms"]) == (True, None)
    assert (just["saturated"], just["p50_ms"]) == (False, 100.0)


def test_what_is_beyond_both_intervals_is_worse_and_the_rest_is_noise(tmp_path: Path) -> None:
    before = results(tmp_path / "a", *(run("fixed:1", [10.0 + i] * 9) for i in range(3)))
    slower = results(tmp_path / "b", *(run("fixed:1", [20.0 + i] * 9) for i in range(3)))
    near = results(tmp_path / "c", *(run("fixed:1", [11.0 + i] * 9) for i in range(3)))
    once = results(tmp_path / "d", run("fixed:1", [90.0] * 9))
    assert [line.verdict for line in compare(before, slower)] == ["worse", "worse"]
    assert [line.verdict for line in compare(slower, before)] == ["better", "better"]
    assert [line.verdict for line in compare(before, near)] == ["same", "same"]
    assert [line.verdict for line in compare(before, once)] == ["not comparable"] * 2


def test_what_is_not_correct_any_more_is_worse(tmp_path: Path) -> None:
    before = results(tmp_path / "a", run("fixed:1", [10.0] * 9))
    after = results(tmp_path / "b", run("fixed:1", [10.0] * 9, faults=["supply"]))
    assert ("correct", "worse") in [(line.figure, line.verdict) for line in compare(before, after)]


def test_different_things_are_not_compared(tmp_path: Path) -> None:
    before = results(tmp_path / "a", run("fixed:1", [10.0] * 9))
    other = results(tmp_path / "b", run("fixed:2", [10.0] * 18))
    with pytest.raises(InvalidInput, match="no row in common"):
        compare(before, other)
    other.kind = "gossip"
    with pytest.raises(InvalidInput, match="cannot be compared"):
        compare(before, other)


def test_rows_are_of_the_same_arrivals_or_not_compared(tmp_path: Path) -> None:
    """A burst offers as much in a second as the same number evenly, and is another load."""
    runs = [run(how, [ms + i] * 9) for i in range(3) for how, ms in (("fixed:1", 10.0), ("burst:1,9", 90.0))]
    lines = compare(results(tmp_path / "a", *runs), results(tmp_path / "b", *reversed(runs)))
    assert {line.row for line in lines} == {"arrivals fixed:1", "arrivals burst:1,9"}
    assert {line.verdict for line in lines} == {"same"}


def test_other_plans_and_partial_results_are_not_compared(tmp_path: Path) -> None:
    four, seven, begun = (results(tmp_path / name, run("fixed:1", [10.0] * 9)) for name in "abc")
    four.arguments, seven.arguments = ({"plan": {"validators": count}} for count in (4, 7))
    with pytest.raises(InvalidInput) as caught:
        compare(four, seven)
    assert caught.value.why == "validators was 4 and then 7"
    begun.status = "partial"
    with pytest.raises(InvalidInput, match="partial"):
        compare(begun, begun)


def test_runs_that_were_wrong_are_in_no_plot(tmp_path: Path) -> None:
    wrong = page(results(tmp_path / "a", run("fixed:1", [10.0] * 9, faults=["supply"])))
    late = page(results(tmp_path / "b", run("fixed:1", [10.0] * 9, lag_p99_ms=50.0)))
    assert "<svg" not in wrong
    assert "<svg" not in late


def test_half_of_the_runs_with_a_late_generator_are_enough_for_no_figures(tmp_path: Path) -> None:
    [row] = finality.rows_of([run("fixed:1", [10.0] * 9), run("fixed:1", [10.0] * 9, lag_p99_ms=50.0)])
    assert (row["saturated"], row["p50_ms"], row["committed_per_s"]) == (True, None, None)


def test_the_rows_so_far_are_kept_before_the_last_run_is_in(tmp_path: Path) -> None:
    begun = Results.create(tmp_path / "r", "finality", {}, MACHINE, "a note")
    begun.add_run(run("fixed:10", [5.0] * 9))
    begun.keep(finality.rows_of(list(begun.runs())))
    read = Results.open(tmp_path / "r")
    assert (read.status, read.rows[0]["p50_ms"]) == ("partial", 5.003)


def test_the_page_needs_no_network_no_script_and_no_light(tmp_path: Path) -> None:
    text = page(results(tmp_path / "r", run("fixed:1", [1.0, 2.0, 40.0] * 3), run("poisson:2", [2.0] * 18)))
    assert "prefers-color-scheme: dark" in text
    assert "<script" not in text
    assert not re.findall(r"""(?:src|href)=|url\(|@import""", text)
    assert text.count("<svg") == 4
    assert "fixed:1" in text


def test_names_that_come_from_outside_are_escaped(tmp_path: Path) -> None:
    hostile = run("fixed:1", [1.0])
    hostile["plan"]["arrivals"] = "<script>alert(1)</script>"
    assert "<script" not in page(results(tmp_path / "r", hostile))


def test_the_disk_is_asked_how_fast_it_is(tmp_path: Path) -> None:
    assert len(fsync_histogram(tmp_path, 5)) == 5
    assert not list(tmp_path.iterdir())
    machine = describe_machine(tmp_path)
    assert machine.cores >= 1
    assert machine.fsync_p99_ms >= machine.fsync_p50_ms > 0


def test_a_folder_in_which_something_is_missing_is_refused(tmp_path: Path) -> None:
    found = results(tmp_path / "r", run("fixed:10", [5]))
    with pytest.raises(InvalidInput, match="arguments of these results"):
        run_again(found, tmp_path / "again", Silent())
    assert not (tmp_path / "again").exists()
    found.add_run({"plan": {}})
    with pytest.raises(InvalidInput, match="page cannot be made"):
        write_report(found)


def test_a_wrong_result_and_a_regression_end_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = results(tmp_path / "a", run("fixed:10", [5]))
    after = results(tmp_path / "b", run("fixed:10", [5], faults=["VENUE-A did not answer at the end"]))
    show(before, as_json=False)
    with pytest.raises(SystemExit, match="1"):
        bench_compare(before.folder, after.folder, as_json=False)
    with pytest.raises(SystemExit, match="1"):
        command(show)(after, as_json=True)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"][0]["correct"] is False
    assert not tell(after, as_json=False)
    title, row = capsys.readouterr().out.splitlines()[1:3]
    assert "correct" in title
    assert " no " in row
