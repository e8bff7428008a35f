"""The constants of a network, fixed by its genesis and changed (later) only by vote.

Each has an identifier in table PARAMETERS. The limits nest: a transaction fits a batch, a batch fits a block.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from p2pledger.primitives.errors import BadConfiguration

__all__ = ["BATCH_OVERHEAD_BYTES", "MAY_BE_ZERO", "Parameters"]

BATCH_OVERHEAD_BYTES: Final = 160
"""What a signed batch holds at most beside its transactions."""
MAY_BE_ZERO: Final = frozenset({"least_fee", "block_reward", "halving_blocks"})
_MOST_BLOCK_BATCHES: Final = 1_900
"""A block of more digests cannot be decoded (``primitives/blocks.py``)."""

_MOST_EPOCH_SLOTS: Final = 16_384
_BOUNDS: Final = (
    ("max_operations", 65_535, "a receipt names an operation in 16 bits"),
    ("delegates", 1_024, "a round is worked out again for every block"),
    ("difficulty_window", 1_024, "the window is written anew with every block"),
    ("modifier_depth", 1_024, "the modifiers are written anew with every block"),
)
"""(parameter, the most that it may be, why)."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The order of the fields is the order of the identifiers (from 1) in table PARAMETERS and in the genesis."""

    replay_window: int = 10_000
    """Heights for which a transaction may be valid ahead, and is remembered."""
    max_operations: int = 256
    """Operations in one transaction."""
    max_signatures: int = 16
    """Signatures on one transaction."""
    max_transaction_bytes: int = 65_536
    max_batch_bytes: int = 262_144
    """A signed batch."""
    max_batch_signatures: int = 4_096
    """Transaction signatures in one batch: bounds the work of checking it."""
    block_bytes: int = 4_194_304
    """Block capacity: bytes of the batches that one block references."""
    max_block_batches: int = 1_024
    """Digests in one block."""
    max_drift_ms: int = 2_000
    """How far ahead of a voter's clock a block's time may be."""
    lane_bytes: int = 8_388_608
    """Bytes of one maker's batches that may be held and not yet final."""
    view_timeout_ms: int = 1_000
    """How long a view may take before it is nullified, when all is well."""
    view_timeout_cap_ms: int = 16_000
    """What the timeout may grow to after nullified views."""
    batch_delay_ms: int = 30
    """How long a node collects transactions at most while a batch of its own waits to be ordered."""
    block_interval_ms: int = 20
    """The least time between a block and its parent, so that small blocks do not eat the machine."""
    drop_after_heights: int = 2_000
    """A batch that is not ordered by then may be dropped, if it is also older than drop_after_ms."""
    drop_after_ms: int = 120_000
    slot_ms: int = 1_000
    """The length of a slot of pos, dpos and poa; under pow the time that a block should take."""
    finality_depth: int = 30
    """Under pow and pos a block is final once so many blocks stand above it."""
    epoch_blocks: int = 1_000
    """Heights for which one set of validators of simplex serves."""
    delegates: int = 21
    """Slots in one round of dpos, and delegates at most that serve in it."""
    epoch_rounds: int = 4
    """Rounds for which one set of delegates serves."""
    least_fee: int = 0
    """Native money for each operation of a transaction; 0 = free of charge."""
    block_reward: int = 0
    """Native money that the first blocks earn their proposers; 0 = none."""
    halving_blocks: int = 0
    """Heights after which the reward is halved; 0 = never."""
    coin_age_cap: int = 1_000
    """Heights up to which a stake ages."""
    modifier_depth: int = 10
    """Under pos the kernel of a block depends on the chain that many blocks below it."""
    initial_difficulty: int = 65_536
    """Hashes that the first blocks of pow take on average."""
    difficulty_window: int = 45
    """Blocks by which pow and pos adjust their difficulty."""
    due_per_block: int = 1_024
    """What due work may cost in one block: a settlement costs its legs, other work 1; the rest carries over."""

    def check(self) -> None:
        """BadConfiguration where limits contradict each other."""
        for item in fields(self):
            value = getattr(self, item.name)
            if type(value) is not int or not (item.name not in MAY_BE_ZERO) <= value < 2**63:
                kind = "an integer that is not negative" if item.name in MAY_BE_ZERO else "a positive integer"
                raise BadConfiguration(f"parameter {item.name} must be {kind}, not {value!r}")
        if not self.max_transaction_bytes + BATCH_OVERHEAD_BYTES <= self.max_batch_bytes <= self.block_bytes:
            raise BadConfiguration(
                "the limits do not nest",
                why=f"max_transaction_bytes + {BATCH_OVERHEAD_BYTES} <= max_batch_bytes <= block_bytes must hold",
            )
        if self.max_block_batches > _MOST_BLOCK_BATCHES:
            raise BadConfiguration(
                f"max_block_batches exceeds {_MOST_BLOCK_BATCHES}", why="a block must fit its 64 KiB"
            )
        if self.max_batch_bytes > 1_000_000:
            raise BadConfiguration("max_batch_bytes exceeds 1,000,000", why="a batch must fit one frame of 1 MiB")
        if self.max_signatures > self.max_batch_signatures:
            raise BadConfiguration("max_signatures exceeds max_batch_signatures")
        if self.view_timeout_cap_ms < self.view_timeout_ms:
            raise BadConfiguration("view_timeout_cap_ms is below view_timeout_ms")
        if self.delegates * self.epoch_rounds > _MOST_EPOCH_SLOTS:
            raise BadConfiguration(
                f"an epoch of delegates x epoch_rounds has more than {_MOST_EPOCH_SLOTS:,} slots",
                why="they are counted one by one",
            )
        for name, most, why in _BOUNDS:
            if getattr(self, name) > most:
                raise BadConfiguration(f"{name} exceeds {most:,}", why=why)

    def values(self) -> tuple[int, ...]:
        return tuple(getattr(self, item.name) for item in fields(self))
