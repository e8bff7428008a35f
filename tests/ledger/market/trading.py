"""Trades for the tests: instructions, calendars and offers by the names of people, with what most tests do not care for
filled in. Salts count up, so that no two are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from p2pledger.ledger.market.instructions import InstructionRow
from p2pledger.primitives.market.calendars import NO_OFFSET, Lateness, SetCalendar
from p2pledger.primitives.market.instructions import (
    AddLegs,
    Affirm,
    Instruct,
    Leg,
    LockInstruction,
    Origin,
    Settle,
)
from p2pledger.primitives.market.offers import PlaceOffer
from tests.ledger.market.market_world import BOND, CASH, DAY_MS, START_MS, World, account

TODAY = START_MS // DAY_MS
"""The day on which every world begins: a Monday."""
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS

_SALTS = count(1)


def salt() -> bytes:
    return next(_SALTS).to_bytes(16, "big")


def leg(giver: str, taker: str, asset: bytes, amount: int) -> Leg:
    return Leg(account(giver), account(taker), asset, amount)


def dvp(seller: str = "alice", buyer: str = "bob", quantity: int = 10, price: int = 1_000) -> list[Leg]:
    """Bonds against money."""
    return [leg(seller, buyer, BOND, quantity), leg(buyer, seller, CASH, price)]


def instruct(
    by: str,
    legs: Sequence[Leg],
    counterparty: str = "",
    *,
    origin: Origin = Origin.PARTY,
    reference: str = "",
    trade_day: int = TODAY,
    settle_day: int = TODAY,
    calendar: str = "",
    tolerance: int = 0,
    leg_count: int | None = None,
    salted: bytes | None = None,
) -> Instruct:
    return Instruct(
        account(by),
        salted or salt(),
        origin,
        account(counterparty) if counterparty else b"",
        reference,
        trade_day,
        settle_day,
        calendar,
        tolerance,
        len(legs) if leg_count is None else leg_count,
        tuple(legs),
    )


def calendar(
    name: str = "TARGET",
    *,
    by: str = "operator",
    utc_offset_minutes: int = 0,
    weekend: Sequence[int] = (5, 6),
    holidays: Sequence[int] = (),
    opening: int = 8 * 60,
    settlement: int = 14 * 60,
    cut_off: int = 16 * 60,
    late: Lateness = Lateness.REFUSE,
) -> SetCalendar:
    """Monday to Friday; it opens at 8:00, settles at 14:00, and its cut-off is at 16:00."""
    return SetCalendar(
        account(by),
        name,
        NO_OFFSET + utc_offset_minutes,
        tuple(weekend),
        tuple(holidays),
        opening,
        cut_off,
        settlement,
        late,
    )


def offer(
    by: str = "alice",
    *,
    gives: bytes = BOND,
    gives_amount: int = 1,
    takes: bytes = CASH,
    takes_amount: int = 13_000,
    lots: int = 1,
    expires_ms: int = START_MS + DAY_MS,
    taker: str = "",
) -> PlaceOffer:
    return PlaceOffer(
        account(by),
        salt(),
        gives,
        gives_amount,
        takes,
        takes_amount,
        lots,
        expires_ms,
        account(taker) if taker else b"",
    )


def at(day: int, hour: int = 0, minute: int = 0, second: int = 0, ms: int = 0) -> int:
    """A time in UTC."""
    return day * DAY_MS + hour * HOUR_MS + minute * MINUTE_MS + second * 1_000 + ms


def state(world: World, identifier: bytes) -> InstructionRow:
    row = world.row(InstructionRow, identifier)
    assert row is not None
    return row


def affirm(entered: Instruct, name: str, legs: Sequence[Leg] = ()) -> Affirm:
    """``legs``: all of them, where the first operation has not brought them all."""
    return Affirm(entered.id, account(name), replace(entered, legs=tuple(legs or entered.legs)).digest)


def lock(identifier: bytes, name: str) -> LockInstruction:
    return LockInstruction(identifier, account(name))


def settle(identifier: bytes, name: str) -> Settle:
    return Settle(identifier, account(name))


def matched(
    world: World, legs: Sequence[Leg] = (), *, settle_day: int = TODAY, calendar: str = "", at_ms: int | None = None
) -> bytes:
    """A trade between alice and bob that both have agreed to, in one transaction; its identifier."""
    entered = instruct("alice", legs or dvp(), "bob", settle_day=settle_day, calendar=calendar)
    world.do([entered, affirm(entered, "bob")], "alice", "bob", at_ms=at_ms)
    return entered.id


def upload(world: World, by: str, legs: Sequence[Leg], *, part: int = 500, counterparty: str = "") -> Instruct:
    """An instruction with more legs than one transaction holds."""
    entered = instruct(by, legs[:part], counterparty, leg_count=len(legs))
    world.do(entered, by)
    for first in range(part, len(legs), part):
        world.do(AddLegs(entered.id, account(by), first, tuple(legs[first : first + part])), by)
    return entered
