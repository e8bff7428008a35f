"""Instructions: how a trade is entered, agreed upon, held back and cancelled. How it settles: ``settlement.py``.

What ISO 20022 keeps apart is kept apart here. An instruction has three statuses:

    processing   pending (legs are missing), accepted, rejected, cancelled
    matching     unmatched, matched
    settlement   pending, failing, settled

and one reason code (``IsoReason``), which says why the status is not yet the one that everybody waits for. Its three
moments are those of the principle of settlement finality: *entry* (all legs are there), *irrevocable* (locked), *final*
(settled).

**Who agrees.** Who makes an instruction agrees to it. The counterparty, where one is named, and everybody who gives,
affirm the digest over its days and all legs, each in a transaction of his own. Each of them is a *participant* and has
a row in AFFIRMATIONS, which also carries his hold flag and his wish to cancel. An account can authorise a venue once
and for all: then it need not affirm that venue's instructions, if they move a security. (The row lies in AFFIRMATIONS
too, under the venue's account.)

    matched when     the counterparty agrees: it affirms, or enters an instruction of its own that matches
                     no counterparty is named: all participants have affirmed
                     it comes from a venue: on arrival
    can be locked    when it is matched, all participants have affirmed, and nobody holds it

**Two instructions that match** become one: that of the seller (who takes the first cash) is the *principal*, since his
cash counts within the tolerance; without cash, the one that came first. The other follows: whatever happens to the
principal is written into both rows, and each operation that names either acts on the principal.

**Cancelling** needs the maker alone before it is matched; both parties after, or all participants where there are not
just two; nobody can once it is locked.

At any time an instruction has one item in the queue of due work (``due.py``): its expiry while it is not matched, its
next attempt to settle from then on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.market import matching, permissions
from p2pledger.ledger.market.calendars import CalendarRow, require_calendar
from p2pledger.ledger.market.due import DueKind, schedule, unschedule
from p2pledger.ledger.market.parties import has_role, holder_of
from p2pledger.ledger.market.venues import require_on
from p2pledger.ledger.rule import Place, Refused, Rule, require_account, require_asset, shortened
from p2pledger.ledger.tables import Table, fields_of
from p2pledger.primitives.codec import U64_MAX, encode
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.calendars import Lateness
from p2pledger.primitives.market.instructions import (
    AddLegs,
    Affirm,
    AuthoriseVenue,
    Cancel,
    Instruct,
    Leg,
    Origin,
    SetHold,
    legs_digest,
    terms_digest,
)
from p2pledger.primitives.market.parties import Role
from p2pledger.primitives.names import AssetKind
from p2pledger.primitives.reasons import Reason

__all__ = [
    "EXPIRY_BUSINESS_DAYS",
    "NEVER",
    "RULES",
    "RULES_VERSION",
    "AffirmationRow",
    "InstructionRow",
    "IsoReason",
    "LegRow",
    "Matched",
    "Moment",
    "Processing",
    "Settlement",
    "affirmation_key",
    "close",
    "expire_instruction",
    "leg_key",
    "leg_rule",
    "legs_of",
    "participants_of",
    "principal_of",
    "put_instruction",
    "require_instruction",
    "require_participant",
    "same_party",
    "settlement_day",
    "waiting_reason",
    "with_due",
]

RULES_VERSION: Final = 1
"""The version of these rules and those of ``settlement.py``: an instruction keeps the one under which it was locked."""
EXPIRY_BUSINESS_DAYS: Final = 20
"""Business days after the settlement day up to which settling is tried again."""


class Processing(IntEnum):
    """Processing status. ISO 20022: PPRC, PACK, REJT, CAND."""

    PENDING = 0
    ACCEPTED = 1
    REJECTED = 2
    CANCELLED = 3


class Matched(IntEnum):
    """Matching status. ISO 20022: NMAT, MACH."""

    UNMATCHED = 0
    MATCHED = 1


class Settlement(IntEnum):
    """Settlement status. ISO 20022: PEND, PENF, SETT."""

    PENDING = 0
    FAILING = 1
    SETTLED = 2


class IsoReason(StrEnum):
    """Why an instruction is where it is: names of the ISO 20022 external code sets of securities settlement."""

    NONE = ""
    CMIS = "CMIS"
    """Unmatched: no instruction of the counterparty."""
    DSEC = "DSEC"
    """Unmatched: the securities differ."""
    DQUA = "DQUA"
    """Unmatched: the quantities differ."""
    DMON = "DMON"
    """Unmatched: the cash differs."""
    DTRD = "DTRD"
    """Unmatched: the trade days differ."""
    DDAT = "DDAT"
    """Unmatched: the settlement days or their calendars differ."""
    NMAT = "NMAT"
    """Unmatched: the references differ, or somebody who gives has not affirmed."""
    FUTU = "FUTU"
    """Pending: waits for its settlement day."""
    CYCL = "CYCL"
    """Pending: waits for the next settlement time."""
    PREA = "PREA"
    """Pending or failing: a participant holds it back."""
    LACK = "LACK"
    """Failing: securities are missing."""
    MONY = "MONY"
    """Failing: money is missing."""
    LATE = "LATE"
    """Failing or rejected: the cut-off has passed."""
    SBLO = "SBLO"
    """Pending or failing: an order of authority blocks what it moves."""
    NARR = "NARR"
    """Failing: see the rule that is named."""
    CANI = "CANI"
    """Cancelled by those who instructed it; before that: somebody wants to."""
    CANS = "CANS"
    """Cancelled by the system."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened to an instruction. Height 0: it has not."""

    height: int = 0
    time_ms: int = 0


NEVER: Final = Moment()


@dataclass(frozen=True, slots=True)
class LegRow:
    """LEGS: one movement of an instruction."""

    table: ClassVar[Table] = Table.LEGS

    giver: bytes
    taker: bytes
    asset: bytes
    amount: int

    def encode(self) -> bytes:
        return encode((1, self.giver, self.taker, self.asset, self.amount))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "LEGS", 4))


def leg_key(instruction: bytes, index: int) -> bytes:
    """The legs of an instruction are neighbours, in order."""
    return instruction + index.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class AffirmationRow:
    """AFFIRMATIONS: what a participant has said. Under a venue's account: that it may instruct for the account."""

    table: ClassVar[Table] = Table.AFFIRMATIONS

    affirmed: bool = False
    held: bool = False
    cancels: bool = False

    def encode(self) -> bytes:
        return encode((1, self.affirmed, self.held, self.cancels))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "AFFIRMATIONS", 3))


def affirmation_key(instruction: bytes, account: bytes) -> bytes:
    """The participants of an instruction are neighbours; so are those who authorised a venue."""
    return instruction + account


@dataclass(frozen=True, slots=True)
class InstructionRow:
    """INSTRUCTIONS: the terms as they were instructed, and where the instruction stands.

    ``participants``, ``affirmed``, ``holds`` and ``cancels`` count rows of AFFIRMATIONS. ``pair`` is the instruction
    that it was matched with (b"": none). ``settle_from_ms`` is the opening of ``effective_day``, the day on which it
    settles at the earliest; both are fixed when it is locked. ``expires_ms`` is the last ms at which it can be settled
    unless it is locked. ``due_kind`` and ``due_ms`` name its item in the queue (0: none).
    """

    table: ClassVar[Table] = Table.INSTRUCTIONS

    by: bytes
    origin: Origin
    counterparty: bytes
    reference: str
    trade_day: int
    settle_day: int
    calendar: str
    tolerance: int
    leg_count: int
    legs_digest: bytes
    legs_there: int = 0
    processing: Processing = Processing.PENDING
    matched: Matched = Matched.UNMATCHED
    settlement: Settlement = Settlement.PENDING
    reason: IsoReason = IsoReason.NONE
    rule: str = ""
    participants: int = 0
    affirmed: int = 0
    holds: int = 0
    cancels: int = 0
    pair: bytes = b""
    is_principal: bool = True
    effective_day: int = 0
    settle_from_ms: int = 0
    expires_ms: int = 0
    due_kind: int = 0
    due_ms: int = 0
    entry: Moment = NEVER
    irrevocable: Moment = NEVER
    final: Moment = NEVER
    rules_version: int = 0
    calendar_version: int = 0

    @property
    def is_open(self) -> bool:
        """Whether anything can still happen to it."""
        return self.processing <= Processing.ACCEPTED and self.settlement is not Settlement.SETTLED

    @property
    def is_locked(self) -> bool:
        """Whether it has passed the moment from which only an order of authority can stop it."""
        return self.irrevocable != NEVER

    def encode(self) -> bytes:
        return encode(
            (
                1,
                self.by,
                int(self.origin),
                self.counterparty,
                self.reference,
                self.trade_day,
                self.settle_day,
                self.calendar,
                self.tolerance,
                self.leg_count,
                self.legs_digest,
                self.legs_there,
                int(self.processing),
                int(self.matched),
                int(self.settlement),
                str(self.reason),
                self.rule,
                self.participants,
                self.affirmed,
                self.holds,
                self.cancels,
                self.pair,
                self.is_principal,
                self.effective_day,
                self.settle_from_ms,
                self.expires_ms,
                self.due_kind,
                self.due_ms,
                (self.entry.height, self.entry.time_ms),
                (self.irrevocable.height, self.irrevocable.time_ms),
                (self.final.height, self.final.time_ms),
                self.rules_version,
                self.calendar_version,
            )
        )

    @classmethod
    def decode(cls, row: bytes) -> Self:
        values = list(fields_of(row, "INSTRUCTIONS", 32))
        values[1] = Origin(values[1])
        values[11:15] = Processing(values[11]), Matched(values[12]), Settlement(values[13]), IsoReason(values[14])
        values[27:30] = Moment(*values[27]), Moment(*values[28]), Moment(*values[29])
        return cls(*values)


# Reading and writing --------------------------------------------------------------------------------------------------


def require_instruction(books: Books, identifier: bytes) -> InstructionRow:
    """The row of exactly this instruction; ``unknown_instruction`` where there is none."""
    row = books.row(InstructionRow, identifier)
    if row is None:
        raise Refused(Reason.UNKNOWN_INSTRUCTION)
    return row


def principal_of(books: Books, identifier: bytes) -> tuple[bytes, InstructionRow]:
    """(identifier, row) of the instruction that stands for this one: itself, or the one that it was matched with."""
    row = require_instruction(books, identifier)
    return (identifier, row) if row.is_principal else (row.pair, require_instruction(books, row.pair))


def put_instruction(books: Books, identifier: bytes, row: InstructionRow) -> None:
    """Writes the row of a principal, and into the one that follows it what it has in common."""
    books.put(InstructionRow, identifier, row)
    if row.pair:
        follower = require_instruction(books, row.pair)
        shared = replace(
            follower,
            processing=row.processing,
            matched=row.matched,
            settlement=row.settlement,
            reason=row.reason,
            rule=row.rule,
            effective_day=row.effective_day,
            settle_from_ms=row.settle_from_ms,
            irrevocable=row.irrevocable,
            final=row.final,
            rules_version=row.rules_version,
            calendar_version=row.calendar_version,
        )
        books.put(InstructionRow, row.pair, shared)


def with_due(
    books: Books, identifier: bytes, row: InstructionRow, kind: DueKind | None, time_ms: int
) -> InstructionRow:
    """The row with another item in the queue, or none; the queue is written, the row is not."""
    if row.due_kind:
        unschedule(books, row.due_ms, DueKind(row.due_kind), identifier)
    if kind is None:
        return replace(row, due_kind=0, due_ms=0)
    time_ms = min(time_ms, U64_MAX)
    schedule(books, time_ms, kind, identifier)
    return replace(row, due_kind=int(kind), due_ms=time_ms)


def legs_of(books: Books, identifier: bytes) -> list[LegRow]:
    """The legs that are there, in order."""
    return [row for _, row in books.rows(LegRow, identifier)]


def participants_of(books: Books, identifier: bytes) -> Iterator[tuple[bytes, AffirmationRow]]:
    """(account, what it has said) of those who must agree, in the order of accounts."""
    for key, row in books.rows(AffirmationRow, identifier):
        yield key[32:], row


def require_participant(books: Books, identifier: bytes, account: bytes) -> AffirmationRow:
    """What a participant has said; ``not_a_participant`` for everybody else."""
    row = books.row(AffirmationRow, affirmation_key(identifier, account))
    if row is None:
        raise Refused(Reason.NOT_A_PARTICIPANT)
    return row


def _require_open(row: InstructionRow) -> None:
    if not row.is_open:
        raise Refused(Reason.INSTRUCTION_CLOSED, str(row.reason))


def _require_revocable(row: InstructionRow) -> None:
    _require_open(row)
    if row.is_locked:
        raise Refused(Reason.IRREVOCABLE)


def settlement_day(calendar: CalendarRow, day: int, time_ms: int) -> int:
    """The day on which what is meant for ``day`` settles, as the calendar and the block's time say.

    ``bad_value_date`` where the day is none of business; ``late`` after its cut-off, unless the calendar moves what is
    late to the next business day.
    """
    if not calendar.is_business_day(day):
        raise Refused(Reason.BAD_VALUE_DATE, calendar.title)
    if time_ms <= calendar.cut_off_ms(day):
        return day
    if calendar.late is Lateness.REFUSE:
        raise Refused(Reason.LATE, calendar.title)
    return calendar.business_day_from(max(day, calendar.day_of(time_ms)) + 1)


# Entering -------------------------------------------------------------------------------------------------------------


class InstructRule:
    """Enters a settlement instruction, with all of its legs or the first of them.

    who may     anybody; from a venue: a party with the role of venue, in securities that are admitted to it
    signed by   by
    needs       an unused salt; a counterparty that is not by; a settlement day to come; legs between existing accounts
    changes     the instruction, its legs, its participants, its item in the queue; with all legs there it is accepted,
                and matched with a waiting instruction of the counterparty, if one says the same
    refuses     not_permitted, identifier_used, unknown_account, self_trade, unknown_calendar, bad_value_date, late,
                bad_legs, for each leg: zero_amount, self_trade, unknown_account, unknown_asset, venue_off
    """

    def must_sign(self, books: Books, operation: Instruct) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: Instruct, place: Place) -> None:
        permissions.require(books, place, operation.by, operation.code)
        if books.row(InstructionRow, operation.id) is not None:
            raise Refused(Reason.IDENTIFIER_USED)
        origin = operation.origin
        if origin is Origin.VENUE and not has_role(books, operation.by, Role.VENUE):
            raise Refused(Reason.NOT_PERMITTED, "venues alone instruct as venues")
        if operation.counterparty:
            require_account(books, operation.counterparty)
            if same_party(books, operation.by, operation.counterparty):
                raise Refused(Reason.SELF_TRADE)
        calendar = require_calendar(books, operation.calendar)
        if operation.settle_day < max(operation.trade_day, calendar.day_of(place.time_ms)):
            raise Refused(Reason.BAD_VALUE_DATE, calendar.title)
        day = settlement_day(calendar, operation.settle_day, place.time_ms)
        row = InstructionRow(
            operation.by,
            origin,
            operation.counterparty,
            operation.reference,
            operation.trade_day,
            operation.settle_day,
            operation.calendar,
            operation.tolerance,
            operation.leg_count,
            legs_digest=terms_digest(operation.trade_day, operation.settle_day, operation.calendar),
            effective_day=day,
            settle_from_ms=calendar.opening_ms(day),
            expires_ms=_expiry_ms(calendar, day),
            calendar_version=calendar.version,
        )
        row = _with_participant(books, operation.id, row, operation.by, affirmed=True)
        if operation.counterparty:
            row = _with_participant(books, operation.id, row, operation.counterparty, affirmed=False)
        row = with_due(books, operation.id, row, DueKind.INSTRUCTION_EXPIRY, row.expires_ms + 1)
        _take_legs(books, place, operation.id, row, operation.legs)


class AddLegsRule:
    """Adds the next legs to an instruction whose legs are not all there.

    who may     who made the instruction
    signed by   by
    needs       an instruction that lacks legs; the number of the next leg; the settlement day still to come
    changes     the legs, the participants; with the last leg the instruction is entered, as under *instruct*
    refuses     not_permitted, unknown_instruction, not_a_participant, instruction_closed, bad_legs,
                for each leg: zero_amount, self_trade, unknown_account, unknown_asset, venue_off;
                with the last one: bad_value_date, late
    """

    def must_sign(self, books: Books, operation: AddLegs) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: AddLegs, place: Place) -> None:
        permissions.require(books, place, operation.by, operation.code)
        row = require_instruction(books, operation.instruction)
        if operation.by != row.by:
            raise Refused(Reason.NOT_A_PARTICIPANT)
        _require_open(row)
        if row.processing is not Processing.PENDING or operation.first != row.legs_there:
            raise Refused(Reason.BAD_LEGS, f"the next leg is {row.legs_there}")
        _take_legs(books, place, operation.instruction, row, operation.legs)


def same_party(books: Books, one: bytes, two: bytes) -> bool:
    """Whether two accounts are one, or belong to one party."""
    return one == two or holder_of(books, one) == holder_of(books, two)


def _expiry_ms(calendar: CalendarRow, day: int) -> int:
    return min(calendar.cut_off_ms(calendar.business_days_after(day, EXPIRY_BUSINESS_DAYS)), U64_MAX - 1)


def _with_participant(
    books: Books, identifier: bytes, row: InstructionRow, account: bytes, *, affirmed: bool
) -> InstructionRow:
    """The row with one who must agree, unless he stands there already."""
    key = affirmation_key(identifier, account)
    if books.row(AffirmationRow, key) is not None:
        return row
    books.put(AffirmationRow, key, AffirmationRow(affirmed))
    return replace(row, participants=row.participants + 1, affirmed=row.affirmed + affirmed)


def _take_legs(books: Books, place: Place, identifier: bytes, row: InstructionRow, legs: Sequence[Leg]) -> None:
    """Adds legs behind those that are there, and enters the instruction with the last one."""
    if row.legs_there + len(legs) > row.leg_count:
        raise Refused(Reason.BAD_LEGS, f"{row.leg_count} legs were announced")
    from_venue = row.origin is Origin.VENUE
    known: set[bytes] = set()
    kinds: dict[bytes, AssetKind] = {}
    for index, leg in enumerate(legs, row.legs_there):
        try:
            if leg.amount == 0:
                raise Refused(Reason.ZERO_AMOUNT)
            if leg.giver == leg.taker or (from_venue and same_party(books, leg.giver, leg.taker)):
                raise Refused(Reason.SELF_TRADE)
            for account in (leg.giver, leg.taker):
                if account not in known:
                    require_account(books, account)
                    known.add(account)
            if leg.asset not in kinds:
                kinds[leg.asset] = require_asset(books, leg.asset).kind
                if from_venue and kinds[leg.asset] is AssetKind.SECURITY:
                    require_on(books, leg.asset, holder_of(books, row.by))
        except Refused as refusal:
            raise Refused(refusal.reason, leg_rule(index, refusal)) from None
        books.put(LegRow, leg_key(identifier, index), LegRow(leg.giver, leg.taker, leg.asset, leg.amount))
    for giver in dict.fromkeys(leg.giver for leg in legs):
        row = _with_participant(
            books, identifier, row, giver, affirmed=from_venue and _has_authorised(books, row.by, giver)
        )
    row = replace(row, legs_there=row.legs_there + len(legs), legs_digest=legs_digest(legs, row.legs_digest))
    if row.legs_there == row.leg_count:
        _enter(books, place, identifier, row)
    else:
        put_instruction(books, identifier, row)


def leg_rule(index: int, refusal: Refused) -> str:
    """The name of a rule that one leg breaks."""
    return f"leg {index}: {refusal.rule}" if refusal.rule else f"leg {index}"


def _has_authorised(books: Books, venue: bytes, account: bytes) -> bool:
    row = books.row(AffirmationRow, affirmation_key(venue, account))
    return row is not None and row.affirmed


def _enter(books: Books, place: Place, identifier: bytes, row: InstructionRow) -> None:
    """All legs are there: the instruction is accepted, and finds its counterpart or waits for it."""
    calendar = require_calendar(books, row.calendar)
    day = settlement_day(calendar, row.effective_day, place.time_ms)
    row = replace(
        row,
        processing=Processing.ACCEPTED,
        entry=Moment(place.height, place.time_ms),
        effective_day=day,
        settle_from_ms=calendar.opening_ms(day),
        calendar_version=calendar.version,
    )
    if row.origin is Origin.VENUE:
        if all(require_asset(books, leg.asset).kind is AssetKind.MONEY for leg in legs_of(books, identifier)):
            row = _without_authority(books, identifier, row)
        _match(books, place, identifier, row)
        return
    if not row.counterparty:
        _match_if_all_agree(books, place, identifier, row)
        return
    statement = _statement_of(books, identifier, row)
    found = matching.find(books, statement)
    if found is not None:
        _join(books, place, identifier, row, found, statement)
        return
    matching.wait(books, identifier, statement)
    reason, neighbour = IsoReason.CMIS, matching.nearest(books, statement)
    if neighbour is not None:
        other, text = neighbour
        reason = IsoReason(text)
        books.put(InstructionRow, other, replace(require_instruction(books, other), reason=reason))
    put_instruction(books, identifier, replace(row, reason=reason))


def _without_authority(books: Books, identifier: bytes, row: InstructionRow) -> InstructionRow:
    """The row of a venue's instruction about money alone: who gives affirms it, whatever he authorised the venue to.

    No depository admits money to a venue; one that was switched off everywhere could still empty his account.
    """
    for account, said in list(participants_of(books, identifier)):
        if said.affirmed and account != row.by:
            books.put(AffirmationRow, affirmation_key(identifier, account), replace(said, affirmed=False))
            row = replace(row, affirmed=row.affirmed - 1)
    return row


def _statement_of(books: Books, identifier: bytes, row: InstructionRow) -> matching.Statement:
    legs = legs_of(books, identifier)
    kinds = {asset: require_asset(books, asset).kind for asset in dict.fromkeys(leg.asset for leg in legs)}
    return matching.Statement.of(
        by=row.by,
        counterparty=row.counterparty,
        reference=row.reference,
        trade_day=row.trade_day,
        settle_day=row.settle_day,
        calendar=row.calendar,
        tolerance=row.tolerance,
        legs=[(Leg(leg.giver, leg.taker, leg.asset, leg.amount), kinds[leg.asset]) for leg in legs],
    )


def _match(books: Books, place: Place, identifier: bytes, row: InstructionRow) -> None:
    """It is matched: from now on it is due at the settlement times of its calendar, from its day on."""
    calendar = require_calendar(books, row.calendar)
    due_ms = calendar.next_settlement_ms(row.effective_day, place.time_ms)
    row = with_due(books, identifier, row, DueKind.SETTLE, due_ms)
    reason = waiting_reason(calendar, row, place.time_ms)
    put_instruction(books, identifier, replace(row, matched=Matched.MATCHED, reason=reason, rule=""))


def waiting_reason(calendar: CalendarRow, row: InstructionRow, time_ms: int) -> IsoReason:
    """Why a matched instruction that nothing is wrong with has not settled yet."""
    if row.holds:
        return IsoReason.PREA
    return IsoReason.FUTU if calendar.day_of(time_ms) < row.effective_day else IsoReason.CYCL


def _match_if_all_agree(books: Books, place: Place, identifier: bytes, row: InstructionRow) -> None:
    if row.affirmed == row.participants:
        _match(books, place, identifier, row)
    else:
        put_instruction(books, identifier, replace(row, reason=IsoReason.NMAT))


def _join(
    books: Books, place: Place, identifier: bytes, row: InstructionRow, other: bytes, statement: matching.Statement
) -> None:
    """Two instructions match: one becomes the principal, the other follows."""
    other_row = require_instruction(books, other)
    matching.strike_counterpart(books, other, statement)
    legs, other_legs = legs_of(books, identifier), legs_of(books, other)
    mine_counts = _sells(books, row.by, legs) and not _sells(books, other_row.by, other_legs)
    if mine_counts:
        principal, head, follower, tail = identifier, row, other, other_row
    else:
        principal, head, follower, tail = other, other_row, identifier, row
    tail = with_due(books, follower, tail, None, 0)
    same_legs = head.legs_digest == tail.legs_digest
    for account, said in list(participants_of(books, follower)):
        # Who instructed agrees to the counterpart within the tolerance; others agreed to the legs that they saw.
        agrees = account == tail.by or (said.affirmed and same_legs)
        head = _carry(books, principal, head, account, AffirmationRow(agrees, said.held))
    books.put(InstructionRow, follower, replace(tail, pair=principal, is_principal=False))
    day = max(head.effective_day, tail.effective_day)
    calendar = require_calendar(books, head.calendar)
    head = replace(head, pair=follower, effective_day=day, settle_from_ms=calendar.opening_ms(day))
    _match(books, place, principal, head)


def _sells(books: Books, by: bytes, legs: Sequence[LegRow]) -> bool:
    """Whether the first cash of these legs goes to this account, or to its party."""
    for leg in legs:
        if require_asset(books, leg.asset).kind is AssetKind.MONEY:
            return same_party(books, by, leg.taker)
    return False


def _carry(
    books: Books, identifier: bytes, row: InstructionRow, account: bytes, said: AffirmationRow
) -> InstructionRow:
    """What a participant said to the follower counts for the principal too."""
    row = _with_participant(books, identifier, row, account, affirmed=False)
    key = affirmation_key(identifier, account)
    present = require_participant(books, identifier, account)
    now = AffirmationRow(present.affirmed or said.affirmed, present.held or said.held, present.cancels)
    books.put(AffirmationRow, key, now)
    return replace(
        row,
        affirmed=row.affirmed + now.affirmed - present.affirmed,
        holds=row.holds + now.held - present.held,
    )


# Agreeing, holding, cancelling ----------------------------------------------------------------------------------------


class AffirmRule:
    """Agrees, for one account, to all legs of an instruction. Twice is once.

    who may     a participant: the counterparty, and everybody who gives
    signed by   account
    needs       an accepted instruction that is not locked; the digest over its days and all of its legs
    changes     the participant's row; the instruction is matched if this was the agreement that it waited for
    refuses     not_permitted, unknown_instruction, not_a_participant, instruction_closed, irrevocable, bad_legs
    """

    def must_sign(self, books: Books, operation: Affirm) -> Iterator[bytes]:
        yield operation.account

    def execute(self, books: Books, operation: Affirm, place: Place) -> None:
        permissions.require(books, place, operation.account, operation.code)
        identifier, row = principal_of(books, operation.instruction)
        said = require_participant(books, identifier, operation.account)
        _require_revocable(row)
        if row.processing is not Processing.ACCEPTED or operation.legs != row.legs_digest:
            raise Refused(Reason.BAD_LEGS)
        if said.affirmed:
            return
        books.put(AffirmationRow, affirmation_key(identifier, operation.account), replace(said, affirmed=True))
        row = replace(row, affirmed=row.affirmed + 1)
        if row.matched is Matched.MATCHED:
            put_instruction(books, identifier, row)
        elif not row.counterparty:
            _match_if_all_agree(books, place, identifier, row)
        elif operation.account == row.counterparty:
            matching.strike(books, identifier, _statement_of(books, identifier, row))
            _match(books, place, identifier, row)
        else:
            put_instruction(books, identifier, row)


class SetHoldRule:
    """Holds an instruction back from settling, or lets it go on. A hold of one participant is enough.

    who may     a participant
    signed by   party
    needs       an instruction that is not locked
    changes     the participant's hold flag
    refuses     not_permitted, unknown_instruction, not_a_participant, instruction_closed, irrevocable
    """

    def must_sign(self, books: Books, operation: SetHold) -> Iterator[bytes]:
        yield operation.party

    def execute(self, books: Books, operation: SetHold, place: Place) -> None:
        permissions.require(books, place, operation.party, operation.code)
        identifier, row = principal_of(books, operation.instruction)
        said = require_participant(books, identifier, operation.party)
        _require_revocable(row)
        if said.held == operation.on:
            return
        key = affirmation_key(identifier, operation.party)
        books.put(AffirmationRow, key, replace(said, held=operation.on))
        row = replace(row, holds=row.holds + (1 if operation.on else -1))
        if row.reason in (IsoReason.FUTU, IsoReason.CYCL, IsoReason.PREA):
            row = replace(row, reason=waiting_reason(require_calendar(books, row.calendar), row, place.time_ms))
        put_instruction(books, identifier, row)


class CancelRule:
    """Cancels an instruction, or agrees to its cancellation.

    who may     before it is matched who made it; after that both parties, or, where no counterparty is named or a venue
                instructed it, every participant; all of them are needed
    signed by   by
    needs       an instruction that is not locked
    changes     the participant's wish; with the last one needed the instruction is cancelled, and leaves the queue
    refuses     not_permitted, unknown_instruction, not_a_participant, instruction_closed, irrevocable,
                not_a_participant
    """

    def must_sign(self, books: Books, operation: Cancel) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: Cancel, place: Place) -> None:
        permissions.require(books, place, operation.by, operation.code)
        identifier, row = principal_of(books, operation.instruction)
        said = require_participant(books, identifier, operation.by)
        _require_revocable(row)
        if row.matched is Matched.UNMATCHED:
            if operation.by != row.by:
                raise Refused(Reason.NOT_A_PARTICIPANT, "its maker alone cancels what is not matched")
            close(books, identifier, row, Processing.CANCELLED, IsoReason.CANI)
            return
        is_bilateral = bool(row.counterparty) and row.origin is Origin.PARTY
        if is_bilateral and operation.by not in (row.by, row.counterparty):
            raise Refused(Reason.NOT_A_PARTICIPANT, "both parties cancel what is matched")
        if said.cancels:
            return
        books.put(AffirmationRow, affirmation_key(identifier, operation.by), replace(said, cancels=True))
        row = replace(row, cancels=row.cancels + 1, reason=IsoReason.CANI)
        if row.cancels == (2 if is_bilateral else row.participants):
            close(books, identifier, row, Processing.CANCELLED, IsoReason.CANI)
        else:
            put_instruction(books, identifier, row)


def close(
    books: Books, identifier: bytes, row: InstructionRow, processing: Processing, reason: IsoReason, rule: str = ""
) -> None:
    """Ends an instruction that holds no units: it leaves the queue, and is no longer looked for."""
    if row.processing is Processing.ACCEPTED and row.matched is Matched.UNMATCHED and row.counterparty:
        matching.strike(books, identifier, _statement_of(books, identifier, row))
    row = with_due(books, identifier, row, None, 0)
    put_instruction(books, identifier, replace(row, processing=processing, reason=reason, rule=shortened(rule)))


class AuthoriseVenueRule:
    """Lets a venue's instructions move what an account holds without its affirming each of them, or ends that.

    who may     everybody for an account of his own
    signed by   account
    needs       a party with the role of venue
    changes     the authority, for instructions that come after it
    refuses     not_permitted, unknown_account
    """

    def must_sign(self, books: Books, operation: AuthoriseVenue) -> Iterator[bytes]:
        yield operation.account

    def execute(self, books: Books, operation: AuthoriseVenue, place: Place) -> None:
        permissions.require(books, place, operation.account, operation.code)
        require_account(books, operation.venue)
        if not has_role(books, operation.venue, Role.VENUE):
            raise Refused(Reason.NOT_PERMITTED, "venues alone instruct as venues")
        key = affirmation_key(operation.venue, operation.account)
        books.put(AffirmationRow, key, AffirmationRow(True) if operation.on else None)


def expire_instruction(books: Books, place: Place, reference: bytes) -> int:
    """Due work: an instruction that is not matched in time is cancelled; one that lacks legs is rejected."""
    row = books.row(InstructionRow, reference)
    if row is None or not row.is_open or row.matched is Matched.MATCHED:
        return 1
    if row.processing is Processing.PENDING:
        close(books, reference, row, Processing.REJECTED, IsoReason.LATE)
    else:
        close(books, reference, row, Processing.CANCELLED, IsoReason.CANS, "not matched in time")
    return 1


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType(
    {
        Instruct: InstructRule(),
        AddLegs: AddLegsRule(),
        Affirm: AffirmRule(),
        SetHold: SetHoldRule(),
        Cancel: CancelRule(),
        AuthoriseVenue: AuthoriseVenueRule(),
    }
)
