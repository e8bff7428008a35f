"""The codes that describe an instrument, and the forms of the operations about one."""

import pytest

from p2pledger.primitives.market.instruments import (
    INSTRUMENT_OPERATIONS,
    Describe,
    Nature,
    SetHolderRules,
    cfi_is_valid,
    currency_is_valid,
    mic_is_valid,
)
from p2pledger.primitives.names import asset_id
from p2pledger.primitives.transactions import SignedTransaction, Transaction
from tests.ledger.small_market import key

A = bytes(31) + b"a"
BOND = asset_id("DE0005140008@CSDC")


@pytest.mark.parametrize("cfi", ["DBFTFB", "ESVUFR", "FFICSX", "MMXXXX"])
def test_cfi(cfi: str) -> None:
    assert cfi_is_valid(cfi)


@pytest.mark.parametrize("cfi", ["", "DBFTF", "dbftfb", "XBFTFB", "DBFTFB\n", "DBF1FB"])
def test_no_cfi(cfi: str) -> None:
    assert not cfi_is_valid(cfi)


def test_mic_and_currency() -> None:
    assert mic_is_valid("XSHG")
    assert mic_is_valid("3579")
    assert not any(map(mic_is_valid, ("", "XSH", "xshg", "XSHGX")))
    assert currency_is_valid("CNY")
    assert not any(map(currency_is_valid, ("", "CN", "cny", "CNYX", "CN1")))


def test_the_codes_are_those_between_the_codes_of_parties() -> None:
    assert [kind.code for kind in INSTRUMENT_OPERATIONS] == [37, 38, 39, 40, 41]


@pytest.mark.parametrize(
    "operation",
    [
        Describe(A, BOND, Nature.MIRROR, "DBFTFB", "XSHG", "BD26", "CNY", 10, 20_000, 21_000, "DE", (A, A)),
        SetHolderRules(A, BOND, ("qualified",), ("sanctioned",), ("CN", "DE"), 200, 250_000),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_an_operation_comes_back_as_it_went(operation: Describe) -> None:
    body = Transaction(bytes(8), 9, bytes(16), A, (operation,))
    assert SignedTransaction.decode(body.sign([key("alice")])).transaction == body
