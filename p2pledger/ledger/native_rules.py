"""The rules of native money: it is paid, put behind a key as a stake, and taken back.

A stake is a row of its own (``tables.Stake``). What is staked is not free, so nothing else can spend, lock or
restrict it, and no transfer of a security touches its age: only its owner takes it back, and only a block that is
produced with it (pos) starts its age anew. Table STAKED sums the stakes behind each key, so that an election reads
one row a candidate.
"""

from __future__ import annotations

from collections.abc import Iterator

from p2pledger.ledger.books import Books
from p2pledger.ledger.rule import Place, Refused, require_account, require_amount, require_native, require_room
from p2pledger.ledger.tables import Stake, Staked
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.reasons import Reason

__all__ = ["STAKED_ENGINES", "PayRule", "StakeRule", "UnstakeRule"]

STAKED_ENGINES = ("pos", "dpos")
"""The engines that choose by stake."""


class PayRule:
    """Moves native money from one account to another.

    who may     whoever owns native money
    signed by   source
    needs       the target; the amount in the source
    changes     the native money of both
    refuses     zero_amount, same_account, unknown_account, insufficient_native
    """

    def must_sign(self, books: Books, operation: tx.Pay) -> Iterator[bytes]:
        yield operation.source

    def execute(self, books: Books, operation: tx.Pay, place: Place) -> None:
        source, target, amount = operation.source, operation.target, operation.amount
        require_amount(amount)
        if source == target:
            raise Refused(Reason.SAME_ACCOUNT)
        require_account(books, target)
        free, there = require_native(books, source, amount), books.native(target)
        require_room(there, amount)
        books.put_native(source, free - amount)
        books.put_native(target, there + amount)


class StakeRule:
    """Puts native money behind the key of a producer (pos) or delegate (dpos).

    who may     whoever owns native money
    signed by   account
    needs       an engine that chooses by stake; an identifier not yet taken; the amount in the account
    changes     native money of the account shrinks; a new stake, since this height; what stands behind the key grows
    refuses     wrong_engine, zero_amount, stake_exists, insufficient_native
    """

    def must_sign(self, books: Books, operation: tx.Stake) -> Iterator[bytes]:
        yield operation.account

    def execute(self, books: Books, operation: tx.Stake, place: Place) -> None:
        account, amount, key = operation.account, operation.amount, operation.key
        if place.spec.engine not in STAKED_ENGINES:
            raise Refused(Reason.WRONG_ENGINE)
        require_amount(amount)
        if books.stake(operation.id) is not None:
            raise Refused(Reason.STAKE_EXISTS)
        free = require_native(books, account, amount)
        behind = books.staked(key)
        require_room(behind.amount, amount)
        books.put_native(account, free - amount)
        books.put_stake(operation.id, Stake(account, amount, place.height, key))
        books.put_staked(key, Staked(behind.amount + amount, behind.rows + 1))


class UnstakeRule:
    """Takes a stake back, all of it.

    who may     whoever owns the stake
    signed by   account
    needs       a stake of this identifier that is the account's
    changes     the stake goes; what stands behind its key shrinks; native money of the account grows
    refuses     unknown_stake
    """

    def must_sign(self, books: Books, operation: tx.Unstake) -> Iterator[bytes]:
        yield operation.account

    def execute(self, books: Books, operation: tx.Unstake, place: Place) -> None:
        row = books.stake(operation.stake)
        if row is None or row.account != operation.account:
            raise Refused(Reason.UNKNOWN_STAKE)
        free, behind = books.native(row.account), books.staked(row.key)
        require_room(free, row.amount)
        books.put_stake(operation.stake, None)
        books.put_staked(row.key, Staked(behind.amount - row.amount, behind.rows - 1))
        books.put_native(row.account, free + row.amount)
