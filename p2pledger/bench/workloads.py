"""What is measured, by name: the trades that fall due, and the world in which they can be made.

    dvp            delivery versus payment between 16 brokers in 20 securities: two legs, two signatures
    transfers      one leg, one signature
    hot-account    delivery versus payment in which one account, the central counterparty, is on one side of every trade
    thousand-leg   instructions of a thousand legs, each settled by one operation (``instructions.py``)
    cross          as dvp, but every trade moves a bond from one depository's register to the other's
    tape:FOLDER    a real tape of one-minute bars, expanded to single trades (``load/tape.py``)
    file:FILE      trades of a CSV file with the columns seller,buyer,asset,quantity,money,price

Equal seeds give equal trades.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from p2pledger.cluster.consortium import suggestion
from p2pledger.load.tape import tape_source
from p2pledger.load.trades import Instrument, Trade, TradeSource, World, generated_world
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.names import isin_is_valid

__all__ = ["BROKERS", "THOUSAND_LEG", "WORKLOADS", "workload"]

BROKERS: Final = tuple(f"broker-{i + 1}" for i in range(16))
THOUSAND_LEG: Final = "thousand-leg"
"""Its orders are made on the ledger; here is only its world."""
_COLUMNS: Final = ("seller", "buyer", "asset", "quantity", "money", "price")
_PLENTY: Final = 10**16


def workload(name: str, count: int, seed: int, *, money_register: str) -> TradeSource:
    """The workload of a name, with ``count`` trades. InvalidInput for an unknown name, with the nearest one."""
    kind, colon, rest = name.partition(":")
    if kind == "tape" and colon:
        return tape_source(
            Path(rest), brokers=BROKERS, money_register=money_register, register="CSDC", seed=seed, limit=count
        )
    if kind == "file" and colon:
        return _from_file(Path(rest), count)
    if name not in WORKLOADS and name != THOUSAND_LEG:
        names = [*WORKLOADS, THOUSAND_LEG, "tape:FOLDER", "file:FILE"]
        raise InvalidInput(
            f"no workload is called {name!r}",
            hint=suggestion(name, names) or f"One of {', '.join(names)}",
            code="unknown_workload",
        )
    world = generated_world(money_register, BROKERS)
    if name == THOUSAND_LEG:
        return TradeSource(world, iter(()), count, f"{count:,} instructions of a thousand legs, seed {seed}")
    dice = random.Random(f"p2pledger bench {name} {seed}")
    trades = islice(WORKLOADS[name](world, dice), count)
    return TradeSource(world, trades, count, f"{name}: {count:,} trades, seed {seed}")


def _dvp(world: World, dice: random.Random) -> Iterator[Trade]:
    money, number = world.moneys[0][0], 0
    while True:
        seller, buyer = dice.sample(world.brokers, 2)
        item = dice.choice(world.instruments)
        asset, quantity = item.asset(dice.choice(item.registers)), dice.randint(1, 50) * 100
        yield Trade(number, seller, buyer, asset, asset, quantity, money, quantity * dice.randint(500, 20_000))
        number += 1


def _transfers(world: World, dice: random.Random) -> Iterator[Trade]:
    for trade in _dvp(world, dice):
        yield Trade(
            trade.number, trade.seller, trade.buyer, trade.source, trade.target, trade.quantity, trade.money, price=0
        )


def _hot_account(world: World, dice: random.Random) -> Iterator[Trade]:
    house, sides = world.brokers[0], cycle((True, False))
    for trade, is_sale in zip(_dvp(world, dice), sides, strict=False):
        other = trade.seller if trade.seller != house else trade.buyer
        seller, buyer = (house, other) if is_sale else (other, house)
        yield Trade(trade.number, seller, buyer, trade.source, trade.target, trade.quantity, trade.money, trade.price)


def _cross(world: World, dice: random.Random) -> Iterator[Trade]:
    bonds = [item for item in world.instruments if len(item.registers) == 2]
    for trade in _dvp(world, dice):
        item = dice.choice(bonds)
        source, target = (item.asset(register) for register in dice.sample(item.registers, 2))
        yield Trade(trade.number, trade.seller, trade.buyer, source, target, trade.quantity, trade.money, trade.price)


WORKLOADS: Final[dict[str, Callable[[World, random.Random], Iterator[Trade]]]] = {
    "dvp": _dvp,
    "transfers": _transfers,
    "hot-account": _hot_account,
    "cross": _cross,
}
"""Name -> endless trades."""


def _from_file(path: Path, count: int) -> TradeSource:
    """The first ``count`` trades of a file; InvalidInput names the line of anything that is no trade."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != _COLUMNS:
                raise InvalidInput(
                    "the first line does not name the columns", where=str(path), hint=",".join(_COLUMNS), code="usage"
                )
            trades = [_trade(path, number, row) for number, row in enumerate(islice(rows, count))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput("the trades cannot be read", where=str(path), why=str(error), code="usage") from error
    if not trades:
        raise InvalidInput("there are no trades", where=str(path), code="usage")
    brokers = tuple(sorted({name for trade in trades for name in (trade.seller, trade.buyer)}))
    if unknown := [name for name in brokers if name not in BROKERS]:
        raise InvalidInput(
            f"no broker is called {unknown[0]!r}", where=str(path), hint=f"{BROKERS[0]} to {BROKERS[-1]}", code="usage"
        )
    registers: dict[str, set[str]] = {}
    for trade in trades:
        isin, _, register = trade.source.partition("@")
        registers.setdefault(isin, set()).add(register)
    instruments = tuple(Instrument(isin, isin, tuple(sorted(codes))) for isin, codes in sorted(registers.items()))
    moneys = tuple((money, 2, money) for money in sorted({trade.money for trade in trades}))
    opening = {item.asset(register): _PLENTY for item in instruments for register in item.registers}
    opening |= {money: _PLENTY for money, _, _ in moneys}
    world = World(BROKERS, instruments, moneys, opening)
    return TradeSource(world, iter(trades), len(trades), f"{len(trades):,} trades of {path.name}")


def _trade(path: Path, number: int, row: list[str]) -> Trade:
    where = f"{path}, line {number + 2}"
    if len(row) != len(_COLUMNS):
        raise InvalidInput(f"{len(row)} columns instead of {len(_COLUMNS)}", where=where, code="usage")
    seller, buyer, asset, quantity, money, price = row
    if not isin_is_valid(asset.partition("@")[0]):
        raise InvalidInput(f"{asset!r} does not begin with a valid ISIN", where=where, code="usage")
    if seller == buyer or not quantity.isdecimal() or not price.isdecimal() or not int(quantity):
        raise InvalidInput(
            "no trade", where=where, why="two brokers, a positive quantity and a price in smallest units", code="usage"
        )
    return Trade(number, seller, buyer, asset, asset, int(quantity), money, int(price))
