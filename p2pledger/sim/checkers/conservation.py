"""Conservation: nothing is created or lost on the way, neither by the blocks nor in the rows of any honest node.

Two recounts. Of the final blocks: what they issue less what they redeem is what the second books hold. Of the rows of
each node's newest state: what the assets say is in circulation, and what has come from other registers less what has
gone there, is what the holdings hold; what goes out of a register of an instrument comes into another; and the locked
part of each holding is the sum of its locks and encumbrances.
"""

from __future__ import annotations

from collections import Counter

from p2pledger.sim.checkers.books import History, identifier_of, unpack
from p2pledger.sim.evidence import Evidence

__all__ = ["check_conservation"]

ASSETS, HOLDINGS, LOCKS, ENCUMBRANCES, FLOWS = 2, 3, 4, 15, 36


def check_conservation(evidence: Evidence, history: History) -> list[str]:
    faults: list[str] = []
    issued: Counter[bytes] = Counter()
    for page in history.pages.values():
        done = {(name, code) for name, code, _ in page.receipts}
        digests = unpack(evidence.blocks[page.block])[1]
        counted: set[bytes] = set()
        for batch in digests:
            for body, _ in unpack(evidence.batches[batch])[0][5]:
                name = identifier_of(body)
                if (name, 0) not in done or name in counted:
                    continue
                counted.add(name)
                for operation in body[6]:
                    if operation[0] == 4:
                        issued[operation[1]] += operation[3]
                    elif operation[0] == 5:
                        issued[operation[1]] -= operation[3]
    for asset in sorted(set(issued) | {asset for asset, _ in history.books.holdings}):
        held = sum(sum(row) for (name, _), row in history.books.holdings.items() if name == asset)
        if held != issued[asset]:
            faults.append(f"the final blocks issued {issued[asset]} of {asset!r} and leave {held}")

    for state in evidence.states:
        held_rows: Counter[bytes] = Counter()
        locked: Counter[bytes] = Counter()
        for key, value in state.tables[HOLDINGS]:
            _, free, bound = unpack(value)
            held_rows[key[:16]] += free + bound
            locked[key] += bound
        for key, value in state.tables[LOCKS]:
            locked[key[:48]] -= unpack(value)[1]
        for key, value in state.tables[ENCUMBRANCES]:
            locked[key[:48]] -= unpack(value)[2]
        moved: Counter[bytes] = Counter()
        between: Counter[bytes] = Counter()
        for key, value in state.tables[FLOWS]:
            _, arrived, departed = unpack(value)
            moved[key] = arrived - departed
            between[key[:12]] += arrived - departed
        if any(between.values()):
            faults.append(f"{state.node} at height {state.height}: more came into registers than went out, or less")
        for key, value in state.tables[ASSETS]:
            supply = unpack(value)[5] - unpack(value)[6] + moved[key]
            if held_rows.pop(key, 0) != supply:
                faults.append(f"{state.node} at height {state.height}: the holdings of {key!r} are not its {supply}")
        if any(held_rows.values()):
            faults.append(f"{state.node} at height {state.height}: holdings of an asset that does not exist")
        if any(locked.values()):
            what = "a locked amount is not the sum of its locks and encumbrances"
            faults.append(f"{state.node} at height {state.height}: {what}")
    return faults
