"""The world before and the ledger: the same sales, and how long each takes."""

from datetime import date

import pytest

from p2pledger.primitives.errors import InvalidInput
from p2pledger.sim.baseline import (
    BROKERS,
    Calendar,
    Sale,
    compare,
    custody_transfer,
    one_ledger,
    percentile,
    sales,
)

MONDAY, FRIDAY = date(2026, 3, 2), date(2026, 3, 6)
BOND, UNITS = "CND100000017", 10**9
HOUR_S = 3_600


def sale_at(day: date, second: int, *, quantity: int = 100, price: int = 1_000, number: int = 0) -> Sale:
    time_s = Calendar.moment_s(day, second)
    return Sale(number, time_s, "broker-1", "broker-2", BOND, "CSDC", "CCDC", quantity, price)


def test_what_is_asked_for_by_the_cut_off_settles_at_the_next_opening() -> None:
    before = custody_transfer([sale_at(MONDAY, 15 * HOUR_S)])
    assert before.times_s == (18 * HOUR_S,)
    assert (before.most_in_transit, before.longest_in_transit_s) == (100, 16 * HOUR_S)


def test_a_second_later_it_is_a_day_later() -> None:
    assert custody_transfer([sale_at(MONDAY, 15 * HOUR_S + 1)]).times_s == (42 * HOUR_S - 1,)


def test_weekends_and_holidays_are_waited_for() -> None:
    friday = sale_at(FRIDAY, 15 * HOUR_S)
    assert custody_transfer([friday]).times_s == (66 * HOUR_S,)
    holiday = Calendar(holidays=frozenset({date(2026, 3, 9)}))
    assert custody_transfer([friday], holiday).times_s == (90 * HOUR_S,)
    assert custody_transfer([friday], holiday).longest_in_transit_s == 88 * HOUR_S


def test_the_seller_needs_the_units_when_they_are_booked_out_and_the_buyer_the_money_when_they_are_in() -> None:
    too_much = custody_transfer([sale_at(MONDAY, 0, quantity=UNITS + 1)])
    assert (too_much.times_s, too_much.failed, too_much.most_in_transit) == ((), 1, 0)
    too_dear = custody_transfer([sale_at(MONDAY, 0, price=10**14 + 1)])
    assert (too_dear.times_s, too_dear.failed) == ((), 1)
    assert too_dear.holdings[f"{BOND}@CCDC", "broker-1"] == UNITS + 100


def test_units_in_transit_add_up_and_come_back_to_nothing() -> None:
    before = custody_transfer([sale_at(MONDAY, 10 * HOUR_S + number, number=number) for number in range(5)])
    assert before.most_in_transit == 500
    assert sum(units for (asset, _), units in before.holdings.items() if asset.startswith(BOND)) == 16 * UNITS


def test_equal_seeds_give_equal_sales_in_market_hours() -> None:
    found = sales(3, 50)
    assert found == sales(3, 50)
    assert found != sales(4, 50)
    assert [sale.time_s for sale in found] == sorted(sale.time_s for sale in found)
    assert all(sale.source != sale.target and sale.seller != sale.buyer for sale in found)
    first, last = Calendar.moment_s(MONDAY, 9 * HOUR_S), Calendar.moment_s(FRIDAY, 17 * HOUR_S)
    assert all(first < sale.time_s < last for sale in found)


def test_sales_keep_clear_of_holidays() -> None:
    found = sales(3, 20, Calendar(holidays=frozenset({MONDAY})))
    assert min(sale.time_s for sale in found) > Calendar.moment_s(date(2026, 3, 3), 9 * HOUR_S)


def test_on_one_ledger_each_sale_is_final_within_the_second_and_all_adds_up() -> None:
    ledger = one_ledger(sales(5, 12), 5)
    assert ledger.findings == ()
    assert (len(ledger.times_s), ledger.failed) == (12, 0)
    assert 0.08 < min(ledger.times_s) <= max(ledger.times_s) < 1.0


def test_a_sale_that_nobody_can_pay_fails_on_the_ledger_too_and_moves_nothing() -> None:
    ledger = one_ledger([sale_at(MONDAY, 10 * HOUR_S, price=10**14 + 1)], 1)
    assert (ledger.findings, ledger.times_s, ledger.failed) == ((), (), 1)
    assert ledger.holdings[f"{BOND}@CSDC", "broker-1"] == UNITS


def test_both_ways_lead_to_the_same_holdings_and_differ_in_time() -> None:
    found = compare(7, 10)
    assert found == compare(7, 10)
    assert found.same_holdings
    assert {holder for _, holder in found.ledger.holdings} == set(BROKERS)
    assert found.times_sooner > 10_000


def test_a_comparison_needs_a_trade() -> None:
    with pytest.raises(InvalidInput):
        compare(1, 0)


def test_percentiles_are_values_that_occurred() -> None:
    assert [percentile((4.0, 1.0, 3.0, 2.0), share) for share in (0.5, 0.9, 1.0)] == [2.0, 4.0, 4.0]
    assert percentile((), 0.5) == 0.0
