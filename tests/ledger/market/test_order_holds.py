"""What orders hold in one spot is the same whether one asks for that spot or for all of them, and is cheap to ask."""

import random

import pytest

from p2pledger.ledger.books import Books
from p2pledger.ledger.market import orders
from p2pledger.ledger.market.buckets import FREE_SPOT, Encumbrance, Spot, encumbrance_key
from p2pledger.ledger.market.orders import EVERY_ASSET, EVERYTHING, OrderOver, OrderRow, holds_on, over_key, spots_of
from p2pledger.ledger.market.parties import Owner, PartyAccount
from p2pledger.ledger.tables import NOBODY, Holding, Lock
from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.market.orders import Power
from p2pledger.primitives.market.parties import AccountKind, Tier
from tests.ledger.market.market_world import BOND, World, account, founded

ALICE = account("alice")
ACCOUNTS = (ALICE, b"\x01" * 32, b"\x02" * 32)


@pytest.fixture(scope="module")
def world() -> World:
    return founded()


def with_holdings(world: World, dice: random.Random) -> Books:
    """Alice and two accounts of hers, each with units in some spots of some buckets."""
    books = world.books
    for each in ACCOUNTS:
        if each != ALICE:
            books.put(Owner, each, Owner(ALICE, account("csdc"), Tier.INVESTOR, AccountKind.OWN))
            books.put(PartyAccount, ALICE + each, PartyAccount())
        encumbered = 0
        for number in range(dice.randrange(6)):
            amount, reference, bucket = dice.randint(1, 9), bytes([number]) * 32, dice.choice(list(Bucket)[1:])
            encumbered += amount
            if bucket is Bucket.LOCKED:
                books.put_lock(BOND, each, reference, Lock(amount))
            else:
                books.put(Encumbrance, encumbrance_key(BOND, each, reference), Encumbrance(bucket, amount))
        books.put_holding(BOND, each, Holding(dice.randrange(20), encumbered))
    return books


def with_orders(books: Books, dice: random.Random) -> None:
    for number in range(dice.randint(1, 4)):
        identifier = bytes([0xA0 + number]) * 32
        power = dice.choice([Power.FREEZE, Power.PARTIAL_FREEZE, Power.CLAWBACK])
        consumes = tuple(dice.sample(list(Bucket), dice.randrange(len(Bucket) + 1)))
        rest = (consumes, True, b"", b"")
        order = OrderRow(power, ALICE, ALICE, ALICE, b"", BOND, 0, bytes(32), number // 2, 0, 0, 0, *rest)
        books.put(OrderRow, identifier, order)
        subject, quantity = dice.choice([*ACCOUNTS, NOBODY]), dice.choice([EVERYTHING, EVERYTHING, 1, 5, 15, 60])
        if subject == NOBODY:
            row = OrderOver(all_hold=EVERYTHING)
        elif subject == ALICE and dice.random() < 0.5:
            row = OrderOver(all_hold=quantity)
        else:
            row = OrderOver(holds=quantity, base=dice.choice([EVERYTHING, 3, 12, 30]))
        books.put(OrderOver, over_key(subject, dice.choice([BOND, EVERY_ASSET]), identifier), row)


def test_one_spot_is_held_as_among_all(world: World) -> None:
    dice, held = random.Random(5), 0
    for _ in range(2_000):
        books = with_holdings(world, dice)
        with_orders(books, dice)
        for each in ACCOUNTS:
            of_all = holds_on(books, world.place, BOND, each)
            for spot, _ in spots_of(books, BOND, each):
                wanted = [item for item in of_all if item.spot == spot]
                assert holds_on(books, world.place, BOND, each, spot) == wanted
                held += len(wanted)
    assert held > 5_000


def test_who_has_many_locks_does_not_make_his_free_units_dear_to_judge(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen holder can go on splitting what is left into locks; every node would read them at each attempt."""
    for quantity in (EVERYTHING, 5, 60):
        books = with_holdings(world, random.Random(1))
        books.put_holding(BOND, ALICE, Holding(20, books.holding(BOND, ALICE).locked))
        identifier = b"\xa0" * 32
        order = OrderRow(
            Power.PARTIAL_FREEZE, ALICE, ALICE, b"", ALICE, BOND, 5, bytes(32), 0, 0, 0, 0, (), True, b"", b""
        )
        books.put(OrderRow, identifier, order)
        books.put(OrderOver, over_key(ALICE, BOND, identifier), OrderOver(holds=quantity))
        with monkeypatch.context() as patched:
            for name in ("locked_by", "encumbrances_of"):
                patched.setattr(orders, name, lambda *_: pytest.fail("it reads what it does not need"))
            [held] = holds_on(books, world.place, BOND, ALICE, FREE_SPOT)
        assert held.amount == min(quantity, 20)
        assert holds_on(books, world.place, BOND, ALICE, Spot(Bucket.PENDING, bytes(32))) == []
