"""Days and moments as people write them (ISO 8601), in plain integers: the ledger has no calendar but its own.

A day counts from 1970-01-01 in the Gregorian calendar; a moment is milliseconds since then, UTC, without leap seconds.
Years are 1970 to 9999. Years are counted here from March, so that the odd day of a leap year is the last of its year,
and in eras of 400 years, of 146,097 days each (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2013).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["DAY_MS", "day_of_text", "day_text", "time_of_text", "time_text"]

DAY_MS: Final = 86_400_000
_LAST_DAY: Final = 2_932_896  # 9999-12-31
_DAY: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)
_TIME: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3})0*)?)?(?:(Z)|([+-])(\d{2}):(\d{2}))", re.ASCII
)


def _days_in_month(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def day_of_text(text: str) -> int:
    """The number of a day such as ``2026-03-02``. ValueError for anything else, and before 1970."""
    found = _DAY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a day")
    year, month, day = map(int, found.groups())
    if year < 1970 or not 1 <= month <= 12 or not 1 <= day <= _days_in_month(year, month):
        raise ValueError(f"{text!r} is not a day")
    era, of_era = divmod(year - (month <= 2), 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def day_text(day: int) -> str:
    """A day such as ``2026-03-02``; the number itself beyond the year 9999."""
    if day > _LAST_DAY:
        return str(day)
    era, left = divmod(day + 719_468, 146_097)
    of_era = (left - left // 1_460 + left // 36_524 - left // 146_096) // 365
    left -= of_era * 365 + of_era // 4 - of_era // 100
    from_march = (5 * left + 2) // 153
    month = (from_march + 2) % 12 + 1
    year = era * 400 + of_era + (month <= 2)
    return f"{year:04}-{month:02}-{left - (153 * from_march + 2) // 5 + 1:02}"


def time_of_text(text: str) -> int:
    """Milliseconds of a moment such as ``2026-03-02T10:00:00+08:00`` or ``2026-03-02T02:00Z``.

    ValueError for anything else: without the offset from UTC nobody knows which moment is meant.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a moment")
    hours, minutes, seconds = int(found[2]), int(found[3]), int(found[4] or 0)
    offset_hours, offset_minutes = int(found[8] or 0), int(found[9] or 0)
    if hours > 23 or minutes > 59 or seconds > 59 or offset_hours > 23 or offset_minutes > 59:
        raise ValueError(f"{text!r} is not a moment")
    milliseconds = int((found[5] or "").ljust(3, "0"))
    offset = (offset_hours * 60 + offset_minutes) * (-1 if found[7] == "-" else 1)
    moment = day_of_text(found[1]) * DAY_MS + ((hours * 60 + minutes - offset) * 60 + seconds) * 1_000 + milliseconds
    if moment < 0:
        raise ValueError(f"{text!r} is before 1970")
    return moment


def time_text(time_ms: int) -> str:
    """A moment such as ``2026-03-02T02:00:00Z``, with milliseconds where there are some.

    The number itself beyond the year 9999; and of 0, by which nobody means a moment of 1970.
    """
    day, left = divmod(time_ms, DAY_MS)
    if not time_ms or day > _LAST_DAY:
        return str(time_ms)
    seconds, milliseconds = divmod(left, 1_000)
    fraction = f".{milliseconds:03}" if milliseconds else ""
    return f"{day_text(day)}T{seconds // 3_600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}Z"
