"""Flags of accounts and assets: they take a row off the bulk path, so that guards are asked when its units move."""

from __future__ import annotations

from dataclasses import replace

from p2pledger.ledger.books import Books
from p2pledger.ledger.rule import require_account, require_asset
from p2pledger.ledger.tables import AccountFlag, AssetFlag

__all__ = ["set_account_flag", "set_asset_flag"]


def set_account_flag(books: Books, account: bytes, flag: AccountFlag, on: bool) -> None:
    """``unknown_account`` where there is none."""
    row = require_account(books, account)
    flags = row.flags | flag if on else row.flags & ~flag
    if flags != row.flags:
        books.put_account(account, replace(row, flags=int(flags)))


def set_asset_flag(books: Books, asset: bytes, flag: AssetFlag, on: bool) -> None:
    """``unknown_asset`` where there is none."""
    row = require_asset(books, asset)
    flags = row.flags | flag if on else row.flags & ~flag
    if flags != row.flags:
        books.put_asset(asset, replace(row, flags=int(flags)))
