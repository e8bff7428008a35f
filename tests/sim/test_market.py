"""The market's orders: what they are worth to the ledger, and that there is something of everything."""

from __future__ import annotations

from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.transactions import SignedTransaction
from p2pledger.sim.chance import stream
from p2pledger.sim.market import Market

KINDS = {
    "define", "issue", "transfer", "trade", "lock", "release", "redeem", "open", "overdraft", "unauthorised",
    "expired", "too far ahead", "garbage",
}  # fmt: skip


def test_a_long_day_has_orders_of_every_kind_and_some_come_twice() -> None:
    market = Market(1, 4, stream(1, "market"))
    orders = market.openings() + [market.order() for _ in range(600)]
    assert {order.kind for order in orders} == KINDS
    names = [order.id for order in orders if order.has_end]
    assert len(set(names)) < len(names)


def test_orders_are_named_as_the_ledger_names_them() -> None:
    market = Market(2, 4, stream(2, "market"))
    for order in [*market.openings(), *(market.order() for _ in range(100))]:
        if order.has_end:
            decoded = SignedTransaction.decode(order.data)
            assert (decoded.id, decoded.transaction.valid_until) == (order.id, order.valid_until)


def test_garbage_has_no_end_to_wait_for() -> None:
    market = Market(3, 4, stream(3, "market"))
    garbage = [order for order in (market.order() for _ in range(600)) if order.kind == "garbage"]
    broken = 0
    for order in garbage:
        assert not order.has_end
        try:
            SignedTransaction.decode(order.data)
        except PeerFault:
            broken += 1
    assert 0 < broken < len(garbage)


def test_the_genesis_is_sound_and_the_same_for_a_seed() -> None:
    genesis = Market(4, 7, stream(4, "market")).genesis
    assert genesis.check().hash == Market(4, 7, stream(4, "market")).genesis.hash
    assert len(genesis.validator_set) == 7
    assert genesis.hash != Market(5, 7, stream(5, "market")).genesis.hash
