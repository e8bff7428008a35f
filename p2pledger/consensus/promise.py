"""What a producer has bound itself to: written to disk before the block that it seals leaves the node.

A promise sums up all before it, so the newest one says all: no second block in ``slot`` or earlier, no height up to
``confirmed_to`` confirmed again, and ``lock`` not left but for a chain with a higher justified block (see
``confirmation.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from p2pledger.primitives.codec import Fields, decode, encode
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.records import SEAL_KIND

__all__ = ["SEAL", "Promise"]

SEAL: Final = SEAL_KIND
"""The kind of a vote record that holds a promise."""
_MAX_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Promise:
    """``slot`` is -1 where nothing was sealed yet. ``block`` is the sealed one; ``lock`` a justified block."""

    slot: int = -1
    confirmed_to: int = 0
    lock_height: int = 0
    lock: bytes = ZERO_HASH
    block: bytes = ZERO_HASH

    def encode(self) -> bytes:
        """Only of promises that were made: ``slot`` is not negative."""
        return encode((1, self.slot, self.confirmed_to, self.lock_height, self.lock, self.block))

    @classmethod
    def decode(cls, data: bytes) -> Promise:
        """PeerFault for bad form."""
        fields = Fields(decode(data, limit_bytes=_MAX_BYTES, what="promise"), what="promise", count=6, version=1)
        return cls(
            fields.integer("slot"),
            fields.integer("confirmed_to"),
            fields.integer("lock_height"),
            fields.binary("lock", 32),
            fields.binary("block", 32),
        )

    @classmethod
    def sum(cls, promises: Iterable[Promise]) -> Promise:
        """What all of them, in any order, bind to."""
        total = cls()
        for promise in promises:
            newest = promise if promise.slot > total.slot else total
            locked = promise if promise.lock_height > total.lock_height else total
            confirmed_to = max(promise.confirmed_to, total.confirmed_to)
            total = cls(newest.slot, confirmed_to, locked.lock_height, locked.lock, newest.block)
        return total
