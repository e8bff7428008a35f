"""Keys: RFC 8032's own example, and that nothing secret is shown."""

import pytest

from p2pledger.primitives.keys import Keypair, verify

# RFC 8032, section 7.1, test 2.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_the_example_of_the_standard() -> None:
    keypair = Keypair.from_seed(SEED)
    assert keypair.public_key == PUBLIC
    assert keypair.seed == SEED
    assert keypair.sign(b"\x72") == SIGNATURE
    assert verify(PUBLIC, SIGNATURE, b"\x72")
    assert not verify(PUBLIC, SIGNATURE, b"\x73")


def test_every_bit_of_a_signature_counts() -> None:
    for bit in range(0, 512, 7):
        spoiled = bytearray(SIGNATURE)
        spoiled[bit // 8] ^= 1 << bit % 8
        assert not verify(PUBLIC, bytes(spoiled), b"\x72")


def test_the_secret_is_not_shown_and_equality_asks_for_the_public_key() -> None:
    keypair = Keypair.from_seed(SEED)
    assert SEED.hex() not in repr(keypair)
    assert repr(SEED) not in repr(keypair)
    assert keypair == Keypair.from_seed(SEED) != Keypair.from_seed(bytes(32))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_seeds_have_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keypair.from_seed(bytes(length))
