"""Batches: judged by their bytes alone, kept in lanes, remembered for a while when they are final."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pledger import core
from p2pledger.node.batches import BadBatch, BatchPool, HeldBatch, check_batch, likely_digest
from p2pledger.primitives.blocks import sign_batch
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.parameters import Parameters
from tests.network.small_network import NODE_KEYS, SmallNetwork

NETWORK = SmallNetwork()
TRANSACTIONS = [NETWORK.transfer() for _ in range(3)]


def signed(maker: Keypair = NODE_KEYS[0], *, sequence: int = 1, epoch: int = 0) -> bytes:
    batch = core.encode_batch(NETWORK.genesis.network_id, maker.public_key, epoch, sequence, TRANSACTIONS)
    return sign_batch(batch, maker)


def _may_make(key: bytes, epoch: int) -> bool:
    return epoch == 0 and NETWORK.genesis.validator_set.signer_of(key) is not None


def check(data: bytes, parameters: Parameters = NETWORK.genesis.parameters) -> core.Columns | BadBatch:
    return check_batch(data, NETWORK.genesis.network_id, parameters, _may_make)


def code_of(result: core.Columns | BadBatch) -> str:
    assert isinstance(result, BadBatch)
    assert result.sentence
    return result.code


def held(sequence: int, *, received_ms: int = 0, received_height: int = 0) -> HeldBatch:
    data = signed(sequence=sequence)
    columns = check(data)
    assert not isinstance(columns, BadBatch)
    return HeldBatch(data, columns, received_ms, received_height)


def test_a_good_batch_yields_its_columns_and_its_digest_is_seen_without_a_scan() -> None:
    data = signed()
    columns = check(data)
    assert not isinstance(columns, BadBatch)
    assert (columns.count, columns.maker) == (3, NODE_KEYS[0].public_key)
    assert likely_digest(data) == columns.digest


def test_each_fault_has_its_own_code() -> None:
    good = signed()
    broken = bytearray(good)
    broken[-1] ^= 1
    assert code_of(check(bytes(broken))) == "bad_signature"
    assert code_of(check(signed(Keypair.from_seed(b"s" * 32)))) == "unknown_maker"
    assert code_of(check(signed(epoch=1))) == "unknown_maker"
    assert code_of(check(good, Parameters(max_transaction_bytes=100, max_batch_bytes=len(good) - 1))) == "too_large"
    assert code_of(check(good[:-1])) == "truncated"
    assert code_of(check(good + b"\0")) == "trailing"
    wrong = check_batch(good, bytes(8), NETWORK.genesis.parameters, _may_make)
    assert code_of(wrong) == "wrong_network"


@given(st.data())
def test_no_mutation_of_a_batch_is_taken_for_a_good_one_under_another_digest(data: st.DataObject) -> None:
    mutated = bytearray(signed())
    for _ in range(data.draw(st.integers(1, 3))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    result = check(bytes(mutated))
    assert isinstance(result, BadBatch) or bytes(mutated) == signed()


def test_a_lane_is_bounded_and_empties_when_its_batches_are_final() -> None:
    batches = [held(sequence) for sequence in (1, 2)]
    maker, size_bytes = NODE_KEYS[0].public_key, batches[0].size_bytes
    pool = BatchPool(Parameters(lane_bytes=2 * size_bytes))
    for batch in batches:
        assert pool.has_room(maker, size_bytes)
        pool.add(batch)
    assert not pool.has_room(maker, 1)
    assert pool.has_room(NODE_KEYS[1].public_key, size_bytes)
    assert pool.finalise(5, (batches[0].digest,)) == [batches[0]]
    assert pool.has_room(maker, size_bytes)
    assert (list(pool.open), list(pool.recent)) == ([batches[1].digest], [batches[0].digest])
    assert pool.data(batches[0].digest) == batches[0].data
    pool.finalise(5 + 65, ())
    assert not pool.recent
    assert pool.data(batches[0].digest) is None


def test_a_batch_is_stale_after_heights_and_seconds_both() -> None:
    pool = BatchPool(Parameters(drop_after_heights=10, drop_after_ms=1_000))
    batch = held(1, received_ms=500, received_height=3)
    pool.add(batch)
    assert list(pool.stale(13, 1_499)) == []
    assert list(pool.stale(12, 1_500)) == []
    assert list(pool.stale(13, 1_500)) == [batch.digest]
    pool.drop(batch.digest)
    assert pool.open_bytes == 0
