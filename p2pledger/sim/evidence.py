"""What the world saw, as plain numbers and bytes: all that the checkers are given.

Nothing here interprets anything. Blocks, batches, votes and state rows are the bytes that honest nodes wrote or sent;
the checkers read them with their own eyes (``p2pledger.sim.checkers``).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = [
    "Evidence",
    "FinalClaim",
    "Notice",
    "ProgressNotice",
    "QueuePeak",
    "RootClaim",
    "StateRows",
    "Violation",
    "VoteSent",
]


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken in the world of one seed: which checker says so, and what it saw."""

    seed: int
    checker: str
    detail: str


@dataclass(frozen=True, slots=True)
class FinalClaim:
    """An honest node called this block final at this height."""

    time_us: int
    node: str
    height: int
    block: bytes


@dataclass(frozen=True, slots=True)
class RootClaim:
    """The state root that an honest node has after a final height."""

    node: str
    height: int
    root: bytes


@dataclass(frozen=True, slots=True)
class VoteSent:
    """A vote (canonical bytes) that left an honest node; only its own votes are listed."""

    time_us: int
    node: str
    vote: bytes


@dataclass(frozen=True, slots=True)
class Notice:
    """An honest node told a client that its transaction is final, with this outcome."""

    time_us: int
    node: str
    client: str
    session: int
    transaction: bytes
    height: int
    code: int
    operation: int


@dataclass(frozen=True, slots=True)
class ProgressNotice:
    """An honest node told a client how far its transaction is: status 1 pending, 2 reverted, 3 confirmed."""

    time_us: int
    node: str
    client: str
    session: int
    transaction: bytes
    status: int
    height: int
    outcome: bytes
    """4 bytes: code and operation"""


@dataclass(frozen=True, slots=True)
class QueuePeak:
    """The most bytes that a bounded place held, and its bound."""

    place: str
    bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class StateRows:
    """The newest final state of an honest node: rows (key, value) of each table, in order of the keys."""

    node: str
    height: int
    tables: tuple[tuple[tuple[bytes, bytes], ...], ...]


@dataclass(slots=True)
class Evidence:
    """Everything of one run. ``blocks`` and ``batches`` are what honest nodes stored, by id and digest."""

    seed: int
    genesis: bytes
    honest: dict[bytes, str] = field(default_factory=dict)
    """node key -> name, of those who are honest"""
    finals: list[FinalClaim] = field(default_factory=list)
    roots: list[RootClaim] = field(default_factory=list)
    votes: list[VoteSent] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    progress: list[ProgressNotice] = field(default_factory=list)
    blocks: dict[bytes, bytes] = field(default_factory=dict)
    batches: dict[bytes, bytes] = field(default_factory=dict)
    certificates: dict[bytes, str] = field(default_factory=dict)
    """certificate (canonical bytes) -> the first honest node that kept it"""
    receipts: list[tuple[str, int, bytes]] = field(default_factory=list)
    """(node, height, 4 bytes per transaction)"""
    states: list[StateRows] = field(default_factory=list)
    queues: dict[str, QueuePeak] = field(default_factory=dict)
    asked: Counter[tuple[str, int, bytes]] = field(default_factory=Counter)
    """how often each (client, session, transaction) was handed in"""
    wanted: list[tuple[str, bytes]] = field(default_factory=list)
    """(client, transaction) of every order that had to come to an end"""
    unsettled: list[tuple[str, bytes, str]] = field(default_factory=list)
    """(client, transaction, where it stood) of those that did not"""
    heights: dict[str, int] = field(default_factory=dict)
    """final height of each honest node when the time for catching up was over"""
    idle_frames: int = 0
    """frames that honest nodes sent while there was nothing to do"""
    has_villains: bool = False
    idle_timers: int = 0
    idle_s: int = 0
    breaches: list[tuple[str, str, str]] = field(default_factory=list)
    """(checker, node, sentence): promises whose breach the world itself runs into, such as an exception"""

    def queue_peak(self, place: str, size_bytes: int, limit_bytes: int) -> None:
        known = self.queues.get(place)
        if known is None or size_bytes > known.bytes:
            self.queues[place] = QueuePeak(place, size_bytes, limit_bytes)
