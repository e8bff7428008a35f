"""Blocks and batches as values (docs/protocol.md, sections 5 and 6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from p2pledger import core
from p2pledger.primitives.codec import Fields, decode, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.hashing import BATCH_SIGN_TAG, BLOCK_TAG, SEAL_TAG, ZERO_HASH, tagged_hash
from p2pledger.primitives.keys import Keypair

__all__ = ["MAX_BLOCK_BYTES", "MAX_PROOF_BYTES", "PROTOCOL_VERSION", "Block", "Header", "sign_batch"]

PROTOCOL_VERSION: Final = 1
MAX_BLOCK_BYTES: Final = 65_536
"""A header, at most max_block_batches digests, a seal."""
MAX_PROOF_BYTES: Final = 512
SEAL_BYTES: Final = 64
_MAX_DIGESTS: Final = 1_900


@dataclass(frozen=True, slots=True)
class Header:
    """What validators vote on. Roots are those *after the parent*: a root is certified one block later."""

    network_id: bytes
    epoch: int
    view: int
    height: int
    parent: bytes
    time_ms: int
    proposer: bytes
    batches_root: bytes
    parent_state_root: bytes
    parent_receipts_root: bytes
    validators_hash: bytes
    protocol_version: int = PROTOCOL_VERSION
    proof: bytes = b""
    """What shows that the proposer may build here; which form it has, the engine says. Last, so that a search for a
    nonce need not encode the header again."""
    id: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", tagged_hash(BLOCK_TAG, self.encode()))

    def encode(self) -> bytes:
        return encode(self.values())

    def values(self) -> tuple[int | bytes, ...]:
        return (
            1,
            self.network_id,
            self.epoch,
            self.view,
            self.height,
            self.parent,
            self.time_ms,
            self.proposer,
            self.batches_root,
            self.parent_state_root,
            self.parent_receipts_root,
            self.validators_hash,
            self.protocol_version,
            self.proof,
        )

    @classmethod
    def of(cls, values: object) -> Header:
        """PeerFault ``malformed`` or ``unknown_version`` unless the decoded array has the right form."""
        fields = Fields(values, what="header", count=14, version=1)
        header = cls(
            fields.binary("network_id", 8),
            fields.integer("epoch"),
            fields.integer("view"),
            fields.integer("height"),
            fields.binary("parent", 32),
            fields.integer("time_ms"),
            fields.binary("proposer", 32),
            fields.binary("batches_root", 32),
            fields.binary("parent_state_root", 32),
            fields.binary("parent_receipts_root", 32),
            fields.binary("validators_hash", 32),
            fields.integer("protocol_version"),
            fields.binary("proof", most=MAX_PROOF_BYTES),
        )
        if header.protocol_version != PROTOCOL_VERSION:
            raise PeerFault(f"protocol version {header.protocol_version} is unknown", code="unknown_version")
        return header


@dataclass(frozen=True, slots=True)
class Block:
    """A header, the ordered digests of the batches that it orders, and the proposer's seal.

    The seal is a signature under the block's id. It is empty where votes stand for it, and in the genesis block.
    """

    header: Header
    digests: tuple[bytes, ...]
    seal: bytes = b""

    @property
    def id(self) -> bytes:
        return self.header.id

    @property
    def height(self) -> int:
        return self.header.height

    def encode(self) -> bytes:
        return encode((self.header.values(), self.digests, self.seal))

    def sealed(self, proposer: Keypair) -> Block:
        """This block with its proposer's signature."""
        return Block(self.header, self.digests, proposer.sign(SEAL_TAG + self.id))

    @classmethod
    def decode(cls, data: bytes) -> Block:
        """PeerFault for bad form, and where ``batches_root`` does not commit to exactly these digests."""
        fields = Fields(decode(data, limit_bytes=MAX_BLOCK_BYTES, what="block"), what="block", count=3)
        header = Header.of(fields.array("header", most=14))
        digests = fields.binaries("digests", 32, most=_MAX_DIGESTS)
        if len(set(digests)) != len(digests):
            raise PeerFault("a digest stands twice in a block", code="duplicate_batch")
        if core.merkle_root(digests) != header.batches_root:
            raise PeerFault("batches_root does not match the digests", code="bad_batches_root")
        seal = fields.binary("seal", most=SEAL_BYTES)
        if len(seal) not in (0, SEAL_BYTES):
            raise PeerFault(f"a seal has {len(seal)} bytes", code="malformed")
        return cls(header, digests, seal)


def genesis_block(*, network_id: bytes, genesis_hash: bytes, time_ms: int, validators_hash: bytes) -> Block:
    """The block of height 0, which nobody signs: everybody makes it from the genesis."""
    header = Header(
        network_id=network_id,
        epoch=0,
        view=0,
        height=0,
        parent=genesis_hash,
        time_ms=time_ms,
        proposer=ZERO_HASH,
        batches_root=core.merkle_root([]),
        parent_state_root=ZERO_HASH,
        parent_receipts_root=ZERO_HASH,
        validators_hash=validators_hash,
    )
    return Block(header, ())


def sign_batch(batch: bytes, maker: Keypair) -> bytes:
    """The signed batch: the batch's canonical bytes and the maker's signature over its digest."""
    return b"\x92" + batch + encode(maker.sign(BATCH_SIGN_TAG + core.batch_digest(batch)))
