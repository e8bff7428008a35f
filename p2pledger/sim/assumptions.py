"""What each engine assumes of its world: one table, which scenarios obey and docs/consensus.md quotes.

A promise holds as long as its assumptions do. So a campaign draws worlds inside this table, and in them nothing may go
wrong; ``beyond`` draws worlds outside, and in them the engine may fail, but not silently: two ledgers must end with the
alarm *finality violated* at somebody honest.

Shares are of the weight that the engine counts: seats (simplex, dpos, poa), hash rate (pow), staked coin-age (pos).
The interval is how often a block should come: ``slot_ms`` of the genesis, and under pos so many slots as win one block
on average. ``depth`` is the ``finality_depth`` of the genesis.
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
    """The longest partition as a share of ``depth`` intervals; None: any partition is survived."""
    delay: tuple[int, int] | None
    """The longest delay as a share of an interval; None: any is survived (progress waits for shorter ones)."""
    clocks: tuple[int, int] | None
    """How far honest clocks may differ, as a share of an interval; None: by any amount within ``max_drift_ms``."""
    rests: bool
    """Whether a network without work says nothing."""
    is_final_at_once: bool
    """Whether a block is final some messages after it was made, and not only ``depth`` blocks later."""

    def adversaries(self, weight: int) -> int:
        """The greatest whole weight that is less than the share: floor((weight * numerator - 1) / denominator)."""
        numerator, denominator = self.share
        return (weight * numerator - 1) // denominator

    def longest_partition_ms(self, interval_ms: int, depth: int) -> int | None:
        return _share_of(self.partition_depths, interval_ms * depth)

    def longest_delay_ms(self, interval_ms: int) -> int | None:
        return _share_of(self.delay, interval_ms)

    def widest_clocks_ms(self, interval_ms: int) -> int | None:
        return _share_of(self.clocks, interval_ms)


def _share_of(share: tuple[int, int] | None, whole: int) -> int | None:
    return None if share is None else whole * share[0] // share[1]


ASSUMPTIONS: Final[Mapping[str, Assumption]] = MappingProxyType(
    {
        item.engine: item
        for item in (
            Assumption("simplex", (1, 3), None, None, None, rests=True, is_final_at_once=True),
            Assumption("pow", (1, 4), (1, 4), (1, 4), (1, 2), rests=False, is_final_at_once=False),
            Assumption("pos", (1, 4), (1, 4), (1, 4), (1, 2), rests=False, is_final_at_once=False),
            Assumption("dpos", (1, 3), None, None, (1, 2), rests=False, is_final_at_once=False),
            Assumption("poa", (1, 3), None, None, (1, 2), rests=True, is_final_at_once=False),
        )
    }
)
"""engine -> what it assumes"""
