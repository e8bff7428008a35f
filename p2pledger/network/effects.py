"""The door of a peer: what the shell tells it, and what it asks the shell to do.

``Peer.step(event, now_ms) -> effects``. Events that come together are stepped with ``more``, and what follows from the
state comes once, from ``Peer.settle(now_ms)`` or the step of the last one. Two shells exist: ``p2pledger.server``
(Trio, sockets, disk) and ``p2pledger.sim`` (a seeded world); both obey the effects **in order**. In particular an own
vote in a ``Persist``, and every record before it, must be durable before any later ``Send`` leaves
(``primitives/records.py``); writing earlier than asked is always allowed, so a shell may put the records of many steps
into one durable group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from p2pledger.node.effects import Compute, Effect, Halt, Log, Mark, Persist, Stage

__all__ = [
    "CLIENT",
    "OBSERVER",
    "VALIDATOR",
    "Compute",
    "Computed",
    "Dial",
    "DialFailed",
    "Disconnect",
    "Effect",
    "Event",
    "Halt",
    "Identity",
    "Log",
    "Mark",
    "Persist",
    "Received",
    "Send",
    "SessionClosed",
    "SessionOpened",
    "SetTimer",
    "Stage",
    "Started",
    "TimedReceived",
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
    """A handshake was completed. ``session`` is a number of the shell's choosing, never used twice.

    ``is_dialled``: this node called the other one, so its choice and not the other's made the session; ``called`` is
    then what it called, as it was told to. ``host`` and ``port`` are the other end of the connection, numeric; empty
    where there are no such things.
    """

    session: int
    identity: Identity
    is_dialled: bool = False
    host: str = ""
    port: int = 0
    called: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class SessionClosed(Event):
    session: int


@dataclass(frozen=True, slots=True)
class DialFailed(Event):
    """A ``Dial`` led to no session. ``key`` is the node key that was met all the same; empty if none was."""

    host: str
    port: int
    code: str
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class Received(Event):
    """The payload of one frame."""

    session: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class TimedReceived(Received):
    """The same from a shell that traces: when its first byte came, and when its last one."""

    begun_us: int
    came_us: int


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
class Send(Effect):
    """One frame to one session.

    ``bulk`` frames (batches) may be dropped, and counted, when the session's queue is full: whoever needs them asks
    again. All others are kept in order; a queue that overflows with them ends the session.
    """

    session: int
    payload: bytes
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class Dial(Effect):
    """Call whoever listens there, once. Answered by SessionOpened or by DialFailed."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Disconnect(Effect):
    """End a session; the shell logs ``code`` and ``sentence`` with the peer's name."""

    session: int
    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class SetTimer(Effect):
    """Send ``TimerFired`` at this time (milliseconds of the same clock as ``now_ms``); replaces the one before."""

    at_ms: int | None
