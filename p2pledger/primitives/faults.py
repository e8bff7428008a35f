"""Faults that tests plant, to see that somebody notices.

All are False in production, and nothing but a constructor argument of the simulator or of a test ever sets one: no
setting, no environment, no message. A checker that finds none of these would find nothing else either
(``p2pledger.sim.plants``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["NO_FAULTS", "Faults"]


@dataclass(frozen=True, slots=True)
class Faults:
    """What is done wrong on purpose. For tests only."""

    accept_equivocation: bool = False
    """Simplex: a second proposal of one view replaces the first, and is voted for as well."""
    double_counted_signer: bool = False
    """A certificate may name a signer more than once, and counts it each time."""
    keep_coin_age: bool = False
    """Proof of stake: a stake that has produced a block keeps its coin-age."""
    forget_undo: bool = False
    """A reorganisation executes the first block with batches of the new branch on the state of the old head."""


NO_FAULTS: Final = Faults()
