"""The blocks above the last final one, as a tree; below it there is only one chain, and that is in the archive.

An entry is *known* (its bytes are here), then perhaps *certified* (a notarisation or finalisation names it), then
*executed* (its outcome is here), and at last *final*. The root of the tree is the newest block that is final and
executed. Branches that lose are dropped with the versions of the state that hang on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from p2pledger.ledger.transition import Outcome
from p2pledger.primitives.blocks import Block

__all__ = ["Chain", "Entry"]

_MAX_KNOWN: Final = 4_096
"""Blocks in memory. More are only there while a node that was away catches up; then the oldest guesses go first."""


@dataclass(slots=True)
class Entry:
    """A block above the last final one, and what is known of it."""

    block: Block
    certified: bool = False
    final: bool = False
    executing: bool = False
    outcome: Outcome | None = None
    digests: frozenset[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.digests = frozenset(self.block.digests)


class Chain:
    """A tree of entries by id. ``root`` is final and executed; everything else hangs above it or waits for a parent."""

    def __init__(self, root: Block, outcome: Outcome) -> None:
        self.root = Entry(root, certified=True, final=True, outcome=outcome)
        self._entries: dict[bytes, Entry] = {root.id: self.root}

    def get(self, block_id: bytes) -> Entry | None:
        return self._entries.get(block_id)

    def add(self, block: Block) -> Entry | None:
        """The entry of a block; None if it is at or below the root, where nothing can be added any more."""
        entry = self._entries.get(block.id)
        if entry is None:
            if block.height <= self.root.block.height:
                return None
            if len(self._entries) >= _MAX_KNOWN:
                self._forget_a_guess()
            entry = self._entries[block.id] = Entry(block)
        return entry

    def _forget_a_guess(self) -> None:
        for block_id, entry in self._entries.items():
            if not entry.certified:
                del self._entries[block_id]
                return

    def parent(self, entry: Entry) -> Entry | None:
        return self._entries.get(entry.block.header.parent)

    def ancestry(self, entry: Entry) -> Iterator[Entry]:
        """The entry and its ancestors down to the root; it ends early where an ancestor is not known."""
        current: Entry | None = entry
        while current is not None and current is not self.root:
            yield current
            current = self.parent(current)

    def orders(self, entry: Entry, digest: bytes) -> bool:
        """Whether the entry or an ancestor above the root orders this batch."""
        return any(digest in ancestor.digests for ancestor in self.ancestry(entry))

    def descends_from_root(self, entry: Entry) -> bool:
        last = entry
        for ancestor in self.ancestry(entry):
            last = ancestor
        return last is self.root or self.parent(last) is self.root

    def ready(self) -> list[Entry]:
        """Certified entries that wait for execution and whose parent is executed."""
        waiting = []
        for entry in self._entries.values():
            if entry.certified and entry.outcome is None and not entry.executing:
                parent = self.parent(entry)
                if parent is not None and parent.outcome is not None:
                    waiting.append(entry)
        return waiting

    def next_final(self) -> Entry | None:
        """The child of the root that is final and executed, if it is there."""
        for entry in self._entries.values():
            if entry.final and entry.outcome is not None and entry.block.header.parent == self.root.block.id:
                return entry
        return None

    def advance(self, entry: Entry) -> None:
        """Make a final, executed child of the root the new root; drop the branches that lost."""
        assert entry.final and entry.outcome is not None and entry.block.header.parent == self.root.block.id
        self.root = entry
        height = entry.block.height
        for block_id, other in list(self._entries.items()):
            lost = other.block.height <= height or (other.block.height == height + 1 and self.parent(other) is None)
            if lost and other is not entry:
                del self._entries[block_id]
        # Children of dropped blocks at greater heights go too, or they would wait for ever.
        while orphans := [
            block_id
            for block_id, other in self._entries.items()
            if other is not entry and other.block.height == height + 1 and other.block.header.parent != entry.block.id
        ]:
            for block_id in orphans:
                del self._entries[block_id]

    def __len__(self) -> int:
        return len(self._entries)
