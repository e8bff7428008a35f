"""Whom to ask for what, and when to ask somebody else."""

from __future__ import annotations

from p2pledger.network.fetch import Fetcher, Request

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32
ITEM, OTHER = b"1" * 32, b"2" * 32


def test_the_hint_is_asked_first_and_only_once() -> None:
    fetcher = Fetcher()
    fetcher.want([ITEM], (C,))
    assert fetcher.requests([A, B, C], 0) == [Request(C, (ITEM,))]
    assert fetcher.requests([A, B, C], 1) == []
    assert fetcher.next_due_ms == 500


def test_silence_moves_on_to_the_next_and_round() -> None:
    fetcher = Fetcher()
    fetcher.want([ITEM], (C,))
    asked = [fetcher.requests([A, B, C], at)[0].peer for at in (0, 500, 1_000, 1_500)]
    assert asked == [C, A, B, C]


def test_a_peer_that_has_not_got_it_or_is_gone_is_replaced_at_once() -> None:
    fetcher = Fetcher()
    fetcher.want([ITEM], (C,))
    fetcher.requests([A, B, C], 0)
    fetcher.missing_at(A, [ITEM])
    assert fetcher.requests([A, B, C], 1) == []
    fetcher.missing_at(C, [ITEM])
    assert fetcher.requests([A, B, C], 2) == [Request(A, (ITEM,))]
    fetcher.lost(A)
    assert fetcher.requests([B, C], 3) != []


def test_what_has_come_is_not_wanted_any_more() -> None:
    fetcher = Fetcher()
    fetcher.want([ITEM, OTHER], ())
    assert fetcher.requests([A], 0) == [Request(A, (ITEM, OTHER))]
    assert fetcher.got(ITEM)
    assert not fetcher.got(ITEM)
    assert fetcher.requests([A], 500) == [Request(A, (OTHER,))]


def test_without_peers_it_waits_and_asks_when_one_comes() -> None:
    fetcher = Fetcher()
    fetcher.want([ITEM], ())
    assert fetcher.requests([], 0) == []
    assert fetcher.requests([A], 500) == [Request(A, (ITEM,))]


def test_many_items_are_asked_for_in_pieces_and_the_list_is_bounded() -> None:
    fetcher = Fetcher()
    items = [number.to_bytes(32, "big") for number in range(9_000)]
    fetcher.want(items, ())
    assert (len(fetcher), fetcher.given_up) == (8_192, 808)
    assert items[-1] in fetcher
    assert items[0] not in fetcher
    requests = fetcher.requests([A], 0)
    assert max(len(request.items) for request in requests) == 32
    assert sum(len(request.items) for request in requests) == 8_192


def test_what_nobody_has_is_given_up_after_many_turns() -> None:
    fetcher = Fetcher()
    fetcher.want([ITEM], ())
    for turn in range(600):
        fetcher.requests([A, B], 5_000_000 * turn)
    assert ITEM not in fetcher


def test_what_nobody_has_is_asked_for_less_and_less() -> None:
    fetcher = Fetcher()
    fetcher.want([ITEM], ())
    asked = []
    for at_ms in range(0, 60_000, 100):
        for request in fetcher.requests([A, B], at_ms):
            asked.append(at_ms)
            fetcher.missing_at(request.peer, request.items)
    assert asked[:8] == [100 * turn for turn in range(8)], "at first at once, from one to the other"
    assert asked[8::2] == [1_300, 2_500, 4_700, 8_900, 17_100, 33_300]
