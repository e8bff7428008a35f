"""The securities root moves with what is held and with nothing else."""

import hashlib

import pytest

from p2pledger.ledger.queries import rows
from p2pledger.ledger.securities import SECURITIES_TABLES, securities_root
from p2pledger.ledger.tables import KEY_WIDTHS, Table
from p2pledger.primitives.transactions import Transfer
from tests.core.builders import naive_table_root
from tests.ledger.small_market import BOND, account, founded, signed


def test_it_is_what_the_protocol_says() -> None:
    version = founded().version
    level = [
        hashlib.sha256(b"\0" + naive_table_root(table, dict(rows(version, table)))).digest()
        for table in SECURITIES_TABLES
    ]

    def root(nodes: list[bytes]) -> bytes:
        """RFC 9162, section 2.1.1: split at the largest power of two below the number of leaves."""
        if len(nodes) == 1:
            return nodes[0]
        split = 1 << (len(nodes) - 1).bit_length() - 1
        return hashlib.sha256(b"\1" + root(nodes[:split]) + root(nodes[split:])).digest()

    assert len(level) == 37
    assert securities_root(version) == root(level)


@pytest.mark.parametrize("table", list(Table), ids=lambda table: table.name)
def test_it_commits_to_the_securities_tables_and_to_no_other(table: Table) -> None:
    market = founded()
    before, root = securities_root(market.version), market.version.root()
    market.alter(table, bytes(KEY_WIDTHS[table]), b"\x91\x01")
    assert (securities_root(market.version) == before) is (table not in SECURITIES_TABLES)
    assert market.version.root() != root


def test_it_does_not_depend_on_the_order_of_trades_that_do_not_depend_on_each_other() -> None:
    trades = [
        signed(Transfer(account("alice"), account("bob"), BOND, 5), "alice"),
        signed(Transfer(account("fund"), account("dave"), BOND, 7), "fund-1", "fund-2", payer="fund"),
    ]
    here, there = founded(), founded()
    here.block(*trades)
    there.block(trades[1])
    there.block(trades[0])
    assert here.version.root() != there.version.root()
    assert securities_root(here.version) == securities_root(there.version)
