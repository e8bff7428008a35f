"""The seeded generator: equal seeds give equal trades, and every trade makes sense."""

from itertools import islice

import pytest

from p2pledger.load.trades import generated_trades, generated_world, isin_of
from p2pledger.primitives.names import asset_id, isin_is_valid

BROKERS = ("broker-1", "broker-2", "broker-3")


@pytest.mark.parametrize("isin", ["US0378331005", "DE0005140008", "GB0002634946", "AU0000XVGZA3", "XS1550212416"])
def test_check_digits_are_those_of_real_isins(isin: str) -> None:
    assert isin_of(isin[:11]) == isin


def test_all_instruments_have_valid_names() -> None:
    world = generated_world("ICBC", BROKERS)
    for instrument in world.instruments:
        assert isin_is_valid(instrument.isin)
        for register in instrument.registers:
            asset_id(instrument.asset(register))


def test_equal_seeds_give_equal_trades() -> None:
    world = generated_world("ICBC", BROKERS)
    first = list(generated_trades(world, 1, 200))
    assert first == list(generated_trades(world, 1, 200))
    assert first != list(generated_trades(world, 2, 200))
    assert first[:50] == list(islice(generated_trades(world, 1, 9_999), 50))


def test_trades_are_possible() -> None:
    world = generated_world("ICBC", BROKERS)
    kept = {item.asset(register) for item in world.instruments for register in item.registers}
    trades = list(generated_trades(world, 1, 2_000))
    for trade in trades:
        assert trade.seller != trade.buyer
        assert {trade.source, trade.target} <= kept
        assert trade.source.partition("@")[0] == trade.target.partition("@")[0]
        assert trade.quantity > 0
        assert trade.price > 0
    assert [trade.number for trade in trades] == list(range(2_000))
    cross = sum(trade.is_cross for trade in trades)
    assert 100 < cross < 300


def test_no_trade_lacks_its_cover() -> None:
    """Even if one broker sold, or bought, everything."""
    world = generated_world("ICBC", BROKERS)
    trades = list(generated_trades(world, 1, 2_000))
    assert sum(trade.price for trade in trades) * 1_000 < world.opening["CNY@ICBC"]
    assert all(sum(trade.quantity for trade in trades) * 1_000 < units for units in world.opening.values())
    assert all(units * len(BROKERS) * 100 < 2**64 for units in world.opening.values())
