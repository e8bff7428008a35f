"""A proof that a block is final, checked offline from the genesis alone (simplex; docs/protocol.md, section 8.2).

Whoever has such a file, and knows the genesis of the network, needs no node and no history of blocks:

    finality = [1, bytes(genesis), [turn, ...], [bytes(header), ...], bytes(certificate)]
    turn     = [bytes(proof), [bytes(header), ...], bytes(certificate)]

The headers lead from the block in question up to one that the certificate names; a final block makes its ancestors
final. The certificate is signed by a quorum of the validators of its epoch. Who these are, the *turns* show, one for
each epoch from 2 on (epochs 0 and 1 have the validators of the genesis):

    epoch      0             1             2             3
    set        genesis       genesis       turn 1        turn 2
                             |             ^ |           ^
                             | state after epoch 0       |
                             +-- certified by epoch 1    |
                                             +-- state after epoch 1, certified by epoch 2

A turn holds a header of epoch e - 1, final by a certificate of the validators of e - 1, who are known already, and a
proof of row VALIDATORS[e] under the state root in that header. By then the row cannot change any more: it is written in
epoch e - 2 or never. If it is absent the set stays. It makes no difference whether the row came from an approval by a
quorum or from evidence against somebody: both stand in the state that the quorum of e - 1 has signed. Nothing can be
left out either: an epoch without a turn has no validators, so a set that was replaced cannot pretend that it was not.

What it cannot show: that the keys of old validators were not stolen later. More than two thirds of the keys of a past
epoch can write another past from there on. Who has been offline for long compares one recent block with somebody
whom he trusts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from p2pledger import core
from p2pledger.ledger import proofs
from p2pledger.ledger.tables import Table, ValidatorsRow, validators_key
from p2pledger.primitives.blocks import Header
from p2pledger.primitives.codec import Fields, decode, encode
from p2pledger.primitives.errors import BadConfiguration, PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.validators import Validators
from p2pledger.primitives.votes import Certificate, VoteKind, vote_message

__all__ = ["MAX_FINALITY_BYTES", "Finality", "FinalityProof", "Turn", "check_finality", "turn_of"]

MAX_FINALITY_BYTES: Final = 64 * 1024 * 1024
_MAX_TURNS: Final = 100_000
_MAX_HEADERS: Final = 100_000
_MAX_HEADER_BYTES: Final = 1_024
_MAX_GENESIS_BYTES: Final = 16 * 1024 * 1024
_MAX_CERTIFICATE_BYTES: Final = 98_304


@dataclass(frozen=True, slots=True)
class Turn:
    """Which validators an epoch has: a proof of its row, and why the state of the proof is right."""

    proof: bytes
    headers: tuple[bytes, ...]
    certificate: bytes

    def values(self) -> tuple[bytes, tuple[bytes, ...], bytes]:
        return self.proof, self.headers, self.certificate


@dataclass(frozen=True, slots=True)
class FinalityProof:
    """The file, as bytes inside bytes; ``check_finality`` judges it."""

    genesis: bytes
    turns: tuple[Turn, ...]
    headers: tuple[bytes, ...]
    certificate: bytes

    def encode(self) -> bytes:
        turns = tuple(turn.values() for turn in self.turns)
        return encode((1, self.genesis, turns, self.headers, self.certificate))

    @classmethod
    def decode(cls, data: bytes) -> FinalityProof:
        """PeerFault ``malformed``, ``too_large`` or ``unknown_version``."""
        values = decode(data, limit_bytes=MAX_FINALITY_BYTES, what="finality proof")
        fields = Fields(values, what="finality proof", count=5, version=1)
        genesis = fields.binary("genesis", most=_MAX_GENESIS_BYTES)
        turns = []
        for row in fields.array("turns", most=_MAX_TURNS):
            turn = Fields(row, what="turn", count=3)
            turns.append(
                Turn(
                    turn.binary("proof", most=proofs.MAX_PROOF_BYTES),
                    turn.binaries("headers", most=_MAX_HEADERS),
                    turn.binary("certificate", most=_MAX_CERTIFICATE_BYTES),
                )
            )
        headers = fields.binaries("headers", most=_MAX_HEADERS)
        return cls(genesis, tuple(turns), headers, fields.binary("certificate", most=_MAX_CERTIFICATE_BYTES))


@dataclass(frozen=True, slots=True)
class Finality:
    """What a proof shows: this block of this network is final, because these validators signed."""

    genesis_hash: bytes
    header: Header
    certified: Header
    """The block that the certificate names: the block itself or a descendant."""
    signers: tuple[str, ...]
    """The operators' names."""
    validators: Validators
    """Of the certificate's epoch."""


def turn_of(version: core.Version, headers: Sequence[Header], certificate: Certificate) -> Turn:
    """The turn for the epoch after that of ``headers[0]``. ``version`` is the state after the parent of that block."""
    proof = proofs.prove(version, Table.VALIDATORS, validators_key(headers[0].epoch + 1))
    return Turn(proof, tuple(header.encode() for header in headers), certificate.encode())


def check_finality(data: bytes, genesis_hash: bytes | None = None) -> Finality:
    """What a file proves. ``genesis_hash`` is that of the network one knows; None takes the file's word for it.

    PeerFault otherwise; its code is one of ``malformed``, ``too_large``, ``unknown_version``, ``bad_genesis``,
    ``wrong_genesis``, ``wrong_engine``, ``wrong_network``, ``broken_chain``, ``closing_block``, ``wrong_epoch``,
    ``wrong_validators``, ``bad_proof``, ``not_final``, ``other_block``, ``wrong_view``, ``duplicate_signer``,
    ``unknown_signer``, ``too_few_signers``, ``bad_signature`` and ``removed_validator``.
    """
    proof = FinalityProof.decode(data)
    try:
        genesis = Genesis.decode(proof.genesis)
    except BadConfiguration as error:
        raise PeerFault("the genesis in the file makes no sense", why=str(error), code="bad_genesis") from None
    if genesis_hash is not None and genesis.hash != genesis_hash:
        raise PeerFault(
            "the file is about another network",
            why=f"its genesis has hash {genesis.hash.hex()}, not {genesis_hash.hex()}",
            code="wrong_genesis",
        )
    if genesis.engine != "simplex":
        raise PeerFault(f"under {genesis.engine} nobody signs that a block is final", code="wrong_engine")
    sets = [genesis.validator_set, Validators(1, genesis.validator_set.members)]
    for turn in proof.turns:
        epoch = len(sets)
        headers = _chain(turn.headers, genesis, sets)
        if headers[0].epoch != epoch - 1:
            raise PeerFault(
                f"the turn to epoch {epoch} stands on a block of epoch {headers[0].epoch}", code="wrong_epoch"
            )
        certificate = _certificate(turn.certificate, headers[-1], genesis.network_id, sets)
        if certificate.epoch != epoch - 1:
            raise PeerFault(f"the turn to epoch {epoch} is signed by epoch {certificate.epoch}", code="wrong_epoch")
        table, key, row = proofs.verify(headers[0].parent_state_root, turn.proof)
        if table != Table.VALIDATORS or key != validators_key(epoch):
            raise PeerFault(f"the turn to epoch {epoch} proves another row", code="bad_proof")
        members = sets[-1].members if row is None else ValidatorsRow.decode(row).members
        sets.append(Validators(epoch, members))
    headers = _chain(proof.headers, genesis, sets)
    if headers[0].height > _last_height(headers[0].epoch, genesis):
        raise PeerFault("a closing block is no part of the chain", code="closing_block")
    certificate = _certificate(proof.certificate, headers[-1], genesis.network_id, sets)
    validators = sets[certificate.epoch]
    names = tuple(validators.members[signer].name for signer in certificate.signers)
    return Finality(genesis.hash, headers[0], headers[-1], names, validators)


def _last_height(epoch: int, genesis: Genesis) -> int:
    return (epoch + 1) * genesis.parameters.epoch_blocks


def _chain(encoded: tuple[bytes, ...], genesis: Genesis, sets: Sequence[Validators]) -> tuple[Header, ...]:
    """Headers of this network, each the child of the one before, each in the epoch that its height says."""
    if not encoded:
        raise PeerFault("there is no header", code="broken_chain")
    headers = tuple(Header.of(decode(data, limit_bytes=_MAX_HEADER_BYTES, what="header")) for data in encoded)
    for below, header in zip((None, *headers), headers, strict=False):
        if header.network_id != genesis.network_id:
            raise PeerFault(f"the header of height {header.height} is of another network", code="wrong_network")
        if below is not None and (header.parent != below.id or header.height != below.height + 1):
            raise PeerFault(f"the header of height {header.height} is no child of the one below", code="broken_chain")
        if below is not None and header.view <= below.view:
            raise PeerFault(f"the view of height {header.height} is not after that of its parent", code="broken_chain")
        if header.epoch >= len(sets):
            raise PeerFault(f"nothing shows the validators of epoch {header.epoch}", code="wrong_epoch")
        # Closing blocks stand above the last height of their epoch; the first block of an epoch stands on that height.
        first_height = header.epoch * genesis.parameters.epoch_blocks + 1
        follows = below is None or below.epoch == header.epoch
        if header.height < first_height or not (follows or header.height == first_height):
            raise PeerFault(f"height {header.height} is not of epoch {header.epoch}", code="wrong_epoch")
        if header.validators_hash != sets[header.epoch].hash:
            raise PeerFault(
                f"the header of height {header.height} names other validators than epoch {header.epoch} has",
                code="wrong_validators",
            )
    return headers


def _certificate(data: bytes, header: Header, network_id: bytes, sets: Sequence[Validators]) -> Certificate:
    """The finalisation of this very block by a quorum of its epoch's validators."""
    _refuse_repeated_signers(data)
    certificate = Certificate.decode(data)
    if certificate.kind is not VoteKind.FINALISE:
        raise PeerFault(f"the certificate is one of kind {certificate.kind.name.lower()}", code="not_final")
    if certificate.block != header.id:
        raise PeerFault("the certificate names another block than the last header", code="other_block")
    if certificate.epoch != header.epoch:
        raise PeerFault("the certificate is of another epoch than the block that it names", code="wrong_epoch")
    if certificate.view != header.view:
        raise PeerFault("the certificate is of another view than the block that it names", code="wrong_view")
    validators = sets[certificate.epoch]
    if certificate.signers[-1] >= len(validators):
        raise PeerFault(f"epoch {certificate.epoch} has no validator {certificate.signers[-1]}", code="unknown_signer")
    weight = validators.weight_of(certificate.signers)
    if weight < validators.quorum:
        raise PeerFault(f"the signers weigh {weight} of {validators.quorum}", code="too_few_signers")
    message = vote_message(network_id, certificate.epoch, certificate.view, certificate.kind, certificate.block)
    keys = b"".join(validators.members[signer].key for signer in certificate.signers)
    signatures = b"".join(signature for _, signature in certificate.signatures)
    flags = core.verify_batch(keys, signatures, [message] * len(certificate.signatures))
    bad = [entry for entry, flag in zip(certificate.signatures, flags, strict=True) if flag != 1]
    if bad:
        _refuse_removed(bad, message, validators, sets)
        raise PeerFault(f"the signature of validator {bad[0][0]} is not valid", code="bad_signature")
    return certificate


def _refuse_repeated_signers(data: bytes) -> None:
    """A name of its own for a certificate that counts somebody twice; every other form is for ``Certificate``."""
    values = decode(data, limit_bytes=_MAX_CERTIFICATE_BYTES, what="certificate")
    rows = values[-1] if type(values) is tuple and values else ()
    signers = [row[0] for row in rows if type(row) is tuple and row] if type(rows) is tuple else []
    numbers = [signer for signer in signers if type(signer) is int]
    if len(set(numbers)) < len(numbers):
        raise PeerFault("a validator signs the certificate twice", code="duplicate_signer")


def _refuse_removed(
    bad: Sequence[tuple[int, bytes]], message: bytes, validators: Validators, sets: Sequence[Validators]
) -> None:
    """A name of its own for a signature by somebody who was a validator before and is none in this epoch."""
    former = {seat.key for past in sets for seat in past.members if validators.signer_of(seat.key) is None}
    for key in sorted(former):
        flags = core.verify_batch(key * len(bad), b"".join(signature for _, signature in bad), [message] * len(bad))
        if 1 in flags:
            raise PeerFault(
                f"{key.hex()} was a validator, but not in epoch {validators.epoch}", code="removed_validator"
            )
