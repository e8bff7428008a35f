"""Batches of signatures: every level says what the plain-integer oracle says, whatever stands beside what."""

import hashlib
import json
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from p2pledger._reference import _D, _L, _P, verify_zip215
from tests.core import curve
from tests.core.conftest import MISSING, compiled_core

LEVELS = [] if compiled_core is None else compiled_core.levels()

# Around lanes, pairs of vectors, the sizes at which batches are halved, and those at which the windows change.
SIZES = [*range(20), 23, 24, 25, 31, 32, 33, 34, 47, 48, 49, 63, 64, 65, 95, 127, 128, 129, 255, 257, 400]

SOURCE = Path(__file__).resolve().parent.parent.parent / "p2pledger" / "native"


@pytest.fixture(params=LEVELS)
def native(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The compiled core at one CPU level."""
    if compiled_core is None:
        pytest.skip(MISSING)
    before = compiled_core.level()
    compiled_core.set_level(request.param)
    yield compiled_core
    compiled_core.set_level(before)


def check(native: ModuleType, cases: list[curve.Case]) -> None:
    got, expected = native.verify_batch(*curve.columns(cases)), curve.flags(cases)
    wrong = [(i, cases[i]) for i in range(len(cases)) if got[i] != expected[i]]
    assert not wrong
    assert len(got) == len(expected)


def test_the_pool_has_both_verdicts() -> None:
    valid = sum(case.valid for case in curve.pool())
    assert 60 < valid < len(curve.pool()) - 60


@pytest.mark.parametrize("size", SIZES)
def test_any_mixture_of_any_size(native: ModuleType, size: int) -> None:
    rng = random.Random(size)
    for _ in range(3 if size < 66 else 1):
        check(native, rng.choices(curve.pool(), k=size))


@pytest.mark.parametrize("size", SIZES)
def test_valid_batches_and_one_bad_signature_in_them(native: ModuleType, size: int) -> None:
    rng = random.Random(size)
    good = [case for case in curve.pool() if case.valid]
    bad = [case for case in curve.pool() if not case.valid]
    batch = rng.choices(good, k=size)
    check(native, batch)
    for place in sorted({0, size // 3, size // 2, size - 1} & set(range(size))):
        check(native, [*batch[:place], rng.choice(bad), *batch[place + 1 :]])


def test_every_case_alone_and_eight_times(native: ModuleType) -> None:
    for case in curve.pool():
        check(native, [case])
        check(native, [case] * 8)


@pytest.mark.parametrize("size", [2, 8, 9, 16, 17, 33, 64, 100])
def test_equal_signatures_fill_one_bucket(native: ModuleType, size: int) -> None:
    for case in curve.pool()[::7]:
        check(native, [case] * size)


def test_all_pairs_of_small_order(native: ModuleType) -> None:
    small = curve.small_order_encodings()
    keys = b"".join(a for a in small for _ in small)
    signatures = b"".join(r + bytes(32) for _ in small for r in small)
    assert native.verify_batch(keys, signatures, [b"Zcash"] * 196) == b"\1" * 196
    for i in range(0, 196, 13):
        assert native.verify_batch(keys[32 * i :][:32], signatures[64 * i :][:64], [b"Zcash"]) == b"\1"
    wrong = b"".join(r + (1).to_bytes(32, "little") for _ in small for r in small)
    assert native.verify_batch(keys, wrong, [b"Zcash"] * 196) == bytes(196)


def test_errors_that_cancel_in_a_plain_sum_are_found(native: ModuleType) -> None:
    """S of one is too large by what S of the other is too small: without coefficients the sum would hold."""
    for count in (2, 16, 40, 100):
        cases = [curve.case(*curve.signed(bytes([i]) * 32, b"m"), b"m") for i in range(count)]
        for first, second in ((0, 1), (0, count - 1), (count // 2, count // 2 - 1)):
            bent = list(cases)
            for i, error in ((first, 5), (second, -5)):
                s = (int.from_bytes(cases[i].signature[32:], "little") + error) % _L
                bent[i] = curve.case(cases[i].key, cases[i].signature[:32] + s.to_bytes(32, "little"), b"m")
                assert not bent[i].valid
            check(native, bent)


def test_torsion_that_only_the_cofactored_equation_forgives(native: ModuleType) -> None:
    rng = random.Random(8)
    cases = [curve.torsion_case(rng, b"%d" % i, error=i == 7) for i in range(20)]
    assert curve.flags(cases) == bytes(i != 7 for i in range(20))
    check(native, cases)
    check(native, cases * 4)
    for case in cases:
        check(native, [case])


def test_halves_and_alternations_of_bad_signatures(native: ModuleType) -> None:
    good = next(case for case in curve.pool() if case.valid)
    others = [case for case in curve.pool() if not case.valid]
    for size in (64, 300):
        bad = (others * 4)[:size]
        for pattern in (
            [i % 2 == 0 for i in range(size)],
            [i < size // 2 for i in range(size)],
            [i >= size // 2 for i in range(size)],
            [i % 33 == 0 for i in range(size)],
            [True] * size,
        ):
            check(native, [bad[i] if pattern[i] else good for i in range(size)])


def test_a_large_batch_with_distinct_keys(native: ModuleType) -> None:
    """Larger windows than in the small batches; more than one slice; every level on the same batch."""
    count = 1500
    cases = []
    for i in range(count):
        key, signature = curve.signed(i.to_bytes(32, "big"), b"%d" % i)
        cases.append(curve.Case(key, signature, b"%d" % i, True))
    check(native, cases)
    for i in (77, 1200):
        cases[i] = curve.case(cases[i].key, cases[i].signature, b"another message")
    check(native, cases)
    many = cases * 12
    assert native.verify_batch(*curve.columns(many)) == curve.flags(many)


def test_mutations_of_a_batch(native: ModuleType) -> None:
    rng = random.Random(3)
    honest = [case for case in curve.pool()[:48] if case.valid]
    for _ in range(25):
        batch = rng.choices(honest, k=rng.choice((3, 9, 33)))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(batch))
            whole = bytearray(batch[at].key + batch[at].signature)
            whole[rng.randrange(96)] = rng.randrange(256)
            batch[at] = curve.case(bytes(whole[:32]), bytes(whole[32:]), batch[at].message)
        check(native, batch)


def test_published_vectors_at_every_level(native: ModuleType, shared_data: Path) -> None:
    """RFC 8032 and C2SP/wycheproof, of which ZIP 215 differs in case 151 alone; each alone, and all in one batch."""
    cases = []
    for line in (shared_data / "vectors" / "rfc_sign.input.txt").read_text().splitlines():
        _, key, message, signed = (bytes.fromhex(field) for field in line.split(":")[:4])
        cases.append(curve.Case(key, signed[:64], message, True))
    suite = json.loads((shared_data / "vectors" / "wycheproof_ed25519_test.json").read_text())
    for group in suite["testGroups"]:
        key = bytes.fromhex(group.get("publicKey", group.get("key"))["pk"])
        for test in group["tests"]:
            signature = bytes.fromhex(test["sig"])
            if len(signature) == 64:
                expected = test["result"] == "valid" or test["tcId"] == 151
                cases.append(curve.Case(key, signature, bytes.fromhex(test["msg"]), expected))
    check(native, cases)
    for case in cases:
        check(native, [case])


def test_running_out_of_memory_is_said(native: ModuleType) -> None:
    batch = curve.columns(list(curve.pool()[:20]))
    allowed = 0
    while True:
        native._fail_allocations_after(allowed)
        try:
            native.verify_batch(*batch)
        except MemoryError:
            allowed += 1
            continue
        finally:
            native._fail_allocations_after(-1)
        break
    assert allowed == 2
    native._fail_allocations_after(0)
    try:
        with pytest.raises(MemoryError):
            native.sha512_many([b"message"])
    finally:
        native._fail_allocations_after(-1)


def test_threads_verify_side_by_side(native: ModuleType) -> None:
    """Nothing is shared between calls; the interpreter's lock is not held."""
    rng = random.Random(2)
    batches = [rng.choices(curve.pool(), k=60) for _ in range(16)]
    with ThreadPoolExecutor(4) as threads:
        got = list(threads.map(lambda cases: native.verify_batch(*curve.columns(cases)), batches))
    assert got == [curve.flags(cases) for cases in batches]


# Arithmetic against Python's integers -----------------------------------------------------------------------------


def radix(native: ModuleType) -> str:
    return "26, 25" if native.level() == "avx2" else "51"


def value(native: ModuleType, words: list[int]) -> int:
    """The number for which five words stand at this level, modulo p."""
    if radix(native) == "51":
        return sum(word << 51 * i for i, word in enumerate(words)) % _P
    return sum(((word & 0xFFFFFFFF) + (word >> 32 << 26)) << 51 * i for i, word in enumerate(words)) % _P


# The largest limbs that a level accepts, for even and odd limbs (which only differ where limbs have 26 and 25 bits):
# as factors; as terms; and for z in 2 z +- a b. The sources say why.
LIMITS = {
    "portable": {"factor": 2**54 - 1, "term": 2**54 - 153, "doubled": 2**51 + 2**15 - 1},
    "avx2": {"factor": 2**27 - 1 | (2**26 - 1) << 32},
    "avx512": {"factor": 2**52 - 1},
}


def extremes(native: ModuleType, kind: str) -> list[list[int]]:
    """Elements whose limbs stand at the ends of what they may be, and in between."""
    rng = random.Random(51)
    limits = LIMITS[native.level()]
    limit = limits.get(kind, limits["factor"])
    full = 2**51 - 1 if radix(native) == "51" else 2**26 - 1 | (2**25 - 1) << 32
    choices = [0, 1, 18, 19, full - 19, full - 18, full, full + 1, limit]
    if radix(native) != "51":
        choices += [low | high << 32 for low in (0, 2**26 - 1, 2**26, 2**27 - 1) for high in (0, 1, 2**25, 2**26 - 1)]
    fixed = [[limit] * 5, [0] * 5, [full] * 5, [full - 18, *[full] * 4], [full - 19, *[full] * 4]]
    fixed += [[limit if i == j else 0 for i in range(5)] for j in range(5)]
    return fixed + [[rng.choice(choices) for _ in range(5)] for _ in range(30)]


OPERATIONS = {
    "multiply": (0, "factor", lambda a, b, c, d: (a * b, None)),
    "square": (1, "factor", lambda a, b, c, d: (a * a, None)),
    "add": (2, "term", lambda a, b, c, d: (a + b, None)),
    "subtract": (3, "term", lambda a, b, c, d: (a - b, None)),
    "multiply_both": (4, "factor", lambda a, b, c, d: (a * b + c * d, a * b - c * d)),
    "square_both": (5, "factor", lambda a, b, c, d: (a * a + b * b, a * a - b * b)),
    "around_twice": (6, "doubled", lambda a, b, c, d: (2 * a + b * c, 2 * a - b * c)),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_field_operations_at_the_extremes(native: ModuleType, operation: str) -> None:
    number, kind, expected = OPERATIONS[operation]
    rng = random.Random(number)
    elements = extremes(native, kind)
    quadruples = [(x, y, z, w) for x in elements[:10] for y in elements[:10] for z, w in ((x, y), (y, x))]
    quadruples += [tuple(rng.choices(elements, k=4)) for _ in range(300)]
    for operands in quadruples:
        a, b, c, d = (value(native, words) for words in operands)
        first, second = expected(a, b, c, d)
        for words in native._field(number, [word for operand in operands for word in operand]):
            assert value(native, words[:5]) == first % _P
            assert second is None or value(native, words[5:]) == second % _P


def test_negation_depends_on_the_lane(native: ModuleType) -> None:
    elements = extremes(native, "term")
    for a in elements:
        for lane, words in enumerate(native._field(7, [*a, *elements[1], *[0] * 10])):
            sum_of_both = value(native, a) + value(native, elements[1])
            assert value(native, words[:5]) == (sum_of_both if lane % 2 else -sum_of_both) % _P


def test_zero_and_parity_are_of_the_canonical_value(native: ModuleType) -> None:
    elements = extremes(native, "term")
    zero = [0] * 5
    for a in elements[:14]:
        for b in (zero, *elements):
            difference = (value(native, a) - value(native, b)) % _P
            for words in native._field(8, [*a, *b, *zero, *zero]):
                assert value(native, words[:5]) == (2 if difference == 0 else 1)
                assert value(native, words[5:]) == (2 if difference % 2 else 1)


def words_of(number: int, count: int) -> list[int]:
    return [number >> 64 * i & 2**64 - 1 for i in range(count)]


def number_of(words: list[int]) -> int:
    return sum(word << 64 * i for i, word in enumerate(words))


def test_scalars_against_integers(compiled: ModuleType) -> None:
    rng = random.Random(64)
    numbers = [0, 1, _L - 1, _L, _L + 1, 2 * _L - 1, 2 * _L, 3 * _L, 2**252, 2**253, 2**256 - 1, 2**512 - 1, 2**511]
    numbers += [_L * (2**512 // _L) + error for error in (-2, -1, 0, 1)]
    numbers += [_L * rng.getrandbits(bits) + error for bits in (4, 64, 128, 192, 258) for error in (0, 1, _L - 1)]
    numbers += [rng.getrandbits(bits) for bits in (64, 128, 252, 253, 256, 381, 511, 512) for _ in range(20)]
    numbers += [number_of(rng.choices([0, 1, 2**63, 2**64 - 1], k=8)) for _ in range(200)]
    for number in numbers:
        assert number_of(compiled._scalar_reduce(words_of(number, 8))) == number % _L
        z = rng.choice((0, 1, 2**128 - 1, 2**64 - 1, 2**64, rng.getrandbits(128)))
        scalar = rng.choice((0, 1, _L - 1, 2**252, 2**256 - 1, rng.randrange(_L)))
        got = compiled._scalar_accumulate(words_of(number, 8), words_of(z, 2), words_of(scalar, 4))
        assert number_of(got) == (number + z * scalar) % 2**512


def test_the_table_of_the_base_point() -> None:
    source = (SOURCE / "ed25519_base.c").read_text().split("= {", 1)[1]
    limbs = [int(number, 16) for number in re.findall(r"0x[0-9a-f]+", source)]
    assert len(limbs) == 8 * 15
    for i in range(8):
        x, y = curve.the_base_multiple(i + 1)
        values = [sum(limbs[15 * i + 5 * j + k] << 51 * k for k in range(5)) for j in range(3)]
        assert values == [(y + x) % _P, (y - x) % _P, 2 * _D * x * y % _P]


# SHA-512 ----------------------------------------------------------------------------------------------------------


def test_sha512_of_many(core: ModuleType) -> None:
    rng = random.Random(512)
    edges = [*range(18), 63, 64, 110, 111, 112, 113, 127, 128, 129, 239, 240, 241, 255, 256, 1000, 4096, 40000]
    messages = [rng.randbytes(size) for size in edges]
    for some in (messages, messages[::-1], rng.sample(messages, len(messages)), messages[:1], messages * 3, []):
        assert core.sha512_many(some) == b"".join(hashlib.sha512(message).digest() for message in some)
    assert core.sha512_many([b"abc"]).hex().startswith("ddaf35a193617abacc417349ae20413112e6fa4e89a97ea2")
    assert core.sha512_many((bytearray(b"abc"), memoryview(b"abc"))) == 2 * hashlib.sha512(b"abc").digest()
    for wrong in (["text"], [3], 5):
        with pytest.raises(TypeError):
            core.sha512_many(wrong)


def test_the_oracle_agrees_with_its_own_cases() -> None:
    assert all(verify_zip215(c.key, c.signature, c.message) is c.valid for c in curve.pool()[::9])
