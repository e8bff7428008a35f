"""The buckets of a holding, by name: what a unit is doing. What they mean is said in ``ledger/market/buckets.py``."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Bucket"]


class Bucket(IntEnum):
    """The numbers stand in operations and in rows, and never change their meaning."""

    FREE = 0
    LOCKED = 1
    SETTLING = 2
    ESCROWED = 3
    PENDING = 4
