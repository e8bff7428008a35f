"""Ed25519 in plain integers for the tests: signing, torsion, odd encodings, and cases with their verdicts."""

import hashlib
import random
from dataclasses import dataclass
from functools import cache

from nacl.signing import SigningKey

from p2pledger._reference import (
    _D,
    _IDENTITY,
    _L,
    _P,
    _add,
    _decompress,
    _double,
    _Point,
    _prepare,
    verify_zip215,
)


@dataclass(frozen=True, slots=True)
class Case:
    """One signature and what the oracle says of it."""

    key: bytes
    signature: bytes
    message: bytes
    valid: bool


def case(key: bytes, signature: bytes, message: bytes) -> Case:
    return Case(key, signature, message, verify_zip215(key, signature, message))


def columns(cases: list[Case]) -> tuple[bytes, bytes, list[bytes]]:
    """The arguments of verify_batch."""
    return b"".join(c.key for c in cases), b"".join(c.signature for c in cases), [c.message for c in cases]


def flags(cases: list[Case]) -> bytes:
    return bytes(c.valid for c in cases)


def signed(seed: bytes, message: bytes) -> tuple[bytes, bytes]:
    """(public key, signature) by libsodium."""
    secret = SigningKey(seed)
    return bytes(secret.verify_key), secret.sign(message).signature


def compress(point: _Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def times(scalar: int, point: _Point) -> _Point:
    running = _IDENTITY
    for bit in reversed(range(256)):
        running = _double(running)
        if scalar >> bit & 1:
            running = _add(running, _prepare(point))
    return running


def base() -> _Point:
    point = _decompress((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
    assert point is not None
    return point


def _square_root(number: int) -> int | None:
    root = pow(number, (_P + 3) // 8, _P)
    for candidate in (root, root * pow(2, (_P - 1) // 4, _P) % _P):
        if candidate * candidate % _P == number % _P:
            return candidate
    return None


@cache
def small_order_encodings() -> list[bytes]:
    """The 14 ways in which 32 bytes can stand for a point of order 1, 2, 4 or 8, from the curve's equation.

    x = 0 gives y = 1 and y = -1 (orders 1 and 2), y = 0 gives order 4. The points of order 8 are those whose doubling
    has y = 0: x^2 = -y^2, so that d y^4 + 2 y^2 - 1 = 0. Below 19, y + p fits in 255 bits too; each has two signs.
    """
    root = _square_root(1 + _D)
    assert root is not None
    ordinates = {1, _P - 1, 0}
    for sign_of_root in (1, -1):
        y = _square_root((-1 + sign_of_root * root) * pow(_D, -1, _P) % _P)
        if y is not None:
            ordinates |= {y, _P - y}
    encodings = {y | sign << 255 for y in ordinates for sign in (0, 1)}
    encodings |= {y + _P | sign << 255 for y in ordinates if y < 19 for sign in (0, 1)}
    return [encoding.to_bytes(32, "little") for encoding in sorted(encodings)]


def torsion_case(rng: random.Random, message: bytes, error: int = 0) -> Case:
    """A key and a nonce with a part of small order; S is off by `error`."""
    a, r = rng.randrange(_L), rng.randrange(_L)
    points = []
    for scalar in (a, r):
        torsion = _decompress(rng.choice(small_order_encodings()))
        assert torsion is not None
        points.append(compress(_add(times(scalar, base()), _prepare(torsion))))
    key, nonce = points
    k = int.from_bytes(hashlib.sha512(nonce + key + message).digest(), "little")
    return case(key, nonce + ((r + k * a + error) % _L).to_bytes(32, "little"), message)


@cache
def pool() -> tuple[Case, ...]:
    """Signatures of every kind: honest, bent, of small and of mixed order, not canonical, S out of range."""
    rng = random.Random(215)
    cases = []
    for i in range(48):
        message = rng.randbytes(rng.choice((0, 1, 47, 48, 63, 64, 65, 111, 112, 175, 176, 200, 300)))
        cases.append(case(*signed(bytes([i % 29]) * 32, message), message))
    for original in cases[:24]:
        bent = bytearray(original.key + original.signature + original.message + b"\0")
        bit = rng.randrange(8 * 97)
        bent[bit // 8 if bit // 8 < len(bent) else 0] ^= 1 << bit % 8
        cases.append(case(bytes(bent[:32]), bytes(bent[32:96]), bytes(bent[96:-1])))
    small = small_order_encodings()
    for encoding in small:
        cases.append(case(encoding, rng.choice(small) + bytes(32), b"any message"))
        cases.append(case(encoding, cases[0].signature, cases[0].message))
        cases.append(case(cases[0].key, encoding + cases[0].signature[32:], cases[0].message))
        cases.append(case(encoding, encoding + rng.randrange(1, _L).to_bytes(32, "little"), b""))
    for i in range(8):
        cases.append(torsion_case(rng, b"torsion", error=i % 2))
    for s in (0, 1, _L - 1, _L, _L + 1, 2**252, 2**253 - 1, 2**255, 2**256 - 1):
        cases.append(case(small[0], small[1] + s.to_bytes(32, "little"), b""))
        cases.append(case(cases[1].key, cases[1].signature[:32] + s.to_bytes(32, "little"), cases[1].message))
    # With a key of order 1, R = [S]B for any S is valid.
    one = (1).to_bytes(32, "little")
    for s in (1, 2, _L - 1, 2**252, 0x8888 << 200, rng.randrange(_L)):
        cases.append(case(one, compress(times(s, base())) + s.to_bytes(32, "little"), b"of order one"))
    for y in (0, 1, 2, 3, 18, _P - 1, _P, _P + 1, _P + 18, 2**255 - 1):
        for sign_bit in (0, 1):
            encoding = (y | sign_bit << 255).to_bytes(32, "little")
            cases.append(case(encoding, encoding + bytes(32), b""))
            cases.append(case(cases[2].key, encoding + cases[2].signature[32:], cases[2].message))
    cases.append(case(bytes(32), bytes(64), b""))
    cases.append(case(b"\xff" * 32, b"\xff" * 64, b""))
    for _ in range(12):
        cases.append(case(rng.randbytes(32), rng.randbytes(63) + b"\0", rng.randbytes(8)))
    return tuple(cases)


def the_base_multiple(number: int) -> tuple[int, int]:
    """(x, y) of `number` times the base point."""
    point = times(number, base())
    inverse = pow(point[2], -1, _P)
    return point[0] * inverse % _P, point[1] * inverse % _P
