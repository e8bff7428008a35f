"""The tape: bars become exactly their trades, and what is no bar is named with file and line."""

import gzip
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.load.tape import Bar, expand, read_bars, tape_source
from p2pledger.primitives.errors import InvalidInput

HEADER = (
    "ISIN,Mnemonic,SecurityDesc,SecurityType,Currency,SecurityID,Date,Time,"
    "StartPrice,MaxPrice,MinPrice,EndPrice,TradedVolume,NumberOfTrades\n"
)
ROW = (
    '"DE000A0D6554","NDX1","NORDEX SE O.N.","Common stock","EUR",2504290,'
    "2017-07-28,07:00,11.855,11.885,11.85,11.875,3777,6\n"
)
BROKERS = ("broker-1", "broker-2", "broker-3", "broker-4")


def write(folder: Path, *rows: str, name: str = "a.csv.gz") -> Path:
    with gzip.open(folder / name, "wt", encoding="utf-8") as file:
        file.write(HEADER + "".join(rows))
    return folder


def source(folder: Path, *, seed: int = 1, limit: int = 1_000):  # type: ignore[no-untyped-def]
    return tape_source(folder, brokers=BROKERS, money_register="ICBC", register="CSDC", seed=seed, limit=limit)


def test_a_bar_is_read_exactly(tmp_path: Path) -> None:
    [bar] = read_bars(write(tmp_path, ROW))
    assert bar == Bar("DE000A0D6554", "NORDEX SE O.N.", "EUR", "2017-07-28 07:00", 11_850, 11_885, 3_777, 6)


@given(
    volume=st.integers(1, 10**9),
    trades=st.integers(1, 300),
    lowest=st.integers(1, 10**6),
    spread=st.integers(0, 10**4),
    seed=st.integers(0, 99),
)
def test_quantities_add_up_and_prices_lie_within(volume: int, trades: int, lowest: int, spread: int, seed: int) -> None:
    parts = expand(Bar("X", "", "EUR", "", lowest, lowest + spread, volume, trades), random.Random(seed))
    assert len(parts) == min(trades, volume)
    assert sum(quantity for quantity, _ in parts) == volume
    assert all(quantity > 0 for quantity, _ in parts)
    assert all(lowest <= price <= lowest + spread for _, price in parts)


def test_a_bar_with_fewer_units_than_trades_gives_one_trade_a_unit(tmp_path: Path) -> None:
    folder = write(tmp_path, ROW.replace("3777,6", "2,6"))
    tape = source(folder)
    assert [trade.quantity for trade in tape.trades] == [1, 1]
    assert "4 trades without a unit left out" in tape.description


def test_every_trade_is_covered_by_what_is_issued(tmp_path: Path) -> None:
    tape = source(write(tmp_path, ROW))
    trades = list(tape.trades)
    assert len(trades) == tape.count == 6
    assert sum(trade.quantity for trade in trades) == 3_777 == tape.world.opening["DE000A0D6554@CSDC"]
    assert sum(trade.price for trade in trades) == tape.world.opening["EUR@ICBC"]
    assert all(trade.seller != trade.buyer and not trade.is_cross for trade in trades)


def test_equal_seeds_give_equal_trades_and_the_limit_cuts(tmp_path: Path) -> None:
    folder = write(tmp_path, ROW, ROW)
    assert list(source(folder).trades) == list(source(folder).trades)
    assert list(source(folder).trades) != list(source(folder, seed=2).trades)
    assert len(list(source(folder, limit=7).trades)) == 7


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (ROW.replace("DE000A0D6554", "DE000A0D6555"), "is not an ISIN"),
        (ROW.replace(",6\n", ",six\n"), "six"),
        (ROW.replace("11.885", "1.885"), "in order"),
        (ROW.replace("11.85,", "11.8501,"), "decimals"),
        (ROW.replace("3777", "-1"), "not negative"),
        (ROW.split(",", 1)[0] + "\n", "ends early"),
    ],
)
def test_what_is_no_bar_is_named(tmp_path: Path, row: str, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        list(read_bars(write(tmp_path, ROW, row)))
    assert caught.value.code == "bad_tape"
    assert caught.value.where.endswith("a.csv.gz:3")
    assert why in caught.value.why


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, ROW) / "a.csv.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InvalidInput, match=r"a\.csv\.gz"):
        list(read_bars(tmp_path))


def test_a_file_whose_bytes_were_changed_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, ROW * 50) / "a.csv.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(byte ^ 0x5A for byte in data[len(data) // 2 :])
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"a\.csv\.gz"):
        list(read_bars(tmp_path))


def test_a_field_without_end_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="field larger than field limit"):
        list(read_bars(write(tmp_path, "x" * 200_000)))


def test_a_file_that_cannot_be_read_is_not_called_a_bad_bar(tmp_path: Path) -> None:
    (tmp_path / "tape.csv").mkdir()
    with pytest.raises(InvalidInput, match="the tape cannot be read") as caught:
        list(read_bars(tmp_path))
    assert (caught.value.code, caught.value.why) == ("unreadable", "Is a directory")


def test_a_folder_without_a_tape_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no tape"):
        list(read_bars(tmp_path))
    with pytest.raises(InvalidInput, match="no folder"):
        list(read_bars(tmp_path / "nowhere"))


def test_the_real_tape(shared_data: Path) -> None:
    folder = shared_data / "xetra_20170728"
    if not folder.is_dir():
        pytest.skip(f"no tape at {folder}")
    tape = source(folder, limit=5_000)
    trades = list(tape.trades)
    assert len(trades) == 5_000
    assert len({trade.source for trade in trades}) == len(tape.world.instruments)
