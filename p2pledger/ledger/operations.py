"""The rules of every operation, as docs/protocol.md, section 4 states them; this file is that table in Python.

Each operation has one rule, and all rules have the same shape (``rule.py``):

    must_sign(books, operation)        yields, in order, the accounts whose policies must be satisfied. It reads
                                       the books as they were before the transaction, and refuses where a name
                                       leads nowhere.
    execute(books, operation, place)   checks in the stated order, the first failure decides, then writes into the
                                       books.

and the same headings: *who may*, *signed by*, *needs*, *changes*, *refuses* (in the order of the checks). Units change
hands and bucket through ``market/movement.py`` alone, which asks the guards of accounts and assets with flags.

Here stand the rules of securities, money in accounts, and accounts; those of native money and stakes are in
``native_rules.py``, those of validators and evidence in ``seat_rules.py``. The core executes transfer, lock and release
in bulk by the same rules (``Branch.execute_plain``); the tests hold the two against each other. What changes here
changes the protocol.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from p2pledger.ledger.books import Books
from p2pledger.ledger.market import (
    calendars,
    claims,
    escrow,
    holders,
    instructions,
    links,
    listing,
    mirrors,
    money,
    offers,
    omnibus,
    order_rules,
    payments,
    permissions,
    registration,
    settlement,
)
from p2pledger.ledger.market.buckets import FREE_SPOT, Bucket, Spot, require_in
from p2pledger.ledger.market.movement import Cause, Movement, move
from p2pledger.ledger.native_rules import PayRule, StakeRule, UnstakeRule
from p2pledger.ledger.rule import (
    Place,
    Refused,
    Rule,
    require_account,
    require_amount,
    require_asset,
)
from p2pledger.ledger.seat_rules import ReportRule, SetValidatorsRule
from p2pledger.ledger.tables import Account, Asset, FinalityRow, register_of
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.names import AssetKind, account_opened, isin_is_valid
from p2pledger.primitives.reasons import Reason

__all__ = ["RULES"]

_CURRENCY: Final = re.compile(rb"[A-Z]{3}\0{9}")


class TransferRule:
    """Moves free holdings from one account to another.

    who may     whoever owns units
    signed by   source
    needs       the target; the asset; the amount free in the source
    changes     free of the source shrinks, free of the target grows
    refuses     zero_amount, same_account, unknown_account, unknown_asset, insufficient_free, overflow, the guards
    """

    def must_sign(self, books: Books, operation: tx.Transfer) -> Iterator[bytes]:
        yield operation.source

    def execute(self, books: Books, operation: tx.Transfer, place: Place) -> None:
        require_amount(operation.amount)
        if operation.source == operation.target:
            raise Refused(Reason.SAME_ACCOUNT)
        asset, source, target, amount = operation.asset, operation.source, operation.target, operation.amount
        move(books, place, Movement(asset, source, FREE_SPOT, target, FREE_SPOT, amount, Cause.OWNER, operation.code))


class LockRule:
    """Puts free holdings under a controller, who alone can release them.

    who may     whoever owns units
    signed by   account
    needs       the controller; the asset; the amount free in the account
    changes     free of the account shrinks, locked grows, and with it the controller's lock
    refuses     zero_amount, same_account, unknown_account, unknown_asset, insufficient_free, the guards
    """

    def must_sign(self, books: Books, operation: tx.Lock) -> Iterator[bytes]:
        yield operation.account

    def execute(self, books: Books, operation: tx.Lock, place: Place) -> None:
        require_amount(operation.amount)
        if operation.controller == operation.account:
            raise Refused(Reason.SAME_ACCOUNT)
        require_account(books, operation.controller)
        asset, account, amount = operation.asset, operation.account, operation.amount
        spot = Spot(Bucket.LOCKED, operation.controller)
        move(books, place, Movement(asset, account, FREE_SPOT, account, spot, amount, Cause.OWNER, operation.code))


class ReleaseRule:
    """Gives locked holdings back to the account that owns them.

    who may     the controller of a lock
    signed by   controller
    needs       the asset; the amount locked under this controller
    changes     the controller's lock shrinks, and with it locked of the account; free grows
    refuses     zero_amount, unknown_asset, insufficient_locked, the guards of orders
    """

    def must_sign(self, books: Books, operation: tx.Release) -> Iterator[bytes]:
        yield operation.controller

    def execute(self, books: Books, operation: tx.Release, place: Place) -> None:
        asset, account, amount = operation.asset, operation.account, operation.amount
        spot = Spot(Bucket.LOCKED, operation.controller)
        require_amount(amount)
        require_asset(books, asset)
        require_in(
            books, asset, account, spot, amount
        )  # before the account, which need not exist where nothing is locked
        move(books, place, Movement(asset, account, spot, account, FREE_SPOT, amount, Cause.RETURN, operation.code))


class IssueRule:
    """Creates units of an asset.

    who may     the asset's issuer
    signed by   the asset's issuer
    needs       the asset, also before the transaction; the target; room below 2^64 in supply and holding
    changes     issued of the asset grows, free of the target grows
    refuses     (unknown_asset), zero_amount, unknown_account, overflow, the guards
    """

    def must_sign(self, books: Books, operation: tx.Issue) -> Iterator[bytes]:
        yield require_asset(books, operation.asset).issuer

    def execute(self, books: Books, operation: tx.Issue, place: Place) -> None:
        asset, target, amount = operation.asset, operation.target, operation.amount
        move(books, place, Movement(asset, None, FREE_SPOT, target, FREE_SPOT, amount, Cause.CREATION, operation.code))


class RedeemRule:
    """Destroys units of an asset.

    who may     the asset's issuer, with the owner
    signed by   source, then the asset's issuer
    needs       the asset, also before the transaction; the amount free in the source
    changes     redeemed of the asset grows, free of the source shrinks
    refuses     (unknown_asset), zero_amount, insufficient_free, the guards
    """

    def must_sign(self, books: Books, operation: tx.Redeem) -> Iterator[bytes]:
        yield operation.source
        yield require_asset(books, operation.asset).issuer

    def execute(self, books: Books, operation: tx.Redeem, place: Place) -> None:
        asset, source, amount = operation.asset, operation.source, operation.amount
        move(
            books, place, Movement(asset, source, FREE_SPOT, None, FREE_SPOT, amount, Cause.DESTRUCTION, operation.code)
        )


class DefineRule:
    """Makes an asset known in a register.

    who may     the register's depository, with the issuer
    signed by   the register's depository, then issuer
    needs       the register; an instrument of the asset's kind (an ISIN, or a currency code); a name not yet taken
    changes     a new asset without supply
    refuses     (unknown_register), bad_isin or bad_currency, asset_exists
    """

    def must_sign(self, books: Books, operation: tx.Define) -> Iterator[bytes]:
        register = books.register(register_of(operation.asset))
        if register is None:
            raise Refused(Reason.UNKNOWN_REGISTER)
        yield register.depository
        yield operation.issuer

    def execute(self, books: Books, operation: tx.Define, place: Place) -> None:
        asset, kind, instrument = operation.asset, AssetKind(operation.kind), operation.asset[:12]
        if kind is AssetKind.SECURITY and not isin_is_valid(instrument.decode("ascii", "replace")):
            raise Refused(Reason.BAD_ISIN)
        if kind is AssetKind.MONEY and not _CURRENCY.fullmatch(instrument):
            raise Refused(Reason.BAD_CURRENCY)
        if books.asset(asset) is not None:
            raise Refused(Reason.ASSET_EXISTS)
        flags = money.flags_at_birth(books, asset, kind) | permissions.flags_at_birth(books, asset)
        books.put_asset(asset, Asset(kind, operation.decimals, operation.issuer, operation.name, flags=flags))


class OpenRule:
    """Opens an account. Its identifier commits to opener, salt and first policy, so nobody else can take it.

    who may     anybody
    signed by   opener
    needs       a policy of version 1; an identifier not yet taken
    changes     a new account
    refuses     bad_policy_version, account_exists
    """

    def must_sign(self, books: Books, operation: tx.Open) -> Iterator[bytes]:
        yield operation.opener

    def execute(self, books: Books, operation: tx.Open, place: Place) -> None:
        account = account_opened(operation.opener, operation.salt, operation.policy.values())
        if operation.policy.version != 1:
            raise Refused(Reason.BAD_POLICY_VERSION)
        if books.account(account) is not None:
            raise Refused(Reason.ACCOUNT_EXISTS)
        books.put_account(account, Account(operation.policy))


class SetPolicyRule:
    """Replaces the policy of an account; the present one must agree.

    who may     whoever acts for the account
    signed by   account
    needs       a policy of the next version
    changes     the account's policy, from the next transaction on
    refuses     bad_policy_version
    """

    def must_sign(self, books: Books, operation: tx.SetPolicy) -> Iterator[bytes]:
        yield operation.account

    def execute(self, books: Books, operation: tx.SetPolicy, place: Place) -> None:
        row = require_account(books, operation.account)
        if operation.policy.version != row.policy.version + 1:
            raise Refused(Reason.BAD_POLICY_VERSION)
        books.put_account(operation.account, replace(row, policy=operation.policy))


class SetFinalityRule:
    """Says after how many blocks the holders of an asset may rely on one.

    who may     the asset's issuer
    signed by   the asset's issuer
    needs       the asset, also before the transaction
    changes     the asset's finality policy; 0 takes it away: then a block counts when the engine says that it is final
    refuses     (unknown_asset)
    """

    def must_sign(self, books: Books, operation: tx.SetFinality) -> Iterator[bytes]:
        yield require_asset(books, operation.asset).issuer

    def execute(self, books: Books, operation: tx.SetFinality, place: Place) -> None:
        require_asset(books, operation.asset)
        books.put_finality(operation.asset, FinalityRow(operation.confirmations) if operation.confirmations else None)


RULES: Final[Mapping[type[tx.Operation], Rule[Any]]] = MappingProxyType(
    {
        tx.Transfer: TransferRule(),
        tx.Lock: LockRule(),
        tx.Release: ReleaseRule(),
        tx.Issue: IssueRule(),
        tx.Redeem: RedeemRule(),
        tx.Define: DefineRule(),
        tx.Open: OpenRule(),
        tx.SetPolicy: SetPolicyRule(),
        tx.Pay: PayRule(),
        tx.Stake: StakeRule(),
        tx.Unstake: UnstakeRule(),
        tx.SetFinality: SetFinalityRule(),
        tx.SetValidators: SetValidatorsRule(),
        tx.Report: ReportRule(),
        # The market: the rules of each file, in the order of their operations' codes.
        **registration.RULES,
        **omnibus.RULES,
        **permissions.RULES,
        **listing.RULES,
        **holders.RULES,
        **claims.RULES,
        **instructions.RULES,
        **settlement.RULES,
        **offers.RULES,
        **calendars.RULES,
        **money.RULES,
        **payments.RULES,
        **links.RULES,
        **mirrors.RULES,
        **order_rules.RULES,
        **escrow.RULES,
    }
)
"""The rule of each operation."""
