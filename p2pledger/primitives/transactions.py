"""Transactions and their operations, one at a time: for clients that make them, for the slow path, for display.

Whole batches are scanned by the core (``core.scan_batch``), which judges form by the same rules; the tests hold the
two against each other. Formats: docs/protocol.md, section 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from p2pledger.primitives.codec import Fields, Value, decode, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.forms import (
    Account,
    Amount,
    AssetName,
    Blob,
    Choice,
    Form,
    ListOf,
    Number,
    Operation,
    PublicKey,
    Record,
    Reference,
    Row,
    Salt,
    Signature,
    SigningPolicy,
    Text,
    operation_name,
    values_of,
)
from p2pledger.primitives.hashing import SEATS_TAG, TRANSACTION_SIGN_TAG, TRANSACTION_TAG, tagged_hash
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.market import MARKET_OPERATIONS
from p2pledger.primitives.names import AssetKind, stake_id
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
class Transfer(Operation):
    """Moves free holdings. Signed by ``source``."""

    code: ClassVar[int] = 1
    form: ClassVar[Form] = (Account("source"), Account("target"), AssetName("asset"), Amount("amount"))
    source: bytes
    target: bytes
    asset: bytes
    amount: int


@dataclass(frozen=True, slots=True)
class Lock(Operation):
    """Puts free holdings under a controller. Signed by ``account``."""

    code: ClassVar[int] = 2
    form: ClassVar[Form] = (
        Account("account"),
        AssetName("asset"),
        Amount("amount"),
        Account("controller"),
    )
    account: bytes
    asset: bytes
    amount: int
    controller: bytes


@dataclass(frozen=True, slots=True)
class Release(Operation):
    """Gives locked holdings back to their owner. Signed by ``controller``."""

    code: ClassVar[int] = 3
    form: ClassVar[Form] = (
        Account("account"),
        AssetName("asset"),
        Amount("amount"),
        Account("controller"),
    )
    account: bytes
    asset: bytes
    amount: int
    controller: bytes


@dataclass(frozen=True, slots=True)
class Issue(Operation):
    """Creates units. Signed by the asset's issuer."""

    code: ClassVar[int] = 4
    form: ClassVar[Form] = (AssetName("asset"), Account("target"), Amount("amount"))
    asset: bytes
    target: bytes
    amount: int


@dataclass(frozen=True, slots=True)
class Redeem(Operation):
    """Destroys free units. Signed by ``source`` and by the asset's issuer."""

    code: ClassVar[int] = 5
    form: ClassVar[Form] = (AssetName("asset"), Account("source"), Amount("amount"))
    asset: bytes
    source: bytes
    amount: int


@dataclass(frozen=True, slots=True)
class Define(Operation):
    """Makes an asset known. Signed by the depository that keeps the register, and by the issuer."""

    code: ClassVar[int] = 6
    form: ClassVar[Form] = (
        AssetName("asset"),
        Choice("kind", AssetKind),
        Number("decimals", most=18),
        Account("issuer"),
        Text("name"),
    )
    asset: bytes
    kind: int
    decimals: int
    issuer: bytes
    name: str


@dataclass(frozen=True, slots=True)
class Open(Operation):
    """Opens an account under a policy. Signed by ``opener``."""

    code: ClassVar[int] = 7
    form: ClassVar[Form] = (Account("opener"), Salt("salt"), SigningPolicy("policy"))
    opener: bytes
    salt: bytes
    policy: Policy


@dataclass(frozen=True, slots=True)
class SetPolicy(Operation):
    """Replaces an account's policy by its next version. Signed by ``account`` under the present one."""

    code: ClassVar[int] = 8
    form: ClassVar[Form] = (Account("account"), SigningPolicy("policy"))
    account: bytes
    policy: Policy


@dataclass(frozen=True, slots=True)
class Pay(Operation):
    """Moves native money. Signed by ``source``."""

    code: ClassVar[int] = 9
    form: ClassVar[Form] = (Account("source"), Account("target"), Number("amount"))
    source: bytes
    target: bytes
    amount: int


@dataclass(frozen=True, slots=True)
class Stake(Operation):
    """Puts native money behind a producer's (pos) or delegate's (dpos) public key. Signed by ``account``."""

    code: ClassVar[int] = 10
    form: ClassVar[Form] = (Account("account"), Number("amount"), Salt("salt"), PublicKey("key"))
    account: bytes
    amount: int
    salt: bytes
    key: bytes

    @property
    def id(self) -> bytes:
        """The identifier of the stake that it makes."""
        return stake_id(self.account, self.salt)


@dataclass(frozen=True, slots=True)
class Unstake(Operation):
    """Takes a whole stake back. Signed by ``account``, whose stake it must be."""

    code: ClassVar[int] = 11
    form: ClassVar[Form] = (Account("account"), Reference("stake"))
    account: bytes
    stake: bytes


@dataclass(frozen=True, slots=True)
class SetFinality(Operation):
    """Says after how many blocks holders of the asset rely on one; 0: when the engine says so. Signed by its issuer."""

    code: ClassVar[int] = 12
    form: ClassVar[Form] = (AssetName("asset"), Number("confirmations"))
    asset: bytes
    confirmations: int


@dataclass(frozen=True, slots=True)
class SetValidators(Operation):
    """Seats the validators from ``epoch`` on (simplex). It carries its own approvals: (validator's key, signature over
    ``approval_message``), ascending by key; whoever pays the fee may hand it in."""

    code: ClassVar[int] = 13
    form: ClassVar[Form] = (
        Number("epoch"),
        ListOf("seats", Record("seat", Validator), 1, _MAX_SEATS, ascending=True),
        ListOf("approvals", Row("approval", (PublicKey("key"), Signature("signature"))), 1, _MAX_SEATS, ascending=True),
    )
    epoch: int
    seats: tuple[Validator, ...]
    approvals: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def approved(
        cls, network_id: bytes, epoch: int, seats: Iterable[Validator], keypairs: Iterable[Keypair]
    ) -> SetValidators:
        """With the approvals of some of the present validators."""
        ordered = tuple(sorted(seats, key=lambda seat: seat.key))
        message = approval_message(network_id, epoch, ordered)
        signed = {keypair.public_key: keypair.sign(message) for keypair in keypairs}
        return cls(epoch, ordered, tuple(sorted(signed.items())))


def approval_message(network_id: bytes, epoch: int, seats: Iterable[Validator]) -> bytes:
    """What a validator signs who agrees to the seats (ascending by key) of an epoch."""
    return SEATS_TAG + encode((network_id, epoch, tuple(values_of(Validator.form, seat) for seat in seats)))


@dataclass(frozen=True, slots=True)
class Report(Operation):
    """Two statements (``primitives/evidence.py``) by which one key contradicts itself. Whoever pays hands them in."""

    code: ClassVar[int] = 14
    form: ClassVar[Form] = (Blob("first", 1, _MAX_STATEMENT), Blob("second", 1, _MAX_STATEMENT))
    first: bytes
    second: bytes


_KINDS: Final[tuple[type[Operation], ...]] = (
    Transfer,
    Lock,
    Release,
    Issue,
    Redeem,
    Define,
    Open,
    SetPolicy,
    Pay,
    Stake,
    Unstake,
    SetFinality,
    SetValidators,
    Report,
    *MARKET_OPERATIONS,
)
OPERATIONS: Final[dict[int, type[Operation]]] = {kind.code: kind for kind in _KINDS}
"""By code. Codes between them that no operation has are as unknown as those above."""


def _read_operation(values: Value) -> Operation:
    if type(values) is not tuple or not values or type(values[0]) is not int:
        raise PeerFault("an operation is not an array that starts with its code", code="malformed")
    if values[0] not in OPERATIONS:
        raise PeerFault(f"operation code {values[0]} is unknown", code="unknown_operation")
    kind = OPERATIONS[values[0]]
    return kind.read(Fields(values, what=operation_name(kind), count=1 + len(kind.form), version=kind.code))


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
