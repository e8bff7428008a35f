"""Proof of work, as far as the state knows it: the window of blocks, and the target above it."""

import pytest

from p2pledger.ledger.elections import pow
from p2pledger.ledger.tables import Table, engine_key
from p2pledger.primitives.codec import U64_MAX, encode
from tests.ledger.engines import Chain, network


def chain_of(**parameters: int) -> Chain:
    return Chain(network("pow", **parameters))


def test_a_target_lets_one_hash_in_so_many_win() -> None:
    assert pow.target_of(1) == 2**256 - 1
    assert pow.target_of(2) == 2**255 - 1
    assert pow.target_of(65_536) == 2**240 - 1
    for difficulty in (1, 3, 1_000, 2**64 - 1):
        assert 2**256 // (pow.target_of(difficulty) + 1) in (difficulty, difficulty + 1)


def test_the_first_block_takes_the_difficulty_of_the_genesis() -> None:
    chain = chain_of(initial_difficulty=1_000, difficulty_window=45)
    assert pow.difficulty_of_next(chain.version, chain.spec.parameters) == 990  # 99/100 of the mean
    assert pow.next_target(chain.version, chain.spec.parameters) == 2**256 // 990 - 1
    row = chain.version.get(Table.ENGINE, engine_key(1))
    assert row == encode((1, ((chain.genesis.time_ms, 1_000),)))


def test_the_window_holds_the_newest_blocks() -> None:
    chain = chain_of(initial_difficulty=1_000, difficulty_window=4, slot_ms=1_000)
    noted = [(chain.genesis.time_ms, 1_000)]
    for _ in range(9):
        difficulty = pow.difficulty_of_next(chain.version, chain.spec.parameters)
        header = chain.header(time_ms=chain.last.time_ms + 700)
        chain.block(at=header)
        noted.append((header.time_ms, difficulty))
        assert chain.version.get(Table.ENGINE, engine_key(1)) == encode((1, tuple(noted[-5:])))
    assert noted[-1][1] > 1_300, "blocks that come early get harder"


@pytest.mark.parametrize(("step_ms", "end"), [(1, U64_MAX), (10**9, 1)])
def test_difficulty_stays_within_64_bits_however_long_it_goes_one_way(step_ms: int, end: int) -> None:
    chain = chain_of(initial_difficulty=1_000, difficulty_window=3)
    for _ in range(120):
        chain.block(at=chain.header(time_ms=chain.last.time_ms + step_ms))
    assert pow.difficulty_of_next(chain.version, chain.spec.parameters) == end
