"""Operations of money: who may make it, what stands behind it, and how it reaches the customer of another bank.

*Base money* is the central bank's own. *Bank money* is a promise of one bank and an asset of its own: ``CNY@ICBC`` and
``CNY@CCB`` are two. Rules: ``ledger/market/money.py`` and ``payments.py``; codes and forms: docs/operations.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from p2pledger.primitives.forms import (
    Account,
    Amount,
    AssetName,
    Choice,
    Digest,
    Form,
    Number,
    Operation,
    Reference,
    Salt,
    Switch,
    Text,
    TimeMs,
)
from p2pledger.primitives.names import object_id

__all__ = [
    "MONEY_OPERATIONS",
    "Attest",
    "AuthoriseMoney",
    "CancelPayment",
    "MoneyKind",
    "PayAcross",
    "Quarantine",
    "ReleasePayment",
    "SetPaymentPolicy",
]


class MoneyKind(IntEnum):
    """Whose promise a money is."""

    BASE = 0
    """the central bank's: it alone issues it, and banks hold their reserves in it"""
    BANK = 1
    """a bank's: backed by attested deposits, and paid to other banks' customers through reserves"""


@dataclass(frozen=True, slots=True)
class AuthoriseMoney(Operation):
    """Admits an asset as money. Signed by the central bank; for bank money by the bank and its reserve account too.

    For base money ``reserve_asset``, ``reserve_account`` and ``attestor`` are empty and ``greatest_age_ms`` is 0.
    """

    code: ClassVar[int] = 65
    form: ClassVar[Form] = (
        Account("central_bank"),
        AssetName("asset"),
        Choice("kind", MoneyKind),
        AssetName("reserve_asset", optional=True),
        Account("reserve_account", optional=True),
        Account("attestor", optional=True),
        Number("greatest_age_ms"),
    )
    central_bank: bytes
    asset: bytes
    kind: MoneyKind
    reserve_asset: bytes = b""
    reserve_account: bytes = b""
    attestor: bytes = b""
    greatest_age_ms: int = 0


@dataclass(frozen=True, slots=True)
class Attest(Operation):
    """States the deposits that stand behind a bank's money at a moment. Signed by the money's attestor."""

    code: ClassVar[int] = 66
    form: ClassVar[Form] = (AssetName("asset"), Amount("value"), TimeMs("as_of_ms"), Digest("document"))
    asset: bytes
    value: int
    as_of_ms: int
    document: bytes


@dataclass(frozen=True, slots=True)
class PayAcross(Operation):
    """Pays a customer of another bank: burns here, moves reserves, mints there. Signed by ``payer``.

    Where reserves are short it waits, at most until ``expires_ms`` (0: a day), and is then returned. One that may not
    wait is refused instead: that is for a payment against which something else moves in the same transaction.
    """

    code: ClassVar[int] = 67
    form: ClassVar[Form] = (
        Account("payer"),
        Account("payee"),
        AssetName("source_asset"),
        AssetName("target_asset"),
        Amount("amount"),
        Salt("salt"),
        TimeMs("expires_ms"),
        Switch("may_wait"),
    )
    payer: bytes
    payee: bytes
    source_asset: bytes
    target_asset: bytes
    amount: int
    salt: bytes
    expires_ms: int = 0
    may_wait: bool = True

    @property
    def id(self) -> bytes:
        """The identifier of the payment that it makes."""
        return object_id(self.code, self.payer, self.salt)


@dataclass(frozen=True, slots=True)
class ReleasePayment(Operation):
    """Tries a waiting payment now. Signed by ``account``: its payer, or the payer's bank."""

    code: ClassVar[int] = 68
    form: ClassVar[Form] = (Account("account"), Reference("payment"))
    account: bytes
    payment: bytes


@dataclass(frozen=True, slots=True)
class CancelPayment(Operation):
    """Returns a waiting payment to its payer. Signed by ``account``: the payer, or the payer's bank."""

    code: ClassVar[int] = 69
    form: ClassVar[Form] = (Account("account"), Reference("payment"))
    account: bytes
    payment: bytes


@dataclass(frozen=True, slots=True)
class Quarantine(Operation):
    """Stops every new use of a failed bank's money, or lifts that. Signed by ``authority``."""

    code: ClassVar[int] = 70
    form: ClassVar[Form] = (Account("authority"), AssetName("asset"), Switch("on"), Digest("document"))
    authority: bytes
    asset: bytes
    on: bool
    document: bytes


@dataclass(frozen=True, slots=True)
class SetPaymentPolicy(Operation):
    """Whether in a currency only authorised money may be paid with. Signed by its central bank."""

    code: ClassVar[int] = 71
    form: ClassVar[Form] = (Account("central_bank"), Text("currency", least=3, most=3), Switch("on"))
    central_bank: bytes
    currency: str
    on: bool


MONEY_OPERATIONS: Final = (
    AuthoriseMoney,
    Attest,
    PayAcross,
    ReleasePayment,
    CancelPayment,
    Quarantine,
    SetPaymentPolicy,
)
"""Codes 65 to 71."""
