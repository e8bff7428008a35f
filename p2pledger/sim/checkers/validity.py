"""Validity: the final chain is what the rules make of it, and clients are told nothing else.

The second books execute the final chain. Every receipt that an honest node stored must be theirs, every row of its
newest state, every root in a header; no transaction executes twice; and whatever a client was told is final must stand
in the final chain of the end, at that height and with that outcome.
"""

from __future__ import annotations

from collections import Counter

from p2pledger.sim.checkers.books import History
from p2pledger.sim.evidence import Evidence

__all__ = ["check_validity"]


def check_validity(evidence: Evidence, history: History) -> list[str]:
    faults = list(history.faults)

    outcomes: dict[tuple[int, bytes], set[tuple[int, int]]] = {}
    executed: Counter[bytes] = Counter()
    for page in history.pages.values():
        for name, code, operation in page.receipts:
            outcomes.setdefault((page.height, name), set()).add((code, operation))
            executed[name] += code == 0
    faults += [
        f"transaction {name.hex()[:16]} was executed {times} times" for name, times in executed.items() if times > 1
    ]

    for notice in evidence.notices:
        told = (notice.code, notice.operation)
        if told not in outcomes.get((notice.height, notice.transaction), set()):
            faults.append(
                f"{notice.node} told {notice.client} that {notice.transaction.hex()[:16]} is final at height "
                f"{notice.height} with code {notice.code}, operation {notice.operation}; the final chain says otherwise"
            )

    for node, height, codes in evidence.receipts:
        known = history.pages.get(height)
        own = (
            b""
            if known is None
            else b"".join(
                code.to_bytes(2, "big") + operation.to_bytes(2, "big") for _, code, operation in known.receipts
            )
        )
        if known is not None and own != codes:
            faults.append(f"{node} stored other receipts for height {height} than these books give")

    for claim in evidence.roots:
        page_there = history.pages.get(claim.height)
        if page_there is not None and page_there.state_root != claim.root:
            faults.append(f"{claim.node} has another state root after height {claim.height} than these books")

    newest = max(history.pages, default=0)
    tables = history.books.tables()
    for state in evidence.states:
        if state.height == newest:
            for number, (theirs, ours) in enumerate(zip(state.tables, tables, strict=True)):
                if list(theirs) != ours:
                    faults.append(
                        f"{state.node} has other rows in table {number} after height {newest} than these books"
                    )
    return faults
