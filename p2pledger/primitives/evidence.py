"""Evidence: two signed statements of one key of which an honest holder makes at most one (docs/protocol.md, section 8).

A *statement* is the canonical encoding of a vote, or of a sealed header, ``[header, seal]``. Two of them convict their
signer by themselves: no chain, no clock and no witness is needed, so every node and the ledger judge alike. Honest
keys keep these promises, across crashes too, and evidence of ``kind`` shows that one was broken:

    kind 1, votes   In one epoch and view: one block notarised, one block finalised, and never both finalised and
                    nullified. A leader that proposes two blocks in a view has signed two notarise votes.
    kind 3, seals   One sealed block in a slot; and the ranges of heights that a key confirms are disjoint, on
                    whatever fork and chain they are.

Why ranges must be disjoint, and not only those on different forks: two headers alone do not show whether one block
is an ancestor of the other. So an honest producer confirms from one above the greatest height that it has ever
confirmed, which costs nothing: what lies below is an ancestor of what it confirms now. Only headers whose proof names a
range (delegates and authorities, ``confirmed_heights``) can be convicted of that.

The two statements may stand in either order. Kind 2 is not used: what contradicts itself in a proposal is its vote.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from p2pledger import core
from p2pledger.primitives.blocks import Block, Header
from p2pledger.primitives.codec import Fields, decode, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.hashing import SEAL_TAG
from p2pledger.primitives.validators import Validators
from p2pledger.primitives.votes import Vote, VoteKind

__all__ = [
    "MAX_STATEMENT_BYTES",
    "Culprit",
    "Evidence",
    "EvidenceKind",
    "check_evidence",
    "confirmed_heights",
    "sealed_header",
]

MAX_STATEMENT_BYTES: Final = 1_024
"""A vote or a sealed header."""
_MAX_EVIDENCE_BYTES: Final = 2 * MAX_STATEMENT_BYTES + 16


class EvidenceKind(IntEnum):
    """What contradicts itself: two votes, or two sealed headers."""

    VOTES = 1
    SEALS = 3


@dataclass(frozen=True, slots=True)
class Culprit:
    """Whom evidence convicts. ``epoch`` and ``view`` are those of the first statement (a slot for seals)."""

    key: bytes
    epoch: int
    kind: EvidenceKind
    view: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two statements, as they are passed on and kept; whether they convict anybody says ``check``."""

    kind: EvidenceKind
    first: bytes
    second: bytes

    @classmethod
    def of(cls, kind: EvidenceKind, one: bytes, other: bytes) -> Evidence:
        """With the statements in the order of their bytes: equal contradictions give equal evidence."""
        first, second = sorted((one, other))
        return cls(kind, first, second)

    def encode(self) -> bytes:
        return encode((1, int(self.kind), self.first, self.second))

    @classmethod
    def decode(cls, data: bytes) -> Evidence:
        """PeerFault for bad form; the statements are not looked into."""
        values = decode(data, limit_bytes=_MAX_EVIDENCE_BYTES, what="evidence")
        fields = Fields(values, what="evidence", count=4, version=1)
        kind = fields.integer("kind")
        if kind not in (EvidenceKind.VOTES, EvidenceKind.SEALS):
            raise PeerFault(f"evidence kind {kind} is unknown", code="malformed")
        first = fields.binary("first", most=MAX_STATEMENT_BYTES)
        return cls(EvidenceKind(kind), first, fields.binary("second", most=MAX_STATEMENT_BYTES))

    def check(self, network_id: bytes, validators_of: Callable[[int], Validators | None]) -> Culprit | str:
        """As ``check_evidence``; ``other_kind`` if the statements are not of the kind that is claimed."""
        found = check_evidence(self.first, self.second, network_id, validators_of)
        return "other_kind" if isinstance(found, Culprit) and found.kind is not self.kind else found


def sealed_header(block: Block) -> bytes:
    """What a producer has signed with the seal of this block, as a statement."""
    return encode((block.header.values(), block.seal))


def confirmed_heights(header: Header) -> range:
    """The heights that a sealed header confirms on its chain: from the first field of its proof up to its own.

    Empty where the proof names none (``[confirm_from, ...]`` with one above the own height, or another engine's form).
    """
    try:
        proof = decode(header.proof, limit_bytes=len(header.proof), what="proof")
    except PeerFault:
        return range(0)
    if type(proof) is not tuple or len(proof) not in (1, 3) or type(proof[0]) is not int:
        return range(0)
    return range(min(proof[0], header.height + 1), header.height + 1)


def check_evidence(
    first: bytes, second: bytes, network_id: bytes, validators_of: Callable[[int], Validators | None]
) -> Culprit | str:
    """Whom two statements convict, or the reason (a stable code) why nobody.

    ``validators_of`` gives the validators of an epoch, None where they are not known; it is asked about votes only.
    Whether the key of sealed headers may be punished at all (a delegate's, an authority's; a header's epoch is 0) is
    for the caller to know. Codes: ``malformed``, ``mixed_kinds``, ``same_statement``, ``wrong_network``,
    ``unknown_epoch``, ``unknown_signer``, ``no_contradiction``, ``bad_signature``.
    """
    try:
        one, other = _statement(first), _statement(second)
    except PeerFault:
        return "malformed"
    if isinstance(one, Vote) and isinstance(other, Vote):
        return _contradicting_votes(one, other, network_id, validators_of)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return _contradicting_seals(one, other, network_id)
    return "mixed_kinds"


def _statement(data: bytes) -> Vote | tuple[Header, bytes]:
    values = decode(data, limit_bytes=MAX_STATEMENT_BYTES, what="statement")
    if type(values) is tuple and len(values) == 2:
        fields = Fields(values, what="sealed header", count=2)
        return Header.of(fields.array("header", most=14)), fields.binary("seal", 64)
    return Vote.decode(data)


def _contradicting_votes(
    one: Vote, other: Vote, network_id: bytes, validators_of: Callable[[int], Validators | None]
) -> Culprit | str:
    if (one.epoch, one.view, one.kind, one.block, one.signer) == (
        other.epoch, other.view, other.kind, other.block, other.signer
    ):  # fmt: skip
        return "same_statement"  # Another signature under the same words contradicts nothing.
    if (one.epoch, one.view, one.signer) != (other.epoch, other.view, other.signer):
        return "no_contradiction"
    if one.kind is not other.kind and {one.kind, other.kind} != {VoteKind.NULLIFY, VoteKind.FINALISE}:
        return "no_contradiction"
    validators = validators_of(one.epoch)
    if validators is None or validators.epoch != one.epoch:
        return "unknown_epoch"
    if one.signer >= len(validators):
        return "unknown_signer"
    key = validators.members[one.signer].key
    messages = [one.message(network_id), other.message(network_id)]
    if core.verify_batch(key * 2, one.signature + other.signature, messages) != b"\x01\x01":
        return "bad_signature"
    return Culprit(key, one.epoch, EvidenceKind.VOTES, one.view)


def _contradicting_seals(one: tuple[Header, bytes], other: tuple[Header, bytes], network_id: bytes) -> Culprit | str:
    (header, seal), (rival, rival_seal) = one, other
    if header.id == rival.id:
        return "same_statement"
    if {header.network_id, rival.network_id} != {network_id}:
        return "wrong_network"
    if header.proposer != rival.proposer:
        return "no_contradiction"
    mine, theirs = confirmed_heights(header), confirmed_heights(rival)
    overlap = range(max(mine.start, theirs.start), min(mine.stop, theirs.stop))
    if header.view != rival.view and not overlap:
        return "no_contradiction"
    messages = [SEAL_TAG + header.id, SEAL_TAG + rival.id]
    if core.verify_batch(header.proposer * 2, seal + rival_seal, messages) != b"\x01\x01":
        return "bad_signature"
    return Culprit(header.proposer, header.epoch, EvidenceKind.SEALS, header.view)
