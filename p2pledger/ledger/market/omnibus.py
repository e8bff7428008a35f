"""Omnibus accounts: one holding for many customers, and the ledger keeps the share of each.

Shares are shares in the *free* units: the sum of all shares never exceeds what is free. Units that are locked, escrowed
or promised are therefore always the house's, and whatever comes of a promise cannot touch a customer. To lock or send
what belongs to a customer, it is allocated to the house first, in the same transaction if need be.

An order of authority is the one thing that takes units without asking. If what it leaves free does not cover the
shares, all beneficiaries lose in proportion, the odd units by largest remainder: none of them has a better right to the
pool than another (so also the Uniform Commercial Code, section 8-503 (b)).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from p2pledger.ledger.books import Books
from p2pledger.ledger.market import holders, instruments, orders
from p2pledger.ledger.market.buckets import FREE_SPOT
from p2pledger.ledger.market.custody import (
    Beneficiary,
    allocated,
    beneficiaries_of,
    beneficiary_key,
    is_omnibus,
)
from p2pledger.ledger.market.movement import Movement
from p2pledger.ledger.market.parties import Owner, holder_of
from p2pledger.ledger.market.permissions import require
from p2pledger.ledger.rule import Place, Refused, Rule, require_amount, require_asset
from p2pledger.ledger.tables import NOBODY, AccountFlag, Party
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.parties import Allocate
from p2pledger.primitives.reasons import Reason

__all__ = ["HOUSE_RULE", "RULES", "OmnibusGuard", "in_proportion"]

HOUSE_RULE: Final = "an omnibus account disposes of the house's part"
"""The name of the rule, as refusals carry it."""


def _set_share(books: Books, account: bytes, asset: bytes, party: bytes, amount: int) -> None:
    books.put(Beneficiary, beneficiary_key(account, asset, party), Beneficiary(amount) if amount else None)


def _change_share(books: Books, account: bytes, asset: bytes, party: bytes, by: int) -> None:
    """Changes the share of a party, and the sum of all."""
    for who in (party, NOBODY):
        _set_share(books, account, asset, who, allocated(books, account, asset, who) + by)


def in_proportion(shares: Mapping[bytes, int], loss: int) -> dict[bytes, int]:
    """What each party loses of a loss that is at most the sum of the shares. The losses add up to it exactly."""
    total = sum(shares.values())
    assert 0 <= loss <= total, "more is lost than there is"
    if not loss:
        return {}
    losses = {party: share * loss // total for party, share in shares.items()}
    odd = loss - sum(losses.values())
    by_remainder = sorted(shares, key=lambda party: (-(shares[party] * loss % total), party))
    for party in by_remainder[:odd]:
        losses[party] += 1
    return losses


class OmnibusGuard:
    """Lets the house dispose of its own part alone, and shares out what an order of authority takes."""

    asset_flags = 0
    account_flags = int(AccountFlag.OMNIBUS)

    def leaving(self, books: Books, place: Place, movement: Movement) -> None:
        source = movement.source
        if source is None or movement.source_spot != FREE_SPOT or not is_omnibus(books, source):
            return
        free = books.holding(movement.asset, source).free
        if free - movement.amount < allocated(books, source, movement.asset):
            raise Refused(Reason.INSUFFICIENT_ALLOCATION, rule=HOUSE_RULE)

    def entering(self, books: Books, place: Place, movement: Movement) -> None:
        pass

    def moved(self, books: Books, place: Place, movement: Movement) -> None:
        source, asset = movement.source, movement.asset
        if source is None or movement.source_spot != FREE_SPOT or not is_omnibus(books, source):
            return
        short = allocated(books, source, asset) - books.holding(asset, source).free
        if short <= 0:
            return
        house, counted = holder_of(books, source), holders.is_counted(books, asset)
        for party, loss in in_proportion(dict(beneficiaries_of(books, source, asset)), short).items():
            if loss:
                _change_share(books, source, asset, party, -loss)
                if counted:
                    # What leaves is counted as the house's, by the guard of holders: it has it from the beneficiary.
                    holders.change(books, asset, party, -loss)
                    holders.change(books, asset, house, loss)


def _require_unordered(books: Books, place: Place, account: bytes, asset: bytes, source: bytes, amount: int) -> None:
    """``order_stops`` where an order reaches the source, or holds so much in the account that the rest is too small."""
    if source:
        for identifier in orders.orders_over(books, asset, source):
            order = books.row(orders.OrderRow, identifier)
            if order is not None and order.stands_at(place.time_ms):
                raise Refused(Reason.ORDER_STOPS, rule=orders.name_of(identifier))
    free = books.holding(asset, account).free
    for held in orders.holds_on(books, place, asset, account, FREE_SPOT):
        if held.stay:
            free -= held.amount
            if free < amount:
                raise Refused(Reason.ORDER_STOPS, rule=orders.name_of(held.order))


class AllocateRule:
    """Moves shares in an omnibus account from one beneficiary, or the house, to another.

    who may     a depository, broker or bank that owns the account
    signed by   the account's owner
    needs       an omnibus account; an active asset; beneficiaries that are parties; the amount in the share of the
                source, or free in the account and nobody's share; no order over the source, or over so much of the
                account that the rest is smaller; a target that may hold the asset
    changes     the shares, and the sums of holders of a counted asset; no unit moves
    refuses     (bad_custody), zero_amount, same_account, unknown_asset, not_permitted, unknown_party, inactive,
                insufficient_allocation, order_stops, ineligible, holder_limit
    """

    def must_sign(self, books: Books, operation: Allocate) -> Iterator[bytes]:
        row = books.row(Owner, operation.account)
        if row is None or not is_omnibus(books, operation.account):
            raise Refused(Reason.BAD_CUSTODY, rule="no omnibus account")
        yield row.owner

    def execute(self, books: Books, operation: Allocate, place: Place) -> None:
        account, asset, amount = operation.account, operation.asset, operation.amount
        source, target = operation.source, operation.target
        require_amount(amount)
        if source == target:
            raise Refused(Reason.SAME_ACCOUNT)
        require_asset(books, asset)
        house = holder_of(books, account)
        require(books, place, house, operation.code, asset=asset, amount=amount)
        for party in (source, target):
            if party and (party == NOBODY or books.row(Party, party) is None):
                raise Refused(Reason.UNKNOWN_PARTY)
        instruments.judge(books, asset)
        if source:
            present = allocated(books, account, asset, source)
        else:
            present = books.holding(asset, account).free - allocated(books, account, asset)
        if present < amount:
            raise Refused(Reason.INSUFFICIENT_ALLOCATION, rule="share" if source else HOUSE_RULE)
        _require_unordered(books, place, account, asset, source, amount)
        if holders.is_counted(books, asset):
            holders.judge(books, place, asset, target or house, amount, source or house)
            holders.change(books, asset, source or house, -amount)
            holders.change(books, asset, target or house, amount)
        if source:
            _change_share(books, account, asset, source, -amount)
        if target:
            _change_share(books, account, asset, target, amount)


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType({Allocate: AllocateRule()})
