"""Scenarios: what a file may say, what is refused with which hint, and the joint bond ledger on a real cluster."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from p2pledger.demo.play import operation_fields
from p2pledger.demo.scenario import LOOKS, Act, Advance, Clock, Look, Scenario, expanded, find_scenario, read_scenario
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.market.calendars import NO_OFFSET

OPERATIONS = operation_fields()
MINUTE_MS = 60_000

GOOD = """
scenario = "small"
title = "A bond is sold"
validators = 1
brokers = 2
sample_assets = true

[[members]]
name = "MOF"
roles = ["issuer"]

[[step]]
chapter = "One"
title = "somebody new"
by = "CSDC"
operation = "open"
fields = { opener = "CSDC", policy = "1 of {key alice}" }
save = "alice"
expect = "ok"

[[step]]
title = "the sale"
by = "broker-1"
sign = ["broker-1", "broker-2"]
expect = "ok"
measure = "sale"

[[step.operations]]
operation = "transfer"
fields = { source = "broker-1", target = "alice", asset = "CND100000017@CSDC", amount = "5" }

[[step.operations]]
operation = "transfer"
fields = { source = "broker-2", target = "broker-1", asset = "CNY@ICBC", amount = "50.25" }

[[step]]
title = "more than there is"
by = "alice"
operation = "transfer"
fields = { source = "alice", target = "broker-1", asset = "CND100000017@CSDC", amount = "6" }
expect = "insufficient_free"

[[step]]
title = "the books"
look = "holding"
of = { account = "alice", asset = "CND100000017@CSDC" }
expect = { free = "5.00", locked = "0" }

[[step]]
title = "a minute passes"
advance = "1min"
"""


def read(tmp_path: Path, text: str = GOOD) -> Scenario:
    path = tmp_path / "small.toml"
    path.write_text(text, encoding="utf-8")
    return read_scenario(path, OPERATIONS)


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_scenario_is_read_step_by_step(tmp_path: Path) -> None:
    scenario = read(tmp_path)
    assert (scenario.name, scenario.validators, scenario.brokers, scenario.seed) == ("small", 1, 2, 1)
    assert [(member.name, member.roles) for member in scenario.members] == [("MOF", ("issuer",))]
    opening, sale, short, look, advance = scenario.steps
    assert isinstance(opening.does, Act)
    assert (opening.number, opening.chapter, opening.does.sign) == (1, "One", ("CSDC",))
    assert isinstance(sale.does, Act)
    assert [call.operation for call in sale.does.calls] == ["transfer", "transfer"]
    assert (sale.does.sign, sale.does.measure) == (("broker-1", "broker-2"), "sale")
    assert isinstance(short.does, Act)
    assert short.does.expect == "insufficient_free"
    assert look.does == Look(
        "holding", {"account": "alice", "asset": "CND100000017@CSDC"}, {"free": "5.00", "locked": "0"}
    )
    assert advance.does == Advance(MINUTE_MS)


@pytest.mark.parametrize(
    ("old", "new", "code", "hint"),
    [
        ("title = ", "titel = ", "unknown_key", "Did you mean title?"),
        ("brokers = 2", "broker = 2", "unknown_key", "Did you mean brokers?"),
        ('roles = ["issuer"]', 'roles = ["isuer"]', "unknown_role", "Did you mean issuer?"),
        ('by = "broker-1"', 'by = "brokr-1"', "unknown_member", "Did you mean broker-1?"),
        ('"broker-2"]', '"broker-3"]', "unknown_member", "Did you mean broker-2?"),
        ('operation = "open"', 'operation = "opne"', "unknown_operation", "Did you mean open?"),
        ("opener = ", "opner = ", "unknown_key", "Did you mean opener?"),
        (', amount = "6"', "", "missing_field", ""),
        ('expect = "insufficient_free"', 'expect = "insufficient_fee"', "unknown_reason", "insufficient_free?"),
        ('look = "holding"', 'look = "holdings"', "unknown_look", "Did you mean holding?"),
        ('of = { account = "alice", ', "of = { ", "missing_field", ""),
        ('free = "5.00"', 'free = "{sale}"', "unknown_name", "alice"),
        ('amount = "6"', 'amount = "{alcie}"', "unknown_name", "Did you mean alice?"),
        ('amount = "6"', 'amount = "{now+5x}"', "bad_expression", "now+5s"),
        ('advance = "1min"', 'advance = "soon"', "bad_scenario", "8h"),
        ('advance = "1min"', 'advance = "25h"', "bad_scenario", ""),
        ('advance = "1min"', 'advance = "1min"\nby = "CSDC"', "unknown_key", ""),
        ("validators = 1", 'validators = "one"', "bad_scenario", ""),
        ("validators = 1", "validators = 99", "bad_validators", ""),
        ('expect = "ok"\nmeasure', "measure", "bad_scenario", ""),
        ('operation = "open"', 'operation = "open"\noperations = []', "bad_scenario", ""),
        ("[[step]]", "[[step]", "bad_scenario", ""),
    ],
)
def test_a_bad_file_is_refused_with_its_place_and_the_nearest_name(
    tmp_path: Path, old: str, new: str, code: str, hint: str
) -> None:
    assert old in GOOD
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert caught.value.code == code
    assert hint in caught.value.hint
    assert code == "bad_validators" or "small.toml" in caught.value.where


def test_the_step_that_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, GOOD.replace('look = "holding"', 'look = "weather"'))
    assert caught.value.where.endswith("small.toml, step 4 (the books)")


def test_a_scenario_is_found_by_its_path_or_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_scenario("joint_bond_ledger").name == "joint_bond_ledger.toml"
    with pytest.raises(InvalidInput, match="Did you mean joint_bond_ledger"):
        find_scenario("joint_bond_leger")
    with pytest.raises(InvalidInput, match="there is no file"):
        find_scenario("nowhere.toml")
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "own.toml").write_text(GOOD)
    assert find_scenario("own").read_text() == GOOD
    assert find_scenario(str(tmp_path / "scenarios" / "own.toml")).is_file()


@pytest.mark.parametrize("began", ["2026-03-02T00:00:30", "2026-03-02T12:00:00", "2026-03-02T23:59:59"])
def test_days_and_hours_are_counted_from_the_beginning_of_the_run(began: str) -> None:
    from datetime import UTC, datetime

    moment = datetime.fromisoformat(began).replace(tzinfo=UTC)
    clock = Clock(round(moment.timestamp() * 1_000))

    def text(expression: str) -> str:
        return expanded(expression, {"sale": "ab", "sale.legs": "cd"}, clock, 10_000, 1)

    assert text("{today} {today+1} {today-2}") == "2026-03-02 2026-03-03 2026-02-28"
    assert text("{weekday} {weekday+6}") == "0 6"
    assert text("{now} {now+5s} {now-10s} {now+1d}") == "10000 15000 0 86410000"
    assert text("{sale}{sale.legs}") == "abcd"
    assert text("{hex open}") == "6f70656e"
    assert re.fullmatch(r"[0-9a-f]{64}", text("{sha256 a document}"))
    assert re.fullmatch(r"[0-9a-f]{64}", text("{key alice}"))
    # At the place of noon it is the same day, and noon within the minute.
    local_minutes = moment.hour * 60 + moment.minute + int(text("{noon}")) - NO_OFFSET
    assert local_minutes == 12 * 60


def test_the_sample_of_the_documentation_can_be_read(tmp_path: Path) -> None:
    document = Path(__file__).parent.parent.parent / "docs" / "scenarios.md"
    [sample] = re.findall(r"```toml\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    assert [step.title for step in read(tmp_path, sample).steps][-1] == "the buyer has it"
    for name in LOOKS:
        assert f"| `{name}` |" in document.read_text(encoding="utf-8")


# --- on a cluster ---------------------------------------------------------------------------------------------------


def play(name: object) -> tuple[int, dict[str, Any], str]:
    """Exit code, last line, and talk of the command."""
    from p2pledger.cli.app import app

    done = CliRunner().invoke(app, ["demo", "--scenario", str(name), "--json"], env={"NO_COLOR": "1"})
    return done.exit_code, json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_a_step_that_differs_is_told_and_fails_the_run(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(GOOD.replace('amount = "6"', 'amount = "5"').replace('"5.00"', '"1"'))
    code, report, talk = play(path)
    assert code == 1
    assert [(step["ok"], step["outcome"]) for step in report["steps"]] == [
        (True, "ok"), (True, "ok"), (False, "ok"), (False, "free 0, locked 0"), (True, "advanced"),
    ]  # fmt: skip
    assert "DIFFERS  more than there is: ok, not insufficient_free" in talk
    assert "VERDICT: RED" in talk
    assert (report["passed"], report["state_roots_equal"], report["supply_conserved"]) == (False, True, True)
    assert report["measured_ms"]["sale"] > 0


def test_the_joint_bond_ledger_of_two_depositories() -> None:
    code, report, talk = play("joint_bond_ledger")
    assert code == 0, talk
    assert report["scenario"] == "joint_bond_ledger"
    assert report["state_roots_equal"] is report["supply_conserved"] is True
    steps = report["steps"]
    assert all(step["ok"] for step in steps)
    assert all(step.keys() >= {"step", "expected", "outcome", "code", "ok"} for step in steps)
    assert len(steps) >= 25
    refused = {step["code"] for step in steps if step["code"]}
    assert len(refused) >= 10
    readme = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")
    assert f"Each of its {len(steps)} steps says" in readme
    assert f"and {report['refusals']} of them are refusals" in readme
    assert all(step["rule"] for step in steps if step["outcome"].startswith(("not_permitted", "ineligible", "late")))
    # The report's first scenario: what took a day takes less than a second.
    assert 0 < report["measured_ms"]["cross_register_sale"] < 60_000
    assert report["world_before_s"] > 16 * 3_600
    assert "VERDICT: GREEN" in talk
