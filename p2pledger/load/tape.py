"""A real tape: one-minute bars of the Deutsche Boerse Public Data Set (Xetra), expanded to single trades.

A bar says how many trades there were, their volume in all, and their lowest and highest price. Each becomes that many
trades, whose quantities add up exactly to the volume and whose prices lie between lowest and highest. Equal seeds
give equal trades. A few bars state fewer units than trades; a trade needs a unit, so such a bar gives one trade per
unit, and how many were left out is counted and said.

Money is kept to a thousandth of the currency, the tape's own precision, so that every price times quantity is exact.
"""

from __future__ import annotations

import csv
import gzip
import random
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p2pledger.load.trades import Instrument, Trade, TradeSource, World
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.names import isin_is_valid

__all__ = ["Bar", "expand", "read_bars", "tape_source"]

_DECIMALS = 3


@dataclass(frozen=True, slots=True)
class Bar:
    """One security in one minute. Prices in thousandths of the currency."""

    isin: str
    name: str
    currency: str
    time: str
    lowest: int
    highest: int
    volume: int
    trades: int


def _thousandths(text: str) -> int:
    whole, _, fraction = text.partition(".")
    if len(fraction) > _DECIMALS:
        raise ValueError(f"price {text!r} has more than {_DECIMALS} decimals")
    return int(whole + fraction.ljust(_DECIMALS, "0"))


def read_bars(folder: Path) -> Iterator[Bar]:
    """All bars of the *.csv.gz and *.csv files of a folder, in the order of file names and lines.

    InvalidInput names the file and line of anything that is no bar.
    """
    if not folder.is_dir():
        raise InvalidInput(f"there is no folder {folder}", hint="Give --trades the folder with the tape's files")
    files = sorted(path for path in folder.iterdir() if path.name.endswith((".csv", ".csv.gz")))
    if not files:
        raise InvalidInput(
            "the folder holds no tape", where=str(folder), why="expected *.csv or *.csv.gz", code="no_tape"
        )
    for path in files:
        line = 1
        try:
            with (
                gzip.open(path, "rt", encoding="utf-8", newline="")
                if path.suffix == ".gz"
                else path.open(encoding="utf-8", newline="")
            ) as file:
                for row in csv.DictReader(file):
                    line += 1
                    if None in row.values():
                        raise ValueError("it ends early")
                    bar = Bar(
                        row["ISIN"],
                        row["SecurityDesc"].strip(),
                        row["Currency"],
                        f"{row['Date']} {row['Time']}",
                        _thousandths(row["MinPrice"]),
                        _thousandths(row["MaxPrice"]),
                        int(row["TradedVolume"]),
                        int(row["NumberOfTrades"]),
                    )
                    if not isin_is_valid(bar.isin):
                        raise ValueError(f"{bar.isin!r} is not an ISIN")
                    if not 0 < bar.lowest <= bar.highest or bar.volume < 0 or bar.trades < 0:
                        raise ValueError("prices must be positive and in order, counts not negative")
                    yield bar
        except (gzip.BadGzipFile, EOFError, KeyError, TypeError, ValueError, csv.Error, zlib.error) as error:
            why = f"column {error} is missing" if isinstance(error, KeyError) else str(error)
            raise InvalidInput(
                "this is not a bar of the tape", where=f"{path}:{line}", why=why, code="bad_tape"
            ) from None
        except OSError as error:
            why = error.strerror or str(error)
            raise InvalidInput("the tape cannot be read", where=str(path), why=why, code="unreadable") from None


def expand(bar: Bar, dice: random.Random) -> list[tuple[int, int]]:
    """(quantity, price per unit) of each trade. Quantities are positive and add up to the bar's volume."""
    count = min(bar.trades, bar.volume)
    if count == 0:
        return []
    if bar.volume < 4 * count:
        # Few units each: cut the volume at distinct places.
        cuts = sorted(dice.sample(range(1, bar.volume), count - 1))
    else:
        # Cheaper, and as good, for long volumes: shares of random weights, each with one unit for certain.
        weights = [dice.random() for _ in range(count)]
        total, spare, running = sum(weights) or 1.0, bar.volume - count, 0.0
        cuts = []
        for i, weight in enumerate(weights[:-1]):
            running += weight
            cuts.append(i + 1 + min(spare, int(spare * running / total)))
    edges = [0, *cuts, bar.volume]
    return [(edges[i + 1] - edges[i], dice.randint(bar.lowest, bar.highest)) for i in range(count)]


def tape_source(
    folder: Path, *, brokers: tuple[str, ...], money_register: str, register: str, seed: int, limit: int
) -> TradeSource:
    """The first ``limit`` trades of the tape, each between two brokers, in one register against money at the bank."""
    dice = random.Random(f"p2pledger tape {seed}")
    trades: list[Trade] = []
    names: dict[str, str] = {}
    volumes: Counter[str] = Counter()
    turnover: Counter[str] = Counter()
    bars = skipped = 0
    for bar in read_bars(folder):
        bars += 1
        skipped += max(0, bar.trades - bar.volume)
        security, money = f"{bar.isin}@{register}", f"{bar.currency}@{money_register}"
        for quantity, price in expand(bar, dice):
            seller, buyer = dice.sample(brokers, 2)
            trades.append(Trade(len(trades), seller, buyer, security, security, quantity, money, quantity * price))
            names.setdefault(bar.isin, bar.name)
            volumes[security] += quantity
            turnover[money] += quantity * price
            if len(trades) == limit:
                break
        if len(trades) == limit:
            break
    # Every broker could sell the whole volume and pay the whole turnover: no ordinary trade lacks its cover.
    opening = {**volumes, **turnover}
    world = World(
        brokers,
        tuple(Instrument(isin, name, (register,)) for isin, name in names.items()),
        tuple((money, _DECIMALS, money.partition("@")[0]) for money in turnover),
        opening,
    )
    description = f"{len(trades):,} trades of {len(names):,} securities from {bars:,} one-minute bars of {folder}"
    if skipped:
        description += f"; {skipped} trades without a unit left out"
    return TradeSource(world, iter(trades), len(trades), description)
