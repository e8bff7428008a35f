"""Movement: the only way in which units change hands or bucket.

A *movement* says what moves, from which spot of whose holding to which spot of whose, and why. ``move`` checks that it
can be (amount, bucket, room), asks the guards whether it may be, writes it, and tells the guards that it was. A rule
that moves units anywhere calls ``move``; only there are rows of HOLDINGS, LOCKS and ENCUMBRANCES written.

The *cause* decides who is asked:

    cause         what it is                                          asked                    sums
    OWNER         a new use that somebody decided upon                every guard              -
    SETTLEMENT    what an irrevocable instruction promised            guards of orders alone   -
    RETURN        back to the owner's free units                      guards of orders alone   -
    ORDER         by an order of authority                            nobody                   -
    CREATION      units come into being (no source)                   every guard, supply      issued grows
    DESTRUCTION   units cease to be (no target)                       every guard, supply      redeemed grows
    ARRIVAL       units come from another register (no source)        every guard              FLOWS in grows
    DEPARTURE     units go to another register (no target)            every guard              FLOWS out grows

Every guard whose flags match is told of every movement, whatever its cause. ``leaving`` is asked for the source, and
``entering`` for the target where that is another account than the source.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from p2pledger.ledger.books import Books
from p2pledger.ledger.market.buckets import FREE_SPOT, Spot, put_into, require_in, take_from
from p2pledger.ledger.rule import Place, require_account, require_amount, require_asset, require_room
from p2pledger.ledger.tables import AccountFlag, AssetFlag, Flow

__all__ = ["Cause", "Movement", "move"]


class Cause(Enum):
    """Why units move."""

    OWNER = "owner"
    SETTLEMENT = "settlement"
    RETURN = "return"
    ORDER = "order"
    CREATION = "creation"
    DESTRUCTION = "destruction"
    ARRIVAL = "arrival"
    DEPARTURE = "departure"


@dataclass(frozen=True, slots=True)
class Movement:
    """``source`` None: units come into being or arrive; ``target`` None: they cease to be or depart.

    ``operation`` is the code of the operation that moves them; 0 where the ledger does so by itself (due work).
    """

    asset: bytes
    source: bytes | None
    source_spot: Spot
    target: bytes | None
    target_spot: Spot
    amount: int
    cause: Cause
    operation: int

    def __post_init__(self) -> None:
        assert (self.source is None) == (self.cause in _WITHOUT_SOURCE), "only what comes into being has no source"
        assert (self.target is None) == (self.cause in _WITHOUT_TARGET), "only what ceases to be has no target"
        assert self.source != self.target or self.source_spot != self.target_spot, "from a spot to itself"
        if self.cause is Cause.RETURN:
            assert self.target == self.source, "a return goes to the owner"
            assert self.target_spot == FREE_SPOT, "a return goes to the free units"


_WITHOUT_SOURCE: Final = frozenset({Cause.CREATION, Cause.ARRIVAL})
_WITHOUT_TARGET: Final = frozenset({Cause.DESTRUCTION, Cause.DEPARTURE})
_ORDERS_ONLY: Final = frozenset({Cause.SETTLEMENT, Cause.RETURN})


def move(books: Books, place: Place, movement: Movement) -> None:
    """Moves units, or refuses, in this order.

    ``zero_amount``; ``unknown_account`` (of the target), ``unknown_asset``; ``insufficient_free``,
    ``insufficient_locked`` or ``insufficient_encumbered``; ``overflow`` of the asset's sums and of the target's
    holding; then what the guards say: of supply, for the source, for the target. A refusal leaves the books as they
    were only because a transaction that fails is forgotten as a whole.
    """
    # Here and not above: guards live beside the rules of their domain, and those move units themselves.
    from p2pledger.ledger.market.guards import GUARDS, SUPPLY_GUARDS

    asset, source, target, amount, cause = (
        movement.asset,
        movement.source,
        movement.target,
        movement.amount,
        movement.cause,
    )
    require_amount(amount)
    account_flags = 0
    if target is not None:
        account_flags = require_account(books, target).flags
    row = require_asset(books, asset)
    if source is not None and source != target:
        owner = books.account(source)
        account_flags |= 0 if owner is None else owner.flags

    guards = [guard for guard in GUARDS if guard.asset_flags & row.flags or guard.account_flags & account_flags]
    if cause is Cause.ORDER:
        asked = []
    elif cause in _ORDERS_ONLY:
        asked = [
            guard
            for guard in guards
            if guard.asset_flags & AssetFlag.ORDERED or guard.account_flags & AccountFlag.ORDERED
        ]
    else:
        asked = guards

    # What cannot be is refused before what may not be.
    if source is not None:
        require_in(books, asset, source, movement.source_spot, amount)
    sums, flow = row, Flow()
    if source is None or target is None:
        flow = books.row(Flow, asset) or flow
    before = flow
    if source is None:
        # What a register holds of an asset stays below 2^64, so that no sum of holdings of it, of whomever, exceeds
        # that; and what has a taker when it is reserved has room for him when it settles.
        require_room(row.circulating + flow.arrived - flow.departed, amount)
    if cause is Cause.CREATION:
        require_room(row.issued, amount)
        sums = replace(row, issued=row.issued + amount)
    elif cause is Cause.DESTRUCTION:
        require_room(row.redeemed, amount)
        sums = replace(row, redeemed=row.redeemed + amount)
    elif cause is Cause.ARRIVAL or cause is Cause.DEPARTURE:
        if cause is Cause.ARRIVAL:
            require_room(flow.arrived, amount)
            flow = replace(flow, arrived=flow.arrived + amount)
        else:
            require_room(flow.departed, amount)
            flow = replace(flow, departed=flow.departed + amount)
    if target is not None and source != target:
        require_room(books.holding(asset, target).total, amount)

    # The guards judge the books as they were before the movement.
    if cause in (Cause.CREATION, Cause.DESTRUCTION):
        for supply_guard in SUPPLY_GUARDS:
            supply_guard.judge(books, place, movement)
    if source is not None:
        for guard in asked:
            guard.leaving(books, place, movement)
    if target is not None and source != target:
        for guard in asked:
            guard.entering(books, place, movement)

    if source is not None:
        take_from(books, asset, source, movement.source_spot, amount)
    if target is not None:
        put_into(books, asset, target, movement.target_spot, amount)
    if sums is not row:
        books.put_asset(asset, sums)
    if flow is not before:
        books.put(Flow, asset, flow)
    for guard in guards:
        guard.moved(books, place, movement)
