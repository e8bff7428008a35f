"""SHA-256 of many messages, against hashlib and FIPS 180-4."""

import hashlib
import random
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger import _reference
from tests.core import builders as b

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


# How SHA-256 runs on CPUs of the level avx512 without the SHA extensions, with slow ones, and with fast ones.
VARIANTS = [1, 2, 3]
# Around the widths of kernels (2, 16), where they begin to pay, the chunks of calls (128, 256) and of trees (1024).
COUNTS = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    9,
    10,
    12,
    13,
    14,
    15,
    16,
    17,
    18,
    31,
    32,
    33,
    47,
    48,
    49,
    127,
    128,
    129,
    255,
    256,
    257,
    272,
    300,
]


@pytest.fixture(params=VARIANTS)
def variant(compiled: ModuleType, request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    if not compiled._force_hashing(request.param):
        pytest.skip("this processor cannot run it")
    yield compiled
    compiled._force_hashing(0)


def check_counts(core: ModuleType) -> None:
    rng = random.Random(1)
    messages = [rng.randbytes(rng.choice(EDGES[:-2])) for _ in range(COUNTS[-1])]
    expected = [hashlib.sha256(message).digest() for message in messages]
    for count in COUNTS:
        assert core.sha256_many(messages[:count]) == b"".join(expected[:count])
        alike = [messages[0]] * count
        assert core.sha256_many(alike) == expected[0] * count


def test_any_number_of_messages_of_any_sizes(core: ModuleType) -> None:
    check_counts(core)


def test_a_long_message_among_short_ones(core: ModuleType) -> None:
    """The lanes go on with short ones while one of them is at the long one, and finish it when all others are done."""
    rng = random.Random(2)
    for at in (0, 5, 39):
        messages = [rng.randbytes(rng.randrange(100)) for _ in range(40)]
        messages[at] = rng.randbytes(50_000)
        assert core.sha256_many(messages) == b"".join(hashlib.sha256(message).digest() for message in messages)


def check_sizes(core: ModuleType) -> None:
    """Every size up to some blocks: in sixteens of one size, in sixteens that share only the number of blocks, and with
    a tag before them, as leaves of a tree."""
    rng = random.Random(4)
    for size in range(261):
        alike = [rng.randbytes(size) for _ in range(17)]
        assert core.sha256_many(alike) == b"".join(hashlib.sha256(message).digest() for message in alike)
        assert core.merkle_root(alike) == _reference.merkle_root(alike)
    for blocks in range(1, 5):
        sizes = range(max(64 * blocks - 72, 0), 64 * blocks - 8)
        for _ in range(10):
            mixed = [rng.randbytes(rng.choice(sizes)) for _ in range(49)]
            assert core.sha256_many(mixed) == b"".join(hashlib.sha256(message).digest() for message in mixed)
            leaves = [message[1:] for message in mixed]
            assert core.merkle_root(leaves) == _reference.merkle_root(leaves)


def test_every_size_around_the_ends_of_blocks(core: ModuleType) -> None:
    check_sizes(core)


def test_every_size_at_every_variant(variant: ModuleType) -> None:
    check_sizes(variant)


def test_lists_that_are_not_of_bytes_alone(core: ModuleType) -> None:
    """Whatever the kind of the sequence and wherever the first item of another kind stands."""
    messages = [b"%d" % i * i for i in range(40)]
    expected = b"".join(hashlib.sha256(message).digest() for message in messages)
    root = core.merkle_root(messages)
    for sequence in (messages, tuple(messages), iter(messages), dict.fromkeys(messages)):
        assert core.sha256_many(sequence) == expected
    for at in (0, 20, 39):
        changed: list[object] = list(messages)
        changed[at] = bytearray(messages[at])
        assert core.sha256_many(changed) == expected
        assert core.merkle_root(tuple(changed)) == root
        changed[at] = "text"
        with pytest.raises(TypeError, match="messages"):
            core.sha256_many(changed)
        with pytest.raises(TypeError, match="leaves"):
            core.merkle_root(changed)


def test_references_are_given_back(compiled: ModuleType) -> None:
    message = bytes(bytearray(100))
    messages: list[object] = [message] * 20
    before = sys.getrefcount(message)
    compiled.sha256_many(messages)
    compiled.merkle_root(messages)
    for wrong in ([*messages, 5], (*messages, None)):
        with pytest.raises(TypeError):
            compiled.sha256_many(wrong)
    del wrong
    assert sys.getrefcount(message) == before


def test_every_variant_of_the_widest_level(variant: ModuleType) -> None:
    check_counts(variant)
    for count in (*COUNTS, 1023, 1024, 1025, 2048, 3000):
        leaves = [i.to_bytes(4, "big") * (i % 40) for i in range(count)]
        assert variant.merkle_root(leaves) == _reference.merkle_root(leaves)


def test_state_trees_at_every_variant(variant: ModuleType) -> None:
    rng = random.Random(3)
    rows = {rng.randbytes(8): rng.randbytes(rng.randrange(90)) for _ in range(700)}
    branch = variant.empty_state({9: 8}).branch()
    for key, value in rows.items():
        branch.put(9, key, value)
    assert branch.root() == b.naive_state_root({9: rows})
