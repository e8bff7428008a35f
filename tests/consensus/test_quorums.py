"""Every number of validators from 1 to 40, and 100: with f silent ones there is finality, with one more there is none.

The arithmetic itself is tested in tests/primitives/test_validators.py; here whole engines run on it.
"""

from __future__ import annotations

import pytest

from p2pledger import core
from p2pledger.primitives.validators import faulty_of, quorum_of
from tests.consensus.world import TIMEOUT_MS, World, all_ordered, disagreement

SIZES = [*range(1, 41), 100]
HOP_MS = 10


def world_with(n: int, silent: int) -> World:
    """The first leaders are up: who is silent leads last."""
    world = World(n)
    down = {-number % n for number in range(silent)}
    world.start([seat for seat in world.seats if seat.index not in down])
    return world


def live(world: World) -> list[int]:
    return [seat.index for seat in world.seats if seat.engine is not None]


@pytest.mark.parametrize("n", SIZES)
def test_with_f_silent_there_is_finality_after_three_delays(n: int) -> None:
    silent = faulty_of(n)
    world = world_with(n, silent)
    up = [world.seats[index] for index in live(world)]
    assert len(up) >= quorum_of(n)
    world.submit(b"\x01" * 32, up)
    world.run(stop=lambda: all_ordered(up))
    assert world.now_ms == (3 * HOP_MS if n > 1 else 0)
    assert disagreement(up) is None


@pytest.mark.parametrize("n", SIZES)
def test_with_one_more_silent_nothing_is_final_and_nothing_is_broken(n: int) -> None:
    silent = faulty_of(n) + 1
    assert n - silent < quorum_of(n)
    world = world_with(n, silent)
    up = [world.seats[index] for index in live(world)]
    world.submit(b"\x01" * 32, up)
    world.run(until_ms=2 * TIMEOUT_MS)
    for seat in up:
        assert [ref.height for ref in seat.finals] == [0]
        assert not seat.contradictions
        assert seat.engine is not None
        assert seat.engine.view == 1, "not even a nullification"
    if n > 16:
        return
    # The last one that was missing comes back: now it is enough.
    for seat in world.seats:
        if seat.engine is None:
            world.start([seat])
            world.submit(b"\x01" * 32, [seat])
            break
    world.run(until_ms=20 * TIMEOUT_MS)
    up = [world.seats[index] for index in live(world)]
    assert all_ordered(up)
    assert disagreement(up) is None


@pytest.mark.parametrize("n", [30, 100])
def test_large_clusters_have_finality_after_three_delays_and_check_votes_in_batches(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    verify = core.verify_batch

    def counted(keys: bytes, signatures: bytes, messages: list[bytes]) -> bytes:
        sizes.append(len(messages))
        return verify(keys, signatures, messages)

    monkeypatch.setattr(core, "verify_batch", counted)
    world = World(n)
    world.start()
    world.submit(b"\x01" * 32)
    world.run(stop=lambda: all_ordered(world.seats))
    assert world.now_ms == 3 * HOP_MS
    quorum = quorum_of(n)
    batches = [size for size in sizes if size > 1]
    assert min(batches) >= quorum - 2, "own votes and the leader's are checked already"
    assert len(batches) <= 2 * n, "one for each certificate at each engine"
    assert len(sizes) - len(batches) <= n, "alone only the leader's proposal is checked"
