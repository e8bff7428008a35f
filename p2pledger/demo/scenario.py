"""Scenario files: what the parties of a market do, step by step, and what the ledger has to answer.

A scenario is a TOML file. People of the market write and read it; nothing in it is code.

    scenario = "two_brokers"                # its name, also that of the file
    title = "..."
    validators = 4                          # CCDC, CSDC, VENUE-A, VENUE-B
    brokers = 2                             # broker-1, broker-2
    seed = 1                                # DEV KEYS come from it

    [[members]]                             # more members of the genesis
    name = "PBOC"
    roles = ["central_bank"]
    register = "PBOC"                       # the register that it keeps, if it keeps one

    [[step]]                                # what somebody does: one transaction
    title = "the bond is sold"
    by = "broker-1"                         # pays and signs
    sign = ["broker-1", "broker-2"]         # if more or others have to sign
    operation = "transfer"
    fields = { source = "broker-1", target = "broker-2", asset = "CND100000017@CSDC", amount = "5" }
    expect = "ok"                           # or the reason of the refusal, such as "insufficient_free"

    [[step]]                                # what somebody sees
    title = "the buyer has it"
    look = "holding"
    of = { account = "broker-2", asset = "CND100000017@CSDC" }
    expect = { free = "5" }

    [[step]]                                # what time does: the clocks of all nodes are set ahead
    title = "evening comes"
    advance = "8h"

A step of several operations, all or nothing, has ``operations = [{ operation = "...", fields = {...} }, ...]`` instead.
``rule = "..."`` beside ``expect`` wants these words in the name of the rule that refuses. ``save = "bond_sale"`` keeps
the identifier of the object that the (first) operation makes; ``within_s`` lets a look wait until it shows what is
expected; ``measure = "..."`` keeps the time from sending until final under a name. All advances together make at most
a day.

Texts may hold expressions in braces:

    {bond_sale}         an identifier that a step has saved, in hexadecimal
    {bond_sale.legs}    the digest over all legs of an instruction that a step has saved: what its parties affirm
    {now+5s} {now-1h}   a time in milliseconds, counted from the step: ms, s, min, h, d
    {today} {today+3}   a day as 2026-03-02, counted from the day on which the run began
    {weekday+1}         the number of a weekday (0 = Monday), counted from that day
    {noon}              the utc_offset (minutes + 1440) of a place where it was noon when the run began: its calendars
                        have the same hours in every run, whatever the clock of the machine says
    {sha256 some text}  the hash of a text, for documents; {hex some text} the text itself as bytes
    {key alice}         the public key of somebody, for the policy of an account that is opened for him: the step that
                        opens it saves it as "alice", and from then on he signs by that name

Everything is judged before anything runs: unknown keys, operations, fields, views, roles and reasons are refused with
the nearest name that is known.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

from p2pledger.cluster.consortium import BANK, DEPOSITORIES, MemberPlan, suggestion, validator_names
from p2pledger.cluster.keyfiles import development_keypair
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.genesis import ROLES
from p2pledger.primitives.market.calendars import NO_OFFSET
from p2pledger.primitives.reasons import Reason

__all__ = [
    "LOOKS",
    "Act",
    "Advance",
    "Call",
    "Clock",
    "Look",
    "Scenario",
    "Step",
    "expanded",
    "find_scenario",
    "read_scenario",
]

OK: Final = "ok"
_UNITS_MS: Final = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_MOST_STEPS: Final = 10_000
LOOKS: Final[Mapping[str, tuple[str, ...]]] = {
    "holding": ("account", "asset"),
    "instruction": ("instruction",),
    "forecast": ("instruction",),
    "tasks": ("party",),
    "permission": ("who", "what", "asset", "amount"),
    "investor": ("reader", "party"),
    "look_through": ("reader", "account", "asset"),
    "supply": ("asset",),
    "proof": ("account", "asset", "amount"),
}
"""What can be looked at, and what has to be named for it (``of``); asset and amount of a permission may be left out."""
_MAY_LACK: Final = {("permission", "asset"), ("permission", "amount")}


@dataclass(frozen=True, slots=True)
class Call:
    """An operation by its name, with its fields as people write them: texts, lists of texts, lists of tables."""

    operation: str
    fields: Mapping[str, Any]
    save: str = ""


@dataclass(frozen=True, slots=True)
class Act:
    """One transaction. ``sign`` are names of members; ``rule`` is empty where any will do."""

    by: str
    sign: tuple[str, ...]
    calls: tuple[Call, ...]
    expect: str
    rule: str = ""
    measure: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """A question to a node, and what its answer has to say: names and texts."""

    what: str
    of: Mapping[str, str]
    expect: Mapping[str, str]
    within_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Advance:
    """The clocks of all nodes go ahead by so much, at once."""

    by_ms: int


@dataclass(frozen=True, slots=True)
class Step:
    """``chapter`` stands before the first step of a part."""

    number: int
    title: str
    chapter: str
    does: Act | Look | Advance


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    validators: int
    brokers: int
    seed: int
    members: tuple[MemberPlan, ...]
    steps: tuple[Step, ...]
    sample_assets: bool = False


@dataclass(frozen=True, slots=True)
class Clock:
    """When the run began. Calendars and days are counted from there, so that a run is the same on every day."""

    began_ms: int

    @property
    def today(self) -> datetime:
        return datetime.fromtimestamp(self.began_ms / 1_000, UTC)

    @property
    def noon_offset(self) -> int:
        """Minutes from UTC, plus 1440, of a place where it was noon (within the minute) when the run began.

        It is the same day there as in UTC.
        """
        return NO_OFFSET + 720 - (self.today.hour * 60 + self.today.minute)


# --- expressions ------------------------------------------------------------------------------------------------------

_EXPRESSION: Final = re.compile(r"\{([^{}]*)\}")
_COUNTED: Final = re.compile(r"(now|today|weekday)(?:([+-])(\d+)(ms|s|min|h|d)?)?")
_LENGTH: Final = re.compile(r"(\d{1,9})(ms|s|min|h|d)")
_SAVED: Final = re.compile(r"[a-z][a-z0-9_]*(\.legs)?")
_WORDS: Final = ("noon", "now", "today", "weekday")


def expanded(text: str, saved: Mapping[str, str], clock: Clock, now_ms: int, seed: int) -> str:
    """The text with its expressions replaced. InvalidInput, with a suggestion, for one that means nothing."""

    def replaced(match: re.Match[str]) -> str:
        inner = match.group(1).strip()
        if inner.startswith("sha256 "):
            return hashlib.sha256(inner.removeprefix("sha256 ").encode()).hexdigest()
        if inner.startswith("hex "):
            return inner.removeprefix("hex ").encode().hex()
        if inner.startswith("key "):
            return development_keypair(seed, "member", inner.removeprefix("key ")).public_key.hex()
        if inner == "noon":
            return str(clock.noon_offset)
        if counted := _COUNTED.fullmatch(inner):
            base, sign, digits, unit = counted.groups()
            count = int(digits or 0) * (-1 if sign == "-" else 1)
            if base == "now" and (unit or not digits):
                return str(now_ms + count * _UNITS_MS[unit or "ms"])
            if base == "today" and unit in (None, "d"):
                return (clock.today + timedelta(days=count)).strftime("%Y-%m-%d")
            if base == "weekday" and unit in (None, "d"):
                return str((clock.today + timedelta(days=count)).weekday())
        elif inner in saved:
            return saved[inner]
        known = [*saved, "now+5s", "today+1", "noon"]
        raise InvalidInput(f"{match.group(0)} means nothing here", hint=suggestion(inner, known), code="bad_expression")

    return _EXPRESSION.sub(replaced, text)


def names_in(text: str) -> list[str]:
    """The saved identifiers that a text wants. InvalidInput for expressions that can never mean anything."""
    clock, wanted = Clock(0), []
    for inner in (match.group(1).strip() for match in _EXPRESSION.finditer(text)):
        if _SAVED.fullmatch(inner) and inner not in _WORDS:
            wanted.append(inner.removesuffix(".legs"))
        else:
            expanded("{" + inner + "}", {}, clock, 0, 0)
    return wanted


# --- files ------------------------------------------------------------------------------------------------------------


def find_scenario(name: str) -> Path:
    """The file of a scenario: a path to it, or its name. InvalidInput, with a suggestion, where there is none.

    Names are looked for in the folder ``scenarios`` here, of a source tree, and of an installation.
    """
    import sysconfig

    if name.endswith(".toml") or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise InvalidInput(f"there is no file {name}", code="no_file")
        return path
    source_tree = Path(__file__).resolve().parent.parent.parent
    installed = Path(sysconfig.get_path("data")) / "share" / "p2pledger"
    folders = [root / "scenarios" for root in (Path(), source_tree, installed)]
    for folder in folders:
        if (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    known = sorted({path.stem for folder in folders for path in folder.glob("*.toml")})
    raise InvalidInput(f"there is no scenario {name!r}", hint=suggestion(name, known), code="unknown_scenario")


def read_scenario(path: Path, operations: Mapping[str, Iterable[tuple[str, bool]]]) -> Scenario:
    """The scenario of a file. ``operations``: the names of all operations -> (name of a field, whether it may lack).

    InvalidInput that names the step, and the nearest name where one is not known.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read", why=str(error), code="no_file") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput("the scenario is not TOML", where=str(path), why=str(error), code="bad_scenario") from None
    return _Reader(str(path), {name: dict(fields) for name, fields in operations.items()}).scenario(data)


_SCENARIO_KEYS: Final = (
    "scenario", "title", "validators", "brokers", "seed", "sample_assets", "members", "step",
)  # fmt: skip
_ACT_KEYS: Final = (
    "title", "chapter", "by", "sign", "operation", "operations", "fields", "expect", "rule", "save",
    "measure",
)  # fmt: skip
_ADVANCE_KEYS: Final = ("title", "chapter", "advance")
_LOOK_KEYS: Final = ("title", "chapter", "look", "of", "expect", "within_s")


@dataclass
class _Reader:
    """Judges a scenario as it reads it."""

    path: str
    operations: Mapping[str, Mapping[str, bool]]
    saved: set[str] = field(default_factory=set)
    people: set[str] = field(default_factory=set)
    advanced_ms: int = 0
    where: str = ""

    def wrong(self, what: str, hint: str = "", code: str = "bad_scenario") -> NoReturn:
        raise InvalidInput(what, where=f"{self.path}{self.where}", hint=hint, code=code)

    def only(self, table: Mapping[str, Any], known: Iterable[str], what: str) -> None:
        for key in table:
            if key not in known:
                self.wrong(f"{what} has no key {key!r}", suggestion(key, list(known)), "unknown_key")

    def one_of(self, name: str, known: Iterable[str], what: str, code: str) -> str:
        if name not in known:
            self.wrong(f"there is no {what} {name!r}", suggestion(name, sorted(known)), code)
        return name

    def value(self, table: Mapping[str, Any], key: str, kind: type[Any], default: Any = None) -> Any:
        found = table.get(key, default)
        if found is None:
            self.wrong(f"{key} is missing")
        if type(found) is not kind and not (kind is float and type(found) is int):
            self.wrong(f"{key} is {found!r}, which is no {_NAMES[kind]}")
        return found

    def scenario(self, data: Mapping[str, Any]) -> Scenario:
        self.only(data, _SCENARIO_KEYS, "a scenario")
        name = self.value(data, "scenario", str)
        members = []
        for table in self.value(data, "members", list, []):
            self.only(table, ("name", "roles", "register"), "a member")
            roles = tuple(self.one_of(role, ROLES, "role", "unknown_role") for role in self.value(table, "roles", list))
            members.append(MemberPlan(self.value(table, "name", str), roles, self.value(table, "register", str, "")))
        validators, brokers = self.value(data, "validators", int, 4), self.value(data, "brokers", int, 2)
        self.people = {*validator_names(validators), *DEPOSITORIES, BANK, *(member.name for member in members)}
        self.people |= {f"broker-{number + 1}" for number in range(brokers)}
        tables = self.value(data, "step", list)
        if not 1 <= len(tables) <= _MOST_STEPS:
            self.wrong(f"a scenario has 1 to {_MOST_STEPS} steps")
        steps = []
        for number, table in enumerate(tables, start=1):
            self.where = f", step {number}"
            if isinstance(table, dict) and isinstance(table.get("title"), str):
                self.where = f", step {number} ({table['title']})"
            steps.append(self.step(number, table))
        self.where = ""
        return Scenario(
            name,
            self.value(data, "title", str),
            validators,
            brokers,
            self.value(data, "seed", int, 1),
            tuple(members),
            tuple(steps),
            self.value(data, "sample_assets", bool, False),
        )

    def step(self, number: int, table: Any) -> Step:
        if not isinstance(table, dict):
            self.wrong("a step is a table")
        title, chapter = self.value(table, "title", str), self.value(table, "chapter", str, "")
        if "advance" in table:
            self.only(table, _ADVANCE_KEYS, "an advance")
            return Step(number, title, chapter, self.advance(table))
        if "look" in table:
            self.only(table, _LOOK_KEYS, "a look")
            return Step(number, title, chapter, self.look(table))
        self.only(table, _ACT_KEYS, "a step")
        return Step(number, title, chapter, self.act(table))

    def advance(self, table: Mapping[str, Any]) -> Advance:
        text = self.value(table, "advance", str)
        counted = _LENGTH.fullmatch(text)
        if counted is None:
            self.wrong(f"{text!r} is no length of time", f"A number with {', '.join(_UNITS_MS)}, such as 8h")
        by_ms = int(counted[1]) * _UNITS_MS[counted[2]]
        self.advanced_ms += by_ms
        if self.advanced_ms > _UNITS_MS["d"]:
            self.wrong("all advances together make more than a day")
        return Advance(by_ms)

    def act(self, table: Mapping[str, Any]) -> Act:
        by = self.value(table, "by", str)
        sign = tuple(str(name) for name in self.value(table, "sign", list, [by]))
        for name in (by, *sign):
            self.one_of(name, self.people, "person", "unknown_member")
        if ("operation" in table) == ("operations" in table):
            self.wrong("a step has either an operation or operations")
        if "operations" in table:
            rows = self.value(table, "operations", list)
            for row in rows:
                if not isinstance(row, dict):
                    self.wrong("each of the operations is a table")
                self.only(row, ("operation", "fields", "save"), "an operation of a step")
            if not rows or "fields" in table or "save" in table:
                self.wrong("the fields, and what is saved, belong to each of the operations")
        else:
            rows = [table]
        calls = tuple(self.call(row) for row in rows)
        expect = self.value(table, "expect", str)
        reasons = [reason.title for reason in Reason]
        self.one_of(expect, reasons, "reason", "unknown_reason")
        self.saved.update(call.save for call in calls if call.save)
        if expect == OK:
            self.people.update(call.save for call in calls if call.save and call.operation == "open")
        return Act(by, sign, calls, expect, self.value(table, "rule", str, ""), self.value(table, "measure", str, ""))

    def call(self, row: Mapping[str, Any]) -> Call:
        operation = self.one_of(self.value(row, "operation", str), self.operations, "operation", "unknown_operation")
        given, known = self.value(row, "fields", dict, {}), self.operations[operation]
        self.only(given, known, f"operation {operation}")
        for name, may_lack in known.items():
            if not may_lack and name not in given:
                self.wrong(f"operation {operation} lacks its field {name}", code="missing_field")
        for value in given.values():
            self.known_names(value)
        return Call(operation, given, self.value(row, "save", str, ""))

    def look(self, table: Mapping[str, Any]) -> Look:
        what = self.one_of(self.value(table, "look", str), LOOKS, "look", "unknown_look")
        of, wanted = self.value(table, "of", dict), LOOKS[what]
        self.only(of, wanted, f"look {what}")
        for name in wanted:
            if name not in of and (what, name) not in _MAY_LACK:
                self.wrong(f"look {what} lacks {name}", code="missing_field")
        expect = {name: str(value) for name, value in self.value(table, "expect", dict).items()}
        for value in (*of.values(), *expect.values()):
            self.known_names(value)
        within_s = float(self.value(table, "within_s", float, 0.0))
        return Look(what, {name: str(value) for name, value in of.items()}, expect, within_s)

    def known_names(self, value: Any) -> None:
        """What stands in braces must have been saved by a step before."""
        if isinstance(value, str):
            try:
                names = names_in(value)
            except InvalidInput as error:
                self.wrong(error.what, error.hint, error.code)
            for name in names:
                if name not in self.saved:
                    hint = suggestion(name, sorted(self.saved))
                    self.wrong(f"no step before has saved {{{name}}}", hint, "unknown_name")
        elif isinstance(value, list):
            for item in value:
                self.known_names(item)
        elif isinstance(value, dict):
            for item in value.values():
                self.known_names(item)


_NAMES: Final = {str: "text", int: "integer", bool: "truth value", list: "list", dict: "table", float: "number"}
