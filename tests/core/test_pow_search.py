"""The search of proof of work: every witness finds the same, first nonce, wherever the prefix ends in a block."""

import hashlib
import random
from types import ModuleType

import pytest

from p2pledger import _reference

EVERYTHING = 2**256 - 1


def work_of(prefix: bytes, nonce: int) -> int:
    """The work hash, written down a second time."""
    once = hashlib.sha256(prefix + nonce.to_bytes(8, "big")).digest()
    return int.from_bytes(hashlib.sha256(once).digest(), "big")


def test_the_genesis_block_of_bitcoin_meets_its_target(core: ModuleType) -> None:
    """Published work. Its nonce has four bytes: the eight here are the end of its 80-byte header, bits and nonce."""
    header = bytes.fromhex(
        "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f61"
        "7fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
    )
    nonce = int.from_bytes(header[72:], "big")
    # Bitcoin reads the hash from its other end: 000000000019d668 ... 26f.
    shown = int.from_bytes(bytes.fromhex("6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000"), "big")
    assert core.pow_search(header[:72], nonce, 1, shown) == nonce
    assert core.pow_search(header[:72], nonce, 1, shown - 1) is None


@pytest.mark.parametrize("size", [0, 1, 39, 47, 48, 55, 56, 63, 64, 65, 119, 120, 128, 263, 300])
def test_the_first_good_nonce_is_found_wherever_the_prefix_ends(core: ModuleType, size: int) -> None:
    prefix = bytes(range(256)) * 2
    prefix = prefix[:size]
    target = EVERYTHING >> 6
    good = [nonce for nonce in range(1_000, 1_300) if work_of(prefix, nonce) <= target]
    assert good, "a chance of one in a hundred"
    assert core.pow_search(prefix, 1_000, 300, target) == good[0]
    assert core.pow_search(prefix, good[0], 1, target) == good[0]
    assert core.pow_search(prefix, 1_000, good[0] - 1_000, target) is None


@pytest.mark.parametrize("count", [0, 1, 2, 3, 15, 16, 17, 33])
def test_nothing_beyond_the_count_is_looked_at(core: ModuleType, count: int) -> None:
    prefix = b"count"
    lowest = min(range(40), key=lambda nonce: work_of(prefix, nonce))
    expected = lowest if lowest < count else None
    assert core.pow_search(prefix, 0, count, work_of(prefix, lowest)) == expected


def test_the_ends_of_the_range_of_nonces(core: ModuleType) -> None:
    assert core.pow_search(b"x", 2**64 - 1, 1, EVERYTHING) == 2**64 - 1
    assert core.pow_search(b"x", 2**64 - 1, 0, EVERYTHING) is None
    assert core.pow_search(b"x", 0, 5, 0) is None
    last = 2**64 - 20
    good = [nonce for nonce in range(last, 2**64) if work_of(b"x", nonce) <= EVERYTHING >> 3]
    assert core.pow_search(b"x", last, 20, EVERYTHING >> 3) == (good[0] if good else None)


@pytest.mark.parametrize("seed", range(8))
def test_all_witnesses_agree(core: ModuleType, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(30):
        prefix = dice.randbytes(dice.randrange(300))
        start, count = dice.getrandbits(63), dice.randrange(100)
        target = (EVERYTHING >> dice.randrange(12)) - dice.randrange(1_000)
        assert core.pow_search(prefix, start, count, target) == _reference.pow_search(prefix, start, count, target)


@pytest.mark.parametrize("variant", [1, 2, 3])
def test_on_every_kind_of_processor(compiled: ModuleType, variant: int) -> None:
    prefix = bytes(271)
    if not compiled._force_hashing(variant):
        pytest.skip("this processor cannot play that one")
    try:
        found = compiled.pow_search(prefix, 7, 2_000, EVERYTHING >> 9)
    finally:
        compiled._force_hashing(0)
    assert found == _reference.pow_search(prefix, 7, 2_000, EVERYTHING >> 9)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("text", 0, 1, 0), TypeError),
        ((b"", "0", 1, 0), TypeError),
        ((b"", 0, None, 0), TypeError),
        ((b"", 0, 1, b"0"), TypeError),
        ((b"", -1, 1, 0), ValueError),
        ((b"", 2**64, 0, 0), ValueError),
        ((b"", 1, 2**64 - 1 + 1, 0), ValueError),
        ((b"", 2**64 - 1, 2, 0), ValueError),
        ((b"", 0, 1, -1), ValueError),
        ((b"", 0, 1, 2**256), ValueError),
    ],
)
def test_wrong_arguments_are_refused(core: ModuleType, arguments: tuple[object, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        core.pow_search(*arguments)
