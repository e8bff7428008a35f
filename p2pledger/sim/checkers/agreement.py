"""Agreement: no two honest nodes call different blocks final at a height, nor have different roots after it."""

from __future__ import annotations

from p2pledger.sim.evidence import Evidence

__all__ = ["check_agreement"]


def check_agreement(evidence: Evidence) -> list[str]:
    faults: list[str] = []
    blocks: dict[int, tuple[str, bytes]] = {}
    for claim in evidence.finals:
        node, block = blocks.setdefault(claim.height, (claim.node, claim.block))
        if block != claim.block:
            faults.append(
                f"at height {claim.height} {node} has the final block {block.hex()[:16]} and "
                f"{claim.node} has {claim.block.hex()[:16]}"
            )
    roots: dict[int, tuple[str, bytes]] = {}
    for state in evidence.roots:
        node, root = roots.setdefault(state.height, (state.node, state.root))
        if root != state.root:
            faults.append(
                f"after height {state.height} {node} has the state root {root.hex()[:16]} and "
                f"{state.node} has {state.root.hex()[:16]}"
            )
    return faults
