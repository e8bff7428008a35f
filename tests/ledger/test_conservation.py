"""Nothing is made and nothing is lost: the books against a second bookkeeper who shares no code with them.

``Bookkeeper`` keeps dictionaries, knows the rules from the protocol's table alone, and foretells every receipt. A
hypothesis state machine looks for short surprises; one long seeded walk looks for what only builds up slowly.
"""

import random
from collections import defaultdict
from collections.abc import Callable
from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2pledger.ledger.queries import asset_row, check_conservation, holding_of, rows
from p2pledger.ledger.tables import Holding, Lock, Table
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.codec import U64_MAX
from p2pledger.primitives.transactions import Operation
from tests.ledger.small_market import BOND, CASH, Market, account, founded, signed

PEOPLE = ("alice", "bob", "carol", "dave")
ASSETS = (BOND, CASH)
ISSUERS = {BOND: "issuer", CASH: "bank"}
ANYBODY, ANYTHING = st.sampled_from(PEOPLE), st.sampled_from(ASSETS)
AMOUNTS = st.sampled_from((0, 1, 2, 10, 500, 1_000, 60_000, 2**63, U64_MAX))


class Bookkeeper:
    """The second witness: free and locked amounts by name, and what was issued and redeemed."""

    def __init__(self, market: Market) -> None:
        self.free: defaultdict[tuple[bytes, str], int] = defaultdict(int)
        self.locks: defaultdict[tuple[bytes, str, str], int] = defaultdict(int)
        self.issued: dict[bytes, int] = {}
        self.redeemed = dict.fromkeys(ASSETS, 0)
        for asset in ASSETS:
            row = asset_row(market.version, asset)
            assert row is not None
            self.issued[asset] = row.issued
            for name in (*PEOPLE, "fund"):
                self.free[asset, name] = holding_of(market.version, asset, account(name)).free

    def held(self, asset: bytes, name: str) -> int:
        locked = (amount for (what, owner, _), amount in self.locks.items() if (what, owner) == (asset, name))
        return self.free[asset, name] + sum(locked)

    def transfer(self, source: str, target: str, asset: bytes, amount: int) -> str:
        if amount == 0:
            return "zero_amount"
        if source == target:
            return "same_account"
        if self.free[asset, source] < amount:
            return "insufficient_free"
        if self.held(asset, target) + amount >= 2**64:
            return "overflow"
        self.free[asset, source] -= amount
        self.free[asset, target] += amount
        return "ok"

    def lock(self, name: str, controller: str, asset: bytes, amount: int) -> str:
        if amount == 0:
            return "zero_amount"
        if name == controller:
            return "same_account"
        if self.free[asset, name] < amount:
            return "insufficient_free"
        self.free[asset, name] -= amount
        self.locks[asset, name, controller] += amount
        return "ok"

    def release(self, name: str, controller: str, asset: bytes, amount: int) -> str:
        if amount == 0:
            return "zero_amount"
        if self.locks[asset, name, controller] < amount:
            return "insufficient_locked"
        self.locks[asset, name, controller] -= amount
        self.free[asset, name] += amount
        return "ok"

    def issue(self, target: str, asset: bytes, amount: int) -> str:
        if amount == 0:
            return "zero_amount"
        if self.issued[asset] + amount >= 2**64 or self.held(asset, target) + amount >= 2**64:
            return "overflow"
        self.issued[asset] += amount
        self.free[asset, target] += amount
        return "ok"

    def redeem(self, source: str, asset: bytes, amount: int) -> str:
        if amount == 0:
            return "zero_amount"
        if self.free[asset, source] < amount:
            return "insufficient_free"
        self.redeemed[asset] += amount
        self.free[asset, source] -= amount
        return "ok"

    def compare(self, market: Market) -> None:
        """The books hold what the bookkeeper has noted, row by row, and the supply is what was issued less redeemed."""
        for asset in ASSETS:
            row = asset_row(market.version, asset)
            assert row is not None
            assert (row.issued, row.redeemed) == (self.issued[asset], self.redeemed[asset])
            assert sum(self.held(asset, name) for name in (*PEOPLE, "fund")) == row.circulating
            for name in PEOPLE:
                locked = self.held(asset, name) - self.free[asset, name]
                assert holding_of(market.version, asset, account(name)) == Holding(self.free[asset, name], locked)
        stored = {key: Lock.decode(row).amount for key, row in rows(market.version, Table.LOCKS)}
        noted = {
            asset + account(name) + account(controller): amount
            for (asset, name, controller), amount in self.locks.items()
            if amount
        }
        assert stored == noted
        assert check_conservation(market.version) == []


class Books(RuleBasedStateMachine):
    """Operations in any order, alone or as one transaction of two transfers; every receipt is foretold."""

    def __init__(self) -> None:
        super().__init__()
        self.market = founded()
        self.keeper = Bookkeeper(self.market)
        self.salt = 0

    def submit(self, operation: Operation, signers: tuple[str, ...], expected: str) -> None:
        self.salt += 1
        transaction = signed(operation, *signers, salt=self.salt, valid_until=self.market.height + 5)
        assert self.market.reasons(transaction) == [(expected, 0)]

    @rule(source=ANYBODY, receiver=ANYBODY, asset=ANYTHING, amount=AMOUNTS)
    def transfer(self, source: str, receiver: str, asset: bytes, amount: int) -> None:
        expected = self.keeper.transfer(source, receiver, asset, amount)
        self.submit(tx.Transfer(account(source), account(receiver), asset, amount), (source,), expected)

    @rule(name=ANYBODY, controller=ANYBODY, asset=ANYTHING, amount=AMOUNTS)
    def lock(self, name: str, controller: str, asset: bytes, amount: int) -> None:
        expected = self.keeper.lock(name, controller, asset, amount)
        self.submit(tx.Lock(account(name), asset, amount, account(controller)), (name,), expected)

    @precondition(lambda self: any(self.keeper.locks.values()))
    @rule(data=st.data(), amount=AMOUNTS)
    def release(self, data: st.DataObject, amount: int) -> None:
        asset, name, controller = data.draw(st.sampled_from([key for key, held in self.keeper.locks.items() if held]))
        expected = self.keeper.release(name, controller, asset, amount)
        self.submit(tx.Release(account(name), asset, amount, account(controller)), (controller,), expected)

    @rule(receiver=ANYBODY, asset=ANYTHING, amount=AMOUNTS)
    def issue(self, receiver: str, asset: bytes, amount: int) -> None:
        expected = self.keeper.issue(receiver, asset, amount)
        self.submit(tx.Issue(asset, account(receiver), amount), (ISSUERS[asset],), expected)

    @rule(source=ANYBODY, asset=ANYTHING, amount=AMOUNTS)
    def redeem(self, source: str, asset: bytes, amount: int) -> None:
        expected = self.keeper.redeem(source, asset, amount)
        self.submit(tx.Redeem(asset, account(source), amount), (source, ISSUERS[asset]), expected)

    @invariant()
    def books_add_up(self) -> None:
        self.keeper.compare(self.market)


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=20, stateful_step_count=25)


def test_a_long_walk_conserves_every_unit() -> None:
    """Some thousand transactions, in blocks of fifty, each receipt foretold by the bookkeeper."""
    dice, market = random.Random(20170728), founded()
    keeper = Bookkeeper(market)
    counts: defaultdict[str, int] = defaultdict(int)
    for block in range(80):
        transactions, foretold = [], []
        for number in range(50):
            source, target = dice.choice(PEOPLE), dice.choice(PEOPLE)
            asset, issuer = (BOND, "issuer") if dice.random() < 0.5 else (CASH, "bank")
            amount = dice.choice((dice.randrange(20), dice.randrange(2_000), dice.randrange(80_000)))
            a, b = account(source), account(target)
            choices: list[tuple[Operation, tuple[str, ...], Callable[[], str]]] = [
                (tx.Transfer(a, b, asset, amount), (source,), partial(keeper.transfer, source, target, asset, amount)),
                (tx.Lock(a, asset, amount, b), (source,), partial(keeper.lock, source, target, asset, amount)),
                (tx.Release(a, asset, amount, b), (target,), partial(keeper.release, source, target, asset, amount)),
                (tx.Issue(asset, b, amount), (issuer,), partial(keeper.issue, target, asset, amount)),
                (tx.Redeem(asset, a, amount), (source, issuer), partial(keeper.redeem, source, asset, amount)),
            ]
            operation, signers, foretell = dice.choices(choices, weights=(10, 4, 4, 1, 1))[0]
            foretold.append(foretell())
            transactions.append(signed(operation, *signers, salt=(block, number), valid_until=market.height + 20))
        assert [title for title, _ in market.reasons(*transactions)] == foretold
        for title in foretold:
            counts[title] += 1
        if block % 20 == 19:
            keeper.compare(market)
    assert sum(counts.values()) == 4_000
    assert counts["ok"] > 1_500
    assert market.version.count(Table.REPLAY) < 22 * 50, "memory does not grow without bound"
