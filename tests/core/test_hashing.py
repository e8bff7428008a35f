"""SHA-256 of many messages, against hashlib and FIPS 180-4."""

import hashlib
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

# Around the ends of blocks, where padding takes another block.
EDGES = [0, 1, 2, 3, 54, 55, 56, 57, 63, 64, 65, 111, 118, 119, 120, 121, 127, 128, 129, 183, 184, 1000, 4096, 65537]


def test_published_vectors(core: ModuleType) -> None:
    hashes = core.sha256_many([b"abc", b"", b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"])
    assert hashes[:32].hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hashes[32:64].hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert hashes[64:].hex() == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"


def test_edges(core: ModuleType) -> None:
    messages = [bytes((size + i) % 251 for i in range(size)) for size in EDGES]
    assert core.sha256_many(messages) == b"".join(hashlib.sha256(message).digest() for message in messages)


def test_any_buffer(core: ModuleType) -> None:
    data = b"0123456789"
    every_other = memoryview(data)[::2]
    expected = b"".join(hashlib.sha256(m).digest() for m in (data, data, data, b"02468"))
    assert core.sha256_many((data, bytearray(data), memoryview(data), every_other)) == expected
    assert core.sha256_many([]) == b""


@pytest.mark.parametrize("wrong", [["text"], [3], [None], 5, [b"", 1.5]])
def test_wrong_types_are_refused(core: ModuleType, wrong: object) -> None:
    with pytest.raises(TypeError):
        core.sha256_many(wrong)


def test_levels(core: ModuleType) -> None:
    assert core.level() in core.levels()
    for name in core.levels():
        core.set_level(name)
        assert core.level() == name
    for wrong in ("abacus", "", "Portable", None, 0):
        with pytest.raises(ValueError, match="level must be one of"):
            core.set_level(wrong)


@given(messages=st.lists(st.binary(max_size=300), max_size=20))
def test_every_level_agrees_with_hashlib(messages: list[bytes]) -> None:
    core = pytest.importorskip("p2pledger._core")
    expected = b"".join(hashlib.sha256(message).digest() for message in messages)
    before = core.level()
    for name in core.levels():
        core.set_level(name)
        assert core.sha256_many(messages) == expected
    core.set_level(before)
