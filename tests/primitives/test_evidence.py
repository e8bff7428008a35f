"""Evidence: which two statements convict their signer, and which never do."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.primitives.blocks import Block
from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.evidence import (
    MAX_STATEMENT_BYTES,
    Culprit,
    Evidence,
    EvidenceKind,
    check_evidence,
    confirmed_heights,
    sealed_header,
)
from p2pledger.primitives.validators import Validators
from p2pledger.primitives.votes import VoteKind
from tests.primitives import samples
from tests.primitives.samples import KEYS, NETWORK, SIGNERS, VALIDATORS, spoiled_bytes, spoiled_values

NOTARISE, NULLIFY, FINALISE = VoteKind.NOTARISE, VoteKind.NULLIFY, VoteKind.FINALISE
BLOCK, OTHER = b"B" * 32, b"O" * 32


def validators_of(epoch: int) -> Validators | None:
    return VALIDATORS if epoch == 0 else None


def judge(first: bytes, second: bytes, network_id: bytes = NETWORK) -> Culprit | str:
    found = check_evidence(first, second, network_id, validators_of)
    turned = check_evidence(second, first, network_id, validators_of)
    if isinstance(found, str) or isinstance(turned, str):
        assert turned == found, "the order of the statements does not matter"
    else:
        assert (turned.key, turned.epoch, turned.kind) == (found.key, found.epoch, found.kind)
    return found


def ballot(kind: VoteKind, block: bytes = BLOCK, signer: int = 2, view: int = 300) -> bytes:
    return samples.vote(signer, kind, block, view).encode()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ballot(NOTARISE), ballot(NOTARISE, OTHER)),
        (ballot(FINALISE), ballot(FINALISE, OTHER)),
        (ballot(FINALISE), ballot(NULLIFY)),
    ],
)
def test_votes_that_contradict_each_other_convict_their_signer(first: bytes, second: bytes) -> None:
    assert judge(first, second) == Culprit(VALIDATORS.members[2].key, 0, EvidenceKind.VOTES, 300)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ballot(NOTARISE), ballot(NULLIFY)),
        (ballot(NOTARISE), ballot(FINALISE, OTHER)),
        (ballot(NOTARISE), ballot(NOTARISE, OTHER, view=301)),
        (ballot(FINALISE), ballot(NULLIFY, view=301)),
        (ballot(NOTARISE), ballot(NOTARISE, OTHER, signer=1)),
        (ballot(NOTARISE, OTHER), ballot(FINALISE)),
    ],
)
def test_what_honest_signers_do_is_no_evidence(first: bytes, second: bytes) -> None:
    """Among it: to notarise a leader's one block and to finalise its other one, which the others notarised."""
    assert judge(first, second) == "no_contradiction"


def test_one_statement_twice_is_no_evidence_whatever_its_signatures() -> None:
    vote = samples.vote(2)
    assert judge(vote.encode(), vote.encode()) == "same_statement"
    assert judge(vote.encode(), replace(vote, signature=bytes(64)).encode()) == "same_statement"


def test_forged_and_foreign_votes_convict_nobody() -> None:
    first, second = samples.vote(2), samples.vote(2, block=OTHER)
    assert judge(first.encode(), replace(second, signature=bytes(64)).encode()) == "bad_signature"
    assert judge(first.encode(), second.encode(), b"another8") == "bad_signature"
    assert judge(replace(first, signer=4).encode(), replace(second, signer=4).encode()) == "unknown_signer"
    assert judge(replace(first, epoch=1).encode(), replace(second, epoch=1).encode()) == "unknown_epoch"
    assert judge(replace(first, epoch=1).encode(), second.encode()) == "no_contradiction", "epochs are worlds apart"


def sealed(height: int, slot: int, confirm_from: int | None = None, *, key: int = 0, mark: int = 0) -> Block:
    """A block of KEYS[key]; ``mark`` makes another one of the same height and slot."""
    proof = b"" if confirm_from is None else encode((confirm_from,))
    header = replace(
        samples.header(height), view=slot, proposer=KEYS[key].public_key, proof=proof, time_ms=1_500_000 + mark
    )
    return Block(header, ()).sealed(KEYS[key])


def test_two_blocks_in_one_slot_convict_their_producer() -> None:
    one, other = sealed(5, 9), sealed(5, 9, mark=1)
    assert judge(sealed_header(one), sealed_header(other)) == Culprit(KEYS[0].public_key, 0, EvidenceKind.SEALS, 9)
    assert judge(sealed_header(one), sealed_header(sealed(6, 10))) == "no_contradiction"
    assert judge(sealed_header(one), sealed_header(sealed(5, 9, key=1))) == "no_contradiction"
    assert judge(sealed_header(one), sealed_header(one)) == "same_statement"


@pytest.mark.parametrize(
    ("mine", "theirs", "guilty"),
    [
        ((5, 5), (5, 5), True),
        ((5, 3), (9, 5), True),
        ((5, 3), (9, 2), True),
        ((5, 3), (9, 6), False),
        ((5, 6), (9, 5), False),
        ((5, 3), (9, 10), False),
        ((5, None), (9, 1), False),
        ((5, 3), (9, None), False),
    ],
)
def test_ranges_of_one_key_that_share_a_height_convict_it(
    mine: tuple[int, int | None], theirs: tuple[int, int | None], guilty: bool
) -> None:
    """(height, confirmed from): a range ends at the height of its block, and one that begins above it is empty."""
    one, other = sealed(mine[0], 40, mine[1]), sealed(theirs[0], 41, theirs[1], mark=1)
    found = judge(sealed_header(one), sealed_header(other))
    assert isinstance(found, Culprit) is guilty, found


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=2, max_size=8), st.data())
def test_a_producer_that_confirms_from_above_its_greatest_height_is_never_convicted(
    steps: list[tuple[int, bool]], data: st.DataObject
) -> None:
    """Whatever chains it jumps between, lower heights included."""
    made, greatest, height = [], 0, 0
    for slot, (rise, drop) in enumerate(steps):
        height = max(1, height + (-rise if drop else rise))
        confirm_from = min(greatest + 1, height + 1)
        made.append(sealed(height, slot, confirm_from, mark=slot))
        greatest = max(greatest, height)
    one, other = data.draw(st.permutations(made))[:2]
    assert judge(sealed_header(one), sealed_header(other)) == "no_contradiction"


def test_heights_that_a_proof_confirms() -> None:
    header = samples.header(7)
    assert list(confirmed_heights(replace(header, proof=encode((5,))))) == [5, 6, 7]
    assert list(confirmed_heights(replace(header, proof=encode((7, b"c" * 32, b""))))) == [7]
    for proof in (b"", encode((8,)), encode((900,)), encode((5, 6)), encode(("5",)), b"\xff" * 32, bytes(8)):
        assert list(confirmed_heights(replace(header, proof=proof))) == []


def test_forged_and_foreign_seals_convict_nobody() -> None:
    one, other = sealed(5, 9), sealed(5, 9, mark=1)
    forged = Block(other.header, (), one.seal)
    assert judge(sealed_header(one), sealed_header(forged)) == "bad_signature"
    assert judge(sealed_header(one), sealed_header(other), b"another8") == "wrong_network"
    assert judge(sealed_header(one), sealed_header(Block(other.header, ()))) == "malformed", "no seal at all"
    assert judge(sealed_header(one), ballot(NOTARISE)) == "mixed_kinds"


def test_bytes_that_are_no_statements_are_malformed() -> None:
    good = ballot(NOTARISE)
    for bad in (b"", b"\xc0", encode((1, 2)), encode(()), good + b"\0", bytes(MAX_STATEMENT_BYTES + 1), encode("x")):
        assert judge(good, bad) == "malformed"
    dice = random.Random(4)
    for statement in (good, sealed_header(sealed(5, 9, 3))):
        for mutant in (*spoiled_bytes(statement, dice, 400), *spoiled_values(statement, dice, 400)):
            assert not isinstance(judge(statement, mutant), Culprit), "no mutant of one statement convicts its signer"


def test_evidence_reads_back_and_says_its_kind() -> None:
    one, other = ballot(NOTARISE), ballot(NOTARISE, OTHER)
    evidence = Evidence.of(EvidenceKind.VOTES, one, other)
    assert evidence == Evidence.of(EvidenceKind.VOTES, other, one), "equal contradictions give equal bytes"
    assert Evidence.decode(evidence.encode()) == evidence
    assert evidence.encode() == encode((1, 1, *sorted((one, other))))
    assert isinstance(evidence.check(NETWORK, validators_of), Culprit)
    assert replace(evidence, kind=EvidenceKind.SEALS).check(NETWORK, validators_of) == "other_kind"
    for values in ((1, 2, one, other), (2, 1, one, other), (1, 1, one), (1, 1, one, bytes(MAX_STATEMENT_BYTES + 1))):
        with pytest.raises(PeerFault):
            Evidence.decode(encode(values))


def test_a_key_of_the_epoch_signs_under_its_own_index_only() -> None:
    """A vote names a place in the set; the key that stands there must have signed it."""
    first, second = (samples.vote(2, block=block) for block in (BLOCK, OTHER))
    moved = [replace(vote, signer=1).encode() for vote in (first, second)]
    assert judge(*moved) == "bad_signature"
    assert SIGNERS[2].public_key == VALIDATORS.members[2].key
