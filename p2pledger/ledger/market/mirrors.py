"""Mirrors: assets that repeat what a register outside the ledger holds. They carry no title and never count in supply.

Day by day the mirror's depository states the total of that register, with the hash of its statement. The ledger notes
beside it what it holds itself; a *difference* is seen by everybody, and explained by nobody but the depository. A
statement is never replaced: a correction is part of the next day's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from p2pledger import core
from p2pledger.ledger.books import Books
from p2pledger.ledger.market.instruments import circulating, is_mirror
from p2pledger.ledger.market.permissions import require
from p2pledger.ledger.queries import rows
from p2pledger.ledger.rule import Place, Refused, Rule, require_asset
from p2pledger.ledger.tables import Table, fields_of, register_of
from p2pledger.primitives.codec import encode
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.links import Reconcile
from p2pledger.primitives.names import asset_text
from p2pledger.primitives.reasons import Reason

__all__ = ["RULES", "Statement", "statement_key", "statements_of"]

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Statement:
    """STATEMENTS: what the register outside held at the end of a day, and what the ledger held when it was told."""

    table: ClassVar[Table] = Table.STATEMENTS

    total: int
    held: int
    statement: bytes
    height: int
    time_ms: int

    @property
    def difference(self) -> int:
        """What the ledger shows above (or below) the register outside."""
        return self.held - self.total

    def encode(self) -> bytes:
        return encode((1, self.total, self.held, self.statement, self.height, self.time_ms))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "STATEMENTS", 5))


def statement_key(asset: bytes, day: int) -> bytes:
    """The statements about one mirror are neighbours, by day."""
    return asset + day.to_bytes(4, "big")


def statements_of(version: core.Version, asset: bytes = b"") -> Iterator[tuple[bytes, int, Statement]]:
    """(asset, day, statement) of one mirror or of all, in order."""
    for key, row in rows(version, Table.STATEMENTS, asset):
        yield key[:16], int.from_bytes(key[16:], "big"), Statement.decode(row)


class ReconcileRule:
    """States what the register behind a mirror held at the end of a day.

    who may     the depository in whose register the mirror is
    signed by   the depository
    needs       a mirror; a day (UTC) that has begun, of which nothing was stated yet
    changes     the statement is noted, beside what the ledger holds now
    refuses     (unknown_asset, unknown_register), not_permitted, not_a_mirror, wrong_time
    """

    def must_sign(self, books: Books, operation: Reconcile) -> Iterator[bytes]:
        require_asset(books, operation.asset)
        register = books.register(register_of(operation.asset))
        if register is None:
            raise Refused(Reason.UNKNOWN_REGISTER)
        yield register.depository

    def execute(self, books: Books, operation: Reconcile, place: Place) -> None:
        asset, register = operation.asset, books.register(register_of(operation.asset))
        if register is None:
            raise Refused(Reason.UNKNOWN_REGISTER)
        require(books, place, register.depository, operation.code, asset=asset, amount=operation.total)
        if not is_mirror(books, asset):
            raise Refused(Reason.NOT_A_MIRROR, f"nature of {asset_text(asset)}")
        if operation.day * _DAY_MS > place.time_ms:
            raise Refused(Reason.WRONG_TIME, "a statement is about a day that has begun")
        key = statement_key(asset, operation.day)
        if books.row(Statement, key) is not None:
            raise Refused(Reason.WRONG_TIME, "a statement about this day is there")
        row = Statement(operation.total, circulating(books, asset), operation.statement, place.height, place.time_ms)
        books.put(Statement, key, row)


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType({Reconcile: ReconcileRule()})
"""The rules of mirrors."""
