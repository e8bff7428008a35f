"""The door of a peer: what the shell tells it, and what it asks the shell to do.

``Peer.step(event, now_ms) -> effects``. Two shells exist, ``p2pledger.server`` (Trio, sockets, disk) and
``p2pledger.sim`` (a seeded world); both obey the effects **in order**. In particular everything in a ``Persist`` must
be durable before any later ``Send`` leaves; writing earlier than asked is always allowed, so a shell may put the
records of many steps into one durable group before it sends what came with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from p2pledger.primitives.records import Record

__all__ = [
    "CLIENT",
    "OBSERVER",
    "VALIDATOR",
    "Compute",
    "Computed",
    "Disconnect",
    "Effect",
    "Event",
    "Halt",
    "Identity",
    "Log",
    "Persist",
    "Received",
    "Send",
    "SessionClosed",
    "SessionOpened",
    "SetTimer",
    "Started",
    "TimerFired",
]

VALIDATOR, OBSERVER, CLIENT = 0, 1, 2
"""Roles in ``hello``."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is at the other end of a session, as proved by its handshake."""

    node_key: bytes
    role: int
    name: str


# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """Base of what a peer is told."""


@dataclass(frozen=True, slots=True)
class Started(Event):
    """Once, before anything else."""


@dataclass(frozen=True, slots=True)
class SessionOpened(Event):
    """A handshake was completed. ``session`` is a number of the shell's choosing, never used twice."""

    session: int
    identity: Identity


@dataclass(frozen=True, slots=True)
class SessionClosed(Event):
    session: int


@dataclass(frozen=True, slots=True)
class Received(Event):
    """The payload of one frame."""

    session: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """The time of the newest ``SetTimer`` has come. Firing early or twice does no harm."""


@dataclass(frozen=True, slots=True)
class Computed(Event):
    """The result of a ``Compute`` effect, by its number."""

    job: int
    result: Any


# --- effects --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Effect:
    """Base of what a peer asks for."""


@dataclass(frozen=True, slots=True)
class Persist(Effect):
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Send(Effect):
    """One frame to one session.

    ``bulk`` frames (batches) may be dropped, and counted, when the session's queue is full: whoever needs them asks
    again. All others are kept in order; a queue that overflows with them ends the session.
    """

    session: int
    payload: bytes
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class Disconnect(Effect):
    """End a session; the shell logs ``code`` and ``sentence`` with the peer's name."""

    session: int
    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Compute(Effect):
    """Heavy, pure work: ``run()`` may happen in a thread; its value comes back as ``Computed(job, value)``.

    ``cost_us`` is a rough estimate: the shell runs small jobs at once and large ones in a worker, the simulator
    charges it to its clock. An exception out of ``run`` is a bug and stops the node.
    """

    job: int
    run: Callable[[], Any] = field(repr=False)
    cost_us: int


@dataclass(frozen=True, slots=True)
class SetTimer(Effect):
    """Send ``TimerFired`` at this time (milliseconds of the same clock as ``now_ms``); replaces the one before."""

    at_ms: int | None


@dataclass(frozen=True, slots=True)
class Log(Effect):
    """Something that an operator should be able to read. ``event`` is a stable word; ``fields`` are plain values."""

    level: str
    event: str
    fields: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True, slots=True)
class Halt(Effect):
    """The node must stop now: going on could break a promise."""

    code: str
    sentence: str
