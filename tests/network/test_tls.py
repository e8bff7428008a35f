"""TLS of our own over real sockets; the other end is ``trio.SSLStream`` or OpenSSL's program, wherever either will do.

No test sleeps: where a socket is to be full, or a task to wait, all other tasks are let run until they wait too.
"""

import shutil
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from trio.testing import wait_all_tasks_blocked

from p2pledger.network.certificates import NodeCertificate
from p2pledger.network.tls import TlsStream

HERE, THERE = NodeCertificate.fresh(), NodeCertificate.fresh()
MIB = 1_048_576


async def connection() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Over TCP: who called, and who was called."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        calling = await trio.open_tcp_stream(*listener.socket.getsockname())
        return calling, await listener.accept()


async def pair() -> tuple[TlsStream, TlsStream]:
    calling, called = await connection()
    ends = (
        TlsStream(calling, HERE.client_context, server_side=False),
        TlsStream(called, THERE.server_context, server_side=True),
    )
    await together(ends[0].do_handshake, ends[1].do_handshake)
    return ends


async def pair_with_trio() -> tuple[TlsStream, trio.SSLStream[trio.SocketStream]]:
    calling, called = await connection()
    ours = TlsStream(called, HERE.server_context, server_side=True)
    theirs = trio.SSLStream(calling, THERE.client_context, https_compatible=True)
    await together(ours.do_handshake, theirs.do_handshake)
    return ours, theirs


async def together(*jobs: Callable[[], Awaitable[None]]) -> None:
    with trio.fail_after(30):  # A test that hangs.
        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(job)


async def exactly(stream: TlsStream | trio.SSLStream[trio.SocketStream], size_bytes: int) -> bytes:
    """So many bytes, and none after them."""
    data = bytearray()
    while len(data) < size_bytes:
        part = await stream.receive_some()
        assert part, "it ended early"
        data += part
    assert len(data) == size_bytes
    return bytes(data)


# --- two ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_server", [False, True])
async def test_it_understands_the_tls_of_others(is_server: bool) -> None:
    mine, other = await connection()
    ours = TlsStream(mine, HERE.server_context if is_server else HERE.client_context, server_side=is_server)
    theirs = trio.SSLStream(
        other,
        THERE.client_context if is_server else THERE.server_context,
        server_side=not is_server,
        https_compatible=True,
    )
    await together(ours.do_handshake, theirs.do_handshake)
    assert ours.peer_certificate == THERE.der
    assert theirs.getpeercert(binary_form=True) == HERE.der
    for size_bytes in (1, 16_384, 16_385, 65_536, 200_000):
        data = Random(size_bytes).randbytes(size_bytes)

        async def echo(size_bytes: int = size_bytes) -> None:
            await theirs.send_all(await exactly(theirs, size_bytes))

        async def ask(data: bytes = data) -> None:
            await ours.send_all(data)
            assert await exactly(ours, len(data)) == data

        await together(echo, ask)
    await theirs.aclose()
    assert await ours.receive_some() == b""
    assert await ours.receive_some() == b"", "an end stays one"
    ours.close()


async def test_both_directions_are_busy_at_once() -> None:
    one, two = await pair()
    ends = {one: two, two: one}
    sums: dict[TlsStream, list[bytes]] = {one: [], two: []}

    async def speak(end: TlsStream) -> None:
        dice, said = Random(1), sha256()
        for _ in range(40):
            data = dice.randbytes(dice.choice((1, 700, 16_384, 300_000)))
            said.update(data)
            await end.send_all(data)
        sums[end].append(said.digest())
        end.socket.shutdown(socket.SHUT_WR)

    async def listen(end: TlsStream) -> None:
        heard = sha256()
        while data := await end.receive_some():
            heard.update(data)
        sums[ends[end]].append(heard.digest())

    await together(*(lambda job=job, end=end: job(end) for job in (speak, listen) for end in ends))
    assert all(said == heard for said, heard in sums.values())
    one.close()
    two.close()


async def test_what_comes_with_the_end_of_the_handshake_is_read_without_waiting_for_more() -> None:
    raw, called = await connection()
    ours = TlsStream(called, HERE.server_context, server_side=True)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = THERE.client_context.wrap_bio(incoming, outgoing)

    async def speak() -> None:
        while True:
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                await raw.send_all(outgoing.read())
                incoming.write(await raw.receive_some())
            else:
                break
        client.write(b"at once")
        await raw.send_all(outgoing.read())

    await together(ours.do_handshake, speak)
    with trio.fail_after(10):
        assert await ours.receive_some() == b"at once"
    ours.close()
    await raw.aclose()


# --- a socket that is full, and giving up ---------------------------------------------------------------------------


async def test_a_large_write_waits_for_a_reader_that_has_stopped() -> None:
    ours, theirs = await pair_with_trio()
    data = Random(2).randbytes(16 * MIB)
    is_done = trio.Event()

    async def speak() -> None:
        assert not ours.write(data), "no socket takes so much"
        await ours.flush()
        is_done.set()

    async def listen() -> None:
        await wait_all_tasks_blocked(0.02)
        assert not is_done.is_set()
        assert await exactly(theirs, len(data)) == data
        await is_done.wait()

    await together(speak, listen)
    ours.close()
    await theirs.aclose()


async def test_a_write_that_was_given_up_still_goes_first_and_whole() -> None:
    ours, theirs = await pair_with_trio()
    parts = [Random(number).randbytes(4 * MIB) for number in range(3)]

    async def speak() -> None:
        for part in parts:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    @nursery.start_soon
                    async def give_up(scope: trio.CancelScope = scope) -> None:
                        await wait_all_tasks_blocked(0.01)
                        scope.cancel()

                    await ours.send_all(part)
            assert scope.cancelled_caught
        reader.start_soon(listen)
        await ours.send_all(b"the end")

    async def listen() -> None:
        data = b"".join(parts) + b"the end"
        assert await exactly(theirs, len(data)) == data

    with trio.fail_after(30):
        async with trio.open_nursery() as reader:
            await speak()
    ours.close()
    await theirs.aclose()


async def test_a_read_that_was_given_up_has_taken_nothing() -> None:
    ours, theirs = await pair()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def give_up() -> None:
                await wait_all_tasks_blocked()
                assert theirs.write(b"just then")
                scope.cancel()

            await ours.receive_some()
    assert scope.cancelled_caught
    with trio.CancelScope() as scope:
        scope.cancel()
        await ours.receive_some()
    assert scope.cancelled_caught
    assert await ours.receive_some() == b"just then"
    ours.close()
    theirs.close()


async def test_records_are_read_wherever_the_network_cuts_them() -> None:
    ours, theirs = await pair()
    texts = b"one", b"and another"
    size_bytes = sum(5 + len(text) + 1 + 16 for text in texts)  # Header, content type, authentication tag.
    with trio.fail_after(30):
        for cut_at in range(1, size_bytes):
            for text in texts:
                theirs._object.write(text)
            ciphertext = theirs._outgoing.read()
            assert len(ciphertext) == size_bytes
            heard = b""
            for piece in (ciphertext[:cut_at], ciphertext[cut_at:]):
                theirs.socket.send(piece)
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:

                        @nursery.start_soon
                        async def give_up(scope: trio.CancelScope = scope) -> None:
                            await wait_all_tasks_blocked(0.001)
                            scope.cancel()

                        while True:
                            heard += await ours.receive_some()
            assert heard == b"".join(texts)
    ours.close()
    theirs.close()


async def test_who_sends_without_end_starves_nobody() -> None:
    ours, theirs = await pair()
    rounds = 0
    data = bytes(4 * MIB)

    async def others() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await trio.lowlevel.checkpoint()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            nursery.start_soon(theirs.send_all, data)
            reads = taken_bytes = 0
            while taken_bytes < len(data):
                taken_bytes += len(await ours.receive_some())
                reads += 1
                assert rounds >= reads
            nursery.cancel_scope.cancel()
    ours.close()
    theirs.close()


# --- things that OpenSSL says by itself -----------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs OpenSSL's program to ask for new keys")
async def test_keys_are_changed_when_the_other_end_asks_for_it(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    (tmp_path / "peer.pem").write_text(secret + ssl.DER_cert_to_PEM_cert(NodeCertificate.of(key).der))
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        port = listener.socket.getsockname()[1]
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3"]
        command += ["-cert", str(tmp_path / "peer.pem"), "-key", str(tmp_path / "peer.pem")]
        process = await trio.lowlevel.open_process(command, stdin=-1, stdout=-1, stderr=-1)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        ours = TlsStream(await listener.accept(), HERE.server_context, server_side=True)
        with trio.fail_after(30):
            await ours.do_handshake()
            printed, errors = bytearray(), bytearray()

            async def read_all(stream: trio.abc.ReceiveStream, text: bytearray) -> None:
                while piece := await stream.receive_some():
                    text.extend(piece)

            nursery.start_soon(read_all, process.stdout, printed)
            nursery.start_soon(read_all, process.stderr, errors)
            for number in range(1, 4):
                await process.stdin.send_all(b"K\n")  # A key update that asks for one in return.
                while errors.count(b"KEYUPDATE") < number:
                    with trio.move_on_after(0.01):
                        assert await ours.receive_some() == b"", "a key update carries nothing"
                text = b"under key %d\n" % number
                await process.stdin.send_all(text)
                assert await ours.receive_some() == text
                await ours.send_all(b"answer %d." % number)
                while b"answer %d." % number not in printed:
                    await trio.lowlevel.checkpoint()
            ours.close()
            await process.wait()
        await process.stdin.aclose()


class Chatterbox:
    """OpenSSL as it may be asked to be: it finds nothing in what it reads, but has an answer to it."""

    def __init__(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    def read(self, size_bytes: int) -> bytes:
        self._outgoing.write(self._incoming.read())
        raise ssl.SSLWantReadError


async def test_who_asks_without_end_and_takes_no_answer_is_left() -> None:
    ours, theirs = await pair()
    ours._object = Chatterbox(ours._incoming, ours._outgoing)  # type: ignore[assignment]

    async def ask() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await theirs.send_all(bytes(32 * MIB))

    async def listen() -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await ours.receive_some()
        assert "asks for answers without end" in str(caught.value.__cause__)
        ours.close()

    await together(ask, listen)
    theirs.close()


async def test_answers_that_were_taken_are_held_against_nobody() -> None:
    ours, theirs = await pair()
    ours._object = Chatterbox(ours._incoming, ours._outgoing)  # type: ignore[assignment]

    async def ask(size_bytes: int) -> None:
        assert theirs.socket.send(bytes(size_bytes)) == size_bytes
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def give_up() -> None:
                    await wait_all_tasks_blocked(0.01)
                    scope.cancel()

                await ours.receive_some()
        assert scope.cancelled_caught

    with trio.fail_after(30):
        for _ in range(4):
            await ask(30_000)
            left_bytes = 30_000
            while left_bytes:
                await trio.lowlevel.wait_readable(theirs.socket)
                left_bytes -= len(theirs.socket.recv(left_bytes))
        ours._rest = memoryview(bytes(16 * MIB))  # More than any socket takes.
        await ask(1_000)  # Its answer is not taken, but little.
    ours.close()
    theirs.close()


async def test_what_came_is_handed_out_although_the_answer_to_it_cannot_leave() -> None:
    ours, theirs = await pair()
    theirs._object.write(b"good")
    theirs.socket.send(theirs._outgoing.read() + b"\x17\x03\x03\x00\x20" + bytes(32))  # That asks for an alert.
    ours.socket.shutdown(socket.SHUT_WR)
    assert await ours.receive_some() == b"good"
    with pytest.raises(trio.BrokenResourceError) as caught:
        await ours.receive_some()
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    ours.close()
    theirs.close()


async def test_a_bad_record_is_told_after_those_before_it_were_handed_out_and_the_other_end_hears_of_it() -> None:
    calling, called = await connection()
    ours = TlsStream(called, HERE.server_context, server_side=True)
    theirs = TlsStream(calling, THERE.client_context, server_side=False)
    await together(ours.do_handshake, theirs.do_handshake)
    theirs._object.write(b"good")
    theirs.socket.send(theirs._outgoing.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
    assert await ours.receive_some() == b"good"
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError) as caught:
            await ours.receive_some()
        assert isinstance(caught.value.__cause__, ssl.SSLError)
    with pytest.raises(trio.BrokenResourceError) as caught:
        await theirs.receive_some()
    assert "alert bad record mac" in str(caught.value.__cause__)
    ours.close()
    theirs.close()


async def test_who_shows_no_certificate_is_told_so() -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    calling, called = await connection()
    ours = TlsStream(called, HERE.server_context, server_side=True)
    theirs = TlsStream(calling, bare, server_side=False)

    async def answer() -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await ours.do_handshake()
        assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in str(caught.value.__cause__)
        await ours.close_politely(1)

    async def call() -> None:
        await theirs.do_handshake()  # In TLS 1.3 a refused client learns of it on its first read.
        with pytest.raises(trio.BrokenResourceError) as caught:
            await theirs.receive_some()
        assert "alert certificate required" in str(caught.value.__cause__)
        theirs.close()

    await together(answer, call)


# --- ends -----------------------------------------------------------------------------------------------------------


async def test_hanging_up_without_a_goodbye_is_an_end() -> None:
    ours, theirs = await pair()
    await theirs.send_all(b"last words")
    theirs.close()
    assert await ours.receive_some() == b"last words"
    assert await ours.receive_some() == b""
    ours.close()


async def test_hanging_up_in_the_middle_of_the_handshake_breaks_it() -> None:
    calling, called = await connection()
    ours = TlsStream(called, HERE.server_context, server_side=True)
    await calling.aclose()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await ours.do_handshake()
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    ours.close()


async def test_a_connection_that_is_reset_breaks_reading_and_writing() -> None:
    ours, theirs = await pair()
    theirs.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    with pytest.raises(trio.BrokenResourceError, match=r"the connection broke: .*reset"):
        await ours.receive_some()
    with pytest.raises(trio.BrokenResourceError, match=r"the connection broke: "):
        await ours.send_all(b"anybody there?")
    ours.close()


async def test_a_reset_wakes_a_writer_that_waits() -> None:
    ours, theirs = await pair()

    async def speak() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await ours.send_all(bytes(16 * MIB))

    async def reset() -> None:
        await wait_all_tasks_blocked(0.01)
        theirs.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()

    await together(speak, reset)
    ours.close()


async def test_closing_wakes_those_who_wait_and_refuses_those_who_come() -> None:
    ours, theirs = await pair()

    async def speak() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await ours.send_all(bytes(16 * MIB))

    async def listen() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()

    async def close() -> None:
        await wait_all_tasks_blocked(0.01)
        ours.close()
        ours.close()

    await together(speak, listen, close)
    await together(speak, listen)
    with pytest.raises(trio.ClosedResourceError):
        await ours.flush()
    theirs.close()


async def test_a_polite_end_lets_what_was_sent_arrive() -> None:
    """Although bytes of the other end are on their way here, which a plain close would answer with a reset."""
    ours, theirs = await pair()
    await theirs.send_all(b"never read")
    await ours.send_all(b"the reason")

    async def listen() -> None:
        assert await theirs.receive_some() == b"the reason"
        assert await theirs.receive_some() == b""
        theirs.close()

    async def close() -> None:
        await ours.close_politely(10)
        assert ours.socket.fileno() == -1

    await together(close, listen)
