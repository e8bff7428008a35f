"""The calendar of a market: which days are business days, and when on such a day instructions are taken and settled.

Days are counted from 1970-01-01, which was a Thursday. All times of a calendar are local: its offset from UTC stands in
the operation as minutes plus 1440, so that it is never negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from p2pledger.primitives.forms import Account, Choice, Day, Form, ListOf, Number, Operation, Text

__all__ = ["CALENDAR_OPERATIONS", "NO_OFFSET", "Lateness", "SetCalendar"]

NO_OFFSET: Final = 1_440
"""``utc_offset`` of a market that lives by UTC."""


class Lateness(IntEnum):
    """What becomes of an instruction that comes after the cut-off of its settlement day."""

    REFUSE = 0
    MOVE = 1


@dataclass(frozen=True, slots=True)
class SetCalendar(Operation):
    """Makes a calendar or replaces it whole; what is locked keeps the days and times that were judged."""

    code: ClassVar[int] = 60
    form: ClassVar[Form] = (
        Account("by"),
        Text("name", most=16),
        Number("utc_offset", most=2 * NO_OFFSET),
        ListOf("weekend", Number("weekday", most=6), most=6, ascending=True),
        ListOf("holidays", Day("holiday"), most=1_024, ascending=True),
        Number("opening_minute", most=1_439),
        Number("cut_off_minute", most=1_440),
        Number("settlement_minute", most=1_439),
        Choice("late", Lateness),
    )
    by: bytes
    name: str
    utc_offset: int
    weekend: tuple[int, ...]
    """Weekdays without business, 0 = Monday."""
    holidays: tuple[int, ...]
    opening_minute: int
    cut_off_minute: int
    """The minute of the local day whose first second is the last that is in time; 1440: the whole day is."""
    settlement_minute: int
    late: Lateness


CALENDAR_OPERATIONS: Final = (SetCalendar,)
