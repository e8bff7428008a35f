"""Names of assets and accounts: how 16 and 32 bytes are read and written by people (docs/protocol.md, section 3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from enum import IntEnum
from typing import Final

from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.hashing import ACCOUNT_TAG, KEY_ACCOUNT_TAG, OBJECT_TAG, STAKE_TAG, tagged_hash

__all__ = [
    "AssetKind",
    "account_named",
    "account_of_key",
    "account_opened",
    "asset_id",
    "asset_text",
    "isin_is_valid",
    "object_id",
    "register_code",
    "stake_id",
    "suggestion",
]

_INSTRUMENT: Final = re.compile(r"[A-Z0-9]{1,12}")
_REGISTER: Final = re.compile(r"[A-Z0-9]{1,4}")
_ISIN: Final = re.compile(r"[A-Z]{2}[A-Z0-9]{9}[0-9]")


class AssetKind(IntEnum):
    """What an asset is: its instrument is an ISIN, or a currency code."""

    SECURITY = 0
    MONEY = 1


def register_code(text: str) -> bytes:
    """4 bytes of a register's short code, such as ``CSDC``. InvalidInput for anything else."""
    if not _REGISTER.fullmatch(text):
        raise InvalidInput(f"{text!r} is not a register code", why="one to four of A-Z and 0-9", code="bad_asset_name")
    return text.encode().ljust(4, b"\0")


def asset_id(text: str) -> bytes:
    """16 bytes of a name such as ``DE0005140008@CSDC`` or ``CNY@ICBC``. InvalidInput for anything else."""
    instrument, at, register = text.partition("@")
    if not at or not _INSTRUMENT.fullmatch(instrument):
        raise InvalidInput(
            f"{text!r} is not an asset",
            why="an asset is INSTRUMENT@REGISTER, in capital letters and digits",
            hint="For example DE0005140008@CSDC or CNY@ICBC",
            code="bad_asset_name",
        )
    return instrument.encode().ljust(12, b"\0") + register_code(register)


def asset_text(asset: bytes) -> str:
    """The name of an asset for people; bytes that are no name are shown in hexadecimal."""
    instrument, register = asset[:12].rstrip(b"\0"), asset[12:].rstrip(b"\0")
    text = f"{instrument.decode('ascii', 'replace')}@{register.decode('ascii', 'replace')}"
    return text if re.fullmatch(r"[A-Z0-9]{1,12}@[A-Z0-9]{1,4}", text) else asset.hex()


def isin_is_valid(instrument: str) -> bool:
    """ISO 6166: two letters, nine letters or digits, and a check digit by the Luhn sum over the expanded digits."""
    if not _ISIN.fullmatch(instrument):
        return False
    digits = "".join(str(int(character, 36)) for character in instrument)
    total = 0
    for position, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (1 + position % 2)
        total += doubled // 10 + doubled % 10
    return total % 10 == 0


def account_named(name: str) -> bytes:
    """The identifier of an account that the genesis names."""
    return tagged_hash(ACCOUNT_TAG, encode(name))


def account_opened(opener: bytes, salt: bytes, policy: tuple[object, ...]) -> bytes:
    """The identifier of an account opened by a transaction: it commits to opener, salt and first policy."""
    return tagged_hash(ACCOUNT_TAG, opener + salt + encode(policy))


def account_of_key(key: bytes) -> bytes:
    """The identifier of the account that belongs to a node's public key: rewards and fees of its blocks go there."""
    return tagged_hash(KEY_ACCOUNT_TAG, key)


def stake_id(account: bytes, salt: bytes) -> bytes:
    """The identifier of a row of stake: its owner's account and 16 bytes that he chose."""
    return tagged_hash(STAKE_TAG, account + salt)


def object_id(code: int, creator: bytes, salt: bytes) -> bytes:
    """The identifier of what an operation of this code makes for an account, told apart by the 16 bytes it carries."""
    return tagged_hash(OBJECT_TAG, bytes([code]) + creator + salt)


def suggestion(name: str, known: Sequence[str]) -> str:
    """ "Did you mean ...?" where one of the known names is near, else the list of them."""
    folded = {item.casefold(): item for item in known}
    if near := get_close_matches(name.casefold(), folded, n=1, cutoff=0.5):
        return f"Did you mean {folded[near[0]]}?"
    shown = ", ".join(sorted(known)[:20])
    return f"Known: {shown}{', ...' if len(known) > 20 else ''}" if known else ""
