"""The mempool: bounded, fair between clients, and cut into batches within their limits."""

from __future__ import annotations

import pytest

from p2pledger.node import mempool as module
from p2pledger.node.batches import Segment
from p2pledger.node.mempool import Candidate, Mempool, check_transactions
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.reasons import Reason
from tests.network.small_network import ACCOUNTS, SHARE, SmallNetwork

PARAMETERS = Parameters(max_transaction_bytes=1_000, max_batch_bytes=2_000, max_batch_signatures=16)


def candidate(number: int, *, size_bytes: int = 300, signatures: int = 1) -> Candidate:
    return Candidate(bytes([number]) * size_bytes, bytes([number]) * 32, 100, signatures)


def test_a_batch_takes_transactions_in_order_and_remembers_whose_they_are() -> None:
    mempool = Mempool(PARAMETERS)
    for number, client in enumerate((7, 7, 8, 7)):
        mempool.add(client, candidate(number), now_ms=number)
    transactions, segments = mempool.take_batch(now_ms=9)
    assert [data[0] for data in transactions] == [0, 1, 2, 3]
    assert segments == (Segment(7, 0, 2), Segment(8, 2, 3), Segment(7, 3, 4))
    assert (len(mempool), mempool.size_bytes, mempool.oldest_ms) == (0, 0, None)


def test_a_batch_ends_before_its_bytes_or_signatures_are_exceeded() -> None:
    mempool = Mempool(PARAMETERS)
    for number in range(20):
        mempool.add(1, candidate(number), now_ms=0)
    assert mempool.fills_batch
    transactions, _ = mempool.take_batch(now_ms=5)
    assert len(transactions) == (2_000 - 160) // 300
    assert mempool.oldest_ms == 5
    mempool = Mempool(PARAMETERS)
    for number in range(5):
        mempool.add(1, candidate(number, size_bytes=100, signatures=6), now_ms=0)
    transactions, _ = mempool.take_batch(now_ms=0)
    assert len(transactions) == 2


def test_it_is_bounded_for_all_and_for_each_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CAPACITY_BYTES", 1_200)
    mempool = Mempool(PARAMETERS)
    assert mempool.has_room(1, 600)
    assert not mempool.has_room(1, 601)
    mempool.add(1, candidate(1, size_bytes=600), now_ms=0)
    assert not mempool.has_room(1, 1)
    mempool.add(2, candidate(2, size_bytes=500), now_ms=0)
    assert mempool.has_room(3, 100)
    assert not mempool.has_room(3, 101)
    mempool.take_batch(now_ms=0)
    assert mempool.has_room(1, 600)


def test_transactions_are_judged_one_by_one() -> None:
    network = SmallNetwork()
    good, other = network.transfer(), network.transfer()
    broken = bytearray(good)
    broken[-1] ^= 1
    parameters = network.genesis.parameters
    results = check_transactions((good, bytes(broken), b"", other), network.genesis.network_id, parameters)
    assert [result if isinstance(result, Reason) else result.data for result in results] == [
        good,
        Reason.BAD_SIGNATURE,
        Reason.MALFORMED,
        other,
    ]
    assert check_transactions((good,), bytes(8), parameters) == [Reason.WRONG_NETWORK]
    small = Parameters(max_transaction_bytes=len(good) - 1)
    assert check_transactions((good,), network.genesis.network_id, small) == [Reason.TOO_LARGE]
    assert ACCOUNTS["A"] in good
    assert SHARE in good
