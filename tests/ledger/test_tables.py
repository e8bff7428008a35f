"""Rows come back as they went in, as the protocol writes them; a row that cannot be read is a broken state."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.ledger.market.buckets import Bucket, Encumbrance, encumbrance_key
from p2pledger.ledger.market.due import Due, DueKind, due_key
from p2pledger.ledger.tables import (
    KEY_WIDTHS,
    Account,
    Asset,
    EvidenceRow,
    FinalityRow,
    Flow,
    Holding,
    Issued,
    Lock,
    Native,
    ParameterRow,
    Party,
    Register,
    ReplayRow,
    Stake,
    Staked,
    Table,
    ValidatorsRow,
    asset_of,
    engine_key,
    evidence_key,
    holding_key,
    lock_key,
    parameter_key,
    register_of,
    replay_key,
    validators_key,
)
from p2pledger.primitives.codec import U64_MAX, encode
from p2pledger.primitives.names import AssetKind, asset_id
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.validators import Validator

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
KEY = b"k" * 32
POLICY = Policy.of(KEY, threshold=1)

# Each row with the array that docs/protocol.md, section 7 prescribes for it.
ROWS = [
    (ParameterRow(7), (1, 7)),
    (Account(POLICY, 3), (1, 3, POLICY.values())),
    (Asset(AssetKind.MONEY, 2, KEY, "Yuan", 9, 4, 1), (1, 1, 1, 2, KEY, 9, 4, "Yuan")),
    (Holding(5, 6), (1, 5, 6)),
    (Lock(6), (1, 6)),
    (Register(KEY, "CSDC"), (1, KEY, "CSDC")),
    (
        Party("bob", ("broker",), "529900T8BM49AURSDO55", "DE", KEY, 1),
        (1, "bob", ("broker",), "529900T8BM49AURSDO55", "DE", KEY, 1),
    ),
    (ValidatorsRow((Validator(KEY, 4, "csdc"),)), (1, ((KEY, 4, "csdc"),))),
    (ReplayRow(8, 5, 65535), (1, 8, 5, 65535)),
    (Native(9), (1, 9)),
    (Stake(KEY, 7, 3, KEY[::-1]), (1, KEY, 7, 3, KEY[::-1])),
    (Staked(8, 2), (1, 8, 2)),
    (Issued(11), (1, 11)),
    (EvidenceRow(4, 1, 6), (1, 4, 1, 6)),
    (FinalityRow(6), (1, 6)),
    (Flow(7, 5), (1, 7, 5)),
    (Encumbrance(Bucket.SETTLING, 9), (1, 2, 9)),
    (Due(), (1,)),
]


@pytest.mark.parametrize(("row", "values"), ROWS, ids=lambda item: type(item).__name__)
def test_a_row_is_written_as_prescribed_and_read_back(row: Account, values: tuple[object, ...]) -> None:
    assert row.encode() == encode(values)
    assert type(row).decode(row.encode()) == row


@pytest.mark.parametrize(("row", "values"), ROWS, ids=lambda item: type(item).__name__)
def test_a_row_that_cannot_be_read_is_a_broken_state(row: Account, values: tuple[object, ...]) -> None:
    broken = [
        b"",
        b"\xc1",
        row.encode()[:-1],
        row.encode() + b"\0",
        encode((2, *values[1:])),
        encode((*values, 0)),
        encode(values[:-1]),
        encode(1),
    ]
    for data in broken:
        with pytest.raises(AssertionError, match="the state is broken"):
            type(row).decode(data)


@given(free=st.integers(0, U64_MAX), locked=st.integers(0, U64_MAX))
def test_a_holding_never_exceeds_64_bits(free: int, locked: int) -> None:
    if free + locked <= U64_MAX:
        holding = Holding(free, locked)
        assert Holding.decode(holding.encode()) == holding
        assert holding.total == free + locked
    else:
        with pytest.raises(AssertionError):
            Holding(free, locked)


def test_impossible_rows_cannot_be_made() -> None:
    for make in (
        lambda: Holding(-1, 0),
        lambda: Holding(0, -1),
        lambda: Lock(-1),
        lambda: Lock(2**64),
        lambda: Asset(AssetKind.MONEY, 0, KEY, "x", 1, -1),
        lambda: Asset(AssetKind.MONEY, 0, KEY, "x", 2**64, 0),
        lambda: Native(-1),
        lambda: Native(2**64),
        lambda: Stake(KEY, 0, 1, KEY),
        lambda: Staked(5, 0),
        lambda: Staked(0, 1),
        lambda: Issued(2**64),
        lambda: Flow(-1, 0),
        lambda: Encumbrance(Bucket.LOCKED, 1),
        lambda: Encumbrance(Bucket.PENDING, 0),
    ):
        with pytest.raises(AssertionError):
            make()


def test_keys_have_the_widths_of_their_tables() -> None:
    asset = asset_id("DE0005140008@CSDC")
    keys = {
        Table.PARAMETERS: parameter_key(1),
        Table.ACCOUNTS: KEY,
        Table.ASSETS: asset,
        Table.HOLDINGS: holding_key(asset, KEY),
        Table.LOCKS: lock_key(asset, KEY, KEY),
        Table.REGISTERS: register_of(asset),
        Table.PARTIES: KEY,
        Table.VALIDATORS: validators_key(3),
        Table.REPLAY: replay_key(4, KEY),
        Table.NATIVE: KEY,
        Table.STAKES: KEY,
        Table.STAKED: KEY,
        Table.ENGINE: engine_key(0),
        Table.EVIDENCE: evidence_key(KEY, 1),
        Table.FINALITY: asset,
        Table.ENCUMBRANCES: encumbrance_key(asset, KEY, KEY),
        Table.DUE: due_key(5, DueKind.SETTLE, KEY),
        Table.FLOWS: asset,
    }
    assert {table: len(key) for table, key in keys.items()} == {table: KEY_WIDTHS[table] for table in keys}
    assert list(KEY_WIDTHS) == list(Table)
    assert asset_of(keys[Table.LOCKS]) == asset
    assert keys[Table.PARAMETERS] == b"\0\x01"
    assert register_of(asset) == b"CSDC"


def test_a_remembered_outcome_has_a_version_of_its_own_where_a_rule_is_named() -> None:
    row = ReplayRow(8, 19, 3, "order 0011aabb")
    assert row.encode() == encode((2, 8, 19, 3, "order 0011aabb"))
    assert ReplayRow.decode(row.encode()) == row
    for values in ((2, 8, 19, 3), (3, 8, 19, 3, "x"), (2, 8, 19, 3, "x", 0)):
        with pytest.raises(AssertionError, match="the state is broken"):
            ReplayRow.decode(encode(values))


def test_replay_keys_sort_by_height() -> None:
    heights = [0, 1, 255, 256, 2**32, 2**64 - 1]
    keys = [replay_key(height, bytes([255 - at]) * 32) for at, height in enumerate(heights)]
    assert keys == sorted(keys)


def test_the_tables_are_those_of_the_protocol() -> None:
    """Number and name of each table in section 7, and the sum of the widths of its key."""
    written = re.findall(
        r"^\| (\d+) \| ([A-Z_]+) \| (.+?) \| (?:`\[|section)", PROTOCOL.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {int(number): name for number, name, _ in written} == {int(table): table.name for table in Table}
    for number, _, key in written:
        assert sum(int(width) for width in re.findall(r"\((\d+)\)", key)) == KEY_WIDTHS[int(number)]
