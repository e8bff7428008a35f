"""Operations of instruments: what one is, whether it is active, where it trades, and who may hold it.

An asset becomes an *instrument* when its depository describes it. Rules: ``ledger/market/instruments.py``,
``venues.py`` and ``holders.py``; codes and forms: docs/operations.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from p2pledger.primitives.forms import (
    Account,
    Amount,
    AssetName,
    Choice,
    Day,
    Digest,
    Form,
    ListOf,
    Number,
    Operation,
    Switch,
    Text,
    TimeMs,
)

__all__ = [
    "INSTRUMENT_OPERATIONS",
    "PARTS_PER_MILLION",
    "Accredit",
    "Describe",
    "InstrumentStatus",
    "Nature",
    "SetHolderRules",
    "SetStatus",
    "SetVenue",
    "cfi_is_valid",
    "currency_is_valid",
    "mic_is_valid",
]

PARTS_PER_MILLION: Final = 1_000_000
_CFI: Final = re.compile(r"[ECDRFOSHIJKLTM][A-Z]{5}")
_MIC: Final = re.compile(r"[A-Z0-9]{4}")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")


class Nature(IntEnum):
    """What a holding in this register is worth in law."""

    NATIVE = 0
    """it carries title: the register is where the instrument lives"""
    MIRROR = 1
    """it repeats what another register holds, and never counts in supply"""


class InstrumentStatus(IntEnum):
    """Whether anything new may begin with an instrument."""

    SUSPENDED = 0
    ACTIVE = 1


def cfi_is_valid(text: str) -> bool:
    """The form of ISO 10962: a category in use, a group, and four attributes, in capital letters."""
    return _CFI.fullmatch(text) is not None


def mic_is_valid(text: str) -> bool:
    """The form of ISO 10383: four capital letters or digits."""
    return _MIC.fullmatch(text) is not None


def currency_is_valid(text: str) -> bool:
    """The form of ISO 4217: three capital letters."""
    return _CURRENCY.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Describe(Operation):
    """Says what an asset is. Signed by ``by``, its depository, and by its issuer. It is suspended then.

    ``mic`` may be empty (traded nowhere), ``issue_size`` 0 (without end), ``maturity_day`` 0 (without maturity).
    ``documents`` are the hashes of the legal documents.
    """

    code: ClassVar[int] = 37
    form: ClassVar[Form] = (
        Account("by"),
        AssetName("asset"),
        Choice("nature", Nature),
        Text("cfi", least=6, most=6),
        Text("mic", least=0, most=4),
        Text("ticker", most=16),
        Text("currency", least=3, most=3),
        Amount("issue_size"),
        Day("issue_day"),
        Day("maturity_day"),
        Text("governing_law", most=64),
        ListOf("documents", Digest("document"), most=16),
    )
    by: bytes
    asset: bytes
    nature: Nature
    cfi: str
    mic: str
    ticker: str
    currency: str
    issue_size: int
    issue_day: int
    maturity_day: int
    governing_law: str
    documents: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class SetStatus(Operation):
    """Activates an instrument whose issuer is accredited, or suspends it. Signed by ``by``, its depository."""

    code: ClassVar[int] = 38
    form: ClassVar[Form] = (Account("by"), AssetName("asset"), Choice("status", InstrumentStatus))
    by: bytes
    asset: bytes
    status: InstrumentStatus


@dataclass(frozen=True, slots=True)
class Accredit(Operation):
    """Accredits an issuer up to a moment; one that has passed ends it. Signed by ``by``."""

    code: ClassVar[int] = 39
    form: ClassVar[Form] = (Account("by"), Account("issuer"), TimeMs("until_ms"))
    by: bytes
    issuer: bytes
    until_ms: int


@dataclass(frozen=True, slots=True)
class SetVenue(Operation):
    """Switches a venue on or off for an asset. Signed by ``by``, the asset's depository."""

    code: ClassVar[int] = 40
    form: ClassVar[Form] = (Account("by"), AssetName("asset"), Account("venue"), Switch("on"))
    by: bytes
    asset: bytes
    venue: bytes
    on: bool


@dataclass(frozen=True, slots=True)
class SetHolderRules(Operation):
    """Says who may come to hold an asset, and how much of it. Signed by ``by``, the asset's depository.

    A holder has a claim about each topic ``required``, none about one ``refused``, and is from one of ``countries``
    (empty: from anywhere). There are at most ``most_holders`` (0: any number), and nobody has more than
    ``most_share_ppm`` parts per million (0: any share). A rule without any condition ends the rules.
    """

    code: ClassVar[int] = 41
    form: ClassVar[Form] = (
        Account("by"),
        AssetName("asset"),
        ListOf("required", Text("topic", most=16), most=8, ascending=True),
        ListOf("refused", Text("topic", most=16), most=8, ascending=True),
        ListOf("countries", Text("country", least=2, most=2), most=256, ascending=True),
        Number("most_holders"),
        Number("most_share_ppm", most=PARTS_PER_MILLION),
    )
    by: bytes
    asset: bytes
    required: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    most_holders: int = 0
    most_share_ppm: int = 0


INSTRUMENT_OPERATIONS: Final = (Describe, SetStatus, Accredit, SetVenue, SetHolderRules)
"""Codes 37 to 41."""
