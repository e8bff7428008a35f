"""A batch from its bytes to a verdict on every signature, in one call."""

from hashlib import sha256
from types import ModuleType

import pytest
from nacl.signing import SigningKey

from p2pledger._reference import MalformedBytes, Verdict
from tests.core import builders as b

MAKER = SigningKey(sha256(b"maker").digest())
SIGNERS = [SigningKey(sha256(b"signer %d" % i).digest()) for i in range(3)]


def transaction(salt: int, signers: int, wrong: int = -1) -> list[object]:
    """Signed by the first of the signers; the signature number `wrong` is over something else."""
    content = b.body([[1, b.account("a"), b.account("b"), b.asset("XAU"), 1]], b.account("a"), salt=salt)
    pairs = sorted((bytes(secret.verify_key), secret) for secret in SIGNERS[:signers])
    signed = b"p2pl.ts1" + b.transaction_id(content)
    return [
        content,
        [[key, secret.sign(b"other" if i == wrong else signed).signature] for i, (key, secret) in enumerate(pairs)],
    ]


def batch(transactions: list[list[object]], signed_by: SigningKey = MAKER) -> bytes:
    unsigned = b.batch(transactions, maker=bytes(MAKER.verify_key))[1:-66]
    digest = sha256(b"p2pl.ba1" + unsigned).digest()
    return b"\x92" + unsigned + b"\xc4\x40" + signed_by.sign(b"p2pl.bs1" + digest).signature


def test_a_valid_batch(core: ModuleType) -> None:
    columns, verdict = core.validate(batch([transaction(i, 1 + i) for i in range(3)]), b.NETWORK, b.LIMITS)
    assert columns.count == 3
    assert columns.signature_count == 6
    assert verdict == Verdict(True, b"\1" * 3, b"\1" * 6)
    assert verdict.valid
    assert core.verify_columns(columns) == verdict
    assert columns.transactions_root() == core.merkle_root([columns.transaction(i) for i in range(3)])


def test_bad_signatures_are_flags(core: ModuleType) -> None:
    data = batch([transaction(0, 1), transaction(1, 3, wrong=1), transaction(2, 2, wrong=1), transaction(3, 2)])
    _, verdict = core.validate(data, b.NETWORK, b.LIMITS)
    assert verdict == Verdict(True, b"\1\0\0\1", b"\1" + b"\1\0\1" + b"\1\0" + b"\1\1")
    assert not verdict.valid


def test_the_maker_must_have_signed(core: ModuleType) -> None:
    _, verdict = core.validate(batch([transaction(0, 1)], signed_by=SIGNERS[0]), b.NETWORK, b.LIMITS)
    assert verdict == Verdict(False, b"\1", b"\1")
    assert not verdict.valid


def test_single_transactions_have_no_maker(core: ModuleType) -> None:
    items = [b.pack(transaction(0, 2)), b"malformed", b.pack(transaction(1, 2, wrong=0))]
    columns, refused = core.scan_transactions(items, b.NETWORK, b.LIMITS)
    assert [index for index, _ in refused] == [1]
    assert core.verify_columns(columns) == Verdict(True, b"\1\0", b"\1\1\0\1")
    nothing, _ = core.scan_transactions([], b.NETWORK, b.LIMITS)
    assert core.verify_columns(nothing) == Verdict(True, b"", b"")
    assert nothing.transactions_root() == sha256(b"").digest()


def test_malformed_bytes_and_wrong_arguments(core: ModuleType) -> None:
    with pytest.raises(MalformedBytes):
        core.validate(b"\x92", b.NETWORK, b.LIMITS)
    with pytest.raises(ValueError, match="network_id"):
        core.validate(b"", b"short", b.LIMITS)
    with pytest.raises(TypeError, match="columns"):
        core.verify_columns(b"columns")


def test_roots_over_many_transactions(core: ModuleType) -> None:
    """Around the run of 1,024 leaves."""
    one = b.pack(b.signed(b.body([[1, b.account("a"), b.account("b"), b.asset("XAU"), 1]], b.account("a")), ["a"]))
    for count in (1, 2, 1023, 1024, 1025):
        columns, _ = core.scan_transactions([one] * count, b.NETWORK, b.LIMITS)
        assert columns.transactions_root() == core.merkle_root([one] * count)
