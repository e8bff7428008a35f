"""Villains that contradict themselves: honest engines catch them, and make evidence that convicts them offline."""

from __future__ import annotations

from collections import Counter

import pytest

from p2pledger.consensus.engine import BlockRef, Evidence, Proposal
from p2pledger.primitives.evidence import Culprit, EvidenceKind, check_evidence
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.validators import Validators
from p2pledger.primitives.votes import Vote, VoteKind
from tests.consensus.world import (
    NETWORK,
    Message,
    Seat,
    World,
    all_ordered,
    disagreement,
    make_block,
    make_certificate,
    make_vote,
    votes_on,
)

NOTARISE, NULLIFY, FINALISE = VoteKind.NOTARISE, VoteKind.NULLIFY, VoteKind.FINALISE
TRADE, OTHER_TRADE = b"\x01" * 32, b"\x02" * 32


def convicted(world: World, found: Evidence) -> bytes:
    """The key that this evidence convicts, by the very check that the ledger makes."""

    def validators_of(epoch: int) -> Validators | None:
        return world.validators if epoch == 0 else None

    culprit = check_evidence(found.first, found.second, NETWORK, validators_of)
    assert isinstance(culprit, Culprit), culprit
    assert culprit.kind is EvidenceKind.VOTES is found.kind
    return culprit.key


def accusers(world: World, villain: Seat) -> list[int]:
    """The honest seats that hold evidence; all of it must be against the villain."""
    honest = [seat for seat in world.seats if seat is not villain and seat.engine is not None]
    for seat in honest:
        assert {convicted(world, found) for found in seat.evidence} <= {villain.key}
    return [seat.index for seat in honest if seat.evidence]


def two_blocks(world: World, view: int = 1) -> list[Proposal]:
    """Two proposals of the leader of a view on the genesis."""
    root, leader = BlockRef.of(world.genesis.header), world.validators.leader(view)
    blocks = [make_block(world.validators, view, root, time_ms=time_ms) for time_ms in (2, 3)]
    return [Proposal(block, make_vote(world.keypairs, leader, NOTARISE, view, block.id)) for block in blocks]


@pytest.mark.parametrize("told_otherwise", [[2], [0, 2], [0, 2, 3]])
def test_a_leader_that_sends_different_blocks_to_different_peers_is_convicted(told_otherwise: list[int]) -> None:
    """Each peer sees one proposal only. What the peers say to each other is enough."""
    world = World(4)
    villain, honest = world.seats[1], [world.seats[index] for index in (0, 2, 3)]
    world.start(honest)
    proposals = two_blocks(world)
    for seat in honest:
        world.deliver(villain, seat, proposals[seat.index in told_otherwise])
    world.submit(TRADE, honest)
    world.run(until_ms=60_000)
    assert disagreement(honest) is None
    assert all_ordered(honest)
    assert bool(accusers(world, villain)) is (len(told_otherwise) < 3)


def test_who_was_told_otherwise_convicts_the_leader_with_the_certificate_of_the_others() -> None:
    """The others notarise and finalise at full speed and never see the second block; the one that did sees both."""
    world = World(4)
    villain, honest = world.seats[1], [world.seats[index] for index in (0, 2, 3)]
    world.start(honest)
    common, special = two_blocks(world)
    for seat in honest:
        world.deliver(villain, seat, special if seat.index == 3 else common)
    certificate = make_certificate(world.keypairs, (0, 1, 2), NOTARISE, 1, common.block.id)
    world.deliver(world.seats[0], world.seats[3], certificate)
    assert accusers(world, villain) == [3]


@pytest.mark.parametrize("audience", [[0], [2], [0, 2], [3]])
def test_a_leader_that_withholds_its_block_from_most_delays_its_own_view_and_no_other(audience: list[int]) -> None:
    """Sent to too few: they pass it on with their own votes, so either it gets notarised or the view is nullified."""

    def withholding(world: World, source: Seat, target: Seat, message: Message) -> int | None:
        return None if source.index == 1 and isinstance(message, Proposal) and target.index not in audience else 10

    world = World(4, link=withholding)
    world.start()
    for number in range(8):
        world.at(number * 200, lambda number=number: world.submit(bytes([number + 1]) * 32))
    world.run(until_ms=60_000)
    assert disagreement(world.seats) is None
    assert all_ordered(world.seats)
    assert accusers(world, world.seats[1]) == [], "to withhold is no contradiction"
    assert [seat.timer for seat in world.seats] == [None] * 4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((NOTARISE, b"a" * 32), (NOTARISE, b"b" * 32)),
        ((FINALISE, b"a" * 32), (FINALISE, b"b" * 32)),
        ((FINALISE, b"a" * 32), (NULLIFY, ZERO_HASH)),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_double_votes_are_evidence_wherever_both_arrive(
    first: tuple[VoteKind, bytes], second: tuple[VoteKind, bytes], turned: bool
) -> None:
    world = World(4)
    villain, honest = world.seats[3], world.seats[:3]
    world.start(honest)
    words = (second, first) if turned else (first, second)
    for seat in honest:
        for kind, block in words[: 2 if seat.index < 2 else 1]:
            world.deliver(villain, seat, make_vote(world.keypairs, 3, kind, 1, block))
    assert accusers(world, villain) == [0, 1], "one vote alone is none"
    for seat in honest[:2]:
        assert len(seat.evidence) == 1, "said once"


def test_a_vote_against_an_own_signature_in_a_certificate_is_evidence_in_both_orders() -> None:
    """The villain's finalise vote is seen in a certificate only, its vote to nullify only as a vote."""
    block = two_blocks(World(4))[0].block
    for certificate_first in (True, False):
        world = World(4)
        villain, seat = world.seats[3], world.seats[0]
        world.start([seat])
        messages: list[Message] = [
            make_certificate(world.keypairs, (1, 2, 3), NOTARISE, 1, block.id),
            make_vote(world.keypairs, 3, NOTARISE, 1, b"x" * 32),
        ]
        for message in messages if certificate_first else reversed(messages):
            world.deliver(world.seats[1], seat, message)
        assert accusers(world, villain) == [0]


def test_a_forged_vote_against_a_certificate_accuses_nobody() -> None:
    world = World(4)
    seat = world.seats[0]
    world.start([seat])
    block = two_blocks(world)[0].block
    world.deliver(world.seats[1], seat, make_certificate(world.keypairs, (1, 2, 3), NOTARISE, 1, block.id))
    world.deliver(world.seats[2], seat, Vote(0, 1, NOTARISE, b"x" * 32, 3, bytes(64)))
    assert not seat.evidence
    assert [offence.sender for offence in seat.offences] == [world.seats[2].key]


@pytest.mark.parametrize("seed", [1, 3, 5, 7])
def test_a_villain_that_runs_its_key_twice_is_convicted_in_time(seed: int) -> None:
    """Two well-behaved copies of one validator, each heard by half of the others, with work of their own."""
    world = World(4, seed=seed)
    villain = world.seats[seed % 4]
    twin = world.add_twin(villain)

    def halves(world: World, source: Seat, target: Seat, message: Message) -> int | None:
        if source.index == villain.index:
            view = message.vote.view if isinstance(message, Proposal) else message.view
            if (source is twin) != bool((view + target.index) % 2):
                return None
        return world.random.randint(5, 40)

    world.link = halves
    world.start()
    for number in range(30):
        one = bytes([number + 1]) * 32
        for seat in world.seats:
            world.at(number * 300 + (150 if seat is twin else 0), lambda seat=seat, one=one: world.submit(one, [seat]))
    world.run(until_ms=120_000)
    honest = [seat for seat in world.seats if seat.index != villain.index]
    assert disagreement(honest) is None
    assert all_ordered(honest)
    for seat in honest:
        assert {convicted(world, found) for found in seat.evidence} <= {villain.key}
    votes = {vote.encode(): vote for copy in (villain, twin) for vote in votes_on(copy.disk)}.values()
    proposed = Counter(vote.view for vote in votes if vote.kind is NOTARISE)
    assert max(proposed.values()) == 2, "it did contradict itself"
    assert any(seat.evidence for seat in honest)
