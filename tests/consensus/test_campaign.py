"""Seeded schedules with loss, delay, reordering, partitions, crashes and up to f villains, and who judges them.

Every failure is one seed: ``run_schedule(seed)`` repeats it exactly. First the network is bad, then it heals; at the
end all honest seats must agree, must have kept their promises, must have ordered everything, and must rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from p2pledger.consensus.engine import Proposal
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.validators import faulty_of
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from tests.consensus.world import (
    Message,
    Seat,
    World,
    all_ordered,
    broken_promise,
    disagreement,
    make_vote,
    votes_on,
)

BAD_MS = 15_000
CALM_MS = 240_000


def view_of(message: Message) -> int:
    return message.vote.view if isinstance(message, Proposal) else message.view


@dataclass
class Weather:
    """How messages fare. Twins are heard by one half each, split anew for each view."""

    loss: float
    slowest_ms: int
    partitions: list[tuple[int, int, int]]
    """(from_ms, to_ms, seats on one side as bits)"""
    twins: dict[int, Seat]
    split_seed: int

    def __call__(self, world: World, source: Seat, target: Seat, message: Message) -> int | None:
        twin = self.twins.get(source.index)
        if twin is not None:
            side = (view_of(message) * 2_654_435_761 + self.split_seed) >> target.index & 1
            if (source is twin) != bool(side):
                return None
        if world.now_ms >= BAD_MS:
            return world.random.randint(5, 15)
        for from_ms, to_ms, side_bits in self.partitions:
            if from_ms <= world.now_ms < to_ms:
                if (side_bits >> source.index & 1) != (side_bits >> target.index & 1):
                    return None
        if world.random.random() < self.loss:
            return None
        return world.random.randint(1, self.slowest_ms)


def nuller() -> Callable[[World, Seat, Message], None]:
    """A villain that nullifies, notarises and finalises whatever it hears of, at once."""
    said: set[tuple[VoteKind, int, bytes]] = set()

    def shout(world: World, seat: Seat, message: Message) -> None:
        if isinstance(message, Certificate):
            return
        view = view_of(message)
        block = message.block.id if isinstance(message, Proposal) else message.block
        words = [(VoteKind.NULLIFY, view, ZERO_HASH)]
        if block != ZERO_HASH:
            words += [(VoteKind.NOTARISE, view, block), (VoteKind.FINALISE, view, block)]
        for word in words:
            if word not in said:
                said.add(word)
                vote = make_vote(world.keypairs, seat.index, *word)
                for other in world.seats:
                    if other is not seat:
                        world.send(seat, other, vote)

    return shout


def run_schedule(
    seed: int, *, quorum: int | None = None, n: int | None = None, villain_count: int | None = None
) -> World:
    """One schedule, judged while it runs and at the end. The world is returned for a look; AssertionError if bad."""
    n = n or (4, 4, 4, 5, 7)[seed % 5]
    world = World(n, seed=seed, quorum=quorum)
    dice = world.random
    faulty = faulty_of(n) if villain_count is None else villain_count
    villains = dice.sample(range(n), dice.randint(0, faulty) if villain_count is None else faulty)
    weather = Weather(
        loss=dice.choice((0.0, 0.05, 0.2)),
        slowest_ms=dice.choice((20, 200, 1_500)),
        partitions=[],
        twins={},
        split_seed=dice.getrandbits(40),
    )
    for _ in range(dice.randint(0, 3)):
        from_ms = dice.randint(0, BAD_MS)
        weather.partitions.append((from_ms, from_ms + dice.randint(500, 6_000), dice.getrandbits(n)))
    world.link = weather
    honest = [seat for seat in world.seats if seat.index not in villains]
    for index in villains:
        kind = "twins" if quorum is not None else dice.choice(("twins", "twins", "nuller", "silent"))
        seat = world.seats[index]
        if kind == "twins":
            twin = world.add_twin(seat)
            weather.twins[index] = twin
            world.start([seat, twin])
        elif kind == "nuller":
            seat.villain = nuller()
    world.start(honest)
    for number in range(dice.randint(3, 12)):
        digest = bytes([number + 1]) * 32
        for seat in world.seats:
            if seat.villain is None:
                delay_ms = dice.randint(0, BAD_MS)
                world.at(delay_ms, lambda seat=seat, digest=digest: world.submit(digest, [seat]))
    for _ in range(dice.randint(0, 3)):
        seat, at_ms = dice.choice(honest), dice.randint(0, BAD_MS)
        world.at(at_ms, lambda seat=seat: world.crash(seat))
        world.at(at_ms + dice.randint(1, 4_000), lambda seat=seat: world.boot(seat) if seat.engine is None else None)

    world.run(until_ms=CALM_MS)

    assert disagreement(honest) is None, disagreement(honest)
    for seat in honest:
        assert broken_promise(votes_on(seat.disk)) is None, (seat.index, broken_promise(votes_on(seat.disk)))
        if quorum is None:
            assert not seat.contradictions
            accused = {world.keypairs[Vote.decode(found.first).signer].public_key for found in seat.evidence}
            assert accused <= {world.seats[index].key for index in villains}, "evidence against an honest one"
            assert not seat.offences, seat.offences
    if quorum is None:
        assert all_ordered(honest), [seat.finals[-1].height for seat in honest]
        assert [seat.timer for seat in honest] == [None] * len(honest), "somebody does not rest"
    return world


@pytest.mark.parametrize("block", range(10))
def test_two_hundred_schedules_agree_progress_and_rest(block: int) -> None:
    for seed in range(block * 20, block * 20 + 20):
        try:
            run_schedule(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_a_quorum_one_too_small_is_noticed() -> None:
    """The check can fail: with a quorum of 2 of 4 and one equivocator, some schedule ends in two ledgers."""

    def run_until_caught() -> None:
        for seed in range(60):
            run_schedule(seed, quorum=2, n=4, villain_count=1)

    with pytest.raises(AssertionError, match=r"holds another final block|took back its final block"):
        run_until_caught()
