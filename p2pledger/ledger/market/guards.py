"""Guards: who is asked before units move, and told when they have.

A guard judges the movements of flagged rows: it is asked when one of its flags is set on the asset, or on the account
of either side. Plain rows have no flags, meet no guard, and stay on the bulk path. Each domain of the market has its
guards beside its rules; here they are gathered, in the order in which they are asked.

A *supply guard* is asked of every creation and destruction, whatever the flags are: those are never in the bulk path.
"""

from __future__ import annotations

from typing import Final, Protocol

from p2pledger.ledger.books import Books
from p2pledger.ledger.market.holders import HolderGuard
from p2pledger.ledger.market.instruments import InstrumentGuard, IssueGuard
from p2pledger.ledger.market.money import MONEY_GUARD, MONEY_SUPPLY_GUARD
from p2pledger.ledger.market.movement import Movement
from p2pledger.ledger.market.omnibus import OmnibusGuard
from p2pledger.ledger.market.order_guard import ORDER_GUARD
from p2pledger.ledger.market.permissions import PermissionGuard
from p2pledger.ledger.rule import Place

__all__ = ["GUARDS", "SUPPLY_GUARDS", "Guard", "SupplyGuard"]


class Guard(Protocol):
    """Asked where the asset has one of ``asset_flags``, or an account of either side one of ``account_flags``.

    ``leaving`` and ``entering`` raise Refused, with the name of the rule; the books are as they were before the
    movement. ``moved`` hears of it when it is done: it keeps counters, or moves on what has come in; it must not
    refuse.
    """

    @property
    def asset_flags(self) -> int: ...

    @property
    def account_flags(self) -> int: ...

    def leaving(self, books: Books, place: Place, movement: Movement, /) -> None: ...

    def entering(self, books: Books, place: Place, movement: Movement, /) -> None: ...

    def moved(self, books: Books, place: Place, movement: Movement, /) -> None: ...


class SupplyGuard(Protocol):
    """Asked about every creation and destruction. Raises Refused, with the name of the rule."""

    def judge(self, books: Books, place: Place, movement: Movement, /) -> None: ...


GUARDS: Final[tuple[Guard, ...]] = (
    InstrumentGuard(),
    PermissionGuard(),
    OmnibusGuard(),
    HolderGuard(),
    MONEY_GUARD,
    ORDER_GUARD,
)
"""That of omnibus accounts stands before that of holders: it hands to the house what the house loses to an order. That
of orders stands last: when it is told, it may move on what has come in, and the others have counted by then."""

SUPPLY_GUARDS: Final[tuple[SupplyGuard, ...]] = (IssueGuard(), MONEY_SUPPLY_GUARD)
