"""Walking a node's store: every final block judged and executed again, from the genesis upwards.

Each block must name the one below as its one parent, be made by somebody who might make it, and order batches that are
there, hash to their digests and carry only valid signatures. They are executed, and the roots that come out must be
those that the next header states. Under simplex the validators of an epoch are read from the state, and finalisations
must be signed by a quorum of them; in the chain family the engine's own rule judges producer, proof and seal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from p2pledger import core
from p2pledger.consensus.engine import BlockRef
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.genesis_state import genesis_state
from p2pledger.ledger.transition import Outcome, execute_block
from p2pledger.node.batches import BadBatch, check_batch
from p2pledger.node.engines import rule_of
from p2pledger.node.epochs import Epochs
from p2pledger.node.makers import Makers
from p2pledger.node.standing import standing_of
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.errors import P2PLedgerError, PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.hashing import SEAL_TAG
from p2pledger.primitives.keys import verify
from p2pledger.primitives.validators import Validators
from p2pledger.primitives.votes import Certificate, VoteKind
from p2pledger.storage.store import Store, StoredBlock

__all__ = ["Step", "closing_of", "genesis_step", "walk"]

_SIGNED_BY_VOTES = "simplex"


@dataclass(frozen=True, slots=True)
class Step:
    """One final block that is right, the outcome of its parent, and its own."""

    block: Block
    before: Outcome
    after: Outcome
    certificate: Certificate | None
    """The finalisation of this very block, where one is stored. (Simplex.)"""


def genesis_step(genesis: Genesis) -> Step:
    """The block that nobody made."""
    version = genesis_state(genesis)
    outcome = Outcome(version, b"", b"", version.root(), core.merkle_root([]))
    return Step(genesis.block, outcome, outcome, None)


def walk(genesis: Genesis, store: Store) -> Iterator[Step]:
    """All final blocks from height 1 on. PeerFault with the block and what is wrong with it, where one is not right."""
    step = genesis_step(genesis)
    epochs = Epochs(genesis)
    makers, spec = Makers(genesis, epochs), Chainspec.of(genesis)
    for stored in store.blocks(1, store.load().height):
        where = f"block {stored.id.hex()} at height {stored.height}"
        parent, outcome = step.block, step.after
        try:
            block = Block.decode(stored.data)
            validators = epochs.validators(outcome.version, epochs.after(parent.height))
            _check_header(genesis, parent, outcome, block, stored, validators)
            if genesis.engine != _SIGNED_BY_VOTES:
                _check_producer(genesis, parent, outcome, block)
            columns = []
            for digest in block.digests:
                data = store.batch(digest)
                if data is None:
                    raise PeerFault(f"its batch {digest.hex()} is missing", code="missing_batch")
                checked = check_batch(
                    data, genesis.network_id, genesis.parameters, makers.judge(outcome.version, validators)
                )
                if isinstance(checked, BadBatch):
                    raise PeerFault(f"its batch {digest.hex()} is not valid: {checked.sentence}", code="bad_batch")
                if checked.digest != digest:
                    raise PeerFault(f"the batch stored under {digest.hex()} is another one", code="bad_batch")
                columns.append(checked)
            certificate = None
            if stored.certificate is not None:
                certificate = Certificate.decode(stored.certificate.data)
                _check_finalisation(genesis, block, certificate, validators)
        except P2PLedgerError as error:
            raise PeerFault(f"{where}: {error}", code=error.code) from None
        after = execute_block(outcome.version, columns, header=block.header, spec=spec)
        receipts = store.receipts(block.height)
        if receipts is not None and receipts.codes != after.codes:
            raise PeerFault(f"{where}: the stored receipts are not those of its execution", code="bad_receipts")
        step = Step(block, outcome, after, certificate)
        yield step


def closing_of(genesis: Genesis, store: Store, last: Step) -> tuple[tuple[Block, ...], Certificate] | None:
    """What makes a boundary block final where it has no finalisation of its own: closing blocks and the last one's.

    PeerFault where such a finalisation is stored and not signed by a quorum; None where there is none.
    """
    epochs = Epochs(genesis)
    epoch = last.block.header.epoch
    if genesis.engine != _SIGNED_BY_VOTES or last.block.height != epochs.last_height(epoch):
        return None
    for record in store.load().certificates:
        if record.kind != VoteKind.FINALISE or record.epoch != epoch or record.view <= last.block.header.view:
            continue
        path: list[Block] = []
        stored = store.block(record.block)
        while stored is not None and stored.height > last.block.height:
            path.append(Block.decode(stored.data))
            stored = store.block(path[-1].header.parent)
        if path and path[-1].header.parent == last.block.id:
            certificate = Certificate.decode(record.data)
            _check_finalisation(genesis, path[0], certificate, epochs.validators(last.before.version, epoch))
            return tuple(reversed(path)), certificate
    return None


def _check_header(
    genesis: Genesis, parent: Block, outcome: Outcome, block: Block, stored: StoredBlock, validators: Validators
) -> None:
    """PeerFault with the rule that is broken."""
    header = block.header
    led = (
        genesis.engine != _SIGNED_BY_VOTES or header.proposer == validators.members[validators.leader(header.view)].key
    )
    rules = (
        (block.id == stored.id and block.height == stored.height, "its bytes are those of another block"),
        (header.network_id == genesis.network_id, "it belongs to another network"),
        (header.height == parent.height + 1 and header.parent == parent.id, "its parent is not the block below it"),
        (header.time_ms > parent.header.time_ms, "its time is not after that of its parent"),
        (header.view > parent.header.view, "its view is not after that of its parent"),
        (header.epoch == validators.epoch, "its epoch is not that of its height"),
        (header.validators_hash == validators.hash, "its validators are not those of the epoch"),
        (led, "its proposer is not the leader of its view"),
        (
            header.parent_state_root == outcome.state_root,
            f"executing the block below it gives state {outcome.state_root.hex()}, not what its header says",
        ),
        (header.parent_receipts_root == outcome.receipts_root, "executing the block below it gives other receipts"),
    )
    for holds, sentence in rules:
        if not holds:
            raise PeerFault(sentence, code="bad_block")


def _check_producer(genesis: Genesis, parent: Block, outcome: Outcome, block: Block) -> None:
    """Whether whoever sealed this block might make it on the state after its parent. (Chain family.)"""
    header, rule = block.header, rule_of(genesis)
    if not verify(header.proposer, block.seal or bytes(64), SEAL_TAG + block.id):
        raise PeerFault("it is not sealed by its producer", code="bad_seal")
    standing = standing_of(genesis, outcome.version, parent.header.view)
    judged = rule.form(header) or rule.judge(header, BlockRef.of(parent.header), standing)
    if isinstance(judged, str):
        raise PeerFault(f"its producer might not make it ({judged})", code=judged)


def _check_finalisation(genesis: Genesis, block: Block, certificate: Certificate, validators: Validators) -> None:
    header = block.header
    named = certificate.kind is VoteKind.FINALISE and certificate.block == block.id and certificate.view == header.view
    if not named:
        raise PeerFault("its finalisation names another block", code="bad_certificate")
    if not certificate.is_valid(genesis.network_id, validators):
        raise PeerFault("its finalisation is not signed by a quorum", code="bad_certificate")
