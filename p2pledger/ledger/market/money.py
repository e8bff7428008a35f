"""Money: which assets are authorised as money, and what stands behind each.

*Base money* is the central bank's promise, and only its issuer makes it. *Bank money* is a bank's promise; each bank's
is an asset of its own. The bank mints it against deposits that somebody else attests, never above them and never on
an attestation that is older than its greatest age, and burns it when it is withdrawn. A customer of one bank pays the
customer of another one through the reserves that banks hold in base money (``payments.py``): what the payer's bank
burns leaves its reserves, what the payee's bank mints has come into its reserves. Such mints need no attestation.

What was paid across after the moment that an attestation speaks of is no deposit of the payer's bank any more, so it is
taken off what the bank may mint. It is noted in sixteenths of the greatest age, and forgotten with an attestation of a
later moment.

Two states of a money forbid new uses of it, by a flag that takes it off the bulk path:

    quarantined    its bank has failed: nobody pays, locks, mints or withdraws it, until that is lifted
    unapproved     its currency may only be paid with in authorised money, and it is none: it can be redeemed, no more

Both leave what is under way alone: irrevocable instructions settle, and what was locked comes back to its owner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from p2pledger import core
from p2pledger.ledger.books import Books
from p2pledger.ledger.market.flags import set_asset_flag
from p2pledger.ledger.market.movement import Cause, Movement
from p2pledger.ledger.market.parties import has_role, holder_of
from p2pledger.ledger.market.permissions import require
from p2pledger.ledger.rule import Place, Refused, Rule, require_account, require_asset
from p2pledger.ledger.tables import NOBODY, Asset, AssetFlag, Table, fields_of
from p2pledger.primitives.codec import U64_MAX, encode
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.money import (
    Attest,
    AuthoriseMoney,
    MoneyKind,
    PayAcross,
    Quarantine,
    SetPaymentPolicy,
)
from p2pledger.primitives.market.parties import Role
from p2pledger.primitives.names import AssetKind, asset_text
from p2pledger.primitives.reasons import Reason

__all__ = [
    "MONEY_GUARD",
    "MONEY_SUPPLY_GUARD",
    "RULES",
    "Attestation",
    "BankLine",
    "Money",
    "MoneyGuard",
    "MoneySupplyGuard",
    "SupplyOfMoney",
    "central_bank_of",
    "flags_at_birth",
    "note_paid_out",
    "require_money",
    "supply_of_money",
]

_SLOTS: Final = 16
"""Into how many parts the greatest age of an attestation is cut where payments after it are noted."""


@dataclass(frozen=True, slots=True)
class Money:
    """MONIES: an authorised money. Reserves, attestor and greatest age are empty or 0 for base money.

    ``only_authorised``: of base money, that its currency may be paid with in authorised money alone. ``waited``: how
    many payments ever waited for reserves, which gives each its place in the queue. ``quarantined_ms``: since when it
    is quarantined, 0 if it is not; ``document``: the hash of what was said about it last, zeros if nothing was.
    """

    table: ClassVar[Table] = Table.MONIES

    kind: MoneyKind
    reserve_asset: bytes = b""
    reserve_account: bytes = b""
    attestor: bytes = b""
    greatest_age_ms: int = 0
    only_authorised: bool = False
    quarantined_ms: int = 0
    document: bytes = NOBODY
    waited: int = 0

    def encode(self) -> bytes:
        return encode(
            (
                1,
                int(self.kind),
                self.reserve_asset,
                self.reserve_account,
                self.attestor,
                self.greatest_age_ms,
                self.only_authorised,
                self.quarantined_ms,
                self.document,
                self.waited,
            )
        )

    @classmethod
    def decode(cls, row: bytes) -> Self:
        kind, *others = fields_of(row, "MONIES", 9)
        return cls(MoneyKind(kind), *others)


@dataclass(frozen=True, slots=True)
class Attestation:
    """ATTESTATIONS: the deposits behind a bank's money at ``as_of_ms``, as attested last, at height ``height``.

    The row is there from the authorisation on, with height 0 until something is attested, for payments are noted.
    ``paid_out``: what was paid to other banks' customers since, as (sixteenth of the greatest age, amount), ascending.
    """

    table: ClassVar[Table] = Table.ATTESTATIONS

    value: int
    as_of_ms: int
    document: bytes
    height: int
    paid_out: tuple[tuple[int, int], ...] = ()

    @property
    def is_attested(self) -> bool:
        return self.height > 0

    @property
    def paid_out_since(self) -> int:
        return sum(amount for _, amount in self.paid_out)

    @property
    def backing(self) -> int:
        """What may be in circulation by this attestation."""
        return max(0, self.value - self.paid_out_since)

    def encode(self) -> bytes:
        return encode((1, self.value, self.as_of_ms, self.document, self.height, self.paid_out))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "ATTESTATIONS", 5))


def _slot(time_ms: int, greatest_age_ms: int) -> int:
    return time_ms // max(1, greatest_age_ms // _SLOTS)


def note_paid_out(books: Books, place: Place, asset: bytes, amount: int) -> None:
    """A customer of this bank has paid one of another bank. What no fresh attestation can speak of is forgotten."""
    money, row = books.row(Money, asset), books.row(Attestation, asset)
    assert money is not None, "a payment in money that nobody has authorised"
    assert row is not None, "authorised bank money without a row of attestation"
    now = _slot(place.time_ms, money.greatest_age_ms)
    oldest = _slot(max(0, place.time_ms - money.greatest_age_ms), money.greatest_age_ms)
    slots = {slot: paid for slot, paid in row.paid_out if slot >= oldest}
    slots[now] = min(U64_MAX, slots.get(now, 0) + amount)
    books.put(Attestation, asset, replace(row, paid_out=tuple(sorted(slots.items()))))


def require_money(books: Books, asset: bytes, kind: MoneyKind | None = None) -> Money:
    """The authorised money; ``unknown_money``, or ``wrong_money`` where another kind is wanted."""
    row = books.row(Money, asset)
    if row is None:
        raise Refused(Reason.UNKNOWN_MONEY, f"no authorisation of {asset_text(asset)}")
    if kind is not None and row.kind is not kind:
        raise Refused(Reason.WRONG_MONEY, f"{asset_text(asset)} is {row.kind.name.lower()} money")
    return row


def _base_money(books: Books, instrument: bytes) -> Iterator[tuple[bytes, Money]]:
    """The base money of a currency, given by the 12 bytes of its instrument."""
    return ((asset, row) for asset, row in books.rows(Money, instrument) if row.kind is MoneyKind.BASE)


def central_bank_of(books: Books, instrument: bytes) -> bytes | None:
    """The party whose base money a currency has; None where it has none."""
    for asset, _ in _base_money(books, instrument):
        return holder_of(books, require_asset(books, asset).issuer)
    return None


def flags_at_birth(books: Books, asset: bytes, kind: AssetKind) -> int:
    """The flags of a new asset: money of a currency that allows authorised money only is unapproved."""
    if kind is AssetKind.MONEY and any(row.only_authorised for _, row in _base_money(books, asset[:12])):
        return int(AssetFlag.UNAPPROVED)
    return 0


class MoneyGuard:
    """Forbids new uses of money that is quarantined or not approved.

    Of quarantined money everything but returns and settlements of what is irrevocable; of unapproved money the same,
    save that it may be redeemed.
    """

    asset_flags: ClassVar[int] = int(AssetFlag.UNAPPROVED | AssetFlag.QUARANTINED)
    account_flags: ClassVar[int] = 0

    def leaving(self, books: Books, place: Place, movement: Movement) -> None:
        self._judge(books, movement)

    def entering(self, books: Books, place: Place, movement: Movement) -> None:
        self._judge(books, movement)

    def moved(self, books: Books, place: Place, movement: Movement) -> None:
        pass

    def _judge(self, books: Books, movement: Movement) -> None:
        flags = require_asset(books, movement.asset).flags
        if flags & AssetFlag.QUARANTINED:
            raise Refused(Reason.QUARANTINED, f"quarantine of {asset_text(movement.asset)}")
        if flags & AssetFlag.UNAPPROVED and movement.cause is not Cause.DESTRUCTION:
            raise Refused(Reason.UNAPPROVED_MONEY, f"payment policy of {_currency(movement.asset)}")


def _currency(asset: bytes) -> str:
    return asset[:3].decode("ascii", "replace")


class MoneySupplyGuard:
    """Who may create authorised money: its central bank; or its bank, on a fresh attestation and never above it.

    A payment across creates it in the payee's bank against reserves, which it moves itself.
    """

    def judge(self, books: Books, place: Place, movement: Movement) -> None:
        if movement.cause is not Cause.CREATION:
            return
        asset = movement.asset
        money = books.row(Money, asset)
        if money is None:
            return
        row = require_asset(books, asset)
        if money.kind is MoneyKind.BASE:
            if not has_role(books, row.issuer, Role.CENTRAL_BANK):
                raise Refused(Reason.WRONG_MONEY, "the central bank alone issues base money")
            return
        if movement.operation == PayAcross.code:
            return
        attested = books.row(Attestation, asset)
        assert attested is not None, "authorised bank money without a row of attestation"
        if not attested.is_attested or place.time_ms - attested.as_of_ms > money.greatest_age_ms:
            raise Refused(Reason.STALE_ATTESTATION, f"attestation of {asset_text(asset)}")
        if row.circulating + movement.amount > attested.backing:
            raise Refused(Reason.ABOVE_ATTESTATION, f"attestation of {asset_text(asset)}")


MONEY_GUARD: Final = MoneyGuard()
MONEY_SUPPLY_GUARD: Final = MoneySupplyGuard()


class AuthoriseMoneyRule:
    """Admits an asset as base money or as a bank's money, or changes the terms of one that is admitted.

    who may     a central bank: for its own base money, and for bank money whose reserves are in its base money
    signed by   central_bank, then the asset's issuer, then for bank money reserve_account
    needs       an asset that is money; for bank money: base money of the same currency and precision, a reserve account
                of the bank, an attestor who is somebody else, a greatest age
    changes     the asset is authorised; it is not unapproved any more; under a new greatest age the last attestation
                serves no more
    refuses     (unknown_asset), not_permitted, wrong_money, unknown_money, unknown_account
    """

    def must_sign(self, books: Books, operation: AuthoriseMoney) -> Iterator[bytes]:
        yield operation.central_bank
        yield require_asset(books, operation.asset).issuer
        if operation.reserve_account:
            yield operation.reserve_account

    def execute(self, books: Books, operation: AuthoriseMoney, place: Place) -> None:
        asset = operation.asset
        require(books, place, operation.central_bank, operation.code, asset=asset)
        row, present = require_asset(books, asset), books.row(Money, asset)
        if row.kind is not AssetKind.MONEY:
            raise Refused(Reason.WRONG_MONEY, "a security is no money")
        if present is not None and present.kind is not operation.kind:
            raise Refused(Reason.WRONG_MONEY, "base money stays base money, and bank money stays bank money")
        if operation.kind is MoneyKind.BASE:
            self._judge_base(books, operation, row.issuer)
        else:
            self._judge_bank(books, operation, row.issuer, row.decimals)
        changed = replace(
            present or Money(operation.kind),
            reserve_asset=operation.reserve_asset,
            reserve_account=operation.reserve_account,
            attestor=operation.attestor,
            greatest_age_ms=operation.greatest_age_ms,
        )
        if present is None and operation.kind is MoneyKind.BASE:
            exclusive = any(other.only_authorised for _, other in _base_money(books, asset[:12]))
            changed = replace(changed, only_authorised=exclusive)
        books.put(Money, asset, changed)
        if operation.kind is MoneyKind.BANK and present is None:
            books.put(Attestation, asset, Attestation(0, 0, NOBODY, 0))
        elif present is not None and present.greatest_age_ms != operation.greatest_age_ms:
            # Payments were forgotten by the old age: what was attested, or will be about the time before, is too old.
            books.put(Attestation, asset, Attestation(0, place.time_ms, NOBODY, 0))
        set_asset_flag(books, asset, AssetFlag.UNAPPROVED, False)

    def _judge_base(self, books: Books, operation: AuthoriseMoney, issuer: bytes) -> None:
        if operation.reserve_asset or operation.reserve_account or operation.attestor or operation.greatest_age_ms:
            raise Refused(Reason.WRONG_MONEY, "base money has no reserves and no attestor")
        central_bank = holder_of(books, operation.central_bank)
        if holder_of(books, issuer) != central_bank:
            raise Refused(Reason.WRONG_MONEY, "the central bank alone issues base money")
        if central_bank_of(books, operation.asset[:12]) not in (None, central_bank):
            raise Refused(Reason.WRONG_MONEY, "a currency has one central bank")

    def _judge_bank(self, books: Books, operation: AuthoriseMoney, issuer: bytes, decimals: int) -> None:
        if not (operation.reserve_asset and operation.reserve_account and operation.attestor):
            raise Refused(Reason.WRONG_MONEY, "bank money has reserves and an attestor")
        require_money(books, operation.reserve_asset, MoneyKind.BASE)
        reserve = require_asset(books, operation.reserve_asset)
        if operation.reserve_asset[:12] != operation.asset[:12] or reserve.decimals != decimals:
            raise Refused(Reason.WRONG_MONEY, "reserves are of the same currency and precision")
        if holder_of(books, reserve.issuer) != holder_of(books, operation.central_bank):
            raise Refused(Reason.WRONG_MONEY, "a central bank admits banks to its own base money")
        bank = holder_of(books, issuer)
        if not has_role(books, issuer, Role.BANK):
            raise Refused(Reason.WRONG_MONEY, "bank money is issued by a bank")
        if holder_of(books, operation.reserve_account) != bank:
            raise Refused(Reason.WRONG_MONEY, "the reserve account is the bank's")
        require_account(books, operation.attestor)
        if holder_of(books, operation.attestor) == bank:
            raise Refused(Reason.WRONG_MONEY, "a bank does not attest its own deposits")
        if not operation.greatest_age_ms:
            raise Refused(Reason.WRONG_MONEY, "an attestation of bank money grows old")
        present = books.row(Money, operation.asset)
        if present is not None and present.reserve_asset != operation.reserve_asset:
            raise Refused(Reason.WRONG_MONEY, "bank money keeps the base money of its reserves")


class AttestRule:
    """States the deposits that stand behind a bank's money at a moment.

    who may     the attestor whom the money's authorisation names
    signed by   the attestor
    needs       authorised bank money; a moment after that of the last attestation and of the last change of its
                greatest age, and not after the block's
    changes     what the bank may have in circulation when it mints
    refuses     (unknown_money, wrong_money), not_permitted, wrong_time
    """

    def must_sign(self, books: Books, operation: Attest) -> Iterator[bytes]:
        yield require_money(books, operation.asset, MoneyKind.BANK).attestor

    def execute(self, books: Books, operation: Attest, place: Place) -> None:
        asset = operation.asset
        money = require_money(books, asset, MoneyKind.BANK)
        require(books, place, money.attestor, operation.code, asset=asset, amount=operation.value)
        if operation.as_of_ms > place.time_ms:
            raise Refused(Reason.WRONG_TIME, "an attestation speaks of what was")
        present = books.row(Attestation, asset)
        assert present is not None, "authorised bank money without a row of attestation"
        if operation.as_of_ms <= present.as_of_ms:
            raise Refused(Reason.WRONG_TIME, "a later attestation is there, or later terms")
        since = _slot(operation.as_of_ms, money.greatest_age_ms)
        paid_out = tuple(pair for pair in present.paid_out if pair[0] >= since)
        row = Attestation(operation.value, operation.as_of_ms, operation.document, place.height, paid_out)
        books.put(Attestation, asset, row)


class QuarantineRule:
    """Stops new uses of a failed bank's money, or lifts that.

    who may     the central bank of the currency, or a regulator
    signed by   authority
    needs       authorised bank money
    changes     the money is quarantined, or not any more
    refuses     not_permitted, unknown_money, wrong_money
    """

    def must_sign(self, books: Books, operation: Quarantine) -> Iterator[bytes]:
        yield operation.authority

    def execute(self, books: Books, operation: Quarantine, place: Place) -> None:
        asset, authority = operation.asset, operation.authority
        require(books, place, authority, operation.code, asset=asset)
        money = require_money(books, asset, MoneyKind.BANK)
        is_own = central_bank_of(books, asset[:12]) == holder_of(books, authority)
        if not is_own and not has_role(books, authority, Role.REGULATOR):
            raise Refused(Reason.WRONG_MONEY, "a central bank quarantines money of its own currency")
        since_ms = (money.quarantined_ms or place.time_ms) if operation.on else 0
        books.put(Money, asset, replace(money, quarantined_ms=since_ms, document=operation.document))
        set_asset_flag(books, asset, AssetFlag.QUARANTINED, operation.on)


class SetPaymentPolicyRule:
    """Says whether a currency may be paid with in authorised money alone.

    who may     the central bank of the currency
    signed by   central_bank
    needs       base money of the central bank in the currency
    changes     on: money of the currency that is not authorised becomes unapproved, also what is defined later;
                off: it is not any more
    refuses     not_permitted, wrong_money
    """

    def must_sign(self, books: Books, operation: SetPaymentPolicy) -> Iterator[bytes]:
        yield operation.central_bank

    def execute(self, books: Books, operation: SetPaymentPolicy, place: Place) -> None:
        require(books, place, operation.central_bank, operation.code)
        instrument = operation.currency.encode().ljust(12, b"\0")
        if central_bank_of(books, instrument) != holder_of(books, operation.central_bank):
            raise Refused(Reason.WRONG_MONEY, "a central bank sets the policy of its own currency")
        for asset, row in list(_base_money(books, instrument)):
            books.put(Money, asset, replace(row, only_authorised=operation.on))
        for asset, defined in list(books.rows(Asset, instrument)):
            if defined.kind is AssetKind.MONEY:
                unapproved = operation.on and books.row(Money, asset) is None
                set_asset_flag(books, asset, AssetFlag.UNAPPROVED, unapproved)


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType(
    {
        AuthoriseMoney: AuthoriseMoneyRule(),
        Attest: AttestRule(),
        Quarantine: QuarantineRule(),
        SetPaymentPolicy: SetPaymentPolicyRule(),
    }
)
"""The rules of money; those of payments: ``payments.py``."""


@dataclass(frozen=True, slots=True)
class BankLine:
    """One bank's money: what circulates, what stands behind it, and what waits."""

    asset: bytes
    circulating: int
    attested: int | None
    as_of_ms: int
    backing: int
    reserves: int
    waiting: int
    """the amount of payments that wait for reserves"""
    quarantined_ms: int


@dataclass(frozen=True, slots=True)
class SupplyOfMoney:
    """The money of one currency: base money, of which ``reserves`` lie with banks, and the money of each bank.

    ``unauthorised``: (asset, circulating) of money of the currency that nobody has authorised.
    """

    currency: str
    base: int
    reserves: int
    only_authorised: bool
    banks: tuple[BankLine, ...]
    unauthorised: tuple[tuple[bytes, int], ...]

    @property
    def bank_money(self) -> int:
        return sum(line.circulating for line in self.banks)

    @property
    def held_by_public(self) -> int:
        """Base money outside the banks' reserves, and bank money."""
        return self.base - self.reserves + self.bank_money


def supply_of_money(version: core.Version, currency: str) -> SupplyOfMoney:
    """All money of a currency in one version of the state. Zeros where there is none."""
    from p2pledger.ledger.market.payments import waiting_amount

    books, instrument = Books(version), currency.encode().ljust(12, b"\0")
    base, only_authorised = 0, False
    banks: list[BankLine] = []
    others: list[tuple[bytes, int]] = []
    accounts: set[tuple[bytes, bytes]] = set()
    for asset, row in books.rows(Asset, instrument):
        money = books.row(Money, asset)
        if money is None:
            others.append((asset, row.circulating))
        elif money.kind is MoneyKind.BASE:
            base += row.circulating
            only_authorised = only_authorised or money.only_authorised
        else:
            reserves = books.holding(money.reserve_asset, money.reserve_account).total
            accounts.add((money.reserve_asset, money.reserve_account))
            attested = books.row(Attestation, asset)
            assert attested is not None, "authorised bank money without a row of attestation"
            banks.append(
                BankLine(
                    asset,
                    row.circulating,
                    attested.value if attested.is_attested else None,
                    attested.as_of_ms,
                    attested.backing,
                    reserves,
                    waiting_amount(books, asset),
                    money.quarantined_ms,
                )
            )
    reserves = sum(books.holding(asset, account).total for asset, account in accounts)
    return SupplyOfMoney(currency, base, reserves, only_authorised, tuple(banks), tuple(others))
