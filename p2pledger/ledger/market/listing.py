"""Listing: how an asset becomes an instrument, when it is active, whose issuer is accredited, and where it trades."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from p2pledger.ledger.books import Books
from p2pledger.ledger.market.flags import set_asset_flag
from p2pledger.ledger.market.instruments import Accreditation, InstrumentRow, is_accredited, outstanding
from p2pledger.ledger.market.lookalikes import NameKind, free_name, require_distinct, take_name
from p2pledger.ledger.market.parties import has_role, holder_of
from p2pledger.ledger.market.permissions import is_permissioned, require
from p2pledger.ledger.market.venues import Venue, venue_key
from p2pledger.ledger.rule import Place, Refused, Rule, require_asset
from p2pledger.ledger.tables import AssetFlag, Party
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.instruments import (
    Accredit,
    Describe,
    InstrumentStatus,
    SetStatus,
    SetVenue,
    cfi_is_valid,
    currency_is_valid,
    mic_is_valid,
)
from p2pledger.primitives.market.lookalikes import name_is_clean
from p2pledger.primitives.market.parties import Role
from p2pledger.primitives.names import asset_text
from p2pledger.primitives.reasons import Reason

__all__ = ["RULES"]


class DescribeRule:
    """Says what an asset is; while it is suspended, says it anew. It is suspended then.

    who may     the depository of the asset's register
    signed by   by, then the asset's issuer
    needs       the asset, also before the transaction; no description, or one that is suspended; CFI, MIC, ticker,
                currency, name and days in order; an issue size that what is outstanding does not exceed (of a native
                security: in all registers); a ticker and a name that look like no other instrument's
    changes     the description; the flags INACTIVE and PERMISSIONED; whose ticker and name are
    refuses     (unknown_asset), not_permitted, bad_description, above_issue_size, looks_alike
    """

    def must_sign(self, books: Books, operation: Describe) -> Iterator[bytes]:
        yield operation.by
        yield require_asset(books, operation.asset).issuer

    def execute(self, books: Books, operation: Describe, place: Place) -> None:
        asset = operation.asset
        row, present = require_asset(books, asset), books.row(InstrumentRow, asset)
        require(books, place, operation.by, operation.code, asset=asset)
        if present is not None and present.status is InstrumentStatus.ACTIVE:
            raise Refused(Reason.BAD_DESCRIPTION, rule=f"status of {asset_text(asset)}")
        _require_sound(operation, row.name)
        books.put(
            InstrumentRow,
            asset,
            InstrumentRow(
                InstrumentStatus.SUSPENDED,
                operation.nature,
                operation.cfi,
                operation.mic,
                operation.ticker,
                operation.currency,
                operation.issue_size,
                operation.issue_day,
                operation.maturity_day,
                operation.governing_law,
                operation.documents,
            ),
        )
        if operation.issue_size and outstanding(books, asset) > operation.issue_size:
            raise Refused(Reason.ABOVE_ISSUE_SIZE, rule=f"issue size of {asset_text(asset)}")
        require_distinct(books, NameKind.TICKER, operation.ticker, asset[:12])
        require_distinct(books, NameKind.INSTRUMENT, row.name, asset[:12])
        if present is None:
            take_name(books, NameKind.INSTRUMENT, row.name, asset[:12])
        else:
            free_name(books, NameKind.TICKER, present.ticker, asset[:12])
        take_name(books, NameKind.TICKER, operation.ticker, asset[:12])
        set_asset_flag(books, asset, AssetFlag.INACTIVE, True)
        set_asset_flag(books, asset, AssetFlag.PERMISSIONED, is_permissioned(books, asset))


def _require_sound(operation: Describe, name: str) -> None:
    """``bad_description``, naming the field, where one is not in order."""
    for field, is_sound in (
        ("CFI (ISO 10962)", cfi_is_valid(operation.cfi)),
        ("MIC (ISO 10383)", not operation.mic or mic_is_valid(operation.mic)),
        ("ticker (printable characters)", name_is_clean(operation.ticker)),
        ("currency (ISO 4217)", currency_is_valid(operation.currency)),
        ("maturity before issue", not operation.maturity_day or operation.maturity_day > operation.issue_day),
        ("governing law (printable characters)", name_is_clean(operation.governing_law)),
        ("name of the asset (printable characters)", name_is_clean(name)),
    ):
        if not is_sound:
            raise Refused(Reason.BAD_DESCRIPTION, rule=field)


class SetStatusRule:
    """Activates an instrument, or suspends it.

    who may     the depository of the asset's register
    signed by   by
    needs       a description; to activate, an issuer that is accredited at the block's time
    changes     the status, and the flag INACTIVE that repeats it
    refuses     unknown_asset, not_permitted, unknown_record, not_accredited
    """

    def must_sign(self, books: Books, operation: SetStatus) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: SetStatus, place: Place) -> None:
        asset = operation.asset
        row = require_asset(books, asset)
        require(books, place, operation.by, operation.code, asset=asset)
        present = books.row(InstrumentRow, asset)
        if present is None:
            raise Refused(Reason.UNKNOWN_RECORD, rule=f"description of {asset_text(asset)}")
        is_active = operation.status is InstrumentStatus.ACTIVE
        if is_active and not is_accredited(books, place, holder_of(books, row.issuer)):
            raise Refused(Reason.NOT_ACCREDITED, rule=f"accreditation for {asset_text(asset)}")
        books.put(InstrumentRow, asset, present.with_status(operation.status))
        set_asset_flag(books, asset, AssetFlag.INACTIVE, not is_active)


class AccreditRule:
    """Accredits an issuer up to a moment, or ends its accreditation by a moment that has passed.

    who may     a regulator, an operator or a depository
    signed by   by
    needs       the issuer is a party; no accreditation by somebody else, unless a regulator or operator changes it
    changes     the accreditation: its instruments may be activated, and issued, while it lasts. What is active stays so
    refuses     not_permitted, unknown_party, already_registered
    """

    def must_sign(self, books: Books, operation: Accredit) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: Accredit, place: Place) -> None:
        require(books, place, operation.by, operation.code)
        if books.row(Party, operation.issuer) is None:
            raise Refused(Reason.UNKNOWN_PARTY)
        party, present = holder_of(books, operation.by), books.row(Accreditation, operation.issuer)
        if present is not None and present.by != party:
            if not (has_role(books, party, Role.REGULATOR) or has_role(books, party, Role.OPERATOR)):
                raise Refused(Reason.ALREADY_REGISTERED, rule="the issuer was accredited by another party")
        books.put(Accreditation, operation.issuer, Accreditation(party, operation.until_ms))


class SetVenueRule:
    """Switches a venue on or off for an asset.

    who may     the depository of the asset's register
    signed by   by
    needs       the venue is a party of this role
    changes     whether new instructions of the venue may name the asset; what is locked settles
    refuses     unknown_asset, not_permitted, unknown_party, bad_party
    """

    def must_sign(self, books: Books, operation: SetVenue) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: SetVenue, place: Place) -> None:
        require_asset(books, operation.asset)
        require(books, place, operation.by, operation.code, asset=operation.asset)
        if books.row(Party, operation.venue) is None:
            raise Refused(Reason.UNKNOWN_PARTY)
        if not has_role(books, operation.venue, Role.VENUE):
            raise Refused(Reason.BAD_PARTY, rule="role venue")
        key = venue_key(operation.asset, operation.venue)
        books.put(Venue, key, Venue(operation.on, place.time_ms))


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType(
    {
        Describe: DescribeRule(),
        SetStatus: SetStatusRule(),
        Accredit: AccreditRule(),
        SetVenue: SetVenueRule(),
    }
)
