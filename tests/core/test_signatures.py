"""Ed25519 under ZIP 215, signature by signature: the plain-integer check, the core, and the way over libsodium."""

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from p2pledger import _reference, core
from p2pledger._reference import _D, _IDENTITY, _L, _P, _add, _base_multiples, _decompress, _double, _prepare

Verify = Callable[[bytes, bytes, Sequence[bytes]], bytes]


@pytest.fixture(params=["reference", "product", "by libsodium"])
def verify_batch(request: pytest.FixtureRequest) -> Verify:
    """The oracle, what the package runs here, and what it runs where nothing is compiled."""
    ways: dict[str, Verify] = {
        "reference": _reference.verify_batch,
        "product": core.verify_batch,
        "by libsodium": core._verify_batch_by_libsodium,
    }
    return ways[request.param]


def verify(verify_batch: Verify, key: bytes, signature: bytes, message: bytes) -> bool:
    return verify_batch(key, signature, [message]) == b"\1"


def libsodium_accepts(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        crypto_sign_open(signature + message, key)
    except BadSignatureError:
        return False
    return True


def sign(seed: bytes, message: bytes) -> tuple[bytes, bytes]:
    """(public key, signature) by libsodium."""
    secret = SigningKey(seed)
    return bytes(secret.verify_key), secret.sign(message).signature


def test_a_batch_has_one_flag_for_each(verify_batch: Verify) -> None:
    messages = [b"message %d" % i for i in range(12)]
    pairs = [sign(bytes([i]) * 32, message) for i, message in enumerate(messages)]
    keys, signatures = (b"".join(column) for column in zip(*pairs, strict=True))
    assert verify_batch(keys, signatures, messages) == b"\1" * 12
    swapped = [messages[1], messages[0], *messages[2:]]
    assert verify_batch(keys, signatures, swapped) == b"\0\0" + b"\1" * 10
    assert verify_batch(bytearray(keys), memoryview(signatures), tuple(messages)) == b"\1" * 12
    assert verify_batch(b"", b"", []) == b""


def test_every_bit_counts(verify_batch: Verify) -> None:
    key, signature = sign(bytes(32), b"message")
    for bit in range(0, 512, 7):
        bent = bytearray(signature)
        bent[bit // 8] ^= 1 << bit % 8
        assert not verify(verify_batch, key, bytes(bent), b"message")
    for bit in range(0, 256, 11):
        bent = bytearray(key)
        bent[bit // 8] ^= 1 << bit % 8
        assert not verify(verify_batch, bytes(bent), signature, b"message")


def test_s_must_be_below_the_order(verify_batch: Verify) -> None:
    for i in range(8):
        key, signature = sign(bytes([i]) * 32, b"message")
        s = int.from_bytes(signature[32:], "little")
        for multiple in (1, 2, 7):
            if s + multiple * _L < 2**256:
                malleable = signature[:32] + (s + multiple * _L).to_bytes(32, "little")
                assert not verify(verify_batch, key, malleable, b"message")
    small = SMALL_ORDER[0]
    assert verify(verify_batch, small, small + bytes(32), b"")
    assert not verify(verify_batch, small, small + _L.to_bytes(32, "little"), b"")
    assert not verify(verify_batch, small, small + b"\xff" * 32, b"")


# The points of order 1, 2, 4 and 8, in all the 14 ways in which 32 bytes can stand for them under ZIP 215: from the
# curve equation, not from a list. The doubling of (x, y) has y = 0 exactly if x^2 = y^2 up to sign; points of order 8
# are those whose doubling has order 4, so -x^2 + y^2 = 1 + d x^2 y^2 with x^2 = -y^2: d y^4 + 2 y^2 - 1 = 0.


def square_root(number: int) -> int | None:
    root = pow(number, (_P + 3) // 8, _P)
    for candidate in (root, root * pow(2, (_P - 1) // 4, _P) % _P):
        if candidate * candidate % _P == number % _P:
            return candidate
    return None


def small_order_encodings() -> list[bytes]:
    root = square_root(1 + _D)
    assert root is not None
    ordinates = {1, _P - 1, 0}
    for sign_of_root in (1, -1):
        y = square_root((-1 + sign_of_root * root) * pow(_D, -1, _P) % _P)
        if y is not None:
            ordinates |= {y, _P - y}
    encodings = {y | sign << 255 for y in ordinates for sign in (0, 1)}
    # y + p still fits in 255 bits for y < 19.
    encodings |= {y + _P | sign << 255 for y in ordinates if y < 19 for sign in (0, 1)}
    return [encoding.to_bytes(32, "little") for encoding in sorted(encodings)]


SMALL_ORDER = small_order_encodings()


def test_there_are_14_encodings_of_small_order_points() -> None:
    assert len(SMALL_ORDER) == 14
    for encoding in SMALL_ORDER:
        point = _decompress(encoding)
        assert point is not None
        x, y, z, _ = _double(_double(_double(point)))
        assert (x, y) == (0, z)


def test_small_order_points_are_accepted(verify_batch: Verify) -> None:
    """The 196 cases of the ZIP 215 test set: S = 0 with every small-order A and R satisfies the cofactored equation."""
    pairs = [(a, r) for a in SMALL_ORDER for r in SMALL_ORDER]
    keys = b"".join(a for a, _ in pairs)
    signatures = b"".join(r + bytes(32) for _, r in pairs)
    assert verify_batch(keys, signatures, [b"Zcash"] * 196) == b"\1" * 196
    # libsodium's refusal of them implies nothing.
    assert not any(libsodium_accepts(a, r + bytes(32), b"Zcash") for a, r in pairs)


def test_a_small_order_key_signs_nothing_else(verify_batch: Verify) -> None:
    key, signature = sign(bytes(32), b"message")
    for small in SMALL_ORDER:
        assert not verify(verify_batch, small, signature, b"message")
        assert not verify(verify_batch, key, small + signature[32:], b"message")


def compress(point: tuple[int, int, int, int]) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def times_base(scalar: int) -> tuple[int, int, int, int]:
    running, base = _IDENTITY, _base_multiples()[0]
    for bit in reversed(range(256)):
        running = _double(running)
        if scalar >> bit & 1:
            running = _add(running, base)
    return running


def test_the_equation_is_cofactored(verify_batch: Verify) -> None:
    """Keys and nonces with a part of small order: [S]B = R + [k]A holds only after multiplying by eight."""
    rng = random.Random(7)
    refused_by_libsodium = 0
    for _ in range(12):
        a, r = rng.randrange(_L), rng.randrange(_L)
        torsion = [_decompress(rng.choice(SMALL_ORDER)) for _ in range(2)]
        assert torsion[0] is not None
        assert torsion[1] is not None
        key = compress(_add(times_base(a), _prepare(torsion[0])))
        nonce = compress(_add(times_base(r), _prepare(torsion[1])))
        k = int.from_bytes(hashlib.sha512(nonce + key + b"m").digest(), "little")
        signature = nonce + ((r + k * a) % _L).to_bytes(32, "little")
        assert verify(verify_batch, key, signature, b"m")
        assert not verify(verify_batch, key, signature, b"n")
        refused_by_libsodium += not libsodium_accepts(key, signature, b"m")
    assert refused_by_libsodium > 3


def test_encodings_of_ordinates_above_the_modulus() -> None:
    for y in range(19):
        for sign_bit in (0, 1):
            low = (y | sign_bit << 255).to_bytes(32, "little")
            high = (y + _P | sign_bit << 255).to_bytes(32, "little")
            assert _decompress(low) == _decompress(high)
    assert _decompress(b"\xff" * 32) == _decompress((18 | 1 << 255).to_bytes(32, "little"))


def test_points_are_on_the_curve_or_refused() -> None:
    rng = random.Random(4)
    refused = 0
    for _ in range(60):
        encoded = rng.randbytes(32)
        point = _decompress(encoded)
        if point is None:
            refused += 1
            key, signature = sign(bytes(32), b"m")
            assert not _reference.verify_zip215(encoded, signature, b"m")
            assert not _reference.verify_zip215(key, encoded + signature[32:], b"m")
            continue
        x, y, z, t = point
        assert z == 1
        assert t == x * y % _P
        assert (y * y - x * x - 1 - _D * x * x * y * y) % _P == 0
        assert x & 1 == encoded[31] >> 7
    assert 10 < refused < 50


def test_what_libsodium_accepts_is_valid() -> None:
    """The implication on which the shortcut rests, on random signatures and messages of many sizes."""
    rng = random.Random(9)
    for size in (0, 1, 31, 32, 63, 64, 111, 112, 127, 128, 1000):
        message = rng.randbytes(size)
        key, signature = sign(rng.randbytes(32), message)
        assert libsodium_accepts(key, signature, message)
        assert _reference.verify_zip215(key, signature, message)


def test_rfc_8032_known_answers(shared_data: Path) -> None:
    lines = (shared_data / "vectors" / "rfc_sign.input.txt").read_text().splitlines()
    keys, signatures, messages = [], [], []
    for line in lines:
        _, key, message, signed = (bytes.fromhex(field) for field in line.split(":")[:4])
        keys.append(key)
        signatures.append(signed[:64])
        messages.append(message)
    assert len(lines) >= 128
    assert core.verify_batch(b"".join(keys), b"".join(signatures), messages) == b"\1" * len(lines)
    for i in range(len(lines)):
        assert _reference.verify_zip215(keys[i], signatures[i], messages[i])
        assert not _reference.verify_zip215(keys[i], signatures[i], messages[i] + b"\0")


def test_wycheproof(verify_batch: Verify, shared_data: Path) -> None:
    """C2SP/wycheproof. Case 151 is marked invalid and is the one that ZIP 215 accepts."""
    suite = json.loads((shared_data / "vectors" / "wycheproof_ed25519_test.json").read_text())
    cases = 0
    for group in suite["testGroups"]:
        key = bytes.fromhex(group.get("publicKey", group.get("key"))["pk"])
        for case in group["tests"]:
            signature = bytes.fromhex(case["sig"])
            cases += 1
            if len(signature) != 64:
                assert case["result"] == "invalid"
                with pytest.raises(ValueError, match="signatures"):
                    verify(verify_batch, key, signature, bytes.fromhex(case["msg"]))
                continue
            expected = case["result"] == "valid" or case["tcId"] == 151
            assert verify(verify_batch, key, signature, bytes.fromhex(case["msg"])) is expected, case["tcId"]
    assert cases >= 150


def test_wrong_arguments_are_named(verify_batch: Verify) -> None:
    key, signature = sign(bytes(32), b"m")
    for arguments, kind, name in (
        ((key + b"x", signature, [b"m"]), ValueError, "public_keys"),
        ((key, signature[:-1], [b"m"]), ValueError, "signatures"),
        ((key, signature, []), ValueError, "public_keys"),
        ((key, signature, ["m"]), TypeError, "messages"),
        (("key", signature, [b"m"]), TypeError, "public_keys"),
        ((key, 64, [b"m"]), TypeError, "signatures"),
    ):
        with pytest.raises(kind, match=name):
            verify_batch(*arguments)  # type: ignore[arg-type]
    for arguments_of_one in ((key[:-1], signature, b"m"), (key, signature + b"x", b"m")):
        with pytest.raises(ValueError, match=r"public_key|signature"):
            core.verify_zip215(*arguments_of_one)
