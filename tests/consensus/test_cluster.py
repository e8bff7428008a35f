"""A few engines together: how fast they are, what they survive, and that they rest."""

from __future__ import annotations

import pytest

from p2pledger.consensus.engine import BlockRef, Proposal
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from tests.consensus.world import (
    TIMEOUT_MS,
    Message,
    Seat,
    World,
    all_ordered,
    disagreement,
    make_block,
    make_vote,
)

TRADE = b"\x01" * 32
HOP_MS = 10


def heights(world: World) -> list[int]:
    return [seat.finals[-1].height for seat in world.seats]


def at_rest(world: World) -> bool:
    return all(seat.timer is None for seat in world.seats if seat.engine is not None)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 10])
def test_a_trade_is_final_after_three_message_delays_and_the_cluster_rests(n: int) -> None:
    world = World(n)
    world.start()
    world.run()
    assert (world.now_ms, world.sent) == (0, 0), "nothing happens without work"
    # The first trade after an idle hour is as fast as any other.
    world.now_ms = 3_600_000
    world.submit(TRADE)
    world.run(stop=lambda: all_ordered(world.seats))
    assert world.now_ms == 3_600_000 + (3 * HOP_MS if n > 1 else 0)
    world.run()
    assert heights(world) == [2] * n, "the block with the trade, and an empty one that certifies its root"
    assert at_rest(world)
    assert disagreement(world.seats) is None
    sent = world.sent
    world.run(until_ms=7_200_000)
    assert world.sent == sent


def test_the_next_view_starts_after_two_message_delays() -> None:
    world = World(4)
    world.start()
    world.submit(TRADE)
    world.run(until_ms=2 * HOP_MS)
    assert [seat.engine.view for seat in world.seats if seat.engine] == [2] * 4
    assert heights(world) == [0] * 4


def test_a_dead_leader_costs_one_timeout_and_then_a_tenth_of_it() -> None:
    world = World(4)
    world.start(world.seats[:3])
    entered: dict[int, int] = {}

    def watch() -> bool:
        engine = world.seats[0].engine
        assert engine is not None
        entered.setdefault(engine.view, world.now_ms)
        return engine.view > 16

    for number in range(200):
        world.at(number * 20, lambda number=number: world.submit(bytes([number]) * 32))
    world.run(stop=watch)
    lost = [entered[view + 1] - entered[view] for view in (3, 7, 11, 15)]
    assert TIMEOUT_MS <= lost[0] <= TIMEOUT_MS + 2 * HOP_MS
    assert all(TIMEOUT_MS // 10 <= wait <= TIMEOUT_MS // 10 + 2 * HOP_MS for wait in lost[1:])
    world.run(until_ms=60_000)
    assert all_ordered(world.seats[:3])
    assert at_rest(world)


def test_without_a_quorum_nothing_becomes_final_and_with_it_again_everything_does() -> None:
    world = World(4)
    world.start(world.seats[:2])
    world.submit(TRADE, world.seats[:2])
    world.run(until_ms=120_000)
    assert heights(world)[:2] == [0, 0]
    assert [seat.engine.view for seat in world.seats[:2] if seat.engine] == [1, 1]
    world.start(world.seats[2:])
    world.submit(TRADE, world.seats[2:])
    world.run(until_ms=300_000)
    assert all_ordered(world.seats)
    assert at_rest(world)


def test_a_partition_stops_the_halves_and_after_it_they_agree() -> None:
    def split(world: World, source: Seat, target: Seat, message: Message) -> int | None:
        apart = 5_000 <= world.now_ms < 30_000 and (source.index < 2) != (target.index < 2)
        return None if apart else HOP_MS

    world = World(4, link=split)
    world.start()
    for number in range(60):
        world.at(number * 500, lambda number=number: world.submit(bytes([number]) * 32))
    world.run(until_ms=6_000)
    before = heights(world)
    world.run(until_ms=30_000)
    assert max(heights(world)) <= max(before) + 1
    world.run(until_ms=60_000)
    assert disagreement(world.seats) is None
    assert all_ordered(world.seats)
    assert at_rest(world)


@pytest.mark.parametrize("kind", ["proposal", "notarise", "nullify", "finalise", "certificate", "everything"])
def test_what_was_lost_once_is_made_good_by_saying_it_again(kind: str) -> None:
    """For two seconds every message of one kind is lost."""

    def lossy(world: World, source: Seat, target: Seat, message: Message) -> int | None:
        match message:
            case Proposal():
                name = "proposal"
            case Vote():
                name = message.kind.name.lower()
            case Certificate():
                name = "certificate"
        return None if world.now_ms < 2_000 and kind in (name, "everything") else HOP_MS

    world = World(4, link=lossy)
    world.start()
    world.submit(TRADE)
    world.run(until_ms=60_000)
    assert all_ordered(world.seats)
    assert disagreement(world.seats) is None
    assert at_rest(world)


def test_a_node_that_missed_everything_catches_up_from_one_certificate() -> None:
    deaf = True

    def link(world: World, source: Seat, target: Seat, message: Message) -> int | None:
        return None if deaf and 3 in (source.index, target.index) else HOP_MS

    world = World(4, link=link)
    world.start()
    for number in range(100):
        world.at(number * 100, lambda number=number: world.submit(bytes([number]) * 32, world.seats[:3]))
    world.run(until_ms=60_000)
    assert at_rest(world)
    assert heights(world)[3] == 0
    deaf = False
    world.submit(TRADE, [world.seats[3]])
    world.run(until_ms=120_000)
    world.seats[3].batches = world.seats[0].batches | {TRADE}
    assert heights(world) == [heights(world)[0]] * 4
    assert disagreement(world.seats) is None


def test_one_that_lost_only_the_last_certificate_is_told_by_those_that_rest() -> None:
    def link(world: World, source: Seat, target: Seat, message: Message) -> int | None:
        last = isinstance(message, Vote | Certificate) and message.kind is VoteKind.FINALISE
        return None if target.index == 3 and world.now_ms < 1_000 and last else HOP_MS

    world = World(4, link=link)
    world.start()
    world.submit(TRADE)
    world.run(until_ms=60_000)
    assert heights(world) == [heights(world)[0]] * 4
    assert at_rest(world)


def test_observers_follow() -> None:
    world = World(4, observers=2)
    world.start()
    world.submit(TRADE)
    world.run()
    assert heights(world) == [2] * 6
    assert all(not seat.disk or not seat.engine.votes for seat in world.seats[4:] if seat.engine)


def test_a_leader_who_shows_two_blocks_is_convicted_and_breaks_nothing() -> None:
    world = World(4)
    villain, honest = world.seats[1], [world.seats[index] for index in (0, 2, 3)]
    world.start(honest)
    root = BlockRef.of(world.genesis.header)
    blocks = [make_block(world.validators, 1, root, time_ms=time_ms) for time_ms in (2, 3)]
    for seat in honest:
        block = blocks[seat.index % 2]
        vote = make_vote(world.keypairs, 1, VoteKind.NOTARISE, 1, block.id)
        world.deliver(villain, seat, Proposal(block, vote))
        # ... and it votes for both, to everybody.
        for other in blocks:
            world.deliver(villain, seat, make_vote(world.keypairs, 1, VoteKind.NOTARISE, 1, other.id))
    world.submit(TRADE)
    world.run(until_ms=60_000)
    assert disagreement(honest) is None
    assert all_ordered(honest)
    for seat in honest:
        assert [Vote.decode(found.first).signer for found in seat.evidence] == [1]
        assert not seat.contradictions


def test_equal_seeds_give_equal_runs() -> None:
    def trace(seed: int) -> list[tuple[int, int, int]]:
        world = World(4, seed=seed, link=lambda world, *_: world.random.randint(1, 900))
        world.start()
        for number in range(5):
            world.at(number * 700, lambda number=number: world.submit(bytes([number]) * 32))
        seen = []
        while world.now_ms < 30_000 and world._heap:
            world.run(until_ms=world._heap[0][0])
            seen.append((world.now_ms, world.sent, sum(heights(world))))
        return seen

    assert trace(1) == trace(1)
    assert trace(1) != trace(2)
