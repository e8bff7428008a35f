"""The offline check of a node's store: nothing is taken on trust but the genesis.

First every row of the store is read and its checksum compared (storage.verify). Then the final chain is walked from
the genesis (``walk.py``): links, producers, batches, signatures, and every block executed again. The receipts must be
those that are stored. At last, under simplex, the newest finalisation must be signed by a quorum: with the linkage it
vouches for every block below it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from p2pledger.cli.walk import closing_of, genesis_step, walk
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.storage.store import Store, verify_directory

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
    last = genesis_step(genesis)
    transactions = 0
    finalised = 0
    block_ids: list[bytes] = []

    def ended(*findings: str) -> Audit:
        root = last.after.state_root.hex()
        return Audit(name, last.block.height, transactions, root, tuple(findings), tuple(block_ids))

    try:
        for last in walk(genesis, store):
            transactions += len(last.after)
            block_ids.append(last.block.id)
            if last.certificate is not None:
                finalised = last.block.height
            progress(last.block.height)
        height = last.block.height
        if genesis.engine == "simplex" and finalised != height and closing_of(genesis, store, last) is None:
            return ended(f"no certificate proves the final blocks from height {finalised + 1} to {height}")
    except PeerFault as fault:
        return ended(str(fault))
    return ended()
