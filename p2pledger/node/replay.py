"""Starting again: the state that the final blocks on the disk lead to.

A snapshot, or the genesis, and every final block after it executed once more. What comes out must be what the next
header says; if it is not, the disk or this program is wrong, and the node does not start.
"""

from __future__ import annotations

from p2pledger import core
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.genesis_state import genesis_state
from p2pledger.ledger.market.agenda import NOTHING_DUE, DueDone
from p2pledger.ledger.transition import Outcome, execute_block
from p2pledger.node.archive import Archive, Recovery
from p2pledger.node.batches import limits_of
from p2pledger.node.chain import Chain
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.errors import NodeStopped
from p2pledger.primitives.genesis import Genesis

__all__ = ["replay"]


def replay(genesis: Genesis, archive: Archive, recovery: Recovery) -> tuple[Chain, tuple[Outcome, int] | None]:
    """The chain's root as the disk remembers it: a snapshot or the genesis, and the final blocks after it executed.

    With the outcome before the root and its height, if it was computed on the way.
    """
    limits, spec = limits_of(genesis.parameters), Chainspec.of(genesis)
    version, height = genesis_state(genesis), 0
    block = genesis.block
    receipts_root = core.merkle_root([])
    due = NOTHING_DUE
    if recovery.state is not None:
        version, height = recovery.state, recovery.state_height
        block = _final_block(archive, height)
        codes = archive.receipts(height) or b""
        ids = b"".join(
            core.scan_batch(_final_batch(archive, digest), genesis.network_id, limits).ids for digest in block.digests
        )
        receipts_root = core.receipts_root(ids, codes)
        if not block.digests and version.root() != block.header.parent_state_root:
            due = DueDone(1)  # an empty block changed the state: the one that carries its roots may not be there yet
    outcome = Outcome(version, b"", b"", version.root(), receipts_root, due=due)
    certified = None
    for next_height in range(height + 1, recovery.final_height + 1):
        following = _final_block(archive, next_height)
        _compare(block, outcome, following)
        columns = [
            core.scan_batch(_final_batch(archive, digest), genesis.network_id, limits) for digest in following.digests
        ]
        certified = (outcome, next_height - 1)
        outcome = execute_block(outcome.version, columns, header=following.header, spec=spec)
        block = following
    return Chain(block, outcome), certified


def _compare(block: Block, outcome: Outcome, following: Block) -> None:
    header = following.header
    if header.parent != block.id or (header.parent_state_root, header.parent_receipts_root) != outcome.roots:
        raise NodeStopped(
            f"executing the stored blocks again gives another state after height {block.height}",
            why=f"root {outcome.state_root.hex()} here, {header.parent_state_root.hex()} in the next header",
            hint="Delete chain.db and snapshots of this node and let it sync again from its peers",
            code="foreign_state_root",
        )


def _final_block(archive: Archive, height: int) -> Block:
    data = archive.final_block(height)
    if data is None:
        raise NodeStopped(f"final block {height} is missing in the block log", code="missing_block")
    return Block.decode(data)


def _final_batch(archive: Archive, digest: bytes) -> bytes:
    data = archive.batch(digest)
    if data is None:
        raise NodeStopped(f"batch {digest.hex()} of a final block is missing in the block log", code="missing_batch")
    return data
