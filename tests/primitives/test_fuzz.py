"""Every decoder against spoiled real messages: it refuses with its own error, or what it read is exactly the bytes.

The second half is what makes one value have one encoding: nothing that is accepted can be written in two ways.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgpack
import pytest

from p2pledger import _reference, core
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import BadConfiguration, PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.messages import decode_message
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.transactions import SignedTransaction
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from tests.primitives import samples


def through_transaction(data: bytes) -> bytes:
    decoded = SignedTransaction.decode(data)
    assert decoded.id == decoded.transaction.id
    return b"\x92" + decoded.transaction.encode() + encode(decoded.signatures)


def through_policy(data: bytes) -> bytes:
    return encode(Policy.decode(msgpack.unpackb(data, use_list=False)).values())


@dataclass(frozen=True)
class Decoder:
    """``through`` decodes and encodes again."""

    name: str
    through: Callable[[bytes], bytes]
    originals: list[bytes]
    more_codes: tuple[str, ...] = ()

    @property
    def codes(self) -> set[str]:
        return {"malformed", "too_large", "unknown_version", *self.more_codes}


def outcome_of(decoder: Decoder, data: bytes) -> tuple[str, bytes | None]:
    """(code, None) of a refusal, or ("", what is encoded again). Any other exception fails the test."""
    try:
        return "", decoder.through(data)
    except (PeerFault, BadConfiguration) as error:
        return error.code, None


DECODERS = [
    Decoder("transaction", through_transaction, samples.signed_transactions(), ("unknown_operation",)),
    Decoder(
        "block",
        lambda data: Block.decode(data).encode(),
        [samples.full_block().encode()],
        ("duplicate_batch", "bad_batches_root"),
    ),
    Decoder("vote", lambda data: Vote.decode(data).encode(), [samples.vote(kind=kind).encode() for kind in VoteKind]),
    Decoder(
        "certificate",
        lambda data: Certificate.decode(data).encode(),
        [samples.certificate(kind).encode() for kind in VoteKind],
    ),
    Decoder(
        "genesis",
        lambda data: Genesis.decode(data).encode(),
        [samples.genesis().encode()],
        ("bad_configuration",),
    ),
    Decoder(
        "message",
        lambda data: decode_message(data).encode(),
        [m.encode() for m in samples.sample_messages()],
        ("unknown_message",),
    ),
]


def spoiled(original: bytes, dice: random.Random, count: int) -> Iterator[bytes]:
    yield from samples.spoiled_bytes(original, dice, count)
    yield from samples.spoiled_values(original, dice, count)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_real_messages_are_read(decoder: Decoder) -> None:
    for original in decoder.originals:
        assert decoder.through(original) == original


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_spoiled_messages_are_refused_by_name_or_mean_exactly_their_bytes(decoder: Decoder) -> None:
    dice, accepted, refused = random.Random(decoder.name), 0, 0
    for original in decoder.originals:
        for mutant in spoiled(original, dice, 3_000 // len(decoder.originals)):
            code, again = outcome_of(decoder, mutant)
            if again is None:
                assert code in decoder.codes
                refused += 1
            else:
                assert again == mutant
                accepted += 1
    assert refused > 1_000
    assert accepted > 0  # some changes, of an amount for instance, make another good message


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_every_prefix_of_a_message_is_refused(decoder: Decoder) -> None:
    for original in decoder.originals:
        for length in range(len(original)):
            with pytest.raises(PeerFault):
                decoder.through(original[:length])


def test_noise_is_refused() -> None:
    dice = random.Random(1)
    for _ in range(2_000):
        noise = dice.randbytes(dice.randrange(80))
        for decoder in DECODERS:
            with pytest.raises(PeerFault):
                decoder.through(noise)


def test_spoiled_policies_are_refused_or_mean_exactly_their_values() -> None:
    original = encode(Policy.of(*(key.public_key for key in samples.KEYS), threshold=3).values())
    policies = Decoder("policy", through_policy, [original])
    for mutant in samples.spoiled_values(original, random.Random(2), 3_000):
        code, again = outcome_of(policies, mutant)
        assert (code, again) in (("malformed", None), ("", mutant))


# The core scans what Python decodes one at a time: the two must agree on what a transaction is, or nodes would part.

WIDE = core.Limits(1_000, 2**16 - 1, 2**16, 65_536, 2**20)


@pytest.mark.parametrize("scan", [_reference.scan_transactions, core.scan_transactions], ids=["reference", "core"])
def test_the_core_and_python_agree_on_what_a_transaction_is(
    scan: Callable[..., tuple[core.Columns, list[tuple[int, str]]]],
) -> None:
    dice, agreed = random.Random(3), {True: 0, False: 0}
    for original in samples.signed_transactions():
        mutants = [original, *spoiled(original, dice, 500)]
        columns, refused = scan(mutants, samples.NETWORK, WIDE)
        codes, good = dict(refused), 0
        for index, mutant in enumerate(mutants):
            try:
                decoded = SignedTransaction.decode(mutant)
            except PeerFault:
                assert index in codes, mutant.hex()
                agreed[False] += 1
                continue
            if decoded.transaction.network_id != samples.NETWORK:
                assert codes[index] == "wrong_network"
                continue
            assert index not in codes, (codes[index], mutant.hex())
            assert columns.ids[32 * good : 32 * good + 32] == decoded.id
            assert columns.transaction(good) == mutant
            assert columns.signers(good) == b"".join(decoded.signers)
            assert columns.valid_until(good) == decoded.transaction.valid_until
            good += 1
            agreed[True] += 1
        assert good == columns.count
    assert min(agreed.values()) > 300


TEXTS = {
    "no first byte": b"\xff",
    "a lone continuation": b"\x80",
    "cut short": b"\xe2\x82",
    "zero written in two bytes": b"\xc0\x80",
    "a slash written in three bytes": b"\xe0\x80\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "beyond the last code point": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "four bytes": "\U0001f600".encode(),
    "a noncharacter": b"\xef\xbf\xbf",
    "zero": b"\0",
    "two bytes": "\xe9".encode(),
    "nothing": b"",
    "64 bytes": b"a" * 64,
    "65 bytes": b"a" * 65,
    "32 letters of two bytes": "\xe9".encode() * 32,
    "33 letters of two bytes": "\xe9".encode() * 33,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_both_read_the_same_texts(text: bytes) -> None:
    """Names in other encodings than UTF-8, cut short, written too long, or of surrogates."""
    original = samples.transaction(samples.OPERATIONS[5]).sign(samples.KEYS[:1])
    written = "Renminbi 人民币".encode()
    head = bytes([0xA0 | len(text)]) if len(text) < 32 else bytes([0xD9, len(text)])
    data = original.replace(bytes([0xA0 | len(written)]) + written, head + text)
    try:
        SignedTransaction.decode(data)
        good = True
    except PeerFault:
        good = False
    for scan in (_reference.scan_transactions, core.scan_transactions):
        columns, _ = scan([data], samples.NETWORK, WIDE)
        assert (columns.count == 1) is good
