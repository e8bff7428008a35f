"""The report: the same facts for people and for programs."""

import json
from dataclasses import replace

from p2pledger.demo.report import Check, FinalityMs, NodeReport, Report

REPORT = Report(
    seed=7,
    validators=4,
    seconds=20.0,
    submitted=10,
    committed=7,
    rejected={"insufficient_free": 1, "expired": 1},
    timed_out=1,
    unfinished=0,
    offered_per_s=0.5,
    committed_per_s=0.35,
    finality_ms=FinalityMs(100.0, 200.0, 300.0, 400.0),
    blocks=12,
    state_roots_equal=True,
    supply_conserved=True,
    nodes=(NodeReport("CCDC", 1.5, 50.0, 1_000_000, 2_000_000, 12, "ab" * 32),),
    core_compiled=False,
    core_level="reference",
    killed="VENUE-B",
    send_lag_ms=500.0,
    cross_register=2,
    input="ten trades",
    checks=(Check("all is well", True), Check("roots", True, "fine")),
)


def test_for_programs() -> None:
    values = json.loads(json.dumps(REPORT.values()))
    assert values["schema"] == "p2pledger.demo/1"
    assert values["core"] == {"compiled": False, "level": "reference"}
    assert values["finality_ms"] == {"p50": 100.0, "p90": 200.0, "p99": 300.0, "max": 400.0}
    assert values["verdict"] == "green"
    total = values["committed"] + sum(values["rejected"].values()) + values["timed_out"] + values["unfinished"]
    assert total == values["submitted"]


def test_for_people() -> None:
    text = "\n".join(REPORT.lines())
    for part in ("seed 7", "insufficient_free 1", "p99 300 ms", "REFERENCE CORE", "VENUE-B", "500 ms late"):
        assert part in text
    assert "VERDICT: GREEN" in text


def test_one_failed_check_makes_it_red() -> None:
    red = replace(REPORT, checks=(*REPORT.checks, Check("supply", False, "one unit too many")))
    assert not red.passed
    assert red.values()["verdict"] == "red"
    assert "[FAILED] supply: one unit too many" in red.lines()
    assert "VERDICT: RED" in red.lines()
