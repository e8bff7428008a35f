"""A crash at every moment at which something reached the disk: no promise is ever broken, and the run goes on.

A vote that is on the disk may or may not have been sent. So a validator that starts again must behave as if it had
been: the whole of its life, over all crashes, must look like one honest validator's.
"""

from __future__ import annotations

import pytest

from p2pledger.consensus.engine import BlockRef
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.records import BlockRecord, CertificateRecord, VoteRecord
from p2pledger.primitives.votes import VoteKind
from tests.consensus.world import (
    Message,
    Seat,
    World,
    all_ordered,
    broken_promise,
    disagreement,
    make_block,
    make_certificate,
    make_vote,
    votes_on,
)


def rough(world: World, source: Seat, target: Seat, message: Message) -> int | None:
    """Slow enough for nullified views, with losses, for six seconds; then good."""
    if world.now_ms >= 6_000:
        return 10
    return None if world.random.random() < 0.1 else world.random.randint(1, 700)


def run_with_crash(n: int, seed: int, victim: int, crash_at_persist: int | None, down_ms: int) -> World:
    world = World(n, seed=seed, link=rough)
    seat = world.seats[victim]
    seat.crash_at_persist = crash_at_persist
    world.start()
    for number in range(6):
        world.at(number * 900, lambda number=number: world.submit(bytes([number + 1]) * 32))
    restarted = False

    def revive() -> bool:
        nonlocal restarted
        if seat.engine is None and not restarted:
            restarted = True
            world.at(down_ms, lambda: world.boot(seat))
        return False

    world.run(until_ms=120_000, stop=revive)
    assert disagreement(world.seats) is None
    for other in world.seats:
        assert broken_promise(votes_on(other.disk)) is None
        assert not other.evidence, "nobody saw a contradiction"
        assert not other.contradictions
        assert not other.offences
    assert all_ordered(world.seats)
    assert [other.timer for other in world.seats] == [None] * n
    return world


@pytest.mark.parametrize(("n", "victim", "down_ms"), [(4, 0, 1), (4, 1, 2_500), (1, 0, 1), (3, 2, 400)])
def test_a_crash_after_every_single_write(n: int, victim: int, down_ms: int) -> None:
    writes = run_with_crash(n, 11, victim, None, down_ms).seats[victim].persisted
    assert writes >= 8
    for crash_at_persist in range(1, writes + 1):
        run_with_crash(n, 11, victim, crash_at_persist, down_ms)


@pytest.mark.parametrize("seed", range(12))
def test_a_crash_in_the_middle_of_other_weather(seed: int) -> None:
    run_with_crash(4, seed, seed % 4, 1 + seed * 2, 50 + 150 * seed)


def test_the_check_can_fail_when_the_disk_forgets() -> None:
    """A validator whose disk loses its votes contradicts itself in some run: wiping a disk is not a restart."""

    def run_until_caught() -> None:
        for seed in range(40):
            world = World(4, seed=seed, link=rough)
            world.start()
            for number in range(6):
                world.at(number * 900, lambda world=world, number=number: world.submit(bytes([number + 1]) * 32))
            before = []
            world.run(until_ms=700 + seed * 60)
            victim = world.seats[seed % 4]
            before = votes_on(victim.disk)
            world.crash(victim)
            victim.disk.clear()
            world.boot(victim)
            world.run(until_ms=60_000)
            assert broken_promise([*before, *votes_on(victim.disk)]) is None, "contradiction"

    with pytest.raises(AssertionError, match="contradiction"):
        run_until_caught()


@pytest.mark.parametrize("is_held", [True, False])
def test_a_finalise_vote_is_worth_nothing_without_the_notarisation_under_it(is_held: bool) -> None:
    """Why the certificate that a finalise vote rests on is on the disk before the vote.

    The leader of view 1 shows its block to A and B, votes for it, and is never heard again. Only A sees the quorum
    and votes to finalise; B and C have run out of patience. The power goes. A may not nullify any more, so two votes
    to nullify and two to notarise are all there can be: what leads out of the view is the notarisation, which A alone
    has seen.
    """
    world = World(4)
    a, _, b, c = world.seats
    block = make_block(world.validators, 1, BlockRef.of(world.genesis.header))
    header = block.header
    stored = BlockRecord(block.id, header.height, header.view, header.parent, block.encode())

    def voted(seat: Seat, kind: VoteKind, name: bytes = ZERO_HASH) -> VoteRecord:
        return VoteRecord(0, 1, kind, name, make_vote(world.keypairs, seat.index, kind, 1, name).encode())

    proof = make_certificate(world.keypairs, (0, 1, 2), VoteKind.NOTARISE, 1, block.id).encode()
    a.disk += [stored, voted(a, VoteKind.NOTARISE, block.id)]
    a.disk += [CertificateRecord(VoteKind.NOTARISE, 0, 1, block.id, proof)] if is_held else []
    a.disk += [voted(a, VoteKind.FINALISE, block.id)]
    b.disk += [stored, voted(b, VoteKind.NOTARISE, block.id), voted(b, VoteKind.NULLIFY)]
    c.disk += [voted(c, VoteKind.NULLIFY)]
    for seat in (a, b):
        seat.blocks[block.id] = block
    up = (a, b, c)
    world.start(up)
    world.submit(bytes([7]) * 32, up)
    world.run(until_ms=3_600_000)
    heights = {seat.finals[-1].height for seat in up}
    views = {seat.engine.view for seat in up if seat.engine is not None}
    if is_held:
        assert all_ordered(up)
        assert heights != {0}
    else:
        assert (heights, views) == ({0}, {1}), "an hour later they are still there"
