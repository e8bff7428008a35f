"""A hello that somebody kept opens no other door; one that is shown where it was made for would."""

from __future__ import annotations

import pytest

from p2pledger.network.handshake import Handshake
from p2pledger.sim.chance import stream
from p2pledger.sim.impostor import let_in
from p2pledger.sim.market import Market


def test_nobody_is_fooled_by_a_replayed_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    market = Market(1, 4, stream(1, "market"))
    assert let_in(market.genesis.hash, market.node_keys, "node-2") == []
    monkeypatch.setattr(Handshake, "_check", lambda self, hello: 1)
    fooled = let_in(market.genesis.hash, market.node_keys, "node-2")
    assert len(fooled) == 6, "a check that cannot fail"
    assert ("node-0", "node-1") in fooled
