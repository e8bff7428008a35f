"""The second ledger computes what the first one computes, by its own means."""

from __future__ import annotations

import random

import pytest

from p2pledger import core
from p2pledger.ledger.genesis_state import genesis_state
from p2pledger.primitives.names import isin_is_valid
from p2pledger.sim.chance import stream
from p2pledger.sim.checkers.books import Books, isin_is_right, list_root, table_root
from p2pledger.sim.market import Market


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 64])
def test_list_roots_agree(count: int) -> None:
    leaves = [b"leaf %d" % number for number in range(count)]
    assert list_root(leaves) == core.merkle_root(leaves)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 100])
def test_table_roots_agree(count: int) -> None:
    chance = random.Random(count)
    rows = {chance.randbytes(16): chance.randbytes(chance.randrange(1, 40)) for _ in range(count)}
    branch = core.empty_state({3: 16}).branch()
    for key, value in rows.items():
        branch.put(3, key, value)
    assert table_root(3, sorted(rows.items())) == branch.commit().table_root(3)


def test_the_genesis_gives_the_same_state() -> None:
    genesis = Market(3, 4, stream(3, "market")).genesis
    version, books = genesis_state(genesis), Books(genesis.encode())
    for table, rows in enumerate(books.tables()):
        assert rows == version.scan(table, limit=1_000)
    assert books.root() == version.root()
    assert books.network == genesis.network_id


@pytest.mark.parametrize(
    "text", ["DE0001102531", "DE0001102532", "US0378331005", "US037833100", "us0378331005", "DE00011025A1"]
)
def test_check_digits_agree(text: str) -> None:
    assert isin_is_right(text.encode()) == isin_is_valid(text)
