"""Transactions byte by byte: what is signed, what names them, and which forms are refused."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger import core
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.codec import U64_MAX, Value, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.transactions import OPERATIONS, SignedTransaction, Transaction
from p2pledger.primitives.validators import Validator
from tests.primitives import samples
from tests.primitives.samples import ALICE, BOB, BOND, CASH, KEYS, NETWORK

accounts, assets = st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16)
amounts = st.integers(0, U64_MAX)
policies = st.builds(
    lambda keys, version: Policy(len(keys), tuple((key, 1) for key in sorted(keys)), version),
    st.sets(accounts, min_size=1, max_size=16),
    st.integers(1, U64_MAX),
)
names = st.text(min_size=1, max_size=64).filter(lambda text: 0 < len(text.encode()) <= 64)
seats = st.dictionaries(
    accounts, st.builds(Validator, st.just(b""), st.integers(1, 2**32 - 1), names), min_size=1, max_size=5
).map(lambda found: tuple(Validator(key, seat.weight, seat.name) for key, seat in sorted(found.items())))
approvals = st.dictionaries(accounts, st.binary(min_size=64, max_size=64), min_size=1, max_size=5).map(
    lambda found: tuple(sorted(found.items()))
)
statements = st.binary(min_size=1, max_size=1_024)
operations = st.one_of(
    st.builds(tx.Transfer, accounts, accounts, assets, amounts),
    st.builds(tx.Lock, accounts, assets, amounts, accounts),
    st.builds(tx.Release, accounts, assets, amounts, accounts),
    st.builds(tx.Issue, assets, accounts, amounts),
    st.builds(tx.Redeem, assets, accounts, amounts),
    st.builds(tx.Define, assets, st.integers(0, 1), st.integers(0, 18), accounts, names),
    st.builds(tx.Open, accounts, assets, policies),
    st.builds(tx.SetPolicy, accounts, policies),
    st.builds(tx.Pay, accounts, accounts, amounts),
    st.builds(tx.Stake, accounts, amounts, assets, accounts),
    st.builds(tx.Unstake, accounts, accounts),
    st.builds(tx.SetFinality, assets, amounts),
    st.builds(tx.SetValidators, amounts, seats, approvals),
    st.builds(tx.Report, statements, statements),
)
bodies = st.builds(
    Transaction,
    st.just(NETWORK),
    amounts,
    assets,
    accounts,
    st.lists(operations, min_size=1, max_size=20).map(tuple),
    amounts,
)


@given(bodies, st.sets(st.sampled_from(KEYS), min_size=1))
def test_any_transaction_is_read_back_by_python_and_by_the_core(body: Transaction, signers: set[Keypair]) -> None:
    data = body.sign(signers)
    decoded = SignedTransaction.decode(data)
    assert decoded.transaction == body
    assert decoded.id == body.id
    assert decoded.signers == tuple(sorted(keypair.public_key for keypair in signers))
    limits = core.Limits(1, 256, 16, 65_536, 16)
    columns, refused = core.scan_transactions([data], NETWORK, limits)
    assert refused == []
    assert columns.ids == body.id
    assert columns.plain == bytes([all(operation.code <= 3 for operation in body.operations)])
    flags = core.verify_batch(columns.public_keys, columns.signatures, columns.messages)
    assert flags == b"\x01" * len(signers)


def test_the_bytes_are_those_of_the_protocol() -> None:
    """Section 4, written out by hand for a transfer."""
    body = samples.transaction(tx.Transfer(ALICE, BOB, BOND, 200), salt=1)
    expected = (
        b"\x97\x01"
         b"\xc4\x08" + NETWORK
        + b"\xcd\x03\x84"
        + b"\xc4\x10" + (1).to_bytes(16, "big")
        + b"\xc4\x20" + ALICE
        + b"\x05"
        + b"\x91\x95\x01" + b"\xc4\x20" + ALICE + b"\xc4\x20" + BOB + b"\xc4\x10" + BOND + b"\xcc\xc8"
    )  # fmt: skip
    assert body.encode() == expected
    assert body.id == hashlib.sha256(b"p2pl.tx1" + expected).digest()
    [keypair] = KEYS[:1]
    signature = keypair.sign(b"p2pl.ts1" + body.id)
    assert (
        body.sign([keypair]) == b"\x92" + expected + b"\x91\x92\xc4\x20" + keypair.public_key + b"\xc4\x40" + signature
    )


def test_signatures_are_sorted_unique_and_no_part_of_the_id() -> None:
    body = samples.transaction()
    assert body.sign(KEYS[:3]) == body.sign([*reversed(KEYS[:3]), KEYS[0]])
    ids = {SignedTransaction.decode(body.sign(KEYS[:count])).id for count in (1, 2, 7)}
    assert ids == {body.id}


@given(bodies, bodies)
def test_different_bodies_have_different_ids(first: Transaction, second: Transaction) -> None:
    assert (first == second) is (first.id == second.id) is (first.encode() == second.encode())


def replaced(operation: tx.Operation, at: int, value: Value) -> bytes:
    """A signed transaction in which field ``at`` of the operation's array has another value."""
    fields = [*operation.values()]
    fields[at] = value
    return with_operations([fields])


def with_operations(rows: Value) -> bytes:
    return encode([[1, NETWORK, 9, bytes(16), ALICE, 0, rows], [[KEYS[0].public_key, bytes(64)]]])


SEATED = samples.OPERATIONS[12]
BAD_FORMS = {
    "no operations": (with_operations([]), "malformed"),
    "operations are no array": (with_operations(b""), "malformed"),
    "operation is no array": (with_operations([1]), "malformed"),
    "operation is empty": (with_operations([[]]), "malformed"),
    "operation code is text": (with_operations([["1"]]), "malformed"),
    "operation code 0": (with_operations([[0]]), "unknown_operation"),
    "operation code 15": (with_operations([[15, ALICE]]), "unknown_operation"),
    "a field too few": (with_operations([[1, ALICE, BOB, BOND]]), "malformed"),
    "a field too many": (with_operations([[1, ALICE, BOB, BOND, 1, 1]]), "malformed"),
    "narrow account": (replaced(tx.Transfer(ALICE, BOB, BOND, 1), 1, ALICE[1:]), "malformed"),
    "wide asset": (replaced(tx.Transfer(ALICE, BOB, BOND, 1), 3, BOND + b"x"), "malformed"),
    "amount is bytes": (replaced(tx.Lock(ALICE, BOND, 1, BOB), 3, b"1"), "malformed"),
    "controller missing": (replaced(tx.Release(ALICE, BOND, 1, BOB), 4, None), "malformed"),
    "issue to an asset": (replaced(tx.Issue(BOND, ALICE, 1), 2, BOND), "malformed"),
    "redeem true": (replaced(tx.Redeem(BOND, ALICE, 1), 3, True), "malformed"),
    "kind 2": (replaced(tx.Define(CASH, 1, 2, ALICE, "x"), 2, 2), "malformed"),
    "19 decimals": (replaced(tx.Define(CASH, 1, 2, ALICE, "x"), 3, 19), "malformed"),
    "empty name": (replaced(tx.Define(CASH, 1, 2, ALICE, "x"), 5, ""), "malformed"),
    "name of 65 bytes": (replaced(tx.Define(CASH, 1, 2, ALICE, "x"), 5, "é" * 32 + "x"), "malformed"),
    "name is bytes": (replaced(tx.Define(CASH, 1, 2, ALICE, "x"), 5, b"x"), "malformed"),
    "salt of 15 bytes": (replaced(tx.Open(ALICE, bytes(16), samples.POLICY), 2, bytes(15)), "malformed"),
    "policy is no array": (replaced(tx.SetPolicy(ALICE, samples.POLICY), 2, 1), "malformed"),
    "policy without keys": (replaced(tx.SetPolicy(ALICE, samples.POLICY), 2, (1, (), 1)), "malformed"),
    "native amount missing": (with_operations([[9, ALICE, BOB]]), "malformed"),
    "salt of a stake": (replaced(tx.Stake(ALICE, 1, bytes(16), BOB), 3, bytes(15)), "malformed"),
    "stake of 31 bytes": (replaced(tx.Unstake(ALICE, BOB), 2, BOB[1:]), "malformed"),
    "confirmations are bytes": (replaced(tx.SetFinality(BOND, 1), 2, b"1"), "malformed"),
    "no seats": (replaced(SEATED, 2, ()), "malformed"),
    "seats unsorted": (replaced(SEATED, 2, SEATED.values()[2][::-1]), "malformed"),
    "a seat twice": (replaced(SEATED, 2, SEATED.values()[2][:1] * 2), "malformed"),
    "a seat without weight": (replaced(SEATED, 2, [[ALICE, 0, "x"]]), "malformed"),
    "a seat of too much weight": (replaced(SEATED, 2, [[ALICE, 2**32, "x"]]), "malformed"),
    "a seat with a long name": (replaced(SEATED, 2, [[ALICE, 1, "x" * 65]]), "malformed"),
    "no approvals": (replaced(SEATED, 3, ()), "malformed"),
    "approvals unsorted": (replaced(SEATED, 3, SEATED.values()[3][::-1]), "malformed"),
    "an approval of 63 bytes": (replaced(SEATED, 3, [[ALICE, bytes(63)]]), "malformed"),
    "an empty statement": (replaced(tx.Report(b"1", b"2"), 1, b""), "malformed"),
    "a long statement": (replaced(tx.Report(b"1", b"2"), 2, bytes(1_025)), "malformed"),
    "no signatures": (encode([[1, NETWORK, 9, bytes(16), ALICE, 0, [[4, BOND, ALICE, 1]]], []]), "malformed"),
    "version 2": (encode([[2, NETWORK, 9, bytes(16), ALICE, 0, [[4, BOND, ALICE, 1]]], []]), "unknown_version"),
}


@pytest.mark.parametrize(("data", "code"), BAD_FORMS.values(), ids=BAD_FORMS)
def test_other_forms_are_refused_by_python_and_by_the_core(data: bytes, code: str) -> None:
    with pytest.raises(PeerFault) as caught:
        SignedTransaction.decode(data)
    assert caught.value.code == code
    columns, refused = core.scan_transactions([data], NETWORK, core.Limits(1, 256, 16, 65_536, 16))
    assert (columns.count, len(refused)) == (0, 1)


def test_signatures_must_ascend() -> None:
    body = samples.transaction()
    pairs = [(key, bytes(64)) for key in sorted(keypair.public_key for keypair in KEYS[:3])]
    for wrong in (pairs[::-1], [pairs[0], pairs[0]], [pairs[1], pairs[0], pairs[2]]):
        data = b"\x92" + body.encode() + encode(wrong)
        with pytest.raises(PeerFault):
            SignedTransaction.decode(data)


def test_a_transaction_over_the_limit_is_refused_unread() -> None:
    data = samples.transaction().sign(KEYS)
    assert SignedTransaction.decode(data, limit_bytes=len(data)).id == samples.transaction().id
    with pytest.raises(PeerFault) as caught:
        SignedTransaction.decode(data, limit_bytes=len(data) - 1)
    assert caught.value.code == "too_large"


def test_every_operation_starts_with_its_code() -> None:
    for example in samples.OPERATIONS:
        assert OPERATIONS[example.code] is type(example)
        assert example.values()[0] == example.code
        assert len(example.values()) == 1 + len(example.form)


def test_the_two_legs_of_a_trade() -> None:
    legs = tx.delivery_versus_payment(seller=ALICE, buyer=BOB, security=BOND, quantity=5, money=CASH, price=490)
    assert tuple(legs) == (tx.Transfer(ALICE, BOB, BOND, 5), tx.Transfer(BOB, ALICE, CASH, 490))
