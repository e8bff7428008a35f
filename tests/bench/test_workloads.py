"""What is measured, by name."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from p2pledger.bench.workloads import BROKERS, WORKLOADS, workload
from p2pledger.load.trades import Trade
from p2pledger.primitives.errors import InvalidInput


def trades(name: str, count: int = 200, seed: int = 1) -> list[Trade]:
    return list(workload(name, count, seed, money_register="ICBC").trades)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_has_as_many_trades_as_were_asked_for_and_they_follow_from_the_seed(name: str) -> None:
    assert len(trades(name)) == 200
    assert trades(name) == trades(name)
    assert trades(name) != trades(name, seed=2)
    assert [trade.number for trade in trades(name)] == list(range(200))
    assert all(trade.seller != trade.buyer for trade in trades(name))


def test_what_each_is_about() -> None:
    assert not any(trade.is_cross for trade in trades("dvp"))
    assert all(trade.is_cross for trade in trades("cross"))
    assert all(trade.price == 0 for trade in trades("transfers"))
    house = BROKERS[0]
    sides = [(trade.seller == house, trade.buyer == house) for trade in trades("hot-account")]
    assert sides.count((True, False)) == sides.count((False, True)) == 100


def test_instructions_are_made_on_the_ledger_and_only_their_world_is_here() -> None:
    source = workload("thousand-leg", 5, 1, money_register="ICBC")
    assert (list(source.trades), source.count) == ([], 5)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidInput, match="hot-account") as caught:
        workload("hot-acount", 1, 1, money_register="ICBC")
    assert caught.value.code == "unknown_workload"


def test_trades_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(
        "seller,buyer,asset,quantity,money,price\n"
        "broker-1,broker-2,DE0005140008@CSDC,100,EUR@ICBC,117750\n"
        "broker-2,broker-3,DE0005140008@CSDC,40,EUR@ICBC,0\n"
    )
    source = workload(f"file:{path}", 9, 1, money_register="ICBC")
    assert [(trade.seller, trade.quantity) for trade in islice(source.trades, 9)] == [
        ("broker-1", 100),
        ("broker-2", 40),
    ]
    assert set(source.world.opening) == {"DE0005140008@CSDC", "EUR@ICBC"}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("broker-1,broker-2,DE0005140008@CSDC,100,EUR@ICBC", "5 columns"),
        ("broker-1,broker-2,DE0005140009@CSDC,100,EUR@ICBC,1", "valid ISIN"),
        ("broker-1,broker-1,DE0005140008@CSDC,100,EUR@ICBC,1", "no trade"),
        ("broker-1,broker-2,DE0005140008@CSDC,0,EUR@ICBC,1", "no trade"),
        ("broker-1,broker-2,DE0005140008@CSDC,1,EUR@ICBC,-1", "no trade"),
        ("broker-1,somebody,DE0005140008@CSDC,1,EUR@ICBC,1", "no broker"),
    ],
)
def test_what_is_no_trade_is_refused_by_its_line(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(f"seller,buyer,asset,quantity,money,price\n{line}\n")
    with pytest.raises(InvalidInput, match=what):
        workload(f"file:{path}", 9, 1, money_register="ICBC")


def test_a_file_without_its_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text("a,b\n")
    with pytest.raises(InvalidInput, match="columns"):
        workload(f"file:{path}", 9, 1, money_register="ICBC")
    with pytest.raises(InvalidInput, match="cannot be read"):
        workload(f"file:{tmp_path / 'none'}", 9, 1, money_register="ICBC")
