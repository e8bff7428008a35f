"""Reading a version of the state, for people and clients. A version never changes: read it from any thread.

Everything comes out in the order of the keys, so two nodes with the same root answer alike. Where a table can be long
there is ``after`` and ``limit``: ask again with the last key of the answer for the next page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from p2pledger import core
from p2pledger.ledger.books import Books
from p2pledger.ledger.market.buckets import Encumbrance
from p2pledger.ledger.market.custody import misallocations
from p2pledger.ledger.market.holders import miscounts
from p2pledger.ledger.tables import (
    NOBODY,
    Account,
    Asset,
    FinalityRow,
    Flow,
    Holding,
    Issued,
    Lock,
    Native,
    ParameterRow,
    Party,
    Register,
    ReplayRow,
    Stake,
    Staked,
    Table,
    ValidatorsRow,
    asset_of,
    engine_key,
    holding_key,
    instrument_of,
    parameter_key,
    replay_key,
    validators_key,
)
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.validators import Validators

__all__ = [
    "Finding",
    "HoldingLine",
    "LockLine",
    "account_of",
    "accounts_named",
    "asset_row",
    "assets",
    "check_conservation",
    "check_native",
    "finality_of",
    "holders_of",
    "holding_of",
    "holdings_of",
    "locks_of",
    "native_of",
    "parameters_of",
    "parties",
    "party_of",
    "registers",
    "remembered",
    "rows",
    "stakes_owned_by",
    "validators_of",
]

_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class HoldingLine:
    """One line of a statement: who holds how much of what."""

    asset: bytes
    account: bytes
    holding: Holding


@dataclass(frozen=True, slots=True)
class LockLine:
    """What a controller may release of a holding."""

    asset: bytes
    account: bytes
    controller: bytes
    amount: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where the books do not add up. ``account`` is None where the whole asset is meant; ``asset`` ends with
    four zero bytes where an instrument is meant in all of its registers.
    """

    asset: bytes
    account: bytes | None
    what: str
    expected: int
    found: int


def rows(version: core.Version, table: Table, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """All rows of a table below a prefix, as stored, in key order; taken from the core page by page."""
    after: bytes | None = None
    while True:
        page = version.scan(table, prefix, after, _PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1][0]


def assets(version: core.Version) -> Iterator[tuple[bytes, Asset]]:
    for key, row in rows(version, Table.ASSETS):
        yield key, Asset.decode(row)


def asset_row(version: core.Version, asset: bytes) -> Asset | None:
    row = version.get(Table.ASSETS, asset)
    return None if row is None else Asset.decode(row)


def account_of(version: core.Version, account: bytes) -> Account | None:
    row = version.get(Table.ACCOUNTS, account)
    return None if row is None else Account.decode(row)


def party_of(version: core.Version, account: bytes) -> Party | None:
    row = version.get(Table.PARTIES, account)
    return None if row is None else Party.decode(row)


def parties(version: core.Version) -> Iterator[tuple[bytes, Party]]:
    for key, row in rows(version, Table.PARTIES):
        yield key, Party.decode(row)


def accounts_named(version: core.Version, name: str) -> tuple[bytes, ...]:
    """The accounts of the parties of this name, in key order."""
    return tuple(account for account, party in parties(version) if party.name == name)


def registers(version: core.Version) -> Iterator[tuple[bytes, Register]]:
    """(4-byte code, register)."""
    for key, row in rows(version, Table.REGISTERS):
        yield key, Register.decode(row)


def parameters_of(version: core.Version) -> Parameters:
    """The parameters as they stand in the state; a parameter that is missing there is a broken state."""
    values = []
    for number in range(1, version.count(Table.PARAMETERS) + 1):
        row = version.get(Table.PARAMETERS, parameter_key(number))
        assert row is not None, f"the state is broken: parameter {number} is missing"
        values.append(ParameterRow.decode(row).value)
    return Parameters(*values)


def validators_of(version: core.Version, epoch: int) -> Validators | None:
    row = version.get(Table.VALIDATORS, validators_key(epoch))
    return None if row is None else ValidatorsRow.decode(row).validators(epoch)


def remembered(version: core.Version, valid_until: int, transaction_id: bytes) -> ReplayRow | None:
    """What became of a transaction, as long as the state remembers it: until its ``valid_until`` has passed."""
    row = version.get(Table.REPLAY, replay_key(valid_until, transaction_id))
    return None if row is None else ReplayRow.decode(row)


def holding_of(version: core.Version, asset: bytes, account: bytes) -> Holding:
    """Zeros where nothing is held, or where asset or account do not exist."""
    row = version.get(Table.HOLDINGS, holding_key(asset, account))
    return Holding() if row is None else Holding.decode(row)


def holdings_of(version: core.Version, account: bytes) -> Iterator[HoldingLine]:
    """The statement of one account: every asset of which it holds something."""
    for asset, _ in rows(version, Table.ASSETS):
        row = version.get(Table.HOLDINGS, holding_key(asset, account))
        if row is not None:
            yield HoldingLine(asset, account, Holding.decode(row))


def holders_of(
    version: core.Version, asset: bytes, *, after: bytes | None = None, limit: int = _PAGE
) -> list[HoldingLine]:
    """Up to ``limit`` holders of one asset behind the account ``after``, in the order of accounts."""
    last = None if after is None else holding_key(asset, after)
    page = version.scan(Table.HOLDINGS, asset, last, limit)
    return [HoldingLine(asset, key[16:], Holding.decode(row)) for key, row in page]


def locks_of(version: core.Version, asset: bytes, account: bytes) -> Iterator[LockLine]:
    """The controllers of one holding, in the order of their accounts."""
    for key, row in rows(version, Table.LOCKS, asset + account):
        yield LockLine(asset, account, key[48:], Lock.decode(row).amount)


def native_of(version: core.Version, account: bytes) -> int:
    """The native money of an account that is not staked."""
    row = version.get(Table.NATIVE, account)
    return 0 if row is None else Native.decode(row).free


def stakes_owned_by(version: core.Version, account: bytes) -> Iterator[tuple[bytes, Stake]]:
    """(identifier, stake) of an account's stakes, by identifier. It reads the whole table."""
    for identifier, row in rows(version, Table.STAKES):
        stake = Stake.decode(row)
        if stake.account == account:
            yield identifier, stake


def finality_of(version: core.Version, asset: bytes) -> int:
    """After how many blocks the holders of an asset rely on one; 0: when the engine says that it is final."""
    row = version.get(Table.FINALITY, asset)
    return 0 if row is None else FinalityRow.decode(row).confirmations


def check_native(version: core.Version) -> list[str]:
    """What is wrong with the native money, in sentences; an empty list means that it adds up.

    Free and staked together make what was ever issued, and behind each key stand its stakes.
    """
    row = version.get(Table.ENGINE, engine_key(0))
    issued = 0 if row is None else Issued.decode(row).amount
    free = sum(Native.decode(data).free for _, data in rows(version, Table.NATIVE))
    behind: dict[bytes, Staked] = {}
    for _, data in rows(version, Table.STAKES):
        stake = Stake.decode(data)
        before = behind.get(stake.key, Staked())
        behind[stake.key] = Staked(before.amount + stake.amount, before.rows + 1)
    staked = sum(entry.amount for entry in behind.values())
    findings = []
    if free + staked != issued:
        findings.append(f"{free} of native money are free and {staked} staked, but {issued} were issued")
    if {key: Staked.decode(data) for key, data in rows(version, Table.STAKED)} != behind:
        findings.append("what stands behind a key is not the sum of its stakes")
    return findings


def check_conservation(version: core.Version) -> list[Finding]:
    """Whether the books add up; an empty list means that they do.

    For each asset, free and locked over all holdings make issued less redeemed, and what came from other registers less
    what went there; for each instrument, what came into its registers is what went out of them; for each holding, its
    locks and encumbrances make its locked amount; nothing is held or locked that is not in the books; counted holders
    and the shares in omnibus accounts are what the holdings say. It reads every row: for checks, not for clients.
    """
    findings: list[Finding] = []
    held: dict[bytes, int] = {}
    locked: dict[bytes, int] = {}
    for key, row in rows(version, Table.LOCKS):
        locked[key[:48]] = locked.get(key[:48], 0) + Lock.decode(row).amount
    for key, row in rows(version, Table.ENCUMBRANCES):
        locked[key[:48]] = locked.get(key[:48], 0) + Encumbrance.decode(row).amount
    for key, row in rows(version, Table.HOLDINGS):
        holding = Holding.decode(row)
        held[asset_of(key)] = held.get(asset_of(key), 0) + holding.total
        expected = locked.pop(key, 0)
        if expected != holding.locked:
            findings.append(
                Finding(
                    asset_of(key), key[16:], "locked is not the sum of locks and encumbrances", expected, holding.locked
                )
            )
    for key, amount in locked.items():
        findings.append(Finding(asset_of(key), key[16:], "locks without a holding", 0, amount))
    flows: dict[bytes, Flow] = {key: Flow.decode(row) for key, row in rows(version, Table.FLOWS)}
    for asset, entry in assets(version):
        total, flow = held.pop(asset, 0), flows.get(asset, Flow())
        expected = entry.circulating + flow.arrived - flow.departed
        if total != expected:
            what = "holdings are not issued less redeemed, and in less out"
            findings.append(Finding(asset, None, what, expected, total))
    crossed: dict[bytes, tuple[int, int]] = {}
    for asset, flow in flows.items():
        before = crossed.get(instrument_of(asset), (0, 0))
        crossed[instrument_of(asset)] = (before[0] + flow.arrived, before[1] + flow.departed)
    for instrument, (arrived, departed) in crossed.items():
        if arrived != departed:
            what = "what came into the registers is not what went out of them"
            findings.append(Finding(instrument + bytes(4), None, what, departed, arrived))
    for asset, total in held.items():
        findings.append(Finding(asset, None, "holdings of an unknown asset", 0, total))
    books = Books(version)
    for asset, account, what, expected, present in (*miscounts(books), *misallocations(books)):
        findings.append(Finding(asset, None if account == NOBODY else account, what, expected, present))
    return findings
