"""The trace of a run: a rolling SHA-256 over everything that was delivered, and a transcript for people.

Two runs of one seed are the same run if and only if their trace hashes are equal, whatever the interpreter's hash
seed. When they differ, the first line in which two transcripts differ is where chance leaked in.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TextIO

from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.messages import Message, ProposalMessage, VoteMessage, decode_message
from p2pledger.primitives.votes import Vote

__all__ = ["Trace"]


class Trace:
    """``record`` takes every delivered event; ``hash`` is the digest so far, ``events`` their number."""

    def __init__(self, transcript: TextIO | None = None) -> None:
        self._rolling = sha256()
        self._transcript = transcript
        self.events = 0

    def record(self, time_us: int, place: str, kind: str, number: int = 0, data: bytes = b"") -> None:
        """One event: when, at whom, of which kind, with its number (a session, a job, a count) and its bytes."""
        self.events += 1
        self._rolling.update(f"{time_us} {place} {kind} {number} {len(data)}\n".encode() + data)
        if self._transcript is not None:
            what = _described(data) if kind == "received" else data.decode("utf-8", "replace") if data else ""
            print(f"{time_us / 1e6:12.6f}  {place:<10} {kind:<9} {number:>4}  {what}".rstrip(), file=self._transcript)

    @property
    def hash(self) -> str:
        return self._rolling.hexdigest()


def _described(payload: bytes) -> str:
    """A message in a few words."""
    try:
        message = decode_message(payload)
        if isinstance(message, VoteMessage):
            vote = Vote.decode(message.vote)
            return f"Vote {vote.kind.name.lower()} view {vote.view} block {vote.block.hex()[:8]} signer {vote.signer}"
        if isinstance(message, ProposalMessage):
            vote = Vote.decode(message.vote)
            return f"Proposal view {vote.view} block {vote.block.hex()[:8]} signer {vote.signer}"
        return _fields_of(message)
    except PeerFault as fault:
        return f"{len(payload)} bytes that cannot be read: {fault.code}"


def _fields_of(message: Message) -> str:
    words = [type(message).__name__]
    for value in message.values():
        if isinstance(value, bytes):
            words.append(value.hex()[:8] if len(value) == 32 else f"{len(value)} bytes")
        elif isinstance(value, tuple):
            words.append(f"[{len(value)}]")
        else:
            words.append(str(value))
    return " ".join(words)
