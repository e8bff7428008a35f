"""Who has a session with whom."""

from __future__ import annotations

import pytest

from p2pledger.network.neighbours import neighbours_of

KEYS = [bytes([number]) * 32 for number in range(32)]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 32])
@pytest.mark.parametrize("degree", [2, 4, 6])
def test_everybody_is_reached_and_whoever_knows_is_known(count: int, degree: int) -> None:
    known = neighbours_of(KEYS[:count], degree, b"salt")
    assert all(key in known[other] for key in known for other in known[key])
    assert all(key not in known[key] and len(known[key]) <= degree for key in known)
    reached, edge = {KEYS[0]}, {KEYS[0]}
    while edge:
        edge = {other for key in edge for other in known[key]} - reached
        reached |= edge
    assert len(reached) == count


def test_they_follow_from_keys_degree_and_salt_whatever_the_order() -> None:
    assert neighbours_of(KEYS, 4, b"a") == neighbours_of(KEYS[::-1], 4, b"a")
    assert neighbours_of(KEYS, 4, b"a") != neighbours_of(KEYS, 4, b"b")
