"""What a peer remembers of one session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from p2pledger.network.allowance import Allowance
from p2pledger.network.effects import CLIENT, Identity
from p2pledger.primitives.hashing import ZERO_HASH

__all__ = ["PeerSession"]

_KNOWN_BLOCKS: Final = 512


@dataclass(slots=True)
class PeerSession:
    """``final_height``, ``head_height`` and ``head`` are what the other end claims; a client claims nothing."""

    number: int
    identity: Identity
    final_height: int = 0
    head_height: int = 0
    head: bytes = ZERO_HASH
    has_spoken: bool = False
    """Whether it has claimed anything yet."""
    allowance: Allowance = field(default_factory=Allowance)
    _known: dict[bytes, None] = field(default_factory=dict)

    @property
    def key(self) -> bytes:
        return self.identity.node_key

    @property
    def is_client(self) -> bool:
        return self.identity.role == CLIENT

    def learns(self, block_id: bytes) -> bool:
        """The other end has this block now, from us or from elsewhere. False if that was known before."""
        if block_id in self._known:
            return False
        if len(self._known) >= _KNOWN_BLOCKS:
            del self._known[next(iter(self._known))]
        self._known[block_id] = None
        return True
