"""Holders: how many an asset has, how much each of them has, and the rules about both.

An asset with holder rules carries the flag HOLDERS and is *counted*. HOLDER_SUMS keeps, for each holder, the sum of
what all its accounts hold of the asset, whatever the bucket; and under no holder at all, how many have something.

    who holds                          what is in
    the party of the account           its own and segregated accounts, and the house's part of its omnibus ones
    the beneficiary                    its share in an omnibus account (``custody.py``)
    the account itself                 an account of nobody whom the ledger knows

Every movement is counted when it is done, whatever its cause, so the sums are exact always: an order of authority may
bring a holder over a limit, and is counted; so may the news that two accounts are one party's. Limits are judged when
somebody comes to hold more by something new; movements between the accounts of one party change nothing.

A locked instruction settles whatever others do meanwhile. What it will bring is therefore *promised* from its lock on:
promised units and holders to be count toward the limits of everybody else. Its settlement keeps the promise, and asks
nobody any more; where it ends in another way, the promise is withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.market import claims
from p2pledger.ledger.market.buckets import Bucket
from p2pledger.ledger.market.claims import HolderRules, rule_name
from p2pledger.ledger.market.custody import beneficiaries_of, is_omnibus
from p2pledger.ledger.market.flags import set_asset_flag
from p2pledger.ledger.market.instruments import circulating, instrument_of
from p2pledger.ledger.market.movement import Cause, Movement
from p2pledger.ledger.market.parties import holder_of
from p2pledger.ledger.market.permissions import require
from p2pledger.ledger.rule import Place, Refused, Rule, require_asset
from p2pledger.ledger.tables import NOBODY, AssetFlag, Holding, Table, fields_of
from p2pledger.primitives.codec import U64_MAX, encode
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.instruments import PARTS_PER_MILLION, SetHolderRules
from p2pledger.primitives.market.parties import country_is_valid
from p2pledger.primitives.reasons import Reason

__all__ = [
    "MOST_COUNTED",
    "RULES",
    "HolderGuard",
    "HolderSum",
    "change",
    "counted_assets",
    "holder_count",
    "is_counted",
    "judge",
    "miscounts",
    "promise",
    "recount",
    "sum_of",
    "withdraw",
]

MOST_COUNTED: Final = 20_000
"""Holdings of an asset that are counted in one operation: rules for more holders are set before they are so many."""


@dataclass(frozen=True, slots=True)
class HolderSum:
    """HOLDER_SUMS: what a holder has, and what locked instructions will bring it. A row of zeros is not kept.

    Under ``NOBODY``: how many holders have something, and how many have nothing yet and will get something.
    """

    table: ClassVar[Table] = Table.HOLDER_SUMS

    amount: int = 0
    promised: int = 0

    def __post_init__(self) -> None:
        assert min(self.amount, self.promised) >= 0, "the sum of a holder is negative"
        assert max(self.amount, self.promised) <= U64_MAX, "the sum of a holder is out of range"

    def encode(self) -> bytes:
        return encode((1, self.amount, self.promised))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "HOLDER_SUMS", 2))


_NOTHING: Final = HolderSum()


def is_counted(books: Books, asset: bytes) -> bool:
    """Whether the holders of an asset are counted."""
    row = books.asset(asset)
    return row is not None and bool(row.flags & AssetFlag.HOLDERS)


def counted_assets(books: Books) -> Iterator[bytes]:
    """All assets whose holders are counted, in order."""
    for asset, _ in books.rows(HolderRules):
        yield asset


def sum_of(books: Books, asset: bytes, holder: bytes) -> HolderSum:
    """What a holder has of a counted asset over all its accounts."""
    return books.row(HolderSum, asset + holder) or _NOTHING


def holder_count(books: Books, asset: bytes) -> HolderSum:
    """How many holders a counted asset has, and how many more it will have when all that is locked has settled."""
    return books.row(HolderSum, asset + NOBODY) or _NOTHING


def _put(books: Books, asset: bytes, holder: bytes, row: HolderSum) -> None:
    books.put(HolderSum, asset + holder, None if row == _NOTHING else row)


def change(books: Books, asset: bytes, holder: bytes, by: int, promised: int = 0) -> None:
    """Adds to the sum of a holder, or takes from it, and counts the holders anew. The asset is counted."""
    assert holder != NOBODY, "nobody holds"
    old = sum_of(books, asset, holder)
    new = HolderSum(old.amount + by, min(max(old.promised + promised, 0), U64_MAX))
    _put(books, asset, holder, new)
    held = (new.amount > 0) - (old.amount > 0)
    coming = _is_coming(new) - _is_coming(old)
    if held or coming:
        count = holder_count(books, asset)
        _put(books, asset, NOBODY, HolderSum(count.amount + held, count.promised + coming))


def _is_coming(row: HolderSum) -> int:
    return int(row.amount == 0 and row.promised > 0)


def judge(books: Books, place: Place, asset: bytes, holder: bytes, amount: int, giver: bytes | None = None) -> None:
    """Whether a holder may come to hold more of an asset: ``ineligible`` or ``holder_limit``, naming the condition.

    ``giver`` is the holder from whom it comes (who may cease to be one by that), None where units come into being or
    into the register. The issuer of the asset always may, and so may who gives to itself.
    """
    rules = books.row(HolderRules, asset)
    if rules is None or giver == holder:
        return
    claims.judge(books, place, asset, holder)
    if holder_of(books, require_asset(books, asset).issuer) == holder:
        return
    present = sum_of(books, asset, holder)
    if rules.most_holders and present == _NOTHING:
        count = holder_count(books, asset)
        leaves = giver is not None and sum_of(books, asset, giver) == HolderSum(amount)
        if count.amount + count.promised + 1 - int(leaves) > rules.most_holders:
            raise Refused(Reason.HOLDER_LIMIT, rule=rule_name(asset, f"{rules.most_holders} holders"))
    if rules.most_share_ppm:
        instrument = instrument_of(books, asset)
        whole = instrument.issue_size if instrument is not None else 0
        if not whole:
            whole = circulating(books, asset) + (amount if giver is None else 0)
        share = present.amount + present.promised + amount
        if share * PARTS_PER_MILLION > rules.most_share_ppm * whole:
            raise Refused(Reason.HOLDER_LIMIT, rule=rule_name(asset, f"{rules.most_share_ppm} ppm"))


def promise(books: Books, asset: bytes, account: bytes, amount: int) -> None:
    """A locked instruction will bring the account so much: it counts from now on. To be judged before."""
    if is_counted(books, asset):
        change(books, asset, holder_of(books, account), 0, amount)


def withdraw(books: Books, asset: bytes, account: bytes, amount: int) -> None:
    """What was promised will not come."""
    if is_counted(books, asset):
        change(books, asset, holder_of(books, account), 0, -amount)


class HolderGuard:
    """Judges who comes to hold an asset, and counts."""

    asset_flags = int(AssetFlag.HOLDERS)
    account_flags = 0

    def leaving(self, books: Books, place: Place, movement: Movement) -> None:
        pass

    def entering(self, books: Books, place: Place, movement: Movement) -> None:
        assert movement.target is not None, "what enters has a target"
        giver = None if movement.source is None else holder_of(books, movement.source)
        judge(books, place, movement.asset, holder_of(books, movement.target), movement.amount, giver)

    def moved(self, books: Books, place: Place, movement: Movement) -> None:
        asset, source, target, amount = movement.asset, movement.source, movement.target, movement.amount
        if source == target:
            return
        if source is not None:
            change(books, asset, holder_of(books, source), -amount)
        if target is not None:
            kept = movement.cause is Cause.SETTLEMENT and movement.source_spot.bucket is Bucket.SETTLING
            change(books, asset, holder_of(books, target), amount, -amount if kept else 0)


def recount(books: Books, asset: bytes, most: int = U64_MAX) -> dict[bytes, int]:
    """holder -> what it has, from the holdings and shares alone: what HOLDER_SUMS must say.

    ``holder_limit`` where there are more holdings than ``most``.
    """
    sums: dict[bytes, int] = {}
    for number, (key, row) in enumerate(books.rows(Holding, asset)):
        if number == most:
            raise Refused(Reason.HOLDER_LIMIT, rule=f"at most {MOST_COUNTED} holdings can be counted at once")
        account = key[16:]
        house = row.total
        if is_omnibus(books, account):
            for party, share in beneficiaries_of(books, account, asset):
                sums[party] = sums.get(party, 0) + share
                house -= share
        if house:
            owner = holder_of(books, account)
            sums[owner] = sums.get(owner, 0) + house
    return sums


def miscounts(books: Books) -> list[tuple[bytes, bytes, str, int, int]]:
    """(asset, holder, what, expected, found) wherever sums and counters are not what holdings and shares say.

    It reads all of them: for checks, not for clients.
    """
    found: list[tuple[bytes, bytes, str, int, int]] = []
    kept: dict[bytes, dict[bytes, HolderSum]] = {}
    for key, row in books.rows(HolderSum):
        kept.setdefault(key[:16], {})[key[16:]] = row
    for asset in counted_assets(books):
        sums, expected = kept.pop(asset, {}), recount(books, asset)
        count = sums.pop(NOBODY, _NOTHING)
        for holder in sorted(sums.keys() | expected.keys()):
            has, says = expected.get(holder, 0), sums.get(holder, _NOTHING).amount
            if has != says:
                found.append((asset, holder, "the sum of a holder is not what its accounts hold", has, says))
        coming = sum(_is_coming(row) for row in sums.values())
        for what, number, says in (
            ("the number of holders is not how many hold", len(expected), count.amount),
            ("the number of holders to be is not how many are promised units", coming, count.promised),
        ):
            if number != says:
                found.append((asset, NOBODY, what, number, says))
        if not is_counted(books, asset):
            found.append((asset, NOBODY, "a counted asset has no flag", 1, 0))
    found += [
        (asset, NOBODY, "holders of an asset without rules are counted", 0, len(sums)) for asset, sums in kept.items()
    ]
    return found


class SetHolderRulesRule:
    """Says who may come to hold an asset, and how much of it; without any condition, ends that.

    who may     the depository of the asset's register
    signed by   by
    needs       countries as ISO 3166-1 writes them; where the asset was not counted before, or will not be any more, at
                most 20,000 holdings
    changes     the rules, for what begins from now on; the flag HOLDERS; the sums, which are counted anew from what is
                held when rules begin, and go when rules end
    refuses     unknown_asset, not_permitted, bad_party, holder_limit
    """

    def must_sign(self, books: Books, operation: SetHolderRules) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: SetHolderRules, place: Place) -> None:
        asset = operation.asset
        require_asset(books, asset)
        require(books, place, operation.by, operation.code, asset=asset)
        if not all(country_is_valid(country) for country in operation.countries):
            raise Refused(Reason.BAD_PARTY, rule="country (ISO 3166-1 alpha-2)")
        present = books.row(HolderRules, asset)
        conditions = (
            operation.required,
            operation.refused,
            operation.countries,
            operation.most_holders,
            operation.most_share_ppm,
        )
        if not any(conditions):
            _end_counting(books, asset)
            return
        if present is None:
            sums = recount(books, asset, MOST_COUNTED)
            for holder, amount in sums.items():
                _put(books, asset, holder, HolderSum(amount))
            _put(books, asset, NOBODY, HolderSum(len(sums)))
            set_asset_flag(books, asset, AssetFlag.HOLDERS, True)
        version = 1 if present is None else present.version + 1
        books.put(HolderRules, asset, HolderRules(version, *conditions))


def _end_counting(books: Books, asset: bytes) -> None:
    keys: list[bytes] = []
    for key, _ in books.rows(HolderSum, asset):
        if len(keys) > MOST_COUNTED:
            raise Refused(Reason.HOLDER_LIMIT, rule=f"at most {MOST_COUNTED} holdings can be counted at once")
        keys.append(key)
    for key in keys:
        books.put(HolderSum, key, None)
    books.put(HolderRules, asset, None)
    set_asset_flag(books, asset, AssetFlag.HOLDERS, False)


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType({SetHolderRules: SetHolderRulesRule()})
