"""The blocks above the last final one, as a tree; below it there is only one chain, and that is in the archive.

An entry is *known* (its bytes are here), then perhaps *accepted* (a notarisation or finalisation names it, or in the
chain family its producer, proof and content were found right), then *executed* (its outcome is here), and at last
*final*. The root of the tree is the newest block that is final and executed. Branches that lose are dropped with the
versions of the state that hang on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from p2pledger.ledger.transition import Outcome
from p2pledger.primitives.blocks import Block

__all__ = ["Chain", "Entry"]

_MAX_KNOWN: Final = 4_096
"""Blocks in memory. There are that many only while a node that was away catches up; then guesses go first."""


@dataclass(slots=True)
class Entry:
    """A block above the last final one, and what is known of it."""

    block: Block
    accepted: bool = False
    final: bool = False
    executing: bool = False
    outcome: Outcome | None = None
    due_height: int = -1
    """The height of the newest block on its chain that did due work; -1 if none above the start did."""
    id: bytes = field(init=False)
    """The block's: the walks over the tree ask for it at every step."""
    digests: frozenset[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.id = self.block.id
        self.digests = frozenset(self.block.digests)
        if self.outcome is not None and self.outcome.due.cost:
            self.due_height = self.block.height

    @property
    def is_loaded(self) -> bool:
        """Whether the block changes the state: its roots stand in the next one, so that must come."""
        return bool(self.digests) or self.due_height == self.block.height


class Chain:
    """A tree of entries by id. ``root`` is final and executed; everything else hangs above it or waits for a parent."""

    def __init__(self, root: Block, outcome: Outcome) -> None:
        self.root = Entry(root, accepted=True, final=True, outcome=outcome)
        self._entries: dict[bytes, Entry] = {root.id: self.root}
        self._children: dict[bytes, list[Entry]] = {}
        self._changes = 0
        self._ordered: tuple[Entry, int, set[bytes]] | None = None
        """What ``ordered`` said last, for which entry, and after how many changes of the tree."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, block_id: bytes) -> Entry | None:
        return self._entries.get(block_id)

    def add(self, block: Block) -> Entry | None:
        """The entry of a block; None if it is at or below the root, where nothing can be added any more."""
        entry = self._entries.get(block.id)
        if entry is None and block.height > self.root.block.height:
            if len(self._entries) >= _MAX_KNOWN:
                self._forget_a_guess()
            self._changes += 1
            entry = self._entries[block.id] = Entry(block)
            self._children.setdefault(block.header.parent, []).append(entry)
        return entry

    def parent(self, entry: Entry) -> Entry | None:
        return self._entries.get(entry.block.header.parent)

    def children(self, entry: Entry) -> Sequence[Entry]:
        return self._children.get(entry.id, ())

    def ancestry(self, entry: Entry) -> Iterator[Entry]:
        """The entry and its ancestors above the root; it ends early where an ancestor is not known."""
        current: Entry | None = entry
        while current is not None and current is not self.root:
            yield current
            current = self.parent(current)

    def orders(self, entry: Entry, digest: bytes) -> bool:
        """Whether the entry or an ancestor above the root orders this batch."""
        return any(digest in ancestor.digests for ancestor in self.ancestry(entry))

    def ordered(self, entry: Entry) -> set[bytes]:
        """All batches that the entry or an ancestor above the root orders. Not to be changed by the caller."""
        if self._ordered is None or self._ordered[0] is not entry or self._ordered[1] != self._changes:
            digests: set[bytes] = set()
            for ancestor in self.ancestry(entry):
                digests |= ancestor.digests
            self._ordered = (entry, self._changes, digests)
        return self._ordered[2]

    def fork(self, old: Entry, new: Entry) -> tuple[list[Entry], list[Entry]]:
        """What a move from one entry to another leaves, newest first, and what it joins, oldest first."""
        joined = list(self.ancestry(new))
        on_new = {entry.id for entry in joined}
        left = []
        for entry in self.ancestry(old):
            if entry.id in on_new:
                break
            left.append(entry)
        common = left[-1].block.header.parent if left else old.id
        kept = next((at for at, entry in enumerate(joined) if entry.id == common), len(joined))
        return left, joined[:kept][::-1]

    def names(self, digest: bytes) -> bool:
        """Whether any block up here, on whatever branch, orders this batch."""
        return any(digest in entry.digests for entry in self._entries.values() if entry is not self.root)

    def needs(self, digest: bytes) -> bool:
        """Whether an accepted block above the root orders this batch."""
        return any(entry.accepted and digest in entry.digests for entry in self._entries.values())

    def executed(self, entry: Entry, outcome: Outcome) -> None:
        """This entry, whose parent is executed, has been executed."""
        parent = self.parent(entry)
        entry.executing = False
        entry.outcome = outcome
        entry.due_height = entry.block.height if outcome.due.cost else -1 if parent is None else parent.due_height

    def ready(self) -> list[Entry]:
        """Accepted entries that wait for execution and whose parent is executed, from the root up."""
        waiting = []
        executed = [self.root]
        children = self._children
        while executed:
            for child in children.get(executed.pop().id, ()):
                if child.outcome is not None:
                    executed.append(child)
                elif child.accepted and not child.executing:
                    waiting.append(child)
        return waiting

    def next_final(self) -> Entry | None:
        """The child of the root that is final and executed, if it is there."""
        for child in self._children.get(self.root.id, ()):
            if child.final and child.outcome is not None:
                return child
        return None

    def advance(self, entry: Entry) -> None:
        """Make a final, executed child of the root the new root; drop the branches that lost."""
        assert entry.final
        assert entry.outcome is not None
        assert entry.block.header.parent == self.root.id
        self._changes += 1
        losers = [other for other in self.children(self.root) if other is not entry]
        del self._entries[self.root.id]
        del self._children[self.root.id]
        self.root = entry
        while losers:
            loser = losers.pop()
            losers += self._children.pop(loser.id, [])
            del self._entries[loser.id]
        height = entry.block.height
        for stranger in [other for other in self._entries.values() if other.block.height <= height]:
            if stranger is not entry:  # its parent never came
                self._drop(stranger)

    def let_go(self, block_id: bytes) -> None:
        """Forget a block that nobody follows; those above it, if there are any, are let go with it by the caller."""
        entry = self._entries.get(block_id)
        if entry is not None and not entry.final:
            self._drop(entry)

    def _forget_a_guess(self) -> None:
        for entry in self._entries.values():
            if not entry.accepted:
                self._drop(entry)
                return

    def _drop(self, entry: Entry) -> None:
        self._changes += 1
        del self._entries[entry.id]
        siblings = self._children[entry.block.header.parent]
        siblings.remove(entry)
        if not siblings:
            del self._children[entry.block.header.parent]
