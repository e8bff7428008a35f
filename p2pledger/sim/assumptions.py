"""What each engine assumes of its world: one table, which scenarios obey and docs/consensus.md quotes.

A promise holds as long as its assumptions do. So a campaign draws worlds inside this table, and in them nothing may go
wrong; ``beyond`` draws worlds outside, and in them the engine may fail, but not silently: two ledgers must end with the
alarm *finality violated* at somebody honest.

Shares are of the weight that the engine counts: seats (simplex, dpos, poa), hash rate (pow), staked coin-age (pos).
Slots are ``slot_ms`` of the genesis; ``depth`` is its ``finality_depth``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["ASSUMPTIONS", "Assumption"]


@dataclass(frozen=True, slots=True)
class Assumption:
    """The worlds in which an engine keeps its promises."""

    engine: str
    share: tuple[int, int]
    """The adversary holds less than this share (numerator, denominator) of the weight."""
    partition_depths: tuple[int, int] | None
    """The longest partition as a share of ``depth`` slots; None: any partition is survived."""
    delay_slots: tuple[int, int] | None
    """The longest delay as a share of a slot; None: any delay is survived (progress waits for shorter ones)."""
    clock_slots: tuple[int, int] | None
    """How far honest clocks may differ, as a share of a slot; None: by any amount within ``max_drift_ms``."""
    rests: bool
    """Whether a network without work says nothing."""

    def adversaries(self, weight: int) -> int:
        """The greatest whole weight that is less than the share: floor((weight * numerator - 1) / denominator)."""
        numerator, denominator = self.share
        return (weight * numerator - 1) // denominator

    def longest_partition_ms(self, slot_ms: int, depth: int) -> int | None:
        if self.partition_depths is None:
            return None
        numerator, denominator = self.partition_depths
        return slot_ms * depth * numerator // denominator

    def longest_delay_ms(self, slot_ms: int) -> int | None:
        return None if self.delay_slots is None else slot_ms * self.delay_slots[0] // self.delay_slots[1]

    def widest_clocks_ms(self, slot_ms: int) -> int | None:
        return None if self.clock_slots is None else slot_ms * self.clock_slots[0] // self.clock_slots[1]


ASSUMPTIONS: Final[Mapping[str, Assumption]] = MappingProxyType(
    {
        item.engine: item
        for item in (
            Assumption("simplex", (1, 3), None, None, None, rests=True),
            Assumption("pow", (1, 4), (1, 4), (1, 4), (1, 2), rests=False),
            Assumption("pos", (1, 4), (1, 4), (1, 4), (1, 2), rests=False),
            Assumption("dpos", (1, 3), None, None, (1, 2), rests=False),
            Assumption("poa", (1, 3), None, None, (1, 2), rests=True),
        )
    }
)
"""engine -> what it assumes"""
