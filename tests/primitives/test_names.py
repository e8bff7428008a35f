"""Names of assets, registers and accounts, and the check digit of ISO 6166."""

import csv
import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.hashing import tagged_hash
from p2pledger.primitives.names import (
    account_named,
    account_opened,
    asset_id,
    asset_text,
    isin_is_valid,
    register_code,
)

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
instruments = st.text(LETTERS, min_size=1, max_size=12)
register_codes = st.text(LETTERS, min_size=1, max_size=4)

# Published examples: Apple, Treasury Corporation of Victoria, BAE Systems, Deutsche Bank, Volkswagen, Deutsche Boerse.
REAL = ("US0378331005", "AU0000XVGZA3", "GB0002634946", "DE0005140008", "DE0007664039", "DE0005810055")


@given(instruments, register_codes)
def test_a_name_is_16_bytes_and_reads_back(instrument: str, register: str) -> None:
    text = f"{instrument}@{register}"
    asset = asset_id(text)
    assert len(asset) == 16
    assert asset[12:] == register_code(register)
    assert asset_text(asset) == text


@given(st.lists(st.tuples(instruments, register_codes), min_size=2, max_size=8))
def test_the_registers_of_one_instrument_are_neighbours(pairs: list[tuple[str, str]]) -> None:
    keys = sorted({asset_id(f"{instrument}@{register}") for instrument, register in pairs})
    instruments_in_order = [key[:12] for key in keys]
    assert instruments_in_order == sorted(instruments_in_order)


@pytest.mark.parametrize(
    "text",
    ["", "@", "CNY", "CNY@", "@ICBC", "cny@ICBC", "CNY@icbc", "CNY@ICBCX", "DE00051400081@CSDC", "C Y@ICBC", "CNY@IC@B",
     "CNY\n@ICBC", "CNY@ICBC\n", "ÄÖÜ@ICBC", "CNY\0@ICBC"],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        asset_id(text)
    assert caught.value.code == "bad_asset_name"


@pytest.mark.parametrize("asset", [bytes(16), b"CNY".ljust(12, b"\0") + bytes(4), b"cny".ljust(16, b"\0"), b"\xff" * 16,
                                   b"C\0NY".ljust(12, b"\0") + b"ICBC"])  # fmt: skip
def test_bytes_that_are_no_name_are_shown_in_hexadecimal(asset: bytes) -> None:
    assert asset_text(asset) == asset.hex()


@pytest.mark.parametrize("isin", REAL)
def test_real_isins_are_valid_and_only_with_their_own_check_digit(isin: str) -> None:
    assert [digit for digit in "0123456789" if isin_is_valid(isin[:11] + digit)] == [isin[11]]


@pytest.mark.parametrize("isin", REAL)
def test_every_exchange_of_neighbouring_digits_but_0_and_9_is_caught(isin: str) -> None:
    """What a Luhn sum promises."""
    for at in range(2, 11):
        first, second = isin[at], isin[at + 1]
        if first.isdigit() and second.isdigit() and first != second and {first, second} != {"0", "9"}:
            assert not isin_is_valid(isin[:at] + second + first + isin[at + 2 :])


@pytest.mark.parametrize(
    "text",
    ["", "US037833100", "US03783310055", "us0378331005", "0S0378331005", "US037833100A", "US03783310\u0665\u0660",
     "US0378331005\n", "US0378331005\0", "USÉ378331005"],
)  # fmt: skip
def test_other_texts_are_no_isin(text: str) -> None:
    assert not isin_is_valid(text)


def test_all_isins_of_a_trading_day_are_valid(shared_data: Path) -> None:
    isins = set()
    for tape in sorted((shared_data / "xetra_20170728").glob("*.csv.gz")):
        with gzip.open(tape, "rt", encoding="utf-8") as lines:
            isins |= {row["ISIN"] for row in csv.DictReader(lines)}
    assert len(isins) == 1_325
    assert all(isin_is_valid(isin) for isin in isins)
    assert all(asset_text(asset_id(f"{isin}@CSDC")) == f"{isin}@CSDC" for isin in isins)


def test_accounts_are_hashes_of_what_the_protocol_says() -> None:
    assert account_named("alice") == tagged_hash(b"p2pl.ac1", b"\xa5alice")
    policy = (1, ((b"k" * 32, 1),), 1)
    opened = account_opened(b"o" * 32, b"s" * 16, policy)
    assert opened == tagged_hash(b"p2pl.ac1", b"o" * 32 + b"s" * 16 + encode(policy))
    assert (
        len({opened, account_opened(b"p" * 32, b"s" * 16, policy), account_opened(b"o" * 32, b"t" * 16, policy)}) == 3
    )


@pytest.mark.parametrize("code", ["", "ABCDE", "ab", "A B", "Ä", "A\0"])
def test_register_codes_are_one_to_four_letters_or_digits(code: str) -> None:
    with pytest.raises(InvalidInput):
        register_code(code)
    assert register_code("B1") == b"B1\0\0"
