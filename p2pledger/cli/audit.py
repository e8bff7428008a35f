"""The offline check of a node's store: nothing is taken on trust but the genesis.

First every row of the store is read and its checksum compared (storage.verify). Then the final chain is walked from
the genesis: each block must name the one below as its one parent, its batches must be there, hash to the digests that
it orders, and carry only valid signatures; they are executed again, and the roots that come out must be those that the
next header states, the receipts those that are stored. At last the newest finalisation must be signed by a quorum:
with the linkage it vouches for every block below it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from p2pledger import core
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.genesis_state import genesis_state
from p2pledger.ledger.transition import Outcome, execute_block
from p2pledger.node.batches import BadBatch, check_batch
from p2pledger.node.epochs import Epochs
from p2pledger.node.makers import Makers
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.errors import P2PLedgerError, PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.votes import Certificate, VoteKind
from p2pledger.storage.store import Store, StoredBlock, verify_directory

__all__ = ["Audit", "audit_store"]


@dataclass(frozen=True, slots=True)
class Audit:
    """What the check of one store found. ``findings`` is empty if all is well. Roots are those after ``height``."""

    name: str
    height: int
    transactions: int
    state_root: str
    findings: tuple[str, ...]
    block_ids: tuple[bytes, ...] = ()
    """Ids of the final blocks from height 1 on, to compare stores with each other."""


def audit_store(
    genesis: Genesis,
    directory: Path,
    *,
    node_key: bytes,
    name: str,
    progress: Callable[[int], None] = lambda height: None,
) -> Audit:
    """Checks one store in full. DirectoryInUse while its node runs; WrongStore if it is another node's."""
    rows = [str(finding) for finding in verify_directory(directory, name="p2pledger verify")]
    if rows:
        # What is known to be damaged is not executed: the first damage would only be reported again in other words.
        return Audit(name, 0, 0, "", tuple(rows))
    with Store.open(
        directory, network_id=genesis.network_id, node_key=node_key, name="p2pledger verify", fresh=False
    ) as store:
        return _walk(genesis, store, name, progress)


def _walk(genesis: Genesis, store: Store, name: str, progress: Callable[[int], None]) -> Audit:
    parent = genesis.block
    version = genesis_state(genesis)
    outcome = Outcome(version, b"", b"", version.root(), core.merkle_root([]))
    transactions = 0
    finalised = 0
    block_ids: list[bytes] = []
    makers = Makers(genesis, Epochs(genesis))

    def ended(*findings: str) -> Audit:
        return Audit(name, parent.height, transactions, outcome.state_root.hex(), tuple(findings), tuple(block_ids))

    for stored in store.blocks(1, store.load().height):
        where = f"block {stored.id.hex()} at height {stored.height}"
        try:
            block = Block.decode(stored.data)
            _check_header(genesis, parent, outcome, block, stored)
            columns = []
            for digest in block.digests:
                data = store.batch(digest)
                if data is None:
                    return ended(f"{where}: its batch {digest.hex()} is missing")
                checked = check_batch(data, genesis.network_id, genesis.parameters, makers.judge(outcome.version))
                if isinstance(checked, BadBatch):
                    return ended(f"{where}: its batch {digest.hex()} is not valid: {checked.sentence}")
                if checked.digest != digest:
                    return ended(f"{where}: the batch stored under {digest.hex()} is another one")
                columns.append(checked)
            if stored.certificate is not None:
                _check_finalisation(genesis, block, stored.certificate.data)
                finalised = block.height
        except P2PLedgerError as error:
            return ended(f"{where}: {error}")
        outcome = execute_block(outcome.version, columns, header=block.header, spec=Chainspec.of(genesis))
        receipts = store.receipts(block.height)
        if receipts is not None and receipts.codes != outcome.codes:
            return ended(f"{where}: the stored receipts are not those of its execution")
        transactions += len(outcome)
        parent = block
        block_ids.append(block.id)
        progress(block.height)
    if finalised != parent.height:
        return ended(f"no certificate proves the final blocks from height {finalised + 1} to {parent.height}")
    return ended()


def _check_header(genesis: Genesis, parent: Block, outcome: Outcome, block: Block, stored: StoredBlock) -> None:
    """PeerFault with the rule that is broken."""
    header = block.header
    rules = (
        (block.id == stored.id and block.height == stored.height, "its bytes are those of another block"),
        (header.network_id == genesis.network_id, "it belongs to another network"),
        (header.height == parent.height + 1 and header.parent == parent.id, "its parent is not the block below it"),
        (header.time_ms > parent.header.time_ms, "its time is not after that of its parent"),
        (header.view > parent.header.view, "its view is not after that of its parent"),
        (header.validators_hash == genesis.validator_set.hash, "its validators are not those of the epoch"),
        (
            header.proposer == genesis.validator_set.members[genesis.validator_set.leader(header.view)].key,
            "its proposer is not the leader of its view",
        ),
        (
            header.parent_state_root == outcome.state_root,
            f"executing the block below it gives state {outcome.state_root.hex()}, not what its header says",
        ),
        (header.parent_receipts_root == outcome.receipts_root, "executing the block below it gives other receipts"),
    )
    for holds, sentence in rules:
        if not holds:
            raise PeerFault(sentence, code="bad_block")


def _check_finalisation(genesis: Genesis, block: Block, data: bytes) -> None:
    certificate = Certificate.decode(data)
    if certificate.kind is not VoteKind.FINALISE or certificate.block != block.id:
        raise PeerFault("its finalisation names another block", code="bad_certificate")
    if not certificate.is_valid(genesis.network_id, genesis.validator_set):
        raise PeerFault("its finalisation is not signed by a quorum", code="bad_certificate")
