"""A walk over orders of all kinds among trades, locks, escrows, offers and instructions: nothing is lost or left over.

After every block conservation, orders, flags and escrows are checked. At the end all orders are lifted and a month
passes: then no order reaches anything, and no account is flagged.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from p2pledger.ledger.market.buckets import Spot, locked_by
from p2pledger.ledger.market.order_checks import check_escrows, check_orders
from p2pledger.ledger.market.orders import OrderOver, holds_on, spots_of
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.market.escrow import FulfilEscrow, OpenEscrow, ReturnEscrow
from p2pledger.primitives.market.instructions import Affirm, Instruct, Leg, LockInstruction, Origin, Settle
from p2pledger.primitives.market.offers import PlaceOffer, TakeOffer, WithdrawOffer
from p2pledger.primitives.market.orders import Order, Power
from p2pledger.primitives.market.parties import AccountKind, RegisterAccount, Tier
from p2pledger.primitives.transactions import Lock, Release, Transfer
from tests.ledger.market.authority import by_authority, release
from tests.ledger.market.market_world import BOND, CASH, DAY_MS, SHARE, account, founded

ASSETS = (BOND, SHARE, CASH)


class Walk:
    """Alice has a second account, so that orders over her reach two; the others have one each."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = founded()
        second = self.world.open("alice", "second")
        entry = RegisterAccount(second, account("alice"), account("csdc"), Tier.INVESTOR, AccountKind.SEGREGATED, b"")
        self.world.do(entry, "alice", "second", "csdc")
        self.accounts = {name: account(name) for name in ("alice", "bob", "carol", "dave")} | {"second": second}
        self.orders: list[Order] = []
        self.escrows: list[OpenEscrow] = []
        self.offers: list[PlaceOffer] = []
        self.instructions: list[tuple[bytes, str]] = []
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.steps = 0

    def attempt(self, operation: Operation | list[Operation], *signers: str) -> bool:
        """Paid for by the issuer, who is under no order."""
        first = operation[0] if isinstance(operation, list) else operation
        reason, _, _ = self.world.judged(operation, "issuer", *signers)
        self.outcomes[type(first).__name__, reason] += 1
        return reason == "ok"

    def salt(self) -> bytes:
        return self.steps.to_bytes(16, "big")

    def two(self) -> tuple[str, str]:
        name, other = self.chance.sample(list(self.accounts), 2)
        return name, other

    def name_of(self, identifier: bytes) -> str:
        return next(name for name, known in self.accounts.items() if known == identifier)

    # Steps

    def transfer(self) -> None:
        name, other = self.two()
        asset, amount = self.chance.choice(ASSETS), self.chance.randrange(1, 400)
        self.attempt(Transfer(self.accounts[name], self.accounts[other], asset, amount), name)

    def lock(self) -> None:
        name, other = self.two()
        asset, amount = self.chance.choice(ASSETS), self.chance.randrange(1, 400)
        self.attempt(Lock(self.accounts[name], asset, amount, self.accounts[other]), name)

    def release_lock(self) -> None:
        locks = [
            Release(holder, asset, self.chance.randrange(1, amount + 1), spot.reference)
            for holder in self.accounts.values()
            for asset in ASSETS
            for spot, amount in locked_by(self.world.books, asset, holder)
        ]
        if locks:
            chosen = self.chance.choice(locks)
            self.attempt(chosen, self.name_of(chosen.controller))

    def open_escrow(self) -> None:
        name, other = self.two()
        opened = OpenEscrow(
            self.accounts[name],
            self.salt(),
            self.chance.choice(ASSETS),
            self.chance.randrange(1, 400),
            self.accounts[other],
            after_height=1,
            expires_ms=self.world.now_ms + self.chance.choice((20_000, 3 * DAY_MS)),
        )
        if self.attempt(opened, name):
            self.escrows.append(opened)

    def end_escrow(self) -> None:
        if self.escrows:
            opened = self.chance.choice(self.escrows)
            if self.chance.random() < 0.7:
                self.attempt(FulfilEscrow(opened.id))
            else:
                self.attempt(ReturnEscrow(opened.id, opened.beneficiary), self.name_of(opened.beneficiary))

    def place_offer(self) -> None:
        name, _ = self.two()
        gives, takes = self.chance.sample(ASSETS, 2)
        expires_ms = self.world.now_ms + self.chance.choice((30_000, DAY_MS))
        amount, price, lots = (self.chance.randrange(1, most) for most in (50, 50, 5))
        placed = PlaceOffer(self.accounts[name], self.salt(), gives, amount, takes, price, lots, expires_ms, b"")
        if self.attempt(placed, name):
            self.offers.append(placed)

    def end_offer(self) -> None:
        if self.offers:
            placed, (name, _) = self.chance.choice(self.offers), self.two()
            if self.chance.random() < 0.8:
                self.attempt(TakeOffer(placed.id, self.accounts[name], 1), name)
            else:
                self.attempt(WithdrawOffer(placed.id, placed.by), self.name_of(placed.by))

    def instruct(self) -> None:
        name, other = self.two()
        one, two = self.accounts[name], self.accounts[other]
        legs = [
            Leg(one, two, self.chance.choice(ASSETS), self.chance.randrange(1, 300)),
            Leg(two, one, self.chance.choice(ASSETS), self.chance.randrange(1, 300)),
        ]
        day = self.world.now_ms // DAY_MS
        settle_day = day + self.chance.randrange(2)
        entered = Instruct(one, self.salt(), Origin.PARTY, two, "", day, settle_day, "", 0, len(legs), tuple(legs))
        if self.attempt([entered, Affirm(entered.id, two, entered.digest)], name, other):
            self.instructions.append((entered.id, name))
            self.attempt(LockInstruction(entered.id, one), name)

    def settle(self) -> None:
        if self.instructions:
            identifier, name = self.chance.choice(self.instructions)
            self.attempt(Settle(identifier, self.accounts[name]), name)

    def order(self) -> None:
        name, other = self.two()
        power = self.chance.choice((Power.FREEZE, Power.PARTIAL_FREEZE, Power.CLAWBACK, Power.FORCED_TRANSFER))
        terms: dict[str, object] = {"catches_later": self.chance.random() < 0.5}
        if self.chance.random() < 0.3:
            terms["party"] = account("alice")
        elif self.chance.random() < 0.9:
            terms["account"] = self.accounts[name]
        if self.chance.random() < 0.7 or len(terms) == 1:
            terms["asset"] = self.chance.choice(ASSETS)
            if power is not Power.FREEZE:
                terms["quantity"] = self.chance.randrange(1, 400)
        if power in (Power.CLAWBACK, Power.FORCED_TRANSFER):
            terms["target"] = self.accounts[other]
        if self.chance.random() < 0.5:
            terms["consumes"] = tuple(self.chance.sample(list(Bucket), self.chance.randrange(1, 6)))
        if self.chance.random() < 0.3:
            terms["expires_ms"] = self.world.now_ms + self.chance.choice((5_000, DAY_MS))
        made = by_authority(power=power, **terms)
        if self.attempt(made, "regulator", "court"):
            self.orders.append(made)

    def lift(self) -> None:
        if self.orders:
            self.attempt(release(self.orders.pop(self.chance.randrange(len(self.orders)))), "regulator", "court")

    def wait(self) -> None:
        self.world.wait_until(self.world.now_ms + self.chance.choice((60_000, DAY_MS)))

    def step(self) -> None:
        self.steps += 1
        likely: list[Callable[[], None]] = [
            self.transfer, self.lock, self.release_lock, self.open_escrow, self.end_escrow, self.place_offer,
            self.end_offer, self.instruct, self.settle, self.order, self.order, self.lift,
        ]  # fmt: skip
        self.chance.choice(likely)() if self.chance.random() < 0.97 else self.wait()
        self.check()

    # Checks

    def check(self) -> None:
        assert check_orders(self.world.version) == check_escrows(self.world.version) == []
        for holder in self.accounts.values():
            for asset in ASSETS:
                held: Counter[Spot] = Counter()
                for item in holds_on(self.world.books, self.world.place, asset, holder):
                    held[item.spot] += item.amount
                lies = dict(spots_of(self.world.books, asset, holder))
                assert all(amount <= lies[spot] for spot, amount in held.items())

    def finish(self) -> None:
        for order in self.orders:
            self.attempt(release(order), "regulator", "court")
        self.world.wait_until(self.world.now_ms + 31 * DAY_MS)
        self.check()
        assert list(self.world.books.rows(OrderOver)) == []
        for identifier in self.accounts.values():
            row = self.world.books.account(identifier)
            assert row is not None
            assert row.flags == 0


def test_no_walk_loses_a_unit_or_leaves_a_trace() -> None:
    """Four seeds; what happened in all of them together, printed where a test fails, is everything that should."""
    outcomes: Counter[tuple[str, str]] = Counter()
    for seed in range(4):
        print(f"seed {seed}")
        walk = Walk(seed)
        for _ in range(150):
            walk.step()
        walk.finish()
        outcomes += walk.outcomes
    for (operation, reason), count in sorted(outcomes.items()):
        print(f"{count:5} {operation:16} {reason}")
    reasons = {reason for _, reason in outcomes}
    assert {"ok", "order_stops", "order_short", "order_ended", "bad_order"} <= reasons
    assert {operation for operation, reason in outcomes if reason == "ok"} == {operation for operation, _ in outcomes}
