"""A producer's own stakes among any number of others: all in a small table, the great ones in the end in any."""

from __future__ import annotations

from hashlib import sha256

import pytest

from p2pledger import core
from p2pledger.ledger.tables import Stake, Staked, Table
from p2pledger.node import stakes as stakes_module
from p2pledger.node.stakes import StakeFinder

MINE, OTHERS = b"m" * 32, b"o" * 32


def name_of(number: int) -> bytes:
    return sha256(number.to_bytes(8, "big")).digest()


def state_of(mine: dict[int, int], others: int) -> core.Version:
    """Stakes behind the own key, by number and amount, among so many of somebody else's."""
    with core.empty_state({Table.STAKES: 32, Table.STAKED: 32}).branch() as branch:
        rows = {name_of(number): Stake(MINE, amount, 0, MINE) for number, amount in mine.items()}
        rows |= {name_of(10**9 + number): Stake(OTHERS, 1, 0, OTHERS) for number in range(others)}
        for name, row in rows.items():
            branch.put(Table.STAKES, name, row.encode())
        if mine:
            branch.put(Table.STAKED, MINE, Staked(sum(mine.values()), len(mine)).encode())
        return branch.commit()


def test_a_small_table_is_read_whole() -> None:
    finder, state = StakeFinder(), state_of({1: 5, 2: 6}, 500)
    found = dict(finder.stakes_of(state, MINE))
    assert {name: row.amount for name, row in found.items()} == {name_of(1): 5, name_of(2): 6}
    assert len(finder.stakes_of(state, OTHERS)) == 0, "nothing is counted behind this key"


def test_a_large_table_is_read_in_stretches_and_what_is_known_stays_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stakes_module, "_PAGE", 10)
    finder, state = StakeFinder(), state_of(dict.fromkeys(range(8), 5), 400)
    counts = [len(finder.stakes_of(state, MINE)) for _ in range(12)]
    assert counts == sorted(counts)
    assert counts[0] < 8
    assert counts[-1] == 8
    fewer = state_of(dict.fromkeys(range(4), 5), 400)
    assert len(finder.stakes_of(fewer, MINE)) == 4, "a fork on which some were taken back"
    assert len(finder.stakes_of(state, MINE)) == 8


def test_dust_behind_a_key_does_not_push_its_great_stakes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stakes_module, "_MOST_ROWS", 5)
    finder, state = StakeFinder(), state_of({**dict.fromkeys(range(200), 1), 500: 1_000, 501: 900}, 0)
    for _ in range(3):
        found = finder.stakes_of(state, MINE)
        assert len(found) == 5
        assert {name_of(500), name_of(501)} <= {name for name, _ in found}
