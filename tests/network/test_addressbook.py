"""The address book: what is kept, who gives way to whom, and what an attacker with many addresses gets of it.

The attacks are those of Heilman et al. (2015), played with thousands of addresses: an attacker has few network groups
and as many ports and addresses in them as it likes, tells of them as often as it likes, and answers every call.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from p2pledger.network.addressbook import (
    BUCKET_SIZE,
    MOST_NEW,
    MOST_TRIED,
    NEW_BUCKETS_OF_SOURCE,
    TRIED_BUCKETS_OF_GROUP,
    AddressBook,
    Endpoint,
    Entry,
)
from p2pledger.primitives.codec import decode, encode
from p2pledger.primitives.errors import InvalidInput, PeerFault

SECRET = b"s" * 32
KEY = b"k" * 32
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = 1_000 * DAY_MS


def at(host: str, port: int = 4_000) -> Endpoint:
    endpoint = Endpoint.of(host, port)
    assert endpoint is not None
    return endpoint


def anybody(entry: Entry) -> bool:
    return True


def honest(number: int) -> Endpoint:
    """Each in a network group of its own: 60.0.0.1, 60.1.0.1, ..."""
    return at(f"{60 + number // 256}.{number % 256}.0.1")


def hostile(group: int, number: int) -> Endpoint:
    """In few groups: 11.GROUP.x.y, with as many addresses and ports as anybody wants."""
    return at(f"11.{group}.{number // 250 % 250}.{1 + number % 250}", 1_000 + number // 62_500)


def is_hostile(endpoint: Endpoint) -> bool:
    return endpoint.ip[0] == 11


# --- endpoints ------------------------------------------------------------------------------------------------------


def test_an_endpoint_is_an_address_that_somebody_can_be_called_at() -> None:
    assert at("1.2.3.4").encode() == b"\x01\x02\x03\x04\x0f\xa0"
    assert Endpoint.decode(at("2001:db9::1").encode()) == at("2001:db9::1")
    assert at("::ffff:1.2.3.4") == at("1.2.3.4"), "one machine, one form"
    assert (at("1.2.3.4").host, str(at("2a00::1"))) == ("1.2.3.4", "[2a00::1]:4000")
    for host in ("224.0.0.1", "0.0.0.0", "169.254.0.1", "240.0.0.1", "::", "ff02::1", "fe80::1", "seed.example.org"):
        assert Endpoint.of(host, 4_000) is None
    assert Endpoint.of("1.2.3.4", 0) is Endpoint.of("1.2.3.4", 65_536) is None
    assert Endpoint.decode(bytes(10) + b"\xff\xff\x01\x02\x03\x04\x0f\xa0") is None


@pytest.mark.parametrize("data", [b"", bytes(5), bytes(7), bytes(17), b"\x01\x02\x03\x04\x00\x00"])
def test_what_is_no_endpoint_is_a_fault(data: bytes) -> None:
    with pytest.raises(PeerFault):
        Endpoint.decode(data)


def test_the_group_is_what_an_attacker_has_few_of() -> None:
    assert at("1.2.3.4").group == at("1.2.200.9").group != at("1.3.3.4").group
    assert at("2a00:1:2::1").group == at("2a00:1:ffff::9").group != at("2a00:2::1").group


# --- keeping --------------------------------------------------------------------------------------------------------


def test_what_is_heard_is_new_and_who_was_met_is_tried() -> None:
    book = AddressBook(SECRET)
    assert book.hear(honest(1), honest(2), NOW_MS)
    assert (book.new_count, book.tried_count) == (1, 0)
    book.met(honest(1), KEY, NOW_MS)
    assert (book.new_count, book.tried_count) == (0, 1)
    entry = book.entry(honest(1))
    assert entry is not None
    assert entry.key == KEY
    assert entry.source == honest(2)
    book.met(honest(3), KEY, NOW_MS)  # a seed: nobody told of it
    assert honest(3) in book
    assert len(book) == 2
    book.forget(honest(1))
    book.forget(honest(1))
    assert len(book) == 1


def test_a_source_tells_of_its_own_reach_or_of_a_wider_one() -> None:
    book = AddressBook(SECRET)
    world, private, loopback = at("60.0.0.1"), at("10.0.0.1"), at("127.0.0.1")
    assert not book.hear(private, world, NOW_MS)
    assert not book.hear(loopback, world, NOW_MS)
    assert not book.hear(loopback, private, NOW_MS)
    assert book.refused == 3
    assert book.hear(world, private, NOW_MS)
    assert book.hear(private, loopback, NOW_MS)


def test_who_does_not_answer_is_left_in_peace_ever_longer() -> None:
    book = AddressBook(SECRET)
    book.met(honest(1), KEY, NOW_MS)
    now_ms, waits_ms = NOW_MS, []
    for _ in range(12):
        book.failed(honest(1), now_ms)
        assert book.choose(now_ms, anybody) is None
        entry = book.entry(honest(1))
        assert entry is not None
        wait_ms = next(ms for ms in range(0, 2 * HOUR_MS, 10_000) if entry.may_be_called(now_ms + ms))
        waits_ms.append(wait_ms)
        now_ms += wait_ms
    assert waits_ms[:4] == [10_000, 20_000, 40_000, 80_000]
    assert waits_ms[-1] == HOUR_MS
    book.met(honest(1), KEY, now_ms)
    assert book.choose(now_ms, anybody) == honest(1)


def test_in_new_a_place_is_given_up_only_by_the_worthless() -> None:
    book, source = AddressBook(SECRET), honest(0)
    told = [hostile(1, number) for number in range(400)]  # one group of one source: one bucket
    kept = [endpoint for endpoint in told if book.hear(endpoint, source, NOW_MS)]
    assert len(kept) <= BUCKET_SIZE < len(told)
    again = [hostile(1, number) for number in range(400, 800)]
    for endpoint in again:
        book.hear(endpoint, source, NOW_MS + HOUR_MS)
    assert all(endpoint in book for endpoint in kept), "whoever is there stays"
    for endpoint in again:
        book.hear(endpoint, source, NOW_MS + 40 * DAY_MS)
    assert sum(endpoint in book for endpoint in kept) < len(kept) // 4, "who was not heard of for a month goes"


def _colliding(book: AddressBook) -> tuple[Endpoint, Endpoint]:
    """A holder of a place in tried, and one who waits for it."""
    for number in range(10_000):
        endpoint = hostile(1, number)
        before = book.tried_count
        book.met(endpoint, KEY, NOW_MS)
        if book.tried_count == before:
            holder = book.to_test(NOW_MS + HOUR_MS)
            assert holder is not None
            return holder, endpoint
    raise AssertionError("nobody ever collides")


def test_in_tried_the_holder_is_tested_before_it_is_displaced() -> None:
    book = AddressBook(SECRET)
    holder, newcomer = _colliding(book)
    standing, waiting = book.entry(holder), book.entry(newcomer)
    assert standing is not None
    assert standing.is_tried
    assert waiting is not None
    assert not waiting.is_tried
    assert book.to_test(NOW_MS) is None, "it was met a moment ago"
    book.met(holder, KEY, NOW_MS + HOUR_MS)
    assert standing.is_tried
    assert not waiting.is_tried
    assert book.to_test(NOW_MS + 2 * HOUR_MS) is None
    book.met(newcomer, KEY, NOW_MS + 2 * HOUR_MS)
    assert book.to_test(NOW_MS + 2 * HOUR_MS) == holder
    book.failed(holder, NOW_MS + 2 * HOUR_MS)
    assert waiting.is_tried
    assert not standing.is_tried
    assert holder in book


def test_choices_are_those_of_the_secret() -> None:
    def choices(secret: bytes) -> list[Endpoint | None]:
        book = AddressBook(secret)
        for number in range(100):
            book.hear(honest(number), honest(number + 1), NOW_MS)
        return [book.choose(NOW_MS, anybody) for _ in range(20)]

    assert choices(SECRET) == choices(SECRET)
    assert choices(SECRET) != choices(b"t" * 32)
    assert len(set(choices(SECRET))) > 10
    with pytest.raises(InvalidInput):
        AddressBook(b"short")


def test_a_sample_is_a_part_and_says_nothing_of_the_worthless() -> None:
    book = AddressBook(SECRET)
    for number in range(1_000):
        book.hear(honest(number), honest(number), NOW_MS)
    for number in range(500):
        for _ in range(3):
            book.failed(honest(number), NOW_MS)
    later_ms = NOW_MS + HOUR_MS
    told = book.sample(256, later_ms, anybody)
    assert 100 < len(told) <= 125
    assert not set(told) & {honest(number) for number in range(500)}
    assert told != book.sample(256, later_ms, anybody)
    assert len(book.sample(10, later_ms, anybody)) == 10


# --- bytes ----------------------------------------------------------------------------------------------------------


def _full_book(told: int = 3_000) -> AddressBook:
    book, chance = AddressBook(SECRET), random.Random(1)
    for number in range(told):
        book.hear(honest(chance.randrange(5_000)), honest(chance.randrange(50)), NOW_MS + number)
    for number in range(told // 10):
        book.met(honest(chance.randrange(5_000)), KEY, NOW_MS + number)
        book.failed(honest(chance.randrange(5_000)), NOW_MS + number)
    book.keep_anchors([honest(1), honest(2), honest(3)])
    return book


def test_a_book_reads_back_and_goes_on_as_before() -> None:
    book = _full_book()
    again = AddressBook.decode(book.encode())
    assert again.encode() == book.encode()
    assert (len(again), again.tried_count, again.anchors) == (len(book), book.tried_count, (honest(1), honest(2)))
    choices = [(one.choose(NOW_MS + DAY_MS, anybody)) for one in (book, again) for _ in range(50)]
    assert choices[:50] == choices[50:]


def test_a_damaged_book_is_refused() -> None:
    data = _full_book(100).encode()
    chance = random.Random(2)
    for _ in range(200):
        damaged = bytearray(data)
        damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            AddressBook.decode(bytes(damaged))  # a flipped bit of a time says another time
        except PeerFault:
            continue
    for at_byte in chance.sample(range(len(data)), 50):
        with pytest.raises(PeerFault):
            AddressBook.decode(data[:at_byte])
    values = decode(data, limit_bytes=len(data), what="book")
    assert isinstance(values, tuple)
    assert isinstance(values[4], tuple)
    with pytest.raises(PeerFault, match="no place, or in two"):
        AddressBook.decode(encode((*values[:4], (values[4][0], values[4][0]))))


# --- eclipse --------------------------------------------------------------------------------------------------------

ROUNDS = 8_000


def _attacked(groups: int, sources: int) -> tuple[AddressBook, list[Endpoint]]:
    """A book with 300 honest nodes, half of them met; then an attacker tells of 8,000 addresses of its few groups."""
    book, chance = AddressBook(SECRET), random.Random(3)
    nodes = [honest(number) for number in range(300)]
    for node in nodes:
        for _ in range(3):
            book.hear(node, chance.choice(nodes), NOW_MS)
    for node in nodes[::2]:
        book.met(node, KEY, NOW_MS)
    for number in range(ROUNDS):
        source = hostile(chance.randrange(sources), number % 50)
        book.hear(hostile(chance.randrange(groups), number), source, NOW_MS + number)
    return book, nodes


def test_who_tells_from_one_group_fills_no_more_than_its_buckets() -> None:
    book, nodes = _attacked(groups=64, sources=1)
    there = sum(is_hostile(endpoint) for endpoint in book)
    assert there <= NEW_BUCKETS_OF_SOURCE * BUCKET_SIZE == MOST_NEW // 8
    assert book.refused > ROUNDS // 2
    assert sum(node in book for node in nodes) >= 285, "whoever was there before stays"
    assert all(node in book for node in nodes[::2])


def test_many_addresses_of_few_groups_do_not_decide_whom_a_node_calls() -> None:
    """What counts is in how many buckets an attacker is: with four groups it is in few, however much it tells."""
    book, nodes = _attacked(groups=4, sources=4)
    there = sum(is_hostile(endpoint) for endpoint in book)
    assert there <= 4 * 4 * BUCKET_SIZE, "a group of addresses from a group of sources: one bucket"
    chosen = Counter(is_hostile(it) for _ in range(2_000) if (it := book.choose(NOW_MS + HOUR_MS, anybody)) is not None)
    assert chosen[True] < chosen[False] / 4, "8,000 hostile addresses and 300 honest ones"
    assert sum(node in book for node in nodes) >= 285


def test_who_answers_every_call_displaces_nobody_that_answers_too() -> None:
    """The worst that an attacker can be: it is met at all its addresses. Honest nodes that answer tests stay tried."""
    book, nodes = _attacked(groups=8, sources=8)
    honest_before = {node for node in nodes if _is_tried(book, node)}
    now_ms = NOW_MS + DAY_MS
    for number in range(2_500):
        now_ms += 60_000
        book.met(hostile(number % 8, number), KEY, now_ms)
        tested = book.to_test(now_ms)
        if tested is not None:
            book.called(tested, now_ms)
            book.met(tested, KEY, now_ms)
    assert all(_is_tried(book, node) for node in honest_before)
    hostile_tried = sum(is_hostile(it) for it in book if _is_tried(book, it))
    assert hostile_tried <= 8 * TRIED_BUCKETS_OF_GROUP * BUCKET_SIZE
    assert book.tried_count <= MOST_TRIED
    assert book.new_count <= MOST_NEW
    # Half of all choices come from tried, where the attacker has some of the buckets and honest nodes all others.
    chosen = Counter(is_hostile(it) for _ in range(2_000) if (it := book.choose(now_ms, anybody)) is not None)
    assert chosen[False] > 200


def test_without_groups_the_same_attack_would_win() -> None:
    """The same numbers from as many groups as there are honest ones fill the book: groups are what protects."""
    book, _ = _attacked(groups=250, sources=250)
    few, _ = _attacked(groups=4, sources=4)
    assert sum(map(is_hostile, book)) > 5 * sum(map(is_hostile, few))


def _is_tried(book: AddressBook, endpoint: Endpoint) -> bool:
    entry = book.entry(endpoint)
    return entry is not None and entry.is_tried
