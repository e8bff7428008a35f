"""Proof of authority: the validators of the genesis take turns; whoever contradicted himself is left out.

There is nothing to keep in the state. The exclusion counts from the first block above the one that holds the report.
Those who are left are never none: were all of them on record, the network would have nobody to go on, so all stay.
"""

from __future__ import annotations

from p2pledger.ledger.books import Readable, is_reported, validators_in_force
from p2pledger.primitives.validators import Validators

__all__ = ["authorities"]


def authorities(state: Readable) -> Validators:
    """Those who may build above this state, in turn."""
    seated = validators_in_force(state, 0)
    left = tuple(seat for seat in seated.members if not is_reported(state, seat.key))
    return Validators(0, left) if left else seated
