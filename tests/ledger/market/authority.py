"""Orders for the tests: by the regulator, approved by the court, each with a salt of its own."""

from __future__ import annotations

import itertools
from typing import Any

from p2pledger.primitives.market.orders import Order, Power
from tests.ledger.market.market_world import account

_SALTS = itertools.count(1)


def by_authority(*, power: Power, authority: str = "regulator", approver: str = "court", **terms: Any) -> Order:
    """An order; signed by authority and approver."""
    salt = next(_SALTS).to_bytes(16, "big")
    return Order(account(authority), account(approver), salt, power, **terms)


def release(order: Order, **terms: Any) -> Order:
    """What lifts it."""
    return by_authority(power=Power.RELEASE, lifts=order.id, **terms)
