"""The operations of the securities market, by subject. Their forms: docs/operations.md."""

from __future__ import annotations

from typing import Final

from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.calendars import CALENDAR_OPERATIONS
from p2pledger.primitives.market.escrow import ESCROW_OPERATIONS
from p2pledger.primitives.market.instructions import INSTRUCTION_OPERATIONS
from p2pledger.primitives.market.instruments import INSTRUMENT_OPERATIONS
from p2pledger.primitives.market.links import LINK_OPERATIONS
from p2pledger.primitives.market.money import MONEY_OPERATIONS
from p2pledger.primitives.market.offers import OFFER_OPERATIONS
from p2pledger.primitives.market.orders import ORDER_OPERATIONS
from p2pledger.primitives.market.parties import PARTY_OPERATIONS

__all__ = ["MARKET_OPERATIONS"]

MARKET_OPERATIONS: Final[tuple[type[Operation], ...]] = (
    # Parties and instruments, from 32.
    *PARTY_OPERATIONS,
    *INSTRUMENT_OPERATIONS,
    # Instructions, offers, calendars and venues, from 50.
    *INSTRUCTION_OPERATIONS,
    *OFFER_OPERATIONS,
    *CALENDAR_OPERATIONS,
    # Money, payments and links between registers, from 65.
    *MONEY_OPERATIONS,
    *LINK_OPERATIONS,
    # Orders of authority and escrows, from 80.
    *ORDER_OPERATIONS,
    *ESCROW_OPERATIONS,
)
