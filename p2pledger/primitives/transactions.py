"""Transactions and their operations, one at a time: for clients that make them, for the slow path, for display.

Whole batches are scanned by the core (``core.scan_batch``), which judges form by the same rules; the tests hold the
two against each other. Formats: docs/protocol.md, section 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import ClassVar, Final

from p2pledger.primitives.codec import Fields, Value, decode, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.hashing import SEATS_TAG, TRANSACTION_SIGN_TAG, TRANSACTION_TAG, tagged_hash
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.names import stake_id
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.validators import Validator

__all__ = [
    "OPERATIONS",
    "Define",
    "Issue",
    "Lock",
    "Open",
    "Operation",
    "Pay",
    "Redeem",
    "Release",
    "Report",
    "SetFinality",
    "SetPolicy",
    "SetValidators",
    "SignedTransaction",
    "Stake",
    "Transaction",
    "Transfer",
    "Unstake",
    "approval_message",
    "delivery_versus_payment",
]

_MAX_SEATS: Final = 1_024
_MAX_STATEMENT: Final = 1_024


@dataclass(frozen=True, slots=True)
class Operation:
    """Base of the operations. ``code`` is the first field of the encoded array."""

    code: ClassVar[int]

    def values(self) -> tuple[Value, ...]:
        """The array that is encoded."""
        return (self.code, *astuple(self))

    @classmethod
    def read(cls, fields: Fields) -> Operation:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Transfer(Operation):
    """Moves free holdings. Signed by ``source``."""

    code: ClassVar[int] = 1
    source: bytes
    target: bytes
    asset: bytes
    amount: int

    @classmethod
    def read(cls, fields: Fields) -> Transfer:
        return cls(
            fields.binary("from", 32), fields.binary("to", 32), fields.binary("asset", 16), fields.integer("amount")
        )


@dataclass(frozen=True, slots=True)
class Lock(Operation):
    """Puts free holdings under a controller. Signed by ``account``."""

    code: ClassVar[int] = 2
    account: bytes
    asset: bytes
    amount: int
    controller: bytes

    @classmethod
    def read(cls, fields: Fields) -> Lock:
        return cls(*_locked_fields(fields))


@dataclass(frozen=True, slots=True)
class Release(Operation):
    """Gives locked holdings back to their owner. Signed by ``controller``."""

    code: ClassVar[int] = 3
    account: bytes
    asset: bytes
    amount: int
    controller: bytes

    @classmethod
    def read(cls, fields: Fields) -> Release:
        return cls(*_locked_fields(fields))


def _locked_fields(fields: Fields) -> tuple[bytes, bytes, int, bytes]:
    return (
        fields.binary("account", 32),
        fields.binary("asset", 16),
        fields.integer("amount"),
        fields.binary("controller", 32),
    )


@dataclass(frozen=True, slots=True)
class Issue(Operation):
    """Creates units. Signed by the asset's issuer."""

    code: ClassVar[int] = 4
    asset: bytes
    target: bytes
    amount: int

    @classmethod
    def read(cls, fields: Fields) -> Issue:
        return cls(fields.binary("asset", 16), fields.binary("to", 32), fields.integer("amount"))


@dataclass(frozen=True, slots=True)
class Redeem(Operation):
    """Destroys free units. Signed by ``source`` and by the asset's issuer."""

    code: ClassVar[int] = 5
    asset: bytes
    source: bytes
    amount: int

    @classmethod
    def read(cls, fields: Fields) -> Redeem:
        return cls(fields.binary("asset", 16), fields.binary("from", 32), fields.integer("amount"))


@dataclass(frozen=True, slots=True)
class Define(Operation):
    """Makes an asset known. Signed by the depository that keeps the register, and by the issuer."""

    code: ClassVar[int] = 6
    asset: bytes
    kind: int
    decimals: int
    issuer: bytes
    name: str

    @classmethod
    def read(cls, fields: Fields) -> Define:
        asset, kind = fields.binary("asset", 16), fields.integer("kind", most=1)
        decimals, issuer = fields.integer("decimals", most=18), fields.binary("issuer", 32)
        name = fields.text("name", most=64)
        if not name:
            raise PeerFault("field name of define is empty", code="malformed")
        return cls(asset, kind, decimals, issuer, name)


@dataclass(frozen=True, slots=True)
class Open(Operation):
    """Opens an account under a policy. Signed by ``opener``."""

    code: ClassVar[int] = 7
    opener: bytes
    salt: bytes
    policy: Policy

    def values(self) -> tuple[Value, ...]:
        return (self.code, self.opener, self.salt, self.policy.values())

    @classmethod
    def read(cls, fields: Fields) -> Open:
        opener, salt = fields.binary("opener", 32), fields.binary("salt", 16)
        return cls(opener, salt, Policy.decode(fields.array("policy", most=3)))


@dataclass(frozen=True, slots=True)
class SetPolicy(Operation):
    """Replaces an account's policy by its next version. Signed by ``account`` under the present one."""

    code: ClassVar[int] = 8
    account: bytes
    policy: Policy

    def values(self) -> tuple[Value, ...]:
        return (self.code, self.account, self.policy.values())

    @classmethod
    def read(cls, fields: Fields) -> SetPolicy:
        return cls(fields.binary("account", 32), Policy.decode(fields.array("policy", most=3)))


@dataclass(frozen=True, slots=True)
class Pay(Operation):
    """Moves native money. Signed by ``source``."""

    code: ClassVar[int] = 9
    source: bytes
    target: bytes
    amount: int

    @classmethod
    def read(cls, fields: Fields) -> Pay:
        return cls(fields.binary("from", 32), fields.binary("to", 32), fields.integer("amount"))


@dataclass(frozen=True, slots=True)
class Stake(Operation):
    """Puts native money behind a producer's (pos) or delegate's (dpos) public key. Signed by ``account``."""

    code: ClassVar[int] = 10
    account: bytes
    amount: int
    salt: bytes
    key: bytes

    @classmethod
    def read(cls, fields: Fields) -> Stake:
        account, amount = fields.binary("account", 32), fields.integer("amount")
        return cls(account, amount, fields.binary("salt", 16), fields.binary("key", 32))

    @property
    def id(self) -> bytes:
        """The identifier of the stake that it makes."""
        return stake_id(self.account, self.salt)


@dataclass(frozen=True, slots=True)
class Unstake(Operation):
    """Takes a whole stake back. Signed by ``account``, whose stake it must be."""

    code: ClassVar[int] = 11
    account: bytes
    stake: bytes

    @classmethod
    def read(cls, fields: Fields) -> Unstake:
        return cls(fields.binary("account", 32), fields.binary("stake", 32))


@dataclass(frozen=True, slots=True)
class SetFinality(Operation):
    """Says after how many blocks holders of the asset rely on one; 0: when the engine says so. Signed by its issuer."""

    code: ClassVar[int] = 12
    asset: bytes
    confirmations: int

    @classmethod
    def read(cls, fields: Fields) -> SetFinality:
        return cls(fields.binary("asset", 16), fields.integer("confirmations"))


@dataclass(frozen=True, slots=True)
class SetValidators(Operation):
    """Seats the validators from ``epoch`` on (simplex). It carries its own approvals: (validator's key, signature over
    ``approval_message``), ascending by key; whoever pays the fee may hand it in."""

    code: ClassVar[int] = 13
    epoch: int
    seats: tuple[Validator, ...]
    approvals: tuple[tuple[bytes, bytes], ...]

    def values(self) -> tuple[Value, ...]:
        return (self.code, self.epoch, _seat_rows(self.seats), self.approvals)

    @classmethod
    def read(cls, fields: Fields) -> SetValidators:
        epoch = fields.integer("epoch")
        seats = []
        for row in fields.array("seats", most=_MAX_SEATS):
            item = Fields(row, what="seat", count=3)
            key, weight = item.binary("key", 32), item.integer("weight", most=2**32 - 1)
            if not weight:
                raise PeerFault("a seat without weight", code="malformed")
            seats.append(Validator(key, weight, item.text("name", most=64)))
        approvals = []
        for row in fields.array("approvals", most=_MAX_SEATS):
            item = Fields(row, what="approval", count=2)
            approvals.append((item.binary("key", 32), item.binary("signature", 64)))
        for keys in ([seat.key for seat in seats], [key for key, _ in approvals]):
            if not keys or keys != sorted(set(keys)):
                raise PeerFault("seats and approvals must be there, ascending and unique by key", code="malformed")
        return cls(epoch, tuple(seats), tuple(approvals))

    @classmethod
    def approved(
        cls, network_id: bytes, epoch: int, seats: Iterable[Validator], keypairs: Iterable[Keypair]
    ) -> SetValidators:
        """With the approvals of some of the present validators."""
        ordered = tuple(sorted(seats, key=lambda seat: seat.key))
        message = approval_message(network_id, epoch, ordered)
        signed = {keypair.public_key: keypair.sign(message) for keypair in keypairs}
        return cls(epoch, ordered, tuple(sorted(signed.items())))


def _seat_rows(seats: Iterable[Validator]) -> tuple[tuple[bytes, int, str], ...]:
    return tuple((seat.key, seat.weight, seat.name) for seat in seats)


def approval_message(network_id: bytes, epoch: int, seats: Iterable[Validator]) -> bytes:
    """What a validator signs who agrees to the seats (ascending by key) of an epoch."""
    return SEATS_TAG + encode((network_id, epoch, _seat_rows(seats)))


@dataclass(frozen=True, slots=True)
class Report(Operation):
    """Two statements (``primitives/evidence.py``) by which one key contradicts itself. Whoever pays hands them in."""

    code: ClassVar[int] = 14
    first: bytes
    second: bytes

    @classmethod
    def read(cls, fields: Fields) -> Report:
        first, second = fields.binary("first", most=_MAX_STATEMENT), fields.binary("second", most=_MAX_STATEMENT)
        if not first or not second:
            raise PeerFault("a report without its statements", code="malformed")
        return cls(first, second)


OPERATIONS: Final[dict[int, tuple[type[Operation], int]]] = {
    1: (Transfer, 5),
    2: (Lock, 5),
    3: (Release, 5),
    4: (Issue, 4),
    5: (Redeem, 4),
    6: (Define, 6),
    7: (Open, 4),
    8: (SetPolicy, 3),
    9: (Pay, 4),
    10: (Stake, 5),
    11: (Unstake, 3),
    12: (SetFinality, 3),
    13: (SetValidators, 4),
    14: (Report, 3),
}
"""code -> (class, number of fields with the code)."""


def _read_operation(values: Value) -> Operation:
    if type(values) is not tuple or not values or type(values[0]) is not int:
        raise PeerFault("an operation is not an array that starts with its code", code="malformed")
    if values[0] not in OPERATIONS:
        raise PeerFault(f"operation code {values[0]} is unknown", code="unknown_operation")
    kind, count = OPERATIONS[values[0]]
    return kind.read(Fields(values, what=kind.__name__.lower(), count=count, version=kind.code))


@dataclass(frozen=True, slots=True)
class Transaction:
    """The body: what its signers agree to. All operations succeed, or nothing changes.

    ``valid_until`` is a height; ``salt`` (16 bytes) makes equal orders distinct; ``fee_payer`` must sign too.
    """

    network_id: bytes
    valid_until: int
    salt: bytes
    fee_payer: bytes
    operations: tuple[Operation, ...]
    max_fee: int = 0

    def encode(self) -> bytes:
        operations = [operation.values() for operation in self.operations]
        return encode(
            [1, self.network_id, self.valid_until, self.salt, self.fee_payer, self.max_fee, operations],
        )

    @property
    def id(self) -> bytes:
        return tagged_hash(TRANSACTION_TAG, self.encode())

    def sign(self, keypairs: Iterable[Keypair]) -> bytes:
        """The canonical signed transaction, ready to be submitted."""
        body = self.encode()
        message = TRANSACTION_SIGN_TAG + tagged_hash(TRANSACTION_TAG, body)
        signers = sorted({keypair.public_key: keypair for keypair in keypairs}.items())
        tail = encode([(key, keypair.sign(message)) for key, keypair in signers])
        return b"\x92" + body + tail


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A decoded signed transaction: body, identifier and the (public key, signature) pairs. Signatures unchecked."""

    transaction: Transaction
    id: bytes
    signatures: tuple[tuple[bytes, bytes], ...]

    @property
    def signers(self) -> tuple[bytes, ...]:
        return tuple(key for key, _ in self.signatures)

    @classmethod
    def decode(cls, data: bytes, *, limit_bytes: int = 65_536) -> SignedTransaction:
        """PeerFault (``malformed``, ``too_large``, ``unknown_version``, ``unknown_operation``) for bad form."""
        fields = Fields(decode(data, limit_bytes=limit_bytes, what="transaction"), what="transaction", count=2)
        values, pairs = fields.array("body", most=7), fields.array("signatures", most=2**16)
        body = Fields(values, what="transaction body", count=7, version=1)
        network_id, valid_until = body.binary("network_id", 8), body.integer("valid_until")
        salt, fee_payer = body.binary("salt", 16), body.binary("fee_payer", 32)
        max_fee, rows = body.integer("max_fee"), body.array("operations", most=2**16)
        if not rows:
            raise PeerFault("a transaction without operations", code="malformed")
        operations = tuple(_read_operation(row) for row in rows)
        signatures = []
        for pair in pairs:
            entry = Fields(pair, what="signature", count=2)
            signatures.append((entry.binary("public_key", 32), entry.binary("signature", 64)))
        keys = [key for key, _ in signatures]
        if not keys or keys != sorted(set(keys)):
            raise PeerFault("signatures must be there, ascending and unique by key", code="malformed")
        transaction = Transaction(network_id, valid_until, salt, fee_payer, operations, max_fee)
        return cls(transaction, transaction.id, tuple(signatures))


def delivery_versus_payment(
    *, seller: bytes, buyer: bytes, security: bytes, quantity: int, money: bytes, price: int
) -> Sequence[Operation]:
    """The two legs of a trade: securities to the buyer, money to the seller, in one transaction or not at all."""
    return (Transfer(seller, buyer, security, quantity), Transfer(buyer, seller, money, price))
