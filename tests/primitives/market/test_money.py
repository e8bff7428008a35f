"""The forms of the operations about money, and what identifies a payment."""

from p2pledger.primitives.market.money import (
    MONEY_OPERATIONS,
    AuthoriseMoney,
    MoneyKind,
    PayAcross,
)
from p2pledger.primitives.names import asset_id, object_id
from p2pledger.primitives.transactions import OPERATIONS, SignedTransaction, Transaction
from tests.ledger.small_market import key

A, B, SALT = bytes(31) + b"a", bytes(31) + b"b", bytes(15) + b"s"
HERE, THERE, BASE = asset_id("CNY@ICBC"), asset_id("CNY@CMBC"), asset_id("CNY@PBOC")


def test_the_codes_follow_those_of_trades() -> None:
    assert [kind.code for kind in MONEY_OPERATIONS] == list(range(65, 72))
    assert all(OPERATIONS[kind.code] is kind for kind in MONEY_OPERATIONS)


def test_a_payment_is_known_by_its_payer_and_salt() -> None:
    paid = PayAcross(A, B, HERE, THERE, 5, SALT)
    assert paid.id == object_id(67, A, SALT)
    assert paid.id == PayAcross(A, A, THERE, HERE, 6, SALT, expires_ms=1).id
    assert paid.id != PayAcross(B, B, HERE, THERE, 5, SALT).id


def test_they_come_back_from_bytes_as_they_went() -> None:
    operations = (
        AuthoriseMoney(A, BASE, MoneyKind.BASE),
        AuthoriseMoney(A, HERE, MoneyKind.BANK, BASE, B, A, 3_600_000),
        PayAcross(A, B, HERE, THERE, 5, SALT),
    )
    transaction = Transaction(bytes(8), 1, SALT, A, operations)
    assert SignedTransaction.decode(transaction.sign([key("csdc")])).transaction == transaction
