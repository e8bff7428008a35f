"""What every command keeps to: data on stdout, talk on stderr, exit codes, no traceback, no colours in a pipe."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from p2pledger import __version__
from p2pledger.cli.output import command, counted, root_cause, table
from p2pledger.primitives.amounts import amount_text, units_of
from p2pledger.primitives.errors import InvalidInput, P2PLedgerError
from tests.cli.commands import Command, environment

SHARE = "CNE100000007@CSDC"
COMMANDS = [
    (), ("demo",), ("cluster",), ("cluster", "up"), ("cluster", "ps"), ("cluster", "logs"), ("cluster", "kill"),
    ("cluster", "restart"), ("cluster", "down"), ("keys",), ("keys", "new"), ("keys", "show"), ("tx",),
    ("tx", "transfer"), ("tx", "trade"), ("tx", "show"), ("holdings",), ("block",), ("block", "show"), ("verify",),
    ("certificate",), ("doctor",), ("version",), ("sim",), ("sim", "run"), ("sim", "views"), ("sim", "model"),
    ("sim", "baseline"),
]  # fmt: skip


def test_every_command_explains_itself() -> None:
    """In one process: starting twenty interpreters would only test patience."""
    from typer.testing import CliRunner

    from p2pledger.cli.app import app

    for words in COMMANDS:
        result = CliRunner().invoke(app, [*words, "--help"])
        assert result.exit_code == 0, words
        assert "Usage:" in result.output
        assert "\x1b" not in result.output


def test_the_version_is_told_in_words_and_as_json(p2pledger_process: Command) -> None:
    assert p2pledger_process("--version").data == f"p2pledger {__version__}\n"
    told = p2pledger_process("version", "--json").values
    assert (told["schema"], told["version"]) == ("p2pledger.version/1", __version__)
    assert isinstance(told["core"]["compiled"], bool)
    reference = p2pledger_process("version", "--json", P2PLEDGER_CORE="reference").values
    assert reference["core"]["compiled"] is False


def test_the_doctor_looks_at_the_machine(p2pledger: Command, tmp_path: Path) -> None:
    told = p2pledger("doctor", "--json", "--directory", tmp_path).values
    names = {check["name"] for check in told["checks"]}
    assert {"python", "core", "compiler", "open files", "disk fsync", "ports", "clock"} <= names
    assert list(tmp_path.iterdir()) == []
    assert p2pledger("doctor", "--directory", tmp_path / "nowhere").code == 2


def test_keys_are_made_once_and_shown_without_their_secret(p2pledger: Command, tmp_path: Path) -> None:
    path = tmp_path / "alice.json"
    made = p2pledger("keys", "new", path, "--json").values
    assert (made["name"], made["schema"]) == ("alice", "p2pledger.keys/1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = p2pledger("keys", "show", path)
    assert made["public_key"] in shown.data
    assert json.loads(path.read_text())["secret_seed"] not in shown.data + shown.talk
    again = p2pledger("keys", "new", path)
    assert (again.code, again.data) == (2, "")
    assert "never overwritten" in again.talk


def test_an_error_says_what_where_why_and_what_next(p2pledger: Command, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text("{}")
    done = p2pledger("keys", "show", path, "--json")
    assert done.code == 3
    assert set(done.values) == {"schema", "code", "what", "where", "why", "hint"}
    assert done.values["where"] == str(path)
    assert done.talk.startswith("error: this is not a key file\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("demo", "--rate", "0"),
        ("demo", "--rate", "inf"),
        ("demo", "--seconds", "nan"),
        ("demo", "--validators", "99"),
        ("demo", "--kill", "--validators", "3"),
        ("demo", "--trades", "no/such/folder"),
        ("sim", "run", "--seeds", "9..1"),
        ("sim", "run", "--seeds", "1..2", "--seed", "1"),
        ("block", "show", "minus"),
    ],
)
def test_wrong_usage_has_its_own_exit_code(p2pledger: Command, arguments: tuple[str, ...]) -> None:
    done = p2pledger(*arguments)
    assert (done.code, done.data) == (2, "")
    assert done.talk


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("bogus", "--json"), "No such command 'bogus'."),
        (("holdings", "--json"), "Missing argument"),
        (("block", "show", "minus", "--json"), "valid integer"),
        (("tx", "transfer", "a", "b", SHARE, "-5", "--json"), "-5 is not an amount: amounts are positive"),
        (("tx", "trade", "a", "b", SHARE, "1", "CNY@ICBC", "-10.5", "--json"), "-10.5 is not an amount"),
        (("tx", "transfer", "a", "b", SHARE, "5", "--simulat", "--json"), "No such option: --simulat"),
        (("tx", "show", "abc", "--valid-until", "1", "--json"), "is not the id of a transaction"),
    ],
)
def test_wrong_usage_is_told_to_programs_too(p2pledger: Command, arguments: tuple[str, ...], what: str) -> None:
    done = p2pledger(*arguments)
    assert (done.code, done.values["schema"]) == (2, "p2pledger.error/1")
    assert what in done.values["what"]
    assert what in done.talk


def test_json_works_where_nothing_is_wrong(p2pledger: Command) -> None:
    done = p2pledger("version", "--json")
    assert (done.code, done.values["schema"]) == (0, "p2pledger.version/1")
    assert p2pledger("version", "--json", "--help").code == 0


def test_an_interruption_while_modules_are_loaded_is_silent() -> None:
    """It comes while the commands are imported, where a Python error could be caught by anybody."""
    program = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == "p2pledger.cli.app":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupts())
from p2pledger.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment(), timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_an_unexpected_error_is_one_line_and_a_way_to_learn_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @command
    def divide(*, as_json: bool) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.delenv("P2PLEDGER_DEBUG", raising=False)
    with pytest.raises(SystemExit) as left:
        divide(as_json=True)
    data, talk = capsys.readouterr()
    assert left.value.code == 70
    assert talk.startswith("internal error: ZeroDivisionError: by zero\n")
    assert "P2PLEDGER_DEBUG=1" in talk
    assert json.loads(data)["code"] == "internal_error"
    monkeypatch.setenv("P2PLEDGER_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        divide(as_json=True)


def test_a_file_that_the_machine_refuses_is_named(p2pledger: Command, tmp_path: Path) -> None:
    done = p2pledger("sim", "run", "--seed", "1", "--seconds", "1", "--trace", tmp_path, "--json")
    assert (done.code, done.values["code"], done.values["where"]) == (1, "file_system", str(tmp_path))
    assert "Is a directory" in done.talk


def test_what_cannot_be_read_is_not_called_damaged(p2pledger: Command, tmp_path: Path) -> None:
    done = p2pledger("keys", "show", tmp_path, "--json")
    assert (done.code, done.values["code"]) == (3, "unreadable")
    assert (done.values["what"], done.values["why"]) == ("the key file cannot be read", "Is a directory")
    (tmp_path / "genesis.bin").mkdir()
    done = p2pledger("verify", "--directory", tmp_path, "--json")
    assert (done.values["what"], done.values["why"]) == ("the genesis cannot be read", "Is a directory")


def test_things_are_counted_in_words() -> None:
    assert (counted(1, "world"), counted(2, "world"), counted(0, "world")) == ("1 world", "2 worlds", "0 worlds")
    assert (counted(1, "batch", "batches"), counted(1_000, "batch", "batches")) == ("1 batch", "1,000 batches")


def test_a_closed_stderr_does_not_talk_into_the_data() -> None:
    command_line = f"{sys.executable} -m p2pledger holdings broker-1 --directory nowhere --json 2>&-"
    done = subprocess.run(["sh", "-c", command_line], capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 3
    assert json.loads(done.stdout)["code"] == "no_cluster"


def test_the_simulator_is_reached(p2pledger: Command) -> None:
    told = p2pledger("sim", "run", "--seeds", "1..2", "--seconds", "1", "--json").values
    assert (told["schema"], told["seeds"], told["violations"]) == ("p2pledger.sim/1", 2, [])
    assert [run["seed"] for run in told["runs"]] == [1, 2]


@pytest.mark.parametrize(
    ("text", "decimals", "units"),
    [("100", 0, 100), ("1,000", 0, 1_000), ("1050.25", 2, 105_025), ("0.5", 2, 50), ("7", 3, 7_000), (".5", 1, 5)],
)
def test_amounts_are_exact(text: str, decimals: int, units: int) -> None:
    assert units_of(text, decimals, "X@Y") == units


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "-1",
        "1e3",
        "1.",
        "1.234",
        "١",
        "18446744073709551616",
        "0x10",
        "1_000",
        "1,50",
        "1,0000",
        ",500",
        "9" * 5_000,
    ],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        units_of(text, 2, "X@Y")


def test_amounts_are_shown_as_people_write_them() -> None:
    assert amount_text(105_025, 2) == "1,050.25"
    assert amount_text(5, 3) == "0.005"
    assert amount_text(1_000_000, 0) == "1,000,000"


def test_a_group_of_errors_is_told_by_its_cause() -> None:
    ours = P2PLedgerError("ours")
    assert root_cause(ExceptionGroup("", [ValueError(), ExceptionGroup("", [ours])])) is ours
    stopped = KeyboardInterrupt()
    assert root_cause(BaseExceptionGroup("", [ours, stopped])) is stopped
    assert root_cause(ours) is ours


def test_tables_are_aligned() -> None:
    assert table(("a", "count"), [("x", 1), ("long", 100)], right=("count",)) == (
        "a     count\nx         1\nlong    100"
    )
