"""Proofs of rows: true ones convince anybody who has the root, and nothing else does."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger import core
from p2pledger.ledger import proofs
from p2pledger.ledger.queries import rows
from p2pledger.ledger.tables import KEY_WIDTHS, Table, holding_key
from p2pledger.primitives.codec import decode, encode
from p2pledger.primitives.errors import PeerFault
from tests.ledger.small_market import BOND, BOND_ACROSS, STRANGER, account, founded

VERSION = founded().version
ROOT = VERSION.root()
HOLDING_KEY = holding_key(BOND, account("alice"))


@pytest.mark.parametrize("table", list(Table))
def test_every_row_of_the_state_can_be_proved(table: Table) -> None:
    for key, row in rows(VERSION, table):
        assert proofs.verify(ROOT, proofs.prove(VERSION, table, key)) == (table, key, row)


@given(st.sampled_from(list(Table)), st.data())
def test_every_absence_can_be_proved(table: Table, data: st.DataObject) -> None:
    key = data.draw(st.binary(min_size=KEY_WIDTHS[table], max_size=KEY_WIDTHS[table]))
    assert proofs.verify(ROOT, proofs.prove(VERSION, table, key)) == (table, key, VERSION.get(table, key))


def test_neighbours_of_rows_are_absent() -> None:
    """Keys that differ from a row's in a single bit, at every bit."""
    for bit in range(8 * len(HOLDING_KEY)):
        key = bytearray(HOLDING_KEY)
        key[bit // 8] ^= 0x80 >> bit % 8
        assert proofs.verify(ROOT, proofs.prove(VERSION, Table.HOLDINGS, bytes(key)))[2] is None


def test_an_empty_table_proves_absence_without_a_leaf() -> None:
    key = BOND + STRANGER + STRANGER
    data = proofs.prove(VERSION, Table.LOCKS, key)
    assert decode(data, limit_bytes=1_000, what="proof")[3] is None
    assert proofs.verify(ROOT, data) == (Table.LOCKS, key, None)


def test_a_proof_holds_under_its_own_root_only() -> None:
    data = proofs.prove(VERSION, Table.HOLDINGS, HOLDING_KEY)
    market = founded()
    market.alter(Table.HOLDINGS, holding_key(BOND_ACROSS, STRANGER), b"\x93\x01\x01\x00")
    for root in (market.version.root(), bytes(32), ROOT[::-1], b""):
        with pytest.raises(PeerFault):
            proofs.verify(root, data)


@pytest.mark.parametrize("key", [HOLDING_KEY, holding_key(BOND, STRANGER)], ids=["presence", "absence"])
def test_a_mutated_proof_proves_nothing_else(key: bytes) -> None:
    """Every single bit of a real proof flipped, and thousands of wilder changes: never another statement."""
    data, dice = proofs.prove(VERSION, Table.HOLDINGS, key), random.Random(7)
    truth = proofs.verify(ROOT, data)
    mutants = [
        bytes(data[:at]) + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] for at in range(len(data)) for bit in range(8)
    ]
    for _ in range(2_000):
        start, end = sorted(dice.randrange(len(data)) for _ in range(2))
        mutants.append(data[:start] + dice.choice((b"", b"\xc0", dice.randbytes(3), data[end:])) + data[end:])
    for mutant in mutants:
        try:
            statement = proofs.verify(ROOT, mutant)
        except PeerFault:
            continue
        # A changed key may still end at the same leaf: then the statement is another one, and it is true.
        table, asked, row = statement
        assert VERSION.get(table, asked) == row
        assert statement == truth or row is None


def test_each_part_of_a_lie_is_refused() -> None:
    version, table, key, leaf, path, tables = decode(
        proofs.prove(VERSION, Table.HOLDINGS, HOLDING_KEY), limit_bytes=10_000, what="proof"
    )
    lies = {
        "another value": (version, table, key, (leaf[0], leaf[1] + b"\0"), path, tables),
        "present as absent": (version, table, key, None, (), tables),
        "without a leaf": (version, table, key, None, path, tables),
        "a shorter path": (version, table, key, leaf, path[1:], tables),
        "a turned path": (version, table, key, leaf, path[::-1], tables),
        "a bit beyond the key": (version, table, key, leaf, ((640, bytes(32)), *path), tables),
        "turned tables": (version, table, key, leaf, path, tables[::-1]),
        "another table": (version, int(Table.LOCKS), key + STRANGER, None, (), tables),
    }
    for name, lie in lies.items():
        with pytest.raises(PeerFault) as caught:
            proofs.verify(ROOT, encode(lie))
        assert caught.value.code == "bad_proof", name
    forms = {
        "version": ((2, table, key, leaf, path, tables), "unknown_version"),
        "unknown table": ((1, 9, key, leaf, path, tables), "malformed"),
        "narrow key": ((1, table, key[1:], leaf, path, tables), "malformed"),
        "narrow leaf": ((1, table, key, (leaf[0][1:], leaf[1]), path, tables), "malformed"),
        "leaf of three": ((1, table, key, (*leaf, b""), path, tables), "malformed"),
        "five tables": ((1, table, key, leaf, path, tables[1:]), "malformed"),
        "seven tables": ((1, table, key, leaf, path, (*tables, tables[0])), "malformed"),
        "narrow sibling": ((1, table, key, leaf, ((3, b"x"),), tables), "malformed"),
        "one field more": ((1, table, key, leaf, path, tables, 0), "malformed"),
    }
    for name, (form, code) in forms.items():
        with pytest.raises(PeerFault) as caught:
            proofs.verify(ROOT, encode(form))
        assert caught.value.code == code, name


def test_a_question_about_no_table_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError):
        proofs.prove(VERSION, Table.HOLDINGS, b"short")
    assert isinstance(VERSION.prove(Table.HOLDINGS, HOLDING_KEY), core.Proof)
