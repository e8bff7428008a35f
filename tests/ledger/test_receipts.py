"""Receipts as values: their bytes are the core's, their sentences are for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger import core
from p2pledger.ledger.receipts import Receipt
from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.reasons import WHOLE_TRANSACTION, Reason

ID = bytes(range(32))


@given(st.binary(min_size=32, max_size=32), st.integers(0, 65535), st.integers(0, 65535))
def test_a_receipt_is_encoded_as_the_core_encodes_it(identifier: bytes, code: int, operation: int) -> None:
    receipt = Receipt(identifier, code, operation)
    [expected] = core.receipts(identifier, code.to_bytes(2, "big") + operation.to_bytes(2, "big"))
    assert receipt.encode() == expected
    assert Receipt.decode(expected) == receipt


def test_sentences_say_which_operation() -> None:
    assert Receipt(ID, 0).sentence == "All operations were executed."
    assert Receipt(ID, 0).succeeded
    failed = Receipt(ID, int(Reason.INSUFFICIENT_FREE), 2)
    assert failed.sentence == "Operation 3: The free holding is smaller than the amount."
    assert failed.reason is Reason.INSUFFICIENT_FREE
    assert not failed.succeeded
    whole = Receipt(ID, int(Reason.EXPIRED), WHOLE_TRANSACTION)
    assert whole.sentence == "The height up to which the transaction was valid has passed."


@pytest.mark.parametrize(
    "values",
    [
        (2, ID, 0, 0),
        (1, ID[1:], 0, 0),
        (1, ID, 65536, 0),
        (1, ID, 0, 65536),
        (1, ID, 0),
        (1, ID, 0, 0, 0),
        (1, ID, "0", 0),
    ],
)
def test_a_receipt_from_outside_must_have_the_right_form(values: tuple[object, ...]) -> None:
    with pytest.raises(PeerFault):
        Receipt.decode(encode(values))
