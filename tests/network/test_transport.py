"""Sessions over real sockets and real TLS on 127.0.0.1: who gets in, what a slow reader costs, how peers find back.

No test sleeps: the clock is Trio's MockClock, which stands still until it is told to jump.
"""

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from random import Random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pledger.network.certificates import NodeCertificate
from p2pledger.network.effects import DialFailed, Event, Identity, Received, SessionClosed, SessionOpened, TimedReceived
from p2pledger.network.frames import HANDSHAKE_LIMIT_BYTES, MESSAGE_LIMIT_BYTES, FrameReader, frame
from p2pledger.network.handshake import Handshake, Hello, Refuse, decode_handshake
from p2pledger.network.shaping import Link, LinkShape, Uplink
from p2pledger.network.tls import TlsStream
from p2pledger.network.transport import (
    CLIENT,
    OBSERVER,
    VALIDATOR,
    CannotConnect,
    Ending,
    LocalEnd,
    Refused,
    Session,
    Sessions,
    connect,
    open_session,
)
from p2pledger.primitives.errors import InvalidInput, PeerFault
from p2pledger.primitives.keys import Keypair

GENESIS = bytes(range(32))
# In the order of their public keys: the first dials.
SMALL, LARGE = sorted((Keypair.from_seed(b"1" * 32), Keypair.from_seed(b"2" * 32)), key=lambda pair: pair.public_key)
VISITOR = Keypair.from_seed(b"3" * 32)
LogLine = tuple[str, str, dict[str, str | int]]


class Node:
    """Sessions with a memory: what happened, what was logged."""

    def __init__(
        self,
        keypair: Keypair,
        *,
        role: int = VALIDATOR,
        genesis_hash: bytes = GENESIS,
        admit: Callable[[Identity], tuple[str, str] | None] = lambda identity: None,
        queue_limit_bytes: int = 1_048_576,
        clock_us: Callable[[], int] | None = None,
    ) -> None:
        self.events: list[Event] = []
        self.log: list[LogLine] = []
        self._news = trio.Condition()
        self.key = keypair.public_key
        self.port = 0
        self.accepts = trio.Event()
        self.accepts.set()
        self.sessions = Sessions(
            LocalEnd(genesis_hash, keypair, role, f"node {keypair.public_key.hex()[:4]}"),
            NodeCertificate.fresh(),
            admit=admit,
            deliver=self._deliver,
            log=lambda level, event, fields: self.log.append((level, event, dict(fields))),
            queue_limit_bytes=queue_limit_bytes,
            clock_us=clock_us,
        )

    async def _deliver(self, events: Sequence[Event]) -> None:
        self.events += events
        async with self._news:
            self._news.notify_all()
        await self.accepts.wait()

    async def wait_for(self, count: int, kind: type[Event]) -> list[Event]:
        """The events of a kind, as soon as there are so many."""
        async with self._news:
            while len(found := [event for event in self.events if isinstance(event, kind)]) < count:
                await self._news.wait()
        return found

    def logged(self, event: str) -> list[dict[str, str | int]]:
        return [fields for _, name, fields in self.log if name == event]

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    with trio.fail_after(60):  # A test that hangs; with MockClock it never fires by itself.
        async with trio.open_nursery() as nursery:
            for node in nodes:
                node.port = await node.sessions.listen("127.0.0.1", 0)
                await nursery.start(node.sessions.run)
            yield
            for node in nodes:
                await node.sessions.stop()


async def visit(
    node: Node, *, keypair: Keypair = VISITOR, role: int = CLIENT, genesis_hash: bytes = GENESIS
) -> Session:
    raw = await connect(node.address)
    return await open_session(
        raw,
        LocalEnd(genesis_hash, keypair, role, "visitor"),
        NodeCertificate.fresh(),
        is_server=False,
        admit=lambda identity: None,
    )


async def tls(node: Node) -> trio.SSLStream[trio.SocketStream]:
    """TLS without any handshake of ours."""
    certificate = NodeCertificate.fresh()
    stream = trio.SSLStream(await connect(node.address), certificate.client_context, https_compatible=True)
    await stream.do_handshake()
    return stream


async def rest_of(stream: trio.abc.ReceiveStream) -> bytes:
    """All that comes until the other end hangs up."""
    data = b""
    try:
        while piece := await stream.receive_some(65_536):
            data += piece
    except trio.BrokenResourceError:
        pass
    return data


def last_refusal(data: bytes) -> Refuse:
    reader = FrameReader(HANDSHAKE_LIMIT_BYTES)
    reader.feed(data)
    message = None
    while payload := reader.next_payload():
        message = decode_handshake(payload)
    assert isinstance(message, Refuse)
    return message


async def ignore(payloads: list[bytes]) -> None:
    return None


# --- two nodes ------------------------------------------------------------------------------------------------------


async def test_two_validators_open_one_session_and_exchange_frames(mock_clock: MockClock) -> None:
    small, large = Node(SMALL), Node(LARGE)
    async with running(small, large):
        # Both are told of each other; the one with the smaller key dials.
        small.sessions.set_peers({large.key: large.address})
        large.sessions.set_peers({small.key: small.address})
        [opened] = await large.wait_for(1, SessionOpened)
        assert isinstance(opened, SessionOpened)
        assert (opened.session, opened.is_dialled, opened.host, opened.called) == (1, False, "127.0.0.1", None)
        assert opened.identity == Identity(small.key, VALIDATOR, f"node {small.key.hex()[:4]}")
        [opened] = await small.wait_for(1, SessionOpened)
        assert isinstance(opened, SessionOpened)
        assert opened.is_dialled
        assert opened.called == (opened.host, opened.port) == large.address
        for number in range(100):
            assert small.sessions.send(opened.session, number.to_bytes(2, "big"))
        received = await large.wait_for(100, Received)
        assert received == [Received(1, number.to_bytes(2, "big")) for number in range(100)]
        assert small.sessions.open_count == large.sessions.open_count == 1
        assert small.sessions.counters.bytes_out == large.sessions.counters.bytes_in == 600
    assert small.logged("session_refused") == large.logged("session_refused") == []


async def test_the_largest_frames_pass_both_ways(mock_clock: MockClock) -> None:
    small, large = Node(SMALL, queue_limit_bytes=8 * 1_048_576), Node(LARGE, queue_limit_bytes=8 * 1_048_576)
    async with running(small, large):
        small.sessions.set_peers({large.key: large.address})
        await small.wait_for(1, SessionOpened)
        await large.wait_for(1, SessionOpened)
        payloads = [bytes([fill]) * MESSAGE_LIMIT_BYTES for fill in range(4)]
        for payload in payloads:
            assert small.sessions.send(1, payload)
            assert large.sessions.send(1, payload)
        for node in (small, large):
            assert await node.wait_for(4, Received) == [Received(1, payload) for payload in payloads]


async def test_a_restarted_peer_is_found_at_its_new_port(mock_clock: MockClock) -> None:
    small = Node(SMALL)
    async with running(small):
        first = Node(LARGE)
        async with running(first):
            small.sessions.set_peers({first.key: first.address})
            await small.wait_for(1, SessionOpened)
        await small.wait_for(1, SessionClosed)
        [closed] = small.logged("session_closed")
        assert closed["code"] == "closed"
        second = Node(LARGE)
        async with running(second):
            # The new address is tried at once, whatever the back-off has come to: the clock stands still.
            small.sessions.set_peers({second.key: second.address})
            assert len(await small.wait_for(2, SessionOpened)) == 2
            await second.wait_for(1, SessionOpened)


async def test_a_shunned_peer_is_cut_off_refused_and_called_again_when_it_is_no_more(mock_clock: MockClock) -> None:
    one, two = Node(SMALL), Node(LARGE)
    async with running(one, two):
        one.sessions.set_peers({two.key: two.address})
        await one.wait_for(1, SessionOpened)
        one.sessions.shun([two.key])
        await one.wait_for(1, SessionClosed)
        await two.wait_for(1, SessionClosed)
        two.sessions.set_peers({one.key: one.address})
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(2)  # the larger key waits politely before it dials
        await _wait_until(lambda: any(each["code"] == "shunned" for each in two.logged("session_refused_by_peer")))
        one.sessions.shun([])
        await one.wait_for(2, SessionOpened)


async def test_a_peer_that_is_down_is_called_again_with_growing_pauses(mock_clock: MockClock) -> None:
    small, large = Node(SMALL), Node(LARGE)
    async with running(small):
        port = large.port = await large.sessions.listen("127.0.0.1", 0)
        for listener in large.sessions._listeners:
            await listener.aclose()
        large.sessions._listeners.clear()
        small.sessions.set_peers({large.key: large.address})
        for pause_s in (0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0):
            await _wait_until(lambda: len(small.logged("dial_failed")) == 1)
            await wait_all_tasks_blocked(0.01)
            mock_clock.jump(pause_s)
        assert len(small.logged("dial_failed")) == 1  # Said once, not seven times.
        await wait_all_tasks_blocked(0.01)
        async with trio.open_nursery() as nursery:
            assert await large.sessions.listen("127.0.0.1", port) == port
            await nursery.start(large.sessions.run)
            mock_clock.jump(3.0)
            await large.wait_for(1, SessionOpened)
            await large.sessions.stop()


async def _wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.lowlevel.checkpoint()


async def test_a_second_session_with_the_same_node_key_is_refused(mock_clock: MockClock) -> None:
    """A clone of a node, or a node that was started twice."""
    large = Node(LARGE)
    async with running(large), trio.open_nursery() as nursery:
        first = await visit(large, keypair=SMALL, role=VALIDATOR)
        nursery.start_soon(first.run, ignore)
        with pytest.raises(Refused) as caught:
            await visit(large, keypair=SMALL, role=OBSERVER)
        assert caught.value.code == "duplicate_session"
        first.end("closed", "done")
        await large.wait_for(1, SessionClosed)
        await wait_all_tasks_blocked()
        again = await visit(large, keypair=SMALL, role=VALIDATOR)
        nursery.start_soon(again.run, ignore)
        nursery.cancel_scope.cancel()


async def test_a_client_may_have_many_sessions(mock_clock: MockClock) -> None:
    large = Node(LARGE)
    async with running(large), trio.open_nursery() as nursery:
        for _ in range(3):
            session = await visit(large)
            nursery.start_soon(session.run, ignore)
        await large.wait_for(3, SessionOpened)
        nursery.cancel_scope.cancel()


async def test_an_address_is_called_once_whoever_listens_there(mock_clock: MockClock) -> None:
    """As it was found: no key is known before, and only a session or one failure comes of it."""
    small, large = Node(SMALL), Node(LARGE)
    async with running(small, large):
        large.sessions.dial("localhost", small.port)
        [opened] = await large.wait_for(1, SessionOpened)
        assert isinstance(opened, SessionOpened)
        assert opened.identity.node_key == small.key
        assert opened.is_dialled
        assert opened.called == ("localhost", small.port)
        assert (opened.host, opened.port) == small.address, "where the name led"
        # It is connected already, it is oneself, nobody is there: each is told with what was found out.
        large.sessions.dial(*small.address)
        large.sessions.dial(*large.address)
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            nobody = taken.getsockname()[1]
        large.sessions.dial("127.0.0.1", nobody)
        failures = await large.wait_for(3, DialFailed)
        assert {(failed.port, failed.code, failed.key) for failed in failures if isinstance(failed, DialFailed)} == {
            (small.port, "duplicate_session", small.key),
            (large.port, "own_key", b""),
            (nobody, "cannot_connect", b""),
        }
        assert large.sessions.open_count == 1


async def test_a_node_that_dials_itself_is_refused(mock_clock: MockClock) -> None:
    large = Node(LARGE)
    async with running(large):
        with pytest.raises((Refused, PeerFault)) as caught:
            await visit(large, keypair=LARGE)
        assert caught.value.code == "own_key"


# --- strangers ------------------------------------------------------------------------------------------------------


async def test_strangers_are_refused_and_both_ends_write_it_down(mock_clock: MockClock) -> None:
    def admit(identity: Identity) -> tuple[str, str] | None:
        return None if identity.node_key == LARGE.public_key else ("unknown_node", "no validator has this key")

    small, large = Node(SMALL), Node(LARGE, admit=admit)
    async with running(small, large):
        small.sessions.set_peers({large.key: large.address})
        await _wait_until(lambda: bool(small.logged("session_refused_by_peer")))
        await _wait_until(lambda: bool(large.logged("session_refused")))
        [here] = large.logged("session_refused")
        [there] = small.logged("session_refused_by_peer")
        assert here["code"] == there["code"] == "unknown_node"
        assert here["sentence"] == there["sentence"] == "no validator has this key"
        assert here["key"] == small.key.hex()
        assert there["key"] == large.key.hex()
        assert small.events == large.events == []


async def test_another_network_is_refused(mock_clock: MockClock) -> None:
    large = Node(LARGE)
    async with running(large):
        with pytest.raises((Refused, PeerFault)) as caught:
            await visit(large, genesis_hash=bytes(32))
        assert caught.value.code == "wrong_network"
        await _wait_until(lambda: bool(large.log))
        assert large.events == []


async def test_a_hello_that_is_replayed_over_another_tls_session_is_refused(mock_clock: MockClock) -> None:
    large = Node(LARGE)
    async with running(large):
        overheard = await tls(large)
        first = Handshake(
            LocalEnd(GENESIS, SMALL, VALIDATOR, "small"),
            certificate=b"the certificate of the honest session",
            peer_certificate=overheard.getpeercert(binary_form=True),  # type: ignore[arg-type]
            admit=lambda identity: None,
        ).hello()
        await overheard.send_all(frame(first))
        assert last_refusal(await rest_of(overheard)).refusal_code == "bad_signature"
        await overheard.aclose()
        [refused] = large.logged("session_refused")
        assert refused["code"] == "bad_signature"
        assert refused["key"] == SMALL.public_key.hex()


async def test_no_certificate_no_session(mock_clock: MockClock) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    large = Node(LARGE)
    async with running(large):
        stream = trio.SSLStream(await connect(large.address), bare, https_compatible=True)
        # In TLS 1.3 a refused client learns of it on its first read.
        await stream.do_handshake()
        assert await rest_of(stream) == b""
        await trio.aclose_forcefully(stream)
        await _wait_until(lambda: bool(large.logged("handshake_failed")))
        assert large.logged("handshake_failed")[0]["code"] == "tls_failed"


async def test_half_a_handshake_ends_after_five_seconds(mock_clock: MockClock) -> None:
    large = Node(LARGE)
    async with running(large):
        silent_before_tls = await connect(large.address)
        silent_after_tls = await tls(large)
        await wait_all_tasks_blocked(0.02)
        mock_clock.jump(4.9)
        await wait_all_tasks_blocked(0.02)
        assert large.log == []
        mock_clock.jump(0.2)
        await rest_of(silent_after_tls)
        await rest_of(silent_before_tls)
        assert [fields["code"] for fields in large.logged("session_refused")] == ["handshake_timeout"] * 2
        await trio.aclose_forcefully(silent_before_tls)
        await trio.aclose_forcefully(silent_after_tls)


async def test_a_large_frame_before_the_end_of_the_handshake_is_refused(mock_clock: MockClock) -> None:
    large = Node(LARGE)
    async with running(large):
        stream = await tls(large)
        await stream.send_all((HANDSHAKE_LIMIT_BYTES + 1).to_bytes(4, "big"))
        assert last_refusal(await rest_of(stream)).refusal_code == "frame_too_large"
        await trio.aclose_forcefully(stream)
        assert large.logged("session_refused")[0]["code"] == "frame_too_large"


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\xff" * 64])
async def test_what_is_not_tls_is_let_go(mock_clock: MockClock, noise: bytes) -> None:
    large = Node(LARGE)
    async with running(large):
        raw = await connect(large.address)
        await raw.send_all(noise)
        with trio.move_on_after(1):
            await raw.send_eof()
            await rest_of(raw)
        await raw.aclose()
        await _wait_until(lambda: bool(large.logged("handshake_failed")))
        assert large.sessions.open_count == 0


# --- sessions that go wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bytes_sent", "code"),
    [((MESSAGE_LIMIT_BYTES + 1).to_bytes(4, "big"), "frame_too_large"), (bytes(4), "empty_frame")],
)
async def test_a_bad_frame_ends_the_session_and_the_log_says_why(
    mock_clock: MockClock, bytes_sent: bytes, code: str
) -> None:
    large = Node(LARGE)
    async with running(large):
        session = await visit(large)
        await session._stream.send_all(bytes_sent)
        await session.run(ignore)
        await large.wait_for(1, SessionClosed)
        [closed] = large.logged("session_closed")
        assert closed["code"] == code
        assert closed["name"] == "visitor"


async def test_the_node_ends_a_session_for_its_own_reason_and_the_last_words_arrive(mock_clock: MockClock) -> None:
    large, heard = Node(LARGE), []

    async def listen(payloads: list[bytes]) -> None:
        heard.extend(payloads)

    async with running(large):
        session = await visit(large)
        await large.wait_for(1, SessionOpened)
        large.sessions.send(1, b"goodbye")
        large.sessions.end(1, "malformed", "message type 99 is unknown")
        assert (await session.run(listen)).code == "closed"
        assert heard == [b"goodbye"]
        await large.wait_for(1, SessionClosed)
        [closed] = large.logged("session_closed")
        assert (closed["code"], closed["sentence"]) == ("malformed", "message type 99 is unknown")
        assert large.sessions.send(1, b"too late") is False


async def test_a_slow_reader_loses_bulk_frames_which_are_counted_and_then_its_session(mock_clock: MockClock) -> None:
    limit_bytes = 4 * 1_048_576
    large = Node(LARGE, queue_limit_bytes=limit_bytes)
    async with running(large):
        session = await visit(large)  # It never reads.
        await large.wait_for(1, SessionOpened)
        block = bytes(262_144)
        kept = 0
        # The kernel takes some megabytes as well; fill them and then three quarters of the queue.
        while large.sessions.send(1, block, bulk=True):
            kept += 1
            await wait_all_tasks_blocked(0.001)
        dropped = large.sessions.counters
        assert (dropped.dropped_frames, dropped.dropped_bytes) == (1, len(block) + 4)
        assert [fields["dropped_frames"] for fields in large.logged("frames_dropped")] == [1]
        assert large.sessions.open_count == 1
        # Votes still find room ...
        small_frames = 0
        while large.sessions.send(1, bytes(65_536)):
            small_frames += 1
        assert small_frames >= limit_bytes // 4 // 65_540 - 4
        # ... until even they do not: the peer has stopped.
        await large.wait_for(1, SessionClosed)
        [closed] = large.logged("session_closed")
        assert closed["code"] == "queue_overflow"
        assert closed["dropped_frames"] == 2
        session._stream.close()


async def test_a_receiver_that_takes_nothing_stops_the_reading(mock_clock: MockClock) -> None:
    large = Node(LARGE)
    async with running(large):
        session = await visit(large)
        await large.wait_for(1, SessionOpened)
        await wait_all_tasks_blocked()
        large.accepts = trio.Event()
        ending: list[Ending] = []

        async def run() -> None:
            ending.append(await session.run(ignore))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            sent = 0
            # However much the kernel takes: one day it takes no more, and the queue fills.
            while session.queued_bytes < 2_000_000:
                assert session.send(bytes(1_000_000))
                sent += 1
                await wait_all_tasks_blocked(0.005)
            assert len([event for event in large.events if isinstance(event, Received)]) <= 1
            large.accepts.set()
            await large.wait_for(sent, Received)
            session.end("closed", "done")
        assert ending == [Ending("closed", "done")]


async def test_a_port_in_use_is_named(mock_clock: MockClock) -> None:
    large, other = Node(LARGE), Node(SMALL)
    async with running(large):
        with pytest.raises(InvalidInput, match=r"cannot listen on 127\.0\.0\.1") as caught:
            await other.sessions.listen("127.0.0.1", large.port)
        assert caught.value.code == "cannot_listen"


async def test_nobody_there_is_named(mock_clock: MockClock) -> None:
    large = Node(LARGE)
    async with running(large):
        address = large.address
    with pytest.raises(CannotConnect, match=r"nobody answers \(in 127\.0\.0\.1:\d+\): Connection refused"):
        await connect(address)


async def test_hello_shows_what_the_log_needs(mock_clock: MockClock) -> None:
    """The name that a stranger claims is written down even where his hello is not believed."""
    large = Node(LARGE)
    async with running(large):
        stream = await tls(large)
        handshake = Handshake(
            LocalEnd(GENESIS, SMALL, VALIDATOR, "impostor"),
            certificate=b"",
            peer_certificate=b"",
            admit=lambda identity: None,
        )
        hello = decode_handshake(handshake.hello())
        assert isinstance(hello, Hello)
        await stream.send_all(frame(replace(hello, role=CLIENT).encode()))
        await rest_of(stream)
        await trio.aclose_forcefully(stream)
        assert large.logged("session_refused")[0]["name"] == "impostor"


# --- who writes, and when -------------------------------------------------------------------------------------------


async def test_frames_of_one_turn_to_one_peer_travel_in_one_write(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = Node(SMALL), Node(LARGE), Node(VISITOR)
    async with running(one, two, three):
        one.sessions.set_peers({two.key: two.address, three.key: three.address})
        three.sessions.set_peers({one.key: one.address})
        await one.wait_for(2, SessionOpened)
        await two.wait_for(1, SessionOpened)
        await three.wait_for(1, SessionOpened)
        await wait_all_tasks_blocked(0.02)
        sizes: list[int] = []
        write = TlsStream.write

        def counted(stream: TlsStream, data: bytes) -> bool:
            sizes.append(len(data))
            return write(stream, data)

        monkeypatch.setattr(TlsStream, "write", counted)
        for _ in range(20):
            one.sessions.send(1, b"123456")
            one.sessions.send(2, b"123456")
        assert sizes == [], "sending never writes by itself"
        await two.wait_for(20, Received)
        await three.wait_for(20, Received)
        assert sizes == [200, 200]


async def _stopped_in_the_middle_of_a_write(small: Node, large: Node) -> list[bytes]:
    """A session whose peer takes nothing: the socket is full, a write has begun, more is queued. What was sent."""
    await _meet(small, large)
    large.accepts = trio.Event()
    sent: list[bytes] = []
    while small.sessions.counters.bytes_out == sum(map(len, sent)) + 4 * len(sent):
        sent.append(bytes([len(sent)]) * 1_000_000)
        assert small.sessions.send(1, sent[-1])
        await wait_all_tasks_blocked(0.01)
    sent += [b"queued", b"too"]
    for payload in sent[-2:]:
        assert small.sessions.send(1, payload)
    return sent


async def test_a_full_socket_is_waited_for_and_nothing_is_lost(mock_clock: MockClock) -> None:
    small, large = Node(SMALL, queue_limit_bytes=4 * 1_048_576), Node(LARGE)
    async with running(small, large):
        sent = await _stopped_in_the_middle_of_a_write(small, large)
        await wait_all_tasks_blocked(0.01)
        [session] = small.sessions._sessions.values()
        assert session.queued_bytes == 1_000_004 + 10 + 7, "what the socket has not taken as a whole counts as queued"
        large.accepts.set()
        await large.wait_for(len(sent), Received)
        assert _payloads(large) == sent
        assert session.queued_bytes == 0
        assert small.sessions.counters.frames_out == len(sent)


async def test_what_a_full_socket_has_not_taken_still_goes_when_the_session_ends(mock_clock: MockClock) -> None:
    small, large = Node(SMALL, queue_limit_bytes=4 * 1_048_576), Node(LARGE)
    async with running(small, large):
        sent = await _stopped_in_the_middle_of_a_write(small, large)
        small.sessions.end(1, "stopped", "enough")
        await wait_all_tasks_blocked(0.01)
        large.accepts.set()
        await large.wait_for(len(sent), Received)
        await large.wait_for(1, SessionClosed)
        assert _payloads(large) == sent


async def test_a_peer_that_takes_nothing_does_not_keep_a_session_from_ending(mock_clock: MockClock) -> None:
    small, large = Node(SMALL, queue_limit_bytes=4 * 1_048_576), Node(LARGE)
    async with running(small, large):
        await _stopped_in_the_middle_of_a_write(small, large)
        small.sessions.end(1, "stopped", "enough")
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(1.1)
        await small.wait_for(1, SessionClosed)
        large.accepts.set()
        await large.wait_for(1, SessionClosed)


async def test_a_write_that_has_begun_ends_before_the_session_is_shaped(mock_clock: MockClock) -> None:
    small, large = Node(SMALL, queue_limit_bytes=4 * 1_048_576), Node(LARGE)
    async with running(small, large):
        sent = await _stopped_in_the_middle_of_a_write(small, large)
        small.sessions.shape(over(LinkShape(latency_us=100_000)))
        await wait_all_tasks_blocked(0.01)
        large.accepts.set()
        await large.wait_for(len(sent) - 2, Received)
        await at_rest(mock_clock, 0.2)
        assert _payloads(large) == sent


async def test_a_peer_that_dies_while_it_is_written_to_ends_the_session(mock_clock: MockClock) -> None:
    small, large = Node(SMALL, queue_limit_bytes=4 * 1_048_576), Node(LARGE)
    async with running(small, large):
        await _stopped_in_the_middle_of_a_write(small, large)
        [session] = large.sessions._sessions.values()
        session._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        session._stream.close()
        await small.wait_for(1, SessionClosed)
        [closed] = small.logged("session_closed")
        assert closed["code"] == "closed"
        assert "reset" in str(closed["sentence"])
        large.accepts.set()
        await large.wait_for(1, SessionClosed)


async def test_a_write_that_began_before_its_session_runs_is_finished_although_the_session_ends(
    mock_clock: MockClock,
) -> None:
    large = Node(LARGE, queue_limit_bytes=16 * 1_048_576)
    large.accepts = trio.Event()
    async with running(large):
        visitor = await visit(large)
        await large.wait_for(1, SessionOpened)
        [session] = large.sessions._sessions.values()
        sent = b""
        while not session.queued_bytes:  # Till the socket is full: the session runs when its opening was delivered.
            sent += frame(bytes([len(sent) % 251]) * 1_000_000)
            assert large.sessions.send(1, sent[-1_000_000:])
            await wait_all_tasks_blocked(0.01)
        large.sessions.end(1, "stopped", "enough")
        large.accepts.set()
        await wait_all_tasks_blocked(0.01)
        assert await rest_of_tls(visitor._stream) == sent
        visitor.close()


async def rest_of_tls(stream: TlsStream) -> bytes:
    data = b""
    while piece := await stream.receive_some():
        data += piece
    return data


async def test_who_waits_for_a_shorter_queue_goes_on_when_it_is_or_the_session_ends(mock_clock: MockClock) -> None:
    small, large = Node(SMALL, queue_limit_bytes=4 * 1_048_576), Node(LARGE)
    async with running(small, large):
        sent = await _stopped_in_the_middle_of_a_write(small, large)
        [session] = small.sessions._sessions.values()
        for go_on in (large.accepts.set, partial(session.end, "stopped", "enough")):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.wait_queued_below, 1_000_000 if go_on == large.accepts.set else 0)
                await wait_all_tasks_blocked(0.01)
                assert nursery.child_tasks
                go_on()
        await large.wait_for(len(sent), Received)


async def test_a_session_that_cannot_be_written_to_keeps_the_others_from_nothing(mock_clock: MockClock) -> None:
    small, large = Node(SMALL), Node(LARGE)
    async with running(small, large):
        await _meet(small, large)
        visitor = await visit(small)
        await small.wait_for(2, SessionOpened)
        broken, _ = small.sessions._sessions.values()
        broken._stream.socket.shutdown(socket.SHUT_WR)
        for number in (1, 2):
            assert small.sessions.send(number, b"to all")
        assert await visitor._stream.receive_some() == frame(b"to all")
        await small.wait_for(1, SessionClosed)
        [closed] = small.logged("session_closed")
        assert (closed["session"], closed["sentence"]) == (1, "[Errno 32] Broken pipe")
        visitor._stream.close()


async def test_a_node_that_is_cancelled_leaves_no_connection_open(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever state: held here, since the system closes for Python what nobody holds any more."""
    held: list[TlsStream] = []
    build, refusal = TlsStream.__init__, Handshake.refusal
    large = Node(LARGE)
    large.accepts = trio.Event()

    def holding(stream: TlsStream, raw: trio.SocketStream, context: ssl.SSLContext, *, server_side: bool) -> None:
        build(stream, raw, context, server_side=server_side)
        if server_side:
            held.append(stream)

    monkeypatch.setattr(TlsStream, "__init__", holding)
    async with trio.open_nursery() as nursery:
        large.port = await large.sessions.listen("127.0.0.1", 0)
        await nursery.start(large.sessions.run)

        def refuse_and_be_cancelled(fault: PeerFault) -> bytes:
            nursery.cancel_scope.cancel()
            return refusal(fault)

        monkeypatch.setattr(Handshake, "refusal", refuse_and_be_cancelled)
        silent_before_tls, silent_after_tls = await connect(large.address), await tls(large)
        not_delivered = await visit(large)
        refused = await tls(large)
        await wait_all_tasks_blocked(0.02)
        assert len(held) == 4
        assert len(large.sessions._sessions) == 1
        await refused.send_all(frame(b"nonsense"))
        await trio.sleep_forever()
    assert [stream.socket.fileno() for stream in held] == [-1] * 4
    not_delivered._stream.close()
    for stream in (silent_before_tls, silent_after_tls, refused):
        await trio.aclose_forcefully(stream)


# --- shaped sessions ------------------------------------------------------------------------------------------------

MBIT = 125_000


def over(shape: LinkShape, uplink: Uplink | None = None) -> Callable[[Identity], Link | None]:
    """All sessions of a node over links of one shape."""
    line = Uplink() if uplink is None else uplink
    return lambda identity: Link(shape, line, Random(1))


async def at_rest(clock: MockClock, jump_s: float) -> None:
    """A jump of the clock, and until everything that follows from it has happened."""
    await wait_all_tasks_blocked(0.02)
    clock.jump(jump_s)
    await wait_all_tasks_blocked(0.02)


async def test_a_shaped_session_hands_frames_over_when_they_would_have_arrived(mock_clock: MockClock) -> None:
    small, large = Node(SMALL), Node(LARGE)
    small.sessions.shape(over(LinkShape(latency_us=100_000)))
    async with running(small, large):
        await _meet(small, large)
        small.sessions.send(1, b"slow")
        large.sessions.send(1, b"fast")
        await at_rest(mock_clock, 0.09)
        assert _payloads(small) == [b"fast"], "this direction is not shaped"
        assert _payloads(large) == []
        await at_rest(mock_clock, 0.02)
        assert _payloads(large) == [b"slow"]


async def test_frames_stay_in_order_and_whole_whatever_their_sizes(mock_clock: MockClock) -> None:
    small, large = Node(SMALL), Node(LARGE)
    small.sessions.shape(
        over(LinkShape(latency_us=5_000, jitter_us=50_000, loss=0.05, window=True), Uplink(100 * MBIT))
    )
    async with running(small, large):
        await _meet(small, large)
        sent = [bytes([number]) * size for number, size in enumerate((1, 70_000, 3, 200_000, 65_532, 5, 65_533, 9))]
        for payload in sent:
            assert small.sessions.send(1, payload)
        for _ in range(200):
            await at_rest(mock_clock, 0.05)
            if len(_payloads(large)) == len(sent):
                break
        assert _payloads(large) == sent
        counters = small.sessions.counters
        assert (counters.frames_out, counters.bytes_out) == (len(sent), sum(map(len, sent)) + 4 * len(sent))


async def test_sessions_take_turns_on_an_uplink(mock_clock: MockClock) -> None:
    """A small frame to one does not wait for all that another one is being sent."""
    small, large, third = Node(SMALL), Node(LARGE), Node(VISITOR)
    small.sessions.shape(over(LinkShape(), Uplink(8 * MBIT)))
    async with running(small, large, third):
        small.sessions.set_peers({large.key: large.address, third.key: third.address})
        third.sessions.set_peers({small.key: small.address})
        await small.wait_for(2, SessionOpened)
        numbers = {event.identity.node_key: event.session for event in small.events if isinstance(event, SessionOpened)}
        # A second of bytes to one, then a word to the other.
        small.sessions.send(numbers[large.key], bytes(1_000_000))
        await wait_all_tasks_blocked(0.02)
        small.sessions.send(numbers[third.key], b"a word")
        await at_rest(mock_clock, 0.14)
        assert _payloads(third) == [b"a word"], "it waits for the turn of the other one"
        assert _payloads(large) == []
        for _ in range(10):
            await at_rest(mock_clock, 0.1)
        assert [len(payload) for payload in _payloads(large)] == [1_000_000]


async def test_a_late_wake_up_costs_no_bandwidth(mock_clock: MockClock) -> None:
    """Turns begin when the link was free, however late their task gets to it."""
    small, large = Node(SMALL), Node(LARGE)
    small.sessions.shape(over(LinkShape(), Uplink(8 * MBIT)))
    async with running(small, large):
        await _meet(small, large)
        small.sessions.send(1, bytes(1_000_000))
        await wait_all_tasks_blocked(0.02)
        await at_rest(mock_clock, 1.0)
        assert [len(payload) for payload in _payloads(large)] == [1_000_000]


async def test_a_session_may_be_shaped_and_set_free_while_it_runs(mock_clock: MockClock) -> None:
    small, large = Node(SMALL), Node(LARGE)
    async with running(small, large):
        await _meet(small, large)
        small.sessions.send(1, b"1")
        await large.wait_for(1, Received)
        small.sessions.shape(over(LinkShape(latency_us=300_000)))
        small.sessions.send(1, b"2")
        await wait_all_tasks_blocked(0.02)
        assert _payloads(large) == [b"1"]
        small.sessions.shape(None)
        small.sessions.send(1, b"3")
        await wait_all_tasks_blocked(0.02)
        assert _payloads(large) == [b"1"], "what is under way stays under way, and nothing overtakes it"
        await at_rest(mock_clock, 0.3)
        assert _payloads(large) == [b"1", b"2", b"3"]
        small.sessions.send(1, b"4")
        await large.wait_for(4, Received)


async def test_last_words_go_over_a_shaped_link_too(mock_clock: MockClock) -> None:
    small, large = Node(SMALL), Node(LARGE)
    small.sessions.shape(over(LinkShape(latency_us=200_000)))
    async with running(small, large):
        await _meet(small, large)
        small.sessions.send(1, b"farewell")
        small.sessions.end(1, "stopped", "enough")
        await wait_all_tasks_blocked(0.02)
        assert _payloads(large) == []
        await at_rest(mock_clock, 0.2)
        await large.wait_for(1, SessionClosed)
        assert _payloads(large) == [b"farewell"]


async def test_arrivals_are_timed_for_whoever_traces(mock_clock: MockClock) -> None:
    """The first byte of a frame may come long before its last one."""
    small = Node(SMALL)
    large = Node(LARGE, clock_us=lambda: int(trio.current_time() * 1e6))
    async with running(large):
        session = await visit(large)
        await large.wait_for(1, SessionOpened)
        began_us = int(trio.current_time() * 1e6)
        data = frame(b"first") + frame(b"second" * 10_000)
        await session._stream.send_all(data[:100])
        await wait_all_tasks_blocked(0.02)
        mock_clock.jump(2)
        await session._stream.send_all(data[100:] + frame(b"third"))
        received = [event for event in await large.wait_for(3, TimedReceived) if isinstance(event, TimedReceived)]
        times_s = [((event.begun_us - began_us) // 10**6, (event.came_us - began_us) // 10**6) for event in received]
        assert times_s == [(0, 0), (0, 2), (2, 2)]
        session._stream.close()
    assert small.events == []


async def _meet(small: Node, large: Node) -> None:
    small.sessions.set_peers({large.key: large.address})
    await small.wait_for(1, SessionOpened)
    await large.wait_for(1, SessionOpened)


def _payloads(node: Node) -> list[bytes]:
    return [event.payload for event in node.events if isinstance(event, Received)]
