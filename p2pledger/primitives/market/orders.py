"""Operations of authority: an order over holdings, and the appeal of whom it concerns.

Rules: ``ledger/market/orders.py``; what each power does to units in each bucket: ``ledger/market/powers.py`` and
docs/orders.md; codes and forms: docs/operations.md.

A moment named ``until`` or ``expires`` is the last at which something holds; 0 is without end.
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
    ListOf,
    Operation,
    Reference,
    Salt,
    Switch,
    TimeMs,
)
from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.names import object_id

__all__ = ["ORDER_OPERATIONS", "Appeal", "Order", "Power"]


class Power(IntEnum):
    """What an order does. The numbers stand in operations and in rows, and never change their meaning."""

    FREEZE = 0
    """all units in its scope stay where they are"""
    PARTIAL_FREEZE = 1
    """a quantity of them does"""
    CLAWBACK = 2
    """takes back what the holder should not have had: rights that others acquired meanwhile go first"""
    FORCED_TRANSFER = 3
    """gives the holder's title, with all that lies on it, to somebody else: by judgment, inheritance, insolvency"""
    RELEASE = 4
    """lifts another order"""


@dataclass(frozen=True, slots=True)
class Order(Operation):
    """Orders, by two regulators, what happens to the holdings of a party, an account or everybody.

    The scope is the party (with all of its accounts) or the account, and of these the asset, or all assets where none
    is named; without party and account it is the asset, whoever holds it. ``quantity`` 0 is everything. ``consumes``
    names the buckets in the order in which the quantity is taken from them; empty: all, in the order of their numbers.
    """

    code: ClassVar[int] = 80
    form: ClassVar[Form] = (
        Account("authority"),
        Account("approver"),
        Salt("salt"),
        Choice("power", Power),
        Account("party", optional=True),
        Account("account", optional=True),
        AssetName("asset", optional=True),
        Amount("quantity"),
        Digest("document"),
        TimeMs("expires_ms"),
        TimeMs("appeal_until_ms"),
        ListOf("consumes", Choice("bucket", Bucket), most=len(Bucket)),
        Switch("catches_later"),
        Account("target", optional=True),
        Reference("lifts", optional=True),
    )
    authority: bytes
    approver: bytes
    """Another regulator, who signs as well."""
    salt: bytes
    power: Power
    party: bytes = b""
    account: bytes = b""
    asset: bytes = b""
    quantity: int = 0
    document: bytes = bytes(32)
    """The hash of the legal document that the order rests on."""
    expires_ms: int = 0
    appeal_until_ms: int = 0
    """The last moment of an appeal; 0: as long as the order stands."""
    consumes: tuple[Bucket, ...] = ()
    catches_later: bool = False
    """Whether it also reaches units that come in after it."""
    target: bytes = b""
    """Who gets what is taken."""
    lifts: bytes = b""
    """The order that a release lifts."""

    @property
    def id(self) -> bytes:
        """The identifier of the order that it makes."""
        return object_id(self.code, self.authority, self.salt)


@dataclass(frozen=True, slots=True)
class Appeal(Operation):
    """Appeals against an order. It is recorded; whether the order is lifted is for its authorities to say."""

    code: ClassVar[int] = 81
    form: ClassVar[Form] = (Reference("order"), Account("party"), Digest("document"))
    order: bytes
    party: bytes
    """The party, or the account, that the order concerns."""
    document: bytes


ORDER_OPERATIONS: Final = (Order, Appeal)
"""Codes 80 and 81."""
