"""The tables of the state: their numbers, the form of their keys, and their rows (docs/protocol.md, section 7).

A row is a canonical MessagePack array that starts with its version. Rows are read from the node's own state only: the
core wrote them, or a certified root vouches for them. One that cannot be read is therefore no peer's fault but a broken
state, and an ``assert`` stops the node before it goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from types import MappingProxyType
from typing import ClassVar, Final, Self

from p2pledger.primitives.codec import U64_MAX, Value, decode, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.names import AssetKind
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.validators import Validator, Validators

__all__ = [
    "KEY_WIDTHS",
    "NOBODY",
    "Account",
    "AccountFlag",
    "Asset",
    "AssetFlag",
    "EvidenceRow",
    "FinalityRow",
    "Flow",
    "Holding",
    "Issued",
    "Lock",
    "Native",
    "ParameterRow",
    "Party",
    "Register",
    "ReplayRow",
    "Stake",
    "Staked",
    "Table",
    "ValidatorsRow",
    "asset_of",
    "engine_key",
    "evidence_key",
    "fields_of",
    "holding_key",
    "instrument_of",
    "lock_key",
    "parameter_key",
    "register_of",
    "replay_key",
    "validators_key",
]


class Table(IntEnum):
    """The tables in use; the state has room for 64."""

    PARAMETERS = 0
    ACCOUNTS = 1
    ASSETS = 2
    HOLDINGS = 3
    LOCKS = 4
    REGISTERS = 5
    PARTIES = 6
    VALIDATORS = 7
    REPLAY = 8
    NATIVE = 9
    STAKES = 10
    STAKED = 11
    ENGINE = 12
    EVIDENCE = 13
    FINALITY = 14
    ENCUMBRANCES = 15
    DUE = 16
    OWNERS = 17
    PARTY_ACCOUNTS = 18
    BENEFICIARIES = 19
    PERMISSIONS = 20
    INSTRUMENTS = 21
    LOOKALIKES = 22
    ACCREDITATIONS = 23
    VENUES = 24
    HOLDER_RULES = 25
    HOLDER_SUMS = 26
    CLAIMS = 27
    TRUSTED = 28
    CALENDARS = 29
    INSTRUCTIONS = 30
    LEGS = 31
    AFFIRMATIONS = 32
    MATCHING = 33
    OFFERS = 34
    LINKS = 35
    FLOWS = 36
    CROSSINGS = 37
    MONIES = 38
    ATTESTATIONS = 39
    PAYMENTS = 40
    PAYMENT_QUEUE = 41
    STATEMENTS = 42
    ORDERS = 43
    ORDERS_OVER = 44
    ESCROWS = 45


KEY_WIDTHS: Final[Mapping[int, int]] = MappingProxyType(
    {
        Table.PARAMETERS: 2,
        Table.ACCOUNTS: 32,
        Table.ASSETS: 16,
        Table.HOLDINGS: 48,
        Table.LOCKS: 80,
        Table.REGISTERS: 4,
        Table.PARTIES: 32,
        Table.VALIDATORS: 8,
        Table.REPLAY: 40,
        Table.NATIVE: 32,
        Table.STAKES: 32,
        Table.STAKED: 32,
        Table.ENGINE: 8,
        Table.EVIDENCE: 40,
        Table.FINALITY: 16,
        Table.ENCUMBRANCES: 80,
        Table.DUE: 41,
        Table.OWNERS: 32,
        Table.PARTY_ACCOUNTS: 64,
        Table.BENEFICIARIES: 80,
        Table.PERMISSIONS: 32,
        Table.INSTRUMENTS: 16,
        Table.LOOKALIKES: 32,
        Table.ACCREDITATIONS: 32,
        Table.VENUES: 48,
        Table.HOLDER_RULES: 16,
        Table.HOLDER_SUMS: 48,
        Table.CLAIMS: 80,
        Table.TRUSTED: 48,
        Table.CALENDARS: 16,
        Table.INSTRUCTIONS: 32,
        Table.LEGS: 36,
        Table.AFFIRMATIONS: 64,
        Table.MATCHING: 64,
        Table.OFFERS: 32,
        Table.LINKS: 20,
        Table.FLOWS: 16,
        Table.CROSSINGS: 32,
        Table.MONIES: 16,
        Table.ATTESTATIONS: 16,
        Table.PAYMENTS: 32,
        Table.PAYMENT_QUEUE: 56,
        Table.STATEMENTS: 20,
        Table.ORDERS: 32,
        Table.ORDERS_OVER: 80,
        Table.ESCROWS: 32,
    }
)
"""Table -> width of its keys in bytes."""

NOBODY: Final = bytes(32)
"""No account: where a field may name one and does not."""


class AccountFlag(IntFlag):
    """What takes an account off the bulk path: a guard of the market judges its movements (``market/guards.py``)."""

    ORDERED = 1
    """an order of authority reaches it"""
    OMNIBUS = 2
    """it holds for beneficiaries, of whom the ledger keeps the shares"""


class AssetFlag(IntFlag):
    """What takes an asset off the bulk path."""

    ORDERED = 1
    """an order of authority reaches it"""
    INACTIVE = 2
    """described, and not (any more) active"""
    HOLDERS = 4
    """it has rules about who may hold it, and counters of its holders"""
    PERMISSIONED = 8
    """permissions of the ledger name it, its register or its class"""
    UNAPPROVED = 16
    """money that the policy of its currency does not allow"""
    QUARANTINED = 32
    """money of a bank that has failed"""


_NAMED_HEAD: Final = b"\x95\x02"
"""How a row of REPLAY with the name of a rule begins."""


def parameter_key(number: int) -> bytes:
    """``number`` counts the fields of ``Parameters`` from 1."""
    return number.to_bytes(2, "big")


def holding_key(asset: bytes, account: bytes) -> bytes:
    """The holders of one asset are neighbours."""
    return asset + account


def lock_key(asset: bytes, account: bytes, controller: bytes) -> bytes:
    """The locks of one holding are neighbours."""
    return asset + account + controller


def validators_key(epoch: int) -> bytes:
    return epoch.to_bytes(8, "big")


def replay_key(valid_until: int, transaction_id: bytes) -> bytes:
    """Rows sort by the height after which they may be forgotten."""
    return valid_until.to_bytes(8, "big") + transaction_id


def engine_key(number: int) -> bytes:
    """Row 0 counts the native money; the others are the engine's own (``ledger/elections``)."""
    return number.to_bytes(8, "big")


def evidence_key(key: bytes, epoch: int) -> bytes:
    """The reports about one public key are neighbours."""
    return key + epoch.to_bytes(8, "big")


def register_of(asset: bytes) -> bytes:
    """The 4 bytes of the register that keeps an asset."""
    return asset[12:]


def instrument_of(asset: bytes) -> bytes:
    """The 12 bytes of an asset's instrument, which may stand in many registers."""
    return asset[:12]


def asset_of(key: bytes) -> bytes:
    """The asset in a key of HOLDINGS or LOCKS."""
    return key[:16]


def fields_of(row: bytes, what: str, count: int, version: int = 1) -> tuple[Value, ...]:
    """The ``count`` fields of a row behind its version. AssertionError where the state is broken."""
    try:
        values = decode(row, limit_bytes=len(row), what=what)
    except PeerFault as fault:
        raise AssertionError(f"the state is broken: a row of {what} cannot be read") from fault
    assert type(values) is tuple, f"the state is broken: a row of {what} is no array"
    assert len(values) == count + 1, f"the state is broken: a row of {what} has {len(values)} fields"
    assert values[0] == version, f"the state is broken: a row of {what} has version {values[0]}"
    return values[1:]


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """PARAMETERS: one constant of the network."""

    value: int

    def encode(self) -> bytes:
        return encode((1, self.value))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "PARAMETERS", 1))


@dataclass(frozen=True, slots=True)
class Account:
    """ACCOUNTS: ``flags`` are those of ``AccountFlag``; ``policy`` says which keys act for it."""

    policy: Policy
    flags: int = 0

    def encode(self) -> bytes:
        return encode((1, self.flags, self.policy.values()))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        flags, policy = fields_of(row, "ACCOUNTS", 2)
        return cls(Policy(*policy), flags)


@dataclass(frozen=True, slots=True)
class Asset:
    """ASSETS: ``issued`` and ``redeemed`` only grow; what is in circulation is their difference.

    Amounts are in the smallest unit, ``decimals`` places behind the unit that people name. ``flags`` are those of
    ``AssetFlag``.
    """

    table: ClassVar[Table] = Table.ASSETS

    kind: AssetKind
    decimals: int
    issuer: bytes
    name: str
    issued: int = 0
    redeemed: int = 0
    flags: int = 0

    def __post_init__(self) -> None:
        # More may be redeemed than was issued here: units come from other registers (FLOWS).
        assert min(self.issued, self.redeemed) >= 0, "the supply of an asset is negative"
        assert max(self.issued, self.redeemed) <= U64_MAX, "the supply of an asset exceeds 64 bits"

    @property
    def circulating(self) -> int:
        return self.issued - self.redeemed

    def encode(self) -> bytes:
        kind, name = int(self.kind), self.name
        return encode((1, self.flags, kind, self.decimals, self.issuer, self.issued, self.redeemed, name))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        flags, kind, decimals, issuer, issued, redeemed, name = fields_of(row, "ASSETS", 7)
        return cls(AssetKind(kind), decimals, issuer, name, issued, redeemed, flags)


@dataclass(frozen=True, slots=True)
class Holding:
    """HOLDINGS: what one account holds of one asset. Free and locked together stay below 2^64.

    ``locked`` is all that is encumbered: the sum of the account's rows for the asset in LOCKS and in ENCUMBRANCES. A
    row of zeros is not kept.
    """

    table: ClassVar[Table] = Table.HOLDINGS

    free: int = 0
    locked: int = 0

    def __post_init__(self) -> None:
        assert min(self.free, self.locked) >= 0, "a holding is negative"
        assert self.free + self.locked <= U64_MAX, "a holding exceeds 64 bits"

    @property
    def total(self) -> int:
        return self.free + self.locked

    def encode(self) -> bytes:
        return encode((1, self.free, self.locked))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "HOLDINGS", 2))


@dataclass(frozen=True, slots=True)
class Lock:
    """LOCKS: what one controller may release of a holding. A row of zero is not kept."""

    table: ClassVar[Table] = Table.LOCKS

    amount: int = 0

    def __post_init__(self) -> None:
        assert 0 <= self.amount <= U64_MAX, "a lock is out of range"

    def encode(self) -> bytes:
        return encode((1, self.amount))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "LOCKS", 1))


@dataclass(frozen=True, slots=True)
class Register:
    """REGISTERS: the depository's account, without whose signature no asset enters the register, and a title."""

    depository: bytes
    name: str

    def encode(self) -> bytes:
        return encode((1, self.depository, self.name))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "REGISTERS", 2))


@dataclass(frozen=True, slots=True)
class Party:
    """PARTIES: what a named account is called and which roles it plays.

    ``lei`` (ISO 17442) and ``country`` (ISO 3166, two letters) are empty, and ``sponsor`` is ``NOBODY``, for the
    members of the genesis, whom nobody registered.
    """

    table: ClassVar[Table] = Table.PARTIES

    name: str
    roles: tuple[str, ...] = ()
    lei: str = ""
    country: str = ""
    sponsor: bytes = NOBODY
    flags: int = 0

    def encode(self) -> bytes:
        return encode((1, self.name, self.roles, self.lei, self.country, self.sponsor, self.flags))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "PARTIES", 6))


@dataclass(frozen=True, slots=True)
class Flow:
    """FLOWS: what has come into an asset's register from others, and gone out to them. Both only grow."""

    table: ClassVar[Table] = Table.FLOWS

    arrived: int = 0
    departed: int = 0

    def __post_init__(self) -> None:
        assert 0 <= min(self.arrived, self.departed) <= max(self.arrived, self.departed) <= U64_MAX, "a flow"

    def encode(self) -> bytes:
        return encode((1, self.arrived, self.departed))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "FLOWS", 2))


@dataclass(frozen=True, slots=True)
class ValidatorsRow:
    """VALIDATORS: the seats of one epoch, sorted by key."""

    members: tuple[Validator, ...]

    def encode(self) -> bytes:
        return encode((1, [(seat.key, seat.weight, seat.name) for seat in self.members]))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        (seats,) = fields_of(row, "VALIDATORS", 1)
        return cls(tuple(Validator(*seat) for seat in seats))

    def validators(self, epoch: int) -> Validators:
        return Validators(epoch, self.members)


@dataclass(frozen=True, slots=True)
class ReplayRow:
    """REPLAY: what became of a transaction that executed with authority: at which height, and its receipt.

    ``rule`` names what refused it, where a rule of the market did; such a row has version 2, others version 1.
    """

    height: int
    code: int
    operation: int
    rule: str = ""

    def encode(self) -> bytes:
        if self.rule:
            return encode((2, self.height, self.code, self.operation, self.rule))
        return encode((1, self.height, self.code, self.operation))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        if row[:2] == _NAMED_HEAD:
            return cls(*fields_of(row, "REPLAY", 4, version=2))
        return cls(*fields_of(row, "REPLAY", 3))


@dataclass(frozen=True, slots=True)
class Native:
    """NATIVE: the native money of an account that is not staked. A row of zero is not kept."""

    free: int = 0

    def __post_init__(self) -> None:
        assert 0 <= self.free <= U64_MAX, "native money is out of range"

    def encode(self) -> bytes:
        return encode((1, self.free))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "NATIVE", 1))


@dataclass(frozen=True, slots=True)
class Stake:
    """STAKES: native money that ``account`` has put behind ``key`` at height ``since_height``.

    Under pos the key produces blocks with it, and each of them puts ``since_height`` to its own height; under dpos the
    key is the delegate for whom it votes. No transfer, lock or restriction of anything else reaches a stake.
    """

    account: bytes
    amount: int
    since_height: int
    key: bytes

    def __post_init__(self) -> None:
        assert 0 < self.amount <= U64_MAX, "a stake is out of range"

    def encode(self) -> bytes:
        return encode((1, self.account, self.amount, self.since_height, self.key))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "STAKES", 4))


@dataclass(frozen=True, slots=True)
class Staked:
    """STAKED: the sum over the stakes behind one key, and their number. A row of zeros is not kept."""

    amount: int = 0
    rows: int = 0

    def __post_init__(self) -> None:
        assert 0 <= self.amount <= U64_MAX, "the stakes of a key are out of range"
        assert (self.amount == 0) == (self.rows == 0), "stakes are counted that are not there"

    def encode(self) -> bytes:
        return encode((1, self.amount, self.rows))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "STAKED", 2))


@dataclass(frozen=True, slots=True)
class Issued:
    """ENGINE, row 0: all native money that ever came to be: free and staked together make it up, always."""

    amount: int = 0

    def __post_init__(self) -> None:
        assert 0 <= self.amount <= U64_MAX, "the native money is out of range"

    def encode(self) -> bytes:
        return encode((1, self.amount))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "ENGINE", 1))


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """EVIDENCE: at which height a key was reported, for which kind of contradiction, in which view or slot."""

    height: int
    kind: int
    view: int

    def encode(self) -> bytes:
        return encode((1, self.height, self.kind, self.view))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "EVIDENCE", 3))


@dataclass(frozen=True, slots=True)
class FinalityRow:
    """FINALITY: how many blocks must stand above one before the holders of an asset rely on it."""

    confirmations: int

    def encode(self) -> bytes:
        return encode((1, self.confirmations))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "FINALITY", 1))
