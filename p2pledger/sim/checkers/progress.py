"""Progress: once the network is whole and all honest nodes run, every order comes to an end and nobody stays behind."""

from __future__ import annotations

from p2pledger.sim.evidence import Evidence

__all__ = ["check_progress"]


def check_progress(evidence: Evidence) -> list[str]:
    faults = [
        f"transaction {transaction.hex()[:16]} of {client} came to no end: {where}"
        for client, transaction, where in evidence.unsettled
    ]
    if len(set(evidence.heights.values())) > 1:
        standing = ", ".join(f"{node} {height}" for node, height in sorted(evidence.heights.items()))
        faults.append(f"honest nodes stand at different heights: {standing}")
    return faults
