"""The two elections of delegates, the ledger's and the checker's, given the same votes, records and reports."""

from __future__ import annotations

import random

import pytest

from p2pledger.ledger.elections import dpos
from p2pledger.ledger.elections.dpos import Delegate
from p2pledger.ledger.tables import Staked, Table
from p2pledger.sim.checkers.elections import Delegation, View


class Rows:
    """A state with nothing but votes and reports."""

    def __init__(self, votes: dict[bytes, int], reported: set[bytes]) -> None:
        self._staked = sorted((key, Staked(amount, 1).encode()) for key, amount in votes.items())
        self._reported = reported

    def get(self, table: int, key: bytes) -> bytes | None:
        return None

    def scan(
        self, table: int, prefix: bytes = b"", after: bytes | None = None, limit: int = 1_000
    ) -> list[tuple[bytes, bytes]]:
        if table == Table.EVIDENCE:
            return [(prefix, b"")] if prefix in self._reported else []
        return [row for row in self._staked if after is None or row[0] > after][:limit]


@pytest.mark.parametrize("seed", range(300))
def test_both_elect_the_same_and_neither_more_than_a_quorum_can_spare(seed: int) -> None:
    chance = random.Random(seed)
    keys = [bytes([number]) * 32 for number in range(30)]
    width = chance.randint(1, 12)
    serving = chance.sample(keys, chance.randint(1, width))
    records = tuple(
        Delegate(key, chance.randint(0, 4), chance.choice((0, 0, 1, 9)), chance.choice((0, 0, 0, 1)))
        for key in sorted(serving)
    )
    votes = {key: chance.randint(1, 5) for key in chance.sample(keys, chance.randint(0, 30))}
    reported = set(chance.sample(keys, chance.choice((0, 0, 1, 4))))
    elected = dpos._elected(Rows(votes, reported), records, width)
    second = Delegation(width, 1, b"", records={each.key: [each.made, each.missed, each.withheld] for each in records})
    second.elect(View({key: (b"", amount, 0, key) for key, amount in votes.items()}, frozenset(reported), ()))
    assert sorted(second.records) == list(elected)
    assert 1 <= len(elected) <= width
    assert len(set(elected) - set(serving)) <= dpos.replaceable(len(serving))
    assert len(set(serving) - reported - set(elected)) <= dpos.replaceable(len(serving))
