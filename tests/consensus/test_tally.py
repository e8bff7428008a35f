"""Votes of one view: slots, lazy checks, who is blamed for what, and what a certificate must prove."""

import pytest

from p2pledger.consensus.engine import Evidence, Offence
from p2pledger.consensus.tally import Tally, certificate_fault
from p2pledger.primitives.evidence import EvidenceKind
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.validators import faulty_of, quorum_of
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from tests.consensus.world import NETWORK, keypairs_of, make_certificate, make_vote, validators_of

KEYPAIRS = keypairs_of(4)
VALIDATORS = validators_of(KEYPAIRS)
BLOCK, OTHER = b"\x01" * 32, b"\x02" * 32
ALICE, BOB = b"a" * 32, b"b" * 32


def forged(signer: int, kind: VoteKind = VoteKind.NOTARISE, block: bytes = BLOCK) -> Vote:
    """A vote that names ``signer`` and is signed by somebody else."""
    honest = Vote.make(NETWORK, 0, 5, kind, block, signer, KEYPAIRS[(signer + 1) % 4])
    assert not honest.is_valid(NETWORK, VALIDATORS)
    return honest


def tally_of(*votes: Vote) -> Tally:
    tally = Tally(NETWORK, VALIDATORS)
    for vote in votes:
        assert tally.add(ALICE, vote) == []
    return tally


@pytest.mark.parametrize("n", range(1, 41))
def test_a_certificate_needs_a_quorum_and_the_honest_ones_can_form_it(n: int) -> None:
    keypairs = keypairs_of(n)
    validators = validators_of(keypairs)
    assert validators.quorum == quorum_of(n) <= n - faulty_of(n)
    assert 2 * quorum_of(n) - n > faulty_of(n), "two quorums share an honest validator"
    tally = Tally(NETWORK, validators)
    for signer in range(quorum_of(n) - 1):
        tally.add(ALICE, make_vote(keypairs, signer, VoteKind.NOTARISE, 5, BLOCK), checked=True)
    assert tally.certificate(VoteKind.NOTARISE, BLOCK, validators.quorum) == (None, [])
    tally.add(ALICE, make_vote(keypairs, n - 1, VoteKind.NOTARISE, 5, BLOCK))
    certificate, found = tally.certificate(VoteKind.NOTARISE, BLOCK, validators.quorum)
    assert found == []
    assert certificate is not None
    assert certificate.is_valid(NETWORK, validators)
    assert certificate_fault(certificate, NETWORK, validators, validators.quorum) is None


def test_votes_for_different_things_do_not_add_up() -> None:
    tally = tally_of(
        make_vote(KEYPAIRS, 0, VoteKind.NOTARISE, 5, BLOCK),
        make_vote(KEYPAIRS, 1, VoteKind.NOTARISE, 5, OTHER),
        make_vote(KEYPAIRS, 2, VoteKind.FINALISE, 5, BLOCK),
        make_vote(KEYPAIRS, 3, VoteKind.NULLIFY, 5),
    )
    for kind, block in ((VoteKind.NOTARISE, BLOCK), (VoteKind.FINALISE, BLOCK), (VoteKind.NULLIFY, ZERO_HASH)):
        assert tally.weight(kind, block) == 1
        assert tally.certificate(kind, block, 3) == (None, [])


def test_bad_votes_are_found_only_when_the_quorum_is_there_and_their_bringer_is_named() -> None:
    tally = tally_of(make_vote(KEYPAIRS, 0, VoteKind.NOTARISE, 5, BLOCK), forged(1))
    assert tally.add(BOB, forged(2)) == [], "nothing is checked yet"
    certificate, found = tally.certificate(VoteKind.NOTARISE, BLOCK, 3)
    assert certificate is None
    assert found == [Offence(ALICE, "bad_signature"), Offence(BOB, "bad_signature")]
    assert tally.weight(VoteKind.NOTARISE, BLOCK) == 1


def test_a_forgery_does_not_keep_the_honest_vote_out() -> None:
    tally = Tally(NETWORK, VALIDATORS)
    assert tally.add(BOB, forged(1)) == []
    honest = make_vote(KEYPAIRS, 1, VoteKind.NOTARISE, 5, BLOCK)
    assert tally.add(ALICE, honest) == [Offence(BOB, "bad_signature")]
    assert tally.holds(honest)
    assert tally.add(BOB, forged(1, block=OTHER)) == [Offence(BOB, "bad_signature")]
    assert tally.holds(honest)


def test_two_blocks_in_one_view_are_evidence_once() -> None:
    first, second = (make_vote(KEYPAIRS, 1, VoteKind.NOTARISE, 5, block) for block in (BLOCK, OTHER))
    tally = tally_of(first)
    assert tally.add(BOB, second) == [Evidence(EvidenceKind.VOTES, first.encode(), second.encode())]
    assert tally.has_accused(1)
    assert tally.add(BOB, second) == []
    assert tally.holds(first), "the first one stays"


@pytest.mark.parametrize("kinds", [(VoteKind.NULLIFY, VoteKind.FINALISE), (VoteKind.FINALISE, VoteKind.NULLIFY)])
def test_to_nullify_and_finalise_one_view_is_evidence(kinds: tuple[VoteKind, VoteKind]) -> None:
    blocks = {VoteKind.NULLIFY: ZERO_HASH, VoteKind.FINALISE: BLOCK}
    first, second = (make_vote(KEYPAIRS, 1, kind, 5, blocks[kind]) for kind in kinds)
    tally = tally_of(first)
    assert tally.add(ALICE, second) == [Evidence(EvidenceKind.VOTES, first.encode(), second.encode())]


def test_to_notarise_and_nullify_one_view_is_allowed() -> None:
    tally_of(make_vote(KEYPAIRS, 1, VoteKind.NOTARISE, 5, BLOCK), make_vote(KEYPAIRS, 1, VoteKind.NULLIFY, 5))


def test_a_forged_contradiction_is_no_evidence() -> None:
    tally = tally_of(make_vote(KEYPAIRS, 1, VoteKind.FINALISE, 5, BLOCK))
    assert tally.add(BOB, forged(1, VoteKind.NULLIFY, ZERO_HASH)) == [Offence(BOB, "bad_signature")]
    assert tally.weight(VoteKind.FINALISE, BLOCK) == 1
    assert tally.weight(VoteKind.NULLIFY, ZERO_HASH) == 0


GOOD = make_certificate(KEYPAIRS, (0, 1, 2), VoteKind.NOTARISE, 5, BLOCK)


@pytest.mark.parametrize(
    ("certificate", "fault"),
    [
        (GOOD, None),
        (Certificate(0, 5, VoteKind.NOTARISE, BLOCK, ()), "bad_certificate"),
        (Certificate(0, 5, VoteKind.NOTARISE, BLOCK, (*GOOD.signatures[:2], GOOD.signatures[1])), "bad_certificate"),
        (Certificate(0, 5, VoteKind.NOTARISE, BLOCK, GOOD.signatures[::-1]), "bad_certificate"),
        (Certificate(0, 5, VoteKind.NULLIFY, BLOCK, GOOD.signatures), "bad_certificate"),
        (Certificate(0, 5, VoteKind.NOTARISE, ZERO_HASH, GOOD.signatures), "bad_signature"),
        (Certificate(0, 5, VoteKind.NOTARISE, BLOCK, (*GOOD.signatures, (9, bytes(64)))), "unknown_signer"),
        (Certificate(0, 5, VoteKind.NOTARISE, BLOCK, GOOD.signatures[:2]), "too_few_signers"),
        (Certificate(0, 5, VoteKind.FINALISE, BLOCK, GOOD.signatures), "bad_signature"),
        (Certificate(0, 6, VoteKind.NOTARISE, BLOCK, GOOD.signatures), "bad_signature"),
        (Certificate(0, 5, VoteKind.NOTARISE, OTHER, GOOD.signatures), "bad_signature"),
        (Certificate(0, 5, VoteKind.NOTARISE, BLOCK, (*GOOD.signatures[:2], (3, bytes(64)))), "bad_signature"),
    ],
)
def test_what_a_certificate_must_prove(certificate: Certificate, fault: str | None) -> None:
    known = tally_of()
    known.add(ALICE, make_vote(KEYPAIRS, 0, VoteKind.NOTARISE, 5, BLOCK), checked=True)
    for tally in (None, known):
        found = certificate_fault(certificate, NETWORK, VALIDATORS, VALIDATORS.quorum, known=tally)
        # A notarisation of no block and one with a wrong kind are both refused; by which rule does not matter.
        assert (found is None) == (fault is None)
        if certificate.block != ZERO_HASH:
            assert found == fault
