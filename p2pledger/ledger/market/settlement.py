"""Settlement: how an instruction becomes irrevocable, and then final.

**Lock** is the moment of judgement. Everything that can speak against an instruction is asked then: that it is
matched, affirmed and not held; the calendar; the permission of its makers and of everybody who gives; the venue; what
the holders of each asset must be. If nothing does, all that is given is reserved, gross, leg by leg (delivery versus
payment, model 1): it leaves the free units of its giver for the bucket SETTLING, under the instruction's identifier;
and what will come to its taker counts for the limits of holders from now on. The calendar's times and the version of
the rules are written into the instruction.

**Settle** moves only what is reserved, all legs or none, and asks nobody but orders of authority. Whatever expires, is
switched off or changes between lock and settlement concerns new instructions only. That is why *simulate equals
execute*: what is not locked gets the receipt of the block in which it executes, and what is locked has only one.

Settling an instruction that is not locked does both in one step; nothing is written where either cannot be.

**The ledger settles by itself**: each matched instruction is in the queue of due work (``due.py``) for the settlement
time of its day. What cannot settle then is *failing*, with a reason, and is tried again at the settlement time of the
next business day, for 20 business days; then it is cancelled. A locked one that an order stops stays *pending*, and is
tried every business day until it settles; if an order took what was reserved for it, the rest is given back.

The cut-off is enforced by the block's time: an attempt that the ledger makes after the cut-off of the day, because no
block was made before or the queue was long, is late like everybody else's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from p2pledger import core
from p2pledger.ledger.books import Books
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.market import holders, permissions
from p2pledger.ledger.market.buckets import FREE_SPOT, Bucket, Spot, amount_in
from p2pledger.ledger.market.calendars import CalendarRow, require_calendar
from p2pledger.ledger.market.due import DueKind
from p2pledger.ledger.market.instructions import (
    EXPIRY_BUSINESS_DAYS,
    RULES_VERSION,
    InstructionRow,
    IsoReason,
    LegRow,
    Matched,
    Moment,
    Processing,
    Settlement,
    close,
    leg_rule,
    legs_of,
    principal_of,
    put_instruction,
    require_instruction,
    require_participant,
    settlement_day,
    waiting_reason,
    with_due,
)
from p2pledger.ledger.market.movement import Cause, Movement, move
from p2pledger.ledger.market.parties import has_role, holder_of
from p2pledger.ledger.market.venues import require_on
from p2pledger.ledger.rule import Place, Refused, Rule, require_account, require_asset, shortened
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.instructions import Affirm, Instruct, LockInstruction, Origin, Settle
from p2pledger.primitives.market.parties import Role
from p2pledger.primitives.names import AssetKind
from p2pledger.primitives.reasons import Reason

__all__ = ["RULES", "SettlementForecast", "settle_due", "simulate_settlement"]


class LegRefused(Refused):
    """One leg cannot be: which, and whether it is in money."""

    def __init__(self, refusal: Refused, index: int, kind: AssetKind) -> None:
        super().__init__(refusal.reason, leg_rule(index, refusal))
        self.kind = kind


# Lock -----------------------------------------------------------------------------------------------------------------


def _require_ready(place: Place, row: InstructionRow) -> None:
    """That everybody agrees, nobody holds it, and it has not run out."""
    if not row.is_open:
        raise Refused(Reason.INSTRUCTION_CLOSED, str(row.reason))
    if row.processing is not Processing.ACCEPTED:
        raise Refused(Reason.BAD_LEGS, f"{row.legs_there} of {row.leg_count} legs are there")
    if row.matched is not Matched.MATCHED or row.affirmed != row.participants:
        raise Refused(Reason.NOT_MATCHED, f"{row.affirmed} of {row.participants} have affirmed")
    if row.holds:
        raise Refused(Reason.ON_HOLD)
    if place.time_ms > row.expires_ms:
        raise Refused(Reason.LATE, f"{EXPIRY_BUSINESS_DAYS} business days after the settlement day")


def _locked_day(calendar: CalendarRow, row: InstructionRow, time_ms: int) -> int:
    """The day on which what is locked now settles: its own; a later one where that has passed or became a holiday."""
    day = max(row.effective_day, calendar.day_of(time_ms))
    return settlement_day(calendar, calendar.business_day_from(day), time_ms)


def _judged(books: Books, place: Place, row: InstructionRow, legs: Sequence[LegRow]) -> bool:
    """Asks for venue and permission, of the makers and of everybody who gives; returns whether guards stand anywhere.

    Makers must be permitted to *instruct* all that the instruction moves of each asset, givers to *affirm* what they
    give of it.
    """
    given: dict[tuple[bytes, bytes], int] = {}
    totals: dict[bytes, int] = {}
    for leg in legs:
        given[leg.giver, leg.asset] = given.get((leg.giver, leg.asset), 0) + leg.amount
        totals[leg.asset] = totals.get(leg.asset, 0) + leg.amount
    makers = (row.by, require_instruction(books, row.pair).by) if row.pair else (row.by,)
    if row.origin is Origin.VENUE and not has_role(books, row.by, Role.VENUE):
        raise Refused(Reason.NOT_PERMITTED, "venues alone instruct as venues")
    flags = 0
    for account in dict.fromkeys(account for leg in legs for account in (leg.giver, leg.taker)):
        flags |= require_account(books, account).flags
    for asset, amount in totals.items():
        entry = require_asset(books, asset)
        flags |= entry.flags
        if row.origin is Origin.VENUE and entry.kind is AssetKind.SECURITY:
            require_on(books, asset, holder_of(books, row.by))
        for maker in makers:
            permissions.require(books, place, maker, Instruct.code, asset=asset, amount=amount)
    for (giver, asset), amount in given.items():
        if giver not in makers:
            permissions.require(books, place, giver, Affirm.code, asset=asset, amount=amount)
    return flags != 0


def _require_lockable(books: Books, place: Place, row: InstructionRow) -> tuple[CalendarRow, int]:
    """The calendar and the day on which it settles if it is locked now. All that is judged without reading the legs."""
    _require_ready(place, row)
    calendar = require_calendar(books, row.calendar)
    return calendar, _locked_day(calendar, row, place.time_ms)


def lock_instruction(
    books: Books, place: Place, identifier: bytes, row: InstructionRow, operation: int
) -> tuple[InstructionRow, list[LegRow]]:
    """Judges and reserves: (the row as it is then, for the caller to write, its legs). Refused where it cannot be."""
    calendar, day = _require_lockable(books, place, row)
    legs = legs_of(books, identifier)
    guarded = _judged(books, place, row, legs)
    _reserve(books, place, identifier, legs, operation)
    if guarded:
        # The guards judge each leg in books in which the legs before it have moved, as they will; then all is undone.
        mark = books.mark()
        _move_legs(books, place, identifier, legs, Cause.OWNER, operation)
        books.back_to(mark)
        for leg in legs:
            holders.promise(books, leg.asset, leg.taker, leg.amount)
    settle_from_ms = calendar.opening_ms(day)
    row = with_due(
        books, identifier, row, DueKind.SETTLE, calendar.next_settlement_ms(day, max(place.time_ms, settle_from_ms))
    )
    locked = replace(
        row,
        settlement=Settlement.PENDING,
        reason=waiting_reason(calendar, replace(row, effective_day=day), place.time_ms),
        rule="",
        effective_day=day,
        settle_from_ms=settle_from_ms,
        irrevocable=Moment(place.height, place.time_ms),
        rules_version=RULES_VERSION,
        calendar_version=calendar.version,
    )
    return locked, legs


def _reserve(books: Books, place: Place, identifier: bytes, legs: Sequence[LegRow], operation: int) -> None:
    """Moves what is given out of the free units, once for each giver and asset; the leg that is short is named."""
    spot = Spot(Bucket.SETTLING, identifier)
    given: dict[tuple[bytes, bytes], list[int]] = {}
    for index, leg in enumerate(legs):
        given.setdefault((leg.giver, leg.asset), []).append(index)
    for (giver, asset), indexes in given.items():
        amount = sum(legs[index].amount for index in indexes)
        try:
            move(books, place, Movement(asset, giver, FREE_SPOT, giver, spot, amount, Cause.OWNER, operation))
        except Refused as refusal:
            at = _short_leg(books, legs, indexes) if refusal.reason is Reason.INSUFFICIENT_FREE else indexes[0]
            raise LegRefused(refusal, at, require_asset(books, asset).kind) from None


def _short_leg(books: Books, legs: Sequence[LegRow], indexes: Sequence[int]) -> int:
    """The first leg for which the free units of its giver do not last any more."""
    left = books.holding(legs[indexes[0]].asset, legs[indexes[0]].giver).free
    for index in indexes:
        left -= legs[index].amount
        if left < 0:
            return index
    return indexes[-1]


# Settle ---------------------------------------------------------------------------------------------------------------


def _move_legs(
    books: Books, place: Place, identifier: bytes, legs: Sequence[LegRow], cause: Cause, operation: int
) -> None:
    """From what is reserved to the free units of the takers."""
    spot = Spot(Bucket.SETTLING, identifier)
    for index, leg in enumerate(legs):
        movement = Movement(leg.asset, leg.giver, spot, leg.taker, FREE_SPOT, leg.amount, cause, operation)
        try:
            move(books, place, movement)
        except Refused as refusal:
            raise LegRefused(refusal, index, require_asset(books, leg.asset).kind) from None


def _require_opened(place: Place, calendar: str, settle_from_ms: int) -> None:
    if place.time_ms < settle_from_ms:
        raise Refused(Reason.TOO_EARLY, f"calendar {calendar}" if calendar else "no calendar")


def settle_instruction(books: Books, place: Place, identifier: bytes, row: InstructionRow, operation: int) -> None:
    """Settles, and writes the row; locks before where it is not locked. Refused where it cannot be, with half of it
    written: the caller drops the books."""
    if not row.is_open:
        raise Refused(Reason.INSTRUCTION_CLOSED, str(row.reason))
    if row.is_locked:
        _require_opened(place, row.calendar, row.settle_from_ms)
        legs = legs_of(books, identifier)
    else:
        # Whether it is too early is judged before its legs are read: that is cheap, and asked often.
        calendar, day = _require_lockable(books, place, row)
        _require_opened(place, row.calendar, calendar.opening_ms(day))
        row, legs = lock_instruction(books, place, identifier, row, operation)
    _move_legs(books, place, identifier, legs, Cause.SETTLEMENT, operation)
    row = with_due(books, identifier, row, None, 0)
    final = Moment(place.height, place.time_ms)
    put_instruction(
        books, identifier, replace(row, settlement=Settlement.SETTLED, final=final, reason=IsoReason.NONE, rule="")
    )


def _require_part(books: Books, identifier: bytes, account: bytes) -> None:
    """That an account has a say in the instruction: venues have it in those that they made, and in no others."""
    try:
        require_participant(books, identifier, account)
    except Refused as refusal:
        if has_role(books, account, Role.VENUE):
            raise Refused(refusal.reason, "venues settle trades of their own only") from None
        raise


class LockInstructionRule:
    """Judges an instruction and reserves everything that it moves. From here on it is irrevocable.

    who may     a participant; a venue for its own instructions only
    signed by   by
    needs       an accepted, matched instruction, affirmed by all participants and held by none; a calendar whose
                cut-off has not passed; permission, venue and eligibility for every leg; the free units of every giver
    changes     what is given moves from free to settling; the moment, the rules' version and the calendar's times are
                written; it is due at its settlement time
    refuses     not_permitted, unknown_instruction, not_a_participant, irrevocable, instruction_closed, bad_legs,
                not_matched, on_hold, late, venue_off, not_permitted, insufficient_free, the guards
    """

    def must_sign(self, books: Books, operation: LockInstruction) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: LockInstruction, place: Place) -> None:
        permissions.require(books, place, operation.by, operation.code)
        identifier, row = principal_of(books, operation.instruction)
        _require_part(books, identifier, operation.by)
        if row.is_open and row.is_locked:
            raise Refused(Reason.IRREVOCABLE)
        locked, _ = lock_instruction(books, place, identifier, row, operation.code)
        put_instruction(books, identifier, locked)


class SettleRule:
    """Settles an instruction, all legs or none; locks it first where it is not locked.

    who may     a participant; a venue for its own instructions only
    signed by   by
    needs       what *lock_instruction* needs, unless it is locked; the opening of its settlement day
    changes     all units to their takers; the instruction is settled, and final
    refuses     not_permitted, unknown_instruction, not_a_participant, instruction_closed, as *lock_instruction*,
                too_early, orders of authority
    """

    def must_sign(self, books: Books, operation: Settle) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: Settle, place: Place) -> None:
        permissions.require(books, place, operation.by, operation.code)
        identifier, row = principal_of(books, operation.instruction)
        _require_part(books, identifier, operation.by)
        settle_instruction(books, place, identifier, row, operation.code)


# By itself ------------------------------------------------------------------------------------------------------------


def settle_due(books: Books, place: Place, reference: bytes) -> int:
    """Due work: one attempt to settle. Its cost is the number of legs."""
    row = books.row(InstructionRow, reference)
    if row is None or not row.is_open or not row.is_principal:
        return 1
    mark = books.mark()
    try:
        settle_instruction(books, place, reference, row, 0)
    except Refused as refusal:
        books.back_to(mark)
        _fail(books, place, reference, replace(row, due_kind=0, due_ms=0), refusal)
    return row.leg_count


def _fail(books: Books, place: Place, identifier: bytes, row: InstructionRow, refusal: Refused) -> None:
    """Writes why it could not settle, and when it is tried again; or ends it, if it will not be."""
    reason, rule = _iso_reason(refusal), shortened(refusal.rule)
    if row.is_locked:
        if not _is_whole(books, identifier):
            _give_back(books, place, identifier)
            close(books, identifier, row, Processing.CANCELLED, IsoReason.CANS, "an order took what was reserved")
            return
        row = replace(row, settlement=Settlement.PENDING)
    elif place.time_ms > row.expires_ms:
        close(books, identifier, row, Processing.CANCELLED, IsoReason.CANS, f"not settled in time: {row.reason}")
        return
    elif refusal.reason is not Reason.TOO_EARLY:
        row = replace(row, settlement=Settlement.FAILING)
    calendar = require_calendar(books, row.calendar)
    again_ms = calendar.next_settlement_ms(row.effective_day, place.time_ms + 1)
    row = with_due(books, identifier, row, DueKind.RECYCLE, again_ms)
    put_instruction(books, identifier, replace(row, reason=reason, rule=rule))


_ISO_REASONS: Final[Mapping[Reason, IsoReason]] = MappingProxyType(
    {
        Reason.NOT_MATCHED: IsoReason.NMAT,
        Reason.ON_HOLD: IsoReason.PREA,
        Reason.LATE: IsoReason.LATE,
        Reason.TOO_EARLY: IsoReason.FUTU,
        Reason.ORDER_STOPS: IsoReason.SBLO,
    }
)


def _iso_reason(refusal: Refused) -> IsoReason:
    """The ISO 20022 name of what kept an instruction from settling; NARR where only the rule's name says it."""
    if refusal.reason is Reason.INSUFFICIENT_FREE and isinstance(refusal, LegRefused):
        return IsoReason.MONY if refusal.kind is AssetKind.MONEY else IsoReason.LACK
    return _ISO_REASONS.get(refusal.reason, IsoReason.NARR)


def _reserved(books: Books, identifier: bytes) -> dict[tuple[bytes, bytes], tuple[int, int]]:
    """(giver, asset) -> (what the legs move, what is reserved for them)."""
    moved: dict[tuple[bytes, bytes], int] = {}
    for leg in legs_of(books, identifier):
        moved[leg.giver, leg.asset] = moved.get((leg.giver, leg.asset), 0) + leg.amount
    spot = Spot(Bucket.SETTLING, identifier)
    return {side: (amount, amount_in(books, side[1], side[0], spot)) for side, amount in moved.items()}


def _is_whole(books: Books, identifier: bytes) -> bool:
    return all(amount == there for amount, there in _reserved(books, identifier).values())


def _give_back(books: Books, place: Place, identifier: bytes) -> None:
    """What is still reserved goes back to its owners' free units. No order of authority forbids that."""
    spot = Spot(Bucket.SETTLING, identifier)
    for (giver, asset), (_, there) in _reserved(books, identifier).items():
        if there:
            move(books, place, Movement(asset, giver, spot, giver, FREE_SPOT, there, Cause.RETURN, 0))
    for leg in legs_of(books, identifier):
        holders.withdraw(books, leg.asset, leg.taker, leg.amount)


@dataclass(frozen=True, slots=True)
class SettlementForecast:
    """What settling an instruction at ``time_ms`` gives: ``reason`` and ``rule`` as in a receipt."""

    reason: Reason
    rule: str
    time_ms: int


def simulate_settlement(
    version: core.Version, instruction: bytes, spec: Chainspec, *, height: int = 0, time_ms: int = 0
) -> SettlementForecast:
    """What ``settle`` gives at the settlement day of an instruction, or at ``time_ms`` if that is later.

    Of a locked instruction this is what will happen, whatever lies between, save an order of authority. Of any other it
    is what would happen if nothing lay between. Nothing is written.
    """
    books = Books(version)
    try:
        identifier, row = principal_of(books, instruction)
    except Refused as refusal:
        return SettlementForecast(refusal.reason, refusal.rule, time_ms)
    time_ms = max(time_ms, row.settle_from_ms)
    try:
        settle_instruction(books, Place(height, time_ms, spec), identifier, row, Settle.code)
    except Refused as refusal:
        return SettlementForecast(refusal.reason, refusal.rule, time_ms)
    return SettlementForecast(Reason.OK, "", time_ms)


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType(
    {LockInstruction: LockInstructionRule(), Settle: SettleRule()}
)
