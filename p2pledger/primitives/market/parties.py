"""Operations of parties: who they are, whose accounts are whose, who may do what, and who vouches for whom.

A *party* is an account that has a name and roles. It owns further accounts, which a custodian keeps for it. Permissions
narrow what roles may do; claims say what is known about a party, by issuers whom the network trusts. Rules:
``ledger/market/parties.py``, ``custody.py``, ``permissions.py`` and ``claims.py``; codes and forms: docs/operations.md.

Moments named ``until_ms`` are the last at which something holds; 0 is without end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import ClassVar, Final

from p2pledger.primitives.forms import (
    Account,
    Amount,
    AssetName,
    Choice,
    Form,
    ListOf,
    Operation,
    OperationCode,
    RegisterCode,
    Switch,
    Text,
    TimeMs,
)

__all__ = [
    "PARTY_OPERATIONS",
    "AccountKind",
    "Allocate",
    "DropPermission",
    "Effect",
    "IssueClaim",
    "RegisterAccount",
    "RegisterParty",
    "RevokeClaim",
    "Role",
    "RoleNumber",
    "SetPermission",
    "Tier",
    "TrustIssuer",
    "country_is_valid",
    "lei_is_valid",
]

_LEI: Final = re.compile(r"[0-9A-Z]{18}[0-9]{2}")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")


class Role(StrEnum):
    """What a party does in the market; the texts stand in the genesis and in table PARTIES."""

    DEPOSITORY = "depository"
    VENUE = "venue"
    ISSUER = "issuer"
    BANK = "bank"
    CENTRAL_BANK = "central_bank"
    BROKER = "broker"
    INVESTOR = "investor"
    REGULATOR = "regulator"
    AUDITOR = "auditor"
    OPERATOR = "operator"


class RoleNumber(IntEnum):
    """The roles in operations. ANYBODY is no role: it stands where a permission concerns everybody."""

    ANYBODY = 0
    DEPOSITORY = 1
    VENUE = 2
    ISSUER = 3
    BANK = 4
    CENTRAL_BANK = 5
    BROKER = 6
    INVESTOR = 7
    REGULATOR = 8
    AUDITOR = 9
    OPERATOR = 10

    @property
    def role(self) -> Role | None:
        """The role; None for ANYBODY."""
        return Role(self.name.lower()) if self else None


class Tier(IntEnum):
    """At which level of custody an account stands; a higher level holds for the lower."""

    INVESTOR = 0
    BROKER = 1
    DEPOSITORY = 2


class AccountKind(IntEnum):
    """For whom an account holds."""

    OWN = 0
    """for its owner, who trades for itself"""
    OMNIBUS = 1
    """for many customers of its owner; the ledger keeps the share of each"""
    SEGREGATED = 2
    """for its owner alone, a customer of the custodian"""


class Effect(IntEnum):
    """What a permission does."""

    ALLOW = 0
    DENY = 1


def lei_is_valid(text: str) -> bool:
    """ISO 17442: 18 letters and digits, then two check digits by ISO 7064 MOD 97-10 over the expanded digits."""
    if not _LEI.fullmatch(text):
        return False
    return int("".join(str(int(character, 36)) for character in text)) % 97 == 1


def country_is_valid(text: str) -> bool:
    """The form of ISO 3166-1 alpha-2: two capital letters."""
    return _COUNTRY.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class RegisterParty(Operation):
    """Makes an account a party, with a name and roles, or changes its entry. Signed by the sponsor and the party.

    ``lei`` may be empty for one who is an investor only.
    """

    code: ClassVar[int] = 32
    form: ClassVar[Form] = (
        Account("sponsor"),
        Account("party"),
        Text("name", most=64),
        Text("lei", least=0, most=20),
        Text("country", least=2, most=2),
        ListOf("roles", Choice("role", RoleNumber), least=1, most=10, ascending=True),
    )
    sponsor: bytes
    party: bytes
    name: str
    lei: str
    country: str
    roles: tuple[RoleNumber, ...]


@dataclass(frozen=True, slots=True)
class RegisterAccount(Operation):
    """Says whose an account is, and who keeps it. Signed by the account, its owner and its custodian.

    ``upper`` is the custodian's own account one level up, in whose name the custodian in turn is served; it is absent
    where the custodian is a depository or bank, at the top.
    """

    code: ClassVar[int] = 33
    form: ClassVar[Form] = (
        Account("account"),
        Account("owner"),
        Account("custodian"),
        Choice("tier", Tier),
        Choice("kind", AccountKind),
        Account("upper", optional=True),
    )
    account: bytes
    owner: bytes
    custodian: bytes
    tier: Tier
    kind: AccountKind
    upper: bytes = b""


@dataclass(frozen=True, slots=True)
class Allocate(Operation):
    """Moves shares in an omnibus account from one beneficiary to another. Signed by the account's owner.

    An absent beneficiary is the house: what the account holds for no customer.
    """

    code: ClassVar[int] = 34
    form: ClassVar[Form] = (
        Account("account"),
        Account("source", optional=True),
        Account("target", optional=True),
        AssetName("asset"),
        Amount("amount"),
    )
    account: bytes
    source: bytes
    target: bytes
    asset: bytes
    amount: int


@dataclass(frozen=True, slots=True)
class SetPermission(Operation):
    """Allows operations to some, and by that to nobody else in its scope; or denies them. Signed by ``by``.

    The scope: ``operations`` (codes), instruments whose CFI begins with ``instrument_class``, assets of ``register``.
    Whom it concerns: ``role`` and ``party``, each unless absent. How far: up to ``most_amount`` at a time when it
    allows, above it when it denies (0: whatever the amount), from ``from_ms`` to ``until_ms``.
    """

    code: ClassVar[int] = 35
    form: ClassVar[Form] = (
        Account("by"),
        Text("name", most=32),
        Choice("effect", Effect),
        Choice("role", RoleNumber),
        Account("party", optional=True),
        ListOf("operations", OperationCode("operation"), least=1, most=64, ascending=True),
        Text("instrument_class", least=0, most=6),
        RegisterCode("register", optional=True),
        Amount("most_amount"),
        TimeMs("from_ms"),
        TimeMs("until_ms"),
    )
    by: bytes
    name: str
    effect: Effect
    role: RoleNumber
    party: bytes
    operations: tuple[int, ...]
    instrument_class: str = ""
    register: bytes = b""
    most_amount: int = 0
    from_ms: int = 0
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class DropPermission(Operation):
    """Takes a permission away. Signed by ``by``, who set it, or by an operator."""

    code: ClassVar[int] = 36
    form: ClassVar[Form] = (Account("by"), Text("name", most=32))
    by: bytes
    name: str


@dataclass(frozen=True, slots=True)
class TrustIssuer(Operation):
    """Says whose claims about a topic count, or no longer. Signed by ``by``."""

    code: ClassVar[int] = 42
    form: ClassVar[Form] = (Account("by"), Text("topic", most=16), Account("issuer"), Switch("on"))
    by: bytes
    topic: str
    issuer: bytes
    on: bool


@dataclass(frozen=True, slots=True)
class IssueClaim(Operation):
    """States something about a party, or states it anew. Signed by ``issuer``."""

    code: ClassVar[int] = 43
    form: ClassVar[Form] = (
        Account("issuer"),
        Account("subject"),
        Text("topic", most=16),
        Text("value", least=0, most=64),
        TimeMs("until_ms"),
    )
    issuer: bytes
    subject: bytes
    topic: str
    value: str = ""
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class RevokeClaim(Operation):
    """Takes a claim back. Signed by ``issuer``, who made it."""

    code: ClassVar[int] = 44
    form: ClassVar[Form] = (Account("issuer"), Account("subject"), Text("topic", most=16))
    issuer: bytes
    subject: bytes
    topic: str


PARTY_OPERATIONS: Final = (
    RegisterParty,
    RegisterAccount,
    Allocate,
    SetPermission,
    DropPermission,
    TrustIssuer,
    IssueClaim,
    RevokeClaim,
)
"""Codes 32 to 36 and 42 to 44; those between are of instruments."""
