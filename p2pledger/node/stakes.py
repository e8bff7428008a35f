"""The stakes with which a producer may win, found a stretch of the table at a time: no block costs a whole scan.

Table STAKES is ordered by identifiers, and anybody may add rows to it, also behind a stranger's key. A producer that
read all of it for every block could be silenced by dust. So each question reads a bounded stretch from where the last
one ended, round and round, until as many rows are known as table STAKED counts; what is known is looked up by its
identifier. A small table is read whole each time. Of very many rows behind one key those with the greatest amounts are
kept: a dwarf hardly ever wins.

Who may produce is judged by one row and never by this: it is the producer's own memory, and may be incomplete.
"""

from __future__ import annotations

from typing import Final

from p2pledger import core
from p2pledger.ledger.elections.pos import stake_of
from p2pledger.ledger.tables import Stake, Staked, Table

__all__ = ["StakeFinder"]

_PAGE: Final = 1_000
_PAGES: Final = 4
"""What is read of the table for one question, in pages."""
_MOST_ROWS: Final = 1_024


class StakeFinder:
    """What is known of the rows behind some keys, whatever fork they were seen on."""

    def __init__(self) -> None:
        self._known: dict[bytes, set[bytes]] = {}
        self._after: dict[bytes, bytes] = {}
        """By key, where the next stretch begins; absent at the beginning of the table."""

    def stakes_of(self, version: core.Version, key: bytes) -> tuple[tuple[bytes, Stake], ...]:
        """(identifier, row) of the known stakes behind a key in this state, by identifier."""
        counted = version.get(Table.STAKED, key)
        wanted = 0 if counted is None else Staked.decode(counted).rows
        known = self._known.setdefault(key, set())
        found: dict[bytes, Stake] = {}
        for name in sorted(known):
            row = stake_of(version, name)
            if row is not None and row.key == key:
                found[name] = row
        for _ in range(_PAGES):
            if len(found) >= wanted:
                break
            page = version.scan(Table.STAKES, after=self._after.pop(key, None), limit=_PAGE)
            found.update((name, row) for name, data in page if (row := Stake.decode(data)).key == key)
            if len(page) == _PAGE:
                self._after[key] = page[-1][0]
        if len(known | found.keys()) > _MOST_ROWS:
            best = sorted(found, key=lambda name: (-found[name].amount, name))[:_MOST_ROWS]
            found = {name: found[name] for name in best}
            known.clear()
        known.update(found)
        return tuple(sorted(found.items()))
