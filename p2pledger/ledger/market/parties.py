"""Parties: who takes part, and whose an account is.

A *party* is an account that stands in PARTIES: members of the genesis from the beginning, others since a sponsor
registered them (``registration.py``). An account belongs to the party that OWNERS names, else to itself if it is a
party, else to nobody. Whoever wants to know asks here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.rule import Refused
from p2pledger.ledger.tables import NOBODY, Party, Table, fields_of
from p2pledger.primitives.codec import encode
from p2pledger.primitives.market.parties import AccountKind, Role, Tier
from p2pledger.primitives.reasons import Reason

__all__ = [
    "MOST_ACCOUNTS",
    "Owner",
    "PartyAccount",
    "accounts_of",
    "has_role",
    "holder_of",
    "party_named",
    "party_of",
    "require_party",
]


MOST_ACCOUNTS: Final = 4_096
"""Accounts of one party: so many an order over a party can reach, and no party puts itself beyond it by having more."""


@dataclass(frozen=True, slots=True)
class Owner:
    """OWNERS: whose an account is, and who keeps it. ``upper`` is ``NOBODY`` at the top of the custody chain."""

    table: ClassVar[Table] = Table.OWNERS

    owner: bytes
    custodian: bytes
    tier: Tier
    kind: AccountKind
    upper: bytes = NOBODY

    def encode(self) -> bytes:
        return encode((1, self.owner, self.custodian, int(self.tier), int(self.kind), self.upper))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        owner, custodian, tier, kind, upper = fields_of(row, "OWNERS", 5)
        return cls(owner, custodian, Tier(tier), AccountKind(kind), upper)


@dataclass(frozen=True, slots=True)
class PartyAccount:
    """PARTY_ACCOUNTS: the accounts of one party are neighbours; the row says nothing, its key says all."""

    table: ClassVar[Table] = Table.PARTY_ACCOUNTS

    def encode(self) -> bytes:
        return encode((1,))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        fields_of(row, "PARTY_ACCOUNTS", 0)
        return cls()


def party_of(books: Books, account: bytes) -> bytes | None:
    """The party to which an account belongs; None where nobody has said so."""
    owner = books.row(Owner, account)
    if owner is not None:
        return owner.owner
    return account if books.read(Table.PARTIES, account) is not None else None


def holder_of(books: Books, account: bytes) -> bytes:
    """Who counts as the holder of what is in an account: its party, or the account itself where nobody is known."""
    return party_of(books, account) or account


def party_named(books: Books, party: bytes) -> Party | None:
    """The entry of a party, by the account that it is."""
    return books.row(Party, party)


def require_party(books: Books, account: bytes) -> Party:
    """The entry of the party to which an account belongs; ``unknown_party`` otherwise."""
    party = party_of(books, account)
    row = None if party is None else books.row(Party, party)
    if row is None:
        raise Refused(Reason.UNKNOWN_PARTY)
    return row


def has_role(books: Books, account: bytes, role: Role) -> bool:
    """Whether the account belongs to a party of this role."""
    party = party_of(books, account)
    row = None if party is None else books.row(Party, party)
    return row is not None and role in row.roles


def accounts_of(books: Books, party: bytes) -> Iterator[bytes]:
    """The accounts that belong to a party: first itself, then those registered, in order."""
    if party_of(books, party) == party:
        yield party
    for key, _ in books.rows(PartyAccount, party):
        if key[32:] != party:
            yield key[32:]
