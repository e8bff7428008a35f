"""Moves frames: sockets, handshakes, queues. With ``tls.py``, which it does so through, all of this floor that waits.

A ``Session`` is one finished handshake. It has one task that reads and one that writes, and nothing is locked:

* The reader takes what the socket has, up to 64 KiB at a time, and hands over all frames of one read at once. While
  its receiver does not take them it reads nothing more, so TCP slows the peer down.
* ``send`` never waits: it puts a frame into the queue. What has gathered there is joined into one write, since a
  write costs about the same whatever its size. The queue holds at most 16 MiB. *Bulk* frames (batches) find it full a
  quarter earlier, are dropped, and counted: whoever needs them asks again. The last quarter is for all others; if even
  they do not fit, the peer has stopped reading, and the session ends.

What is sent to many is written by one task of ``Sessions``: the first frame that comes into an empty queue wakes it, it
runs when the task that sends has come to its end, and then writes for each such session, without waiting, what the
socket takes, up to one write. A session's own writer is woken only for what is left then: to wait for a socket that is
full, for the rest of a long queue, for a link. So a turn that speaks to every peer costs one change of tasks, not one
for each. A write that has begun is finished before another one begins, whichever of the two does it.

``Sessions`` keeps all sessions of one node: it listens, it dials the peers it was told of, and tells one receiver what
happens, as the events of ``effects.py``. Of two nodes the one with the smaller key dials, so that no two calls cross;
if there is no session after a second, for perhaps it does not know where to call, the other one dials as well. Where a
session with a key is open, another one is refused (``duplicate_session``). A call that fails is tried again after
0.1 s, doubling up to 3 s, and at once when a new address is told. ``dial`` calls an address once, whoever listens
there: that is for addresses that were found (``discovery.py``), of which no key is known. At most 1,024 sessions
are open; the last 64 places are for those that this node dials, so that callers in masses do not keep it from that.

A session may be *shaped* (``shaping.py``): then its writer puts the frames on a modelled link, in turns of 64 KiB, and
gives each piece to the socket when it would have arrived. That is the same task with other waits: a session that is not
shaped has nothing of it but one look whether it is. Handshakes are not shaped.

Nothing here sends anything for its own sake. Dead machines are noticed by the kernel's TCP keep-alive.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from math import inf
from typing import Final

import trio

from p2pledger.network.certificates import NodeCertificate
from p2pledger.network.effects import (
    CLIENT,
    OBSERVER,
    VALIDATOR,
    DialFailed,
    Event,
    Identity,
    Received,
    SessionClosed,
    SessionOpened,
    TimedReceived,
)
from p2pledger.network.frames import HANDSHAKE_LIMIT_BYTES, HEADER_BYTES, MESSAGE_LIMIT_BYTES, FrameReader, frame
from p2pledger.network.handshake import Admission, Handshake, LocalEnd, Refused
from p2pledger.network.shaping import TURN_BYTES, Link
from p2pledger.network.tls import GONE, TlsStream
from p2pledger.primitives.errors import InvalidInput, P2PLedgerError, PeerFault

__all__ = [
    "CLIENT",
    "OBSERVER",
    "VALIDATOR",
    "Address",
    "CannotConnect",
    "Counters",
    "Ending",
    "Identity",
    "LinkOf",
    "LocalEnd",
    "Refused",
    "Session",
    "Sessions",
    "connect",
    "open_session",
]

Address = tuple[str, int]
"""Host and port."""
LogLine = Callable[[str, str, tuple[tuple[str, str | int], ...]], None]
"""level, event, fields: as in the effect ``Log``."""
LinkOf = Callable[[Identity], Link | None]
"""The link to whoever is at the other end, or None where nothing is shaped."""

HANDSHAKE_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 1.0
"""How long an ending session may take to send what is queued, and to see that the other end got it."""
QUEUE_LIMIT_BYTES: Final = 16 * 1_048_576
_COURTESY_S: Final = 1.0
"""How long the one with the greater key waits for the other's call."""
_FIRST_RETRY_S: Final = 0.1
_LAST_RETRY_S: Final = 3.0
_SHUNNED: Final = ("shunned", "this node was told to have no session with that one")
_WRITE_BYTES: Final = 262_144
_EARLY_US: Final = 500
"""Sleeping ends up to a millisecond late: what is due within half of one is due. (On average it is on time so.)"""
_MAX_HANDSHAKES: Final = 64
"""Unknown callers at the same time; the others wait in the kernel's queue."""
_MAX_SESSIONS: Final = 1_024
_KEPT_FOR_DIALLED: Final = 64


class CannotConnect(P2PLedgerError):
    """Nobody answers at an address, or the connection broke before the handshake was done."""

    code = "cannot_connect"
    exit_code = 4


@dataclass(slots=True)
class Counters:
    """What went over sessions, in bytes of frames (TLS adds about 1 %)."""

    bytes_in: int = 0
    bytes_out: int = 0
    frames_in: int = 0
    frames_out: int = 0
    dropped_frames: int = 0
    dropped_bytes: int = 0

    def add(self, other: Counters) -> None:
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.frames_in += other.frames_in
        self.frames_out += other.frames_out
        self.dropped_frames += other.dropped_frames
        self.dropped_bytes += other.dropped_bytes


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a session ended: a stable code and a sentence. ``closed``: the other end hung up."""

    code: str
    sentence: str


class Session:
    """One open session. ``run`` it once; ``send`` and ``end`` from any task of the same Trio run."""

    def __init__(
        self,
        stream: TlsStream,
        reader: FrameReader,
        identity: Identity,
        address: str,
        *,
        queue_limit_bytes: int = QUEUE_LIMIT_BYTES,
    ) -> None:
        """Use ``open_session``."""
        self._stream = stream
        self._reader = reader
        self._queue: deque[bytes | memoryview] = deque()
        self._queued_bytes = 0
        self._queue_limit_bytes = queue_limit_bytes
        self._bulk_limit_bytes = queue_limit_bytes * 3 // 4
        self._asleep = trio.lowlevel.ParkingLot()
        """The writer, while it has nothing to do."""
        self._writes: tuple[int, int] | None = None
        """Frames and bytes of the write that has begun and that the socket has not taken as a whole."""
        self._sent: trio.Event | None = None
        """Set when the queue has become shorter; there while somebody waits for that."""
        self._reading = trio.CancelScope()
        self._writing = trio.CancelScope()
        self._link: Link | None = None
        self._under_way: deque[tuple[int, bytes | memoryview, int]] = deque()
        """On the modelled link: (when it arrives, bytes, frames that end in them), in order."""
        self._departed_us = 0
        """When what was last put on the link has left: then it is the next one's turn."""
        self.has_work: Callable[[Session], None] = Session._wake
        """Told when the first frame comes into an empty queue; it sees to it that ``write_at_once`` is called soon."""
        self.clock_us: Callable[[], int] | None = None
        """Where the times of arrivals come from, for whoever traces."""
        self.begun_us: list[int] = []
        """When the first bytes of each payload came that is now being delivered; empty without a clock."""
        self.identity = identity
        self.address = address
        self.counters = Counters()
        self.ending: Ending | None = None

    @property
    def queued_bytes(self) -> int:
        return self._queued_bytes

    def send(self, payload: bytes, *, bulk: bool = False) -> bool:
        """Queue one frame. False if it was dropped: bulk and no room, or the session is ending."""
        size_bytes = HEADER_BYTES + len(payload)
        if self.ending is not None:
            return False
        if self._queued_bytes + size_bytes > (self._bulk_limit_bytes if bulk else self._queue_limit_bytes):
            self.counters.dropped_frames += 1
            self.counters.dropped_bytes += size_bytes
            if not bulk:
                self.end(
                    "queue_overflow", f"{self._queued_bytes} bytes wait to be sent and the peer does not read them"
                )
                self._writing.cancel()
            return False
        self._queue.append(frame(payload))
        self._queued_bytes += size_bytes
        if len(self._queue) == 1:
            self.has_work(self)
        return True

    def shape(self, link: Link | None) -> None:
        """From now on what is sent goes over a modelled link, or over none; what is under way goes on as it is."""
        self._link = link
        self._departed_us = _now_us()
        self._wake()

    def end(self, code: str, sentence: str) -> None:
        """End the session: nothing is read any more, what is queued is still sent if that takes no longer than 1 s.

        The first reason counts.
        """
        if self.ending is None:
            self.ending = Ending(code, sentence)
            self._reading.cancel()
            self._writing.deadline = min(self._writing.deadline, trio.current_time() + CLOSE_TIMEOUT_S)
            self._wake()
            self._is_shorter()

    async def wait_queued_below(self, limit_bytes: int) -> None:
        """For senders who would rather wait than lose the session. Returns also when the session is ending."""
        while self._queued_bytes >= limit_bytes and self.ending is None:
            if self._sent is None:
                self._sent = trio.Event()
            await self._sent.wait()

    async def run(self, deliver: Callable[[list[bytes]], Awaitable[None]]) -> Ending:
        """Move frames until the session ends; says why it ended. ``deliver`` gets the payloads of each read."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                with self._reading:
                    await self._read(deliver)
            if not self._writing.cancel_called:  # Else nobody is there, or nobody who reads.
                await self._stream.close_politely(CLOSE_TIMEOUT_S)
        finally:
            self._stream.close()
        assert self.ending is not None
        return self.ending

    def close(self) -> None:
        """Close the connection of a session that was never run, at once. ``run`` itself leaves nothing to close."""
        self._stream.close()

    async def _read(self, deliver: Callable[[list[bytes]], Awaitable[None]]) -> None:
        stream, reader, counters, clock_us = self._stream, self._reader, self.counters, self.clock_us
        first_us = came_us = clock_us() if clock_us is not None else 0
        try:
            data = b""  # The first frames may have come in the last read of the handshake.
            while True:
                if payloads := reader.payloads(data):
                    counters.frames_in += len(payloads)
                    counters.bytes_in += HEADER_BYTES * len(payloads) + sum(map(len, payloads))
                    if clock_us is not None:
                        # The first may have begun with an earlier read; what is left in the reader began with this one.
                        self.begun_us = [first_us, *(came_us for _ in payloads[1:])]
                        first_us = came_us
                    await deliver(payloads)
                data = await stream.receive_some()
                if not data:
                    self._hung_up("the other end closed the session")
                    return
                if clock_us is not None:
                    came_us = clock_us()
                    if not reader.buffered_bytes:
                        first_us = came_us
        except PeerFault as fault:
            self.end(fault.code, str(fault))
        except GONE as error:
            self._hung_up(_reason(error))

    def _hung_up(self, sentence: str) -> None:
        self.end("closed", sentence)
        self._writing.cancel()

    async def _write(self) -> None:
        try:
            with self._writing:
                while not self._is_all_sent:
                    if self._link is None and not self._under_way:
                        await self._write_freely()
                    else:
                        await self._write_as_it_arrives()
        except GONE as error:
            self._hung_up(_reason(error))

    @property
    def _is_all_sent(self) -> bool:
        return self.ending is not None and not self._queue and not self._under_way and self._writes is None

    def _wake(self) -> None:
        self._asleep.unpark_all()

    def write_at_once(self) -> None:
        """What is queued, up to one write, as far as the socket takes it now; the writer's task does all else."""
        if self._link is None and not self._under_way and self._writes is None and self._queue:
            try:
                self._write_queued()
            except GONE as error:
                self._hung_up(_reason(error))
                return
        if self._queue or self._writes is not None:
            self._wake()

    async def _write_freely(self) -> None:
        """Until the session has ended or is shaped."""
        while self._link is None:
            if self._writes is not None:
                await self._finish_write()
            elif self._queue:
                if self._write_queued():
                    await trio.lowlevel.checkpoint()
            elif self.ending is not None:
                return
            else:
                await self._asleep.park()

    def _write_queued(self) -> bool:
        """As ``_begin_write``."""
        queue = self._queue
        frames: list[bytes | memoryview] = []
        size_bytes = 0
        while queue and size_bytes < _WRITE_BYTES:
            part = queue.popleft()
            frames.append(part)
            size_bytes += len(part)
        return self._begin_write(frames, len(frames), size_bytes)

    async def _write_as_it_arrives(self) -> None:
        """Until the session has ended, or is shaped no more and what was under way has arrived.

        Two things fall due: the front of what is under way arrives, or the link is free and it is the queue's turn.
        """
        queue, under_way = self._queue, self._under_way
        was_waiting = False
        while under_way or self._writes is not None or (self._link is not None and not self._is_all_sent):
            now_us = _now_us() + _EARLY_US
            if self._writes is not None:
                await self._finish_write()
            elif under_way and under_way[0][0] <= now_us:
                frames: list[bytes | memoryview] = []
                count = size_bytes = 0
                while under_way and under_way[0][0] <= now_us and size_bytes < _WRITE_BYTES:
                    _, part, ends = under_way.popleft()
                    frames.append(part)
                    count += ends
                    size_bytes += len(part)
                if self._begin_write(frames, count, size_bytes):
                    await trio.lowlevel.checkpoint()
            elif queue and self._link is not None and self._departed_us <= now_us:
                # Whoever had to wait for its turn takes it when it came, however late this task woke up.
                start_us = self._departed_us if was_waiting else now_us - _EARLY_US
                part, ends = self._take_turn()
                self._departed_us, arrival_us = self._link.send(start_us, len(part))
                under_way.append((arrival_us, part, ends))
                was_waiting = bool(queue)
            else:
                was_waiting = bool(queue)
                due_us = [under_way[0][0]] if under_way else []
                if queue and self._link is not None:
                    due_us.append(self._departed_us)
                with trio.move_on_at((min(due_us) - _EARLY_US) / 1_000_000 if due_us else inf):
                    await self._asleep.park()

    def _take_turn(self) -> tuple[bytes | memoryview, int]:
        """Frames from the front of the queue up to the size of a turn, or so much of a large one; how many end."""
        queue = self._queue
        part = queue.popleft()
        if len(part) > TURN_BYTES:
            whole = memoryview(part)
            queue.appendleft(whole[TURN_BYTES:])
            return whole[:TURN_BYTES], 0
        parts, size_bytes = [part], len(part)
        while queue and size_bytes + len(queue[0]) <= TURN_BYTES:
            parts.append(queue.popleft())
            size_bytes += len(parts[-1])
        return b"".join(parts), len(parts)

    def _begin_write(self, parts: list[bytes | memoryview], frames: int, size_bytes: int) -> bool:
        """Hand bytes to the kernel. False if it has not taken all: then nothing is written before ``_finish_write``.

        Till it has, all of them count as queued: a peer that reads nothing keeps its share full.
        """
        assert self._writes is None, "one write at a time"
        self._writes = frames, size_bytes
        is_done = self._stream.write(b"".join(parts))
        if is_done:
            self._count_write()
        return is_done

    async def _finish_write(self) -> None:
        await self._stream.flush()
        self._count_write()

    def _count_write(self) -> None:
        assert self._writes is not None
        frames, size_bytes = self._writes
        self._writes = None
        self._queued_bytes -= size_bytes
        self.counters.frames_out += frames
        self.counters.bytes_out += size_bytes
        self._is_shorter()

    def _is_shorter(self) -> None:
        if self._sent is not None:
            self._sent.set()
            self._sent = None


def _now_us() -> int:
    """Rounded: a deadline in these units that has come must not look as if it were a microsecond away."""
    return round(trio.current_time() * 1_000_000)


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(cause) or type(cause).__name__


# --- opening a session ----------------------------------------------------------------------------------------------


def _keep_alive(sock: socket.socket) -> None:
    """Let the kernel notice within half a minute that the other machine is gone. It costs nothing on loopback."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 25_000)):
        if hasattr(socket, name):  # Linux
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _fields_of(handshake: Handshake | None) -> tuple[tuple[str, str | int], ...]:
    claimed = None if handshake is None else handshake.claimed
    return () if claimed is None else (("name", claimed.name), ("key", claimed.node_key.hex()))


async def open_session(
    raw: trio.SocketStream,
    local: LocalEnd,
    certificate: NodeCertificate,
    *,
    is_server: bool,
    admit: Admission,
    expected_key: bytes | None = None,
    log: LogLine | None = None,
    queue_limit_bytes: int = QUEUE_LIMIT_BYTES,
) -> Session:
    """TLS and the handshake over a fresh connection, within 5 s and frames of 4 KiB. The connection is closed on error.

    PeerFault: the other end was refused, and was told why. Refused: it refused us. CannotConnect: it went away.
    Each of them is written to the log.
    """
    context = certificate.server_context if is_server else certificate.client_context
    stream = TlsStream(raw, context, server_side=is_server)
    address = _address_of(stream.socket)
    handshake: Handshake | None = None

    def tell(event: str, error: P2PLedgerError) -> None:
        if log is not None:
            sentence = error.what + (f": {error.why}" if error.why else "")
            fields = (("address", address), ("code", error.code), ("sentence", sentence), *_fields_of(handshake))
            log("warning", event, fields)

    try:
        _keep_alive(stream.socket)
        with trio.fail_after(HANDSHAKE_TIMEOUT_S):
            await stream.do_handshake()
            peer_certificate = stream.peer_certificate
            assert peer_certificate, "TLS let somebody in without a certificate"
            handshake = Handshake(
                local,
                certificate=certificate.der,
                peer_certificate=peer_certificate,
                admit=admit,
                expected_key=expected_key,
            )
            reader = FrameReader(HANDSHAKE_LIMIT_BYTES)
            await stream.send_all(frame(handshake.hello()))
            while handshake.identity is None:
                while (payload := reader.next_payload()) is None:
                    data = await stream.receive_some()
                    if not data:
                        raise CannotConnect("the other end hung up during the handshake", where=address)
                    reader.feed(data)
                answer = handshake.receive(payload)
                if answer is not None:
                    await stream.send_all(frame(answer))
        reader.limit_bytes = MESSAGE_LIMIT_BYTES
        return Session(stream, reader, handshake.identity, address, queue_limit_bytes=queue_limit_bytes)
    except PeerFault as fault:
        tell("session_refused", fault)
        try:
            with trio.move_on_after(CLOSE_TIMEOUT_S), suppress(*GONE):
                await stream.send_all(frame(Handshake.refusal(fault)))
            await stream.close_politely(CLOSE_TIMEOUT_S)
        finally:
            stream.close()  # Also when this is cancelled while the refusal waits to be sent.
        raise
    except Refused as refused:
        tell("session_refused_by_peer", refused)
        stream.close()
        raise
    except trio.TooSlowError:
        slow = PeerFault(f"the handshake took longer than {HANDSHAKE_TIMEOUT_S:g} s", code="handshake_timeout")
        tell("session_refused", slow)
        stream.close()
        raise slow from None
    except CannotConnect as gone:
        tell("handshake_failed", gone)
        stream.close()
        raise
    except (*GONE, OSError) as broken:
        code = "tls_failed" if isinstance(broken.__cause__, ssl.SSLError) else None
        error = CannotConnect("the handshake broke off", where=address, why=_reason(broken), code=code)
        tell("handshake_failed", error)
        stream.close()
        raise error from None
    except BaseException:
        stream.close()
        raise


def _address_of(sock: socket.socket) -> str:
    try:
        host, port = sock.getpeername()[:2]
    except OSError:
        return "unknown"
    return f"{host}:{port}"


def _system_reason(error: OSError) -> str:
    """The system's own words: Trio wraps them, and puts the attempts at several addresses into a group."""
    inner: BaseException = error.__cause__ or error
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    if isinstance(inner, OSError) and not isinstance(inner, socket.gaierror) and inner.errno:
        return os.strerror(inner.errno)
    return str(inner)


async def connect(address: Address) -> trio.SocketStream:
    """A TCP connection. CannotConnect with the reason of the system."""
    host, port = address
    try:
        with trio.fail_after(CONNECT_TIMEOUT_S):
            return await trio.open_tcp_stream(host, port)
    except trio.TooSlowError:
        why = f"no answer within {CONNECT_TIMEOUT_S:g} s"
    except OSError as error:
        why = _system_reason(error)
    raise CannotConnect("nobody answers", where=f"{host}:{port}", why=why, hint="Is the node running?")


# --- all sessions of one node ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Called:
    """A peer that this node dials. ``changed`` is set, and replaced, when the address changes."""

    address: Address | None = None
    changed: trio.Event = field(default_factory=trio.Event)


class Sessions:
    """Listens, dials, and tells ``deliver`` what happens; see the top of this file.

    ``deliver`` takes events in order and may wait: then nothing more is read from that peer. For each session it gets
    SessionOpened, any number of Received, SessionClosed; when the node stops, the rest may be missing.
    """

    def __init__(
        self,
        local: LocalEnd,
        certificate: NodeCertificate,
        *,
        admit: Admission,
        deliver: Callable[[Sequence[Event]], Awaitable[None]],
        log: LogLine,
        queue_limit_bytes: int = QUEUE_LIMIT_BYTES,
        clock_us: Callable[[], int] | None = None,
    ) -> None:
        """``clock_us``: hand out ``TimedReceived``, with the times of a frame's first and last bytes by this clock."""
        self._local = local
        self._certificate = certificate
        self._admit = admit
        self._deliver = deliver
        self._log = log
        self._queue_limit_bytes = queue_limit_bytes
        self._clock_us = clock_us
        self._link_of: LinkOf | None = None
        self._numbers = count(1)
        self._sessions: dict[int, Session] = {}
        self._taken: set[bytes] = set()
        self._shunned: frozenset[bytes] = frozenset()
        self._called: dict[bytes, _Called] = {}
        self._listeners: list[trio.SocketListener] = []
        self._handshakes = trio.Semaphore(_MAX_HANDSHAKES)
        self._nursery: trio.Nursery | None = None
        self._with_work: list[Session] = []
        self._asleep = trio.lowlevel.ParkingLot()
        self._one_ended = trio.Event()
        self._is_stopping = False
        self._ended = Counters()

    @property
    def open_count(self) -> int:
        return len(self._sessions)

    @property
    def counters(self) -> Counters:
        """Sums over all sessions, also those that have ended."""
        total = Counters()
        total.add(self._ended)
        for session in self._sessions.values():
            total.add(session.counters)
        return total

    async def listen(self, host: str, port: int) -> int:
        """Bind and say the port; 0 takes a free one. InvalidInput ``cannot_listen``. Nobody is answered before run."""
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise InvalidInput(
                f"cannot listen on {host}:{port}",
                why=error.strerror or str(error),
                hint="Choose another port, or 0 for a free one",
                code="cannot_listen",
            ) from None
        # A name may stand for several addresses; with port 0 each would get another port.
        for extra in listeners[1:] if port == 0 else []:
            await extra.aclose()
        self._listeners += listeners[:1] if port == 0 else listeners
        return int(listeners[0].socket.getsockname()[1])

    def set_peers(self, addresses: Mapping[bytes, Address]) -> None:
        """Where the other nodes are, by node key. Replaces what was told before; unchanged ones are left in peace."""
        own_key = self._local.keypair.public_key
        for key in {*addresses, *self._called}:
            if key == own_key:
                continue
            called = self._called.get(key)
            if called is None:
                called = self._called[key] = _Called()
                if self._nursery is not None and not self._is_stopping:
                    self._nursery.start_soon(self._dial, key, called)
            if called.address != addresses.get(key):
                called.address = addresses.get(key)
                called.changed.set()
                called.changed = trio.Event()

    def shun(self, keys: Iterable[bytes]) -> None:
        """Refuse these node keys, and end the sessions with them, until other ones are named: a cut cable, by command.

        Nodes that are no longer shunned are called at once.
        """
        before, self._shunned = self._shunned, frozenset(keys)
        for session in self._sessions.values():
            if session.identity.node_key in self._shunned:
                session.end(*_SHUNNED)
        for key, called in self._called.items():
            if (key in before) != (key in self._shunned):
                called.changed.set()
                called.changed = trio.Event()

    def shape(self, link_of: LinkOf | None) -> None:
        """From now on all sessions, open and new, go over links as they are told; None: over none."""
        self._link_of = link_of
        for session in self._sessions.values():
            self._shape(session)

    def _shape(self, session: Session) -> None:
        session.shape(None if self._link_of is None else self._link_of(session.identity))

    def send(self, number: int, payload: bytes, *, bulk: bool = False) -> bool:
        """Queue a frame; see Session.send. False also for a session that is no more."""
        session = self._sessions.get(number)
        if session is None:
            return False
        is_queued = session.send(payload, bulk=bulk)
        if bulk and not is_queued and session.ending is None:
            dropped = session.counters.dropped_frames
            if dropped & (dropped - 1) == 0:  # 1, 2, 4, 8, ...: said, but not a million times.
                fields = (("session", number), ("name", session.identity.name), ("dropped_frames", dropped))
                self._log("warning", "frames_dropped", (*fields, ("dropped_bytes", session.counters.dropped_bytes)))
        return is_queued

    def end(self, number: int, code: str, sentence: str) -> None:
        """End a session; nothing happens if it is no more."""
        session = self._sessions.get(number)
        if session is not None:
            session.end(code, sentence)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer and dial until ``stop``."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for listener in self._listeners:
                    nursery.start_soon(self._accept, listener)
                for key, called in self._called.items():
                    nursery.start_soon(self._dial, key, called)
                nursery.start_soon(self._write)
                task_status.started()
        finally:
            self._nursery = None
            for listener in self._listeners:
                listener.socket.close()

    async def stop(self) -> None:
        """Send what is queued, as far as that takes no longer than a second, hang up, and let ``run`` return."""
        self._is_stopping = True
        for session in self._sessions.values():
            session.end("stopped", "this node stops")
        with trio.move_on_after(2 * CLOSE_TIMEOUT_S + 0.5):
            while self._sessions:
                await self._one_ended.wait()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _has_work(self, session: Session) -> None:
        if not self._with_work:
            self._asleep.unpark_all()
        self._with_work.append(session)

    async def _write(self) -> None:
        """For all sessions in whose queues a turn has put something: see the top of this file."""
        while True:
            for session in self._with_work:
                session.write_at_once()
            self._with_work.clear()
            await self._asleep.park()

    async def _accept(self, listener: trio.SocketListener) -> None:
        assert self._nursery is not None
        while True:
            await self._handshakes.acquire()
            try:
                raw = await listener.accept()
            except OSError as error:  # No file descriptor left, most likely: those that close will give some back.
                self._handshakes.release()
                self._log("error", "accept_failed", (("sentence", str(error)),))
                await trio.sleep(_FIRST_RETRY_S)
                continue
            self._nursery.start_soon(self._answer, raw)

    async def _answer(self, raw: trio.SocketStream) -> None:
        with suppress(P2PLedgerError):  # It is in the log.
            await self._converse(raw, is_server=True, expected_key=None)

    async def _dial(self, key: bytes, called: _Called) -> None:
        retry_s, last_code = _FIRST_RETRY_S, ""
        while not self._is_stopping:
            changed, address = called.changed, called.address
            if address is None or key in self._shunned:
                await changed.wait()
                continue
            if key < self._local.keypair.public_key:
                # That one dials, if it knows this node's address.
                await trio.sleep(_COURTESY_S)
                if key in self._taken:
                    with trio.move_on_after(_LAST_RETRY_S):
                        await self._one_ended.wait()
                    continue
            try:
                raw = await connect(address)
                await self._converse(raw, is_server=False, expected_key=key, called=address)
                retry_s, last_code = _FIRST_RETRY_S, ""
            except CannotConnect as error:
                # Once for each row of failures: a peer that is down for a day fills no log.
                if last_code != error.code:
                    self._log("warning", "dial_failed", (("key", key.hex()), ("sentence", str(error))))
                last_code = error.code
            except P2PLedgerError as error:
                last_code = error.code
            with trio.move_on_after(retry_s):
                await changed.wait()
            retry_s = _FIRST_RETRY_S if changed.is_set() else min(2 * retry_s, _LAST_RETRY_S)

    def dial(self, host: str, port: int) -> None:
        """Call whoever listens there, once. ``deliver`` gets SessionOpened, with ``called``, or DialFailed."""
        if self._nursery is not None and not self._is_stopping:
            self._nursery.start_soon(self._dial_once, (host, port))

    async def _dial_once(self, address: Address) -> None:
        met: list[bytes] = []
        try:
            raw = await connect(address)
            await self._converse(raw, is_server=False, expected_key=None, called=address, met=met)
        except P2PLedgerError as error:
            if not self._is_stopping:
                await self._deliver([DialFailed(*address, error.code, met[0] if met else b"")])

    async def _converse(
        self,
        raw: trio.SocketStream,
        *,
        is_server: bool,
        expected_key: bytes | None,
        called: Address | None = None,
        met: list[bytes] | None = None,
    ) -> None:
        """One session from its handshake to its end. Errors are those of open_session.

        ``met`` gets the node key of the other end as soon as it is proved, whether there will be a session or not.
        """
        held: list[bytes] = []

        def admit(identity: Identity) -> tuple[str, str] | None:
            if met is not None:
                met.append(identity.node_key)
            if len(self._sessions) >= _MAX_SESSIONS - (_KEPT_FOR_DIALLED if is_server else 0):
                return "too_many_sessions", f"{len(self._sessions)} sessions are open here"
            if identity.node_key in self._shunned:
                return _SHUNNED
            is_node = identity.role != CLIENT
            if is_node and identity.node_key in self._taken:
                return "duplicate_session", "a session with this node key is open"
            refusal = self._admit(identity)
            if refusal is None and is_node:
                self._taken.add(identity.node_key)
                held.append(identity.node_key)
            return refusal

        try:
            try:
                session = await open_session(
                    raw,
                    self._local,
                    self._certificate,
                    is_server=is_server,
                    admit=admit,
                    expected_key=expected_key,
                    log=self._log,
                    queue_limit_bytes=self._queue_limit_bytes,
                )
            finally:
                if is_server:
                    self._handshakes.release()
            number = next(self._numbers)
            self._sessions[number] = session
            session.clock_us = self._clock_us
            session.has_work = self._has_work
            if self._link_of is not None:
                self._shape(session)
            try:
                if self._is_stopping:
                    session.end("stopped", "this node stops")
                elif session.identity.node_key in self._shunned:
                    session.end(*_SHUNNED)
                who = (("session", number), ("name", session.identity.name), ("key", session.identity.node_key.hex()))
                self._log("info", "session_opened", (*who, ("address", session.address)))
                host, _, port = session.address.rpartition(":")
                numbers = (host, int(port)) if port.isdecimal() else ("", 0)
                await self._deliver([SessionOpened(number, session.identity, not is_server, *numbers, called)])
                ending = await session.run(partial(self._receive, number))
            finally:
                session.close()
                del self._sessions[number]
                self._ended.add(session.counters)
                self._one_ended.set()
                self._one_ended = trio.Event()
            counters = session.counters
            is_fault = ending.code not in ("closed", "stopped", "tested", "introduced")
            fields: list[tuple[str, str | int]] = [*who, ("code", ending.code), ("sentence", ending.sentence)]
            fields += [("bytes_in", counters.bytes_in), ("bytes_out", counters.bytes_out)]
            fields += [("dropped_frames", counters.dropped_frames), ("dropped_bytes", counters.dropped_bytes)]
            self._log("warning" if is_fault else "info", "session_closed", tuple(fields))
            await self._deliver([SessionClosed(number)])
        finally:
            self._taken.difference_update(held)

    async def _receive(self, number: int, payloads: list[bytes]) -> None:
        if self._clock_us is None:
            await self._deliver([Received(number, payload) for payload in payloads])
            return
        begun_us, now_us = self._sessions[number].begun_us, self._clock_us()
        await self._deliver(
            [TimedReceived(number, payload, begun, now_us) for payload, begun in zip(payloads, begun_us, strict=True)]
        )
