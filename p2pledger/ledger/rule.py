"""What the rules of all operations share: their shape, their place, and how they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from p2pledger.ledger.books import Books
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.tables import Account, Asset
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.codec import U64_MAX
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.reasons import MOST_RULE_BYTES, Reason, sentence_of

__all__ = [
    "Place",
    "Refused",
    "Rule",
    "require_account",
    "require_amount",
    "require_asset",
    "require_native",
    "require_room",
    "shortened",
]

OperationT = TypeVar("OperationT", bound=tx.Operation, contravariant=True)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a transaction is executed, beside the state: all that the rules may depend on."""

    height: int
    time_ms: int
    spec: Chainspec


class Refused(InvalidInput):
    """An operation breaks a rule. Caught where the transaction is executed, and told by its receipt.

    ``rule`` names what stands in the way, where that is more than the operation itself: a permission, an order of
    authority, the rules about the holders of an asset, a calendar. It goes with the receipt, cut to 64 bytes.
    """

    def __init__(self, reason: Reason, rule: str = "") -> None:
        super().__init__(sentence_of(reason), code=reason.title, why=rule)
        self.reason = reason
        self.rule = shortened(rule)


def shortened(rule: str) -> str:
    """The name of a rule in at most 64 bytes of UTF-8."""
    data = rule.encode()
    return rule if len(data) <= MOST_RULE_BYTES else data[:MOST_RULE_BYTES].decode("utf-8", "ignore")


class Rule(Protocol[OperationT]):
    """What every operation has: who must sign it, and what it does."""

    def must_sign(self, books: Books, operation: OperationT, /) -> Iterator[bytes]: ...

    def execute(self, books: Books, operation: OperationT, place: Place, /) -> None: ...


def require_account(books: Books, account: bytes) -> Account:
    """The account, ``unknown_account`` otherwise. What its flags forbid is the guards' to judge."""
    row = books.account(account)
    if row is None:
        raise Refused(Reason.UNKNOWN_ACCOUNT)
    return row


def require_asset(books: Books, asset: bytes) -> Asset:
    """The asset, ``unknown_asset`` otherwise. What its flags forbid is the guards' to judge."""
    row = books.asset(asset)
    if row is None:
        raise Refused(Reason.UNKNOWN_ASSET)
    return row


def require_amount(amount: int) -> None:
    if amount == 0:
        raise Refused(Reason.ZERO_AMOUNT)


def require_room(total: int, amount: int) -> None:
    if total + amount > U64_MAX:
        raise Refused(Reason.OVERFLOW)


def require_native(books: Books, account: bytes, amount: int) -> int:
    """The native money of the account, which is at least the amount."""
    free = books.native(account)
    if free < amount:
        raise Refused(Reason.INSUFFICIENT_NATIVE)
    return free
