"""Calendars: which days are business days, and what the clock of a market says to a block's time.

A day is a number of days since 1970-01-01, a Thursday; a time is the block's, in ms of UTC. All questions are asked of
a ``CalendarRow``, which knows its offset from UTC: a block at 23:30 UTC belongs to the next day of a market at +1:00.

On a business day a market is *open* from its opening minute up to the first second of its cut-off minute: that second
is in time with all of its milliseconds, the next one is late. ``NO_CALENDAR`` serves instructions that name none: every
day of UTC is a business day without a cut-off.

A calendar belongs to who made it. A change counts for what is judged after it: what is locked keeps its times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.market import permissions
from p2pledger.ledger.rule import Place, Refused, Rule
from p2pledger.ledger.tables import Table, fields_of
from p2pledger.primitives.codec import encode
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.calendars import NO_OFFSET, Lateness, SetCalendar
from p2pledger.primitives.reasons import Reason

__all__ = ["DAY_MS", "NO_CALENDAR", "RULES", "CalendarRow", "calendar_key", "require_calendar"]

DAY_MS: Final = 86_400_000
_DAY_MINUTES: Final = 1_440
_FIRST_WEEKDAY: Final = 3
"""1970-01-01 was a Thursday; Monday is 0."""


@dataclass(frozen=True, slots=True)
class CalendarRow:
    """CALENDARS: the fields of ``set_calendar``, who made it, and how often it was changed (``version``, from 1)."""

    table: ClassVar[Table] = Table.CALENDARS

    owner: bytes
    name: str
    version: int
    utc_offset: int
    weekend: tuple[int, ...]
    holidays: tuple[int, ...]
    opening_minute: int
    cut_off_minute: int
    settlement_minute: int
    late: Lateness

    def encode(self) -> bytes:
        return encode(
            (
                1,
                self.owner,
                self.name,
                self.version,
                self.utc_offset,
                self.weekend,
                self.holidays,
                self.opening_minute,
                self.cut_off_minute,
                self.settlement_minute,
                int(self.late),
            )
        )

    @classmethod
    def decode(cls, row: bytes) -> Self:
        values = list(fields_of(row, "CALENDARS", 10))
        values[9] = Lateness(values[9])
        return cls(*values)

    @property
    def title(self) -> str:
        """What refusals name as the rule."""
        return f"calendar {self.name}" if self.name else "no calendar"

    def is_business_day(self, day: int) -> bool:
        return (day + _FIRST_WEEKDAY) % 7 not in self.weekend and day not in self.holidays

    def business_day_from(self, day: int) -> int:
        """The day itself where it is a business day, else the next one. A week has one, so there is one."""
        while not self.is_business_day(day):
            day += 1
        return day

    def business_days_after(self, day: int, count: int) -> int:
        """The business day ``count`` business days after a day; 0: as ``business_day_from``."""
        day = self.business_day_from(day)
        for _ in range(count):
            day = self.business_day_from(day + 1)
        return day

    def _local_s(self, time_ms: int) -> int:
        return time_ms // 1_000 + (self.utc_offset - NO_OFFSET) * 60

    def day_of(self, time_ms: int) -> int:
        """The local day."""
        return self._local_s(time_ms) // 86_400

    def time_ms(self, day: int, minute: int) -> int:
        """The time at which a minute of a local day begins; never below 0, the beginning of time."""
        return max(0, day * DAY_MS + (minute + NO_OFFSET - self.utc_offset) * 60_000)

    def opening_ms(self, day: int) -> int:
        return self.time_ms(day, self.opening_minute)

    def cut_off_ms(self, day: int) -> int:
        """The last ms of a day that is in time: the end of the cut-off's second, or of the day."""
        if self.cut_off_minute == _DAY_MINUTES:
            return self.time_ms(day, _DAY_MINUTES) - 1
        return self.time_ms(day, self.cut_off_minute) + 999

    def settlement_ms(self, day: int) -> int:
        """When what is due on a day is settled."""
        return self.time_ms(day, self.settlement_minute)

    def next_settlement_ms(self, day: int, time_ms: int) -> int:
        """The first settlement time that is not before ``time_ms``, on a business day that is not before ``day``."""
        day = self.business_day_from(max(day, self.day_of(time_ms)))
        if self.settlement_ms(day) < time_ms:
            day = self.business_day_from(day + 1)
        return self.settlement_ms(day)


NO_CALENDAR: Final = CalendarRow(bytes(32), "", 0, NO_OFFSET, (), (), 0, _DAY_MINUTES, 0, Lateness.REFUSE)


def calendar_key(name: str) -> bytes:
    """16 bytes: the name, filled up with zeros."""
    return name.encode().ljust(16, b"\0")


def require_calendar(books: Books, name: str) -> CalendarRow:
    """The calendar of this name, ``NO_CALENDAR`` for the empty one; ``unknown_calendar`` where there is none."""
    if not name:
        return NO_CALENDAR
    row = books.row(CalendarRow, calendar_key(name))
    if row is None:
        raise Refused(Reason.UNKNOWN_CALENDAR, f"calendar {name}")
    return row


class SetCalendarRule:
    """Makes a calendar, or replaces one whole.

    who may     an operator, a depository or a venue; once it is made, who made it
    signed by   by
    needs       a weekday that is a business day; opening before cut-off, settlement between them; a plain name
    changes     the calendar and its version; what is locked keeps its times
    refuses     not_permitted, bad_calendar
    """

    def must_sign(self, books: Books, operation: SetCalendar) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: SetCalendar, place: Place) -> None:
        permissions.require(books, place, operation.by, operation.code)
        key = calendar_key(operation.name)
        present = books.row(CalendarRow, key)
        if present is not None and present.owner != operation.by:
            raise Refused(Reason.NOT_PERMITTED, present.title)
        opening, settlement, cut_off = (
            operation.opening_minute,
            operation.settlement_minute,
            operation.cut_off_minute,
        )
        if not opening <= settlement < cut_off or "\0" in operation.name:
            raise Refused(Reason.BAD_CALENDAR, f"calendar {operation.name}")
        row = CalendarRow(
            operation.by,
            operation.name,
            1 if present is None else present.version + 1,
            operation.utc_offset,
            operation.weekend,
            operation.holidays,
            opening,
            cut_off,
            settlement,
            operation.late,
        )
        books.put(CalendarRow, key, row)


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType({SetCalendar: SetCalendarRule()})
