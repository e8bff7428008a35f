"""What the four ways to win a slot have in common: the questions that the chain engine asks a rule.

The engine (``chain.py``) keeps the tree of blocks and knows nothing of work, stake or turns; a rule knows nothing of
trees. Each rule stands in a file of its own with its theory on top: ``pow.py``, ``pos.py``, ``dpos.py``, ``poa.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from p2pledger.consensus.engine import BlockRef
from p2pledger.consensus.standing import Standing
from p2pledger.primitives.blocks import Header
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.validators import quorum_of

__all__ = ["Clock", "Members", "Past", "Rule", "Turn"]


@dataclass(frozen=True, slots=True)
class Clock:
    """Slots of ``slot_ms``, counted from the genesis time."""

    genesis_time_ms: int
    slot_ms: int

    def slot(self, time_ms: int) -> int:
        """The slot of a time; negative before the genesis."""
        return (time_ms - self.genesis_time_ms) // self.slot_ms

    def start_ms(self, slot: int) -> int:
        return self.genesis_time_ms + slot * self.slot_ms


@dataclass(frozen=True, slots=True)
class Members:
    """Who confirms blocks, and with which weight: (key, weight), sorted by key."""

    seats: tuple[tuple[bytes, int], ...]

    @property
    def quorum(self) -> int:
        return quorum_of(sum(weight for _, weight in self.seats))


@dataclass(frozen=True, slots=True)
class Turn:
    """A slot in which a key may produce, from which time on, and what proves it (as far as it is known so early)."""

    slot: int
    at_ms: int
    proof: bytes = b""


@dataclass(frozen=True, slots=True)
class Past:
    """A final block, and what the rule has noted down about it (``Rule.note``) to judge chains that leave it out."""

    ref: BlockRef
    note: object


class Rule(Protocol):
    """One way to win a slot. All methods are pure; ``standing`` is always the rule's own kind."""

    slotted: bool
    """Whether views are slots of the clock. Otherwise they are heights."""
    ranged: bool
    """Whether blocks confirm ranges of heights, so that finality comes from confirmations and not from depth."""
    rests: bool
    """Whether no blocks are made while there is nothing to do."""

    def form(self, header: Header) -> str | None:
        """The reason why the proof of a header cannot be right whatever the state is, or None."""
        ...

    def judge(self, header: Header, parent: BlockRef, standing: Standing) -> int | str:
        """The weight of a block on an executed parent, or the reason why it may not stand there."""
        ...

    def turn(self, standing: Standing, parent: BlockRef, key: bytes, slot: int, now_ms: int) -> Turn | None:
        """The next turn of a key on ``parent``, in ``slot`` or later; None if there is none soon."""
        ...

    def prove(self, standing: Standing, turn: Turn, parent: BlockRef, confirm_from: int, keypair: Keypair) -> bytes:
        """The proof of a block made in this turn. ``confirm_from`` concerns rules that confirm ranges."""
        ...

    def confirms(self, turn: Turn, standing: Standing, key: bytes) -> bool:
        """Whether a block made in this turn may confirm anything."""
        ...

    def confirm_from(self, header: Header) -> int:
        """From which height up to its own the block confirms; its height + 1 where it confirms nothing."""
        ...

    def members(self, standing: Standing) -> Members:
        """Who confirms the blocks above."""
        ...

    def note(self, header: Header | None, standing: Standing, before: Standing | None) -> object:
        """What to remember of a block when it becomes final. ``before`` is the standing at its parent, if known."""
        ...

    def usual_weight(self, note: object) -> int | None:
        """What a block above the noted one weighs, if that can be told without its state."""
        ...

    def rival_weight(self, branch: Sequence[Header], past: Sequence[Past], standing: Standing) -> int:
        """The weight of a chain that leaves ours above ``past[0]``, told from its headers alone.

        The states on it are not known here, so a rule counts only what no small minority can make up. ``past`` is our
        own chain from there up to its head, and ``standing`` the one at that head.
        """
        ...
