"""The chain that the node follows, and how it changed its mind.

The *head* is the newest executed block of that chain. Mostly it moves to a child. When another branch wins, the blocks
down to the last common one are *left* and others are *joined*: a reorganisation. Nothing of a ledger has to be undone,
for every block has its own version of the state; but what people were told about the left blocks is no longer so. What
was in them waits in its batches, which stay here until they are final, and is ordered again.

The last reorganisations are remembered, with the transactions that fell out, for whoever wants to know.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from p2pledger.node.chain import Chain, Entry

__all__ = ["Fork", "Head"]

_REMEMBERED: Final = 32
_REVERTED_IDS: Final = 512
"""Of one reorganisation; it must fit a message with the others."""


@dataclass(frozen=True, slots=True)
class Fork:
    """One reorganisation. ``height`` is the new head's; ``reverted`` are the transactions that are not on its chain
    (at most 512 of them), ``depth`` is the number of blocks that were left."""

    height: int
    old: bytes
    new: bytes
    ancestor: bytes
    reason: str
    depth: int
    reverted: tuple[bytes, ...]


class Head:
    """The newest executed block of the chain that is followed, and the last reorganisations, newest last."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.entry = chain.root
        self.reason = ""
        """Why this head: the words of the engine when it last moved."""
        self.forks: deque[Fork] = deque(maxlen=_REMEMBERED)
        self.forks_count = 0
        """Reorganisations since the node started."""

    def move(self, new: Entry, reason: str) -> tuple[list[Entry], list[Entry]]:
        """Follow the chain of this executed entry. Blocks left, newest first, and joined, oldest first."""
        assert new.outcome is not None
        old, self.entry, self.reason = self.entry, new, reason
        left, joined = self._chain.fork(old, new)
        if left:
            self.forks_count += 1
            kept = {identifier for entry in joined for identifier in _ids(entry)}
            gone = [identifier for entry in reversed(left) for identifier in _ids(entry) if identifier not in kept]
            ancestor = left[-1].block.header.parent
            self.forks.append(
                Fork(
                    new.block.height,
                    old.block.id,
                    new.block.id,
                    ancestor,
                    reason,
                    len(left),
                    tuple(dict.fromkeys(gone[:_REVERTED_IDS])),
                )
            )
        return left, joined


def _ids(entry: Entry) -> list[bytes]:
    """The transactions of an executed block."""
    assert entry.outcome is not None
    ids = entry.outcome.ids
    return [ids[at : at + 32] for at in range(0, len(ids), 32)]
