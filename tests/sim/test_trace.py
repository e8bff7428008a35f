"""The trace hash covers when, where, what and every byte."""

from __future__ import annotations

import io

from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.messages import Status, VoteMessage
from p2pledger.primitives.votes import Vote, VoteKind
from p2pledger.sim.trace import Trace


def hash_of(*events: tuple[int, str, str, int, bytes]) -> str:
    trace = Trace()
    for event in events:
        trace.record(*event)
    assert trace.events == len(events)
    return trace.hash


def test_every_part_of_an_event_counts() -> None:
    base = (1, "node-0", "received", 2, b"bytes")
    others = [
        (2, "node-0", "received", 2, b"bytes"),
        (1, "node-1", "received", 2, b"bytes"),
        (1, "node-0", "computed", 2, b"bytes"),
        (1, "node-0", "received", 3, b"bytes"),
        (1, "node-0", "received", 2, b"bytez"),
    ]
    assert len({hash_of(base), *map(hash_of, others)}) == 6
    assert hash_of(base, others[0]) != hash_of(others[0], base)


def test_the_transcript_is_for_people() -> None:
    vote = Vote(0, 7, VoteKind.NULLIFY, ZERO_HASH, 3, bytes(64))
    text = io.StringIO()
    trace = Trace(text)
    trace.record(1_500_000, "node-0", "received", 4, VoteMessage(vote.encode()).encode())
    trace.record(1_500_001, "node-0", "received", 4, Status(9, ZERO_HASH, 7).encode())
    trace.record(1_500_002, "node-0", "received", 4, b"\xc1")
    trace.record(1_500_003, "world", "crash", 0, b"torn")
    assert text.getvalue().splitlines() == [
        "    1.500000  node-0     received     4  Vote nullify view 7 block 00000000 signer 3",
        "    1.500001  node-0     received     4  Status 9 00000000 7 0 00000000",
        "    1.500002  node-0     received     4  1 bytes that cannot be read: malformed",
        "    1.500003  world      crash        0  torn",
    ]


def test_the_transcript_changes_no_hash() -> None:
    silent, loud = Trace(), Trace(io.StringIO())
    for trace in (silent, loud):
        trace.record(1, "node-0", "received", 1, b"\x00")
    assert silent.hash == loud.hash
