"""Proofs of finality: what a file shows by itself, and each way in which a file shows nothing."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pytest

from p2pledger import core
from p2pledger.ledger.finality import FinalityProof, Turn, check_finality, turn_of
from p2pledger.ledger.genesis_state import genesis_state
from p2pledger.ledger.tables import Table, ValidatorsRow, validators_key
from p2pledger.primitives.blocks import Header
from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import P2PLedgerError, PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.validators import Validator, Validators
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from tests.primitives.samples import spoiled_bytes

KEYS = sorted(
    (Keypair.from_seed(bytes([number]) * 32) for number in range(1, 7)), key=lambda keypair: keypair.public_key
)
EPOCH_BLOCKS = 3
MEMBERS = {0: (0, 1, 2, 3), 2: (0, 1, 2, 3, 4), 4: (1, 3, 4)}
"""Epoch -> seats, where they change."""


def seats(numbers: Iterable[int]) -> tuple[Validator, ...]:
    return tuple(Validator(KEYS[number].public_key, 1, f"bank {number}") for number in numbers)


def set_of(epoch: int) -> Validators:
    return Validators(epoch, seats(MEMBERS[max(at for at in MEMBERS if at <= epoch)]))


def genesis_of(engine: str = "simplex") -> Genesis:
    parameters = Parameters(epoch_blocks=EPOCH_BLOCKS)
    return Genesis("proofs", 1, seats(MEMBERS[0]), (), (), parameters, engine=engine)


GENESIS = genesis_of()


@dataclass
class Chain:
    """Headers of a ledger whose state holds only validators; the row of an epoch is written two epochs before."""

    headers: list[Header]
    states: list[core.Version]
    """After each height."""

    @classmethod
    def of(cls, heights: int) -> Chain:
        chain = cls([GENESIS.block.header], [genesis_state(GENESIS)])
        for height in range(1, heights + 1):
            chain.headers.append(chain.above(chain.headers[-1], (height - 1) // EPOCH_BLOCKS))
            branch = chain.states[-1].branch()
            changes = (height - 1) // EPOCH_BLOCKS + 2
            if changes in MEMBERS and height % EPOCH_BLOCKS == 2:
                branch.put(Table.VALIDATORS, validators_key(changes), ValidatorsRow(set_of(changes).members).encode())
            chain.states.append(branch.commit())
        return chain

    def above(self, parent: Header, epoch: int) -> Header:
        validators, view = set_of(epoch), parent.view + 2
        proposer = validators.members[validators.leader(view)].key
        state = self.states[min(parent.height, len(self.states) - 1)]
        return Header(
            GENESIS.network_id, epoch, view, parent.height + 1, parent.id, parent.time_ms + 1, proposer,
            core.merkle_root([]), state.root(), ZERO_HASH, validators.hash,
        )  # fmt: skip

    def turn(self, height: int, *, up_to: int = 0) -> Turn:
        """From a block (and its descendants up to another height) of one epoch, to the next epoch."""
        headers = self.headers[height : max(height, up_to) + 1]
        return turn_of(self.states[height - 1], headers, finalisation(headers[-1]))

    def proof(self, height: int, *, certified: int = 0, turns: Sequence[Turn] | None = None) -> FinalityProof:
        headers = self.headers[height : max(height, certified) + 1]
        epochs = range(1, headers[-1].epoch)
        found = tuple(self.turn(epoch * EPOCH_BLOCKS + 1) for epoch in epochs) if turns is None else tuple(turns)
        return FinalityProof(
            GENESIS.encode(), found, tuple(header.encode() for header in headers), finalisation(headers[-1]).encode()
        )


def finalisation(
    header: Header,
    signers: Iterable[int] | None = None,
    *,
    validators: Validators | None = None,
    kind: VoteKind = VoteKind.FINALISE,
    signed_view: int | None = None,
) -> Certificate:
    """Of a header by a quorum of its epoch (or by these indices of other validators)."""
    validators = validators or set_of(header.epoch)
    keys = {key.public_key: key for key in KEYS}
    view = header.view if signed_view is None else signed_view
    votes = {
        signer: Vote.make(GENESIS.network_id, header.epoch, view, kind, header.id, signer,
                          keys[validators.members[signer].key])
        for signer in (range(validators.quorum) if signers is None else signers)
    }  # fmt: skip
    return replace(Certificate.of(votes), view=header.view)


CHAIN = Chain.of(18)


def refused(proof: FinalityProof | bytes, genesis_hash: bytes | None = GENESIS.hash) -> str:
    """The reason, by its code."""
    with pytest.raises(P2PLedgerError) as raised:
        check_finality(proof if isinstance(proof, bytes) else proof.encode(), genesis_hash)
    assert isinstance(raised.value, PeerFault)
    return raised.value.code


def test_every_block_of_six_epochs_can_be_shown_to_be_final() -> None:
    for height in range(1, 19):
        data = CHAIN.proof(height).encode()
        assert FinalityProof.decode(data).encode() == data
        found = check_finality(data, GENESIS.hash)
        assert (found.header, found.certified) == (CHAIN.headers[height], CHAIN.headers[height])
        assert found.validators == set_of((height - 1) // EPOCH_BLOCKS)
        assert found.genesis_hash == GENESIS.hash
        assert found.signers == tuple(seat.name for seat in found.validators.members[: found.validators.quorum])


def test_the_certificate_of_a_descendant_is_as_good_even_one_of_a_later_epoch() -> None:
    for height, certified in ((2, 3), (1, 3), (3, 5), (1, 18), (6, 7)):
        found = check_finality(CHAIN.proof(height, certified=certified).encode())
        assert (found.header.height, found.certified.height) == (height, certified)


def test_a_turn_may_stand_on_any_block_of_its_epoch_certified_by_itself_or_by_a_later_one() -> None:
    turns = [CHAIN.turn(6), CHAIN.turn(7, up_to=9), CHAIN.turn(11)]
    assert check_finality(CHAIN.proof(14, turns=turns).encode()).validators == set_of(4)


def test_a_boundary_block_may_be_final_by_closing_blocks_which_are_no_part_of_the_chain_themselves() -> None:
    boundary = CHAIN.headers[9]
    first = CHAIN.above(boundary, 2)
    second = CHAIN.above(first, 2)
    good = CHAIN.proof(9)
    closed = replace(
        good,
        headers=tuple(item.encode() for item in (boundary, first, second)),
        certificate=finalisation(second).encode(),
    )
    assert check_finality(closed.encode()).header == boundary
    assert refused(replace(closed, headers=closed.headers[1:])) == "closing_block"
    # A block of the next epoch on a closing block is nothing that anybody honest would sign.
    next_epoch = CHAIN.above(first, 3)
    beyond = replace(
        CHAIN.proof(10), headers=tuple(item.encode() for item in (boundary, first, next_epoch)),
        certificate=finalisation(next_epoch).encode(),
    )  # fmt: skip
    assert refused(beyond) == "wrong_epoch"


def test_too_few_duplicate_and_unknown_signers() -> None:
    good, header = CHAIN.proof(8), CHAIN.headers[8]
    assert len(set_of(2)) == 5
    few = finalisation(header, (0, 1, 4))
    assert refused(replace(good, certificate=few.encode())) == "too_few_signers"
    pairs = finalisation(header).signatures
    twice = encode((1, 2, header.view, 3, header.id, (pairs[0], pairs[0], *pairs[1:3])))
    assert refused(replace(good, certificate=twice)) == "duplicate_signer"
    unordered = encode((1, 2, header.view, 3, header.id, tuple(reversed(pairs))))
    assert refused(replace(good, certificate=unordered)) == "malformed"
    unknown = Certificate(2, header.view, VoteKind.FINALISE, header.id, (*pairs, (5, bytes(64))))
    assert refused(replace(good, certificate=unknown.encode())) == "unknown_signer"


def test_signatures_over_another_view_kind_or_block() -> None:
    good, header = CHAIN.proof(8), CHAIN.headers[8]
    other_view = finalisation(header, signed_view=header.view + 1)
    assert refused(replace(good, certificate=other_view.encode())) == "bad_signature"
    assert refused(replace(good, certificate=replace(other_view, view=header.view + 1).encode())) == "wrong_view"
    notarised = finalisation(header, kind=VoteKind.NOTARISE)
    assert refused(replace(good, certificate=notarised.encode())) == "not_final"
    assert refused(replace(good, certificate=replace(notarised, kind=VoteKind.FINALISE).encode())) == "bad_signature"
    assert refused(replace(good, certificate=finalisation(CHAIN.headers[9]).encode())) == "other_block"


def test_wrong_genesis_engine_and_network() -> None:
    good = CHAIN.proof(8)
    assert refused(good, b"g" * 32) == "wrong_genesis"
    other = replace(GENESIS, name="another")
    assert refused(replace(good, genesis=other.encode())) == "wrong_genesis"
    assert refused(replace(good, genesis=other.encode()), other.hash) == "wrong_network"
    poa = genesis_of("poa")
    assert refused(replace(good, genesis=poa.encode()), None) == "wrong_engine"
    assert refused(replace(good, genesis=encode((1, 2)))) in ("malformed", "bad_genesis")
    crowded = replace(GENESIS, parameters=replace(GENESIS.parameters, max_signatures=9_999_999))
    assert refused(replace(good, genesis=crowded.encode())) == "bad_genesis"


def test_the_set_of_another_epoch_and_removed_validators() -> None:
    good, header = CHAIN.proof(14), CHAIN.headers[14]
    assert header.epoch == 4
    old = finalisation(header, (0, 1, 2, 3), validators=set_of(3))
    assert refused(replace(good, certificate=old.encode())) == "unknown_signer", "the old set was larger"
    removed = finalisation(header, (0, 1, 2), validators=set_of(3))
    assert refused(replace(good, certificate=removed.encode())) == "removed_validator"
    assert refused(replace(good, certificate=replace(finalisation(header), epoch=3).encode())) == "wrong_epoch"
    stranger = [(signer, KEYS[5].sign(b"x")) for signer, _ in finalisation(header).signatures]
    forged = replace(finalisation(header), signatures=tuple(stranger))
    assert refused(replace(good, certificate=forged.encode())) == "bad_signature"


def test_a_replaced_set_cannot_pretend_that_it_was_not_replaced() -> None:
    """All keys of epoch 0 conspire: they leave out the turns, or show turns of their own making."""
    good = CHAIN.proof(8)
    assert refused(replace(good, turns=())) == "wrong_epoch"
    assert refused(replace(CHAIN.proof(14), turns=good.turns)) == "wrong_epoch"
    pretended = replace(CHAIN.headers[8], validators_hash=set_of(0).hash)
    votes = finalisation(pretended, (0, 1, 2), validators=set_of(0))
    assert refused(replace(good, headers=(pretended.encode(),), certificate=votes.encode())) == "wrong_validators"
    assert refused(replace(good, turns=(CHAIN.turn(4), CHAIN.turn(4)))) == "wrong_epoch"
    # A proof of absence from before the change: the header that it hangs on is of an earlier epoch.
    early = Turn(CHAIN.turn(4).proof, (CHAIN.headers[2].encode(),), finalisation(CHAIN.headers[2]).encode())
    assert refused(replace(good, turns=(early,))) == "wrong_epoch"
    absent = turn_of(genesis_state(GENESIS), [CHAIN.headers[4]], finalisation(CHAIN.headers[4]))
    assert refused(replace(good, turns=(absent,))) == "bad_proof"


def test_proofs_of_other_rows_and_turns_without_a_quorum() -> None:
    good = CHAIN.proof(8)
    other = replace(CHAIN.turn(4), proof=CHAIN.turn(13).proof)
    assert refused(replace(good, turns=(other,))) == "bad_proof"
    shifted = turn_of(CHAIN.states[3], [replace(CHAIN.headers[4], epoch=2)], finalisation(CHAIN.headers[4]))
    assert refused(replace(good, turns=(replace(CHAIN.turn(4), proof=shifted.proof),))) == "bad_proof"
    few = replace(CHAIN.turn(4), certificate=finalisation(CHAIN.headers[4], (0, 1)).encode())
    assert refused(replace(good, turns=(few,))) == "too_few_signers"


def test_headers_that_do_not_follow_each_other() -> None:
    good = CHAIN.proof(2, certified=5)
    assert refused(replace(good, headers=())) == "broken_chain"
    assert refused(replace(good, headers=(good.headers[0], *good.headers[2:]))) == "broken_chain"
    assert refused(replace(good, headers=good.headers[::-1])) == "broken_chain"
    moved = replace(CHAIN.headers[2], epoch=1)
    assert refused(replace(good, headers=(moved.encode(),))) == "wrong_epoch"
    assert refused(replace(good, headers=(b"\x90",))) == "malformed"


def test_spoiled_files_prove_nothing() -> None:
    """Whatever bytes are changed: never another block than the true one, and never another error than a fault."""
    data, dice = CHAIN.proof(11, certified=13).encode(), random.Random(6)
    for mutant in spoiled_bytes(data, dice, 600):
        try:
            found = check_finality(mutant, GENESIS.hash)
        except PeerFault:
            continue
        assert found.header == CHAIN.headers[found.header.height]
