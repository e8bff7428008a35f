"""What a node may read back from what it has made durable. The shell's store and the simulator's disk offer it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from p2pledger import core

__all__ = ["Archive", "EmptyArchive", "Recovery"]


class Archive(Protocol):
    """Reads of durable records. Absence is None; damage is the implementation's error and stops the node."""

    def batch(self, digest: bytes) -> bytes | None:
        """A signed batch."""
        ...

    def block(self, block_id: bytes) -> bytes | None:
        """A block, final or not."""
        ...

    def final_block(self, height: int) -> bytes | None:
        """The final block of a height."""
        ...

    def finalisation(self, height: int) -> bytes | None:
        """The finalisation certificate of the final block of exactly this height, if it has one of its own."""
        ...

    def receipts(self, height: int) -> bytes | None:
        """The outcome of a final block, 4 bytes a transaction."""
        ...


class EmptyArchive:
    """A disk that holds nothing, for tests and for nodes that keep everything in memory."""

    def batch(self, digest: bytes) -> bytes | None:
        return None

    def block(self, block_id: bytes) -> bytes | None:
        return None

    def final_block(self, height: int) -> bytes | None:
        return None

    def finalisation(self, height: int) -> bytes | None:
        return None

    def receipts(self, height: int) -> bytes | None:
        return None


@dataclass(frozen=True, slots=True)
class Recovery:
    """What the disk remembers when a node starts again. All bytes are canonical encodings.

    ``votes`` are the node's own; ``certificates`` those not superseded, with the newest finalisation; ``blocks`` those
    that are not final, parents first; ``batches`` the signed ones that no final block orders. ``may_vote`` is False
    where the vote log was lost: such a node only follows. ``state`` is a snapshot of ``state_height``; without one
    the final blocks are executed again from the genesis.
    """

    votes: tuple[bytes, ...] = ()
    certificates: tuple[bytes, ...] = ()
    blocks: tuple[bytes, ...] = ()
    batches: tuple[bytes, ...] = ()
    final_height: int = 0
    final_block: bytes = b""
    may_vote: bool = True
    state: core.Version | None = None
    state_height: int = 0
