"""Finality: a block that a node called final stays final there, whatever it learns, crashes and restarts included.

What each honest node claimed in its life, read in the order of heights, is one chain: one block a height, each the
parent of the next.
"""

from __future__ import annotations

import msgpack

from p2pledger.sim.evidence import Evidence

__all__ = ["check_finality"]

PARENT = 5


def check_finality(evidence: Evidence) -> list[str]:
    faults: list[str] = []
    chains: dict[str, dict[int, bytes]] = {}
    for claim in evidence.finals:
        chain = chains.setdefault(claim.node, {})
        first = chain.setdefault(claim.height, claim.block)
        if first != claim.block:
            faults.append(
                f"{claim.node} called {first.hex()[:16]} final at height {claim.height}, and later "
                f"{claim.block.hex()[:16]}"
            )
    for node, chain in sorted(chains.items()):
        for height in sorted(chain):
            data = evidence.blocks.get(chain[height])
            if data is None or height - 1 not in chain:
                continue
            if msgpack.unpackb(data, use_list=False)[0][PARENT] != chain[height - 1]:
                faults.append(f"{node}: the final block of height {height} leaves the final block below it")
    return faults
