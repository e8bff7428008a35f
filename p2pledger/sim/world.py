"""The seeded world: one heap of events, machines that run peers, sessions between them.

Time is an integer of microseconds and moves only from one event of the heap to the next. Events of one moment happen in
the order in which they were planned. All chance comes from named streams (``p2pledger.sim.chance``), so a world is a
function of its scenario: no thread, no clock, no ``hash()``.

A machine does for its peer what the server does, with everything that may go wrong in between:

* ``Persist`` goes to the disk's next group; with an own vote in it, whatever is sent after it waits until that group is
  durable, and the disk hurries; without one the group may wait for a while;
* ``Compute`` takes a worker and modelled time. Its work is done at the beginning or at the end of that time, as chance
  will have it: a server's thread reads its inputs at some moment in between;
* ``SetTimer`` is obeyed at its time, now and then twice;
* a crash ends the process between two events: nothing in memory survives, on the disk what its promises say.

Villains are wrapped around a peer from outside (``p2pledger.sim.villains``); a machine does not know.
"""

from __future__ import annotations

import heapq
import random
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

import msgpack

from p2pledger import core
from p2pledger.network.effects import (
    VALIDATOR,
    Compute,
    Computed,
    Disconnect,
    Effect,
    Event,
    Halt,
    Identity,
    Log,
    Mark,
    Persist,
    Received,
    Send,
    SessionClosed,
    SessionOpened,
    SetTimer,
    Stage,
    Started,
    TimerFired,
)
from p2pledger.network.tracing import Moment, Timelines
from p2pledger.network.tracing import Trace as Moments
from p2pledger.node.archive import Archive, Recovery
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.records import LAZY_MS, BatchRecord, BlockRecord, CertificateRecord, must_be_durable
from p2pledger.sim.chance import stream
from p2pledger.sim.disk import Disk
from p2pledger.sim.evidence import Evidence, FinalClaim, RootClaim, VoteSent
from p2pledger.sim.links import QUEUE_BYTES, Cut, Lane, Weather
from p2pledger.sim.trace import Trace

__all__ = ["Builder", "Connection", "Machine", "PeerLike", "Place", "World"]

_WORKERS = 2
_SMALL_JOB_US = 300
_TIMER_RESOLUTION_US = 100
_REDIAL_MOST_US = 2_000_000
_PROPOSAL, _VOTE, _BLOCK = 12, 13, 17
"""Types of the messages that carry a node's own votes and blocks (docs/protocol.md, section 9)."""
_EPOCH, _VIEW, _PROPOSER = 2, 3, 7
"""Places in a header."""
_SEALING = ("pos", "dpos", "poa")
"""Engines under which a block is a promise not to seal another in its slot."""


class PeerLike(Protocol):
    """What a machine runs: a peer, or a villain around one."""

    def step(self, event: Event, now_ms: int, *, more: bool = False) -> list[Effect]: ...

    def admit(self, identity: Identity) -> tuple[str, str] | None: ...

    @property
    def final_height(self) -> int: ...

    @property
    def final_version(self) -> core.Version: ...


Builder = Callable[[str, Keypair, Archive, Recovery | None], PeerLike]
"""Makes the peer of a machine from its name, key, archive and recovery (None: it never ran)."""


class Place(Protocol):
    """Somebody with sessions: a machine or a client."""

    name: str

    def session_opened(self, session: int, identity: Identity) -> None: ...

    def frame_arrived(self, session: int, payload: bytes) -> None: ...

    def session_closed(self, session: int) -> None: ...


@dataclass(slots=True, eq=False)
class Connection:
    """A session between two places: number and lane for each end. End 0 dialled."""

    ends: tuple[Place, Place]
    numbers: tuple[int, int]
    lanes: tuple[Lane, Lane]
    is_open: bool = True

    def side_of(self, place: Place) -> int:
        return 0 if self.ends[0] is place else 1


class World:
    """The clock, the heap, the weather, the machines and the sessions."""

    def __init__(
        self, seed: int, genesis: Genesis, weather: Weather, *, build: Builder, trace: Trace | None = None
    ) -> None:
        self.seed = seed
        self.genesis = genesis
        self.weather = weather
        self.build = build
        self.trace = trace if trace is not None else Trace()
        self.evidence = Evidence(seed, genesis.encode())
        self.now_us = 0
        self.machines: dict[str, Machine] = {}
        self.frames = 0
        self.timers = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._planned = 0
        self._sessions = 0
        self._connections: dict[tuple[str, str], Connection] = {}
        self._dialling: set[tuple[str, str]] = set()
        self._chance = stream(seed, "sessions")
        self.queue_bytes = QUEUE_BYTES

    # Time

    def at(self, time_us: int, action: Callable[[], None]) -> None:
        """Plan an action. Actions of one moment happen in the order of planning."""
        self._planned += 1
        heapq.heappush(self._heap, (max(time_us, self.now_us), self._planned, action))

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        self.at(self.now_us + delay_us, action)

    def run_until(self, time_us: int, *, most_events: int | None = None) -> bool:
        """Let everything happen up to a time. False if that took more than ``most_events``."""
        heap, count = self._heap, 0
        while heap and heap[0][0] <= time_us:
            if most_events is not None and count >= most_events:
                return False
            count += 1
            self.now_us, _, action = heapq.heappop(heap)
            action()
        self.now_us = max(self.now_us, time_us)
        return True

    def timelines(self) -> Timelines:
        """What the peers that were told to trace have marked, in microseconds of the world."""
        machines = self.machines.values()
        return Timelines(Moments(each.name, each.keypair.public_key, tuple(each.moments)) for each in machines)

    # Sessions

    def add_machine(self, machine: Machine) -> None:
        self.machines[machine.name] = machine

    def connect_all(self) -> None:
        """Every pair of machines keeps a session, dialled again whenever it is lost."""
        names = list(self.machines)
        for index, one in enumerate(names):
            for other in names[index + 1 :]:
                # Two machines with one key do not talk to each other: each takes the other for itself.
                if self.machines[one].keypair.public_key != self.machines[other].keypair.public_key:
                    self._keep_dialling((one, other), self._chance.randrange(5_000))

    def _keep_dialling(self, pair: tuple[str, str], delay_us: int) -> None:
        if pair in self._dialling:
            return
        self._dialling.add(pair)
        waited_us = 100_000

        def dial() -> None:
            nonlocal waited_us
            one, other = (self.machines[name] for name in pair)
            if one.has_halted or other.has_halted:
                self._dialling.discard(pair)
            elif one.is_up and other.is_up and not self.weather.is_apart(*pair):
                incarnations = one.incarnation, other.incarnation
                self.after(3 * self.weather.latency(*pair), lambda: establish(incarnations))
            else:
                waited_us = min(2 * waited_us, _REDIAL_MOST_US)
                self.after(waited_us // 2 + self._chance.randrange(waited_us), dial)

        def establish(incarnations: tuple[int, int]) -> None:
            self._dialling.discard(pair)
            one, other = (self.machines[name] for name in pair)
            still_there = one.is_up and other.is_up and incarnations == (one.incarnation, other.incarnation)
            if still_there and not self.weather.is_apart(*pair):
                connection = self._open(one, one.identity, other, other.identity)
                if connection is not None:
                    self._connections[pair] = connection
                    return
            self._keep_dialling(pair, 100_000 + self._chance.randrange(200_000))

        self.after(delay_us, dial)

    def dial(self, client: Place, identity: Identity, machine: Machine) -> None:
        """A client wants a session. It hears of it by ``session_opened``, or by ``session_closed`` of number 0."""

        def establish() -> None:
            reachable = machine.is_up and not self.weather.is_apart(client.name, machine.name)
            if not reachable or self._open(client, identity, machine, machine.identity) is None:
                client.session_closed(0)

        self.after(3 * self.weather.latency(client.name, machine.name), establish)

    def _open(self, one: Place, one_identity: Identity, other: Place, other_identity: Identity) -> Connection | None:
        for place, stranger in ((one, other_identity), (other, one_identity)):
            if isinstance(place, Machine):
                refusal = place.refusal_of(stranger)
                if refusal is not None:
                    if place.is_honest and not self._is_villain(stranger):
                        self.evidence.breaches.append(
                            ("admission", place.name, f"refused {stranger.name}: {refusal[0]}, {refusal[1]}")
                        )
                    return None
        self._sessions += 2
        numbers = self._sessions - 1, self._sessions
        lanes = self.weather.lane(one.name, other.name), self.weather.lane(other.name, one.name)
        connection = Connection((one, other), numbers, lanes)
        for place, number in zip(connection.ends, numbers, strict=True):
            if isinstance(place, Machine):
                place.connections[number] = connection
        # The accepting side is done with the handshake first; what it sends waits at the other end until that one is.
        latency_us = self.weather.latency(one.name, other.name)
        connection.lanes[1].arrival_us = self.now_us + latency_us

        def opened() -> None:
            if connection.is_open:
                one.session_opened(numbers[0], other_identity)

        self.after(latency_us, opened)
        other.session_opened(numbers[1], one_identity)
        if isinstance(one, Machine):
            return connection
        self.attach(one, connection)
        return connection

    def _is_villain(self, identity: Identity) -> bool:
        """Villains may be shut out: convicted ones lose their seat, and public networks shun who offends too often."""
        villains = (machine for machine in self.machines.values() if not machine.is_honest)
        return any(machine.keypair.public_key == identity.node_key for machine in villains)

    def attach(self, client: Place, connection: Connection) -> None:
        """Remember the session of a client."""
        self._connections[client.name, ""] = connection

    def connection_of(self, client: Place) -> Connection | None:
        connection = self._connections.get((client.name, ""))
        return connection if connection is not None and connection.is_open else None

    def send(self, connection: Connection, sender: Place, payload: bytes, *, bulk: bool) -> None:
        """Put a frame on its way."""
        if not connection.is_open:
            return
        side = connection.side_of(sender)
        target, lane = connection.ends[1 - side], connection.lanes[side]
        size_bytes = len(payload) + 4
        if not lane.has_room(self.now_us, size_bytes, self.queue_bytes):
            if bulk:
                lane.dropped += 1
            else:
                self.close(connection)
            return
        self.frames += 1
        self.evidence.queue_peak(f"session {sender.name} to {target.name}", lane.queued_bytes, self.queue_bytes)
        if self.weather.resets():
            self.close(connection)
            return
        arrival_us = self.weather.arrival_us(lane, sender.name, target.name, self.now_us, size_bytes)
        self.at(arrival_us, lambda: self._arrive(connection, side, payload))
        if self.weather.duplicates_per_million and isinstance(sender, Machine) and isinstance(target, Machine):
            if self.weather.duplicates():
                again_us = arrival_us + self.weather.travel_us(sender.name, target.name)
                self.at(again_us, lambda: self._arrive(connection, side, payload))

    def _arrive(self, connection: Connection, side: int, payload: bytes) -> None:
        if not connection.is_open:
            return
        source, target = connection.ends[side], connection.ends[1 - side]
        held = connection.lanes[side].held
        if held or self.weather.is_cut(source.name, target.name):
            held.append(payload)
        else:
            target.frame_arrived(connection.numbers[1 - side], payload)

    def close(self, connection: Connection) -> None:
        """End a session: what is in flight is lost, both ends are told."""
        if not connection.is_open:
            return
        connection.is_open = False
        one, other = connection.ends
        latency_us = self.weather.latency(one.name, other.name)
        for place, number in zip(connection.ends, connection.numbers, strict=True):
            if isinstance(place, Machine):
                place.connections.pop(number, None)
            self.after(latency_us, lambda place=place, number=number: place.session_closed(number))  # type: ignore[misc]
        if isinstance(one, Machine) and isinstance(other, Machine):
            self._keep_dialling((one.name, other.name), latency_us + 50_000 + self._chance.randrange(200_000))

    # Weather

    def cut(self, number: int, cut: Cut, *, reset: bool) -> None:
        """A partition begins. Sessions across are reset, or their frames held back."""
        self.weather.cuts[number] = cut
        if reset:
            for connection in list(self._connections.values()):
                one, other = connection.ends
                if self.weather.is_across(cut, one.name, other.name):
                    self.close(connection)

    def heal(self, number: int) -> None:
        """A partition ends; frames that were held back come after a delay, in their order."""
        cut = self.weather.cuts.pop(number, None)
        if cut is None:
            return
        for connection in list(self._connections.values()):
            one, other = connection.ends
            if connection.is_open and self.weather.is_across(cut, one.name, other.name):
                self.after(self.weather.latency(one.name, other.name), lambda c=connection: self._release(c))  # type: ignore[misc]

    def _release(self, connection: Connection) -> None:
        for side, lane in enumerate(connection.lanes):
            if self.weather.is_cut(connection.ends[side].name, connection.ends[1 - side].name):
                continue
            held, lane.held = lane.held, deque()
            for payload in held:
                if connection.is_open:
                    connection.ends[1 - side].frame_arrived(connection.numbers[1 - side], payload)

    def reset(self, one: str, other: str) -> None:
        """Reset the session of two machines, if there is one."""
        connection = self._connections.get((one, other)) or self._connections.get((other, one))
        if connection is not None:
            self.close(connection)


@dataclass(slots=True, eq=False)
class Machine:
    """A computer with a disk, a clock that may be wrong, two workers, and the process that runs a peer."""

    world: World
    name: str
    keypair: Keypair
    is_honest: bool = True
    skew_ms: int = 0
    drift_ppm: int = 0
    """How much faster than the world's its clock runs, in parts per million."""
    hashes_per_s: int = 1_000
    """The modelled rate at which it searches for proofs of work."""
    sends_early: bool = False
    """A planted fault: nothing that it sends waits for its disk."""
    alias: str = ""
    """The name by which others know it, if that is not its own: the twin of a machine has its key and its name."""
    disk: Disk = field(default_factory=Disk)
    sync_us: int = 800
    """Mean time of a sync."""
    turn_us: int = 0
    """How long, at most, events gather until it takes them in one turn, as a busy server does; 0: not at all."""

    peer: PeerLike | None = None
    incarnation: int = 0
    connections: dict[int, Connection] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    """What its peer has marked, if that traces. Not a part of the world's own trace: looking changes nothing."""
    has_halted: bool = False
    dies_writing: bool = False
    """Whether the process dies in the middle of its next sync."""
    _is_doomed: bool = False
    _chance: random.Random = field(init=False)
    _paused_until_us: int = 0
    _turns: random.Random = field(init=False)
    _inbox: deque[Event] = field(default_factory=deque)
    _is_gathering: bool = False
    _gate: deque[tuple[int, Send | Disconnect | Mark]] = field(default_factory=deque)
    _group: int = 1
    _needed: int = 0
    _synced: int = 0
    _lazy_group: int = 0
    """The group for which a late sync is planned."""
    _timer: int = 0
    _workers: list[int] = field(default_factory=lambda: [0] * _WORKERS)
    _seen_height: int = -1
    _noted_height: int = 0
    _roots: dict[int, bytes] = field(default_factory=dict)
    _votes_sent: set[bytes] = field(default_factory=set)
    _told: set[int] = field(default_factory=set)
    """Sessions of which the running peer was told."""

    def __post_init__(self) -> None:
        self._chance = stream(self.world.seed, "machine", self.name)
        self._turns = stream(self.world.seed, "turns", self.name)

    @property
    def is_up(self) -> bool:
        return self.peer is not None

    @property
    def identity(self) -> Identity:
        return Identity(self.keypair.public_key, VALIDATOR, self.alias or self.name)

    @property
    def now_ms(self) -> int:
        """Unix time by this machine's own clock."""
        return self.world.genesis.time_ms + self.skew_ms + self._by_own_clock(self.world.now_us) // 1_000

    def _by_own_clock(self, time_us: int) -> int:
        return time_us + time_us * self.drift_ppm // 1_000_000

    def refusal_of(self, stranger: Identity) -> tuple[str, str] | None:
        assert self.peer is not None, "a machine that is down was asked"
        return self.peer.admit(stranger)

    # The process

    def start(self) -> None:
        """Run a peer on what the disk remembers."""
        self.dies_writing = False
        if self.is_up or self.has_halted:
            return
        self.incarnation += 1
        try:
            self.peer = self.world.build(self.name, self.keypair, self.disk, self.disk.recovery())
        except Exception:
            self._stop_for_bug()
            return
        self._step(Started())

    def crash(self) -> None:
        """The process dies now (SIGKILL, or the power goes)."""
        if not self.is_up:
            return
        fate = self.disk.crash(self._chance)
        self._note_finals()
        self.world.trace.record(self.world.now_us, self.name, "crash", 0, fate.encode())
        self._vanish()

    def leave(self) -> None:
        """It stops, and never comes back."""
        self.crash()
        self.has_halted = True

    def finish_writing(self) -> None:
        """At the end of a run: what it asked its disk to keep is kept, and what is final there is noted."""
        if self.is_up:
            for _ in range(2):
                if not self.disk.is_syncing:
                    self.disk.begin_sync()
                self.disk.end_sync()
            self._note_finals()

    def _die_if(self, incarnation: int) -> None:
        if self.incarnation == incarnation and self._is_doomed:
            self.crash()

    def spare(self) -> None:
        """It was to die in a write, and the fault is over before it did: it lives."""
        self.dies_writing = self._is_doomed = False

    def _vanish(self) -> None:
        self.peer = None
        self._seen_height = -1
        self._inbox.clear()
        self._is_gathering = False
        self._told.clear()
        self._gate.clear()
        self._needed = self._synced = self._lazy_group = 0
        self._group = 1
        self._timer += 1
        self._paused_until_us = 0
        self._workers = [0] * _WORKERS
        for connection in list(self.connections.values()):
            self.world.close(connection)
        self.connections.clear()

    def pause(self, duration_us: int) -> None:
        """The process stands still: events wait (a stopped process, a machine that swaps)."""
        if self.is_up:
            self._paused_until_us = max(self._paused_until_us, self.world.now_us + duration_us)
            self.world.at(self._paused_until_us, self._drain)

    def _drain(self) -> None:
        while self._inbox and self.world.now_us >= self._paused_until_us:
            event = self._inbox.popleft()
            self._step(event, more=bool(self._inbox))

    # Events

    def session_opened(self, session: int, identity: Identity) -> None:
        if session in self.connections:
            self._told.add(session)
            self._happen(SessionOpened(session, identity))

    def frame_arrived(self, session: int, payload: bytes) -> None:
        self._happen(Received(session, payload))

    def session_closed(self, session: int) -> None:
        if session in self._told:
            self._told.discard(session)
            self._happen(SessionClosed(session))

    def _happen(self, event: Event) -> None:
        if self.peer is None:
            return
        is_paused = self.world.now_us < self._paused_until_us
        if not is_paused and not self.turn_us:
            self._step(event)
            return
        self._inbox.append(event)
        if is_paused or self._is_gathering:
            return
        self._is_gathering, incarnation = True, self.incarnation

        def turn() -> None:
            if self.incarnation == incarnation and self.is_up:
                self._is_gathering = False
                self._drain()

        self.world.after(self._turns.randrange(self.turn_us), turn)

    def _step(self, event: Event, *, more: bool = False) -> None:
        """``more``: another event of the same turn follows."""
        world, peer = self.world, self.peer
        if peer is None:
            return
        match event:
            case Received(session, payload):
                world.trace.record(world.now_us, self.name, "received", session, payload)
            case SessionOpened(session, identity):
                world.trace.record(world.now_us, self.name, "opened", session, identity.name.encode())
            case SessionClosed(session):
                world.trace.record(world.now_us, self.name, "closed", session)
            case Computed(job, _):
                world.trace.record(world.now_us, self.name, "computed", job)
            case _:
                world.trace.record(world.now_us, self.name, type(event).__name__.lower())
        try:
            effects = peer.step(event, self.now_ms, more=more)
        except Exception:
            self._stop_for_bug()
            return
        for effect in effects:
            self._obey(effect)
            if self.peer is not peer:
                return
        self._sync_if_due()
        if self.is_honest:
            self._watch_state(peer)

    def _stop_for_bug(self) -> None:
        lines = traceback.format_exc().strip().splitlines()
        places = [line.strip() for line in lines if line.lstrip().startswith("File ")]
        if self.is_honest:
            where = " < ".join(place.split("/")[-1].replace('"', "") for place in reversed(places[-3:]))
            self.world.evidence.breaches.append(("exception", self.name, f"{lines[-1]} ({where})"))
        self.world.trace.record(self.world.now_us, self.name, "exception", 0, lines[-1].encode())
        self.has_halted = True
        self._vanish()

    def _watch_state(self, peer: PeerLike) -> None:
        """Remember the state root of each final height as it is reached."""
        height = peer.final_height
        if height != self._seen_height:
            self._seen_height = height
            self._roots[height] = peer.final_version.root()

    # Effects

    def _obey(self, effect: Effect) -> None:
        world = self.world
        match effect:
            case Send() | Disconnect():
                if self._needed > self._synced and not self.sends_early:
                    self._gate.append((self._needed, effect))
                else:
                    self._let_out(effect)
            case Persist(records):
                if self.is_honest:
                    self._note_data(effect)
                self.disk.write(records)
                if must_be_durable(records):
                    self._needed = self._group
            case Compute():
                self._compute(effect)
            case Mark():
                # An own vote counts from when it leaves.
                if effect.stage is Stage.VOTED and self._needed > self._synced and not self.sends_early:
                    self._gate.append((self._needed, effect))
                else:
                    self._note_mark(effect)
            case SetTimer(at_ms):
                self._timer += 1
                if at_ms is not None:
                    self._plan_timer(at_ms)
            case Log(level, event, fields):
                text = " ".join((level, event, *(f"{name}={value}" for name, value in fields)))
                world.trace.record(world.now_us, self.name, "log", 0, text.encode())
            case Halt(code, sentence):
                world.trace.record(world.now_us, self.name, "halt", 0, code.encode())
                if self.is_honest:
                    world.evidence.breaches.append(("halt", self.name, f"{code}: {sentence}"))
                self.has_halted = True
                self._vanish()
            case _:
                raise AssertionError(f"{type(effect).__name__} is no effect of a peer")

    def _let_out(self, effect: Send | Disconnect | Mark) -> None:
        if isinstance(effect, Mark):
            self._note_mark(effect)
            return
        connection = self.connections.get(effect.session)
        if connection is None:
            return
        match effect:
            case Send(_, payload, bulk):
                if self.is_honest:
                    self._note_votes(payload)
                self.world.send(connection, self, payload, bulk=bulk)
            case Disconnect(_, code, sentence):
                target = connection.ends[1 - connection.side_of(self)]
                if self.is_honest and isinstance(target, Machine) and target.is_honest:
                    self.world.evidence.breaches.append(
                        ("accusation", self.name, f"left the honest {target.name}: {code}, {sentence}")
                    )
                self.world.close(connection)

    def _sync_if_due(self) -> None:
        """At once if a vote waits for it; else after a while, once for each group."""
        if not self.disk.has_waiting or self.disk.is_syncing:
            return
        if self._needed >= self._group:
            self._begin_sync()
        elif self._lazy_group != self._group:
            group = self._lazy_group = self._group
            incarnation = self.incarnation

            def lazily() -> None:
                still = self._group == group and self.incarnation == incarnation
                if still and self.is_up and self.disk.has_waiting and not self.disk.is_syncing:
                    self._begin_sync()

            self.world.after(self._chance.randrange(1_000 * LAZY_MS), lazily)

    def _begin_sync(self) -> None:
        self.disk.begin_sync()
        group, self._group = self._group, self._group + 1
        incarnation = self.incarnation
        duration_us = self.sync_us // 2 + self._chance.randrange(self.sync_us + 1)
        if self.dies_writing:
            self.dies_writing, self._is_doomed = False, True
            self.world.after(self._chance.randrange(duration_us), lambda: self._die_if(incarnation))

        def synced() -> None:
            if self.incarnation != incarnation or not self.is_up:
                return
            known = len(self.disk.breaches)
            count = self.disk.end_sync()
            self._note_finals()
            for breach in self.disk.breaches[known:]:
                if self.is_honest:
                    self.world.evidence.breaches.append(("disk", self.name, breach))
            self.world.trace.record(self.world.now_us, self.name, "synced", count)
            self._synced = group
            self._sync_if_due()
            while self._gate and self._gate[0][0] <= self._synced:
                self._let_out(self._gate.popleft()[1])

        self.world.after(duration_us, synced)

    def _compute(self, effect: Compute) -> None:
        world, incarnation = self.world, self.incarnation
        if effect.hashes is not None:
            self._search(effect, effect.hashes)
            return
        cost_us = effect.cost_us + self._chance.randrange(effect.cost_us // 2 + 1)
        if effect.cost_us <= _SMALL_JOB_US:
            start_us = world.now_us
        else:
            worker = min(range(_WORKERS), key=lambda index: self._workers[index])
            start_us = max(world.now_us, self._workers[worker])
            self._workers[worker] = start_us + cost_us
        result: list[object] = []

        def run() -> bool:
            if self.incarnation != incarnation or not self.is_up:
                return False
            try:
                result.append(effect.run())
            except Exception:
                self._stop_for_bug()
                return False
            return True

        def finish() -> None:
            if self.incarnation == incarnation and self.is_up and (result or run()):
                self._happen(Computed(effect.job, result[0]))

        if self._chance.randrange(2):
            world.at(start_us, lambda: void(run()))
        world.at(start_us + cost_us, finish)

    def _search(self, effect: Compute, hashes: Callable[[Any], int]) -> None:
        """A search for a proof of work: done at once, and told when this machine would have been done."""
        incarnation, result = self.incarnation, effect.run()

        def finish() -> None:
            if self.incarnation == incarnation and self.is_up:
                self._happen(Computed(effect.job, result))

        self.world.after(hashes(result) * 1_000_000 // self.hashes_per_s, finish)

    def _plan_timer(self, at_ms: int) -> None:
        timer = self._timer
        own_us = (at_ms - self.skew_ms - self.world.genesis.time_ms) * 1_000
        due_us = own_us - own_us * self.drift_ppm // (1_000_000 + self.drift_ppm)
        while self._by_own_clock(due_us) < own_us:
            due_us += 1

        def fire() -> None:
            if self._timer == timer:
                self.world.timers += 1
                self._happen(TimerFired())

        due_us = max(due_us, self.world.now_us + _TIMER_RESOLUTION_US)
        self.world.at(due_us, fire)
        if not self._chance.randrange(50):
            self.world.at(due_us, fire)

    # Evidence

    def _note_mark(self, mark: Mark) -> None:
        """Frames arrive whole: the first and the last byte of one come at the same time."""
        stages = ("first_byte", "complete") if mark.stage is Stage.ARRIVED else (mark.stage,)
        for stage in stages:
            moment = Moment(self.world.now_us, stage, mark.is_block, mark.id, mark.size_bytes, mark.block)
            self.moments.append(moment)

    def _note_data(self, effect: Persist) -> None:
        evidence = self.world.evidence
        for record in effect.records:
            if isinstance(record, BlockRecord):
                evidence.blocks[record.id] = record.data
            elif isinstance(record, BatchRecord):
                evidence.batches[record.digest] = record.data
            elif isinstance(record, CertificateRecord):
                evidence.certificates.setdefault(record.data, self.name)

    def _note_finals(self) -> None:
        """What became final on the disk. Before that nobody has been told, and a crash may still undo it."""
        evidence, disk = self.world.evidence, self.disk
        self._noted_height = min(self._noted_height, disk.final_height)
        while self.is_honest and self._noted_height < disk.final_height:
            self._noted_height += 1
            height = self._noted_height
            evidence.finals.append(FinalClaim(self.world.now_us, self.name, height, disk.final_id(height)))
            if height in self._roots:
                evidence.roots.append(RootClaim(self.name, height, self._roots[height]))
            codes = disk.receipts(height)
            if codes is not None:
                evidence.receipts.append((self.name, height, codes))

    def _note_votes(self, payload: bytes) -> None:
        """Own votes that leave: those of vote messages and of proposals, and seals under blocks."""
        is_block = len(payload) > 1 and payload[1] == _BLOCK
        if is_block and self.world.genesis.engine in _SEALING and payload not in self._votes_sent:
            self._votes_sent.add(payload)
            self._note_seal(msgpack.unpackb(payload)[1])
        if len(payload) < 2 or payload[1] not in (_PROPOSAL, _VOTE) or payload in self._votes_sent:
            return
        self._votes_sent.add(payload)
        vote = msgpack.unpackb(payload)[-1]
        _, epoch, _, _, _, signer, _ = msgpack.unpackb(vote)
        seats = getattr(getattr(self.peer, "node", None), "validators", self.world.genesis.validator_set)
        if seats.epoch == epoch and seats.members[signer].key == self.keypair.public_key:
            if not self.disk.has_vote(vote):
                self.world.evidence.breaches.append(("disk", self.name, "a vote left before it was durable"))
            self.world.evidence.votes.append(VoteSent(self.world.now_us, self.name, vote))

    def _note_seal(self, block: bytes) -> None:
        header = msgpack.unpackb(block)[0]
        own = header[_PROPOSER] == self.keypair.public_key and self.disk.may_vote
        if own and not self.disk.has_seal(header[_EPOCH], header[_VIEW], digest_of(msgpack.packb(header))):
            self.world.evidence.breaches.append(("disk", self.name, "a sealed block left before it was durable"))


def digest_of(header: bytes) -> bytes:
    """The identifier of a block."""
    return sha256(b"p2pl.bl1" + header).digest()


def void(_: object) -> None:
    """For an action whose value nobody wants."""
