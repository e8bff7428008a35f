"""The operations of the securities market, by subject. Their forms: docs/operations.md."""

from __future__ import annotations

from typing import Final

from p2pledger.primitives.forms import Operation

__all__ = ["MARKET_OPERATIONS"]

MARKET_OPERATIONS: Final[tuple[type[Operation], ...]] = (
    # Parties and instruments, from 32.
    # Calendars, instructions and offers, from 50.
    # Money, payments and links between registers, from 65.
    # Orders of authority and escrows, from 80.
)
