"""Trades, and the seeded generator that makes them.

A *plain* trade is delivery versus payment in one register: securities to the buyer, money to the seller (at a price of
0 there is only a delivery). A *cross* trade finds its buyer in the other depository's market: in one transaction the
units cross from the seller's register to the other one, under the link of the two depositories, go to the buyer there,
and the money goes to the seller. Either everything happens or nothing, so an ISIN's units over both registers are the
same before and after.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Instrument", "Trade", "TradeSource", "World", "generated_trades", "generated_world", "isin_of"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """A security: its ISIN, a name for people, and the registers that keep it (two for a bond in both markets)."""

    isin: str
    name: str
    registers: tuple[str, ...]

    def asset(self, register: str) -> str:
        return f"{self.isin}@{register}"


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade. ``price`` is the money for all of it, in the money's smallest unit; source = target if plain."""

    number: int
    seller: str
    buyer: str
    source: str
    """The security as the seller holds it, such as ``CND100000017@CSDC``."""
    target: str
    """The security as the buyer gets it."""
    quantity: int
    money: str
    price: int

    @property
    def is_cross(self) -> bool:
        return self.source != self.target


@dataclass(frozen=True, slots=True)
class World:
    """What must be on the ledger before the first trade: assets, and what every broker holds of them."""

    brokers: tuple[str, ...]
    instruments: tuple[Instrument, ...]
    moneys: tuple[tuple[str, int, str], ...]
    """(asset, decimals, name)"""
    opening: dict[str, int]
    """asset -> units that each broker is given."""

    @property
    def assets_count(self) -> int:
        return len(self.moneys) + sum(len(item.registers) for item in self.instruments)

    @property
    def holdings_count(self) -> int:
        return len(self.opening) * len(self.brokers)


@dataclass(frozen=True, slots=True)
class TradeSource:
    """A world and the trades in it, in the order in which they fall due."""

    world: World
    trades: Iterator[Trade]
    count: int
    description: str


def isin_of(prefix: str) -> str:
    """The ISIN with this 11-character beginning: its check digit by the Luhn sum (ISO 6166) is appended."""
    digits = "".join(str(int(character, 36)) for character in prefix)
    total = 0
    for position, digit in enumerate(reversed(digits)):
        # The check digit will stand to the right of these, so doubling starts at the last of them.
        doubled = int(digit) * (2 - position % 2)
        total += doubled // 10 + doubled % 10
    return f"{prefix}{-total % 10}"


_SHARES = 12
_BONDS = 8
_PLENTY_UNITS = 10**12
_PLENTY_MONEY = 10**16


def generated_world(money_register: str, brokers: tuple[str, ...]) -> World:
    """Shares that only CSDC keeps, bonds that both depositories keep, and one currency at the cash bank."""
    shares = [Instrument(isin_of(f"CNE{i + 1:08d}"), f"Share {i + 1}", ("CSDC",)) for i in range(_SHARES)]
    bonds = [
        Instrument(isin_of(f"CND{i + 1:08d}"), f"Government bond {i + 1}", ("CCDC", "CSDC")) for i in range(_BONDS)
    ]
    money = f"CNY@{money_register}"
    opening = {item.asset(register): _PLENTY_UNITS for item in (*shares, *bonds) for register in item.registers}
    opening[money] = _PLENTY_MONEY
    return World(brokers, (*shares, *bonds), ((money, 2, "Renminbi"),), opening)


def generated_trades(world: World, seed: int, count: int) -> Iterator[Trade]:
    """``count`` trades; equal seeds give equal trades. About one in twelve is a cross trade."""
    dice = random.Random(f"p2pledger demo {seed}")
    money = world.moneys[0][0]
    shares = [item for item in world.instruments if len(item.registers) == 1]
    bonds = [item for item in world.instruments if len(item.registers) == 2]
    prices = {item.isin: dice.randint(500, 20_000) for item in world.instruments}
    for number in range(count):
        seller, buyer = dice.sample(world.brokers, 2)
        cast = dice.random()
        item = dice.choice(shares if cast < 0.60 else bonds)
        source = target = item.asset(dice.choice(item.registers))
        if cast >= 0.92:
            source, target = (item.asset(register) for register in dice.sample(item.registers, 2))
        price = prices[item.isin] = max(100, prices[item.isin] + dice.randint(-5, 5))
        quantity = dice.randint(1, 50) * 100
        yield Trade(number, seller, buyer, source, target, quantity, money, quantity * price)
