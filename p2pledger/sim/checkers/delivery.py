"""Delivery: whoever asks once is told once. That a transaction is settled comes in a session as often as it was handed
in there, and no oftener. (What is told must be true besides: that is for validity to say.)
"""

from __future__ import annotations

from collections import Counter

from p2pledger.sim.evidence import Evidence

__all__ = ["check_delivery"]


def check_delivery(evidence: Evidence) -> list[str]:
    faults: list[str] = []
    told = Counter((notice.client, notice.session, notice.transaction) for notice in evidence.notices)
    for (client, session, transaction), times in told.items():
        asked = evidence.asked[client, session, transaction]
        if times > asked:
            faults.append(
                f"{client} handed in {transaction.hex()[:16]} {asked} times in a session and was told {times} times "
                f"that it is settled"
            )
    return faults
