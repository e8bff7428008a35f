"""Finding whom to call: one node's rules by themselves, then whole networks in which everybody knows one seed.

The network here is a table of who listens where; no sockets, and a clock that jumps from one due time to the next.
"""

from __future__ import annotations

import itertools

import pytest

from p2pledger.network.addressbook import AddressBook, Endpoint
from p2pledger.network.discovery import Discovery
from p2pledger.network.effects import Dial
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.messages import MAX_ADDRESSES, Addresses

NOW_MS = 1_000_000_000_000
MINUTE_MS = 60_000
SEED = ("seed.example.org", 4_000)


def at(number: int) -> tuple[str, int]:
    """Each in a network group of its own."""
    return f"{60 + number // 256}.{number % 256}.0.1", 4_000


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def endpoint(number: int) -> Endpoint:
    found = Endpoint.of(*at(number))
    assert found is not None
    return found


def discovery(
    number: int = 0, *, degree: int = 3, seeds: tuple[tuple[str, int], ...] = (), bans: bool = True
) -> Discovery:
    book = AddressBook(number.to_bytes(32, "big"))
    return Discovery(book, seeds=seeds, degree=degree, port=4_000, bans=bans)


def dialled(found: Discovery, now_ms: int) -> list[tuple[str, int]]:
    dials, _, _ = found.look(now_ms)
    return [(dial.host, dial.port) for dial in dials]


def knowing(count: int, *, degree: int = 3, bans: bool = True) -> Discovery:
    found = discovery(degree=degree, bans=bans)
    for number in range(1, count + 1):
        found.book.hear(endpoint(number), endpoint(number), NOW_MS)
    return found


# --- whom it calls --------------------------------------------------------------------------------------------------


def test_with_nobody_in_the_book_the_seed_is_called_and_ever_more_rarely() -> None:
    found, now_ms, calls_ms = discovery(seeds=(SEED,)), NOW_MS, []
    for _ in range(2_000):
        for place in dialled(found, now_ms):
            assert place == SEED
            calls_ms.append(now_ms)
            found.failed(place, "cannot_connect", b"", now_ms)
        assert found.due_ms > now_ms
        now_ms = found.due_ms
    gaps = [later - earlier for earlier, later in itertools.pairwise(calls_ms)]
    assert gaps[0] < 12_000
    assert 5 * MINUTE_MS <= gaps[-1] < 6 * MINUTE_MS


def test_it_calls_until_it_has_as_many_as_it_wants() -> None:
    found = knowing(20, degree=6)
    calls = dialled(found, NOW_MS)
    assert len(set(calls)) == 6
    for number, place in enumerate(calls):
        assert found.opened(key(number), place, place, NOW_MS) == ""
    assert dialled(found, NOW_MS + 10_000) == []


def test_whoever_calls_in_masses_does_not_keep_it_from_calling_others() -> None:
    found = knowing(20, degree=6)
    for number in range(100):
        found.opened(key(1_000 + number), ("11.0.0.1", 50_000 + number), None, NOW_MS)
    assert len(dialled(found, NOW_MS)) == 4, "two thirds of six"


def test_on_the_internet_no_two_calls_go_to_one_group() -> None:
    found = discovery(degree=6)
    for number in range(1, 60):
        near = Endpoint.of(f"60.7.0.{number}", 4_000)
        assert near is not None
        found.book.hear(near, near, NOW_MS)
    assert len(dialled(found, NOW_MS)) == 1
    local = discovery(degree=6)
    for number in range(1, 30):
        near = Endpoint.of(f"127.0.0.{number}", 4_000)
        assert near is not None
        local.book.hear(near, near, NOW_MS)
    assert len(dialled(local, NOW_MS)) == 6, "on one machine all are in one group"


def test_who_is_connected_or_of_another_network_or_oneself_is_not_called_again() -> None:
    found = knowing(3)
    calls = dialled(found, NOW_MS)
    assert len(calls) == 3
    found.failed(calls[0], "own_key", b"", NOW_MS)
    found.failed(calls[1], "wrong_network", b"", NOW_MS)
    assert len(found.book) == 1
    # The third has called in the meantime: the session is there, and now it is known where it listens.
    found.opened(key(3), ("60.3.0.1", 50_000), None, NOW_MS)
    found.failed(calls[2], "duplicate_session", key(3), NOW_MS)
    assert found.book.tried_count == 1
    for minutes in range(1, 30):
        assert dialled(found, NOW_MS + minutes * MINUTE_MS) == []


def test_anchors_come_first_after_a_restart() -> None:
    found = knowing(50)
    calls = dialled(found, NOW_MS)
    for number, place in enumerate(calls):
        found.opened(key(number), place, place, NOW_MS)
    found.look(NOW_MS + 5_000)
    book = AddressBook.decode(found.book.encode())
    again = Discovery(book, degree=3)
    assert dialled(again, NOW_MS + 10_000)[:2] == calls[:2]


def test_somebody_new_is_tested_now_and_then_and_left_again() -> None:
    found = knowing(10)
    for number, place in enumerate(dialled(found, NOW_MS)):
        found.opened(key(100 + number), place, place, NOW_MS)
    found.look(NOW_MS + 1_000)
    tried = found.book.tried_count
    [place] = dialled(found, NOW_MS + 5 * MINUTE_MS)
    assert found.opened(key(1), place, place, NOW_MS + 5 * MINUTE_MS) == "tested"
    assert found.book.tried_count == tried + 1


def test_a_seed_is_left_in_peace_when_there_are_others_enough() -> None:
    found = discovery(seeds=(SEED,))
    assert dialled(found, NOW_MS) == [SEED]
    found.opened(key(99), ("61.0.0.1", 4_000), SEED, NOW_MS)
    for number in (1, 2):
        found.book.hear(endpoint(number), endpoint(number), NOW_MS)
    for number, place in enumerate(dialled(found, NOW_MS + 2_000)):
        found.opened(key(number), place, place, NOW_MS + 2_000)
        assert found.look(NOW_MS + 2_000)[2] == []
    found.opened(key(3), ("60.3.0.1", 50_000), None, NOW_MS + 3_000)
    assert found.look(NOW_MS + 3_000)[2] == [key(99)]


def test_who_behaves_badly_is_forgotten_for_an_hour_where_anybody_may_come() -> None:
    for bans in (True, False):
        found = knowing(1, bans=bans)
        [place] = dialled(found, NOW_MS)
        found.opened(key(1), place, place, NOW_MS)
        found.offended(key(1), NOW_MS)
        found.closed(key(1), NOW_MS)
        assert (len(found.book) == 0) == bans
        assert (dialled(found, NOW_MS + 2_000) == []) == bans
    found.opened(key(2), at(2), None, NOW_MS)
    found.offended(key(2), NOW_MS)  # where it listens is not known, so nothing is to be forgotten


# --- asking and answering -------------------------------------------------------------------------------------------


def test_addresses_are_asked_of_whom_it_has_called_and_of_nobody_else() -> None:
    found = knowing(1)
    [place] = dialled(found, NOW_MS)
    found.opened(key(1), place, place, NOW_MS)
    found.opened(key(2), ("60.2.0.1", 50_000), None, NOW_MS)
    _, asks, _ = found.look(NOW_MS)
    assert [(whom, message.port) for whom, message in asks] == [(key(1), 4_000)]
    told = Addresses((endpoint(3).encode(), endpoint(4).encode()))
    with pytest.raises(PeerFault) as unasked:
        found.answered(key(2), told, NOW_MS)
    assert unasked.value.code == "unasked"
    found.answered(key(1), told, NOW_MS)
    assert endpoint(3) in found.book
    assert endpoint(4) in found.book
    with pytest.raises(PeerFault):
        found.answered(key(1), told, NOW_MS)
    assert len(found.look(NOW_MS + 3_000)[1]) == 1, "sessions are lacking: it asks again soon"
    with pytest.raises(PeerFault) as bad:
        found.answered(key(1), Addresses((bytes(7),)), NOW_MS + 3_000)
    assert bad.value.code == "malformed"


def test_a_question_is_answered_once_a_second_and_says_where_the_asker_listens() -> None:
    found = knowing(400)
    found.opened(key(5), ("62.1.0.1", 50_000), None, NOW_MS)
    answer = found.asked(key(5), 4_001, NOW_MS)
    assert answer is not None
    assert 0 < len(answer.addresses) <= MAX_ADDRESSES
    assert found.asked(key(5), 4_001, NOW_MS + 999) is None
    assert found.asked(key(5), 0, NOW_MS + 1_000) is not None
    asker = Endpoint.of("62.1.0.1", 4_001)
    assert asker is not None
    assert asker in found.book
    assert found.asked(key(6), 4_001, NOW_MS) is None


def test_what_is_of_a_private_network_is_told_to_nobody_outside() -> None:
    found = discovery()
    for host in ("10.0.0.1", "127.0.0.1", "60.1.0.1"):
        there = Endpoint.of(host, 4_000)
        assert there is not None
        found.book.hear(there, there, NOW_MS)
    found.opened(key(1), ("62.1.0.1", 50_000), None, NOW_MS)
    found.opened(key(2), ("127.0.0.1", 50_000), None, NOW_MS)
    outside, inside = found.asked(key(1), 0, NOW_MS), found.asked(key(2), 0, NOW_MS)
    assert outside is not None
    assert outside.addresses == (endpoint(1).encode(),)
    assert inside is not None
    assert len(inside.addresses) == 3


# --- whole networks -------------------------------------------------------------------------------------------------


class Network:
    """Nodes that listen at ``at(number)``; node 0 is the seed. Calls take no time; the clock goes from due to due."""

    def __init__(self, count: int, *, degree: int) -> None:
        self.now_ms = NOW_MS
        seeds = (at(0),)
        self.nodes = [discovery(number, degree=degree, seeds=seeds if number else ()) for number in range(count)]
        self.sessions: set[frozenset[int]] = set()
        self.alive = set(range(count))
        self.calls = 0
        self.number = {at(number): number for number in range(count)}

    def run(self, until_ms: int) -> None:
        while (due_ms := min(self.nodes[number].due_ms for number in self.alive)) <= until_ms:
            self.now_ms = max(self.now_ms, due_ms)
            for number in sorted(self.alive):
                if self.nodes[number].due_ms <= self.now_ms:
                    self.step(number)

    def step(self, number: int) -> None:
        node, now_ms = self.nodes[number], self.now_ms
        dials, asks, introduced = node.look(now_ms)
        for dial in dials:
            self.call(number, dial)
        for whom, message in asks:
            other = self.nodes[int.from_bytes(whom, "big")]
            answer = other.asked(key(number), message.port, now_ms)
            if answer is not None:
                node.answered(whom, answer, now_ms)
        for whom in introduced:
            self.hang_up(number, int.from_bytes(whom, "big"))

    def call(self, number: int, dial: Dial) -> None:
        self.calls += 1
        node, place = self.nodes[number], (dial.host, dial.port)
        callee = self.number.get(place)
        if callee is None or callee not in self.alive:
            node.failed(place, "cannot_connect", b"", self.now_ms)
        elif callee == number:
            node.failed(place, "own_key", b"", self.now_ms)
        elif frozenset((number, callee)) in self.sessions:
            node.failed(place, "duplicate_session", key(callee), self.now_ms)
        elif node.opened(key(callee), place, place, self.now_ms) == "":
            self.sessions.add(frozenset((number, callee)))
            self.nodes[callee].opened(key(number), (at(number)[0], 50_000), None, self.now_ms)

    def hang_up(self, one: int, other: int) -> None:
        self.sessions.remove(frozenset((one, other)))
        self.nodes[one].closed(key(other), self.now_ms)
        self.nodes[other].closed(key(one), self.now_ms)

    def kill(self, number: int) -> None:
        for pair in [pair for pair in self.sessions if number in pair]:
            self.hang_up(*pair)
        self.alive.remove(number)

    def degrees(self) -> dict[int, int]:
        return {number: sum(number in pair for pair in self.sessions) for number in self.alive}

    @property
    def is_connected(self) -> bool:
        reached, front = set[int](), {min(self.alive)}
        while front:
            reached |= front
            front = {other for pair in self.sessions if pair & front for other in pair} - reached
        return reached == self.alive


def test_everybody_finds_enough_others_and_the_seed_is_not_the_hub() -> None:
    network = Network(60, degree=4)
    network.run(NOW_MS + 2 * MINUTE_MS)
    degrees = network.degrees()
    assert min(degrees.values()) >= 4
    assert network.is_connected
    assert degrees[0] < 20, "whoever found others left the seed in peace"
    calls = network.calls
    network.run(NOW_MS + 4 * MINUTE_MS)
    assert network.calls - calls <= 60 * 3, "when all have what they want, only tests go on"


def test_the_network_holds_together_without_its_seed() -> None:
    network = Network(40, degree=4)
    network.run(NOW_MS + 2 * MINUTE_MS)
    network.kill(0)
    for number in range(1, 12):
        network.kill(number)
    network.run(NOW_MS + 8 * MINUTE_MS)
    assert network.is_connected
    assert min(network.degrees().values()) >= 4


def test_the_same_network_twice_is_the_same() -> None:
    pairs = []
    for _ in range(2):
        network = Network(20, degree=3)
        network.run(NOW_MS + MINUTE_MS)
        pairs.append(network.sessions)
    assert pairs[0] == pairs[1]
