"""Canonical MessagePack: every value has one encoding, and every other is refused before anything is allocated."""

import struct
import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.primitives.codec import MAX_DEPTH, U64_MAX, Fields, Value, decode, encode
from p2pledger.primitives.errors import PeerFault

values = st.recursive(
    st.none() | st.booleans() | st.integers(0, U64_MAX) | st.binary(max_size=300) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=20).map(tuple),
    max_leaves=30,
)


def read(data: bytes) -> Value:
    return decode(data, limit_bytes=100_000, what="value")


def by_hand(value: Value) -> bytes:
    """The table of docs/protocol.md, section 1, written a second time."""
    if value is None:
        return b"\xc0"
    if value is False:
        return b"\xc2"
    if value is True:
        return b"\xc3"
    if isinstance(value, int):
        for most, head, form in (
            (0x7F, b"", ">B"),
            (0xFF, b"\xcc", ">B"),
            (0xFFFF, b"\xcd", ">H"),
            (2**32 - 1, b"\xce", ">I"),
        ):
            if value <= most:
                return head + struct.pack(form, value)
        return b"\xcf" + struct.pack(">Q", value)
    if isinstance(value, bytes):
        return _head(len(value), ((0xFF, b"\xc4", ">B"), (0xFFFF, b"\xc5", ">H"), (2**32 - 1, b"\xc6", ">I"))) + value
    if isinstance(value, str):
        data = value.encode()
        if len(data) < 32:
            return bytes([0xA0 | len(data)]) + data
        return _head(len(data), ((0xFF, b"\xd9", ">B"), (0xFFFF, b"\xda", ">H"), (2**32 - 1, b"\xdb", ">I"))) + data
    items = b"".join(by_hand(item) for item in value)
    if len(value) < 16:
        return bytes([0x90 | len(value)]) + items
    return _head(len(value), ((0xFFFF, b"\xdc", ">H"), (2**32 - 1, b"\xdd", ">I"))) + items


def _head(length: int, forms: tuple[tuple[int, bytes, str], ...]) -> bytes:
    return next(head + struct.pack(form, length) for most, head, form in forms if length <= most)


@given(values)
def test_a_value_is_encoded_in_its_shortest_form_and_read_back(value: Value) -> None:
    data = encode(value)
    assert data == by_hand(value)
    assert read(data) == value
    assert read(memoryview(data)) == value


@pytest.mark.parametrize("edge", [0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, U64_MAX])
def test_integers_change_their_form_at_the_edges(edge: int) -> None:
    assert read(encode(edge)) == edge
    assert encode(edge) == by_hand(edge)


@pytest.mark.parametrize("length", [0, 31, 32, 255, 256, 65_535, 65_536])
def test_lengths_change_their_form_at_the_edges(length: int) -> None:
    for value in (b"x" * length, "x" * length):
        assert encode(value) == by_hand(value)
        assert read(encode(value)) == value
    for items in (15, 16, 65_535, 65_536):
        assert encode((0,) * items) == by_hand((0,) * items)


@given(st.binary(max_size=60))
def test_whatever_is_read_is_written_the_same_way(data: bytes) -> None:
    try:
        value = read(data)
    except PeerFault:
        return
    assert encode(value) == data


REFUSED = {
    "nothing": b"",
    "trailing byte": b"\x00\x00",
    "integer longer than needed": b"\xcc\x05",
    "integer of two bytes for one": b"\xcd\x00\xff",
    "integer of four bytes for two": b"\xce\x00\x00\xff\xff",
    "integer of eight bytes for four": b"\xcf\x00\x00\x00\x00\xff\xff\xff\xff",
    "negative fixint": b"\xff",
    "negative int8": b"\xd0\xff",
    "positive int8": b"\xd0\x05",
    "int16": b"\xd1\x01\x00",
    "int32": b"\xd2\x00\x01\x00\x00",
    "int64": b"\xd3\x00\x00\x00\x01\x00\x00\x00\x00",
    "float32": b"\xca\x00\x00\x00\x00",
    "float64": b"\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00",
    "empty map": b"\x80",
    "map": b"\x81\x01\x02",
    "map16": b"\xde\x00\x01\x01\x02",
    "map32": b"\xdf\x00\x00\x00\x00",
    "fixext1": b"\xd4\x01\x00",
    "timestamp": b"\xd6\xff\x00\x00\x00\x00",
    "ext8": b"\xc7\x01\x05\x00",
    "never used": b"\xc1",
    "bytes longer form": b"\xc5\x00\x01x",
    "text longer form": b"\xd9\x01x",
    "array longer form": b"\xdc\x00\x01\x00",
    "array32 for none": b"\xdd\x00\x00\x00\x00",
    "bytes cut": b"\xc4\x05abc",
    "bytes bomb": b"\xc6\xff\xff\xff\xff",
    "text bomb": b"\xdb\xff\xff\xff\xff",
    "array bomb": b"\xdd\xff\xff\xff\xff",
    "nested bombs": b"\xdd\x00\xff\xff\xff" * 8,
    "text not UTF-8": b"\xa2\xff\xfe",
    "text of a surrogate": b"\xa3\xed\xa0\x80",
    "text too long a form of UTF-8": b"\xa2\xc0\x80",
    "too deep": b"\x91" * (MAX_DEPTH + 1) + b"\x00",
    "far too deep": b"\x91" * 50_000,
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_every_other_encoding_is_refused(data: bytes) -> None:
    with pytest.raises(PeerFault) as caught:
        read(data)
    assert caught.value.code == "malformed"
    assert "value is not canonical MessagePack" in str(caught.value)


@pytest.mark.parametrize("size_bytes", [1_024, 1_025, 65_536, 1_048_576])
@pytest.mark.parametrize(("mark", "width"), [(b"\xdc", 2), (b"\xdd", 4)], ids=["array16", "array32"])
def test_nested_arrays_that_claim_too_much_take_no_memory(mark: bytes, width: int, size_bytes: int) -> None:
    """Each claims as many items as there are bytes, and a thousand of them are open at once."""
    head = mark + min(size_bytes, 256**width - 1).to_bytes(width, "big")
    heads = head * min(1_000, size_bytes // len(head))
    data = heads + b"\x00" * (size_bytes - len(heads))
    tracemalloc.start()
    try:
        with pytest.raises(PeerFault) as caught:
            decode(data, limit_bytes=size_bytes, what="value")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code == "malformed"
    assert peak_bytes < 4 * 1_048_576


@pytest.mark.parametrize("size_bytes", [1_000, 5_000])
def test_what_is_long_is_read_like_what_is_short(size_bytes: int) -> None:
    value = (1, (b"x" * size_bytes, (2, None, True)), "y")
    assert read(encode(value)) == value
    assert decode(memoryview(encode(value)), limit_bytes=10_000, what="value") == value
    for wrong in (encode(value)[:-1], encode(value) + b"\x00", encode((value, b"")).replace(b"\xc4\x00", b"\x80")):
        with pytest.raises(PeerFault, match="is not canonical"):
            read(wrong)


def test_depth_counts_arrays() -> None:
    deepest: Value = 0
    for _ in range(MAX_DEPTH):
        deepest = (deepest,)
    assert read(encode(deepest)) == deepest
    with pytest.raises(ValueError):
        encode((deepest,))


def test_the_limit_is_judged_before_the_bytes() -> None:
    with pytest.raises(PeerFault) as caught:
        decode(b"\xff" * 11, limit_bytes=10, what="value")
    assert caught.value.code == "too_large"
    assert decode(encode(b"x" * 8), limit_bytes=10, what="value") == b"x" * 8


@pytest.mark.parametrize(
    "value", [-1, 2**64, 1.5, {}, {1: 2}, object(), bytearray(b"x"), (1, [2, {3: 4}]), msgpack.Timestamp(1)]
)
def test_values_outside_the_allowed_types_are_not_encoded(value: Value) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode(value)


def test_lists_are_written_like_tuples() -> None:
    assert encode([1, [2, b"x"]]) == encode((1, (2, b"x")))


# Fields: the readers of decoded arrays.


def fields(*items: Value, version: int | None = None) -> Fields:
    return Fields(items, what="thing", count=len(items), version=version)


@pytest.mark.parametrize(
    ("items", "version", "code"),
    [
        (1, None, "malformed"),
        ([1, 2], None, "malformed"),
        ((1,), None, "malformed"),
        ((), 1, "malformed"),
        (("1", 2), 1, "malformed"),
        ((True, 2), 1, "malformed"),
        ((2, 2), 1, "unknown_version"),
        ((2,), 1, "unknown_version"),
        ((1, 2, 3), 1, "malformed"),
    ],
)
def test_an_array_must_have_its_version_and_count(items: Value, version: int | None, code: str) -> None:
    with pytest.raises(PeerFault) as caught:
        Fields(items, what="thing", count=2, version=version)
    assert caught.value.code == code
    assert "thing" in str(caught.value)


def test_fields_are_read_in_order() -> None:
    reader = fields(1, 7, b"ab", "text", True, (1, 2), None, b"cd", (b"x", b"y"), version=1)
    assert reader.integer("a") == 7
    assert reader.binary("b", 2) == b"ab"
    assert reader.text("c", most=4) == "text"
    assert reader.boolean("d") is True
    assert reader.array("e", most=2) == (1, 2)
    assert reader.optional_binary("f", 2) is None
    assert reader.optional_binary("g", 2) == b"cd"
    assert reader.binaries("h", 1, most=2) == (b"x", b"y")


MISMATCHES = {
    "integer is text": lambda: fields("1").integer("field"),
    "integer is true": lambda: fields(True).integer("field"),
    "integer too large": lambda: fields(11).integer("field", most=10),
    "bytes are text": lambda: fields("ab").binary("field"),
    "bytes of another width": lambda: fields(b"abc").binary("field", 2),
    "too many bytes": lambda: fields(b"abc").binary("field", most=2),
    "text is bytes": lambda: fields(b"a").text("field", most=9),
    "text too long in bytes": lambda: fields("éé").text("field", most=3),
    "boolean is 1": lambda: fields(1).boolean("field"),
    "array is bytes": lambda: fields(b"").array("field", most=1),
    "array too long": lambda: fields((1, 2)).array("field", most=1),
    "optional of another width": lambda: fields(b"a").optional_binary("field", 2),
    "optional is false": lambda: fields(False).optional_binary("field", 2),
    "one item of another width": lambda: fields((b"ab", b"a")).binaries("field", 2, most=5),
    "one item is text": lambda: fields((b"ab", "ab")).binaries("field", most=5),
}


@pytest.mark.parametrize("read_field", MISMATCHES.values(), ids=MISMATCHES)
def test_a_mismatch_names_object_and_field(read_field: object) -> None:
    assert callable(read_field)
    with pytest.raises(PeerFault, match=r"field field of thing is not") as caught:
        read_field()
    assert caught.value.code == "malformed"
