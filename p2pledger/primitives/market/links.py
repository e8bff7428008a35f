"""Operations between registers: standing links, crossings, and the reconciliation of mirrors.

Rules: ``ledger/market/links.py`` and ``mirrors.py``; codes and forms: docs/operations.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from p2pledger.primitives.forms import (
    Account,
    Amount,
    AssetName,
    Day,
    Digest,
    Form,
    Instrument,
    Operation,
    RegisterCode,
    Salt,
    TimeMs,
)
from p2pledger.primitives.names import object_id

__all__ = ["LINK_OPERATIONS", "AgreeLink", "Cross", "EndLink", "Reconcile"]


@dataclass(frozen=True, slots=True)
class AgreeLink(Operation):
    """Lets units of an instrument move from one register to another. Signed by both depositories.

    At most ``limit`` units may stand at ``target`` through the link; ``until_ms`` 0: until it is ended. Agreeing again
    replaces the terms.
    """

    code: ClassVar[int] = 72
    form: ClassVar[Form] = (
        RegisterCode("source"),
        RegisterCode("target"),
        Instrument("instrument"),
        Amount("limit"),
        TimeMs("until_ms"),
    )
    source: bytes
    target: bytes
    instrument: bytes
    limit: int
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class EndLink(Operation):
    """Ends a link for new crossings. Signed by ``depository``, either of the two."""

    code: ClassVar[int] = 73
    form: ClassVar[Form] = (
        Account("depository"),
        RegisterCode("source"),
        RegisterCode("target"),
        Instrument("instrument"),
    )
    depository: bytes
    source: bytes
    target: bytes
    instrument: bytes


@dataclass(frozen=True, slots=True)
class Cross(Operation):
    """Moves free units of an account to another register under a standing link. Signed by ``account``."""

    code: ClassVar[int] = 74
    form: ClassVar[Form] = (
        Account("account"),
        AssetName("asset"),
        RegisterCode("register"),
        Amount("amount"),
        Salt("salt"),
    )
    account: bytes
    asset: bytes
    register: bytes
    amount: int
    salt: bytes

    @property
    def id(self) -> bytes:
        """The identifier of the crossing that it makes."""
        return object_id(self.code, self.account, self.salt)

    @property
    def target(self) -> bytes:
        """The instrument as the other register keeps it."""
        return self.asset[:12] + self.register


@dataclass(frozen=True, slots=True)
class Reconcile(Operation):
    """States what the register behind a mirror held at the end of a day. Signed by the mirror's depository."""

    code: ClassVar[int] = 75
    form: ClassVar[Form] = (AssetName("asset"), Day("day"), Amount("total"), Digest("statement"))
    asset: bytes
    day: int
    total: int
    statement: bytes


LINK_OPERATIONS: Final = (AgreeLink, EndLink, Cross, Reconcile)
"""Codes 72 to 75."""
