"""The securities root: who holds what, whoever wrote the blocks (docs/protocol.md, section 7).

The state root commits to everything, also to native money, rewards, stakes, memories and the engine's own rows, which
depend on who produced which block. Two networks that execute the same trades under different engines agree on the
accounts, assets, holdings, locks, registers and parties, on everything that the market keeps, and therefore on this
root.
"""

from __future__ import annotations

from typing import Final

from p2pledger import core
from p2pledger.ledger.tables import Table

__all__ = ["SECURITIES_TABLES", "securities_root"]

SECURITIES_TABLES: Final = (
    Table.ACCOUNTS,
    Table.ASSETS,
    Table.HOLDINGS,
    Table.LOCKS,
    Table.REGISTERS,
    Table.PARTIES,
    *(table for table in Table if table >= Table.ENCUMBRANCES),
)


def securities_root(version: core.Version) -> bytes:
    """The RFC 9162 root (32 bytes) over the table roots of the securities tables, in order."""
    return core.merkle_root([version.table_root(table) for table in SECURITIES_TABLES])
