"""Fetching a branch from above, and the chain from below: whom to ask for what, without any peer around."""

from __future__ import annotations

import pytest

from p2pledger import core
from p2pledger.network.admission import Admission
from p2pledger.network.allowance import Allowance
from p2pledger.network.branches import Branches
from p2pledger.network.conduct import LIMIT_POINTS, Conduct
from p2pledger.network.effects import VALIDATOR, Identity
from p2pledger.network.session import PeerSession
from p2pledger.network.sync import Sync
from p2pledger.primitives.blocks import Block, Header
from p2pledger.primitives.errors import PeerFault
from tests.network.small_network import NODE_KEYS, genesis_of

ZERO = bytes(32)
PEER, OTHER = b"p" * 32, b"q" * 32


def chain_of(length: int) -> list[Block]:
    blocks: list[Block] = []
    parent = ZERO
    for height in range(1, length + 1):
        header = Header(
            bytes(8), 0, height, height, parent, height, ZERO, core.merkle_root([]), ZERO, ZERO, ZERO, proof=b"!"
        )
        blocks.append(Block(header, ()))
        parent = header.id
    return blocks


CHAIN = chain_of(300)


def data_of(blocks: list[Block]) -> tuple[bytes, ...]:
    return tuple(block.encode() for block in blocks)


# --- branches -------------------------------------------------------------------------------------------------------


def test_a_branch_comes_in_pieces_and_is_handed_over_whole_oldest_first() -> None:
    branches, known = Branches(), {block.id for block in CHAIN[:50]}
    assert branches.want(PEER, CHAIN[299].id, 0) == CHAIN[299].id
    blocks, more = branches.came(PEER, data_of(CHAIN[172:300][::-1]), 10, known.__contains__)
    assert (blocks, more) == ([], CHAIN[171].id)
    blocks, more = branches.came(PEER, data_of(CHAIN[44:172][::-1]), 20, known.__contains__)
    assert (blocks, more) == (CHAIN[50:300], None)
    assert branches.next_due_ms is None


def test_a_peer_that_is_busy_is_asked_for_the_newest_wish_afterwards() -> None:
    branches, known = Branches(), {CHAIN[0].id}
    assert branches.want(PEER, CHAIN[2].id, 0) is not None
    assert branches.want(PEER, CHAIN[5].id, 0) is None
    assert branches.want(PEER, CHAIN[6].id, 0) is None
    assert branches.want(OTHER, CHAIN[5].id, 0) == CHAIN[5].id, "another peer is not busy"
    blocks, more = branches.came(PEER, data_of(CHAIN[1:3][::-1]), 10, known.__contains__)
    assert (blocks, more) == (CHAIN[1:3], CHAIN[6].id)


@pytest.mark.parametrize("datas", [data_of([CHAIN[3]]), data_of([CHAIN[5], CHAIN[3]]), data_of([CHAIN[5], CHAIN[5]])])
def test_a_piece_that_is_not_what_was_asked_for_is_an_offence(datas: tuple[bytes, ...]) -> None:
    branches = Branches()
    branches.want(PEER, CHAIN[5].id, 0)
    with pytest.raises(PeerFault) as caught:
        branches.came(PEER, datas, 1, lambda name: False)
    assert caught.value.code == "bad_branch"


def test_what_does_not_come_is_given_up_and_counted() -> None:
    branches = Branches()
    branches.want(PEER, CHAIN[5].id, 0)
    assert branches.came(PEER, (), 1, lambda name: False) == ([], None)
    branches.want(PEER, CHAIN[5].id, 0)
    branches.late(1_999)
    assert branches.next_due_ms == 2_000
    branches.late(2_000)
    assert branches.next_due_ms is None
    assert branches.given_up == 2


def test_a_slow_peer_is_no_offender_and_its_late_piece_counts() -> None:
    branches = Branches()
    known = {CHAIN[3].id}
    branches.want(PEER, CHAIN[5].id, 0)
    branches.late(2_000)
    # Another block is wanted by now, and the old answer comes first.
    assert branches.want(PEER, CHAIN[7].id, 2_002) == CHAIN[7].id
    late = data_of([CHAIN[5], CHAIN[4]])
    assert branches.came(PEER, late, 2_003, known.__contains__) == ([CHAIN[4], CHAIN[5]], CHAIN[7].id)
    known |= {CHAIN[4].id, CHAIN[5].id}
    assert branches.came(PEER, data_of([CHAIN[7], CHAIN[6]]), 2_004, known.__contains__) == ([CHAIN[6], CHAIN[7]], None)


def test_an_answer_that_comes_again_changes_nothing() -> None:
    branches, known = Branches(), {CHAIN[3].id}
    branches.want(PEER, CHAIN[5].id, 0)
    answer = data_of([CHAIN[5], CHAIN[4]])
    assert branches.came(PEER, answer, 1, known.__contains__) == ([CHAIN[4], CHAIN[5]], None)
    branches.want(PEER, CHAIN[7].id, 2)
    assert branches.came(PEER, answer, 3, known.__contains__) == ([], None)
    assert branches.came(PEER, data_of([CHAIN[7], CHAIN[6]]), 4, {CHAIN[5].id}.__contains__)[0] == CHAIN[6:8]


def test_what_was_never_asked_for_is_an_offence_whenever_it_comes() -> None:
    branches = Branches()
    with pytest.raises(PeerFault):
        branches.came(PEER, data_of([CHAIN[2]]), 1, lambda name: False)
    branches.want(PEER, CHAIN[5].id, 2)
    branches.lost(PEER)
    with pytest.raises(PeerFault):
        branches.came(PEER, data_of([CHAIN[5]]), 3, lambda name: False)


# --- sync -----------------------------------------------------------------------------------------------------------


def sessions(**heights: int) -> dict[bytes, PeerSession]:
    found = {}
    for number, (name, height) in enumerate(heights.items()):
        key = name.encode() * 32
        found[key] = PeerSession(number, Identity(key, VALIDATOR, name), height)
    return found


def test_pieces_follow_each_other_while_they_are_executed() -> None:
    sync, peers = Sync(is_proved=False), sessions(a=500)
    executed: set[bytes] = set()
    asked = sync.request(peers, 0, 0, 0, executed.__contains__)
    assert asked is not None
    assert asked[1] == 1
    assert sync.request(peers, 0, 0, 100, executed.__contains__) is None, "one wish at a time"
    assert sync.came(b"a" * 32, b"x" * 32, 256, 200)
    assert not sync.came(b"b" * 32, b"y" * 32, 256, 200), "nobody asked this one"
    assert sync.request(peers, 100, 90, 2_000, executed.__contains__) is None, "it goes on"
    executed.add(b"x" * 32)
    asked = sync.request(peers, 256, 250, 2_100, executed.__contains__)
    assert asked is not None
    assert asked[1] == 257
    assert sync.request(peers, 500, 490, 2_200, executed.__contains__) is None
    assert not sync.is_waiting


def test_who_brings_nothing_is_not_believed_any_more() -> None:
    sync, peers = Sync(is_proved=False), sessions(a=10**9, b=5)
    first = sync.request(peers, 0, 0, 0, lambda name: False)
    assert first is not None
    assert first[0].key == b"a" * 32
    second = sync.request(peers, 0, 0, 2_000, lambda name: False)
    assert second is not None
    assert second[0].key == b"b" * 32
    assert peers[b"a" * 32].final_height == 0


def test_a_silent_validator_is_passed_over_and_asked_again_in_turn() -> None:
    sync, peers = Sync(is_proved=True), sessions(a=9, b=9)
    asked = [sync.request(peers, 0, 0, at, lambda name: False) for at in (0, 2_000, 4_000)]
    assert [each[0].identity.name for each in asked if each is not None] == ["a", "b", "a"]
    assert peers[b"a" * 32].final_height == 9


def test_who_brings_the_chain_forward_is_asked_again_before_those_who_only_claim() -> None:
    sync, peers, executed = Sync(is_proved=False), sessions(a=10**9, b=2_000, c=10**9), set[bytes]()
    asked = sync.request(peers, 0, 0, 0, executed.__contains__)
    assert asked is not None
    assert asked[0].key == b"a" * 32
    asked = sync.request(peers, 0, 0, 2_000, executed.__contains__)
    for height in range(256, 2_001, 256):
        assert asked is not None
        assert asked[0].key == b"b" * 32
        peers[b"a" * 32].final_height = 10**9  # It claims it again and again.
        name = height.to_bytes(32, "big")
        assert sync.came(b"b" * 32, name, height, 2_000)
        executed.add(name)
        asked = sync.request(peers, height, height - 5, 2_000, executed.__contains__)


def test_who_brings_what_is_known_is_not_asked_for_ever() -> None:
    sync, peers = Sync(is_proved=False), sessions(a=10**9, b=2_000)
    first = sync.request(peers, 100, 90, 0, lambda name: True)
    assert first is not None
    assert sync.came(first[0].key, b"x" * 32, 50, 10, is_news=False)
    second = sync.request(peers, 100, 90, 20, lambda name: True)
    assert second is not None
    assert second[0].key == b"b" * 32


# --- conduct, allowance, admission ----------------------------------------------------------------------------------


def test_offences_add_up_and_fade() -> None:
    conduct = Conduct()
    assert [conduct.offend(PEER, "bad_content", 0) for _ in range(4)] == [25, 50, 75, LIMIT_POINTS]
    assert conduct.offend(OTHER, "from_the_future", 0) == 5
    assert conduct.is_shunned(PEER, 99_999)
    assert not conduct.is_shunned(PEER, 102_000)
    assert conduct.offend(OTHER, "malformed", 0, is_grave=True) > LIMIT_POINTS
    assert conduct.offences == 6


def test_what_may_be_a_wrong_clock_never_ends_a_session_by_itself() -> None:
    """A miner can date its blocks so that half of the honest take them, and pass them on to the other half."""
    conduct = Conduct()
    points = [conduct.offend(PEER, "from_the_future", 0) for _ in range(100)]
    assert points[:3] == [5, 10, 15]
    assert 2 * points[-1] < LIMIT_POINTS
    assert not conduct.is_shunned(PEER, 0)
    assert conduct.offend(PEER, "bad_content", 0) == points[-1] + 25, "it counts beside what cannot be luck"
    assert conduct.offend(PEER, "from_the_future", 0) == points[-1] + 25


def test_the_list_of_offenders_is_bounded_and_keeps_the_worst() -> None:
    conduct = Conduct()
    conduct.offend(PEER, "malformed", 0, is_grave=True)
    for number in range(1_100):
        conduct.offend(number.to_bytes(32, "big"), "from_the_future", 0)
    assert conduct.points(PEER, 0) == LIMIT_POINTS
    assert sum(conduct.points(number.to_bytes(32, "big"), 0) > 0 for number in range(1_100)) == 1_023


def test_an_allowance_is_used_up_and_comes_back_with_time() -> None:
    allowance = Allowance()
    assert allowance.take(4_096, 1_000)
    assert not allowance.take(0, 1_000), "an empty answer costs something too"
    assert allowance.take(1_024, 2_000)
    assert not allowance.take(1, 2_000)
    assert allowance.refused == 2


def test_seats_open_and_close_the_door() -> None:
    seats: set[bytes] = set()
    admission = Admission(genesis_of(), NODE_KEYS[0].public_key, seats.__contains__)
    identity = Identity(PEER, VALIDATOR, "joiner")
    assert admission.judge(identity) == ("not_a_validator", "this key is not a validator's")
    seats.add(PEER)
    assert admission.judge(identity) is None
    assert not admission.is_open
