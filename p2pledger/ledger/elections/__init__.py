"""Who may write the next block, as far as the state decides it: one file for each engine, with its theory on top.

Every file has the same two writers and its own readers. ``found`` writes the engine's first rows into the genesis
state; ``open_block`` keeps them, before the transactions of a block are executed. The readers are pure functions of a
version: the node makes of them what its engine asks for. Under simplex and poa there is nothing to keep: whoever is
seated, takes turns.
"""

from __future__ import annotations

from p2pledger import core
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.elections import dpos, pos, pow
from p2pledger.primitives.blocks import Header
from p2pledger.primitives.genesis import Genesis

__all__ = ["found", "open_block"]

_KEPT = {"pow": pow, "pos": pos, "dpos": dpos}


def found(branch: core.Branch, genesis: Genesis) -> None:
    """Writes the engine's first rows; the stakes of the genesis are there already."""
    if genesis.engine in _KEPT:
        _KEPT[genesis.engine].found(branch, genesis)


def open_block(branch: core.Branch, header: Header, spec: Chainspec) -> None:
    """Keeps the engine's rows for the block of ``header``, on the state after its parent.

    PeerFault where the header cannot stand there: an engine has refused it before it comes to execution.
    """
    if spec.engine in _KEPT:
        _KEPT[spec.engine].open_block(branch, header, spec)
