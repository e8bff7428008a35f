"""The votes of one view: one slot for each validator and kind, checked lazily.

A vote is stored unchecked and costs nothing until it matters. When the votes for one thing reach a quorum, those not
checked yet are checked together in one batch; bad ones are thrown out and whoever brought them is named. So n votes
cost one batch, and a vote that comes after the quorum costs no signature check at all.

The price of storing unchecked votes is that a stranger's forgery may sit in an honest validator's slot. Hence the
rule for a second, different vote in a slot: both are checked now. The forged one goes (an *offence* of its bringer);
if both are good, the signer has contradicted itself (*evidence*), which is reported once, and the first one stays.

Certificates are votes too: one that is held convicts whoever signed it and said something else here. So a leader that
shows one block to some and another to the rest is found out by those few, as soon as the block of the others is
notarised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from p2pledger import core
from p2pledger.consensus.engine import Effect, Evidence, Offence
from p2pledger.primitives.evidence import EvidenceKind
from p2pledger.primitives.faults import NO_FAULTS, Faults
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.validators import Validators
from p2pledger.primitives.votes import Certificate, Vote, VoteKind, vote_message

__all__ = ["Tally", "certificate_fault", "valid_votes"]


def valid_votes(network_id: bytes, validators: Validators, votes: Sequence[Vote]) -> list[bool]:
    """Which of these votes carry a good signature of their signer, in one batch. Signers must be in range."""
    if not votes:
        return []
    flags = core.verify_batch(
        b"".join(validators.members[vote.signer].key for vote in votes),
        b"".join(vote.signature for vote in votes),
        [vote.message(network_id) for vote in votes],
    )
    return [flag == 1 for flag in flags]


def certificate_fault(
    certificate: Certificate,
    network_id: bytes,
    validators: Validators,
    quorum: int,
    *,
    known: Tally | None = None,
    faults: Faults = NO_FAULTS,
) -> str | None:
    """Why this certificate proves nothing (a stable code), or None. Cheap checks first, then one batch of signatures.

    Signatures that stand in ``known`` as checked are not checked again.
    """
    signers = certificate.signers
    repeats = faults.double_counted_signer
    if not signers or any(first > second or (first == second and not repeats) for first, second in pairwise(signers)):
        return "bad_certificate"
    if signers[-1] >= len(validators) or signers[0] < 0:
        return "unknown_signer"
    if (certificate.kind is VoteKind.NULLIFY) != (certificate.block == ZERO_HASH):
        return "bad_certificate"
    weight = sum(validators.members[signer].weight for signer in signers) if repeats else validators.weight_of(signers)
    if weight < quorum:
        return "too_few_signers"
    message = vote_message(network_id, certificate.epoch, certificate.view, certificate.kind, certificate.block)
    unchecked = [
        (signer, signature)
        for signer, signature in certificate.signatures
        if known is None or not known.holds_checked(certificate.kind, certificate.block, signer, signature)
    ]
    if unchecked:
        flags = core.verify_batch(
            b"".join(validators.members[signer].key for signer, _ in unchecked),
            b"".join(signature for _, signature in unchecked),
            [message] * len(unchecked),
        )
        if flags != b"\x01" * len(unchecked):
            return "bad_signature"
    return None


def _evidence(first: Vote, second: Vote) -> Evidence:
    return Evidence(EvidenceKind.VOTES, first.encode(), second.encode())


_EXCLUDED: Final = {
    VoteKind.NOTARISE: (VoteKind.NOTARISE,),
    VoteKind.NULLIFY: (VoteKind.FINALISE,),
    VoteKind.FINALISE: (VoteKind.NULLIFY, VoteKind.FINALISE),
}
"""Kinds of which an honest signer says nothing of another block in the same view."""


@dataclass(slots=True)
class _Slot:
    vote: Vote
    sender: bytes
    checked: bool


class Tally:
    """All votes of one view. Bounded: three slots for each validator."""

    __slots__ = ("_accused", "_certificates", "_network_id", "_slots", "_validators", "_weights")

    def __init__(self, network_id: bytes, validators: Validators) -> None:
        self._network_id = network_id
        self._validators = validators
        self._slots: dict[tuple[VoteKind, int], _Slot] = {}
        self._weights: dict[tuple[VoteKind, bytes], int] = {}
        """Of the slots, so that a vote costs the same however many there are."""
        self._certificates: list[Certificate] = []
        self._accused: set[int] = set()

    def clear(self) -> None:
        """Forgets all votes (the view is long past)."""
        self._slots.clear()
        self._weights.clear()
        self._certificates.clear()
        self._accused.clear()

    def holds(self, vote: Vote) -> bool:
        """Whether this very vote is stored."""
        slot = self._slots.get((vote.kind, vote.signer))
        return slot is not None and slot.vote == vote

    def has_accused(self, signer: int) -> bool:
        """Whether this signer has contradicted itself here."""
        return signer in self._accused

    def holds_checked(self, kind: VoteKind, block: bytes, signer: int, signature: bytes) -> bool:
        """Whether this signature is known to be good."""
        slot = self._slots.get((kind, signer))
        return slot is not None and slot.checked and slot.vote.block == block and slot.vote.signature == signature

    def add(self, sender: bytes, vote: Vote, *, checked: bool = False) -> list[Effect]:
        """Stores a vote whose epoch, view and signer are right. ``checked``: its signature is known to be good."""
        slot = self._slots.get((vote.kind, vote.signer))
        if slot is None:
            return self._contradiction(self._fill(_Slot(vote, sender, checked)))
        if slot.vote == vote:
            slot.checked = slot.checked or checked
            return []
        if slot.checked and (slot.vote.block == vote.block or vote.signer in self._accused):
            # A second signature under the same words adds nothing, nor does a third contradiction.
            return []
        found = self._check([slot])
        good = checked or valid_votes(self._network_id, self._validators, [vote])[0]
        if not good:
            return [*found, Offence(sender, "bad_signature")]
        if (vote.kind, vote.signer) not in self._slots:
            return [*found, *self._contradiction(self._fill(_Slot(vote, sender, True)))]
        if slot.vote.block != vote.block:
            self._accused.add(vote.signer)
            found.append(_evidence(slot.vote, vote))
        return found

    def learn(self, certificate: Certificate) -> list[Effect]:
        """Remembers a valid certificate of this view; evidence against those who signed it and said otherwise here."""
        self._certificates.append(certificate)
        found: list[Effect] = []
        for signer, signature in certificate.signatures:
            for kind in _EXCLUDED[certificate.kind]:
                slot = self._slots.get((kind, signer))
                if slot is not None and slot.vote.block != certificate.block:
                    said = replace(slot.vote, kind=certificate.kind, block=certificate.block, signature=signature)
                    found += self._accuse(slot, said)
        return found

    def _contradiction(self, slot: _Slot) -> list[Effect]:
        """Evidence, if this signer says otherwise in another slot or in a certificate."""
        vote = slot.vote
        found: list[Effect] = []
        for kind in _EXCLUDED[vote.kind]:
            other = self._slots.get((kind, vote.signer))
            if other is not None and other is not slot and vote.signer not in self._accused:
                found += self._check([other])
                if other.checked:
                    found += self._accuse(slot, other.vote)
        for certificate in self._certificates:
            if certificate.kind in _EXCLUDED[vote.kind] and certificate.block != vote.block:
                signature = dict(certificate.signatures).get(vote.signer)
                if signature is not None:
                    said = replace(vote, kind=certificate.kind, block=certificate.block, signature=signature)
                    found += self._accuse(slot, said)
        return found

    def _accuse(self, slot: _Slot, said: Vote) -> list[Effect]:
        """Evidence by a slot and something that its signer is known to have said, once; unless the slot is forged."""
        if slot.vote.signer in self._accused or self._slots.get((slot.vote.kind, slot.vote.signer)) is not slot:
            return []
        found = self._check([slot])
        if slot.checked:
            self._accused.add(slot.vote.signer)
            found.append(_evidence(said, slot.vote))
        return found

    def _fill(self, slot: _Slot) -> _Slot:
        vote = slot.vote
        self._slots[vote.kind, vote.signer] = slot
        weight = self._weights.get((vote.kind, vote.block), 0)
        self._weights[vote.kind, vote.block] = weight + self._validators.members[vote.signer].weight
        return slot

    def _empty(self, slot: _Slot) -> None:
        vote = slot.vote
        del self._slots[vote.kind, vote.signer]
        self._weights[vote.kind, vote.block] -= self._validators.members[vote.signer].weight
        if not self._weights[vote.kind, vote.block]:
            del self._weights[vote.kind, vote.block]

    def _check(self, slots: Sequence[_Slot]) -> list[Effect]:
        """Checks what is unchecked among ``slots``; bad ones lose their slot, and their bringers are named."""
        unchecked = [slot for slot in slots if not slot.checked]
        flags = valid_votes(self._network_id, self._validators, [slot.vote for slot in unchecked])
        found: list[Effect] = []
        for slot, good in zip(unchecked, flags, strict=True):
            slot.checked = good
            if not good:
                self._empty(slot)
                found.append(Offence(slot.sender, "bad_signature"))
        return found

    def weight(self, kind: VoteKind, block: bytes) -> int:
        """The weight of the stored votes for this, checked or not."""
        return self._weights.get((kind, block), 0)

    def checked_weight(self, kind: VoteKind, block: bytes, enough: int) -> tuple[int, list[Effect]]:
        """The weight of good votes for this; below ``enough`` nothing is checked and the answer is 0."""
        if self.weight(kind, block) < enough:
            return 0, []
        found = self._check([slot for slot in self._of(kind) if slot.vote.block == block])
        return self.weight(kind, block), found

    def certificate(self, kind: VoteKind, block: bytes, quorum: int) -> tuple[Certificate | None, list[Effect]]:
        """The certificate of this kind for this block, once good votes of a quorum are here."""
        weight, found = self.checked_weight(kind, block, quorum)
        if weight < quorum:
            return None, found
        votes = {slot.vote.signer: slot.vote for slot in self._of(kind) if slot.vote.block == block}
        return Certificate.of(votes), found

    def _of(self, kind: VoteKind) -> list[_Slot]:
        return [slot for (held, _), slot in self._slots.items() if held is kind]
