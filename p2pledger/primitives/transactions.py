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
from p2pledger.primitives.hashing import TRANSACTION_SIGN_TAG, TRANSACTION_TAG, tagged_hash
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.policies import Policy

__all__ = [
    "OPERATIONS",
    "Define",
    "Issue",
    "Lock",
    "Open",
    "Operation",
    "Redeem",
    "Release",
    "SetPolicy",
    "SignedTransaction",
    "Transaction",
    "Transfer",
    "delivery_versus_payment",
]


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


OPERATIONS: Final[dict[int, tuple[type[Operation], int]]] = {
    1: (Transfer, 5),
    2: (Lock, 5),
    3: (Release, 5),
    4: (Issue, 4),
    5: (Redeem, 4),
    6: (Define, 6),
    7: (Open, 4),
    8: (SetPolicy, 3),
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
