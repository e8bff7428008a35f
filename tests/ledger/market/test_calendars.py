"""Calendars: which day it is, whether it is one of business, and what is still in time."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.ledger.market.calendars import NO_CALENDAR, CalendarRow, calendar_key
from p2pledger.primitives.market.calendars import NO_OFFSET, Lateness
from tests.ledger.market.market_world import DAY_MS, START_MS, account, founded
from tests.ledger.market.trading import TODAY, at, calendar, instruct
from tests.ledger.market.trading import dvp as bonds

EPOCH = date(1970, 1, 1)


def day(year: int, month: int, of_month: int) -> int:
    return (date(year, month, of_month) - EPOCH).days


def row(*, offset: int = 0, weekend: tuple[int, ...] = (5, 6), holidays: tuple[int, ...] = ()) -> CalendarRow:
    return CalendarRow(
        bytes(32), "X", 1, NO_OFFSET + offset, weekend, holidays, 8 * 60, 16 * 60, 14 * 60, Lateness.REFUSE
    )


def test_the_world_begins_on_a_monday() -> None:
    assert date(2026, 3, 2).weekday() == 0
    assert day(2026, 3, 2) == TODAY
    assert row().is_business_day(TODAY)


@pytest.mark.parametrize(
    ("start", "count", "expected"),
    [
        (date(2026, 3, 2), 0, date(2026, 3, 2)),
        (date(2026, 3, 6), 1, date(2026, 3, 9)),  # Friday to Monday
        (date(2026, 3, 7), 0, date(2026, 3, 9)),  # a Saturday is none: Monday
        (date(2026, 3, 7), 1, date(2026, 3, 10)),
        (date(2024, 2, 28), 1, date(2024, 2, 29)),  # a leap year
        (date(2024, 2, 29), 1, date(2024, 3, 1)),
        (date(2023, 2, 28), 1, date(2023, 3, 1)),
        (date(2000, 2, 28), 1, date(2000, 2, 29)),  # every 400 years there is one
        (date(2100, 2, 26), 1, date(2100, 3, 1)),  # 2100 has none, and the 27th and 28th are a weekend
        (date(2025, 12, 31), 1, date(2026, 1, 1)),
        (date(2026, 3, 2), 20, date(2026, 3, 30)),
    ],
)
def test_business_days_are_those_of_the_gregorian_calendar(start: date, count: int, expected: date) -> None:
    assert row().business_days_after((start - EPOCH).days, count) == (expected - EPOCH).days


def test_holidays_are_left_out_however_many_there_are() -> None:
    golden_week = tuple(day(2026, 10, number) for number in range(1, 9))
    assert row(holidays=golden_week).business_day_from(day(2026, 10, 1)) == day(2026, 10, 9)
    assert row(holidays=golden_week).business_days_after(day(2026, 9, 30), 1) == day(2026, 10, 9)
    assert row(weekend=(3, 4)).business_day_from(day(2026, 3, 5)) == day(2026, 3, 7)  # Thursday and Friday off


@pytest.mark.parametrize(
    ("offset", "moment", "expected"),
    [
        (0, datetime(2026, 3, 2, 23, 59, 59, tzinfo=UTC), date(2026, 3, 2)),
        (0, datetime(2026, 3, 3, 0, 0, 0, tzinfo=UTC), date(2026, 3, 3)),
        (8 * 60, datetime(2026, 3, 2, 15, 59, 59, tzinfo=UTC), date(2026, 3, 2)),  # Shanghai
        (8 * 60, datetime(2026, 3, 2, 16, 0, 0, tzinfo=UTC), date(2026, 3, 3)),
        (-5 * 60, datetime(2026, 3, 3, 4, 59, 59, tzinfo=UTC), date(2026, 3, 2)),  # New York
        (-5 * 60, datetime(2026, 3, 3, 5, 0, 0, tzinfo=UTC), date(2026, 3, 3)),
        (5 * 60 + 45, datetime(2026, 3, 2, 18, 14, 59, tzinfo=UTC), date(2026, 3, 2)),  # Kathmandu
        (5 * 60 + 45, datetime(2026, 3, 2, 18, 15, 0, tzinfo=UTC), date(2026, 3, 3)),
        (14 * 60, datetime(2026, 3, 2, 10, 0, 0, tzinfo=UTC), date(2026, 3, 3)),  # Kiritimati
        (-12 * 60, datetime(2026, 3, 3, 11, 59, 59, tzinfo=UTC), date(2026, 3, 2)),
    ],
)
def test_the_day_of_a_block_is_that_of_the_market(offset: int, moment: datetime, expected: date) -> None:
    assert row(offset=offset).day_of(int(moment.timestamp()) * 1_000) == (expected - EPOCH).days


def test_the_whole_second_of_the_cut_off_is_in_time() -> None:
    assert row().cut_off_ms(TODAY) == at(TODAY, 16, 0, 0, 999)
    assert row(offset=60).cut_off_ms(TODAY) == at(TODAY, 15, 0, 0, 999)
    assert NO_CALENDAR.cut_off_ms(TODAY) == at(TODAY + 1) - 1


@given(
    st.integers(0, 4_000_000_000_000),
    st.integers(-NO_OFFSET, NO_OFFSET),
    st.lists(st.integers(0, 6), max_size=6, unique=True).map(lambda days: tuple(sorted(days))),
)
def test_what_a_calendar_says_agrees_with_datetime(time_ms: int, offset: int, weekend: tuple[int, ...]) -> None:
    market = row(offset=offset, weekend=weekend)
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms, minutes=offset)
    today = (local.date() - EPOCH).days
    assert market.day_of(time_ms) == today
    assert market.is_business_day(today) is (local.weekday() not in weekend)
    following = market.business_day_from(today)
    assert market.is_business_day(following)
    assert not any(market.is_business_day(between) for between in range(today, following))


@given(st.integers(START_MS, START_MS + 30 * DAY_MS), st.integers(-720, 840))
def test_the_next_settlement_time_is_the_first_that_is_not_before(time_ms: int, offset: int) -> None:
    market = row(offset=offset, holidays=(TODAY + 2,))
    found = market.next_settlement_ms(TODAY, time_ms)
    assert found >= time_ms
    assert market.is_business_day(market.day_of(found))
    earlier = [
        market.settlement_ms(number) for number in range(TODAY - 1, TODAY + 40) if market.is_business_day(number)
    ]
    assert found == min(moment for moment in earlier if moment >= time_ms and market.day_of(moment) >= TODAY)


def test_set_calendar_makes_and_replaces_a_calendar_whole() -> None:
    world = founded()
    world.do(calendar(holidays=(TODAY + 1,)), "operator")
    made = world.row(CalendarRow, calendar_key("TARGET"))
    assert made is not None
    assert (made.version, made.owner, made.holidays) == (1, account("operator"), (TODAY + 1,))
    world.do(calendar(late=Lateness.MOVE), "operator")
    changed = world.row(CalendarRow, calendar_key("TARGET"))
    assert changed is not None
    assert (changed.version, changed.holidays, changed.late) == (2, (), Lateness.MOVE)


def test_who_may_keep_a_calendar() -> None:
    world = founded()
    world.refuse(
        "not_permitted", calendar(by="alice"), "alice", rule="operators, depositories and venues keep calendars"
    )
    world.do(calendar("SSE", by="sse"), "sse")
    world.do(calendar(by="csdc"), "csdc")
    world.refuse("not_permitted", calendar(by="operator"), "operator", rule="calendar TARGET")


@pytest.mark.parametrize(
    "changes",
    [
        {"opening": 14 * 60 + 1},
        {"cut_off": 14 * 60},
        {"name": "A\0B"},
    ],
)
def test_a_calendar_must_be_sound(changes: dict[str, object]) -> None:
    world = founded()
    world.refuse("bad_calendar", calendar(**changes), "operator")  # type: ignore[arg-type]


def test_an_instruction_names_a_calendar_that_exists() -> None:
    world = founded()
    world.refuse("unknown_calendar", instruct("alice", bonds(), "bob", calendar="NONE"), "alice", rule="calendar NONE")


@pytest.mark.parametrize("settle_day", [TODAY - 1, TODAY + 4, TODAY + 5, TODAY + 6])
def test_a_value_date_is_a_business_day_to_come(settle_day: int) -> None:
    world = founded()
    world.do(calendar(holidays=(TODAY + 4,)), "operator")
    entered = instruct("alice", bonds(), "bob", settle_day=settle_day, calendar="TARGET", trade_day=TODAY - 1)
    world.refuse("bad_value_date", entered, "alice", rule="calendar TARGET")


def test_a_value_date_is_not_before_the_trade() -> None:
    world = founded()
    world.refuse("bad_value_date", instruct("alice", bonds(), "bob", trade_day=TODAY + 1), "alice", rule="no calendar")


@pytest.mark.parametrize("offset", [-12 * 60, -5 * 60, 0, 8 * 60, 14 * 60])
def test_the_last_ms_of_the_cut_off_is_in_time_and_the_next_is_late(offset: int) -> None:
    def ends(ms_after: int) -> str:
        world = founded()
        world.do(calendar(utc_offset_minutes=offset), "operator")
        entered = instruct("alice", bonds(), "bob", calendar="TARGET", settle_day=TODAY + 1)
        cut_off_ms = at(TODAY + 1, 16) - offset * 60_000
        return world.judged(entered, "alice", at_ms=cut_off_ms + ms_after)[0]

    assert ends(999) == "ok"
    assert ends(1_000) == "late"
