"""The forms of orders, appeals and escrows, and the identifiers of what they make."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.market.escrow import ESCROW_OPERATIONS, FulfilEscrow, OpenEscrow, ReturnEscrow
from p2pledger.primitives.market.orders import ORDER_OPERATIONS, Appeal, Order, Power
from p2pledger.primitives.names import asset_id, object_id
from p2pledger.primitives.transactions import SignedTransaction, Transaction
from tests.ledger.small_market import key

A, B, C = (bytes(31) + letter for letter in (b"a", b"b", b"c"))
SALT, BOND = bytes(16), asset_id("DE0005140008@CSDC")

ORDER = Order(A, B, SALT, Power.CLAWBACK, C, C, BOND, 7, A, 9, 8, (Bucket.LOCKED, Bucket.FREE), True, B)
ESCROW = OpenEscrow(A, SALT, BOND, 5, B, (A, C), 2, 3, 4, A, 6)
EXAMPLES: tuple[Operation, ...] = (
    ORDER,
    Order(A, B, SALT, Power.RELEASE, lifts=ORDER.id),
    Appeal(ORDER.id, C, B),
    ESCROW,
    OpenEscrow(A, SALT, BOND, 5, B, after_height=1, expires_ms=6),
    FulfilEscrow(ESCROW.id, (A, C), b"secret"),
    FulfilEscrow(ESCROW.id),
    ReturnEscrow(ESCROW.id, B),
)


def carried(operation: Operation) -> Operation:
    """What comes out of a signed transaction into which the operation went."""
    body = Transaction(bytes(8), 9, SALT, A, (operation,), 0)
    return SignedTransaction.decode(body.sign([key("alice")])).transaction.operations[0]


@pytest.mark.parametrize("operation", EXAMPLES, ids=range(len(EXAMPLES)))
def test_what_goes_into_a_transaction_comes_out_of_it(operation: Operation) -> None:
    assert carried(operation) == operation


@pytest.mark.parametrize(
    "operation",
    [
        replace(ORDER, power=5),
        replace(ORDER, consumes=(5,)),
        replace(ORDER, consumes=(Bucket.FREE,) * (len(Bucket) + 1)),
        replace(ORDER, party=b"short"),
        replace(ORDER, lifts=bytes(31)),
        replace(ESCROW, signers=(C, A)),
        replace(ESCROW, signers=(A, A)),
        replace(ESCROW, threshold=17),
        replace(ESCROW, preimage_hash=bytes(16)),
        FulfilEscrow(ESCROW.id, (), bytes(257)),
    ],
    ids=range(10),
)
def test_other_forms_are_malformed(operation: Operation) -> None:
    with pytest.raises(PeerFault) as fault:
        carried(operation)
    assert fault.value.code == "malformed"


def test_codes_are_without_gaps_and_identifiers_are_those_of_the_objects() -> None:
    assert [kind.code for kind in (*ORDER_OPERATIONS, *ESCROW_OPERATIONS)] == list(range(80, 85))
    assert ORDER.id == object_id(80, A, SALT) != ESCROW.id == object_id(82, A, SALT)
