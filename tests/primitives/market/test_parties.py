"""LEI and country codes, and the forms of the operations of parties."""

import pytest

from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.genesis import ROLES
from p2pledger.primitives.market.parties import (
    PARTY_OPERATIONS,
    AccountKind,
    Effect,
    IssueClaim,
    RegisterAccount,
    RegisterParty,
    Role,
    RoleNumber,
    SetPermission,
    Tier,
    country_is_valid,
    lei_is_valid,
)
from p2pledger.primitives.transactions import SignedTransaction, Transaction
from tests.ledger.small_market import key

A, B = bytes(31) + b"a", bytes(31) + b"b"


@pytest.mark.parametrize(
    "lei",
    [
        "5493001KJTIIGC8Y1R12",  # Bloomberg Finance L.P.
        "7LTWFZYICNSX8D621K86",  # Deutsche Bank AG
        "506700GE1G29325QX363",  # Global Legal Entity Identifier Foundation
        "HWUPKR0MPOU8FGXBT394",  # Apple Inc.
    ],
)
def test_published_leis_are_valid(lei: str) -> None:
    assert lei_is_valid(lei)


@pytest.mark.parametrize(
    "lei",
    ["", "5493001KJTIIGC8Y1R13", "5493001KJTIIGC8Y1R1", "5493001kjtiigc8y1r12", "5493001KJTIIGC8Y1R12 ", "٥" * 20],
)
def test_others_are_not(lei: str) -> None:
    assert not lei_is_valid(lei)


def test_every_digit_and_every_letter_that_is_mistaken_for_another_is_found() -> None:
    lei = "7LTWFZYICNSX8D621K86"
    for at, right in enumerate(lei):
        for other in "0123456789" if right.isdigit() else "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            assert lei_is_valid(lei[:at] + other + lei[at + 1 :]) is (other == right)


def test_countries_are_two_capital_letters() -> None:
    assert country_is_valid("CN")
    assert not any(map(country_is_valid, ("", "C", "cn", "CHN", "C1", "CN\n")))


def test_roles_are_those_of_the_genesis() -> None:
    assert tuple(role.value for role in Role) == ROLES
    assert [number.role for number in RoleNumber] == [None, *Role]


def test_the_codes_leave_room_for_instruments_between_them() -> None:
    assert [kind.code for kind in PARTY_OPERATIONS] == [32, 33, 34, 35, 36, 42, 43, 44]


OPERATIONS = (
    RegisterParty(A, B, "Fund", "5493001KJTIIGC8Y1R12", "DE", (RoleNumber.BROKER, RoleNumber.INVESTOR)),
    RegisterAccount(A, B, A, Tier.BROKER, AccountKind.OMNIBUS, B),
    SetPermission(A, "no big transfers", Effect.DENY, RoleNumber.ANYBODY, b"", (1, 50), "DB", b"CSDC", 1_000, 5, 9),
    IssueClaim(A, B, "qualified", "", 7),
)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: type(operation).__name__)
def test_an_operation_comes_back_as_it_went(operation: RegisterParty) -> None:
    body = Transaction(bytes(8), 9, bytes(16), A, (operation,))
    decoded = SignedTransaction.decode(body.sign([key("alice")]))
    assert decoded.transaction == body


def test_roles_ascend() -> None:
    entry = RegisterParty(A, B, "Fund", "", "DE", (RoleNumber.INVESTOR, RoleNumber.BROKER))
    with pytest.raises(PeerFault, match="ascend"):
        SignedTransaction.decode(Transaction(bytes(8), 9, bytes(16), A, (entry,)).sign([key("alice")]))
