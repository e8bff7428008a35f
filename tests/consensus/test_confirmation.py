"""Finality by confirmed ranges: the tally against a naive one, and its safety in random worlds with dishonest twins.

The worlds here are hostile: partitions, losses, long delays, crashes at writes, and up to f producers that run their
key twice, each half of the world hearing one of the two. No two branches may ever become final. Broken on purpose (a
lock that does not hold, ranges that do not stay disjoint) the same worlds must end in a violation.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from p2pledger.consensus.chain import ChainEngine
from p2pledger.consensus.confirmation import Tally
from p2pledger.consensus.engine import WantBranch
from p2pledger.consensus.rule import Members
from p2pledger.primitives.evidence import Evidence, check_evidence
from p2pledger.primitives.validators import faulty_of, quorum_of
from tests.consensus.chain_world import NETWORK, ChainWorld, Message, Seat, broken_promise, disagreement

A, B, C, D, E = (bytes([at]) * 32 for at in range(1, 6))
FOUR = Members(tuple((key, 1) for key in (A, B, C, D)))


def tally_of(*blocks: tuple[bytes, int], members: Members = FOUR) -> Tally:
    """Blocks of heights 1, 2, ...: who made it, and from which height on it confirms."""
    tally = Tally.at(0)
    for at, (key, confirm_from) in enumerate(blocks):
        tally = tally.extended(at + 1, key, confirm_from, members)
    return tally


# --- one chain ------------------------------------------------------------------------------------------------------


def test_a_round_of_four_justifies_with_the_third_block_and_finalises_with_the_fifth() -> None:
    blocks = [(A, 1), (B, 1), (C, 1), (D, 1), (A, 2), (B, 3), (C, 4), (D, 5)]
    states = [(tally_of(*blocks[:count]).justified, tally_of(*blocks[:count]).final) for count in range(9)]
    assert states == [(0, 0), (0, 0), (0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 3), (6, 4)]


def test_with_one_member_a_block_is_final_at_once() -> None:
    one = Members(((A, 1),))
    assert [tally_of(*[(A, height) for height in range(1, count + 1)], members=one).final for count in range(4)] == [
        0, 1, 2, 3,
    ]  # fmt: skip


def test_two_of_three_equal_members_are_not_enough() -> None:
    three = Members(tuple((key, 1) for key in (A, B, C)))
    tally = tally_of(*[((A, B)[height % 2], max(1, height - 1)) for height in range(1, 12)], members=three)
    assert (tally.justified, tally.final) == (0, 0)


def test_blocks_that_confirm_nothing_count_for_nothing() -> None:
    tally = tally_of(*[((A, B, C, D)[height % 4], height + 1) for height in range(1, 20)])
    assert (tally.justified, tally.final, tally.ranges) == (0, 0, {})


def test_a_gap_keeps_a_supporter_from_reaching_back() -> None:
    """C comes back with a range that begins above what it confirmed before: it was elsewhere meanwhile."""
    start = [(A, 1), (B, 1), (C, 1)]  # height 1 is justified, completed at 3
    assert tally_of(*start, (A, 2), (B, 3)).final == 1
    assert tally_of(*start, (A, 2), (D, 5)).final == 0
    gap = tally_of(*start, (A, 5), (B, 3))
    assert gap.final == 0, "A reaches back only to its own gap"
    assert gap.justified == 1


def test_weights_count_not_heads() -> None:
    heavy = Members(((A, 5), (B, 1), (C, 1)))
    assert tally_of((A, 1), members=heavy).final == 1
    assert tally_of((B, 1), (C, 1), (B, 2), (C, 3), members=heavy).justified == 0


def test_across_a_change_of_members_both_sets_must_agree() -> None:
    """From height 3 on A, B, C, E produce. Height 3 needs three of the old four and three of the new four."""
    new = Members(tuple((key, 1) for key in (A, B, C, E)))
    tally = Tally.at(0).extended(1, A, 1, FOUR).extended(2, B, 1, FOUR)
    with_stranger = tally.extended(3, E, 1, new).extended(4, A, 2, new)
    assert with_stranger.justified == 0, "E counts for nothing in the old set, and D for nothing in the new one"
    with_both = with_stranger.extended(5, C, 1, new)
    assert with_both.justified == 2, "A, B and C cover 2 in the old set, which alone was in force there"
    assert with_both.extended(6, B, 3, new).justified == 4


def test_after_a_change_became_final_the_old_set_does_not_count_any_more() -> None:
    new = Members(tuple((key, 1) for key in (B, C, D, E)))
    tally = tally_of((A, 1), (B, 1), (C, 1), (D, 1))
    for height in range(5, 20):
        tally = tally.extended(height, (B, C, D, E)[height % 4], height - 3, new)
    assert [first for first, _ in tally.sets] == [5]
    assert tally.final == 19 - 4


@pytest.mark.parametrize("seed", range(40))
def test_the_tally_says_what_the_definition_says(seed: int) -> None:
    """A naive count over sets of heights, block after block, on random chains with gaps, empty and strange ranges."""
    dice = random.Random(seed)
    keys = [bytes([at]) * 32 for at in range(dice.choice((1, 3, 4, 5, 7)))]
    members = Members(tuple((key, dice.choice((1, 1, 1, 2))) for key in keys))
    weights, quorum = dict(members.seats), quorum_of(sum(weight for _, weight in members.seats))
    tally = Tally.at(0)
    covered: dict[bytes, set[int]] = {key: set() for key in keys}
    made: dict[bytes, list[int]] = {key: [] for key in keys}
    completed: dict[int, int] = {}
    final = justified = 0
    for height in range(1, 40):
        key = dice.choice(keys)
        first = max(covered[key], default=0) + 1 if dice.random() < 0.8 else dice.randint(1, height + 1)
        tally = tally.extended(height, key, first, members)
        if first <= height:
            covered[key].update(range(first, height + 1))
            made[key].append(height)
        for at in range(height, justified, -1):
            if sum(weights[key] for key in keys if at in covered[key]) >= quorum:
                justified, completed[at] = at, height
                break
        for at in sorted(completed, reverse=True):
            reaching = [
                key
                for key in keys
                if any(last >= completed[at] and covered[key] >= set(range(at, last + 1)) for last in made[key])
            ]
            if at > final and sum(weights[key] for key in reaching) >= quorum:
                final = at
                break
        assert (tally.justified, tally.final) == (justified, final), height


# --- every order of events ------------------------------------------------------------------------------------------


class OneSet(Tally):
    """Asks only the members in force at the block itself, whoever was in force before."""

    def _enough(self, height: int, reaching: int) -> bool:
        members = [members for first, members in self.sets if first <= height][-1]
        supporters = {
            key
            for key, held in self.ranges.items()
            if any(first <= height and last >= reaching for first, last in held)
        }
        return sum(weight for key, weight in members.seats if key in supporters) >= members.quorum


@dataclass(eq=False)
class Place:
    """A block of the little model below. ``above``: the members in force at its children."""

    height: int
    parent: Place | None
    tally: Tally
    above: Members

    def at(self, height: int) -> Place:
        place = self
        while place.height > height:
            assert place.parent is not None
            place = place.parent
        return place


def stays_one_chain(
    seed: int,
    *,
    n: int = 4,
    faulty: int = 1,
    changing: bool = False,
    lock: bool = True,
    ranges: bool = True,
    tally: type[Tally] = Tally,
) -> bool:
    """Whether no two final blocks conflict when producers are chosen, and choose what they build on, at random.

    No network, no time, no fork choice: a producer builds on any of two or three branches, whatever it has seen, as
    long as its two promises hold; faulty ones promise nothing. With ``changing`` each branch draws new members every
    four blocks, ``faulty`` of them faulty.
    """
    dice = random.Random(seed)
    keys = [bytes([at]) * 32 for at in range(2 * n + 1 if changing else n)]
    bad = set(dice.sample(keys, faulty + 1 if changing else faulty))

    def draw() -> Members:
        chosen = dice.sample(sorted(bad), faulty) + dice.sample([key for key in keys if key not in bad], n - faulty)
        return Members(tuple((key, 1) for key in sorted(chosen)))

    root = Place(0, None, tally.at(0), draw())
    tips = [root] * dice.choice((2, 2, 3))
    greatest = dict.fromkeys(keys, 0)
    locks = dict.fromkeys(keys, root)
    finals = [root]
    for _ in range(120):
        branch = dice.randrange(len(tips))
        parent = tips[branch]
        if dice.random() < 0.05:
            parent = parent.at(max(0, parent.height - dice.randint(1, 3)))
        key = dice.choice(parent.above.seats)[0] if dice.random() < 0.9 else dice.choice(keys)
        height = parent.height + 1
        if key in bad:
            first = dice.choice((1, height, parent.tally.final + 1, height + 1))
        else:
            first = min(height + 1, (greatest[key] if ranges else parent.tally.final) + 1)
            held = locks[key]
            on_chain = held.height <= parent.height and parent.at(held.height) is held
            if lock and not on_chain and parent.tally.justified <= held.height:
                first = height + 1
        above = draw() if changing and height % 4 == 0 else parent.above
        place = Place(height, parent, parent.tally.extended(height, key, first, parent.above), above)
        if first <= height and key not in bad:
            greatest[key] = max(greatest[key], height)
            if place.tally.justified > locks[key].height:
                locks[key] = place.at(place.tally.justified)
        tips[branch] = place
        final = place.at(place.tally.final)
        if any(max(final, other, key=_height).at(min(final.height, other.height)) is not min(final, other, key=_height)
               for other in finals if other is not final):  # fmt: skip
            return False
        if final not in finals:
            finals.append(final)
    return True


def _height(place: Place) -> int:
    return place.height


@pytest.mark.parametrize(
    "world",
    [{}, {"n": 1, "faulty": 0}, {"n": 3, "faulty": 0}, {"n": 7, "faulty": 2}, {"changing": True},
     {"changing": True, "n": 7, "faulty": 2}],
    ids=str,
)  # fmt: skip
def test_no_order_of_events_makes_two_branches_final(world: dict[str, Any]) -> None:
    conflicts = [seed for seed in range(60) if not stays_one_chain(seed, **world)]
    assert not conflicts


@pytest.mark.parametrize(
    "fault",
    [{"lock": False}, {"ranges": False}, {"faulty": 2}, {"changing": True, "tally": OneSet}],
    ids=["a lock that does not hold", "ranges that overlap", "too many faulty", "one set of members"],
)
def test_each_of_the_rules_is_needed(fault: dict[str, Any]) -> None:
    """The check can fail, and does without any one of the rules that the argument rests on."""
    assert not all(stays_one_chain(seed, **fault) for seed in range(100))


# --- hostile worlds -------------------------------------------------------------------------------------------------

BAD_MS = 40_000


@dataclass
class Weather:
    """How messages fare until it clears. Twins are heard by one half each, split anew every few seconds."""

    loss: float
    slowest_ms: int
    partitions: list[tuple[int, int, int]]
    twins: dict[int, Seat]
    split_seed: int
    clears: bool

    def __call__(self, world: ChainWorld, source: Seat, target: Seat, message: Message) -> int | None:
        dice = world.random
        if self.clears and world.now_ms >= BAD_MS:
            return dice.randint(5, 60)
        twin = self.twins.get(source.index)
        if twin is not None:
            side = ((world.now_ms // 7_000) * 2_654_435_761 + self.split_seed) >> (target.index + 3) & 1
            if (source is twin) != bool(side):
                return None
        for from_ms, to_ms, side_bits in self.partitions:
            if from_ms <= world.now_ms < to_ms and (side_bits >> source.index & 1) != (side_bits >> target.index & 1):
                return None
        if not isinstance(message, WantBranch) and dice.random() < self.loss:
            return None
        return dice.randint(1, self.slowest_ms)


class Overlapping(ChainEngine):
    """Confirms heights again that it has confirmed on another fork."""

    def _first_unconfirmed(self) -> int:
        return self.final.height + 1


def run_schedule(
    seed: int, engine: str, *, engine_class: type[ChainEngine] = ChainEngine, n: int | None = None, clears: bool = True
) -> ChainWorld:
    """One schedule, judged at the end. AssertionError if anything that must hold does not.

    ``clears``: at last the weather is good, and everybody must make progress; otherwise it is as bad as it gets.
    """
    n = n or (4, 4, 5, 7)[seed % 4]
    world = ChainWorld(engine, n, seed=seed, engine_class=engine_class)
    dice = world.random
    villains = dice.sample(range(n), dice.randint(0, faulty_of(n)) if clears else faulty_of(n))
    weather = Weather(
        loss=dice.choice((0.0, 0.05, 0.3)),
        slowest_ms=dice.choice((100, 900, 3_000)),
        partitions=[],
        twins={},
        split_seed=dice.getrandbits(40),
        clears=clears,
    )
    for _ in range(dice.randint(0, 4) if clears else 8):
        from_ms = dice.randint(0, BAD_MS)
        weather.partitions.append((from_ms, from_ms + dice.randint(2_000, 15_000), dice.getrandbits(n)))
    world.link = weather
    honest = [seat for seat in world.seats if seat.index not in villains]
    for index in villains:
        if dice.random() < 0.8 or not clears:
            weather.twins[index] = world.add_twin(world.seats[index])
            world.start([world.seats[index], weather.twins[index]])
    world.start(honest)
    for number in range(30):
        world.at(number * 1_300, lambda number=number: world.submit(bytes([number + 1]) * 32))  # type: ignore[misc]
    for _ in range(dice.randint(0, 3)):
        seat, at_ms = dice.choice(honest), dice.randint(0, BAD_MS)
        seat.crash_at_persist = dice.randint(1, 30)
        for pause_ms in range(0, BAD_MS, 4_000):
            world.at(
                at_ms + pause_ms,
                lambda seat=seat: world.boot(seat) if seat.engine is None else None,  # type: ignore[misc]
            )
    for greeting in range(BAD_MS, BAD_MS + 8_000, 2_000):
        world.at(greeting, world.greet)
    world.run(BAD_MS)
    height = max(seat.finals[-1].height for seat in honest)
    if clears:
        world.run(40_000)

    assert disagreement(honest) is None, disagreement(honest)
    assert not any(seat.contradictions for seat in honest), "an alarm"
    for seat in honest if engine_class is ChainEngine else ():
        assert broken_promise(world.toy.rule, seat.key, seat.disk) is None, broken_promise(
            world.toy.rule, seat.key, seat.disk
        )
        assert not seat.offences, seat.offences
        for found in seat.evidence:
            culprit = check_evidence(found.first, found.second, NETWORK, lambda epoch: None)
            assert not isinstance(culprit, str), culprit
            assert culprit.key in {world.seats[index].key for index in villains}, "evidence against an honest one"
            assert Evidence.decode(Evidence(found.kind, found.first, found.second).encode())
    if clears:
        assert min(seat.finals[-1].height for seat in honest) > height, "no progress after the weather cleared"
    return world


@pytest.mark.parametrize("engine", ["dpos", "poa"])
@pytest.mark.parametrize("block", range(4))
def test_random_worlds_agree_and_go_on(engine: str, block: int) -> None:
    for seed in range(block * 6, block * 6 + 6):
        try:
            run_schedule(seed, engine)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("engine", ["dpos", "poa"])
def test_twins_leave_evidence(engine: str) -> None:
    found = 0
    for seed in range(3):
        world = run_schedule(seed, engine, n=4, clears=False)
        found += sum(bool(seat.evidence) for seat in world.seats)
    assert found


def test_overlapping_ranges_are_noticed_in_the_world_too() -> None:
    def run_until_caught() -> None:
        for seed in (42, *range(200)):
            for engine in ("dpos", "poa"):
                run_schedule(seed, engine, engine_class=Overlapping, n=4, clears=False)

    with pytest.raises(AssertionError, match=r"holds another final block|an alarm"):
        run_until_caught()
