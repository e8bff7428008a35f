"""What a node asks of the peer around it. Obeyed in order, like everything (``p2pledger.network.effects``).

The engine's own effects that concern other nodes (``Broadcast``, ``Send``, ``WantBlock``, ``WantCertificates``,
``Evidence``, ``Offence``) pass through a node unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from p2pledger.primitives.blocks import Block
from p2pledger.primitives.messages import ProgressStatus, Rules
from p2pledger.primitives.records import Record

__all__ = [
    "Admitted",
    "Compute",
    "Effect",
    "Halt",
    "Log",
    "Mark",
    "Persist",
    "Settle",
    "Stage",
    "StreamBatch",
    "Tell",
    "WantBatches",
    "marks_of",
]


@dataclass(frozen=True, slots=True)
class Effect:
    """Base of what a node or a peer asks for."""


@dataclass(frozen=True, slots=True)
class Persist(Effect):
    """These records are to be kept, in order; with an own vote among them, durable before any later send leaves."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Compute(Effect):
    """Heavy, pure work: ``run()`` may happen in a thread; its value comes back as ``Computed(job, value)``.

    ``cost_us`` is a rough estimate: the shell runs small jobs at once and large ones in a worker, the simulator
    charges it to its clock. An exception out of ``run`` is a bug and stops the node.

    A search for a proof of work says in ``hashes`` how many a result took; the simulator charges them to a miner's
    modelled rate instead.
    """

    job: int
    run: Callable[[], Any] = field(repr=False)
    cost_us: int
    hashes: Callable[[Any], int] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Log(Effect):
    """Something that an operator should be able to read. ``event`` is a stable word; ``fields`` are plain values."""

    level: str
    event: str
    fields: tuple[tuple[str, str | int], ...] = ()


class Stage(StrEnum):
    """How far a batch or block has come at a node (``network/tracing.py``)."""

    MADE = "made"
    ARRIVED = "arrived"
    CHECKED = "checked"
    NAMED = "named"
    VOTED = "voted"
    EXECUTED = "executed"
    FINAL = "final"


@dataclass(frozen=True, slots=True)
class Mark(Effect):
    """A batch or block has come so far; the shell notes when. Only from nodes that were told to trace."""

    stage: Stage
    id: bytes
    size_bytes: int = 0
    is_block: bool = False
    block: bytes = b""
    """The block that names a batch."""


def marks_of(stage: Stage, block: Block) -> list[Mark]:
    """A block that is held whole has come so far, and what it names is known."""
    own = Mark(stage, block.id, len(block.encode()), is_block=True)
    return [own, *(Mark(Stage.NAMED, digest, block=block.id) for digest in block.digests)]


@dataclass(frozen=True, slots=True)
class Halt(Effect):
    """The node must stop now: going on could break a promise."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class StreamBatch(Effect):
    """An own batch, to all validators at once. It may be dropped: whoever needs it asks."""

    digest: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class WantBatches(Effect):
    """Batches that a block names and that are not held. ``hints`` are node keys that should have them, best first."""

    digests: tuple[bytes, ...]
    hints: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Admitted(Effect):
    """What became of a client's submission: one code per transaction, 0 = kept."""

    client: int
    request: int
    codes: tuple[int, ...]
    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class Settle(Effect):
    """Final outcomes for a client: ids (n x 32 bytes), codes (n x 4 bytes), and by index the rules that were named."""

    client: int
    height: int
    time_ms: int
    ids: bytes
    codes: bytes
    rules: Rules = ()


@dataclass(frozen=True, slots=True)
class Tell(Effect):
    """What became of transactions of a client that follows them and that are not final: the rest as in Settle."""

    client: int
    status: ProgressStatus
    height: int
    time_ms: int
    ids: bytes
    codes: bytes
    rules: Rules = ()
