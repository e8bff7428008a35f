"""Streams of chance: the same for the same labels, unrelated otherwise."""

from __future__ import annotations

from p2pledger.sim.chance import secret_of, stream


def test_a_stream_is_known_by_its_labels() -> None:
    """Pinned: a seed must mean the same world tomorrow, in any process."""
    assert stream(7, "weather").randrange(10**9) == stream(7, "weather").randrange(10**9)
    assert [stream(7, "pinned").randrange(1_000) for _ in range(2)] == [683, 683]
    assert secret_of(7, "node-0").hex()[:16] == "a0057e2979a15dd6"


def test_streams_do_not_share_draws() -> None:
    draws = {
        stream(seed, *labels).getrandbits(64)
        for seed in range(20)
        for labels in (("a",), ("b",), ("a", "b"), ("a/b", "c"))
    }
    assert len(draws) == 80
    assert len({secret_of(seed, who) for seed in range(20) for who in ("x", "y")}) == 40
