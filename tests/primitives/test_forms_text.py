"""Operations as texts: what people may write for each kind of field, how it is shown, and what is refused."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from p2pledger.primitives import forms as f
from p2pledger.primitives import forms_text as t
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.names import AssetKind, asset_id
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.transactions import OPERATIONS
from tests.core import form_values
from tests.primitives.samples import ALICE, BOB, BOND, CASH, KEYS, POLICY

NAMES = t.Names({"alice": ALICE, "bob": BOB}, {BOND: 0, CASH: 2})
KEY = KEYS[0].public_key
PAIR = f.Row("pair", (f.AssetName("asset"), f.Amount("amount")))


@pytest.mark.parametrize("kind", OPERATIONS.values(), ids=f.operation_name)
def test_every_operation_is_written_and_read_back(kind: type[f.Operation]) -> None:
    for seed in range(20):
        rng = random.Random(f"{kind.code} {seed}")
        operation = form_values.operation(kind, rng)
        plain = t.operation_plain(operation, NAMES)
        assert list(plain) == [field.name for field in kind.form]
        assert t.operation_of(f.operation_name(kind), plain, NAMES) == operation


WRITTEN: list[tuple[f.Field, Any, Any]] = [
    (f.Account("who"), "alice", ALICE),
    (f.Account("who"), KEY.hex(), KEY),
    (f.Account("who"), KEY, KEY),
    (f.Account("who", optional=True), "", b""),
    (f.AssetName("asset"), "CNY@ICBC", CASH),
    (f.AssetName("asset"), (b"\xff" * 16).hex(), b"\xff" * 16),
    (f.RegisterCode("register"), "CCB", b"CCB\0"),
    (f.Instrument("instrument"), "CNY", b"CNY" + bytes(9)),
    (f.Digest("document"), "0A" * 32, b"\n" * 32),
    (f.Blob("first", 1, 4), "00ff", b"\0\xff"),
    (f.Number("decimals", most=18), "18", 18),
    (f.Number("decimals", most=18), 18, 18),
    (f.OperationCode("operation"), "set-policy", 8),
    (f.OperationCode("operation"), "8", 8),
    (f.Amount("amount"), "1050", 1050),
    (f.Amount("amount"), 1050, 1050),
    (f.TimeMs("at"), "2026-03-02T10:00:00+08:00", 1_772_416_800_000),
    (f.TimeMs("at"), "2026-03-02T02:00:00.250Z", 1_772_416_800_250),
    (f.TimeMs("at"), "1772416800000", 1_772_416_800_000),
    (f.TimeMs("at"), datetime(2026, 3, 2, 10, tzinfo=timezone(timedelta(hours=8))), 1_772_416_800_000),
    (f.TimeMs("at"), datetime(2026, 3, 2, 2, microsecond=250_000, tzinfo=UTC), 1_772_416_800_250),
    (f.Day("day"), "2026-03-02", 20_514),
    (f.Day("day"), date(2026, 3, 2), 20_514),
    (f.Day("day"), 20_514, 20_514),
    (f.Choice("kind", AssetKind), "money", AssetKind.MONEY),
    (f.Choice("kind", AssetKind), 1, AssetKind.MONEY),
    (f.Switch("on"), "on", True),
    (f.Switch("on"), "No", False),
    (f.Switch("on"), True, True),
    (f.Text("name"), "Renminbi 人民币", "Renminbi 人民币"),
    (f.SigningPolicy("policy"), f"1 of {KEY.hex()}", Policy.of(KEY)),
    (f.SigningPolicy("policy"), f"3 of {KEY.hex()}:3 version 2", Policy(3, ((KEY, 3),), 2)),
    (f.SigningPolicy("policy"), POLICY, POLICY),
    (PAIR, "CNY@ICBC, 12.5", (CASH, 1_250)),
    (PAIR, "amount=12.5,asset=CNY@ICBC", (CASH, 1_250)),
    (PAIR, {"asset": "CNY@ICBC", "amount": "12.50"}, (CASH, 1_250)),
    (PAIR, ["CNY@ICBC", 1_250], (CASH, 1_250)),
    (PAIR, '{"asset": "CNY@ICBC", "amount": "1,234.5"}', (CASH, 123_450)),
    (f.ListOf("pairs", PAIR), "CNY@ICBC,1;DE0005140008@CSDC,1", ((CASH, 100), (BOND, 1))),
    (f.ListOf("pairs", PAIR), '[["CNY@ICBC", "1"]]', ((CASH, 100),)),
    (f.ListOf("days", f.Day("day"), ascending=True), "2026-03-03, 2026-03-02", (20_514, 20_515)),
    (f.ListOf("days", f.Day("day")), "", ()),
]


@pytest.mark.parametrize(("field", "plain", "value"), WRITTEN)
def test_what_people_may_write(field: f.Field, plain: Any, value: Any) -> None:
    assert t.value_of(field, plain, NAMES) == value


REFUSED: list[tuple[f.Field, Any, str]] = [
    (f.Account("who"), "alicia", "Did you mean alice?"),
    (f.Account("who"), "", "'' is not what field who takes. It is an account"),
    (f.Reference("what"), "T-1", "'T-1' is not what field what takes. It is 64 hexadecimal digits"),
    (f.Account("who"), 7, "'7' is not what field who takes"),
    (f.AssetName("asset"), "CNY", "INSTRUMENT@REGISTER"),
    (f.RegisterCode("register"), "toolong", "not a register code"),
    (f.Instrument("instrument"), "lower", "It is an instrument"),
    (f.Digest("document"), "00" * 31, "64 hexadecimal digits"),
    (f.Blob("first", 1, 4), "", "1 to 4 bytes"),
    (f.Blob("first", 1, 4), "0g", "1 to 4 bytes"),
    (f.Number("decimals", most=18), "19", "an integer from 0 to 18"),
    (f.Number("decimals", most=18), "-1", "an integer from 0 to 18"),
    (f.Number("decimals", most=18), "\u0661", "an integer from 0 to 18"),  # a digit, though not of ours
    (f.Number("decimals", most=18), True, "an integer from 0 to 18"),
    (f.Number("decimals", most=18), "9" * 5_000, "an integer from 0 to 18"),
    (f.OperationCode("operation"), "transfr", "Did you mean transfer?"),
    (f.Amount("amount"), "1.5", "an amount"),
    (f.Amount("amount"), 2**64, "an amount"),
    (f.TimeMs("at"), "2026-03-02T10:00:00", "its offset from UTC"),
    (f.TimeMs("at"), "yesterday", "a time such as"),
    (f.TimeMs("at"), "1969-12-31T23:59:59Z", "a time such as"),
    (f.TimeMs("at"), "2026-03-02T10:00:00.0001Z", "a time such as"),
    (f.Day("day"), "2026-02-30", "a day such as"),
    (f.Day("day"), "1969-12-31", "a day such as"),
    (f.Day("day"), datetime(2026, 3, 2), "a day such as"),  # noqa: DTZ001
    (f.Choice("kind", AssetKind), "bond", "one of security, money"),
    (f.Choice("kind", AssetKind), "2", "one of security, money"),
    (f.Switch("on"), "maybe", "on or off"),
    (f.Switch("on"), 1, "on or off"),
    (f.Text("name"), "n" * 65, "a text of 1 to 64 bytes"),
    (f.Text("name"), "", "a text of 1 to 64 bytes"),
    (f.Text("name"), "\ud800", "a text of 1 to 64 bytes"),
    (f.SigningPolicy("policy"), f"2 of {KEY.hex()}", "not possible"),
    (f.SigningPolicy("policy"), "2 of alice", "a policy such as"),
    (PAIR, "CNY@ICBC", "It has asset, amount"),
    (PAIR, "asset=CNY@ICBC,amuont=1", "Did you mean amount?"),
    (PAIR, "CNY@CCB,1.5", "decimals of CNY@CCB are not known"),
    (PAIR, "{", "not JSON"),
    (PAIR, 7, "It has asset, amount"),
    (f.ListOf("pairs", PAIR), "CNY@ICBC,1;CNY@ICBC,1.005", r"pairs 2\): |in pairs 2"),
    (f.ListOf("days", f.Day("day"), most=1), "2026-03-03,2026-03-02", "has 2 items, not 0 to 1"),
    (f.ListOf("days", f.Day("day"), ascending=True), "2026-03-03,2026-03-03", "twice"),
    (f.ListOf("days", f.Day("day")), 7, "a list of 0 to 256, each a day"),
]


@pytest.mark.parametrize(("field", "plain", "words"), REFUSED)
def test_what_else_is_refused_with_what_it_should_be(field: f.Field, plain: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        t.value_of(field, plain, NAMES)


def test_amounts_are_in_the_decimals_of_the_asset_beside_them() -> None:
    legs = {"source": "alice", "target": "bob", "asset": "CNY@ICBC", "amount": "12.5"}
    assert t.operation_of("transfer", legs, NAMES) == tx.Transfer(ALICE, BOB, CASH, 1_250)
    assert t.operation_of("transfer", legs | {"amount": 12}, NAMES) == tx.Transfer(ALICE, BOB, CASH, 12)
    assert t.operation_of("transfer", legs | {"amount": "12 units"}, NAMES) == tx.Transfer(ALICE, BOB, CASH, 12)
    two = (f.AssetName("gives"), f.Amount("given"), f.AssetName("takes"), f.Amount("taken"), f.Amount("fee", "gives"))
    values = {"gives": CASH, "given": 100, "takes": BOND, "taken": 100, "fee": 100}
    assert t.form_plain(two, values, NAMES) == {
        "gives": "CNY@ICBC", "given": "1.00", "takes": "DE0005140008@CSDC", "taken": "100", "fee": "1.00",
    }  # fmt: skip


def test_the_assets_of_amounts_can_be_looked_up_first() -> None:
    legs = {"source": "nobody", "asset": "CNY@CCB", "amount": "x"}
    assert t.assets_named("transfer", legs) == {asset_id("CNY@CCB")}
    assert t.assets_named("pay", {}) == set()


def test_a_salt_is_given_to_what_asks_for_one() -> None:
    fields = {"account": "alice", "amount": "5", "key": KEY.hex()}
    assert t.operation_of("stake", fields, NAMES, b"s" * 16) == tx.Stake(ALICE, 5, b"s" * 16, KEY)
    assert t.operation_of("stake", fields | {"salt": "00" * 16}, NAMES, b"s" * 16).values()[3] == bytes(16)
    with pytest.raises(InvalidInput, match="field salt is missing"):
        t.operation_of("stake", fields, NAMES)


def test_wrong_names_are_answered_with_the_nearest_right_one() -> None:
    with pytest.raises(InvalidInput, match=r"'set-polcy' is no operation. Did you mean set_policy\?") as caught:
        t.operation_of("set-polcy", {}, NAMES)
    assert caught.value.code == "unknown_operation"
    with pytest.raises(InvalidInput, match=r"no field 'sourc' \(in transfer\). Did you mean source\?"):
        t.operation_of("transfer", {"sourc": "alice"}, NAMES)
    with pytest.raises(InvalidInput, match=r"field target is missing \(in transfer\)"):
        t.operation_of("transfer", {"source": "alice"}, NAMES)


def test_what_is_wrong_as_a_whole_is_refused_before_it_is_sent() -> None:
    policy = Policy(5, ((KEY, 1),))
    with pytest.raises(InvalidInput, match="set_policy is not possible"):
        t.operation_of("set_policy", {"account": "alice", "policy": policy}, NAMES)
