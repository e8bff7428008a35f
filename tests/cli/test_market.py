"""The market from the command line: operations as commands made from their forms, what is read, and proofs."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from p2pledger.cli import output
from p2pledger.cluster.consortium import load_genesis
from p2pledger.primitives.forms import operation_name
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import OPERATIONS
from tests.cli.commands import Command, environment

BOND, SHARE, CASH = "CND100000017@CSDC", "CNE100000007@CSDC", "CNY@ICBC"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A running cluster of two validators with the sample assets; as options of a command."""
    from p2pledger.cli.app import app

    directory = tmp_path_factory.mktemp("market") / "cluster"
    options = ("--directory", str(directory))
    runner = CliRunner()
    up = runner.invoke(app, ["cluster", "up", "--detach", "-n", "2", "--seed", "7", *options], env=environment())
    assert up.exit_code == 0, up.stderr
    try:
        yield options
    finally:
        runner.invoke(app, ["cluster", "down", *options], env=environment())


def test_every_operation_is_a_command_that_explains_its_fields(p2pledger: Command) -> None:
    listed = p2pledger("market", "--help").data
    names = {code: operation_name(kind).replace("_", "-") for code, kind in OPERATIONS.items()}
    assert all(f"  {name} " in listed for name in names.values())
    for code in (1, 7, 13, 35, 37, 50, 65, 80, 82):  # with fields of every kind
        kind, name = OPERATIONS[code], names[code]
        explained = p2pledger("market", name, "--help")
        assert explained.code == 0, explained.talk
        for item in kind.form:
            assert f"--{item.name.replace('_', '-')} " in explained.data
    # An example has to be one: names of assets are not written small.
    assert "An asset such as DE0005140008@CSDC or CNY@ICBC." in " ".join(
        p2pledger("market", "transfer", "--help").data.split()
    )


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("transfr",), "Did you mean 'transfer'?"),
        (("transfer", "--source", "broker-1"), "Missing option"),
        (("transfer", "--sourc", "broker-1"), "No such option"),
    ],
)
def test_wrong_usage_is_told_with_what_was_meant(p2pledger: Command, arguments: tuple[str, ...], what: str) -> None:
    for more in ((), ("--json",)):
        done = p2pledger("market", *arguments, *more)
        assert done.code == 2
        assert what in done.talk


def test_fields_are_judged_before_anything_is_sent(p2pledger: Command, place: tuple[str, str]) -> None:
    fields = {"source": "broker-1", "target": "broker-2", "asset": SHARE, "amount": "5"}
    for name, text, hint in (
        ("source", "brokr-1", "Did you mean broker-1?"),
        ("amount", "1.5", "0 decimals"),
        ("amount", "many", "not an amount"),
        ("asset", "nothing", "INSTRUMENT@REGISTER"),
    ):
        given = {**fields, name: text}
        done = p2pledger("market", "transfer", *(f"--{key}={value}" for key, value in given.items()), *place)
        assert (done.code, done.data) == (2, ""), done.talk
        assert hint in done.talk


def test_a_trade_from_its_instruction_to_its_settlement(p2pledger: Command, place: tuple[str, str]) -> None:
    legs = f"broker-1,broker-2,{BOND},100;broker-2,broker-1,{CASH},10125.50"
    entered = p2pledger(
        "market", "instruct", "--by", "broker-1", "--origin", "party", "--counterparty", "broker-2", "--reference",
        "T-1", "--trade-day", "2026-01-05", "--settle-day", "2099-01-05", "--tolerance", 0, "--leg-count", 2,
        "--legs", legs, "--json", *place,
    )  # fmt: skip
    assert entered.code == 0, entered.talk
    trade = entered.values["object"]
    assert (entered.values["operation"], entered.values["reason"], entered.values["rule"]) == ("instruct", "ok", "")

    shown = p2pledger("instruction", "show", trade, "--json", *place).values
    assert (shown["line"]["matching"], shown["line"]["settlement"], shown["legs_wanted"]) == ("unmatched", "pending", 2)
    assert [leg["asset"] for leg in shown["legs"]] == [BOND, CASH]
    assert [moment["height"] > 0 for moment in shown["moments"]] == [True, False, False]
    waiting = p2pledger("tasks", "broker-2", "--json", *place).values["lines"]
    assert [(line["what"], line["reference"]) for line in waiting] == [("affirm", trade)]
    told = p2pledger("tasks", "broker-2", *place)
    assert "affirm" in told.data
    assert "market affirm --legs" in told.talk

    early = ("market", "lock-instruction", "--instruction", trade, "--by", "broker-2")
    asked = p2pledger(*early, "--simulate", "--json", *place)
    assert (asked.code, asked.values["simulated"], asked.values["reason"]) == (1, True, "not_matched")
    assert asked.values["rule"] == "1 of 2 have affirmed"
    told = p2pledger(*early, *place)
    assert (told.code, told.data.startswith("refused: not_matched")) == (1, True)
    assert "rule:  1 of 2 have affirmed" in told.talk

    affirm = ("market", "affirm", "--instruction", trade, "--account", "broker-2", "--legs", shown["digest"])
    assert p2pledger(*affirm, *place).code == 0
    assert p2pledger(*early, *place).code == 0
    assert "irrevocable  height" in p2pledger("instruction", "show", trade, *place).data
    forecast = p2pledger("instruction", "simulate", trade, "--json", *place)
    assert (forecast.code, forecast.values["is_locked"], forecast.values["rule"]) == (0, True, "")
    assert p2pledger("instruction", "simulate", trade, *place).data.startswith("it will settle at 2099-01-05")
    refused = p2pledger("market", "cancel", "--instruction", trade, "--by", "broker-1", "--json", *place)
    assert (refused.code, refused.values["reason"]) == (1, "irrevocable")
    [line] = p2pledger("instruction", "list", "--party", "broker-1", "--json", *place).values["lines"]
    assert (line["id"], line["matching"], line["reference"]) == (trade, "matched", "T-1")
    assert "T-1" in p2pledger("instruction", "list", *place).data
    # What the list shows of an identifier is enough to look at it.
    assert trade in p2pledger("instruction", "show", trade[:16], *place).data
    nothing = p2pledger("instruction", "show", "T-1", *place)
    assert (nothing.code, "'T-1' is not what field instruction takes" in nothing.talk) == (2, True)
    nobody = p2pledger("instruction", "simulate", f"{int(trade[:4], 16) ^ 1:04x}", *place)
    assert (nobody.code, "no instruction begins with" in nobody.talk) == (2, True)

    buckets = p2pledger("positions", "broker-1", "--json", *place).values["lines"]
    [bond] = [line for line in buckets if line["asset"] == BOND]
    assert [(each["bucket"], each["amount"], each["what"]) for each in bond["buckets"]] == [
        ("free", 999_900, ""), ("settling", 100, "instruction"),
    ]  # fmt: skip
    assert "settling" in p2pledger("positions", "broker-1", *place).data


def test_somebody_new_signs_with_his_own_key(p2pledger: Command, place: tuple[str, str]) -> None:
    made = p2pledger("keys", "new", Path(place[1]) / "keys" / "fund.json", "--json").values
    opened = p2pledger(
        "market", "open", "--opener", "CSDC", "--policy", f"1 of {made['public_key']}", "--json", *place
    ).values
    account = opened["object"]
    registered = p2pledger(
        "market", "register-party", "--sponsor", "CSDC", "--party", account, "--name", "Harvest Fund", "--lei",
        "300300HARVESTFUND039", "--country", "CN", "--roles", "investor", *place,
    )  # fmt: skip
    assert registered.code == 0, registered.talk
    give = ("market", "transfer", "--asset", SHARE, "--amount")
    assert p2pledger(*give, 10, "--source", "broker-1", "--target", "Harvest Fund", *place).code == 0
    back = p2pledger(*give, 4, "--source", "Harvest Fund", "--target", "broker-1", *place)
    assert back.code == 0, back.talk
    [line] = p2pledger("positions", "Harvest Fund", "--json", *place).values["lines"]
    assert (line["asset"], line["total"]) == (SHARE, 6)
    # Whose key is not here cannot be signed for, whatever one would like.
    other = p2pledger("market", "open", "--opener", "CSDC", "--policy", f"1 of {'ab' * 32}", "--json", *place).values
    stranger = p2pledger(*give, 1, "--source", other["object"], "--target", "broker-1", *place)
    assert stranger.code == 2
    assert "its keys are not here" in stranger.talk
    forced = p2pledger(*give, 1, "--source", other["object"], "--target", "broker-1", "--sign", "broker-1", *place)
    assert (forced.code, "unauthorised" in forced.data) == (1, True)
    assert "rule:  who signs transfer\n  next:  Leave --sign away" in forced.talk


def test_who_may_do_what_and_which_rule_says_so(p2pledger: Command, place: tuple[str, str]) -> None:
    question = ("permissions", "explain", "--what", "describe", "--asset", "CND100000017@CCDC", "--who")
    refused = p2pledger(*question, "CSDC", *place)
    assert refused.code == 1
    assert refused.data.startswith("refused by: depositories write in their own register only\n")
    allowed = p2pledger(*question, "CCDC", "--json", *place)
    assert (allowed.code, allowed.values["is_allowed"], allowed.values["roles"]) == (0, True, ["depository"])
    open_to_all = p2pledger("permissions", "explain", "--who", "CSDC", "--what", "transfer", *place)
    assert "leaves it to those who sign" in open_to_all.data
    unknown = p2pledger("permissions", "explain", "--who", "CSDC", "--what", "descibe", *place)
    assert (unknown.code, "Did you mean describe?" in unknown.talk) == (2, True)


def test_a_proof_is_checked_far_from_any_node(p2pledger: Command, place: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "holding.proof"
    lock = ("market", "lock", "--account", "broker-2", "--asset", SHARE, "--amount", 400, "--controller", "CSDC")
    assert p2pledger(*lock, *place).code == 0
    made = p2pledger("proof", "holdings", "broker-2", SHARE, "--out", file, "--json", *place)
    assert made.code == 0, made.talk
    assert (made.values["encumbered"], made.values["obstacles"]) == (400, [])
    known = load_genesis(Path(place[1])).hash.hex()
    check = ("proof", "verify", file, "--genesis", known, "--directory", tmp_path)
    good = p2pledger(*check, "--amount", 500, "--json").values
    assert (good["ok"], good["unencumbered"], good["genesis_known"]) == (True, True, True)
    assert "500 CNE100000007@CSDC: unencumbered" in p2pledger(*check, "--amount", 500).data
    much = p2pledger(*check, "--amount", good["free"] + 1)
    assert (much.code, "NOT unencumbered: only" in much.data) == (1, True)
    other = p2pledger("proof", "verify", file, "--genesis", "ab" * 32, "--json")
    assert (other.code, other.values["reason"]) == (1, "wrong_genesis")
    data = bytearray(file.read_bytes())
    data[-40] ^= 1
    file.write_bytes(data)
    spoiled = p2pledger(*check)
    assert (spoiled.code, "proves nothing" in spoiled.data) == (1, True)
    assert p2pledger("proof", "verify", tmp_path / "nowhere").code == 2


def test_the_other_views_in_words_and_as_json(p2pledger: Command, place: tuple[str, str]) -> None:
    supply = p2pledger("money", "supply", "--json", *place).values
    assert [(line["asset"], line["kind"]) for line in supply["lines"]] == [(CASH, "other")]
    assert CASH in p2pledger("money", "supply", *place).data
    investor = p2pledger("investor", "broker-3", "--as", "CCDC", "--json", *place).values
    assert {line["register"] for line in investor["lines"]} == {"CCDC"}
    assert "depositories see their own register" in p2pledger("investor", "broker-3", "--as", "CCDC", *place).talk
    denied = p2pledger("investor", "broker-3", "--as", "broker-1", "--json", *place)
    assert (denied.code, denied.values["code"]) == (2, "not_entitled")
    through = p2pledger("look-through", "broker-3", SHARE, "--as", "CSDC", "--json", *place).values
    assert [line["name"] for line in through["lines"]] == ["broker-3"]
    assert "broker-3" in p2pledger("look-through", "broker-3", SHARE, "--as", "CSDC", *place).data
    cells = p2pledger("orders", "table", "--json").values["cells"]
    assert {"bucket": "free", "power": "freeze", "outcome": "effective now"} in cells
    assert "| settling" in p2pledger("orders", "table").data
    assert p2pledger("orders", "list", "--json", *place).values["lines"] == []
    assert p2pledger("orders", "list", *place).code == 0
    report = p2pledger("venue", "report", "CCDC", "--json", *place).values
    assert (report["settled"], report["lines"]) == (0, [])
    assert "0 settled" in p2pledger("venue", "report", "CCDC", *place).talk
    assert json.dumps(report)


def test_a_block_shows_what_was_done_in_it(p2pledger: Command, place: tuple[str, str]) -> None:
    sent = p2pledger(
        "market", "place-offer", "--by", "broker-3", "--gives", SHARE, "--gives-amount", 2, "--takes", CASH,
        "--takes-amount", "13000.00", "--lots", 1, "--expires-ms", "2099-01-01T00:00:00Z", "--json", *place,
    ).values  # fmt: skip
    [row] = p2pledger("block", "show", sent["height"], "--json", *place).values["operations"]
    assert (row["what"], row["from"], row["asset"], row["amount"]) == ("place offer", "broker-3", SHARE, "2")


def test_what_to_do_next_is_said_of_reasons_that_there_are() -> None:
    assert set(output._NEXT) <= {reason.title for reason in Reason}
