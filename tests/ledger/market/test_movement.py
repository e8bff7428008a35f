"""Units change hands and bucket in one way only: who is asked, what refuses, what is counted; nothing is ever lost."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from p2pledger import core
from p2pledger.ledger.books import Books
from p2pledger.ledger.market import guards as gathered
from p2pledger.ledger.market.buckets import (
    FACTS,
    FREE_SPOT,
    Bucket,
    Encumbrance,
    Spot,
    amount_in,
    encumbrances_of,
    locked_by,
    put_into,
    shift,
    take_from,
)
from p2pledger.ledger.market.flags import set_account_flag, set_asset_flag
from p2pledger.ledger.market.movement import Cause, Movement, move
from p2pledger.ledger.queries import check_conservation
from p2pledger.ledger.rule import Place, Refused
from p2pledger.ledger.tables import AccountFlag, AssetFlag, Flow, Holding, Table
from p2pledger.primitives.codec import U64_MAX
from p2pledger.primitives.names import asset_id
from p2pledger.primitives.reasons import Reason
from tests.ledger.market.market_world import BOND, BOND_ACROSS, World, account, founded
from tests.ledger.small_market import STRANGER

ALICE, BOB, CAROL = account("alice"), account("bob"), account("carol")
UNKNOWN = asset_id("JP3633400001@CSDC")
SETTLING, ESCROWED, PENDING = (Spot(bucket, bytes([bucket]) * 32) for bucket in list(Bucket)[2:])
LOCKED = Spot(Bucket.LOCKED, CAROL)
SPOTS = (FREE_SPOT, LOCKED, SETTLING, ESCROWED, PENDING)


@pytest.fixture
def world() -> World:
    return founded()


def movement(
    source: bytes | None = ALICE,
    source_spot: Spot = FREE_SPOT,
    target: bytes | None = BOB,
    target_spot: Spot = FREE_SPOT,
    amount: int = 10,
    cause: Cause = Cause.OWNER,
    asset: bytes = BOND,
) -> Movement:
    return Movement(asset, source, source_spot, target, target_spot, amount, cause, 1)


def posted(world: World, books: Books) -> core.Version:
    """The state with what the books hold."""
    with world.version.branch() as branch:
        books.post(branch)
        return branch.commit()


# Buckets.


def test_every_bucket_has_its_facts() -> None:
    assert set(FACTS) == set(Bucket)
    for fact in FACTS.values():
        assert all((fact.what, fact.title, fact.income, fact.votes, fact.released_by))


def test_a_spot_names_who_holds_the_units_and_the_free_one_nobody() -> None:
    for wrong in (lambda: Spot(Bucket.FREE, ALICE), lambda: Spot(Bucket.SETTLING), lambda: Spot(Bucket.LOCKED, b"x")):
        with pytest.raises(AssertionError):
            wrong()


@pytest.mark.parametrize("spot", SPOTS[1:], ids=lambda spot: spot.bucket.name)
def test_encumbered_units_count_as_locked_and_come_back_whole(world: World, spot: Spot) -> None:
    books = world.books
    shift(books, BOND, ALICE, FREE_SPOT, spot, 300)
    assert books.holding(BOND, ALICE) == Holding(700, 300)
    assert amount_in(books, BOND, ALICE, spot) == 300
    assert [*locked_by(books, BOND, ALICE), *encumbrances_of(books, BOND, ALICE)] == [(spot, 300)]
    shift(books, BOND, ALICE, spot, FREE_SPOT, 100)
    assert check_conservation(posted(world, books)) == []
    books = world.books
    shift(books, BOND, ALICE, FREE_SPOT, spot, 200)
    with pytest.raises(Refused) as refusal:
        take_from(books, BOND, ALICE, spot, 201)
    assert refusal.value.reason is (
        Reason.INSUFFICIENT_LOCKED if spot.bucket is Bucket.LOCKED else Reason.INSUFFICIENT_ENCUMBERED
    )
    shift(books, BOND, ALICE, spot, FREE_SPOT, 200)
    version = posted(world, books)
    assert version.count(Table.ENCUMBRANCES) == version.count(Table.LOCKS) == 0, "rows of nothing are no rows"


def test_one_object_holds_units_in_one_bucket(world: World) -> None:
    books = world.books
    shift(books, BOND, ALICE, FREE_SPOT, SETTLING, 1)
    other = Spot(Bucket.PENDING, SETTLING.reference)
    assert amount_in(books, BOND, ALICE, other) == 0
    with pytest.raises(AssertionError, match="two buckets"):
        shift(books, BOND, ALICE, FREE_SPOT, other, 1)


def test_a_holding_never_exceeds_64_bits(world: World) -> None:
    books = world.books
    books.put_holding(BOND, ALICE, Holding(U64_MAX - 5, 0))
    with pytest.raises(Refused) as refusal:
        put_into(books, BOND, ALICE, ESCROWED, 6)
    assert refusal.value.reason is Reason.OVERFLOW


# Movements.


@dataclass
class Watchman:
    """A guard that writes down what it hears, and refuses when it is told to."""

    asset_flags: int = 0
    account_flags: int = 0
    forbids: str = ""
    heard: list[str] = field(default_factory=list)

    def leaving(self, books: Books, place: Place, movement: Movement) -> None:
        self._hear("leaving")

    def entering(self, books: Books, place: Place, movement: Movement) -> None:
        self._hear("entering")

    def moved(self, books: Books, place: Place, movement: Movement) -> None:
        self._hear("moved")

    def judge(self, books: Books, place: Place, movement: Movement) -> None:
        self._hear("supply")

    def _hear(self, word: str) -> None:
        self.heard.append(word)
        if word == self.forbids:
            raise Refused(Reason.RESTRICTED, rule=f"watchman of {word}")


ASKED_ALL, TOLD = ["leaving", "entering", "moved"], ["moved"]
CAUSES: dict[Cause, tuple[Movement, list[str], list[str]]] = {
    # what a guard of orders hears, and what another one hears
    Cause.OWNER: (movement(), ASKED_ALL, ASKED_ALL),
    Cause.SETTLEMENT: (movement(source_spot=SETTLING, cause=Cause.SETTLEMENT), ASKED_ALL, TOLD),
    Cause.RETURN: (movement(source_spot=ESCROWED, target=ALICE, cause=Cause.RETURN), ["leaving", "moved"], TOLD),
    Cause.ORDER: (movement(cause=Cause.ORDER), TOLD, TOLD),
    Cause.CREATION: (movement(source=None, cause=Cause.CREATION), ["entering", "moved"], ["entering", "moved"]),
    Cause.DESTRUCTION: (movement(target=None, cause=Cause.DESTRUCTION), ["leaving", "moved"], ["leaving", "moved"]),
    Cause.ARRIVAL: (movement(source=None, cause=Cause.ARRIVAL), ["entering", "moved"], ["entering", "moved"]),
    Cause.DEPARTURE: (movement(target=None, cause=Cause.DEPARTURE), ["leaving", "moved"], ["leaving", "moved"]),
}


def encumber(books: Books) -> None:
    for spot in SPOTS[1:]:
        shift(books, BOND, ALICE, FREE_SPOT, spot, 100)


@pytest.mark.parametrize("cause", list(Cause))
def test_the_cause_decides_who_is_asked(world: World, cause: Cause, monkeypatch: pytest.MonkeyPatch) -> None:
    moving, of_orders, of_others = CAUSES[cause]
    orders, others, supply = (
        Watchman(asset_flags=AssetFlag.ORDERED),
        Watchman(asset_flags=AssetFlag.HOLDERS),
        Watchman(),
    )
    monkeypatch.setattr(gathered, "GUARDS", (orders, others))
    monkeypatch.setattr(gathered, "SUPPLY_GUARDS", (supply,))
    books = world.books
    encumber(books)
    set_asset_flag(books, BOND, AssetFlag.ORDERED | AssetFlag.HOLDERS, True)
    move(books, world.place, moving)
    assert orders.heard == of_orders
    assert others.heard == of_others
    assert supply.heard == (["supply"] if cause in (Cause.CREATION, Cause.DESTRUCTION) else [])


@pytest.mark.parametrize(
    ("asset_flag", "flagged", "account_flag", "is_asked"),
    [
        (0, None, 0, False),
        (AssetFlag.HOLDERS, None, 0, True),
        (AssetFlag.QUARANTINED, None, 0, False),
        (0, ALICE, AccountFlag.OMNIBUS, True),
        (0, BOB, AccountFlag.OMNIBUS, True),
        (0, CAROL, AccountFlag.OMNIBUS, False),
        (0, BOB, AccountFlag.ORDERED, False),
    ],
)
def test_a_guard_is_asked_where_one_of_its_flags_is_set(
    world: World,
    asset_flag: int,
    flagged: bytes | None,
    account_flag: int,
    is_asked: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guard = Watchman(asset_flags=AssetFlag.HOLDERS | AssetFlag.INACTIVE, account_flags=AccountFlag.OMNIBUS)
    monkeypatch.setattr(gathered, "GUARDS", (guard,))
    books = world.books
    if asset_flag:
        set_asset_flag(books, BOND, AssetFlag(asset_flag), True)
    if flagged is not None:
        set_account_flag(books, flagged, AccountFlag(account_flag), True)
    move(books, world.place, movement())
    assert bool(guard.heard) is is_asked


@pytest.mark.parametrize("word", ["leaving", "entering"])
def test_a_guard_names_its_rule_and_its_refusal_leaves_no_trace(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from p2pledger.primitives.transactions import Transfer

    world = founded()
    guard = Watchman(account_flags=AccountFlag.ORDERED, forbids=word)
    monkeypatch.setattr(gathered, "GUARDS", (guard,))
    books = world.books
    set_account_flag(books, BOB, AccountFlag.ORDERED, True)
    world.version = posted(world, books)
    before = world.holding("alice", BOND), world.holding("bob", BOND)
    rule = world.refuse("restricted", Transfer(ALICE, BOB, BOND, 10), "alice")
    assert rule == f"watchman of {word}"
    assert (world.holding("alice", BOND), world.holding("bob", BOND)) == before
    guard.heard.clear()
    world.do(Transfer(ALICE, CAROL, BOND, 10), "alice")
    assert guard.heard == []


REFUSED: dict[str, tuple[Movement, Reason]] = {
    "nothing": (movement(amount=0, target=STRANGER), Reason.ZERO_AMOUNT),
    "to nobody": (movement(target=STRANGER, asset=UNKNOWN), Reason.UNKNOWN_ACCOUNT),
    "an unknown asset": (movement(asset=UNKNOWN), Reason.UNKNOWN_ASSET),
    "more than is free": (movement(amount=1_001), Reason.INSUFFICIENT_FREE),
    "more than is locked": (movement(source_spot=LOCKED, amount=101), Reason.INSUFFICIENT_LOCKED),
    "of another controller": (movement(source_spot=Spot(Bucket.LOCKED, BOB)), Reason.INSUFFICIENT_LOCKED),
    "more than is encumbered": (movement(source_spot=PENDING, amount=101), Reason.INSUFFICIENT_ENCUMBERED),
    "more than there will ever be": (movement(None, cause=Cause.CREATION, amount=U64_MAX), Reason.OVERFLOW),
    "more than fits one holding": (movement(None, cause=Cause.ARRIVAL, amount=U64_MAX), Reason.OVERFLOW),
    "too little before too much": (
        movement(target=None, cause=Cause.DESTRUCTION, amount=U64_MAX),
        Reason.INSUFFICIENT_FREE,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_before_anybody_is_asked(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving, reason = REFUSED[name]
    guard = Watchman(asset_flags=AssetFlag.HOLDERS)
    monkeypatch.setattr(gathered, "GUARDS", (guard,))
    monkeypatch.setattr(gathered, "SUPPLY_GUARDS", (guard,))
    books = world.books
    encumber(books)
    set_asset_flag(books, BOND, AssetFlag.HOLDERS, True)
    with pytest.raises(Refused) as refusal:
        move(books, world.place, moving)
    assert refusal.value.reason is reason
    assert guard.heard == []


def test_a_movement_that_makes_no_sense_cannot_be_made() -> None:
    for make in (
        lambda: movement(source=None),
        lambda: movement(target=None),
        lambda: movement(cause=Cause.CREATION),
        lambda: movement(cause=Cause.DEPARTURE),
        lambda: movement(target=ALICE),
        lambda: movement(source_spot=ESCROWED, cause=Cause.RETURN),
        lambda: movement(source_spot=ESCROWED, target=ALICE, target_spot=PENDING, cause=Cause.RETURN),
    ):
        with pytest.raises(AssertionError):
            make()


def test_what_crosses_registers_is_counted_on_both_sides(world: World) -> None:
    books, place = world.books, world.place
    move(books, place, movement(target=None, cause=Cause.DEPARTURE, amount=40))
    version = posted(world, books)
    assert [finding.what for finding in check_conservation(version)] == [
        "what came into the registers is not what went out of them"
    ]
    move(books := Books(version), place, movement(None, cause=Cause.ARRIVAL, amount=40, asset=BOND_ACROSS))
    with version.branch() as branch:
        books.post(branch)
        version = branch.commit()
    assert check_conservation(version) == []
    assert Books(version).row(Flow, BOND) == Flow(0, 40)
    assert Books(version).row(Flow, BOND_ACROSS) == Flow(40, 0)


def test_nothing_is_lost_on_any_way_through_the_buckets() -> None:
    """A walk of 3,000 movements between three people and five spots each, beside a list of who has what where."""
    world, dice = founded(), random.Random(5)
    branch = world.version.branch()
    have: Counter[tuple[bytes, Spot]] = Counter({(ALICE, FREE_SPOT): 1_000, (BOB, FREE_SPOT): 1_000})
    refused = 0
    for _ in range(3_000):
        (source, target), spots = dice.choices((ALICE, BOB, CAROL), k=2), dice.choices(SPOTS, k=2)
        amount = dice.choice((0, 1, 7, 60, 400, 2_000))
        if (source, spots[0]) == (target, spots[1]) or Spot(Bucket.LOCKED, source) in spots:
            continue
        books = Books(branch)
        try:
            move(books, world.place, movement(source, spots[0], target, spots[1], amount, Cause.SETTLEMENT))
        except Refused:
            refused += 1
            assert amount == 0 or have[source, spots[0]] < amount
            continue
        books.post(branch)
        have[source, spots[0]] -= amount
        have[target, spots[1]] += amount
    for (owner, spot), amount in have.items():
        assert amount_in(Books(branch), BOND, owner, spot) == amount
    assert refused > 500
    assert sum(have.values()) == 2_000
    assert check_conservation(branch.commit()) == []


def test_missing_rows_are_found_by_the_checks(world: World) -> None:
    books = world.books
    encumber(books)
    version = posted(world, books)
    assert check_conservation(version) == []
    with version.branch() as branch:
        [(key, _), *_] = branch.scan(Table.ENCUMBRANCES)
        branch.put(Table.ENCUMBRANCES, key, Encumbrance(Bucket.SETTLING, 99).encode())
        wrong = branch.commit()
    [finding] = check_conservation(wrong)
    assert (finding.asset, finding.account, finding.expected, finding.found) == (BOND, ALICE, 399, 400)


def test_flags_are_set_and_taken_away(world: World) -> None:
    books = world.books
    set_asset_flag(books, BOND, AssetFlag.HOLDERS, True)
    set_asset_flag(books, BOND, AssetFlag.ORDERED, True)
    set_asset_flag(books, BOND, AssetFlag.HOLDERS, False)
    row: Any = books.asset(BOND)
    assert row.flags == AssetFlag.ORDERED
    set_account_flag(books, ALICE, AccountFlag.OMNIBUS, True)
    set_account_flag(books, ALICE, AccountFlag.OMNIBUS, True)
    assert (books.account(ALICE) or row).flags == AccountFlag.OMNIBUS
    for unknown in (
        lambda: set_account_flag(books, STRANGER, AccountFlag.ORDERED, True),
        lambda: set_asset_flag(books, UNKNOWN, AssetFlag.ORDERED, True),
    ):
        with pytest.raises(Refused):
            unknown()
