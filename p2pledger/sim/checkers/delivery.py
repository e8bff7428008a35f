"""Delivery: whoever asks once is told once, and what a client hears of an order makes a story that can be true.

That a transaction is settled comes in a session as often as it was handed in there, and no oftener; what is told must
be true besides (that is for validity to say). Who follows its orders hears in a session, in this order:

    pending (1)  ->  reverted (2)  ->  pending ...  ->  confirmed (3)  ->  settled

with any of them left out at the beginning, and *pending* again where it stands in another block. *Confirmed* is not
taken back where no asset has a policy of its own, for then it means final; and after *settled* there is nothing more to
say.
"""

from __future__ import annotations

from collections import Counter

from p2pledger.sim.evidence import Evidence

__all__ = ["check_delivery"]

PENDING, REVERTED, CONFIRMED, SETTLED = 1, 2, 3, 4
WORDS = {0: "nothing", PENDING: "pending", REVERTED: "reverted", CONFIRMED: "confirmed", SETTLED: "settled"}
FOLLOWS = {
    0: (PENDING, REVERTED, CONFIRMED, SETTLED),
    PENDING: (PENDING, REVERTED, CONFIRMED, SETTLED),
    REVERTED: (PENDING, CONFIRMED, SETTLED),
    CONFIRMED: (SETTLED,),
    SETTLED: (SETTLED,),
}


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

    heard = [
        (notice.time_us, notice.client, notice.session, notice.transaction, notice.status)
        for notice in evidence.progress
    ]
    heard += [
        (notice.time_us, notice.client, notice.session, notice.transaction, SETTLED) for notice in evidence.notices
    ]
    last: dict[tuple[str, int, bytes], int] = {}
    # In the order in which they were heard; what came at the same moment as a settlement came before it.
    for _, client, session, transaction, status in sorted(heard, key=lambda entry: (entry[0], entry[4] == SETTLED)):
        before = last.get((client, session, transaction), 0)
        last[client, session, transaction] = status
        if status not in FOLLOWS[before] and evidence.asked[client, session, transaction] < 2:
            faults.append(f"{client} was told that {transaction.hex()[:16]} is {WORDS[status]} after {WORDS[before]}")
    return faults
