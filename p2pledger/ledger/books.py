"""The books as one transaction sees them: reads go through to the state below, writes stay in a journal.

Nothing reaches the state before ``post``: a transaction that fails is forgotten by dropping its books, which is how
"all operations succeed, or nothing changes" holds without any undoing. One pair of books serves one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar, Final, Protocol, Self, TypeAlias, TypeVar

from p2pledger import core
from p2pledger.ledger.tables import (
    Account,
    Asset,
    EvidenceRow,
    FinalityRow,
    Holding,
    Lock,
    Native,
    Register,
    Stake,
    Staked,
    Table,
    ValidatorsRow,
    evidence_key,
    fields_of,
    holding_key,
    lock_key,
    validators_key,
)
from p2pledger.primitives.validators import Validators

__all__ = ["Books", "Mark", "Readable", "Row", "is_reported", "read_row", "validators_in_force"]

_PAGE: Final = 256
_FIRST_PAGE: Final = 16


class Readable(Protocol):
    """A frozen version or an open branch."""

    def get(self, table: int, key: bytes) -> bytes | None: ...

    def scan(
        self, table: int, prefix: bytes = ..., after: bytes | None = ..., limit: int = ...
    ) -> list[tuple[bytes, bytes]]: ...


class Row(Protocol):
    """The form of a table's rows, which the class says itself: those of the market do."""

    table: ClassVar[Table]

    def encode(self) -> bytes: ...

    @classmethod
    def decode(cls, row: bytes, /) -> Self: ...


RowT = TypeVar("RowT", bound=Row)

# One transaction reads the same few rows again and again, and so do those after it. Rows are small and never change, so
# what was read of their bytes is kept.
_account_of: Final = lru_cache(maxsize=4_096)(Account.decode)
_asset_of: Final = lru_cache(maxsize=1_024)(Asset.decode)
_holding_of: Final = lru_cache(maxsize=4_096)(Holding.decode)

Mark: TypeAlias = dict[Table, dict[bytes, bytes | None]]
"""A copy of a journal."""


def _stored(state: Readable, table: Table, prefix: bytes, after: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    """The rows of the state page by page: a small one first, for most who read want few."""
    limit = _FIRST_PAGE
    while True:
        page = state.scan(table, prefix, after, limit)
        yield from page
        if len(page) < limit:
            return
        after, limit = page[-1][0], _PAGE


def validators_in_force(state: Readable, epoch: int) -> Validators:
    """The validators of an epoch: the row of VALIDATORS with the greatest number that is not above it."""
    newest: bytes | None = None
    after: bytes | None = None
    while page := state.scan(Table.VALIDATORS, after=after, limit=_PAGE):
        rows = [row for key, row in page if key <= validators_key(epoch)]
        newest = rows[-1] if rows else newest
        if len(rows) < _PAGE:
            break
        after = page[-1][0]
    assert newest is not None, "the state is broken: no validators were ever set"
    return ValidatorsRow.decode(newest).validators(epoch)


def read_row(state: Readable, table: Table, key: bytes, count: int) -> tuple[Any, ...]:
    """The ``count`` fields of a row that must be there, behind its version."""
    row = state.get(table, key)
    assert row is not None, f"the state is broken: a row of {table.name} is missing"
    return fields_of(row, table.name, count)


def is_reported(state: Readable, key: bytes) -> bool:
    """Whether table EVIDENCE knows a public key."""
    return bool(state.scan(Table.EVIDENCE, key, limit=1))


class Books:
    """Typed rows over a ``Readable``. Missing holdings and locks are rows of zeros, and rows of zeros are not kept."""

    __slots__ = ("_journal", "_state")

    def __init__(self, state: Readable) -> None:
        self._state = state
        self._journal: dict[Table, dict[bytes, bytes | None]] = {}

    def read(self, table: Table, key: bytes) -> bytes | None:
        """The row as this transaction left it, else as it found it."""
        journal = self._journal.get(table)
        if journal is not None and key in journal:
            return journal[key]
        return self._state.get(table, key)

    def write(self, table: Table, key: bytes, row: bytes | None) -> None:
        """Notes a row, or with None its deletion, in the journal."""
        self._journal.setdefault(table, {})[key] = row

    def row(self, kind: type[RowT], key: bytes) -> RowT | None:
        """The row of this key in the kind's table."""
        row = self.read(kind.table, key)
        return None if row is None else kind.decode(row)

    def put(self, kind: type[RowT], key: bytes, row: RowT | None) -> None:
        """Writes a row, or with None takes it away."""
        self.write(kind.table, key, None if row is None else row.encode())

    def rows(self, kind: type[RowT], prefix: bytes = b"", after: bytes | None = None) -> Iterator[tuple[bytes, RowT]]:
        """(key, row) of a kind below a prefix and behind ``after``, in key order, as this transaction sees them.

        The state is read page by page, so that who stops early has read little. While the rows come, one that is
        deleted or changed further on is seen so; one that is new is not seen.
        """
        journal = self._journal.setdefault(kind.table, {})
        ahead = (key for key in journal if key.startswith(prefix) and (after is None or key > after))
        written = sorted(ahead, reverse=True)
        for key, stored in _stored(self._state, kind.table, prefix, after):
            while written and written[-1] <= key:
                earlier = written.pop()
                if earlier != key and (row := journal[earlier]) is not None:
                    yield earlier, kind.decode(row)
            if (row := journal.get(key, stored)) is not None:
                yield key, kind.decode(row)
        for key in reversed(written):
            if (row := journal[key]) is not None:
                yield key, kind.decode(row)

    def mark(self) -> Mark:
        """What has been written so far, for ``back_to``: due work tries, and takes back what cannot be."""
        return {table: dict(journal) for table, journal in self._journal.items()}

    def back_to(self, mark: Mark) -> None:
        """Forgets what was written since the mark, which serves once."""
        self._journal = mark

    def post(self, branch: core.Branch) -> None:
        """Carries the journal into the state. The books are done then."""
        for table, journal in self._journal.items():
            for key, row in journal.items():
                if row is None:
                    branch.delete(table, key)
                else:
                    branch.put(table, key, row)
        self._journal.clear()

    def account(self, account: bytes) -> Account | None:
        row = self.read(Table.ACCOUNTS, account)
        return None if row is None else _account_of(row)

    def put_account(self, account: bytes, row: Account) -> None:
        self.write(Table.ACCOUNTS, account, row.encode())

    def asset(self, asset: bytes) -> Asset | None:
        row = self.read(Table.ASSETS, asset)
        return None if row is None else _asset_of(row)

    def put_asset(self, asset: bytes, row: Asset) -> None:
        self.write(Table.ASSETS, asset, row.encode())

    def register(self, code: bytes) -> Register | None:
        row = self.read(Table.REGISTERS, code)
        return None if row is None else Register.decode(row)

    def holding(self, asset: bytes, account: bytes) -> Holding:
        row = self.read(Table.HOLDINGS, holding_key(asset, account))
        return Holding() if row is None else _holding_of(row)

    def put_holding(self, asset: bytes, account: bytes, row: Holding) -> None:
        self.write(Table.HOLDINGS, holding_key(asset, account), row.encode() if row.total else None)

    def lock(self, asset: bytes, account: bytes, controller: bytes) -> Lock:
        row = self.read(Table.LOCKS, lock_key(asset, account, controller))
        return Lock() if row is None else Lock.decode(row)

    def put_lock(self, asset: bytes, account: bytes, controller: bytes, row: Lock) -> None:
        self.write(Table.LOCKS, lock_key(asset, account, controller), row.encode() if row.amount else None)

    def native(self, account: bytes) -> int:
        row = self.read(Table.NATIVE, account)
        return 0 if row is None else Native.decode(row).free

    def put_native(self, account: bytes, free: int) -> None:
        self.write(Table.NATIVE, account, Native(free).encode() if free else None)

    def stake(self, identifier: bytes) -> Stake | None:
        row = self.read(Table.STAKES, identifier)
        return None if row is None else Stake.decode(row)

    def put_stake(self, identifier: bytes, row: Stake | None) -> None:
        self.write(Table.STAKES, identifier, None if row is None else row.encode())

    def staked(self, key: bytes) -> Staked:
        row = self.read(Table.STAKED, key)
        return Staked() if row is None else Staked.decode(row)

    def put_staked(self, key: bytes, row: Staked) -> None:
        self.write(Table.STAKED, key, row.encode() if row.rows else None)

    def put_finality(self, asset: bytes, row: FinalityRow | None) -> None:
        self.write(Table.FINALITY, asset, None if row is None else row.encode())

    def seats(self, epoch: int) -> ValidatorsRow | None:
        """What is set for exactly this epoch."""
        row = self.read(Table.VALIDATORS, validators_key(epoch))
        return None if row is None else ValidatorsRow.decode(row)

    def put_seats(self, epoch: int, row: ValidatorsRow) -> None:
        self.write(Table.VALIDATORS, validators_key(epoch), row.encode())

    def validators_in_force(self, epoch: int) -> Validators:
        """As ``validators_in_force``; of what this transaction has set, only the row of the epoch itself counts."""
        row = self.seats(epoch)
        return validators_in_force(self._state, epoch) if row is None else row.validators(epoch)

    def evidence(self, key: bytes, epoch: int) -> EvidenceRow | None:
        row = self.read(Table.EVIDENCE, evidence_key(key, epoch))
        return None if row is None else EvidenceRow.decode(row)

    def put_evidence(self, key: bytes, epoch: int, row: EvidenceRow) -> None:
        self.write(Table.EVIDENCE, evidence_key(key, epoch), row.encode())

    def is_reported(self, key: bytes) -> bool:
        """Whether there is evidence against a public key, of whatever epoch."""
        noted = any(place[:32] == key for place in self._journal.get(Table.EVIDENCE, ()))
        return noted or is_reported(self._state, key)
