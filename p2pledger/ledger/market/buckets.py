"""Buckets: what a unit of a holding is doing. Each unit is in exactly one of them, always.

HOLDINGS keeps two sums, *free* and *locked*, and the bulk path of the core sees no more than these. ``locked`` is all
that is encumbered; the rows that it is the sum of say what for:

    LOCKED                     in LOCKS, under the account of the controller
    all other encumbrances     in ENCUMBRANCES, under the reference of the object that holds the units

A *spot* is a bucket and a reference: where exactly units lie. ``shift`` changes the rows, and nothing else may; it asks
nobody. What may move is judged in ``movement.py``, through which every rule goes.

Whatever bucket its units are in, a holding belongs to its account until they leave it: title stays with the account in
all buckets. ``FACTS`` says the rest, and the documentation prints it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.rule import Refused
from p2pledger.ledger.tables import Holding, Lock, Table, fields_of
from p2pledger.primitives.codec import U64_MAX, encode
from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.reasons import Reason

__all__ = [
    "FACTS",
    "FREE_SPOT",
    "Bucket",
    "Encumbrance",
    "Fact",
    "Spot",
    "amount_in",
    "encumbrance_key",
    "encumbrances_of",
    "locked_by",
    "put_into",
    "require_in",
    "shift",
    "take_from",
]


@dataclass(frozen=True, slots=True)
class Fact:
    """What a bucket means for who holds: in words, for people."""

    what: str
    title: str
    income: str
    votes: str
    released_by: str


FACTS: Final[Mapping[Bucket, Fact]] = MappingProxyType(
    {
        Bucket.FREE: Fact("at the account's disposal", "account", "account", "account", "nobody needs to"),
        Bucket.LOCKED: Fact("put under a controller", "account", "account", "account", "the controller"),
        Bucket.SETTLING: Fact(
            "reserved by a locked instruction",
            "account, until the instruction settles",
            "account",
            "account",
            "the instruction: its settlement, or an order of authority",
        ),
        Bucket.ESCROWED: Fact(
            "in an escrow or a standing offer",
            "account, until the condition is met or the offer is taken",
            "account",
            "account",
            "the escrow's condition or expiry; who made the offer",
        ),
        Bucket.PENDING: Fact(
            "in a payment that waits for reserves",
            "account, until the payment is made",
            "account",
            "none: it is money",
            "the payment: made, cancelled by the payer, or expired",
        ),
    }
)
"""Each bucket has its facts; a test wants them complete."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where units lie. ``reference``: b"" of FREE, the controller of LOCKED, the object's id of the others."""

    bucket: Bucket
    reference: bytes = b""

    def __post_init__(self) -> None:
        width = 0 if self.bucket is Bucket.FREE else 32
        assert len(self.reference) == width, "a spot is named by 32 bytes, and the free one by none"


FREE_SPOT: Final = Spot(Bucket.FREE)


@dataclass(frozen=True, slots=True)
class Encumbrance:
    """ENCUMBRANCES: what an object holds of a holding, in which bucket. A row of zero is not kept."""

    table: ClassVar[Table] = Table.ENCUMBRANCES

    bucket: Bucket
    amount: int

    def __post_init__(self) -> None:
        assert self.bucket not in (Bucket.FREE, Bucket.LOCKED), "such units have no row in ENCUMBRANCES"
        assert 0 < self.amount <= U64_MAX, "an encumbrance is out of range"

    def encode(self) -> bytes:
        return encode((1, int(self.bucket), self.amount))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        bucket, amount = fields_of(row, "ENCUMBRANCES", 2)
        return cls(Bucket(bucket), amount)


def encumbrance_key(asset: bytes, account: bytes, reference: bytes) -> bytes:
    """The encumbrances of one holding are neighbours."""
    return asset + account + reference


def amount_in(books: Books, asset: bytes, account: bytes, spot: Spot) -> int:
    """How much of the holding lies in the spot."""
    if spot.bucket is Bucket.FREE:
        return books.holding(asset, account).free
    if spot.bucket is Bucket.LOCKED:
        return books.lock(asset, account, spot.reference).amount
    row = books.row(Encumbrance, encumbrance_key(asset, account, spot.reference))
    return row.amount if row is not None and row.bucket is spot.bucket else 0


def encumbrances_of(books: Books, asset: bytes, account: bytes) -> Iterator[tuple[Spot, int]]:
    """The spots of ENCUMBRANCES of one holding and their amounts, by reference; those of LOCKS: ``locked_by``."""
    for key, row in books.rows(Encumbrance, asset + account):
        yield Spot(row.bucket, key[48:]), row.amount


def locked_by(books: Books, asset: bytes, account: bytes) -> Iterator[tuple[Spot, int]]:
    """The spots of LOCKS of one holding and their amounts, by controller."""
    for key, row in books.rows(Lock, asset + account):
        yield Spot(Bucket.LOCKED, key[48:]), row.amount


def require_in(books: Books, asset: bytes, account: bytes, spot: Spot, amount: int) -> int:
    """What lies in the spot, if it is enough; ``insufficient_`` free, locked or encumbered otherwise."""
    present = amount_in(books, asset, account, spot)
    if present < amount:
        raise Refused(_SHORT.get(spot.bucket, Reason.INSUFFICIENT_ENCUMBERED))
    return present


def take_from(books: Books, asset: bytes, account: bytes, spot: Spot, amount: int) -> None:
    """Takes units out of a spot. Refusals as in ``require_in``."""
    present = require_in(books, asset, account, spot, amount)
    holding = books.holding(asset, account)
    if spot.bucket is Bucket.FREE:
        books.put_holding(asset, account, Holding(holding.free - amount, holding.locked))
        return
    books.put_holding(asset, account, Holding(holding.free, holding.locked - amount))
    _write(books, asset, account, spot, present - amount)


def put_into(books: Books, asset: bytes, account: bytes, spot: Spot, amount: int) -> None:
    """Puts units into a spot. ``overflow`` where the holding would exceed 64 bits."""
    holding = books.holding(asset, account)
    if holding.total + amount > U64_MAX:
        raise Refused(Reason.OVERFLOW)
    if spot.bucket is Bucket.FREE:
        books.put_holding(asset, account, Holding(holding.free + amount, holding.locked))
        return
    present = amount_in(books, asset, account, spot)
    books.put_holding(asset, account, Holding(holding.free, holding.locked + amount))
    _write(books, asset, account, spot, present + amount)


def shift(books: Books, asset: bytes, account: bytes, source: Spot, target: Spot, amount: int) -> None:
    """From one spot of a holding to another. Refusals as in ``take_from``."""
    take_from(books, asset, account, source, amount)
    put_into(books, asset, account, target, amount)


def _write(books: Books, asset: bytes, account: bytes, spot: Spot, amount: int) -> None:
    if spot.bucket is Bucket.LOCKED:
        books.put_lock(asset, account, spot.reference, Lock(amount))
        return
    key = encumbrance_key(asset, account, spot.reference)
    present = books.row(Encumbrance, key)
    assert present is None or present.bucket is spot.bucket, "one object holds units in two buckets"
    books.put(Encumbrance, key, Encumbrance(spot.bucket, amount) if amount else None)


_SHORT: Final = {Bucket.FREE: Reason.INSUFFICIENT_FREE, Bucket.LOCKED: Reason.INSUFFICIENT_LOCKED}
