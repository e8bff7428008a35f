"""Registration: how an account becomes a party, and how accounts get an owner and a custodian."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from p2pledger.ledger.books import Books
from p2pledger.ledger.market import holders, orders
from p2pledger.ledger.market.flags import set_account_flag
from p2pledger.ledger.market.lookalikes import NameKind, free_name, owner_of, require_distinct, take_name
from p2pledger.ledger.market.parties import MOST_ACCOUNTS, Owner, PartyAccount, accounts_of, holder_of
from p2pledger.ledger.market.permissions import require
from p2pledger.ledger.rule import Place, Refused, Rule, require_account
from p2pledger.ledger.tables import NOBODY, AccountFlag, Party
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.lookalikes import name_is_clean
from p2pledger.primitives.market.parties import (
    AccountKind,
    RegisterAccount,
    RegisterParty,
    Role,
    RoleNumber,
    Tier,
    country_is_valid,
    lei_is_valid,
)
from p2pledger.primitives.reasons import Reason

__all__ = ["GRANTED_BY_DEPOSITORIES", "RULES"]

GRANTED_BY_DEPOSITORIES: Final = frozenset({Role.VENUE, Role.ISSUER, Role.BANK, Role.BROKER, Role.INVESTOR})
"""The roles that a depository may give and take; operators give all."""
_CUSTODIANS: Final[Mapping[Tier, frozenset[Role]]] = MappingProxyType(
    {
        Tier.INVESTOR: frozenset({Role.BROKER, Role.BANK, Role.DEPOSITORY}),
        Tier.BROKER: frozenset({Role.BANK, Role.DEPOSITORY}),
        Tier.DEPOSITORY: frozenset({Role.DEPOSITORY}),
    }
)
"""Tier -> the roles of those who may keep its accounts."""
_OWNERS: Final[Mapping[Tier, frozenset[Role]]] = MappingProxyType(
    {
        Tier.INVESTOR: frozenset(Role),
        Tier.BROKER: frozenset({Role.BROKER, Role.BANK}),
        Tier.DEPOSITORY: frozenset({Role.DEPOSITORY}),
    }
)
"""Tier -> the roles of those who may own its accounts."""
_TOP: Final = frozenset({Role.BANK, Role.DEPOSITORY})
"""Who may keep an account with nobody above."""


class RegisterPartyRule:
    """Makes an account a party, or changes the entry of one.

    who may     an operator; a depository for the roles venue, issuer, bank, broker and investor
    signed by   sponsor, then party
    needs       an account that belongs to no other party; an entry that nobody made yet, or that this sponsor made, or
                any entry for an operator; a name in printable characters; an LEI with its check digits that no other
                party has (none for one who is an investor only); a country; roles that differ from the present ones by
                roles that the sponsor may give; a name that looks like no other party's
    changes     the entry of the party; whose its name and its LEI are
    refuses     not_permitted, unknown_account, already_registered, bad_party, looks_alike
    """

    def must_sign(self, books: Books, operation: RegisterParty) -> Iterator[bytes]:
        yield operation.sponsor
        yield operation.party

    def execute(self, books: Books, operation: RegisterParty, place: Place) -> None:
        party, name = operation.party, operation.name
        require(books, place, operation.sponsor, operation.code)
        sponsor = holder_of(books, operation.sponsor)
        sponsor_row = books.row(Party, sponsor)
        assert sponsor_row is not None, "who may sponsor has a role"
        is_operator = Role.OPERATOR in sponsor_row.roles
        require_account(books, party)
        present = books.row(Party, party)
        owner = books.row(Owner, party)
        if owner is not None and owner.owner != party:
            raise Refused(Reason.ALREADY_REGISTERED, rule="the account belongs to a party")
        if present is not None and present.sponsor not in (NOBODY, sponsor) and not is_operator:
            raise Refused(Reason.ALREADY_REGISTERED, rule="the party has another sponsor")
        roles = _require_sound(operation)
        if operation.lei and owner_of(books, NameKind.LEI, operation.lei) not in (None, party):
            raise Refused(Reason.BAD_PARTY, rule="LEI of another party")
        changed = frozenset(roles) ^ frozenset(() if present is None else present.roles)
        if not is_operator and not changed <= GRANTED_BY_DEPOSITORIES:
            raise Refused(Reason.BAD_PARTY, rule="roles that this sponsor cannot give")
        require_distinct(books, NameKind.PARTY, name, party)
        if present is not None:
            free_name(books, NameKind.PARTY, present.name, party)
            if present.lei:
                free_name(books, NameKind.LEI, present.lei, party)
        take_name(books, NameKind.PARTY, name, party)
        if operation.lei:
            take_name(books, NameKind.LEI, operation.lei, party)
        books.put(Party, party, Party(name, roles, operation.lei, operation.country, sponsor))


def _require_sound(operation: RegisterParty) -> tuple[str, ...]:
    """The roles, if all fields are in order; ``bad_party``, naming the field, otherwise."""
    if not name_is_clean(operation.name):
        raise Refused(Reason.BAD_PARTY, rule="name (printable characters)")
    roles = [number.role for number in operation.roles]
    if RoleNumber.ANYBODY in operation.roles:
        raise Refused(Reason.BAD_PARTY, rule="roles")
    needs_lei = any(role is not Role.INVESTOR for role in roles)
    if (operation.lei or needs_lei) and not lei_is_valid(operation.lei):
        raise Refused(Reason.BAD_PARTY, rule="LEI (ISO 17442 check digits)")
    if not country_is_valid(operation.country):
        raise Refused(Reason.BAD_PARTY, rule="country (ISO 3166-1 alpha-2)")
    return tuple(role.value for role in roles if role is not None)


class RegisterAccountRule:
    """Says whose an account is, and who keeps it.

    who may     a depository, broker or bank as the custodian
    signed by   account, then owner, then custodian
    needs       an account without an owner, which is no other party; parties as owner and custodian; owner and
                custodian in roles that the tier allows; for an omnibus account a broker, bank or depository as the
                owner; an upper account of the custodian in a higher tier, or a depository or bank as the custodian;
                fewer than 4,096 accounts of the owner, so that orders over it reach them all
    changes     the owner; the flag OMNIBUS; what the account holds of counted assets counts as its owner's; orders over
                the owner reach the account
    refuses     not_permitted, unknown_account, already_registered, unknown_party, bad_custody
    """

    def must_sign(self, books: Books, operation: RegisterAccount) -> Iterator[bytes]:
        yield operation.account
        yield operation.owner
        yield operation.custodian

    def execute(self, books: Books, operation: RegisterAccount, place: Place) -> None:
        account, owner = operation.account, operation.owner
        require(books, place, operation.custodian, operation.code)
        require_account(books, account)
        if books.row(Owner, account) is not None:
            raise Refused(Reason.ALREADY_REGISTERED, rule="the account has an owner")
        for party in (owner, operation.custodian):
            if books.row(Party, party) is None:
                raise Refused(Reason.UNKNOWN_PARTY)
        if owner != account and books.row(Party, account) is not None:
            raise Refused(Reason.BAD_CUSTODY, rule="a party's own account")
        _require_fitting(books, operation)
        # An order over a party must be able to reach all that it has.
        if sum(1 for _ in accounts_of(books, owner)) >= MOST_ACCOUNTS:
            raise Refused(Reason.BAD_CUSTODY, rule=f"a party has at most {MOST_ACCOUNTS} accounts")

        before = holder_of(books, account)
        books.put(
            Owner,
            account,
            Owner(owner, operation.custodian, operation.tier, operation.kind, operation.upper or NOBODY),
        )
        books.put(PartyAccount, owner + account, PartyAccount())
        if operation.kind is AccountKind.OMNIBUS:
            set_account_flag(books, account, AccountFlag.OMNIBUS, True)
        if before != owner:
            for asset in list(holders.counted_assets(books)):
                held = books.holding(asset, account).total
                promised = holders.sum_of(books, asset, before).promised
                if held or promised:
                    holders.change(books, asset, before, -held, -promised)
                    holders.change(books, asset, owner, held, promised)
        orders.refresh_account(books, account)


def _require_fitting(books: Books, operation: RegisterAccount) -> None:
    tier, custodian_roles = operation.tier, _roles(books, operation.custodian)
    if not custodian_roles & _CUSTODIANS[tier]:
        raise Refused(Reason.BAD_CUSTODY, rule=f"custodian of tier {tier.name.lower()}")
    owner_roles = _roles(books, operation.owner)
    if tier is not Tier.INVESTOR and not owner_roles & _OWNERS[tier]:
        raise Refused(Reason.BAD_CUSTODY, rule=f"owner of tier {tier.name.lower()}")
    if operation.kind is AccountKind.OMNIBUS and not owner_roles & (_OWNERS[Tier.BROKER] | _OWNERS[Tier.DEPOSITORY]):
        raise Refused(Reason.BAD_CUSTODY, rule="owner of an omnibus account")
    if not operation.upper:
        if not custodian_roles & _TOP:
            raise Refused(Reason.BAD_CUSTODY, rule="an upper account is needed")
        return
    upper = books.row(Owner, operation.upper)
    if upper is None or upper.owner != operation.custodian or upper.tier <= tier:
        raise Refused(Reason.BAD_CUSTODY, rule="upper account")


def _roles(books: Books, party: bytes) -> frozenset[str]:
    row = books.row(Party, party)
    return frozenset(() if row is None else row.roles)


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType(
    {RegisterParty: RegisterPartyRule(), RegisterAccount: RegisterAccountRule()}
)
