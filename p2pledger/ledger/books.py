"""The books as one transaction sees them: reads go through to the state below, writes stay in a journal.

Nothing reaches the state before ``post``: a transaction that fails is forgotten by dropping its books, which is how
"all operations succeed, or nothing changes" holds without any undoing. One pair of books serves one transaction.
"""

from __future__ import annotations

from typing import Protocol

from p2pledger import core
from p2pledger.ledger.tables import Account, Asset, Holding, Lock, Register, Table, holding_key, lock_key

__all__ = ["Books", "Readable"]


class Readable(Protocol):
    """A frozen version or an open branch."""

    def get(self, table: int, key: bytes) -> bytes | None: ...


class Books:
    """Typed rows over a ``Readable``. Missing holdings and locks are rows of zeros, and rows of zeros are not kept."""

    __slots__ = ("_journal", "_state")

    def __init__(self, state: Readable) -> None:
        self._state = state
        self._journal: dict[tuple[int, bytes], bytes | None] = {}

    def read(self, table: Table, key: bytes) -> bytes | None:
        """The row as this transaction left it, else as it found it."""
        try:
            return self._journal[table, key]
        except KeyError:
            return self._state.get(table, key)

    def write(self, table: Table, key: bytes, row: bytes | None) -> None:
        """Notes a row, or with None its deletion, in the journal."""
        self._journal[table, key] = row

    def post(self, branch: core.Branch) -> None:
        """Carries the journal into the state. The books are done then."""
        for (table, key), row in self._journal.items():
            if row is None:
                branch.delete(table, key)
            else:
                branch.put(table, key, row)
        self._journal.clear()

    def account(self, account: bytes) -> Account | None:
        row = self.read(Table.ACCOUNTS, account)
        return None if row is None else Account.decode(row)

    def put_account(self, account: bytes, row: Account) -> None:
        self.write(Table.ACCOUNTS, account, row.encode())

    def asset(self, asset: bytes) -> Asset | None:
        row = self.read(Table.ASSETS, asset)
        return None if row is None else Asset.decode(row)

    def put_asset(self, asset: bytes, row: Asset) -> None:
        self.write(Table.ASSETS, asset, row.encode())

    def register(self, code: bytes) -> Register | None:
        row = self.read(Table.REGISTERS, code)
        return None if row is None else Register.decode(row)

    def holding(self, asset: bytes, account: bytes) -> Holding:
        row = self.read(Table.HOLDINGS, holding_key(asset, account))
        return Holding() if row is None else Holding.decode(row)

    def put_holding(self, asset: bytes, account: bytes, row: Holding) -> None:
        self.write(Table.HOLDINGS, holding_key(asset, account), row.encode() if row.total else None)

    def lock(self, asset: bytes, account: bytes, controller: bytes) -> Lock:
        row = self.read(Table.LOCKS, lock_key(asset, account, controller))
        return Lock() if row is None else Lock.decode(row)

    def put_lock(self, asset: bytes, account: bytes, controller: bytes, row: Lock) -> None:
        self.write(Table.LOCKS, lock_key(asset, account, controller), row.encode() if row.amount else None)
