"""Votes and certificates: who agreed to what, and the proof that enough did (docs/protocol.md, section 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from p2pledger import core
from p2pledger.primitives.codec import Fields, Value, decode, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.hashing import VOTE_TAG, ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.validators import Validators

__all__ = ["Certificate", "Vote", "VoteKind", "vote_message"]

_MAX_VOTE_BYTES: Final = 256
_MAX_SIGNERS: Final = 1_024
_MAX_CERTIFICATE_BYTES: Final = 98_304


class VoteKind(IntEnum):
    """What a vote says of a view: this block, no block, or this block for good."""

    NOTARISE = 1
    NULLIFY = 2
    FINALISE = 3


_KINDS: Final = {int(kind): kind for kind in VoteKind}


def vote_message(network_id: bytes, epoch: int, view: int, kind: VoteKind, block: bytes) -> bytes:
    """The bytes that a vote signs."""
    return VOTE_TAG + encode((network_id, epoch, view, int(kind), block))


def _kind(fields: Fields) -> VoteKind:
    value = fields.integer("kind")
    kind = _KINDS.get(value)
    if kind is None:
        raise PeerFault(f"vote kind {value} is unknown", code="malformed")
    return kind


def _check_block(kind: VoteKind, block: bytes) -> None:
    if (kind is VoteKind.NULLIFY) != (block == ZERO_HASH):
        raise PeerFault("a nullify vote, and no other, names no block", code="malformed")


@dataclass(frozen=True, slots=True)
class Vote:
    """One signed vote. ``signer`` is an index in the epoch's validators; ``block`` is zero in a nullify vote."""

    epoch: int
    view: int
    kind: VoteKind
    block: bytes
    signer: int
    signature: bytes

    @classmethod
    def make(
        cls, network_id: bytes, epoch: int, view: int, kind: VoteKind, block: bytes, signer: int, keypair: Keypair
    ) -> Vote:
        signature = keypair.sign(vote_message(network_id, epoch, view, kind, block))
        return cls(epoch, view, kind, block, signer, signature)

    def encode(self) -> bytes:
        return encode((1, self.epoch, self.view, int(self.kind), self.block, self.signer, self.signature))

    @classmethod
    def decode(cls, data: bytes) -> Vote:
        """PeerFault for bad form; the signature is not checked here."""
        fields = Fields(decode(data, limit_bytes=_MAX_VOTE_BYTES, what="vote"), what="vote", count=7, version=1)
        epoch, view, kind = fields.integer("epoch"), fields.integer("view"), _kind(fields)
        block = fields.binary("block", 32)
        _check_block(kind, block)
        return cls(epoch, view, kind, block, fields.integer("signer", most=2**16), fields.binary("signature", 64))

    def message(self, network_id: bytes) -> bytes:
        return vote_message(network_id, self.epoch, self.view, self.kind, self.block)

    def is_valid(self, network_id: bytes, validators: Validators) -> bool:
        """Whether a validator of this epoch signed it."""
        if self.epoch != validators.epoch or self.signer >= len(validators):
            return False
        key = validators.members[self.signer].key
        return core.verify_batch(key, self.signature, [self.message(network_id)]) == b"\x01"


@dataclass(frozen=True, slots=True)
class Certificate:
    """Votes of one kind, view and block from a quorum: (signer, signature), ascending by signer."""

    epoch: int
    view: int
    kind: VoteKind
    block: bytes
    signatures: tuple[tuple[int, bytes], ...]

    @classmethod
    def of(cls, votes: Mapping[int, Vote]) -> Certificate:
        """From votes by signer that agree on epoch, view, kind and block."""
        first = next(iter(votes.values()))
        signatures = tuple((signer, votes[signer].signature) for signer in sorted(votes))
        return cls(first.epoch, first.view, first.kind, first.block, signatures)

    def encode(self) -> bytes:
        values: Value = (1, self.epoch, self.view, int(self.kind), self.block, self.signatures)
        return encode(values)

    @classmethod
    def decode(cls, data: bytes, *, repeats: bool = False) -> Certificate:
        """PeerFault for bad form; weight and signatures are not checked here. ``repeats`` is for tests only."""
        fields = Fields(
            decode(data, limit_bytes=_MAX_CERTIFICATE_BYTES, what="certificate"),
            what="certificate",
            count=6,
            version=1,
        )
        epoch, view, kind = fields.integer("epoch"), fields.integer("view"), _kind(fields)
        block = fields.binary("block", 32)
        _check_block(kind, block)
        signatures = []
        for row in fields.array("signatures", most=_MAX_SIGNERS):
            entry = Fields(row, what="certificate signature", count=2)
            signatures.append((entry.integer("signer", most=2**16), entry.binary("signature", 64)))
        signers = [signer for signer, _ in signatures]
        if not signers or (signers != sorted(set(signers)) and not repeats):
            raise PeerFault("the signers of a certificate must be ascending and unique", code="malformed")
        return cls(epoch, view, kind, block, tuple(signatures))

    @property
    def signers(self) -> tuple[int, ...]:
        return tuple(signer for signer, _ in self.signatures)

    def is_valid(self, network_id: bytes, validators: Validators) -> bool:
        """Whether a quorum of this epoch's validators signed it: weight first, then one batch of signatures."""
        if self.epoch != validators.epoch or self.signers[-1] >= len(validators):
            return False
        if validators.weight_of(self.signers) < validators.quorum:
            return False
        message = vote_message(network_id, self.epoch, self.view, self.kind, self.block)
        keys = b"".join(validators.members[signer].key for signer in self.signers)
        signatures = b"".join(signature for _, signature in self.signatures)
        flags = core.verify_batch(keys, signatures, [message] * len(self.signatures))
        return flags == b"\x01" * len(self.signatures)
