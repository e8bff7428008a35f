"""Blocks and batches as values."""

import hashlib
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger import core
from p2pledger.primitives.blocks import MAX_BLOCK_BYTES, MAX_PROOF_BYTES, Block, Header, genesis_block, sign_batch
from p2pledger.primitives.codec import U64_MAX, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import verify
from tests.primitives import samples
from tests.primitives.samples import KEYS, NETWORK

hashes, numbers = st.binary(min_size=32, max_size=32), st.integers(0, U64_MAX)
headers = st.builds(
    Header,
    network_id=st.binary(min_size=8, max_size=8),
    epoch=numbers,
    view=numbers,
    height=numbers,
    parent=hashes,
    time_ms=numbers,
    proposer=hashes,
    batches_root=hashes,
    parent_state_root=hashes,
    parent_receipts_root=hashes,
    validators_hash=hashes,
    proof=st.binary(max_size=40),
)


@given(headers, st.lists(hashes, max_size=40, unique=True), st.sampled_from([b"", bytes(64)]))
def test_a_block_reads_back(header: Header, digests: list[bytes], seal: bytes) -> None:
    block = Block(replace(header, batches_root=core.merkle_root(digests)), tuple(digests), seal)
    again = Block.decode(block.encode())
    assert again == block
    assert again.id == block.id == hashlib.sha256(b"p2pl.bl1" + block.header.encode()).digest()
    assert again.height == header.height


@given(headers, headers)
def test_the_id_names_every_field(first: Header, second: Header) -> None:
    assert (first == second) is (first.id == second.id)
    for name in ("view", "height", "time_ms", "epoch"):
        assert replace(first, **{name: getattr(first, name) ^ 1}).id != first.id
    assert replace(first, proof=first.proof + b"p").id != first.id


@given(headers, st.binary(max_size=MAX_PROOF_BYTES))
def test_the_bytes_of_a_header_end_with_its_proof(header: Header, proof: bytes) -> None:
    """So that a search for a nonce need not encode it again."""
    assert replace(header, proof=proof).encode().endswith(proof)


def test_a_seal_is_the_proposers_signature_under_the_id() -> None:
    block = samples.full_block().sealed(KEYS[0])
    assert verify(block.header.proposer, block.seal, b"p2pl.se1" + block.id)
    assert Block.decode(block.encode()) == block


def refusal(values: object) -> str:
    with pytest.raises(PeerFault) as caught:
        Block.decode(encode(values))
    return caught.value.code


def test_digests_must_be_those_of_the_header_and_distinct() -> None:
    block = samples.full_block()
    values, digests = block.header.values(), block.digests
    assert refusal((values, digests[:-1], b"")) == "bad_batches_root"
    assert refusal((values, digests[::-1], b"")) == "bad_batches_root"
    assert refusal((values, (), b"")) == "bad_batches_root"
    doubled = (*digests, digests[0])
    root = core.merkle_root(doubled)
    assert refusal((replace(block.header, batches_root=root).values(), doubled, b"")) == "duplicate_batch"
    assert refusal((values, (*digests[:-1], digests[-1][1:]), b"")) == "malformed"


def test_a_seal_has_64_bytes_or_none_and_a_proof_at_most_512() -> None:
    block = samples.full_block()
    assert refusal((block.header.values(), block.digests, bytes(63))) == "malformed"
    assert refusal((block.header.values(), block.digests, bytes(65))) == "malformed"
    assert refusal((replace(block.header, proof=bytes(513)).values(), block.digests, b"")) == "malformed"


def test_unknown_versions_are_refused_by_name() -> None:
    block = samples.full_block()
    assert refusal(((2, *block.header.values()[1:]), block.digests, b"")) == "unknown_version"
    assert refusal((replace(block.header, protocol_version=2).values(), block.digests, b"")) == "unknown_version"
    assert refusal((block.header.values()[:-1], block.digests, b"")) == "malformed"


def test_a_block_of_all_digests_that_fit_is_within_the_limit() -> None:
    digests = tuple(number.to_bytes(32, "big") for number in range(1_900))
    full = Header(**{**{name: getattr(samples.header(), name) for name in ("network_id", "parent", "proposer",
        "parent_state_root", "parent_receipts_root", "validators_hash")}, "epoch": U64_MAX, "view": U64_MAX,
        "height": U64_MAX, "time_ms": U64_MAX, "batches_root": core.merkle_root(digests),
        "proof": bytes(MAX_PROOF_BYTES)})  # fmt: skip
    data = Block(full, digests, bytes(64)).encode()
    assert len(data) <= MAX_BLOCK_BYTES
    assert Block.decode(data).digests == digests
    with pytest.raises(PeerFault) as caught:
        Block.decode(data + bytes(MAX_BLOCK_BYTES))
    assert caught.value.code == "too_large"


def test_the_genesis_block_is_that_of_the_protocol() -> None:
    block = genesis_block(network_id=NETWORK, genesis_hash=b"g" * 32, time_ms=77, validators_hash=b"v" * 32)
    header = block.header
    assert (header.height, header.view, header.epoch, header.time_ms) == (0, 0, 0, 77)
    assert header.parent == b"g" * 32
    assert header.proposer == header.parent_state_root == header.parent_receipts_root == ZERO_HASH
    assert header.batches_root == hashlib.sha256(b"").digest()
    assert Block.decode(block.encode()) == block


def test_a_signed_batch_is_what_the_core_scans() -> None:
    maker, transactions = KEYS[0], samples.signed_transactions()
    batch = core.encode_batch(NETWORK, maker.public_key, 3, 70_000, transactions)
    data = sign_batch(batch, maker)
    columns = core.scan_batch(data, NETWORK, core.Limits(100, 256, 16, 65_536, 100))
    assert (columns.maker, columns.epoch, columns.sequence) == (maker.public_key, 3, 70_000)
    assert columns.digest == core.batch_digest(batch) == hashlib.sha256(b"p2pl.ba1" + batch).digest()
    assert verify(maker.public_key, columns.maker_signature, b"p2pl.bs1" + columns.digest)
    assert [columns.transaction(index) for index in range(columns.count)] == transactions


def test_a_spoiled_batch_is_refused_or_has_another_digest() -> None:
    """A batch is named by its bytes: no other bytes pass under the same name, but for the maker's signature."""
    maker = KEYS[0]
    batch = core.encode_batch(NETWORK, maker.public_key, 0, 1, samples.signed_transactions())
    data, limits = sign_batch(batch, maker), core.Limits(100, 256, 16, 65_536, 100)
    digest = core.batch_digest(batch)
    for mutant in samples.spoiled_bytes(data, random.Random(4), 1_500):
        try:
            columns = core.scan_batch(mutant, NETWORK, limits)
        except core.MalformedBytes:
            continue
        assert columns.digest != digest or mutant[:-64] == data[:-64]
