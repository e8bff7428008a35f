"""Statements: what a node answers who is asked for a view of the market (``ledger/market/views.py``).

Each is a frozen dataclass of integers, bytes, texts, truth values, other such dataclasses, and tuples of these. Its
fields in their order are its array on the wire, behind its version; the annotations say what may stand there, so there
is nothing to write twice (docs/protocol.md, section 10.1). Amounts are in smallest units, times are milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from p2pledger.primitives.codec import Value, decode, encode
from p2pledger.primitives.errors import PeerFault

__all__ = [
    "Beneficiaries",
    "BucketLine",
    "Decision",
    "Directory",
    "DirectoryLine",
    "InstructionLine",
    "InstructionList",
    "InstructionStatement",
    "Investor",
    "InvestorLine",
    "LegLine",
    "MomentLine",
    "MoneyLine",
    "MoneySupply",
    "OrderLine",
    "OrderList",
    "PositionLine",
    "Positions",
    "Record",
    "ShareLine",
    "Signers",
    "TaskLine",
    "Tasks",
    "VenueAsset",
    "VenueReport",
    "pack",
    "unpack",
]

_MAX_BYTES: Final = 1_048_576
_T = TypeVar("_T")


def pack(statement: object) -> bytes:
    """The canonical bytes of a statement."""
    return encode((1, *_values(statement)))


def unpack(kind: type[_T], data: bytes) -> _T:
    """The statement of this kind. PeerFault for whatever is none."""
    values = decode(data, limit_bytes=_MAX_BYTES, what=kind.__name__)
    if type(values) is not tuple or not values or values[0] != 1:
        raise PeerFault(f"{kind.__name__} is no array of version 1", code="malformed")
    read: _T = _read(kind, values[1:], kind.__name__)
    return read


def _values(item: Any) -> Value:
    if is_dataclass(item):
        return tuple(_values(getattr(item, field.name)) for field in fields(item))
    if isinstance(item, tuple):
        return tuple(_values(entry) for entry in item)
    return item


@cache
def _hints(kind: Any) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, hints[field.name]) for field in fields(kind))


def _read(kind: Any, value: Value, what: str) -> Any:
    if is_dataclass(kind):
        hints = _hints(kind)
        if type(value) is not tuple or len(value) != len(hints):
            raise PeerFault(f"{what} is no array of {len(hints)}", code="malformed")
        entries = zip(hints, value, strict=True)
        return kind(*(_read(hint, entry, f"{what}.{name}") for (name, hint), entry in entries))  # type: ignore[operator]
    if get_origin(kind) is tuple:
        if type(value) is not tuple:
            raise PeerFault(f"{what} is no array", code="malformed")
        item = get_args(kind)[0]
        return tuple(_read(item, entry, what) for entry in value)
    if type(value) is not kind:
        raise PeerFault(f"{what} is not {kind.__name__}", code="malformed")
    return value


# --- positions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BucketLine:
    """What of a holding stands in a bucket, and for what: the instruction, escrow, payment, offer or controller."""

    bucket: str
    reference: bytes
    what: str
    """What the reference is: controller, instruction, escrow, offer, payment; empty for the free part."""
    amount: int


@dataclass(frozen=True, slots=True)
class PositionLine:
    """One holding of one account. The amounts of its buckets add up to what it holds."""

    account: bytes
    asset: bytes
    decimals: int
    total: int
    buckets: tuple[BucketLine, ...]
    orders: tuple[bytes, ...]
    """The orders of authority that reach this holding."""


@dataclass(frozen=True, slots=True)
class Positions:
    subject: bytes
    name: str
    lines: tuple[PositionLine, ...]


@dataclass(frozen=True, slots=True)
class InvestorLine:
    """What an investor holds of one instrument in one register, over all of his accounts.

    ``held_for_him``: of that, what stands in omnibus accounts of others; ``is_mirror``: it carries no title.
    """

    instrument: bytes
    register: bytes
    asset: bytes
    decimals: int
    free: int
    encumbered: int
    held_for_him: int
    is_mirror: bool


@dataclass(frozen=True, slots=True)
class Investor:
    party: bytes
    name: str
    seen_as: str
    """The reason for which the reader may see it."""
    lines: tuple[InvestorLine, ...]


@dataclass(frozen=True, slots=True)
class ShareLine:
    """A beneficiary (zeros: the house) and his part of an omnibus holding."""

    party: bytes
    name: str
    amount: int


@dataclass(frozen=True, slots=True)
class Beneficiaries:
    account: bytes
    asset: bytes
    decimals: int
    total: int
    seen_as: str
    lines: tuple[ShareLine, ...]


# --- instructions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LegLine:
    giver: bytes
    taker: bytes
    asset: bytes
    decimals: int
    amount: int
    is_affirmed: bool
    """By the giver: whoever receives agrees by being a party to the instruction."""


@dataclass(frozen=True, slots=True)
class MomentLine:
    """entry, irrevocable or final: when, or height 0 while it has not come."""

    name: str
    height: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class InstructionLine:
    """An instruction in a list. The three statuses and the code are named as in ISO 20022."""

    id: bytes
    by: bytes
    counterparty: bytes
    reference: str
    processing: str
    matching: str
    settlement: str
    code: str
    settle_day: int
    due_ms: int
    """When it settles by itself, or expires; 0 where no such time is known."""


@dataclass(frozen=True, slots=True)
class InstructionStatement:
    """All about one instruction: its statuses, what holds it up, its three moments, its legs."""

    line: InstructionLine
    origin: str
    calendar: str
    trade_day: int
    holds: tuple[bytes, ...]
    """The parties that hold it."""
    stopped_by: tuple[bytes, ...]
    """Orders of authority that reach one of its legs."""
    rules_version: int
    """Of the rules under which it was locked."""
    moments: tuple[MomentLine, ...]
    legs_wanted: int
    legs: tuple[LegLine, ...]


@dataclass(frozen=True, slots=True)
class InstructionList:
    lines: tuple[InstructionLine, ...]
    next: bytes
    """To go on from; empty where it was all."""


@dataclass(frozen=True, slots=True)
class TaskLine:
    """Something that waits for a party: what, about which object, by when (0: no deadline)."""

    what: str
    reference: bytes
    account: bytes
    deadline_ms: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Tasks:
    party: bytes
    name: str
    time_ms: int
    lines: tuple[TaskLine, ...]


# --- money, venues, orders, permissions ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MoneyLine:
    """One asset of money. ``attested`` and ``age_ms`` are of the newest attestation; age 0 where there is none.

    ``counts``: whether it is part of the supply of its currency; a mirror of money elsewhere is not.
    """

    asset: bytes
    decimals: int
    kind: str
    """base, bank, or other: money that nobody has authorised."""
    bank: bytes
    issued: int
    redeemed: int
    circulating: int
    attested: int
    age_ms: int
    waiting: int
    """What waits for reserves, in payments."""
    is_quarantined: bool
    counts: bool


@dataclass(frozen=True, slots=True)
class MoneySupply:
    lines: tuple[MoneyLine, ...]


@dataclass(frozen=True, slots=True)
class VenueAsset:
    asset: bytes
    is_on: bool


@dataclass(frozen=True, slots=True)
class VenueReport:
    """What a venue sent, and what became of it: ``settled``, ``failing`` and the rest with their codes."""

    venue: bytes
    name: str
    assets: tuple[VenueAsset, ...]
    settled: int
    failing: int
    pending: int
    cancelled: int
    lines: tuple[InstructionLine, ...]


@dataclass(frozen=True, slots=True)
class OrderLine:
    id: bytes
    authority: bytes
    second: bytes
    power: str
    party: bytes
    account: bytes
    asset: bytes
    quantity: int
    is_in_force: bool
    expires_ms: int
    appealed: bool
    document: bytes
    status: str


@dataclass(frozen=True, slots=True)
class OrderList:
    lines: tuple[OrderLine, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether somebody may do something, by which rule, and what was looked at on the way."""

    party: bytes
    name: str
    operation: str
    is_allowed: bool
    rule: str
    sentence: str
    considered: tuple[str, ...]


# --- for programs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DirectoryLine:
    account: bytes
    name: str
    roles: tuple[str, ...]
    lei: str
    country: str
    owner: bytes
    """Whose account it is; the account itself where it is a party."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Parties and the accounts that were registered for them."""

    lines: tuple[DirectoryLine, ...]
    next: bytes


@dataclass(frozen=True, slots=True)
class Signers:
    """The accounts whose policies the signatures on some operations have to satisfy, as the state is now."""

    accounts: tuple[bytes, ...]


Record = (
    Positions
    | Investor
    | Beneficiaries
    | InstructionStatement
    | InstructionList
    | Tasks
    | MoneySupply
    | VenueReport
    | OrderList
    | Decision
    | Directory
    | Signers
)
"""What a view answers."""
