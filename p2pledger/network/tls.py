"""TLS over a socket, with as little between the two as can be. With ``transport.py`` all of this floor that waits.

OpenSSL works on two buffers in memory, one for ciphertext that came and one for ciphertext that is to go; this file
carries bytes between the buffers and a socket that does not block. So reading costs one system call however many
records come with it, writing one for each 128 KiB, and Trio is asked for one thing only: to wait until the socket
can be read, or, where it took less than was given, until it can be written. ``trio.SSLStream`` does the same behind
locks, conflict detectors and retries that suit any stream and any use of it; each read and each write pays for them.
(docs/decisions/0017-tls-without-trio-sslstream.md has the figures, and why OpenSSL does not own the socket.)

One task may read and another one write at the same time, and nothing is locked:

* OpenSSL forbids two *threads* in one connection. All tasks of a Trio run share one thread, and no call into OpenSSL
  waits, since its buffers are in memory: each is over before another task runs.
* What a call leaves in the buffer to go is taken out in the same breath, by whoever made it, and kept in order in
  ``_rest`` until the socket has taken it. That holds for reading too, which has something to send at times: the answer
  to a key update, an alert. Reading never waits for that to go; a peer that asks without end and takes no answer
  loses the connection at 64 KiB of them.

**Cancelling loses nothing.** Bytes taken from the socket are deciphered and returned without a wait in between; bytes
given to ``write`` stay in ``_plain`` and ``_rest`` when the wait for the socket is cancelled, and leave before anything
else does.

**Nobody is starved.** ``receive_some`` waits for the socket before every read, also where it could be read at once, so
whoever sends without end gets one read of 64 KiB in each round of Trio's loop, as everybody else. ``write`` does not
wait at all: who calls it in a loop has to let others run.

A missing goodbye (TLS ``close_notify``) is no error: frames carry their length, so it hides nothing.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Final

import trio

__all__ = ["GONE", "TlsStream"]

GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)
"""What the methods raise when the connection broke (the cause says how), or was closed here."""
_READ_BYTES: Final = 65_536
_WRITE_BYTES: Final = 131_072
"""Enciphered and sent at once: more would leave the processor's caches in between, or wait as ciphertext."""
_RECORD_BYTES: Final = 16_384
"""Most that one record carries (RFC 8446, section 5.1): OpenSSL hands out one record at a time."""
_DRAIN_LIMIT_BYTES: Final = 4 * 1_048_576
_ANSWERS_LIMIT_BYTES: Final = 65_536


class TlsStream:
    """One TLS connection. ``do_handshake`` first; then at most one task reads and at most one writes."""

    __slots__ = (
        "_answers_bytes",
        "_fault",
        "_has_ended",
        "_incoming",
        "_object",
        "_outgoing",
        "_plain",
        "_rest",
        "_socket",
    )

    def __init__(self, raw: trio.SocketStream, context: ssl.SSLContext, *, server_side: bool) -> None:
        """Takes the connection over: ``raw`` is empty afterwards."""
        kind = raw.socket.family, raw.socket.type, raw.socket.proto
        self._socket = socket.socket(*kind, fileno=raw.socket.detach())
        self._socket.setblocking(False)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._plain: memoryview | None = None
        """What was given to ``write`` and is not enciphered yet."""
        self._rest: memoryview | None = None
        """Ciphertext that the socket has not taken yet. It goes before what is in the buffer, and that before plain."""
        self._fault: ssl.SSLError | None = None
        """What is wrong with the records after those that were handed out."""
        self._has_ended = False
        self._answers_bytes = 0
        """What reading has produced since the socket last took everything."""

    @property
    def socket(self) -> socket.socket:
        """For its options and addresses."""
        return self._socket

    @property
    def peer_certificate(self) -> bytes | None:
        """DER; None if the other end has shown none."""
        return self._object.getpeercert(binary_form=True)

    async def do_handshake(self) -> None:
        while True:
            is_done = True
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                is_done = False
            except ssl.SSLError as error:
                with suppress(*GONE):
                    self._push()  # The alert that says why: as much of it as goes.
                raise trio.BrokenResourceError from error
            if not self._push():
                await self.flush()
            if is_done:
                return
            if data := await self._receive():
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    # --- writing ----------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> bool:
        """Take all of it, and give the socket what that takes now. False if some is left: then ``flush``."""
        if self._plain:  # Somebody gave up waiting for it; it still goes first.
            data = bytes(self._plain) + data
        self._plain = memoryview(data)
        return self._push()

    async def flush(self) -> None:
        """Until the socket has taken everything."""
        while True:
            self._check_is_open()
            await trio.lowlevel.wait_writable(self._socket)
            if self._push():
                return

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if not self.write(data):
            await self.flush()

    def _push(self) -> bool:
        """Encipher and give the socket what it takes; False if something is left."""
        plain, rest = self._plain, self._rest
        try:
            while True:
                if not rest:
                    if plain:
                        plain = plain[self._object.write(plain[:_WRITE_BYTES]) :]
                    elif not self._outgoing.pending:
                        plain = rest = None
                        self._answers_bytes = 0
                        return True
                    rest = memoryview(self._outgoing.read())
                rest = rest[self._socket.send(rest) :]
        except BlockingIOError:
            return False
        except ssl.SSLError as error:
            raise trio.BrokenResourceError from error
        except OSError as error:
            raise self._translated(error) from error
        finally:
            self._plain, self._rest = plain, rest

    # --- reading ----------------------------------------------------------------------------------------------------

    async def receive_some(self) -> bytes:
        """What one read of the socket gives, deciphered; empty when the other end has hung up."""
        while True:
            if self._fault is not None:
                raise trio.BrokenResourceError from self._fault
            if self._has_ended:
                return b""
            if self._incoming.pending:  # It came together with the end of the handshake.
                await trio.lowlevel.checkpoint()
            elif data := await self._receive():
                self._incoming.write(data)
            else:
                self._has_ended = True
                continue
            if data := self._decipher():
                return data

    async def _receive(self) -> bytes:
        """Wait for ciphertext and take it; empty when no more will come."""
        while True:
            self._check_is_open()
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                continue  # Woken for nothing, as the system may do.
            except OSError as error:
                raise self._translated(error) from error

    def _decipher(self) -> bytes:
        """The records that are whole. What is wrong with one is kept until those before it are handed out."""
        incoming, outgoing = self._incoming, self._outgoing
        before_bytes = outgoing.pending
        parts = []
        try:
            # OpenSSL takes from the buffer only what the record at hand needs: when it is empty, no whole one is left.
            while incoming.pending:
                part = self._object.read(_RECORD_BYTES)
                if not part:
                    self._has_ended = True
                    break
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._fault = error
        if outgoing.pending > before_bytes:
            self._answer(outgoing.pending - before_bytes)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _answer(self, size_bytes: int) -> None:
        """Send what reading has produced, as far as that goes now."""
        self._answers_bytes += size_bytes
        try:
            if not self._push() and self._answers_bytes > _ANSWERS_LIMIT_BYTES:
                self._fault = ssl.SSLError("the other end asks for answers without end and takes none")
        except GONE:
            pass  # The next read or write meets it too; what was deciphered is still handed out.

    # --- the end ----------------------------------------------------------------------------------------------------

    async def close_politely(self, timeout_s: float) -> None:
        """Hang up so that what was sent still arrives.

        A socket that is closed while unread bytes wait in it resets the connection, and a reset destroys what the other
        end has not read yet: the reason of a refusal, say. So: say that nothing more comes, and wait for the same.
        """
        try:
            with trio.move_on_after(timeout_s):
                self._socket.shutdown(socket.SHUT_WR)
                drained_bytes = 0
                while drained_bytes < _DRAIN_LIMIT_BYTES and (data := await self._receive()):
                    drained_bytes += len(data)
        except (*GONE, OSError):
            pass  # It is gone already.
        finally:
            self.close()

    def close(self) -> None:
        """At once. Whoever waits for this stream gets ClosedResourceError. Nothing happens if it is closed."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def _check_is_open(self) -> None:
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError("this end closed the connection")

    def _translated(self, error: OSError) -> Exception:
        self._check_is_open()
        return trio.BrokenResourceError(f"the connection broke: {error}")
