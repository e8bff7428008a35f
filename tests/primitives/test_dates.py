"""Days and moments against Python's own calendar, and the texts that are none."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.primitives.dates import DAY_MS, day_of_text, day_text, time_of_text, time_text

EPOCH = date(1970, 1, 1)


def test_every_day_of_1970_to_2110_and_around_the_turns_of_centuries() -> None:
    turns = [*range(51_200), *((date(year, 2, 20) - EPOCH).days + more for year in range(2100, 9999, 100)
                                  for more in range(20))]  # fmt: skip
    for number in turns:
        text = (EPOCH + timedelta(days=number)).isoformat()
        assert (day_text(number), day_of_text(text)) == (text, number)
    last = (date(9999, 12, 31) - EPOCH).days
    assert (day_text(last), day_text(last + 1)) == ("9999-12-31", str(last + 1))


@given(
    st.datetimes(datetime(1970, 1, 3), datetime(9999, 12, 30)),  # noqa: DTZ001
    st.integers(-1_439, 1_439),
)
def test_moments_of_any_place(moment: datetime, offset: int) -> None:
    there = moment.replace(microsecond=moment.microsecond // 1_000 * 1_000, tzinfo=timezone(timedelta(minutes=offset)))
    time_ms = (there - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert time_of_text(there.isoformat(timespec="milliseconds")) == time_ms
    assert time_of_text(time_text(time_ms)) == time_ms
    assert datetime.fromisoformat(time_text(time_ms)) == there


def test_what_is_written_in_short() -> None:
    assert time_of_text("2026-03-02T10:00+08:00") == time_of_text("2026-03-02 02:00:00Z") == 1_772_416_800_000
    assert time_text(1_772_416_800_000) == "2026-03-02T02:00:00Z"
    assert time_text(1_772_416_800_001) == "2026-03-02T02:00:00.001Z"
    assert (time_text(0), time_text(2**64 - 1)) == ("0", str(2**64 - 1))
    assert time_text(DAY_MS) == "1970-01-02T00:00:00Z"


@pytest.mark.parametrize(
    "text",
    ["", "2026-3-2", "2026-02-29", "2026-13-01", "2026-00-01", "2026-01-00", "1969-12-31", "20260302", "2100-02-29",
     "2026-03-02T10:00:00Z", "٢026-03-02"],
)  # fmt: skip
def test_what_is_no_day(text: str) -> None:
    with pytest.raises(ValueError, match="not a day"):
        day_of_text(text)


@pytest.mark.parametrize(
    "text",
    ["2026-03-02", "2026-03-02T10:00:00", "2026-03-02T24:00:00Z", "2026-03-02T10:60Z", "2026-03-02T10:00:60Z",
     "2026-03-02T10:00:00.0001Z", "2026-03-02T10:00:00+8", "2026-03-02T10:00:00+24:00", "1970-01-01T00:00+00:01",
     "2026-02-30T10:00Z", "tomorrow"],
)  # fmt: skip
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a moment|not a day|before 1970"):
        time_of_text(text)
