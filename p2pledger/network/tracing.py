"""When what happened to which batch and block: rows that a tracing node writes, and what a set of them tells.

A node under trace emits a ``Mark`` for each stage (``node/effects.py``), without a time: clocks are above this floor.
The server writes a line for each, with the time at which it obeyed the mark, by a clock that all processes of one
machine share (CLOCK_MONOTONIC, microseconds):

    p2pledger.trace/1 NAME KEY                          the first line: whose it is
    time_us,stage,what,id,size_bytes,block              and so on

    made          this node made it, and sends it from now on
    first_byte    the first byte of a frame with it came, from anybody
    complete      the last byte came
    checked       it was found right here: a batch with all its signatures, a block with all its batches
    named         (batch) ``block`` names it
    voted         (block) this node's vote for it leaves: the disk has it. Under simplex
    executed      (block) it has been executed on top of its parent
    final         (block) it is known to be final

A stage may come several times (a batch from two peers, a vote again): the first one counts. A batch has no votes of its
own; it is voted for, executed and final with the first block that names it.

The lines of a dead node may end in the middle of one. A node that would write more than its bound says ``full``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from p2pledger.node.effects import Mark, Stage
from p2pledger.primitives.errors import BadConfiguration

__all__ = ["FULL", "TRACE_SCHEMA", "Moment", "Timelines", "Trace", "header_line", "line_of", "parse_trace"]

TRACE_SCHEMA: Final = "p2pledger.trace/1"
FULL: Final = "full"
_COLUMNS: Final = "time_us,stage,what,id,size_bytes,block"


@dataclass(frozen=True, slots=True)
class Moment:
    """One row. ``stage`` is a ``Stage``, or ``first_byte`` or ``complete`` for the two ends of an arrival."""

    time_us: int
    stage: str
    is_block: bool
    id: bytes
    size_bytes: int
    block: bytes = b""


@dataclass(frozen=True, slots=True)
class Trace:
    """What one node wrote. ``is_full``: it would have written more."""

    name: str
    key: bytes
    moments: tuple[Moment, ...]
    is_full: bool = False


def header_line(name: str, key: bytes) -> str:
    """The first two lines of a file."""
    return f"{TRACE_SCHEMA} {key.hex()} {name}\n{_COLUMNS}\n"


def line_of(time_us: int, mark: Mark, stage: str = "") -> str:
    """The line of a mark; ``stage`` in the place of its own."""
    what = "block" if mark.is_block else "batch"
    return f"{time_us},{stage or mark.stage},{what},{mark.id.hex()},{mark.size_bytes},{mark.block.hex()}\n"


def parse_trace(text: str, *, where: str = "") -> Trace:
    """BadConfiguration if it is not the trace of a node of this version. A last line that is not whole is left out."""
    head, _, rest = text.partition("\n")
    match head.split(" ", 2):
        case [schema, key, name] if schema == TRACE_SCHEMA:
            pass
        case _:
            raise BadConfiguration(f"this is not a trace of the form {TRACE_SCHEMA}", where=where, why=head[:80])
    lines = rest.split("\n")
    moments, is_full = [], False
    for number, line in enumerate(lines[1:-1], 3):
        if line == FULL:
            is_full = True
            continue
        try:
            time_us, stage, what, identifier, size_bytes, block = line.split(",")
            moments.append(
                Moment(
                    int(time_us),
                    stage,
                    {"block": True, "batch": False}[what],
                    bytes.fromhex(identifier),
                    int(size_bytes),
                    bytes.fromhex(block),
                )
            )
        except (ValueError, KeyError):
            raise BadConfiguration("a line of a trace is damaged", where=where, why=f"line {number}") from None
    return Trace(name, bytes.fromhex(key), tuple(moments), is_full)


class Timelines:
    """The traces of several nodes of one machine, put together.

    ``first(name, stage, id)``: when this node first came so far with this batch or block.
    """

    def __init__(self, traces: Iterable[Trace]) -> None:
        self.nodes: list[str] = []
        self.sizes: dict[bytes, int] = {}
        """id -> bytes"""
        self.batches_of: dict[bytes, tuple[bytes, ...]] = {}
        """block -> what it names, in the order in which it was told"""
        self.block_of: dict[bytes, bytes] = {}
        """batch -> the first block that any node saw name it"""
        self.made_by: dict[bytes, str] = {}
        self._first: dict[tuple[str, str, bytes], int] = {}
        self._blocks: set[bytes] = set()
        named: list[Moment] = []
        for trace in traces:
            self.nodes.append(trace.name)
            for moment in trace.moments:
                if moment.size_bytes:
                    self.sizes[moment.id] = moment.size_bytes
                if moment.is_block:
                    self._blocks.add(moment.id)
                if moment.stage == Stage.NAMED:
                    named.append(moment)
                    continue
                if moment.stage == Stage.MADE:
                    self.made_by.setdefault(moment.id, trace.name)
                place = trace.name, moment.stage, moment.id
                self._first[place] = min(moment.time_us, self._first.get(place, moment.time_us))
        listed: dict[bytes, dict[bytes, None]] = {}
        for moment in sorted(named, key=lambda moment: moment.time_us):
            self.block_of.setdefault(moment.id, moment.block)
            listed.setdefault(moment.block, {})[moment.id] = None
        self.batches_of = {block: tuple(batches) for block, batches in listed.items()}

    @property
    def blocks(self) -> tuple[bytes, ...]:
        """All blocks that some node made, in the order of their making."""
        made = [(time_us, item) for (_, stage, item), time_us in self._first.items() if stage == Stage.MADE]
        return tuple(item for _, item in sorted(made) if item in self._blocks)

    def first(self, name: str, stage: str, item: bytes) -> int | None:
        """Microseconds of the machine's clock; None if it never came so far there.

        What happens to a batch after it was checked, happens to the block that names it.
        """
        if stage in (Stage.VOTED, Stage.EXECUTED, Stage.FINAL):
            item = self.block_of.get(item, item)
        return self._first.get((name, stage, item))
