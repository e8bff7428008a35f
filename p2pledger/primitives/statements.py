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
    "CurrencyLine",
    "Decision",
    "Directory",
    "DirectoryLine",
    "Forecast",
    "HeldLine",
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
    "ParticipantLine",
    "PositionLine",
    "Positions",
    "Record",
    "ShareLine",
    "Signers",
    "TaskLine",
    "Tasks",
    "VenueAsset",
    "VenueReport",
    "WeighedLine",
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
    if hasattr(kind, "__dataclass_fields__"):
        hints = _hints(kind)
        if type(value) is not tuple or len(value) != len(hints):
            raise PeerFault(f"{what} is no array of {len(hints)}", code="malformed")
        entries = zip(hints, value, strict=True)
        return kind(*(_read(hint, entry, f"{what}.{name}") for (name, hint), entry in entries))
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
class HeldLine:
    """Units in a bucket that an order of authority holds, and what the table of powers says of them there."""

    order: bytes
    bucket: str
    reference: bytes
    amount: int
    outcome: str


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
    held: tuple[HeldLine, ...]


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
    """Somebody and his part of a holding; the account's owner has what nobody else has a share in."""

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


@dataclass(frozen=True, slots=True)
class ParticipantLine:
    """Somebody without whom an instruction cannot be locked: what he has said."""

    account: bytes
    name: str
    affirmed: bool
    holds: bool
    wants_to_cancel: bool


@dataclass(frozen=True, slots=True)
class MomentLine:
    """entry, irrevocable or final: when, or height 0 while it has not come."""

    name: str
    height: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class InstructionLine:
    """An instruction in a list: its three statuses, and the ISO 20022 code that says why they are as they are.

    ``rule`` names what is in the way, where something is. ``due_ms``: when it is tried next, or expires; 0: never.
    """

    id: bytes
    by: bytes
    counterparty: bytes
    reference: str
    processing: str
    matching: str
    settlement: str
    code: str
    rule: str
    settle_day: int
    due_ms: int


@dataclass(frozen=True, slots=True)
class InstructionStatement:
    """All about one instruction. ``pair``: the one that it was matched with; empty: none.

    ``rules_version`` is that of the rules under which it was locked, 0 before. ``stopped_by`` are orders of authority
    that reach what it moves. ``digest`` is what its participants affirm, over ``legs``.
    """

    line: InstructionLine
    origin: str
    calendar: str
    trade_day: int
    pair: bytes
    expires_ms: int
    rules_version: int
    moments: tuple[MomentLine, ...]
    participants: tuple[ParticipantLine, ...]
    stopped_by: tuple[bytes, ...]
    legs_wanted: int
    digest: bytes
    legs: tuple[LegLine, ...]


@dataclass(frozen=True, slots=True)
class InstructionList:
    lines: tuple[InstructionLine, ...]
    next: bytes
    """To go on from; empty where it was all."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What settling an instruction at its time would give, as the state is now: a reason code and the rule.

    If it ``is_locked`` this is what will happen, save an order of authority; ``time_ms`` is the time that was judged.
    """

    instruction: bytes
    is_locked: bool
    time_ms: int
    code: int
    rule: str


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


# --- money, venues, orders, permissions -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MoneyLine:
    """One asset of money. ``kind``: base, bank, or other, which nobody has authorised.

    ``attested`` and ``as_of_ms`` are of the newest attestation, 0 where there is none; ``waiting`` is what waits for
    reserves in payments. ``counts``: a mirror of money that lies elsewhere is shown and is no part of any total.
    """

    asset: bytes
    decimals: int
    kind: str
    bank: bytes
    bank_name: str
    issued: int
    redeemed: int
    circulating: int
    attested: int
    as_of_ms: int
    reserves: int
    waiting: int
    is_quarantined: bool
    counts: bool


@dataclass(frozen=True, slots=True)
class CurrencyLine:
    """The totals of a currency: base money, of which ``reserves`` lie with banks, and the money of all banks."""

    currency: str
    decimals: int
    base: int
    reserves: int
    bank_money: int
    held_by_public: int
    only_authorised: bool
    """Whether nothing else may be paid with."""


@dataclass(frozen=True, slots=True)
class MoneySupply:
    totals: tuple[CurrencyLine, ...]
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
    """An order of authority. ``party``, ``account`` and ``asset`` are empty where the order does not name one."""

    id: bytes
    rule: str
    """As refusals name it."""
    authority: bytes
    approver: bytes
    power: str
    status: str
    party: bytes
    account: bytes
    asset: bytes
    quantity: int
    expires_ms: int
    appeals: int
    document: bytes


@dataclass(frozen=True, slots=True)
class OrderList:
    lines: tuple[OrderLine, ...]


@dataclass(frozen=True, slots=True)
class WeighedLine:
    """A permission that was looked at: its effect, and why it does not apply (empty: it does)."""

    name: str
    effect: str
    why_not: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether somebody may do something: the rule that decides, why, and the permissions that were weighed.

    ``article`` is the part of the rulebook under which the operation stands.
    """

    who: bytes
    party: bytes
    name: str
    roles: tuple[str, ...]
    operation: str
    is_allowed: bool
    rule: str
    why: str
    article: str
    weighed: tuple[WeighedLine, ...]


# --- for programs -----------------------------------------------------------------------------------------------------


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
    | Forecast
    | Tasks
    | MoneySupply
    | VenueReport
    | OrderList
    | Decision
    | Directory
    | Signers
)
"""What a view answers."""
