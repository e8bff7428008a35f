"""What a node asks its disk to keep. Records go down as effects, durable before the effects that follow them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BatchRecord",
    "BlockRecord",
    "CertificateRecord",
    "FinalRecord",
    "ForgetRecord",
    "ReceiptsRecord",
    "Record",
    "VoteRecord",
]


@dataclass(frozen=True, slots=True)
class Record:
    """Base of all records."""


@dataclass(frozen=True, slots=True)
class VoteRecord(Record):
    """An own vote. It must be durable before it is sent: a node that forgets a vote may contradict it."""

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
