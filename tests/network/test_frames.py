"""Frames: what is cut, what is refused, and that nothing is reserved for bytes that never come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.network.frames import HANDSHAKE_LIMIT_BYTES, MESSAGE_LIMIT_BYTES, FrameReader, frame
from p2pledger.primitives.errors import PeerFault


def payloads_of(reader: FrameReader) -> list[bytes]:
    found = []
    while (payload := reader.next_payload()) is not None:
        found.append(payload)
    return found


def test_a_frame_is_its_length_in_four_bytes_and_its_payload() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x03abc"


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=12), st.lists(st.integers(1, 500), max_size=40))
def test_payloads_do_not_depend_on_how_the_stream_was_cut(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, payloads))
    reader, found = FrameReader(MESSAGE_LIMIT_BYTES), []
    for cut in [*cuts, len(stream)]:
        piece, stream = stream[:cut], stream[cut:]
        reader.feed(piece)
        found += payloads_of(reader)
    assert found == payloads
    assert reader.buffered_bytes == 0


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=12), st.lists(st.integers(1, 500), max_size=40))
def test_many_payloads_at_once_are_the_same(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, payloads))
    reader, one_by_one = FrameReader(MESSAGE_LIMIT_BYTES), FrameReader(MESSAGE_LIMIT_BYTES)
    for cut in [*cuts, len(stream)]:
        piece, stream = stream[:cut], stream[cut:]
        one_by_one.feed(piece)
        assert reader.payloads(piece) == payloads_of(one_by_one)
        assert reader.buffered_bytes == one_by_one.buffered_bytes
    assert reader.payloads(b"") == []


@pytest.mark.parametrize("cut", [0, 2, 8, 10])
@pytest.mark.parametrize(
    ("bad", "code"), [((MESSAGE_LIMIT_BYTES + 1).to_bytes(4, "big"), "frame_too_large"), (bytes(4), "empty_frame")]
)
def test_many_at_once_are_refused_as_one_is(cut: int, bad: bytes, code: str) -> None:
    reader, stream = FrameReader(MESSAGE_LIMIT_BYTES), frame(b"good") + bad + b"more"
    assert reader.payloads(stream[:cut]) == ([b"good"] if cut >= 8 else [])
    with pytest.raises(PeerFault) as caught:
        reader.payloads(stream[cut:])
    assert caught.value.code == code


def test_the_largest_frame_is_taken_at_once() -> None:
    payload = b"a" * MESSAGE_LIMIT_BYTES
    assert FrameReader(MESSAGE_LIMIT_BYTES).payloads(frame(payload)) == [payload]


def test_a_length_over_the_limit_is_refused_before_its_bytes_come() -> None:
    reader = FrameReader(HANDSHAKE_LIMIT_BYTES)
    reader.feed((HANDSHAKE_LIMIT_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(PeerFault, match=r"4097 bytes; 4096 are allowed") as caught:
        reader.next_payload()
    assert caught.value.code == "frame_too_large"


def test_the_largest_frame_passes() -> None:
    reader = FrameReader(MESSAGE_LIMIT_BYTES)
    payload = bytes(MESSAGE_LIMIT_BYTES)
    reader.feed(frame(payload))
    assert reader.next_payload() == payload


def test_an_empty_frame_is_refused() -> None:
    reader = FrameReader(MESSAGE_LIMIT_BYTES)
    reader.feed(bytes(4))
    with pytest.raises(PeerFault) as caught:
        reader.next_payload()
    assert caught.value.code == "empty_frame"


def test_the_limit_can_rise_between_two_frames_of_one_read() -> None:
    """The last small frame of a handshake and the first large one of the session often come together."""
    reader = FrameReader(HANDSHAKE_LIMIT_BYTES)
    reader.feed(frame(b"accept") + frame(bytes(HANDSHAKE_LIMIT_BYTES + 1)))
    assert reader.next_payload() == b"accept"
    reader.limit_bytes = MESSAGE_LIMIT_BYTES
    assert reader.next_payload() == bytes(HANDSHAKE_LIMIT_BYTES + 1)


@pytest.mark.parametrize("size_bytes", [0, MESSAGE_LIMIT_BYTES + 1])
def test_what_no_peer_would_accept_is_not_sent(size_bytes: int) -> None:
    with pytest.raises(ValueError, match="does not fit a frame"):
        frame(bytes(size_bytes))


def test_a_large_frame_is_refused_although_all_of_it_came_at_once() -> None:
    with pytest.raises(PeerFault) as caught:
        FrameReader(HANDSHAKE_LIMIT_BYTES).payloads(frame(bytes(HANDSHAKE_LIMIT_BYTES + 1)))
    assert caught.value.code == "frame_too_large"
