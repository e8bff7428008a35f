"""The agenda: does what is due, first in a block, within a budget.

    while the first item's time is not after the block's, and the budget is not spent:
        take it out of the queue; let its handler do it in books of its own; add its cost

The first item always runs, the last may exceed the budget, and the rest carries over to the next block. What a handler
puts into the queue for a time that has come is done in the same block, if the budget lasts.

A handler settles, expires or returns, and writes what came of it, success or failure, into its own object: nobody else
would hear of it. It therefore never refuses. One that does is a fault of this program: the item's books are dropped,
and with them everything that it did; the queue goes on, and the node says so in its log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from p2pledger import core
from p2pledger.ledger.books import Books
from p2pledger.ledger.market.due import DueItem, DueKind
from p2pledger.ledger.market.escrow import expire_escrow
from p2pledger.ledger.market.instructions import expire_instruction
from p2pledger.ledger.market.offers import expire_offer
from p2pledger.ledger.market.order_rules import expire_order
from p2pledger.ledger.market.payments import retry_payment
from p2pledger.ledger.market.settlement import settle_due
from p2pledger.ledger.rule import Place, Refused
from p2pledger.ledger.tables import Table

__all__ = ["HANDLERS", "NOTHING_DUE", "DueDone", "Handler", "run_due"]


class Handler(Protocol):
    """Does one item, and says what it cost: settled legs, at least 1."""

    def __call__(self, books: Books, place: Place, reference: bytes, /) -> int: ...


HANDLERS: Final[Mapping[DueKind, Handler]] = MappingProxyType(
    {
        DueKind.SETTLE: settle_due,
        DueKind.RECYCLE: settle_due,
        DueKind.OFFER_EXPIRY: expire_offer,
        DueKind.ESCROW_EXPIRY: expire_escrow,
        DueKind.ORDER_EXPIRY: expire_order,
        DueKind.PAYMENT_RETRY: retry_payment,
        DueKind.INSTRUCTION_EXPIRY: expire_instruction,
    }
)
"""Who does what. Each domain adds its own."""


@dataclass(frozen=True, slots=True)
class DueDone:
    """What due work cost in a block, and the items whose handlers refused, which never happens."""

    cost: int
    dropped: tuple[DueItem, ...] = ()


NOTHING_DUE: Final = DueDone(0)


def run_due(branch: core.Branch, place: Place) -> DueDone:
    """Does what is due at the block's time."""
    budget = place.spec.parameters.due_per_block
    spent = 0
    dropped: list[DueItem] = []
    while spent < budget:
        page = branch.scan(Table.DUE, limit=1)
        if not page:
            break
        key = page[0][0]
        item = DueItem.of(key)
        if item.time_ms > place.time_ms:
            break
        branch.delete(Table.DUE, key)
        books = Books(branch)
        try:
            cost = HANDLERS[item.kind](books, place, item.reference)
        except Refused:
            cost = 1
            dropped.append(item)
        else:
            books.post(branch)
        spent += max(1, cost)
    return DueDone(spent, tuple(dropped))
