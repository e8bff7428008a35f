"""The forms of the operations between registers, and what identifies a crossing."""

from p2pledger.primitives.market.links import LINK_OPERATIONS, AgreeLink, Cross, EndLink, Reconcile
from p2pledger.primitives.names import asset_id, object_id, register_code
from p2pledger.primitives.transactions import OPERATIONS, SignedTransaction, Transaction
from tests.ledger.small_market import key

A, SALT = bytes(31) + b"a", bytes(15) + b"s"
BOND, CSDC, CCDC = asset_id("DE0005140008@CSDC"), register_code("CSDC"), register_code("CCDC")


def test_the_codes_follow_those_of_money() -> None:
    assert [kind.code for kind in LINK_OPERATIONS] == list(range(72, 76))
    assert all(OPERATIONS[kind.code] is kind for kind in LINK_OPERATIONS)


def test_a_crossing_knows_where_it_leads_and_has_an_identifier() -> None:
    crossing = Cross(A, BOND, CCDC, 5, SALT)
    assert crossing.target == asset_id("DE0005140008@CCDC")
    assert crossing.id == object_id(74, A, SALT)


def test_they_come_back_from_bytes_as_they_went() -> None:
    operations = (
        AgreeLink(CSDC, CCDC, BOND[:12], 100),
        EndLink(A, CSDC, CCDC, BOND[:12]),
        Cross(A, BOND, CCDC, 5, SALT),
        Reconcile(BOND, 20_000, 7, bytes(32)),
    )
    transaction = Transaction(bytes(8), 1, SALT, A, operations)
    assert SignedTransaction.decode(transaction.sign([key("csdc")])).transaction == transaction
