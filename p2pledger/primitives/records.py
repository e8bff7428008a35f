"""What a node asks its disk to keep.

Records are written in the order in which they were asked for, and a disk never holds one without all those before it.
Only an own vote must be durable before what follows it leaves the node (``must_be_durable``): then everything that the
vote promises, its block and batches, or the certificate that it rests on, is durable too, for it came before. All
other records may be written a little later, with the next vote or after ``LAZY_MS``: what they say can be had again,
from the votes and from the peers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = [
    "LAZY_MS",
    "SEAL_KIND",
    "BatchRecord",
    "BlockRecord",
    "CertificateRecord",
    "FinalRecord",
    "ForgetRecord",
    "ReceiptsRecord",
    "Record",
    "VoteRecord",
    "must_be_durable",
]

LAZY_MS: Final = 50
"""How long records that nothing waits for may be kept back from the disk."""
SEAL_KIND: Final = 4
"""Beside the kinds of votes: the kind of a vote record that holds the promise of a block producer."""


@dataclass(frozen=True, slots=True)
class Record:
    """Base of all records."""


@dataclass(frozen=True, slots=True)
class VoteRecord(Record):
    """An own vote, or a promise (``SEAL_KIND``): durable before it, or the sealed block, is sent.

    A node that forgets what it said may contradict it.
    """

    epoch: int
    view: int
    kind: int
    block: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class BatchRecord(Record):
    """A checked batch that is held; a notarise vote promises that its batches are on disk."""

    digest: bytes
    maker: bytes
    sequence: int
    data: bytes


@dataclass(frozen=True, slots=True)
class BlockRecord(Record):
    """A block (header and digests) as it was proposed or fetched."""

    id: bytes
    height: int
    view: int
    parent: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class CertificateRecord(Record):
    """A notarisation, nullification or finalisation."""

    kind: int
    epoch: int
    view: int
    block: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class FinalRecord(Record):
    """This block is final at this height; its bytes and its batches are already stored."""

    height: int
    block: bytes


@dataclass(frozen=True, slots=True)
class ReceiptsRecord(Record):
    """The outcome of a final block: 4 bytes a transaction (code, operation). It may be computed again."""

    height: int
    block: bytes
    codes: bytes


@dataclass(frozen=True, slots=True)
class ForgetRecord(Record):
    """Unordered batches to drop, and the view below which blocks and certificates that are not final may go."""

    batches: tuple[bytes, ...]
    below_view: int


def must_be_durable(records: Iterable[Record]) -> bool:
    """Whether what follows these records must wait until they are durable."""
    return any(isinstance(record, VoteRecord) for record in records)
