"""One node from its directory to its end: store, snapshot, sockets and clock around one ``Peer``."""

from __future__ import annotations

import random
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol

import trio

from p2pledger import core
from p2pledger.ledger.snapshot import export_chunks, import_chunks
from p2pledger.network.certificates import NodeCertificate
from p2pledger.network.effects import (
    CLIENT,
    OBSERVER,
    VALIDATOR,
    Dial,
    Disconnect,
    Effect,
    Event,
    Identity,
    Mark,
    Received,
    Send,
    SessionClosed,
    SessionOpened,
)
from p2pledger.network.handshake import LocalEnd
from p2pledger.network.peer import Peer
from p2pledger.network.shaping import Link
from p2pledger.network.topology import NodeLinks, Topology, Trouble
from p2pledger.network.transport import Address, Counters, Sessions
from p2pledger.node.archive import Archive, Recovery
from p2pledger.primitives.errors import BadConfiguration, P2PLedgerError, PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.keys import Keypair
from p2pledger.server.addresses import Addresses
from p2pledger.server.archive import StoreArchive, recovery_of
from p2pledger.server.clock import Clock
from p2pledger.server.config import (
    LOG_FILE,
    NEVER_VOTED_FILE,
    SNAPSHOTS_FOLDER,
    ServerConfig,
    load_genesis,
    load_keypair,
    load_network,
)
from p2pledger.server.driver import Driver
from p2pledger.server.journal import Journal
from p2pledger.server.tracing import TRACE_FILE, Tracer, clock_us
from p2pledger.storage.errors import SnapshotFailed
from p2pledger.storage.snapshots import Snapshots
from p2pledger.storage.store import Store

__all__ = ["MakePeer", "PeerFace", "RunningServer", "Stats", "serve"]

_AGREEING: Final = ("simplex", "poa")
"""Engines that get nowhere without a quorum of validators."""
_IMPORTED_STATES: Final = 2
"""Snapshots that are tried before everything is executed again."""


class _StatusFace(Protocol):
    @property
    def final_block(self) -> bytes: ...
    @property
    def catching_up(self) -> bool: ...


class PeerFace(Protocol):
    """What a server needs of a peer."""

    @property
    def final_height(self) -> int: ...
    @property
    def final_version(self) -> core.Version: ...
    def step(self, event: Event, now_ms: int, *, more: bool = False) -> list[Effect]: ...
    def settle(self, now_ms: int) -> list[Effect]: ...
    def admit(self, identity: Identity) -> tuple[str, str] | None: ...
    def status(self) -> _StatusFace: ...


MakePeer = Callable[[Genesis, Keypair, str, Archive, Recovery], PeerFace]


@dataclass(frozen=True, slots=True)
class Stats:
    """What this process has used, moved and done so far."""

    height: int
    sessions: int
    cpu_s: float
    rss_mib: float
    bytes_in: int
    bytes_out: int
    frames_in: int
    frames_out: int
    dropped_frames: int
    dropped_bytes: int
    steps: int
    commits: int
    votes: bool


class RunningServer:
    """A node that listens. ``port`` is the real one; ``wait_ready`` returns when it is connected and caught up.

    ``votes``: it may take part in consensus from the genesis on, and knows what it voted. A node that lost its vote log
    only observes.
    """

    def __init__(
        self,
        port: int,
        votes: bool,
        peer: PeerFace,
        sessions: Sessions,
        driver: Driver,
        ready: trio.Event,
        clock: Clock,
        shaper: _Shaper,
    ) -> None:
        self.port = port
        self.votes = votes
        self._clock = clock
        self._shaper = shaper
        self._peer = peer
        self._sessions = sessions
        self._driver = driver
        self._ready = ready

    def set_peers(self, addresses: Mapping[bytes, Address]) -> None:
        """Where the other nodes are now, by node key."""
        self._sessions.set_peers(addresses)

    def shun(self, keys: Iterable[bytes]) -> None:
        """Have no sessions with these node keys until other ones are named, nor with whom the manifest cuts off."""
        self._sessions.shun({*keys, *self._shaper.cut_off})

    def trouble(self, trouble: Trouble) -> None:
        """These faults of links from now on, and no others."""
        self._shaper.trouble(trouble)
        self._sessions.shape(self._shaper.link_of)

    def skew(self, skew_ms: float) -> None:
        """Let the node's clock be so far ahead of the machine's, or behind it."""
        self._clock.skew(skew_ms)

    async def wait_ready(self) -> int:
        """The final height at which it is connected to a quorum and has caught up with it."""
        await self._ready.wait()
        return self._peer.final_height

    def stop(self) -> None:
        """Stop in good order: store what was asked for, send what is queued, hang up. ``serve`` then returns."""
        self._driver.stop()

    def stats(self) -> Stats:
        counters: Counters = self._sessions.counters
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return Stats(
            height=self._peer.final_height,
            sessions=self._sessions.open_count,
            cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
            rss_mib=round(_resident_mib(), 1),
            bytes_in=counters.bytes_in,
            bytes_out=counters.bytes_out,
            frames_in=counters.frames_in,
            frames_out=counters.frames_out,
            dropped_frames=counters.dropped_frames,
            dropped_bytes=counters.dropped_bytes,
            steps=self._driver.steps,
            commits=self._driver.commits,
            votes=self.votes,
        )


def _resident_mib() -> float:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 1_048_576
    except OSError:
        # Not Linux: the largest it has been, in KiB there.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


class _Shaper:
    """The links of a node to others, by their names in the genesis, else by those that they tell."""

    def __init__(self, topology: Topology | None, genesis: Genesis, name: str) -> None:
        self.is_needed = topology is not None
        self._names = {seat.key: seat.name for seat in genesis.validators}
        topology = Topology() if topology is None else topology
        chance = random.Random(f"{genesis.network_id.hex()} {name}")
        self._links = NodeLinks(topology, name, chance)
        self.cut_off = frozenset(key for key, other in self._names.items() if topology.is_cut(name, other))
        """Keys of those with whom there is no session at all."""

    def trouble(self, trouble: Trouble) -> None:
        self._links.trouble(trouble)

    def link_of(self, identity: Identity) -> Link | None:
        if identity.role == CLIENT:
            return None
        return self._links.link(self._names.get(identity.node_key, identity.name))


@dataclass(slots=True)
class _Readiness:
    """Whether this node hears enough others, and is not behind them.

    Where validators of the genesis have to agree (simplex, poa) it must hear a quorum of them; elsewhere one other
    node will do, and none where there is none to be called. With a ``degree`` the others are heard through neighbours:
    half of as many will do, or all that there could be. A node counts when a frame of its has been stepped through:
    the first one tells its height, so before that nobody knows whether this node is behind.
    """

    genesis: Genesis
    own_key: bytes
    is_alone: bool
    degree: int = 0
    keys: dict[int, bytes] = field(default_factory=dict)
    heard: set[int] = field(default_factory=set)

    def saw(self, event: Event) -> None:
        match event:
            case SessionOpened(session, identity) if identity.role != CLIENT:
                self.keys[session] = identity.node_key
            case SessionClosed(session):
                self.keys.pop(session, None)
                self.heard.discard(session)
            case Received(session, _):
                self.heard.add(session)
            case _:
                pass

    @property
    def hears_enough(self) -> bool:
        heard = {self.keys[session] for session in self.heard if session in self.keys}
        if self.genesis.engine not in _AGREEING:
            return self.is_alone or bool(heard)
        if self.degree:
            return 2 * len(heard) >= min(self.degree, len(self.genesis.validators) - 1)
        validators = self.genesis.validator_set
        weight = sum(seat.weight for seat in validators.members if seat.key in heard | {self.own_key})
        # Who came later than the genesis hears the same quorum, or all those of the genesis are gone.
        return weight >= validators.quorum or len(heard) >= len(validators)


@dataclass(slots=True)
class _SnapshotWriter:
    """Every so many final heights the newest final state goes to disk, in a thread, one at a time."""

    snapshots: Snapshots
    every: int
    last_height: int
    journal: Journal
    is_writing: bool = False

    def is_due(self, peer: PeerFace) -> bool:
        return not self.is_writing and peer.final_height - self.last_height >= self.every

    async def write(self, peer: PeerFace) -> None:
        self.is_writing = True
        height, version, block_id = peer.final_height, peer.final_version, peer.status().final_block
        began_s = trio.current_time()
        try:
            await trio.to_thread.run_sync(
                lambda: self.snapshots.write(height, block_id, version.root(), export_chunks(version))
            )
            took_ms = round(1_000 * (trio.current_time() - began_s))
            self.journal.write("info", "snapshot", (("height", height), ("took_ms", took_ms)))
        except SnapshotFailed as error:  # Nothing is lost: the next start replays more.
            self.journal.write("error", error.code, (("sentence", str(error)),))
        self.last_height = height
        self.is_writing = False


def _with_snapshot(store: Store, snapshots: Snapshots, recovery: Recovery, journal: Journal) -> Recovery:
    """The newest snapshot that is whole, on this chain, and what it says it is; damaged ones are passed over."""
    at_most = recovery.final_height
    for _ in range(_IMPORTED_STATES):
        if at_most < 1:
            break
        snapshot, notes = snapshots.newest(at_most_height=at_most)
        for note in notes:
            journal.write("warning", "snapshot_damaged", (("sentence", note),))
        if snapshot is None:
            break
        stored = store.block_at(snapshot.height)
        if stored is not None and stored.id == snapshot.block_id:
            try:
                state = import_chunks(snapshot.rows(), root=snapshot.state_root)
                return replace(recovery, state=state, state_height=snapshot.height)
            except PeerFault as fault:
                journal.write("warning", "snapshot_damaged", (("height", snapshot.height), ("sentence", str(fault))))
        else:
            sentence = "its block is not the final one of its height here"
            journal.write("warning", "snapshot_foreign", (("height", snapshot.height), ("sentence", sentence)))
        at_most = snapshot.height - 1
    return recovery


def _may_produce(genesis: Genesis, key: bytes) -> bool:
    """Whether the genesis lets this key take part: by a seat, by a stake, or by work where anybody may."""
    if genesis.validator_set.signer_of(key) is not None or any(stake.key == key for stake in genesis.stakes):
        return True
    return genesis.profile == "public" and genesis.engine == "pow"


async def serve(
    config: ServerConfig,
    *,
    make_peer: MakePeer | None = None,
    unix_time: Callable[[], float] | None = None,
    task_status: trio.TaskStatus[RunningServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a node until ``RunningServer.stop``, which ``task_status`` hands out as soon as it listens.

    NodeStopped when it cannot keep its promises any more; BadConfiguration, DirectoryInUse and other errors of the
    store when it cannot start. They are written to the log of the node as well.
    """
    log = config.directory / LOG_FILE
    try:
        journal = Journal(log, level=config.log_level)
    except OSError as refused:
        why = refused.strerror or str(refused)
        raise BadConfiguration("the log cannot be written", where=str(log), why=why) from None
    try:
        await _serve(config, journal, make_peer, Clock() if unix_time is None else Clock(unix_time), task_status)
    except BaseExceptionGroup as group:
        # Exactly one reason is an answer; anything else is a bug, and its traceback is kept.
        error = _only_reason(group)
        if error is None:
            if group.split(trio.Cancelled)[1] is not None:
                journal.crash(group)
            raise
        journal.write("critical", "stopped", (("code", error.code), ("sentence", str(error))))
        raise error from None
    except P2PLedgerError as error:
        journal.write("critical", "stopped", (("code", error.code), ("sentence", str(error))))
        raise
    except Exception as error:
        journal.crash(error)
        raise
    finally:
        journal.close()


def _only_reason(group: BaseExceptionGroup[BaseException]) -> P2PLedgerError | None:
    """The one error of ours, if everything else in the group is cancellation."""
    leaves = [leaf for leaf in _leaves(group) if not isinstance(leaf, trio.Cancelled)]
    return leaves[0] if len(leaves) == 1 and isinstance(leaves[0], P2PLedgerError) else None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


async def _serve(
    config: ServerConfig,
    journal: Journal,
    make_peer: MakePeer | None,
    clock: Clock,
    task_status: trio.TaskStatus[RunningServer],
) -> None:
    directory = config.directory
    genesis, keypair = load_genesis(directory), load_keypair(directory)
    shaper = _Shaper(load_network(config), genesis, config.name)
    who = (("name", config.name), ("key", keypair.public_key.hex()), ("network", genesis.network_id.hex()))
    journal.write("info", "starting", (*who, ("core", core.description())))
    never_voted = directory / NEVER_VOTED_FILE
    store = await trio.to_thread.run_sync(
        partial(
            Store.open,
            directory,
            network_id=genesis.network_id,
            node_key=keypair.public_key,
            name=config.name,
            fresh=never_voted.exists(),
        )
    )
    try:
        # From here on the vote log itself remembers; a declaration that outlived it would be a lie one day.
        never_voted.unlink(missing_ok=True)
        for note in store.notes:
            journal.write("warning", "store_note", (("sentence", note),))
        snapshots = Snapshots(directory / SNAPSHOTS_FOLDER, network_id=genesis.network_id)
        archive = StoreArchive(store)

        addresses = None
        if config.seeds is not None:
            addresses = Addresses(config, journal, bans=genesis.profile == "public")

        def recover() -> PeerFace:
            recovery = _with_snapshot(store, snapshots, recovery_of(store), journal)
            if make_peer is None:
                discovery = None if addresses is None else addresses.discovery
                return Peer(
                    genesis,
                    keypair,
                    name=config.name,
                    archive=archive,
                    recovery=recovery,
                    traces=config.trace,
                    degree=config.degree,
                    discovery=discovery,
                )
            return make_peer(genesis, keypair, config.name, archive, recovery)

        peer = await trio.to_thread.run_sync(recover)
        newest = max((int(path.stem) for path in snapshots.paths() if path.stem.isdecimal()), default=0)
        writer = _SnapshotWriter(snapshots, config.snapshot_every, min(newest, peer.final_height), journal)
        tracer = _tracer(config, keypair) if config.trace else None
        try:
            around = (journal, genesis, keypair, clock, store, archive, peer, writer, shaper, tracer, addresses)
            await _run(config, *around, task_status)
        finally:
            if addresses is not None:
                addresses.close()
            if tracer is not None:
                tracer.close()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(store.close)
        journal.write("info", "ended")


def _tracer(config: ServerConfig, keypair: Keypair) -> Tracer:
    path = config.directory / TRACE_FILE
    try:
        return Tracer(path, config.name, keypair.public_key)
    except OSError as refused:
        why = refused.strerror or str(refused)
        raise BadConfiguration("the trace cannot be written", where=str(path), why=why) from None


async def _run(
    config: ServerConfig,
    journal: Journal,
    genesis: Genesis,
    keypair: Keypair,
    clock: Clock,
    store: Store,
    archive: StoreArchive,
    peer: PeerFace,
    writer: _SnapshotWriter,
    shaper: _Shaper,
    tracer: Tracer | None,
    addresses: Addresses | None,
    task_status: trio.TaskStatus[RunningServer],
) -> None:
    own_key = keypair.public_key
    is_alone = (
        not (config.peers or config.seeds)
        and genesis.validator_set.signer_of(own_key) == 0
        and len(genesis.validators) == 1
    )
    readiness, ready = _Readiness(genesis, own_key, is_alone, config.degree), trio.Event()
    produces = _may_produce(genesis, own_key)
    nursery: trio.Nursery

    def saw(event: Event) -> None:
        if not ready.is_set():
            readiness.saw(event)

    def after_steps() -> None:
        if not ready.is_set() and readiness.hears_enough and not peer.status().catching_up:
            ready.set()
            journal.write("info", "ready", (("height", peer.final_height),))
        if writer.is_due(peer):
            nursery.start_soon(writer.write, peer)

    def send(effect: Send) -> None:
        sessions.send(effect.session, effect.payload, bulk=effect.bulk)

    def disconnect(effect: Disconnect) -> None:
        sessions.end(effect.session, effect.code, effect.sentence)

    def mark(mark: Mark, event: Event) -> None:
        if tracer is not None:
            tracer.note(mark, event)

    async def deliver(events: Sequence[Event]) -> None:
        await driver.deliver(events)

    def dial(effect: Dial) -> None:
        sessions.dial(effect.host, effect.port)

    driver = Driver(
        peer,
        clock=clock,
        commit=store.commit,
        send=send,
        disconnect=disconnect,
        log=journal.write,
        handed_over=archive.hold,
        stored=archive.release,
        saw=saw,
        mark=mark,
        dial=dial,
        after_steps=after_steps,
    )
    sessions = Sessions(
        LocalEnd(genesis.hash, keypair, VALIDATOR if produces else OBSERVER, config.name),
        NodeCertificate.fresh(),
        admit=peer.admit,
        deliver=deliver,
        log=journal.write,
        clock_us=None if tracer is None else clock_us,
    )
    if shaper.is_needed:
        sessions.shape(shaper.link_of)
        sessions.shun(shaper.cut_off)
    port = await sessions.listen(config.listen_host, config.listen_port)
    async with trio.open_nursery() as nursery:
        if addresses is not None:
            addresses.discovery.port = port
            nursery.start_soon(addresses.run)
        try:
            await nursery.start(sessions.run)
            sessions.set_peers(config.peer_addresses)
            journal.write("info", "listening", (("host", config.listen_host), ("port", port)))
            votes = produces and store.may_vote
            task_status.started(RunningServer(port, votes, peer, sessions, driver, ready, clock, shaper))
            await driver.run()
        finally:
            # Hang up politely also when the node has to stop: the last words of others may depend on it.
            with trio.CancelScope(shield=True):
                await sessions.stop()
        nursery.cancel_scope.cancel()
