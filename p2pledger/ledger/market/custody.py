"""Custody: through whose hands an account is held, who has a share in it, and who may look through.

An account stands in a *tier*: an investor's is kept by a broker, bank or depository, a broker's by a depository or
bank, a depository's by itself. ``upper`` leads from each to the account in whose name its custodian is served one tier
up, so that the chain of custody ends after three accounts at most. Units are in the account where HOLDINGS says they
are, and nowhere else: the tiers above tell who answers for it, they do not hold it once more.

An *omnibus* account holds for many. BENEFICIARIES keeps the share of each of them in its free units; what nobody has a
share in belongs to the *house*, its owner.

To *look through* is to see whose units are behind an account. Entitled are the owner, the custodians up the chain, the
depository in its own register, regulators and auditors; a beneficiary sees its own share. Nobody else, the operator and
the neighbours in the same tier included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.market.parties import Owner, has_role, holder_of
from p2pledger.ledger.rule import Refused
from p2pledger.ledger.tables import NOBODY, Table, fields_of, register_of
from p2pledger.primitives.codec import U64_MAX, encode
from p2pledger.primitives.market.parties import AccountKind, Role
from p2pledger.primitives.reasons import Reason

__all__ = [
    "LOOK_THROUGH",
    "Beneficiary",
    "allocated",
    "beneficiaries_of",
    "beneficiary_key",
    "chain_of",
    "entitlement",
    "is_omnibus",
    "look_through",
    "misallocations",
]

LOOK_THROUGH: Final = "only those entitled look through an account"
"""The name of the rule, as refusals carry it."""
_MOST_TIERS: Final = 3


@dataclass(frozen=True, slots=True)
class Beneficiary:
    """BENEFICIARIES: the share of a party in an omnibus account; under ``NOBODY`` the sum of all shares.

    A row of zero is not kept.
    """

    table: ClassVar[Table] = Table.BENEFICIARIES

    amount: int

    def __post_init__(self) -> None:
        assert 0 < self.amount <= U64_MAX, "a share is out of range"

    def encode(self) -> bytes:
        return encode((1, self.amount))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "BENEFICIARIES", 1))


def beneficiary_key(account: bytes, asset: bytes, party: bytes) -> bytes:
    """The beneficiaries of one holding are neighbours; their sum stands before them."""
    return account + asset + party


def is_omnibus(books: Books, account: bytes) -> bool:
    """Whether an account holds for beneficiaries."""
    row = books.row(Owner, account)
    return row is not None and row.kind is AccountKind.OMNIBUS


def allocated(books: Books, account: bytes, asset: bytes, party: bytes = NOBODY) -> int:
    """The share of a party in an omnibus account; without a party the sum of all shares."""
    row = books.row(Beneficiary, beneficiary_key(account, asset, party))
    return 0 if row is None else row.amount


def beneficiaries_of(books: Books, account: bytes, asset: bytes) -> Iterator[tuple[bytes, int]]:
    """(party, share) of every beneficiary, in order."""
    for key, row in books.rows(Beneficiary, account + asset):
        if key[48:] != NOBODY:
            yield key[48:], row.amount


def misallocations(books: Books) -> list[tuple[bytes, bytes, str, int, int]]:
    """(asset, account, what, expected, found) wherever shares are not what they must be.

    It reads all of them: for checks, not for clients.
    """
    found: list[tuple[bytes, bytes, str, int, int]] = []
    sums: dict[tuple[bytes, bytes], int] = {}
    totals: dict[tuple[bytes, bytes], int] = {}
    for key, row in books.rows(Beneficiary):
        place, party = (key[:32], key[32:48]), key[48:]
        if party == NOBODY:
            totals[place] = row.amount
        else:
            sums[place] = sums.get(place, 0) + row.amount
    for account, asset in sorted(sums.keys() | totals.keys()):
        expected, says = sums.get((account, asset), 0), totals.get((account, asset), 0)
        if expected != says:
            found.append((asset, account, "the sum of all shares is another", expected, says))
        free = books.holding(asset, account).free
        if expected > free:
            found.append((asset, account, "more is allocated than is free", free, expected))
        if not is_omnibus(books, account):
            found.append((asset, account, "shares in an account that is no omnibus account", 0, expected))
    return found


def chain_of(books: Books, account: bytes) -> tuple[tuple[bytes, Owner], ...]:
    """The account and those above it, each with its entry, up to the top. Empty where nobody has registered it."""
    chain: list[tuple[bytes, Owner]] = []
    row = books.row(Owner, account)
    while row is not None and len(chain) < _MOST_TIERS:
        chain.append((account, row))
        account = row.upper
        row = books.row(Owner, account)
    return tuple(chain)


def entitlement(books: Books, asker: bytes, account: bytes, asset: bytes | None = None) -> str:
    """Why an asker may look through an account; empty where it may not.

    ``asker`` is any account of the party that asks. Without an asset the depository of a register is not entitled as
    such: its register is not the only one.
    """
    party = holder_of(books, asker)
    chain = chain_of(books, account)
    if party == (chain[0][1].owner if chain else holder_of(books, account)):
        return "owners see what is theirs"
    if any(party == row.custodian for _, row in chain):
        return "custodians see what is held through them"
    register = None if asset is None else books.register(register_of(asset))
    if register is not None and register.depository == party:
        return "depositories see their own register"
    if has_role(books, asker, Role.REGULATOR) or has_role(books, asker, Role.AUDITOR):
        return "regulators and auditors see every account"
    return ""


def look_through(books: Books, asker: bytes, account: bytes, asset: bytes) -> tuple[tuple[bytes, int], ...]:
    """Whose units are in an account: (party, amount), the house first; those with nothing are left out.

    ``not_permitted`` for those who are not entitled; a beneficiary gets its own share and nothing else.
    """
    house = holder_of(books, account)
    total = books.holding(asset, account).total
    if entitlement(books, asker, account, asset):
        own = total - allocated(books, account, asset)
        return (*(((house, own),) if own else ()), *beneficiaries_of(books, account, asset))
    party = holder_of(books, asker)
    share = allocated(books, account, asset, party)
    if not share or party == NOBODY:
        raise Refused(Reason.NOT_PERMITTED, rule=LOOK_THROUGH)
    return ((party, share),)
