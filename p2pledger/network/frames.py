"""Cuts the bytes of a session into frames: ``length (4, big-endian) || payload`` (docs/protocol.md, section 9).

The limit is checked as soon as the four bytes of a length are there, so a peer cannot make a node reserve memory for
bytes that it announces and never sends. What is held is at most one frame under the limit and one read.
"""

from __future__ import annotations

from typing import Final

from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.messages import MAX_MESSAGE_BYTES

__all__ = ["HANDSHAKE_LIMIT_BYTES", "HEADER_BYTES", "MESSAGE_LIMIT_BYTES", "FrameReader", "frame"]

HEADER_BYTES: Final = 4
HANDSHAKE_LIMIT_BYTES: Final = 4_096
"""Largest payload before the end of the handshake."""
MESSAGE_LIMIT_BYTES: Final = MAX_MESSAGE_BYTES
"""Largest payload afterwards."""


def frame(payload: bytes) -> bytes:
    """The bytes that carry one payload. ValueError for one that no peer would accept: that is a bug of the sender."""
    if not 0 < len(payload) <= MESSAGE_LIMIT_BYTES:
        raise ValueError(f"a payload of {len(payload)} bytes does not fit a frame")
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


class FrameReader:
    """Bytes in by ``feed``, payloads out by ``next_payload``, one at a time; ``payloads`` does both for many.

    ``limit_bytes`` applies to the next payload that is asked for: the handshake raises it when it is done, although
    the first large frame may have come in the same read as its last small one.
    """

    __slots__ = ("_buffer", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._buffer = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """Bytes that were fed and not yet given out."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray) -> None:
        self._buffer += data

    def next_payload(self) -> bytes | None:
        """The payload of the next frame, or None until more bytes come.

        PeerFault ``frame_too_large`` or ``empty_frame``; the session is beyond repair then.
        """
        buffer = self._buffer
        if len(buffer) < HEADER_BYTES:
            return None
        size_bytes = int.from_bytes(buffer[:HEADER_BYTES], "big")
        if size_bytes > self.limit_bytes:
            raise PeerFault(
                f"a frame announces {size_bytes} bytes; {self.limit_bytes} are allowed", code="frame_too_large"
            )
        if size_bytes == 0:
            raise PeerFault("a frame is empty", code="empty_frame")
        end = HEADER_BYTES + size_bytes
        if len(buffer) < end:
            return None
        payload = bytes(memoryview(buffer)[HEADER_BYTES:end])
        del buffer[:end]
        return payload

    def payloads(self, data: bytes) -> list[bytes]:
        """Feed, and the payloads of all frames that are whole now. Faults as with ``next_payload``."""
        payloads = []
        at = 0
        if not self._buffer:  # As nearly always: then nothing is copied but the payloads.
            size_bytes = len(data)
            while size_bytes - at > HEADER_BYTES:
                start = at + HEADER_BYTES
                end = start + int.from_bytes(data[at:start], "big")
                if end > size_bytes or not start < end <= start + self.limit_bytes:
                    break
                payloads.append(data[start:end])
                at = end
            if at == size_bytes:
                return payloads
        self._buffer += data[at:] if at else data
        while (payload := self.next_payload()) is not None:
            payloads.append(payload)
        return payloads
