"""Settlement instructions: who gives what to whom, on which day, and what the parties say to it afterwards.

An instruction is a list of legs, each from one giver to one taker. It comes in one operation or in parts; whoever
signs the first part makes it, and everybody who gives affirms the digest over days and legs in a transaction of his
own. So an instruction can have far more legs and signers than one transaction holds, and is settled by one operation
all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from p2pledger.primitives.codec import encode
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
    Record,
    Reference,
    Salt,
    Switch,
    Text,
)
from p2pledger.primitives.hashing import LEGS_TAG, tagged_hash
from p2pledger.primitives.names import object_id

__all__ = [
    "INSTRUCTION_OPERATIONS",
    "MOST_LEGS",
    "AddLegs",
    "Affirm",
    "AuthoriseVenue",
    "Cancel",
    "Instruct",
    "Leg",
    "LockInstruction",
    "Origin",
    "SetHold",
    "Settle",
    "legs_digest",
    "terms_digest",
]

MOST_LEGS: Final = 2_048
"""Legs of one instruction."""
_MOST_LEGS_AT_ONCE: Final = 600
"""Legs in one operation: what a transaction of 64 KiB has room for."""


class Origin(IntEnum):
    """Who instructs: a party to the trade, or the venue where it was made. What comes from a venue is matched."""

    PARTY = 0
    VENUE = 1


@dataclass(frozen=True, slots=True)
class Leg:
    """One movement of an instruction."""

    form: ClassVar[Form] = (Account("giver"), Account("taker"), AssetName("asset"), Amount("amount"))
    giver: bytes
    taker: bytes
    asset: bytes
    amount: int


def terms_digest(trade_day: int, settle_day: int, calendar: str) -> bytes:
    """Where the chain of ``legs_digest`` begins: so who affirms legs affirms the days that they are meant for."""
    return tagged_hash(LEGS_TAG, encode((trade_day, settle_day, calendar)))


def legs_digest(legs: Iterable[Leg], before: bytes) -> bytes:
    """The digest that is affirmed: a chain over the legs in order, the same however they were uploaded.

    ``before`` is the digest over the legs before these; before the first one ``terms_digest``.
    """
    for leg in legs:
        before = tagged_hash(LEGS_TAG, before + encode((leg.giver, leg.taker, leg.asset, leg.amount)))
    return before


@dataclass(frozen=True, slots=True)
class Instruct(Operation):
    """Enters a settlement instruction, with all of its legs or the first of them."""

    code: ClassVar[int] = 50
    form: ClassVar[Form] = (
        Account("by"),
        Salt("salt"),
        Choice("origin", Origin),
        Account("counterparty", optional=True),
        Text("reference", least=0, most=35),
        Day("trade_day"),
        Day("settle_day"),
        Text("calendar", least=0, most=16),
        Amount("tolerance"),
        Number("leg_count", least=1, most=MOST_LEGS),
        ListOf("legs", Record("leg", Leg), most=_MOST_LEGS_AT_ONCE),
    )
    by: bytes
    salt: bytes
    origin: Origin
    counterparty: bytes
    """Who must agree, by an instruction of his own or by affirming this one; empty: everybody who gives."""
    reference: str
    trade_day: int
    settle_day: int
    calendar: str
    """Its name; empty: every day is a business day of UTC without a cut-off."""
    tolerance: int
    """By how much a cash amount of the counterparty may differ, in the asset's smallest unit."""
    leg_count: int
    legs: tuple[Leg, ...]

    @property
    def id(self) -> bytes:
        """The identifier of the instruction that it makes."""
        return object_id(self.code, self.by, self.salt)

    @property
    def digest(self) -> bytes:
        """``legs_digest`` of its terms and the legs that it brings: with all legs, what is affirmed."""
        return legs_digest(self.legs, terms_digest(self.trade_day, self.settle_day, self.calendar))


@dataclass(frozen=True, slots=True)
class AddLegs(Operation):
    """Adds the next legs to an instruction whose legs are not all there."""

    code: ClassVar[int] = 51
    form: ClassVar[Form] = (
        Reference("instruction"),
        Account("by"),
        Number("first", most=MOST_LEGS),
        ListOf("legs", Record("leg", Leg), least=1, most=_MOST_LEGS_AT_ONCE),
    )
    instruction: bytes
    by: bytes
    first: int
    """The number of the first of these legs, counted from 0: as many as are there."""
    legs: tuple[Leg, ...]


@dataclass(frozen=True, slots=True)
class Affirm(Operation):
    """Agrees, for one account, to all legs of an instruction."""

    code: ClassVar[int] = 52
    form: ClassVar[Form] = (Reference("instruction"), Account("account"), Digest("legs"))
    instruction: bytes
    account: bytes
    legs: bytes
    """``legs_digest`` of the terms and all legs."""


@dataclass(frozen=True, slots=True)
class SetHold(Operation):
    """Holds an instruction back, or lets it go on."""

    code: ClassVar[int] = 53
    form: ClassVar[Form] = (Reference("instruction"), Account("party"), Switch("on"))
    instruction: bytes
    party: bytes
    on: bool


@dataclass(frozen=True, slots=True)
class Cancel(Operation):
    """Cancels an instruction, or agrees to its cancellation."""

    code: ClassVar[int] = 54
    form: ClassVar[Form] = (Reference("instruction"), Account("by"))
    instruction: bytes
    by: bytes


@dataclass(frozen=True, slots=True)
class LockInstruction(Operation):
    """Judges an instruction and reserves everything that it moves: from here on it is irrevocable."""

    code: ClassVar[int] = 55
    form: ClassVar[Form] = (Reference("instruction"), Account("by"))
    instruction: bytes
    by: bytes


@dataclass(frozen=True, slots=True)
class Settle(Operation):
    """Settles an instruction, all legs or none; locks it first where it is not locked."""

    code: ClassVar[int] = 56
    form: ClassVar[Form] = (Reference("instruction"), Account("by"))
    instruction: bytes
    by: bytes


@dataclass(frozen=True, slots=True)
class AuthoriseVenue(Operation):
    """Lets a venue's instructions move what an account holds without its affirming each of them, or ends that."""

    code: ClassVar[int] = 61
    form: ClassVar[Form] = (Account("account"), Account("venue"), Switch("on"))
    account: bytes
    venue: bytes
    on: bool


INSTRUCTION_OPERATIONS: Final = (
    Instruct,
    AddLegs,
    Affirm,
    SetHold,
    Cancel,
    LockInstruction,
    Settle,
    AuthoriseVenue,
)
