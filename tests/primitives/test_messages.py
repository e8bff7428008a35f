"""Messages between nodes and clients: one type number each, one way in and one way out."""

import pytest

from p2pledger.primitives import messages
from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.messages import MAX_MESSAGE_BYTES, Message, decode_message
from tests.primitives import samples


@pytest.mark.parametrize("message", samples.sample_messages(), ids=lambda message: type(message).__name__)
def test_a_message_reads_back(message: Message) -> None:
    assert decode_message(message.encode()) == message
    assert len(message.values()) == message.count - 1


def test_every_message_has_a_number_of_its_own_and_a_sample() -> None:
    offered = [getattr(messages, name) for name in messages.__all__]
    kinds = [kind for kind in offered if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message]
    assert len({kind.type for kind in kinds}) == len(kinds)
    assert {type(message) for message in samples.sample_messages()} == set(kinds)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "malformed"),
        (encode(()), "malformed"),
        (encode(("18",)), "malformed"),
        (encode((99, b"")), "unknown_message"),
        (encode((18, 1, bytes(32))), "malformed"),
        (encode((18, 1, bytes(31), 0, 0, bytes(32))), "malformed"),
        (encode((22, bytes(31), 1)), "malformed"),
        (encode((11, (bytes(32),) * 65)), "malformed"),
        (encode((20, (1,), b"")), "malformed"),
        (encode((30, 1, ("text",))), "malformed"),
        (encode((31, 1, (0, b""), 0)), "malformed"),
        (encode((32, 1, 2, bytes(33), bytes(4), ())), "malformed"),
        (encode((32, 1, 2, bytes(64), bytes(4), ())), "malformed"),
        (encode((32, 1, 2, bytes(64), bytes(8))), "malformed"),
        (encode((32, 1, 2, bytes(64), bytes(8), ((2, "order 1"),))), "malformed"),
        (encode((32, 1, 2, bytes(64), bytes(8), ((1, "order 1"), (0, "order 2")))), "malformed"),
        (encode((32, 1, 2, bytes(64), bytes(8), ((0, "order 1"), (0, "order 2")))), "malformed"),
        (encode((32, 1, 2, bytes(64), bytes(8), ((0, ""),))), "malformed"),
        (encode((32, 1, 2, bytes(64), bytes(8), ((0, "x" * 65),))), "malformed"),
        (encode((32, 1, 2, bytes(64), bytes(8), ((0, b"order 1"),))), "malformed"),
        (encode((33, 1, "x" * 33, ())), "malformed"),
        (encode((35, 4, 1, 2, bytes(32), bytes(4), ())), "malformed"),
        (encode((35, 1, 1, 2, bytes(32), bytes(3), ())), "malformed"),
        (encode((35, 1, 1, 2, bytes(32), bytes(4), ((1, "order 1"),))), "malformed"),
        (encode((36, 1)), "malformed"),
        (bytes(MAX_MESSAGE_BYTES + 1), "too_large"),
    ],
)
def test_what_is_no_message_is_refused(payload: bytes, code: str) -> None:
    with pytest.raises(PeerFault) as caught:
        decode_message(payload)
    assert caught.value.code == code


def test_the_names_that_are_offered_exist() -> None:
    assert all(hasattr(messages, name) for name in messages.__all__)
