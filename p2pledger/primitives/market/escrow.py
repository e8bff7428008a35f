"""Operations of escrow: units set aside for a beneficiary, who gets them when all conditions are met.

Rules: ``ledger/market/escrow.py``; codes and forms: docs/operations.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from p2pledger.primitives.forms import (
    Account,
    Amount,
    AssetName,
    Blob,
    Digest,
    Form,
    ListOf,
    Number,
    Operation,
    Reference,
    Salt,
    TimeMs,
)
from p2pledger.primitives.names import object_id

__all__ = ["ESCROW_OPERATIONS", "FulfilEscrow", "OpenEscrow", "ReturnEscrow"]

_MOST_SIGNERS: Final = 16


@dataclass(frozen=True, slots=True)
class OpenEscrow(Operation):
    """Sets units aside for a beneficiary under conditions, at least one; all that are named must be met.

    They are: ``threshold`` of ``signers`` sign the fulfilment; the block's time is ``after_ms`` at least; its height is
    ``after_height`` at least; somebody shows the bytes of which ``preimage_hash`` is the SHA-256 hash.
    """

    code: ClassVar[int] = 82
    form: ClassVar[Form] = (
        Account("account"),
        Salt("salt"),
        AssetName("asset"),
        Amount("amount"),
        Account("beneficiary"),
        ListOf("signers", Account("signer"), most=_MOST_SIGNERS, ascending=True),
        Number("threshold", most=_MOST_SIGNERS),
        TimeMs("after_ms"),
        Number("after_height"),
        Digest("preimage_hash", optional=True),
        TimeMs("expires_ms"),
    )
    account: bytes
    salt: bytes
    asset: bytes
    amount: int
    beneficiary: bytes
    signers: tuple[bytes, ...] = ()
    threshold: int = 0
    after_ms: int = 0
    after_height: int = 0
    preimage_hash: bytes = b""
    expires_ms: int = 0
    """The last moment at which it can be fulfilled; then the units go back."""

    @property
    def id(self) -> bytes:
        """The identifier of the escrow that it makes."""
        return object_id(self.code, self.account, self.salt)


@dataclass(frozen=True, slots=True)
class FulfilEscrow(Operation):
    """Shows that the conditions of an escrow are met; the units go to the beneficiary."""

    code: ClassVar[int] = 83
    form: ClassVar[Form] = (
        Reference("escrow"),
        ListOf("signers", Account("signer"), most=_MOST_SIGNERS, ascending=True),
        Blob("preimage", most=256),
    )
    escrow: bytes
    signers: tuple[bytes, ...] = ()
    """Those of the escrow's signers who sign this."""
    preimage: bytes = b""


@dataclass(frozen=True, slots=True)
class ReturnEscrow(Operation):
    """Gives the units of an escrow back before it expires: the beneficiary renounces."""

    code: ClassVar[int] = 84
    form: ClassVar[Form] = (Reference("escrow"), Account("by"))
    escrow: bytes
    by: bytes
    """The beneficiary."""


ESCROW_OPERATIONS: Final = (OpenEscrow, FulfilEscrow, ReturnEscrow)
"""Codes 82 to 84."""
