"""What a chain engine may know of the state after a block: who may build on it, and nothing else.

Engines never see accounts. The node reads these values out of the state of an *executed* block and hands them in when
it is asked (``ask``). They are frozen; their functions are pure readers of that one state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p2pledger.primitives.validators import Validators

__all__ = ["Ask", "DposStanding", "PoaStanding", "PosStanding", "PowStanding", "Stake", "Standing"]


@dataclass(frozen=True, slots=True)
class Stake:
    """A stake row: so many units since that height, producing with that key (32 bytes)."""

    amount: int
    since_height: int
    key: bytes


@dataclass(frozen=True, slots=True)
class PowStanding:
    """``target``: the greatest hash, as a 256-bit number, that wins the block above."""

    target: int


@dataclass(frozen=True, slots=True)
class PosStanding:
    """``base_target`` for each unit of coin-age, and the modifier (32 bytes) that the kernels of the block above hash.

    ``stake`` finds a row by its identifier (32 bytes), ``stakes_of`` all rows of a key, in the order of identifiers.
    """

    base_target: int
    modifier: bytes
    coin_age_cap: int
    stake: Callable[[bytes], Stake | None]
    stakes_of: Callable[[bytes], tuple[tuple[bytes, Stake], ...]]


@dataclass(frozen=True, slots=True)
class DposStanding:
    """``delegates``: the keys, sorted, that are active at the block above.

    ``producer`` names the delegate of a later slot. ``reveal_due`` gives, for a key and a later slot of its own, the
    commitment (32 bytes) that the key has to open there, None where nothing is due.
    """

    delegates: tuple[bytes, ...]
    producer: Callable[[int], bytes]
    reveal_due: Callable[[bytes, int], bytes | None]


@dataclass(frozen=True, slots=True)
class PoaStanding:
    """The authorities, without those that evidence has excluded."""

    validators: Validators


Standing = PowStanding | PosStanding | DposStanding | PoaStanding
Ask = Callable[[bytes], Standing | None]
"""The standing after an executed block, by its id; None: not executed (yet), or not known any more."""
