"""Holders are counted exactly, whatever moves their units; limits are judged when somebody comes to hold more.

``World`` recounts all holdings after every block, so each test here is also one of the counters.
"""

import random
from dataclasses import replace

import pytest

from p2pledger.ledger.market import holders
from p2pledger.ledger.market.buckets import FREE_SPOT, Bucket, Spot
from p2pledger.ledger.market.holders import (
    HolderSum,
    holder_count,
    is_counted,
    judge,
    miscounts,
    promise,
    sum_of,
    withdraw,
)
from p2pledger.ledger.market.movement import Cause, Movement, move
from p2pledger.ledger.rule import Refused
from p2pledger.ledger.tables import AssetFlag
from p2pledger.primitives.market.instruments import (
    Accredit,
    Describe,
    InstrumentStatus,
    Nature,
    SetHolderRules,
    SetStatus,
)
from p2pledger.primitives.market.parties import AccountKind, Allocate, RegisterAccount, Tier
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import Issue, Lock, Operation, Redeem, Release, Transfer
from tests.ledger.market.market_world import BOND, World, account, founded
from tests.ledger.market.trading import TODAY, at, instruct, leg, lock

CSDC, ISSUER, BROKER, DEALER, ALICE, BOB, CAROL, DAVE = (
    account(name) for name in ("csdc", "issuer", "broker", "dealer", "alice", "bob", "carol", "dave")
)
NUMBER = "holder rule of DE0005140008@CSDC: 3 holders"
SHARE = "holder rule of DE0005140008@CSDC: 600000 ppm"


def rules(**changes: int) -> SetHolderRules:
    return replace(SetHolderRules(CSDC, BOND), **changes)  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    """Alice and Bob hold 1,000 each, and one more may."""
    world = founded()
    world.do(rules(most_holders=3), "csdc")
    return world


def registered(world: World, name: str, owner: str, kind: AccountKind = AccountKind.SEGREGATED) -> bytes:
    """Another account of a party, kept by the depository."""
    opened = world.open(owner, name)
    tier = Tier.BROKER if kind is AccountKind.OMNIBUS else Tier.INVESTOR
    world.do(RegisterAccount(opened, account(owner), CSDC, tier, kind), owner, name, "csdc")
    return opened


def counted(world: World) -> HolderSum:
    return holder_count(world.books, BOND)


# Counting


def test_counting_begins_with_what_is_held(world: World) -> None:
    assert is_counted(world.books, BOND)
    assert counted(world) == HolderSum(2)
    assert sum_of(world.books, BOND, ALICE) == HolderSum(1_000)
    assert HolderSum.decode(HolderSum(2, 1).encode()) == HolderSum(2, 1)


def test_it_ends_with_the_rules_and_begins_anew(world: World) -> None:
    world.do(rules(), "csdc")
    assert not is_counted(world.books, BOND)
    assert counted(world) == HolderSum()
    world.do(Transfer(ALICE, CAROL, BOND, 1), "alice")
    world.do(Transfer(ALICE, DAVE, BOND, 1), "alice")
    world.do(rules(most_holders=3), "csdc")
    assert counted(world) == HolderSum(4)


def test_locks_change_nothing_and_a_redeemed_unit_is_gone(world: World) -> None:
    world.do(Lock(ALICE, BOND, 1_000, BOB), "alice")
    assert sum_of(world.books, BOND, ALICE) == HolderSum(1_000)
    world.do(Release(ALICE, BOND, 1_000, BOB), "bob")
    world.do(Redeem(BOND, ALICE, 1_000), "alice", "issuer")
    assert counted(world) == HolderSum(1)


def test_all_accounts_of_a_party_are_one_holder(world: World) -> None:
    second = registered(world, "second", "alice")
    world.do(Transfer(ALICE, second, BOND, 400), "alice")
    assert counted(world) == HolderSum(2)
    assert sum_of(world.books, BOND, ALICE) == HolderSum(1_000)
    world.do(Transfer(ALICE, BOB, BOND, 600), "alice")
    assert sum_of(world.books, BOND, ALICE) == HolderSum(400)


def test_two_holders_become_one_when_an_account_turns_out_to_be_a_partys(world: World) -> None:
    opened = world.open("alice", "second")
    world.do(Transfer(ALICE, opened, BOND, 400), "alice")
    assert counted(world) == HolderSum(3)
    assert sum_of(world.books, BOND, opened) == HolderSum(400)
    entry = RegisterAccount(opened, ALICE, CSDC, Tier.INVESTOR, AccountKind.SEGREGATED)
    world.do(entry, "alice", "second", "csdc")
    assert counted(world) == HolderSum(2)
    assert sum_of(world.books, BOND, ALICE) == HolderSum(1_000)


# The largest number


def test_there_are_as_many_holders_as_the_rules_allow(world: World) -> None:
    world.do(Transfer(ALICE, CAROL, BOND, 10), "alice")
    world.refuse("holder_limit", Transfer(ALICE, DAVE, BOND, 10), "alice", rule=NUMBER)
    world.refuse("holder_limit", Issue(BOND, DAVE, 10), "issuer", rule=NUMBER)
    world.do(Transfer(ALICE, BOB, BOND, 10), "alice")


def test_who_sells_all_makes_room_for_who_buys_it(world: World) -> None:
    world.do(Transfer(ALICE, CAROL, BOND, 10), "alice")
    world.refuse("holder_limit", Transfer(CAROL, DAVE, BOND, 9), "carol", rule=NUMBER)
    world.do(Transfer(CAROL, DAVE, BOND, 10), "carol")
    assert counted(world) == HolderSum(3)


def test_a_locked_unit_is_held_so_that_its_owner_makes_no_room(world: World) -> None:
    world.do(Transfer(ALICE, CAROL, BOND, 10), "alice")
    world.do(Lock(CAROL, BOND, 1, BOB), "carol")
    world.refuse("holder_limit", Transfer(CAROL, DAVE, BOND, 9), "carol", rule=NUMBER)


def test_the_issuer_is_counted_and_never_refused(world: World) -> None:
    world.do(Transfer(ALICE, CAROL, BOND, 10), "alice")
    world.do(Transfer(ALICE, ISSUER, BOND, 10), "alice")
    assert counted(world) == HolderSum(4)


# The largest share


def test_nobody_comes_to_hold_more_than_the_largest_share(world: World) -> None:
    world.do(rules(most_share_ppm=600_000), "csdc")
    world.do(Transfer(ALICE, BOB, BOND, 200), "alice")
    world.refuse("holder_limit", Transfer(ALICE, BOB, BOND, 1), "alice", rule=SHARE)
    # What comes into being counts in the whole: 600,000 parts of 2,100 units are 1,260.
    world.do(Issue(BOND, ALICE, 100), "issuer")
    world.refuse("holder_limit", Transfer(ALICE, BOB, BOND, 61), "alice", rule=SHARE)
    world.do(Transfer(ALICE, BOB, BOND, 60), "alice")
    world.refuse("holder_limit", Issue(BOND, BOB, 1), "issuer", rule=SHARE)


def test_what_comes_from_another_register_counts_once(world: World) -> None:
    world.do(rules(most_share_ppm=600_000), "csdc")
    # Alice has 1,000 of 2,000; with 500 more 1,500 of 2,500, which is the whole share.
    books = world.books
    move(books, world.place, Movement(BOND, None, FREE_SPOT, ALICE, FREE_SPOT, 500, Cause.ARRIVAL, 74))
    with pytest.raises(Refused) as refused:
        move(books, world.place, Movement(BOND, None, FREE_SPOT, ALICE, FREE_SPOT, 1, Cause.ARRIVAL, 74))
    assert refused.value.rule == SHARE
    assert miscounts(books) == []


def test_the_whole_is_the_issue_size_where_one_is_stated(world: World) -> None:
    world.do(rules(most_share_ppm=600_000), "csdc")
    description = Describe(CSDC, BOND, Nature.NATIVE, "DBFTFB", "", "B", "CNY", 3_000, 0, 0, "CN")
    world.do(description, "csdc", "issuer")
    world.do(Accredit(CSDC, ISSUER, 0), "csdc")
    world.do(SetStatus(CSDC, BOND, InstrumentStatus.ACTIVE), "csdc")
    world.do(Transfer(ALICE, BOB, BOND, 800), "alice")
    world.refuse("holder_limit", Transfer(ALICE, BOB, BOND, 1), "alice", rule=SHARE)


def test_a_share_is_that_of_a_party_over_all_its_accounts(world: World) -> None:
    world.do(rules(most_share_ppm=600_000), "csdc")
    second = registered(world, "second", "bob")
    world.do(Transfer(ALICE, second, BOND, 200), "alice")
    world.refuse("holder_limit", Transfer(ALICE, second, BOND, 1), "alice", rule=SHARE)
    world.do(Transfer(BOB, second, BOND, 1_000), "bob")


# Promises of locked instructions


def test_what_is_promised_counts_for_everybody_else(world: World) -> None:
    books = world.books
    promise(books, BOND, CAROL, 10)
    assert holder_count(books, BOND) == HolderSum(2, 1)
    assert miscounts(books) == []
    with pytest.raises(Refused) as refused:
        judge(books, world.place, BOND, DAVE, 1, ALICE)
    assert (refused.value.reason, refused.value.rule) == (Reason.HOLDER_LIMIT, NUMBER)
    judge(books, world.place, BOND, CAROL, 1, ALICE)
    withdraw(books, BOND, CAROL, 10)
    assert holder_count(books, BOND) == HolderSum(2)
    judge(books, world.place, BOND, DAVE, 1, ALICE)


def test_settlement_keeps_the_promise_and_asks_nobody(world: World) -> None:
    books, place, spot = world.books, world.place, Spot(Bucket.SETTLING, bytes(32))
    move(books, place, Movement(BOND, ALICE, FREE_SPOT, ALICE, spot, 10, Cause.OWNER, 55))
    promise(books, BOND, CAROL, 10)
    move(books, place, Movement(BOND, ALICE, FREE_SPOT, CAROL, FREE_SPOT, 1, Cause.OWNER, 1))
    assert sum_of(books, BOND, CAROL) == HolderSum(1, 10)
    assert holder_count(books, BOND) == HolderSum(3)
    move(books, place, Movement(BOND, ALICE, spot, CAROL, FREE_SPOT, 10, Cause.SETTLEMENT, 56))
    assert sum_of(books, BOND, CAROL) == HolderSum(11)
    assert miscounts(books) == []


def test_promised_units_count_toward_the_share(world: World) -> None:
    world.do(rules(most_share_ppm=600_000), "csdc")
    books = world.books
    promise(books, BOND, BOB, 150)
    judge(books, world.place, BOND, BOB, 50, ALICE)
    with pytest.raises(Refused) as refused:
        judge(books, world.place, BOND, BOB, 51, ALICE)
    assert refused.value.rule == SHARE


def test_a_locked_instruction_keeps_the_last_place_for_its_buyer(world: World) -> None:
    sale = instruct("alice", [leg("alice", "carol", BOND, 10)], settle_day=TODAY + 1)
    world.do(sale, "alice")
    world.do(lock(sale.id, "alice"), "alice")
    assert counted(world) == HolderSum(2, 1)
    world.refuse("holder_limit", Transfer(ALICE, DAVE, BOND, 10), "alice", rule=NUMBER)
    other = instruct("bob", [leg("bob", "dave", BOND, 10)])
    world.do(other, "bob")
    world.refuse("holder_limit", lock(other.id, "bob"), "bob", rule=f"leg 0: {NUMBER}")
    world.wait_until(at(TODAY + 1, 12))
    assert counted(world) == HolderSum(3)
    assert sum_of(world.books, BOND, CAROL) == HolderSum(10)


def test_an_order_of_authority_is_counted_and_not_judged(world: World) -> None:
    world.do(Transfer(ALICE, CAROL, BOND, 10), "alice")
    books = world.books
    move(books, world.place, Movement(BOND, ALICE, FREE_SPOT, DAVE, FREE_SPOT, 5, Cause.ORDER, 80))
    assert holder_count(books, BOND) == HolderSum(4)
    assert miscounts(books) == []


# Bounds, and a long walk


def test_counting_has_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "MOST_COUNTED", 1)
    world.refuse("holder_limit", rules(), "csdc", rule="at most 1 holdings can be counted at once")
    monkeypatch.setattr(holders, "MOST_COUNTED", 2)
    world.do(rules(), "csdc")
    monkeypatch.setattr(holders, "MOST_COUNTED", 1)
    world.refuse("holder_limit", rules(most_holders=1), "csdc")
    row = world.books.asset(BOND)
    assert row is not None
    assert not row.flags & AssetFlag.HOLDERS


def test_a_thousand_movements_later_the_counters_are_exact() -> None:
    """Seeded: transfers, locks, releases, issues, redemptions and allocations over nine accounts of five parties."""
    world = founded()
    world.do(rules(most_holders=5, most_share_ppm=500_000), "csdc")
    second = registered(world, "second", "alice")
    pool, nobodys = registered(world, "pool", "broker", AccountKind.OMNIBUS), world.open("carol", "nobodys")
    signers = {
        ALICE: ("alice",), BOB: ("bob",), CAROL: ("carol",), DAVE: ("dave",), BROKER: ("broker",),
        second: ("alice", "second"), pool: ("broker", "pool"), nobodys: ("carol", "nobodys"),
    }  # fmt: skip
    accounts, beneficiaries = list(signers), (b"", ALICE, BOB, DEALER)
    chance, seen = random.Random(5), set()

    def drawn() -> tuple[Operation, tuple[str, ...]]:
        one, other = chance.sample(accounts, 2)
        amount = chance.choice((1, 10, 100, 500, world.books.holding(BOND, one).free or 1))
        match chance.randrange(6):
            case 0 | 1:
                return Transfer(one, other, BOND, amount), signers[one]
            case 2:
                return Lock(one, BOND, amount, other), signers[one]
            case 3:
                return Release(one, BOND, amount, other), signers[other]
            case 4:
                source, target = chance.sample(beneficiaries, 2)
                return Allocate(pool, source, target, BOND, amount), ("broker",)
            case _:
                if chance.randrange(2):
                    return Issue(BOND, one, amount), ("issuer",)
                return Redeem(BOND, one, amount), (*signers[one], "issuer")

    for _ in range(50):
        transactions = [world.signed(operation, *who) for operation, who in (drawn() for _ in range(20))]
        seen |= {receipt.reason for receipt in world.block(*transactions)}
        count = counted(world)
        assert count.amount <= 5
    wanted = {Reason.OK, Reason.HOLDER_LIMIT, Reason.INSUFFICIENT_ALLOCATION, Reason.INSUFFICIENT_FREE}
    assert wanted <= seen
