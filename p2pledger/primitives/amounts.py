"""Amounts of an asset as people write them: whole units with decimals. The ledger counts smallest units."""

from __future__ import annotations

import re
from typing import Final

from p2pledger.primitives.errors import InvalidInput

__all__ = ["amount_text", "units_of"]

_MOST_UNITS: Final = 2**64 - 1


def units_of(text: str, decimals: int, asset: str) -> int:
    """A decimal number as a count of smallest units. InvalidInput if it has more decimals than the asset."""
    # A comma only where it parts thousands: elsewhere it may be meant as the decimal point.
    if not re.fullmatch(r"(\d+|\d{1,3}(,\d{3})+)(\.\d+)?|\.\d+", text, re.ASCII):
        if re.match(r"[-−]", text):
            raise InvalidInput(f"{text} is not an amount: amounts are positive", code="bad_amount")
        raise InvalidInput(f"{text!r} is not an amount", hint="For example 100 or 1050.25", code="bad_amount")
    whole, _, fraction = text.replace(",", "").partition(".")
    if len(fraction) > decimals:
        raise InvalidInput(f"{asset} has {decimals} decimals, {text} has {len(fraction)}", code="bad_amount")
    digits = (whole + fraction.ljust(decimals, "0")).lstrip("0") or "0"
    if len(digits) > len(str(_MOST_UNITS)) or (units := int(digits)) > _MOST_UNITS:
        raise InvalidInput(f"{text} is more than 64 bits can hold", code="bad_amount")
    return units


def amount_text(units: int, decimals: int) -> str:
    """A count of smallest units as people write it."""
    if not decimals:
        return f"{units:,}"
    whole, fraction = divmod(units, 10**decimals)
    return f"{whole:,}.{fraction:0{decimals}d}"
