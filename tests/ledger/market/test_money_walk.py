"""One long seeded walk over money, payments, links and mirrors: what only builds up slowly.

After every step the registers add up, what is pending is what waits in the queues, every waiting payment is planned
exactly once, and no bank ever minted above what was attested. At the end every operation must have succeeded and every
refusal of these domains must have occurred; run with ``-s`` to see how often.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence

from p2pledger.ledger.market.buckets import Bucket, Encumbrance
from p2pledger.ledger.market.due import Due, DueItem, DueKind
from p2pledger.ledger.market.links import check_registers
from p2pledger.ledger.market.money import Attestation, Money
from p2pledger.ledger.market.payments import Payment, PaymentStatus, Waiting, queue_of
from p2pledger.ledger.tables import Asset
from p2pledger.primitives.forms import Operation, operation_name
from p2pledger.primitives.market.links import LINK_OPERATIONS, AgreeLink, Cross, EndLink, Reconcile
from p2pledger.primitives.market.money import (
    MONEY_OPERATIONS,
    Attest,
    AuthoriseMoney,
    CancelPayment,
    MoneyKind,
    PayAcross,
    Quarantine,
    ReleasePayment,
    SetPaymentPolicy,
)
from p2pledger.primitives.names import AssetKind, asset_id
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import Define, Issue, Redeem, Transfer
from tests.ledger.market.market_world import (
    BASE_CASH,
    BOND,
    BOND_ACROSS,
    CASH,
    DAY_MS,
    HOUR_MS,
    OTHER_CASH,
    SHARE,
    account,
    founded,
    with_money,
)
from tests.ledger.market.test_mirrors import mirrored

STEPS = 1_500
COINS, MIRROR = asset_id("CNY@CSDC"), SHARE[:12] + b"CCDC"
PEOPLE = ("alice", "bob", "carol", "dave")
BANKS = {CASH: "icbc", OTHER_CASH: "cmbc"}
REGISTERS = (b"CSDC", b"CCDC")
KEEPERS = {b"CSDC": "csdc", b"CCDC": "ccdc"}
DOCUMENT = bytes(range(32))

Move = tuple[Operation, tuple[str, ...]]


class Walk:
    """The world and the dice. ``seen``: (operation, title of the reason) -> how often."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.world = with_money(founded(), attested=200_000)
        self.seen: Counter[tuple[str, str]] = Counter()
        self.payments: list[bytes] = []
        self.planned: list[Move] = []
        world, security = self.world, int(AssetKind.SECURITY)
        world.do(Define(COINS, int(AssetKind.MONEY), 2, account("broker"), "Coins of a broker"), "csdc", "broker")
        world.do(Issue(COINS, account("alice"), 10_000), "broker")
        world.do(Define(MIRROR, security, 0, account("issuer"), "Share of the issuer"), "ccdc", "issuer")
        world.do(Issue(MIRROR, account("alice"), 500), "issuer")
        mirrored(world, MIRROR)
        for bank in BANKS.values():  # reserves are short from the beginning
            world.do(Transfer(account(bank), account("auditor"), BASE_CASH, 90_000), bank)

    def salt(self) -> bytes:
        """Mostly a new one."""
        return self.dice.randrange(3 if not self.dice.randrange(10) else 2**64).to_bytes(16, "big")

    def amount(self, most: int) -> int:
        return self.dice.choice((0, 1, most, *(self.dice.randrange(1, most) for _ in range(9))))

    # Moves: an operation and who signs it

    def pay(self) -> Move:
        payer, payee = self.dice.sample(PEOPLE, 2)
        source, target = self.dice.choice(((CASH, CASH), (CASH, COINS)))
        if self.dice.randrange(12):
            source, target = self.dice.sample(tuple(BANKS), 2)
        later_ms = self.world.now_ms + self.dice.randrange(2_000, HOUR_MS)
        until = self.dice.choice((0, 0, 0, 0, 0, later_ms, later_ms, 1))
        paid = PayAcross(account(payer), account(payee), source, target, self.amount(30_000), self.salt(), until)
        self.payments.append(paid.id)
        return paid, (payer,)

    def some_payment(self) -> tuple[bytes, str]:
        """A payment, rather one that waits, and somebody who may touch it, or not."""
        waiting = [name for bank in BANKS for name, _ in queue_of(self.world.books, bank)]
        name = self.dice.choice(waiting if waiting and self.dice.randrange(4) else [*self.payments[-20:], b"?" * 32])
        row = self.world.row(Payment, name)
        if row is None or not self.dice.randrange(5):
            return name, self.dice.choice((*PEOPLE, "icbc", "cmbc"))
        payer = next(person for person in PEOPLE if account(person) == row.payer)
        return name, self.dice.choice((payer, BANKS[row.source_asset]))

    def release(self) -> Move:
        payment, who = self.some_payment()
        return ReleasePayment(account(who), payment), (who,)

    def cancel(self) -> Move:
        payment, who = self.some_payment()
        return CancelPayment(account(who), payment), (who,)

    def lend(self) -> Move:
        """Reserves go to somebody, or come back."""
        bank = self.dice.choice(list(BANKS.values()))
        if self.dice.randrange(3):
            free = self.world.free(bank, BASE_CASH)
            return Transfer(account(bank), account("auditor"), BASE_CASH, free), (bank,)
        return Transfer(account("auditor"), account(bank), BASE_CASH, self.amount(20_000)), ("auditor",)

    def help_out(self) -> Move:
        """Reserves for the first payment that waits at a bank, which releases it then."""
        for asset, bank in BANKS.items():
            for name, amount in queue_of(self.world.books, asset):
                self.planned.append((ReleasePayment(account(bank), name), (bank,)))
                return Transfer(account("auditor"), account(bank), BASE_CASH, amount), ("auditor",)
        return self.lend()

    def mint(self) -> Move:
        asset = self.dice.choice((*BANKS, BASE_CASH, COINS))
        issuer = {**BANKS, BASE_CASH: "pboc", COINS: "broker"}[asset]
        return Issue(asset, account(self.dice.choice(PEOPLE)), self.amount(60_000)), (issuer,)

    def withdraw(self) -> Move:
        asset, bank = self.dice.choice(list(BANKS.items()))
        who = self.dice.choice(PEOPLE)
        return Redeem(asset, account(who), self.amount(10_000)), (who, bank)

    def attest(self) -> Move:
        asset = self.dice.choice((*BANKS, *BANKS, BASE_CASH, COINS))
        as_of_ms = self.world.now_ms - self.dice.choice((0, 0, 1_000, 2 * HOUR_MS, -HOUR_MS))
        return Attest(asset, self.dice.randrange(100_000, 300_000), as_of_ms, DOCUMENT), ("auditor",)

    def authorise(self) -> Move:
        asset, bank = self.dice.choice(list(BANKS.items()))
        age_ms = self.dice.choice((HOUR_MS, HOUR_MS, 0, DAY_MS))
        reserve = self.dice.choice((BASE_CASH, BASE_CASH, COINS))
        terms = AuthoriseMoney(
            account("pboc"), asset, MoneyKind.BANK, reserve, account(bank), account("auditor"), age_ms
        )
        return terms, ("pboc", bank)

    def quarantine(self) -> Move:
        asset = self.dice.choice((CASH, OTHER_CASH, BASE_CASH, COINS))
        on = not self.dice.randrange(5)
        return Quarantine(account("pboc"), asset, on, DOCUMENT), ("pboc",)

    def policy(self) -> Move:
        currency = self.dice.choice(("CNY", "CNY", "USD"))
        return SetPaymentPolicy(account("pboc"), currency, bool(self.dice.randrange(2))), ("pboc",)

    def coins(self) -> Move:
        one, other = self.dice.sample(PEOPLE, 2)
        return Transfer(account(one), account(other), COINS, 1), (one,)

    def cross(self) -> Move:
        who = self.dice.choice(PEOPLE)
        asset = self.dice.choice((BOND, BOND, BOND_ACROSS, BOND_ACROSS, MIRROR))
        register = self.dice.choice([code for code in REGISTERS if code != asset[12:] or not self.dice.randrange(8)])
        return Cross(account(who), asset, register, self.amount(300), self.salt()), (who,)

    def agree(self) -> Move:
        source, target = self.dice.choice((*[REGISTERS, REGISTERS[::-1]] * 4, (b"CSDC", b"CSDC"), (b"CSDC", b"NONE")))
        instrument = self.dice.choice((*[BOND[:12]] * 4, SHARE[:12], CASH[:12]))
        until_ms = self.dice.choice((0, 0, 0, 0, self.world.now_ms + HOUR_MS, 1))
        signers = sorted({KEEPERS.get(source, "csdc"), KEEPERS.get(target, "ccdc")})
        return AgreeLink(source, target, instrument, self.amount(1_000), until_ms), tuple(signers)

    def end(self) -> Move:
        source, target = self.dice.sample(REGISTERS, 2)
        who = self.dice.choice(("csdc", "ccdc", "ccdc", "icbc"))
        return EndLink(account(who), source, target, BOND[:12]), (who,)

    def reconcile(self) -> Move:
        today = self.world.now_ms // DAY_MS
        asset = self.dice.choice((MIRROR, MIRROR, BOND_ACROSS))
        day = self.dice.choice((today, today, today - self.dice.randrange(1_000), today + 1))
        return Reconcile(asset, day, self.dice.randrange(1_000), DOCUMENT), ("ccdc",)

    # Steps

    def step(self) -> None:
        moves: Sequence[Callable[[], Move]] = (
            *[self.pay] * 30, *[self.release] * 10, *[self.cancel] * 4, *[self.lend] * 8, *[self.help_out] * 4,
            *[self.mint] * 12, *[self.withdraw] * 4, *[self.attest] * 8, *[self.authorise] * 2, *[self.quarantine] * 4,
            *[self.policy] * 2, *[self.coins] * 2, *[self.cross] * 16, *[self.agree] * 8, self.end,
            *[self.reconcile] * 3,
        )  # fmt: skip
        operation, signers = self.planned.pop() if self.planned else self.dice.choice(moves)()
        jump_ms = self.dice.choice((1, 1, 1, 1, 1, 1, 10, 100, 1_000, 5_000))
        if not self.dice.randrange(40):
            jump_ms = self.dice.choice((5 * 60_000, 30 * 60_000, HOUR_MS, 3 * DAY_MS))
        before = self.minted()
        title, _, _ = self.world.judged(operation, *signers, at_ms=self.world.now_ms + jump_ms)
        self.seen[operation_name(type(operation)), title] += 1
        self.look(operation, title, before)

    def minted(self) -> dict[bytes, int]:
        rows = {asset: self.world.row(Asset, asset) for asset in BANKS}
        return {asset: row.issued for asset, row in rows.items() if row is not None}

    def look(self, operation: Operation, title: str, before: dict[bytes, int]) -> None:
        """What must hold after every step."""
        world, books = self.world, self.world.books
        assert check_registers(world.version) == []
        waiting = {key[24:]: row.amount for key, row in books.rows(Waiting)}
        pending = {key[48:]: row.amount for key, row in books.rows(Encumbrance) if row.bucket is Bucket.PENDING}
        assert waiting == pending
        statuses = {key: row.status for key, row in books.rows(Payment)}
        assert {key for key, status in statuses.items() if status is PaymentStatus.WAITING} == set(waiting)
        planned = [DueItem.of(key) for key, _ in books.rows(Due)]
        assert Counter(item.reference for item in planned) == Counter(list(waiting))
        assert all(item.kind is DueKind.PAYMENT_RETRY for item in planned)
        if isinstance(operation, Issue) and title == "ok" and operation.asset in BANKS:
            asset, attested = world.row(Asset, operation.asset), world.row(Attestation, operation.asset)
            money = world.row(Money, operation.asset)
            assert asset is not None
            assert attested is not None
            assert money is not None
            assert asset.issued > before[operation.asset]
            assert asset.circulating <= attested.value - attested.paid_out_since
            assert world.now_ms - attested.as_of_ms <= money.greatest_age_ms


def test_a_long_walk_over_money_links_and_mirrors() -> None:
    walk = Walk(20_260_302)
    for _ in range(STEPS):
        walk.step()
    for (operation, title), count in sorted(walk.seen.items()):
        print(f"{operation:<20} {title:<20} {count}")
    succeeded = {operation for operation, title in walk.seen if title == "ok"}
    assert succeeded >= {operation_name(kind) for kind in (*MONEY_OPERATIONS, *LINK_OPERATIONS)}
    refused = {title for _, title in walk.seen}
    assert refused >= {reason.title for reason in Reason if Reason.UNKNOWN_MONEY <= reason <= Reason.NOT_A_MIRROR}
    ends = Counter(row.status for _, row in walk.world.books.rows(Payment))
    print(*(f"{status.name.lower()}: {count}" for status, count in sorted(ends.items())), sep="  ")
    assert set(ends) >= {PaymentStatus.SETTLED, PaymentStatus.CANCELLED, PaymentStatus.RETURNED}
