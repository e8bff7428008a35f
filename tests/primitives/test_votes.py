"""Votes and certificates: what they sign, and whom they convince."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.validators import Validator, Validators
from p2pledger.primitives.votes import Certificate, Vote, VoteKind, vote_message
from tests.primitives import samples
from tests.primitives.samples import KEYS, NETWORK, SIGNERS, VALIDATORS

BLOCK = b"B" * 32
kinds = st.sampled_from(list(VoteKind))


@given(kinds, st.integers(0, 3), st.integers(0, 2**64 - 1))
def test_a_vote_reads_back_and_is_valid_for_its_signer_only(kind: VoteKind, signer: int, view: int) -> None:
    vote = samples.vote(signer, kind, view=view)
    assert Vote.decode(vote.encode()) == vote
    assert vote.is_valid(NETWORK, VALIDATORS)
    assert not replace(vote, signer=(signer + 1) % 4).is_valid(NETWORK, VALIDATORS)


def test_a_vote_signs_network_epoch_view_kind_and_block() -> None:
    vote = samples.vote(2)
    message = b"p2pl.vo1" + encode((NETWORK, 0, 300, 1, BLOCK))
    assert vote.message(NETWORK) == vote_message(NETWORK, 0, 300, VoteKind.NOTARISE, BLOCK) == message
    assert vote.signature == SIGNERS[2].sign(message)
    assert not vote.is_valid(b"another8", VALIDATORS)
    for change in ({"view": 301}, {"kind": VoteKind.FINALISE}, {"block": b"C" * 32}, {"signature": bytes(64)}):
        assert not replace(vote, **change).is_valid(NETWORK, VALIDATORS)


def test_votes_of_other_epochs_and_strangers_are_not_valid() -> None:
    vote = samples.vote(3)
    assert not replace(vote, epoch=1).is_valid(NETWORK, VALIDATORS)
    assert not vote.is_valid(NETWORK, Validators(1, VALIDATORS.members))
    assert not vote.is_valid(NETWORK, Validators(0, VALIDATORS.members[:3]))


@pytest.mark.parametrize(
    "values",
    [
        (2, 0, 1, 1, BLOCK, 0, bytes(64)),
        (1, 0, 1, 0, BLOCK, 0, bytes(64)),
        (1, 0, 1, 4, BLOCK, 0, bytes(64)),
        (1, 0, 1, 2, BLOCK, 0, bytes(64)),
        (1, 0, 1, 1, ZERO_HASH, 0, bytes(64)),
        (1, 0, 1, 3, ZERO_HASH, 0, bytes(64)),
        (1, 0, 1, 1, BLOCK[1:], 0, bytes(64)),
        (1, 0, 1, 1, BLOCK, 2**16 + 1, bytes(64)),
        (1, 0, 1, 1, BLOCK, 0, bytes(63)),
        (1, 0, 1, 1, BLOCK, 0),
    ],
)
def test_other_forms_of_votes_are_refused(values: tuple[object, ...]) -> None:
    with pytest.raises(PeerFault):
        Vote.decode(encode(values))


@given(kinds, st.sets(st.integers(0, 3), min_size=1))
def test_a_certificate_is_valid_from_a_quorum_on(kind: VoteKind, signers: set[int]) -> None:
    certificate = samples.certificate(kind, tuple(signers))
    assert Certificate.decode(certificate.encode()) == certificate
    assert certificate.signers == tuple(sorted(signers))
    assert certificate.is_valid(NETWORK, VALIDATORS) is (len(signers) >= 3)


def test_weights_make_quorums() -> None:
    weights = [1, 1, 1, 6]
    heavy = Validators.of(0, [Validator(key.public_key, weight) for key, weight in zip(SIGNERS, weights, strict=True)])
    assert heavy.quorum == 7
    assert samples.certificate(VoteKind.FINALISE, (0, 3)).is_valid(NETWORK, heavy)
    assert not samples.certificate(VoteKind.FINALISE, (3,)).is_valid(NETWORK, heavy)
    assert not samples.certificate(VoteKind.FINALISE, (0, 1, 2)).is_valid(NETWORK, heavy)


def test_one_bad_signature_spoils_a_certificate() -> None:
    certificate = samples.certificate(VoteKind.NOTARISE, (0, 1, 2, 3))
    assert certificate.is_valid(NETWORK, VALIDATORS)
    for at in range(4):
        pairs = list(certificate.signatures)
        pairs[at] = (pairs[at][0], pairs[(at + 1) % 4][1])
        assert not replace(certificate, signatures=tuple(pairs)).is_valid(NETWORK, VALIDATORS)


def test_certificates_hold_for_their_own_statement_only() -> None:
    certificate = samples.certificate()
    assert not certificate.is_valid(b"another8", VALIDATORS)
    assert not replace(certificate, epoch=1).is_valid(NETWORK, VALIDATORS)
    assert not replace(certificate, view=301).is_valid(NETWORK, VALIDATORS)
    assert not replace(certificate, kind=VoteKind.NOTARISE).is_valid(NETWORK, VALIDATORS)
    assert not replace(certificate, block=b"C" * 32).is_valid(NETWORK, VALIDATORS)
    strangers = Validators.of(0, [Validator(key.public_key) for key in KEYS[3:]])
    assert not certificate.is_valid(NETWORK, strangers)


@pytest.mark.parametrize("signers", [(), (1, 0), (0, 0), (0, 1, 1), (0, 2**16 + 1)])
def test_signers_must_ascend(signers: tuple[int, ...]) -> None:
    pairs = [(signer, bytes(64)) for signer in signers]
    with pytest.raises(PeerFault):
        Certificate.decode(encode((1, 0, 1, 1, BLOCK, pairs)))


def test_a_signer_out_of_range_makes_a_certificate_invalid_and_nothing_else() -> None:
    certificate = samples.certificate(VoteKind.FINALISE, (0, 1, 2))
    pairs = (*certificate.signatures, (4, bytes(64)))
    assert not replace(certificate, signatures=pairs).is_valid(NETWORK, VALIDATORS)
