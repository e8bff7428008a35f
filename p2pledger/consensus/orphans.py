"""Blocks that cannot be judged yet, because an ancestor is missing or not executed: bounded by bytes, and per sender.

Anybody can seal blocks that lead nowhere. So each sender has a share, and a sender that exceeds it loses its highest
block: what lies lowest links up first, and what is dropped can be had again. When all is full the sender who holds
most loses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pledger.primitives.blocks import Block

__all__ = ["Orphan", "Orphans"]

_HEADER_BYTES: Final = 1_024
"""What a block without digests takes in memory, about."""
_DIGEST_BYTES: Final = 80


@dataclass(frozen=True, slots=True)
class Orphan:
    block: Block
    sender: bytes

    @property
    def size_bytes(self) -> int:
        """An estimate of the memory that it takes."""
        return _HEADER_BYTES + len(self.block.header.proof) + _DIGEST_BYTES * len(self.block.digests)


class Orphans:
    """Blocks by id and by parent. At most ``total_bytes``, of which ``sender_bytes`` from one sender."""

    def __init__(self, total_bytes: int, sender_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._sender_bytes = sender_bytes
        self._held: dict[bytes, Orphan] = {}
        self._by_parent: dict[bytes, dict[bytes, None]] = {}
        self._by_sender: dict[bytes, dict[bytes, None]] = {}
        self._bytes_of: dict[bytes, int] = {}
        self.size_bytes = 0

    def __contains__(self, name: bytes) -> bool:
        return name in self._held

    def __len__(self) -> int:
        return len(self._held)

    def add(self, block: Block, sender: bytes) -> int:
        """Keeps a block that is not held yet. Returns how many were dropped for it, perhaps itself."""
        orphan = Orphan(block, sender)
        self._held[block.id] = orphan
        self._by_parent.setdefault(block.header.parent, {})[block.id] = None
        self._by_sender.setdefault(sender, {})[block.id] = None
        self._bytes_of[sender] = self._bytes_of.get(sender, 0) + orphan.size_bytes
        self.size_bytes += orphan.size_bytes
        dropped = 0
        while self._bytes_of.get(sender, 0) > self._sender_bytes:
            self._drop_highest(sender)
            dropped += 1
        while self.size_bytes > self._total_bytes:
            self._drop_highest(max(self._bytes_of, key=lambda other: (self._bytes_of[other], other)))
            dropped += 1
        return dropped

    def get(self, name: bytes) -> Orphan | None:
        return self._held.get(name)

    def pop(self, name: bytes) -> Orphan:
        orphan = self._held.pop(name)
        for index, key in ((self._by_parent, orphan.block.header.parent), (self._by_sender, orphan.sender)):
            del index[key][name]
            if not index[key]:
                del index[key]
        self._bytes_of[orphan.sender] -= orphan.size_bytes
        if not self._bytes_of[orphan.sender]:
            del self._bytes_of[orphan.sender]
        self.size_bytes -= orphan.size_bytes
        return orphan

    def children(self, parent: bytes) -> list[Orphan]:
        """Those that wait for this block, in the order in which they came."""
        return [self._held[name] for name in self._by_parent.get(parent, ())]

    def parents(self) -> list[bytes]:
        """All that somebody waits for; some of them may be held here too."""
        return list(self._by_parent)

    def drop_up_to(self, height: int) -> None:
        """Drops all blocks at or below a height."""
        for name in [name for name, orphan in self._held.items() if orphan.block.height <= height]:
            self.pop(name)

    def _drop_highest(self, sender: bytes) -> None:
        # Of equally high ones the newest: a dict keeps the order in which they came.
        self.pop(max(reversed(self._by_sender[sender]), key=lambda name: self._held[name].block.height))
