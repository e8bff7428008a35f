"""The room in which all walks draw what to do next: one for the machine of Hypothesis and for the seeded walk.

There is one method for each operation, by its name. It draws an operation that may well succeed where things stand: a
giver who has the units, an instruction that is ready to be locked, an order that still stands. Every now and then it
draws something foolish on purpose. ``spoilt`` takes any operation and breaks one of its fields by the field's kind, and
``careless`` breaks the transaction around it. Between them every refusal of the ledger can be met.

All choices come from one source of numbers, ``Dice``: a seeded generator, or draws of Hypothesis, which can then shrink
them. The room remembers what was made, to name it again; all else it reads from the state.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar

from p2pledger.ledger.books import Books
from p2pledger.ledger.market.claims import Claim, Trusted
from p2pledger.ledger.market.escrow import EscrowRow, EscrowStatus
from p2pledger.ledger.market.instructions import InstructionRow, Matched, Processing, participants_of
from p2pledger.ledger.market.instruments import InstrumentRow
from p2pledger.ledger.market.orders import OrderRow, OrderStatus
from p2pledger.ledger.market.payments import Payment, PaymentStatus
from p2pledger.ledger.operations import RULES
from p2pledger.ledger.queries import rows
from p2pledger.ledger.rule import Refused
from p2pledger.ledger.tables import Asset, Table
from p2pledger.ledger.tables import Lock as LockRow
from p2pledger.ledger.tables import Stake as StakeRow
from p2pledger.primitives import forms
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.codec import U64_MAX
from p2pledger.primitives.forms import Operation, operation_name
from p2pledger.primitives.market import escrow, instructions, instruments, links, money, offers, orders, parties
from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.market.calendars import Lateness, SetCalendar
from p2pledger.primitives.market.instructions import Leg, Origin
from p2pledger.primitives.market.instruments import InstrumentStatus, Nature
from p2pledger.primitives.market.money import MoneyKind
from p2pledger.primitives.market.orders import Power
from p2pledger.primitives.market.parties import AccountKind, Effect, RoleNumber, Tier
from p2pledger.primitives.names import AssetKind, account_opened, asset_id, isin_is_valid
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.validators import Validator
from p2pledger.primitives.votes import Vote, VoteKind
from tests.ledger.market.market_world import (
    BASE_CASH,
    BOND,
    BOND_ACROSS,
    CASH,
    DAY_MS,
    HOUR_MS,
    OTHER_CASH,
    ROLES,
    SHARE,
    account,
)
from tests.ledger.market.trading import calendar
from tests.ledger.market.walk.stage import (
    COINS,
    CUSTODY,
    LEAST_FEE,
    LOOSE,
    MIRROR,
    NODES,
    SEATS,
    WITHOUT_MONEY,
    Stage,
    opened,
    opening,
)
from tests.ledger.small_market import key

T = TypeVar("T")

PEOPLE: Final = ("alice", "bob", "carol", "dave")
KEEPERS: Final = {b"CSDC": "csdc", b"CCDC": "ccdc", b"PBOC": "pboc", b"ICBC": "icbc", b"CMBC": "cmbc"}
ISSUERS: Final = {BASE_CASH: "pboc", CASH: "icbc", OTHER_CASH: "cmbc", COINS: "broker"}
SECURITIES: Final = (BOND, BOND, SHARE, BOND_ACROSS)
MONIES: Final = (CASH, CASH, OTHER_CASH, COINS)
ASSETS: Final = (*SECURITIES, *MONIES, BASE_CASH, MIRROR)
UNKNOWN_ASSET: Final = asset_id("US5949181045@CSDC")
STRANGER: Final = bytes(31) + b"x"
LEIS: Final = ("5493001KJTIIGC8Y1R12", "7LTWFZYICNSX8D621K86", "506700GE1G29325QX363", "5493001KJTIIGC8Y1R13")
TOPICS: Final = ("qualified", "sanctioned", "country")
PREIMAGES: Final = (b"open", b"sesame")
MINUTE_MS: Final = 60_000


class Dice(Protocol):
    """Where all choices come from."""

    def below(self, limit: int) -> int:
        """An integer from 0 to ``limit`` - 1."""
        ...


@dataclass
class SeededDice:
    """Dice of a seed."""

    source: random.Random

    @classmethod
    def of(cls, seed: int) -> SeededDice:
        return cls(random.Random(seed))

    def below(self, limit: int) -> int:
        return self.source.randrange(limit)


def _isins() -> tuple[bytes, ...]:
    """Instruments that are not there yet."""
    texts = (f"DE00051{number:04}{digit}" for number in range(40) for digit in range(10))
    return tuple(text.encode() for text in texts if isin_is_valid(text))


NEW_ISINS: Final = _isins()

WEIGHTS: Final = {
    tx.Transfer: 4, tx.Lock: 3, tx.Release: 3, tx.Issue: 4, tx.SetValidators: 3, tx.Report: 3,
    parties.Allocate: 3, parties.RegisterParty: 2,
    instructions.Instruct: 9, instructions.Affirm: 9, instructions.LockInstruction: 6, instructions.Settle: 6,
    instructions.AddLegs: 3, instructions.Cancel: 3,
    offers.PlaceOffer: 4, offers.TakeOffer: 4, escrow.OpenEscrow: 4, escrow.FulfilEscrow: 4,
    money.PayAcross: 6, money.ReleasePayment: 3, money.Attest: 3, links.Cross: 5, links.AgreeLink: 2,
    orders.Order: 7, orders.Appeal: 3,
}  # fmt: skip
"""How often an operation is drawn, beside the others; 2 where it is not named."""
KINDS: Final = tuple(kind for kind in RULES for _ in range(WEIGHTS.get(kind, 2)))


def _fixed_names() -> dict[bytes, str]:
    names = {account(name): name for name in (*ROLES, "giant", "keeper", WITHOUT_MONEY)}
    return names | {opened(name): name for name in (*LOOSE, *CUSTODY)}


@dataclass
class Room:
    """Draws operations for a stage. ``copy`` it with the stage."""

    stage: Stage
    dice: Dice
    signs: dict[bytes, str] = field(default_factory=_fixed_names)
    """account -> name of the key that signs for it"""
    instructions: list[instructions.Instruct] = field(default_factory=list)
    offers: list[offers.PlaceOffer] = field(default_factory=list)
    escrows: list[escrow.OpenEscrow] = field(default_factory=list)
    payments: list[money.PayAcross] = field(default_factory=list)
    orders: list[orders.Order] = field(default_factory=list)
    stakes: list[tx.Stake] = field(default_factory=list)
    sent: list[tuple[bytes, tuple[Operation, ...]]] = field(default_factory=list)
    salts: int = 0
    _books: Books | None = None
    _held: list[tuple[bytes, bytes, int]] = field(default_factory=list)

    # Chance

    def pick(self, options: Sequence[T]) -> T:
        return options[self.dice.below(len(options))]

    def one_in(self, number: int) -> bool:
        return self.dice.below(number) == 0

    def two(self, options: Sequence[T]) -> tuple[T, T]:
        one = self.dice.below(len(options))
        other = self.dice.below(len(options) - 1)
        return options[one], options[other + (other >= one)]

    # What there is

    @property
    def books(self) -> Books:
        """The books of the newest state; what is read from them once is remembered until the next block."""
        if self._books is None or self._books._state is not self.stage.version:
            self._books = self.stage.books
            self._held = [
                (asset, holder, free)
                for (asset, holder, bucket, _), free in self.stage.spots.items()
                if bucket is Bucket.FREE and free and holder in self.signs
            ]
        return self._books

    @property
    def now_ms(self) -> int:
        return self.stage.now_ms + 1_000

    @property
    def today(self) -> int:
        return self.stage.now_ms // DAY_MS

    def salt(self) -> bytes:
        """A new one, as a rule."""
        if self.one_in(40):
            return bytes(16)
        self.salts += 1
        return self.salts.to_bytes(16, "big")

    def amount(self, free: int) -> int:
        """Of so much, a part; now and then more than there is."""
        most = max(1, free)
        return self.pick(
            (1, 1, 5, max(1, most // 50), max(1, most // 10), max(1, most // 3), most, most + 1)[
                : 8 if self.one_in(4) else 5
            ]
        )

    def holding(self, assets: Iterable[bytes] = (), *, everybody: bool = False) -> tuple[bytes, bytes, int]:
        """(asset, account, free units) of somebody who has some."""
        _ = self.books
        wanted = set(assets)
        people = {account(name) for name in PEOPLE}
        found = [
            (asset, holder, free)
            for asset, holder, free in self._held
            if (not wanted or asset in wanted) and (everybody or holder in people)
        ]
        if not found:
            return (next(iter(wanted)) if wanted else BOND), account(self.pick(PEOPLE)), 0
        return self.pick(found)

    def person(self) -> bytes:
        return account(self.pick(PEOPLE))

    def other(self, than: bytes) -> bytes:
        return self.pick([account(name) for name in PEOPLE if account(name) != than])

    def moment(self) -> int:
        """0 for without end, or a moment soon to come; seldom one that has passed."""
        return self.pick(
            (0, self.now_ms + MINUTE_MS, self.now_ms + 10_000, self.now_ms + HOUR_MS, 1)[: 5 if self.one_in(6) else 4]
        )

    # Drawing

    def drawn(self, kind: type[Operation]) -> list[Operation]:
        """One operation of this kind; sometimes with others of the same transaction."""
        operation = getattr(self, operation_name(kind))()
        if self.one_in(10):
            operation = self.spoilt(operation)
        drawn = [operation]
        if isinstance(operation, instructions.Instruct) and operation.counterparty and not self.one_in(3):
            digest = operation.digest
            if operation.leg_count == len(operation.legs):
                sides = dict.fromkeys((operation.counterparty, *(leg.giver for leg in operation.legs)))
                drawn += [instructions.Affirm(operation.id, side, digest) for side in sides if side != operation.by]
        if isinstance(operation, money.ReleasePayment) and self.one_in(2):
            row = self.books.row(Payment, operation.payment)
            if row is not None:
                bank = account(ISSUERS.get(row.source_asset, "icbc"))
                drawn.insert(0, tx.Transfer(account("auditor"), bank, BASE_CASH, row.amount))
        return drawn

    def signers(self, operations: Sequence[Operation]) -> list[str]:
        """Whose keys sign what: those whom the rules name."""
        names: dict[str, None] = {}
        for operation in operations:
            try:
                for who in RULES[type(operation)].must_sign(self.books, operation):
                    names[self.signs.get(who, "alice")] = None
            except Refused:
                pass
        return list(names) or [self.pick(PEOPLE)]

    def transaction(self, operations: Sequence[Operation]) -> tuple[bytes, tuple[Operation, ...]]:
        """Signed by whoever must. Whoever signs first pays."""
        names = self.signers(operations)
        payer = account("alice")
        signed = self.stage.signed(operations, dict.fromkeys((*names, "alice")), payer)
        self._remember(signed, operations)
        return signed, tuple(operations)

    def careless(self, operations: Sequence[Operation]) -> tuple[bytes, tuple[Operation, ...]]:
        """A transaction that breaks a rule of all transactions, whatever it is for."""
        names = [*self.signers(operations), "alice"]
        stage, alice = self.stage, account("alice")
        match self.dice.below(6):
            case 0:
                signed = stage.signed(operations, names, alice, valid_for=-1 - self.dice.below(3))
            case 1:
                signed = stage.signed(operations, names, alice, valid_for=101 + self.dice.below(3))
            case 2:
                signed = stage.signed(operations, names, alice, max_fee=LEAST_FEE * len(operations) - 1)
            case 3:
                signed = stage.signed(operations, names, account(WITHOUT_MONEY) if self.one_in(2) else STRANGER)
            case 4:
                signed = stage.signed(operations, [*names, WITHOUT_MONEY], account(WITHOUT_MONEY))
            case _:
                return self.pick(self.sent[-10:]) if self.sent else self.transaction(operations)
        return signed, tuple(operations)

    def _remember(self, signed: bytes, operations: Sequence[Operation]) -> None:
        self.sent.append((signed, tuple(operations)))
        del self.sent[:-30]
        lists: dict[type[Operation], list[Any]] = {
            instructions.Instruct: self.instructions, offers.PlaceOffer: self.offers, escrow.OpenEscrow: self.escrows,
            money.PayAcross: self.payments, orders.Order: self.orders, tx.Stake: self.stakes,
        }  # fmt: skip
        for operation in operations:
            if type(operation) in lists:
                lists[type(operation)].append(operation)
                del lists[type(operation)][:-25]

    # Breaking

    def spoilt(self, operation: Operation) -> Operation:
        """The same with one of its fields broken, by the field's kind."""
        fields = [item for item in operation.form if type(item) in _BREAKERS]
        if not fields:
            return operation
        item = self.pick(fields)
        value = _BREAKERS[type(item)](self, operation, item)
        return replace(operation, **{item.name: value})  # type: ignore[type-var]

    def _another_account(self, operation: Operation, item: Any) -> bytes:
        named = [getattr(operation, each.name) for each in operation.form if isinstance(each, forms.Account)]
        named = [each for each in named if each]
        options = [STRANGER, account(self.pick(tuple(ROLES))), self.pick(named or [STRANGER])]
        return self.pick([*options, b""] if item.optional else options)

    def _another_number(self, operation: Operation, item: Any) -> int:
        return min(item.most, max(item.least, self.pick((0, 1, 7, item.most))))

    # Holdings, accounts and native money

    def transfer(self) -> Operation:
        asset, source, free = self.holding(everybody=self.one_in(3))
        target = self.other(source) if not self.one_in(4) else self.pick((self.loose(), account("dealer")))
        return tx.Transfer(source, target, asset, self.amount(free))

    def lock(self) -> Operation:
        asset, owner, free = self.holding()
        return tx.Lock(owner, asset, self.amount(free), self.other(owner))

    def release(self) -> Operation:
        locks = [(row_key, row) for row_key, row in self.books.rows(LockRow) if row_key[48:] in self.signs]
        if not locks and not self.one_in(4):
            return self.lock()
        if not locks or self.one_in(8):
            return tx.Release(self.person(), BOND, 1_000_000, self.person())
        row_key, row = self.pick(locks)
        return tx.Release(row_key[16:48], row_key[:16], self.pick((row.amount, 1, row.amount + 1)), row_key[48:])

    def issue(self) -> Operation:
        asset = self.pick(ASSETS)
        amount = self.pick((1, 10, 500, 2_000, 30_000, 4_000_000)) if not self.one_in(15) else U64_MAX
        target = account("icbc") if asset == BASE_CASH else self.person()
        return tx.Issue(asset, target, amount)

    def redeem(self) -> Operation:
        asset, source, free = self.holding()
        return tx.Redeem(asset, source, self.amount(free))

    def define(self) -> Operation:
        register = self.pick((b"CSDC", b"CCDC"))
        issuer = account("issuer")
        match self.dice.below(6):
            case 0:
                return tx.Define(b"DE0005140009" + register, AssetKind.SECURITY, 0, issuer, "A bond")
            case 1:
                return tx.Define(b"CNYX\0\0\0\0\0\0\0\0" + register, AssetKind.MONEY, 2, issuer, "Some money")
            case 2:
                code = self.pick((b"USD", b"EUR", b"CNY")) + bytes(9)
                return tx.Define(code + register, AssetKind.MONEY, 2, account("broker"), "Other money")
        asset = self.pick(NEW_ISINS) + register
        return tx.Define(asset, AssetKind.SECURITY, 0, issuer, f"Bond {asset.hex()[12:24]}")

    def open(self) -> Operation:
        if self.one_in(8):
            return opening(self.pick(LOOSE))
        opener, salt = self.person(), self.salt()
        version = 2 if self.one_in(6) else 1
        operation = tx.Open(opener, salt, Policy.of(key(self.signs[opener]).public_key, version=version))
        self.signs.setdefault(account_opened(opener, salt, operation.policy.values()), self.signs[opener])
        return operation

    def set_policy(self) -> Operation:
        who = account(self.pick(("broker", "dealer", "dave")))
        row = self.books.account(who)
        version = (1 if row is None else row.policy.version) + self.pick((1, 1, 1, 0, 2))
        return tx.SetPolicy(who, Policy.of(key(self.signs[who]).public_key, version=version))

    def pay(self) -> Operation:
        one, other = self.two(PEOPLE)
        return tx.Pay(account(one), account(other), self.pick((1, 100, 10**9)))

    def stake(self) -> Operation:
        there = [each for each in self.stakes if self.books.stake(each.id) is not None]
        if there and self.one_in(3):
            return self.pick(there)
        return tx.Stake(self.person(), self.pick((5, 100, 10**9)), self.salt(), self.pick(SEATS).key)

    def unstake(self) -> Operation:
        people = {account(name) for name in PEOPLE}
        read = ((row_key, StakeRow.decode(row)) for row_key, row in rows(self.stage.version, Table.STAKES))
        there = [(row_key, row) for row_key, row in read if row.account in people]
        if not there and not self.one_in(3):
            return self.stake()
        if not there or self.one_in(4):
            return tx.Unstake(self.person(), STRANGER)
        row_key, row = self.pick(there)
        return tx.Unstake(row.account, row_key)

    def set_finality(self) -> Operation:
        return tx.SetFinality(self.pick(ASSETS), self.dice.below(4))

    def set_validators(self) -> Operation:
        spec = self.stage.spec
        epoch = spec.epoch_of(self.stage.height + 1) + self.pick((2, 2, 2, 1))
        added = self.pick(("node-4", "node-5", "node-6"))
        reported = any(True for _ in rows(self.stage.version, Table.EVIDENCE))
        names = [*NODES, added] if self.one_in(2 if reported else 6) else [*NODES[:3], added]
        seats = [Validator(key(name).public_key, 1, name) for name in names]
        who = [*NODES, "node-4", "node-5", "node-6"] if not self.one_in(4) else ["node-0"]
        return tx.SetValidators.approved(spec.network_id, epoch, seats, [key(name) for name in who])

    def report(self) -> Operation:
        """Two votes of node-3 in one view; or of somebody who has no part in it."""
        spec = self.stage.spec
        epoch = spec.epoch_of(self.stage.height + 1)
        seats = self.books.validators_in_force(epoch).members
        names = [seat.name for seat in seats]
        name = "node-3" if "node-3" in names else names[-1]
        signer = names.index(name) if not self.one_in(4) else (names.index(name) + 1) % len(names)
        view = self.pick((3, 4, 5))
        one, other = (
            Vote.make(spec.network_id, epoch, view, VoteKind.NOTARISE, block * 32, signer, key(name)).encode()
            for block in (b"a", b"b")
        )
        return tx.Report(one, other)

    # Parties, accounts in custody, permissions

    def loose(self) -> bytes:
        return opened(self.pick(LOOSE))

    def register_party(self) -> Operation:
        party = self.loose() if not self.one_in(5) else account(self.pick(("alice", "broker")))
        sponsor = account(self.pick(("operator", "operator", "csdc", "ccdc", "regulator")))
        name = self.pick(("Fund", "Trust", "House", "FUND", "Fund l", "Br0ker", "\t", f"Fund {self.dice.below(99)}"))
        roles = self.pick((
            (RoleNumber.INVESTOR,), (RoleNumber.INVESTOR,), (RoleNumber.BROKER, RoleNumber.INVESTOR),
            (RoleNumber.REGULATOR,), (RoleNumber.ANYBODY,),
        ))  # fmt: skip
        lei = self.pick(LEIS[: 4 if self.one_in(4) else 3])
        if roles == (RoleNumber.INVESTOR,) and self.one_in(2):
            lei = ""
        return parties.RegisterParty(sponsor, party, name, lei, self.pick(("CN", "DE", "CN", "c1")), roles)

    def register_account(self) -> Operation:
        owner = self.pick(("alice", "bob", "broker", "dealer", "sse"))
        custodian = self.pick(("csdc", "broker", "icbc", "csdc", "issuer"))
        tier = self.pick(list(Tier))
        if owner in PEOPLE and not self.one_in(4):
            tier = Tier.INVESTOR
        kind = self.pick(list(AccountKind))
        upper = opened("pool") if custodian == "broker" and not self.one_in(4) else b""
        who = self.loose() if not self.one_in(4) else self.pick([*self.signs])
        return parties.RegisterAccount(who, account(owner), account(custodian), tier, kind, upper)

    def allocate(self) -> Operation:
        place = opened("pool") if not self.one_in(10) else opened("segregated")
        asset = self.pick((BOND, BOND, SHARE, MIRROR, BOND_ACROSS)[: 5 if self.one_in(5) else 3])
        options = [b"", account("bob"), account("carol")]
        source, target = self.two(options) if not self.one_in(12) else (b"", b"")
        if self.one_in(10):
            target = STRANGER
        return parties.Allocate(place, source, target, asset, self.pick((1, 10, 50, 600)))

    def set_permission(self) -> Operation:
        """For a short time: it would shut the market."""
        by = self.pick(("operator", "operator", "csdc", "alice"))
        register = b"CSDC" if by == "csdc" or self.one_in(3) else b""
        codes = self.pick(((1,), (2, 4), (50, 57), (55, 56), (67, 74), (82,), (52,), (44, 81), (9,), (35,)))
        effect, until_ms = self.pick(list(Effect)), self.now_ms + self.pick((3_000, 10_000, MINUTE_MS))
        party = account(self.pick(("alice", "bob"))) if self.one_in(2) else b""
        role = self.pick((RoleNumber.ANYBODY, RoleNumber.INVESTOR, RoleNumber.BROKER))
        name, most = self.pick(("ours", "yours", "theirs")), self.pick((0, 10, 100))
        return parties.SetPermission(
            account(by), name, effect, role, party, codes, "", register, most, self.pick((0, 0, U64_MAX)), until_ms
        )

    def drop_permission(self) -> Operation:
        by = self.pick(("operator", "operator", "csdc", "ccdc"))
        return parties.DropPermission(account(by), self.pick(("ours", "yours", "theirs")))

    # Instruments and claims

    def described(self) -> bytes:
        there = [asset for asset, _ in self.books.rows(InstrumentRow)]
        return self.pick(there) if not self.one_in(8) else SHARE

    def keeper(self, asset: bytes) -> bytes:
        return account(KEEPERS.get(asset[12:], "csdc") if not self.one_in(10) else self.pick(("ccdc", "csdc", "icbc")))

    def describe(self) -> Operation:
        """Mostly of what nobody has described yet, or what is suspended."""
        known = [asset for asset, _ in self.books.rows(Asset) if asset[12:] in (b"CSDC", b"CCDC")]
        new = [asset for asset in known if self.books.row(InstrumentRow, asset) is None and asset != SHARE]
        asset = self.pick(new) if new and not self.one_in(3) else self.described()
        ticker = {BOND[:12]: "BOND", SHARE[:12]: "SHARE"}.get(asset[:12], f"T{asset[8:12].decode('ascii', 'replace')}")
        if asset == SHARE:
            asset = MIRROR  # the share itself stays without a description: plain units, on the bulk path
        if self.one_in(5):
            ticker = self.pick(("B0ND", "SHARE", "BOND"))
        cfi = "DBFTFB" if not self.one_in(6) else "XXXXXX"
        nature = Nature.MIRROR if asset == MIRROR else Nature.NATIVE
        size = self.pick((0, 1_000_000, 10))
        by = self.keeper(asset)
        return instruments.Describe(by, asset, nature, cfi, "", ticker, "CNY", size, 0, 0, "CN")

    def set_status(self) -> Operation:
        asset = self.described()
        on = InstrumentStatus.ACTIVE if not self.one_in(4) else InstrumentStatus.SUSPENDED
        return instruments.SetStatus(self.keeper(asset), asset, on)

    def accredit(self) -> Operation:
        by = self.pick(("csdc", "regulator", "operator", "ccdc", "alice"))
        issuer = "issuer" if not self.one_in(4) else "icbc"
        return instruments.Accredit(account(by), account(issuer), 0 if not self.one_in(4) else 1)

    def set_venue(self) -> Operation:
        asset = self.pick((BOND, SHARE, BOND_ACROSS))
        venue = account("sse") if not self.one_in(6) else self.pick((account("alice"), STRANGER))
        return instruments.SetVenue(self.keeper(asset), asset, venue, not self.one_in(4))

    def set_holder_rules(self) -> Operation:
        asset = self.pick((SHARE, SHARE, BOND))
        terms: dict[str, Any] = self.pick((
            {}, {}, {}, {"refused": ("sanctioned",)}, {"required": ("qualified",)}, {"countries": ("CN",)},
            {"most_holders": 4}, {"most_share_ppm": 100_000}, {"countries": ("c1",)},
        ))  # fmt: skip
        return instruments.SetHolderRules(self.keeper(asset), asset, **terms)

    def trust_issuer(self) -> Operation:
        by, issuer = self.pick(("regulator", "operator", "csdc", "bob")), self.pick(("regulator", "broker"))
        return parties.TrustIssuer(account(by), self.pick(TOPICS), account(issuer), not self.one_in(3))

    def issue_claim(self) -> Operation:
        value = self.pick(("CN", "DE", "yes"))
        issuer, topic = account(self.pick(("regulator", "broker"))), self.pick(TOPICS)
        trusted = [(row_key[16:], row_key[:16].rstrip(b"\0").decode()) for row_key, _ in self.books.rows(Trusted)]
        if trusted and not self.one_in(5):
            issuer, topic = self.pick(trusted)
        return parties.IssueClaim(issuer, self.person(), topic, value, self.moment())

    def revoke_claim(self) -> Operation:
        made = [row_key for row_key, _ in self.books.rows(Claim)]
        if made and not self.one_in(5):
            row_key = self.pick(made)
            return parties.RevokeClaim(row_key[48:], row_key[:32], row_key[32:48].rstrip(b"\0").decode())
        return parties.RevokeClaim(account(self.pick(("regulator", "broker"))), self.person(), self.pick(TOPICS))

    # Instructions

    def leg(self) -> Leg:
        asset, giver, free = self.holding((BOND, SHARE, CASH))
        return Leg(giver, self.other(giver), asset, self.amount(free))

    def instruct(self) -> Operation:
        if self.instructions and self.one_in(5):
            return self.answer()
        asset, giver, free = self.holding((BOND, SHARE, BOND_ACROSS))
        taker = self.other(giver)
        legs = [Leg(giver, taker, asset, self.amount(free)), Leg(taker, giver, self.pick(MONIES), self.amount(2_000))]
        if self.one_in(4):
            legs.append(self.leg())
        by, counterparty, origin = giver, taker, Origin.PARTY
        match self.dice.below(16):
            case 0 | 1:
                by, counterparty, origin = account("sse"), b"", Origin.VENUE
            case 2:
                counterparty = b""
            case 3:
                counterparty = by
            case 4:
                legs[0] = replace(legs[0], taker=giver)
        announced = len(legs)
        if self.one_in(6):
            announced += self.pick((1, 1, 2, -1))
        return instructions.Instruct(
            by, self.salt(), origin, counterparty, "", self.today,
            self.today + self.pick((0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 3, -1)),
            self.pick(("", "", "", "", "", "", "A", "B", "C")), 0, max(1, announced), tuple(legs),
        )  # fmt: skip

    def answer(self) -> Operation:
        """What the counterparty says of the same trade, in an instruction of its own."""
        theirs = self.pick(self.instructions[-5:])
        if theirs.counterparty not in self.signs:
            return replace(theirs, salt=self.salt())
        reference = "" if not self.one_in(4) else "other"
        return replace(theirs, by=theirs.counterparty, counterparty=theirs.by, salt=self.salt(), reference=reference)

    def one(self, wanted: Callable[[InstructionRow], bool]) -> bytes | None:
        """The identifier of an instruction: mostly one that is wanted. None where a new one would do better."""
        rows = [(each.id, self.books.row(InstructionRow, each.id)) for each in self.instructions]
        there = [identifier for identifier, row in rows if row is not None]
        fitting = [identifier for identifier, row in rows if row is not None and row.is_open and wanted(row)]
        if fitting and not self.one_in(8):
            return self.pick(fitting)
        if not fitting and not self.one_in(3):
            return None
        return self.pick(there) if there and not self.one_in(10) else STRANGER

    def part_of(self, identifier: bytes, *, silent: bool = False) -> bytes:
        """Mostly a participant, and one who has not affirmed where that is wanted."""
        row = self.books.row(InstructionRow, identifier)
        identifier = row.pair if row is not None and not row.is_principal else identifier
        said = list(participants_of(self.books, identifier))
        wanted = [name for name, each in said if not (silent and each.affirmed)]
        if wanted and not self.one_in(8):
            return self.pick(wanted)
        return account(self.pick((*PEOPLE, "sse")))

    def add_legs(self) -> Operation:
        identifier = self.one(lambda row: row.processing is Processing.PENDING)
        if identifier is None:
            return self.instruct()
        row = self.books.row(InstructionRow, identifier)
        by = self.person() if row is None or self.one_in(8) else row.by
        first = row.legs_there if row is not None and not self.one_in(8) else 0
        return instructions.AddLegs(identifier, by, first, (self.leg(),))

    def affirm(self) -> Operation:
        identifier = self.one(
            lambda row: row.processing is Processing.ACCEPTED and row.affirmed < row.participants and not row.is_locked
        )
        if identifier is None:
            return self.instruct()
        row = self.books.row(InstructionRow, identifier)
        digest = bytes(32) if row is None or self.one_in(12) else row.legs_digest
        return instructions.Affirm(identifier, self.part_of(identifier, silent=True), digest)

    def set_hold(self) -> Operation:
        identifier = self.one(lambda row: not row.is_locked or self.one_in(6))
        if identifier is None:
            return self.instruct()
        return instructions.SetHold(identifier, self.part_of(identifier), self.one_in(3))

    def cancel(self) -> Operation:
        identifier = self.one(lambda row: not row.is_locked or self.one_in(6))
        if identifier is None:
            return self.instruct()
        return instructions.Cancel(identifier, self.part_of(identifier))

    def _is_ready(self, row: InstructionRow) -> bool:
        return row.matched is Matched.MATCHED and row.affirmed == row.participants and (not row.holds or self.one_in(4))

    def lock_instruction(self) -> Operation:
        identifier = self.one(lambda row: self._is_ready(row) and not row.is_locked)
        if identifier is None:
            return self.instruct()
        return instructions.LockInstruction(identifier, self.part_of(identifier))

    def settle(self) -> Operation:
        identifier = self.one(lambda row: self._is_ready(row) and (row.is_locked or self.one_in(2)))
        if identifier is None:
            return self.instruct()
        return instructions.Settle(identifier, self.part_of(identifier))

    def set_calendar(self) -> Operation:
        name, by = self.pick(("A", "A", "B", "B", "D")), "operator" if not self.one_in(6) else "alice"
        made: SetCalendar = calendar(
            name, by=by, utc_offset_minutes=600 if name == "B" else 0,
            holidays=(self.today + self.pick((1, 2)),), cut_off=self.pick((900, 960, 1_440)),
            settlement=self.pick((840, 840, 840, 60)), late=self.pick(list(Lateness)),
        )  # fmt: skip
        return made

    def authorise_venue(self) -> Operation:
        venue = account("sse") if not self.one_in(6) else account("broker")
        return instructions.AuthoriseVenue(self.person(), venue, not self.one_in(4))

    # Offers

    def place_offer(self) -> Operation:
        gives, by, free = self.holding((BOND, SHARE, CASH, BOND_ACROSS))
        takes = CASH if gives != CASH else SHARE
        if self.one_in(12):
            takes = gives
        lots, expires_ms = (
            self.pick((1, 2, 3)),
            self.now_ms + self.pick((5_000, MINUTE_MS, HOUR_MS, DAY_MS, DAY_MS, DAY_MS, 3 * DAY_MS, -2_000)),
        )
        taker = self.other(by) if self.one_in(4) else b""
        return offers.PlaceOffer(
            by, self.salt(), gives, self.amount(free // lots), takes, self.pick((1, 5, 50)), lots, expires_ms, taker
        )

    def an_offer(self) -> tuple[bytes, bytes] | None:
        """(identifier, its maker). None where a new one would do better."""
        there = [each for each in self.offers if self.books.read(Table.OFFERS, each.id) is not None]
        if there and not self.one_in(8):
            made = self.pick(there)
            return made.id, made.by
        if not there and not self.one_in(3):
            return None
        return (self.pick(self.offers).id if self.offers else STRANGER), self.person()

    def take_offer(self) -> Operation:
        found = self.an_offer()
        if found is None:
            return self.place_offer()
        identifier, by = found
        taker = self.other(by) if not self.one_in(12) else by
        return offers.TakeOffer(identifier, taker, self.pick((1, 1, 1, 2, 9)))

    def withdraw_offer(self) -> Operation:
        found = self.an_offer()
        if found is None:
            return self.place_offer()
        identifier, by = found
        return offers.WithdrawOffer(identifier, by if not self.one_in(6) else self.other(by))

    # Money

    def authorise_money(self) -> Operation:
        asset, bank = self.pick(((CASH, "icbc"), (OTHER_CASH, "cmbc"), (COINS, "broker"), (BOND, "issuer")))
        if self.one_in(6):
            return money.AuthoriseMoney(account("pboc"), BASE_CASH, MoneyKind.BASE)
        age_ms = self.pick((10 * DAY_MS, 10 * DAY_MS, 10 * DAY_MS, HOUR_MS, 0))
        reserve = BASE_CASH if not self.one_in(6) else COINS
        return money.AuthoriseMoney(
            account("pboc"), asset, MoneyKind.BANK, reserve, account(bank), account("auditor"), age_ms
        )

    def attest(self) -> Operation:
        asset = self.pick((CASH, OTHER_CASH, CASH, OTHER_CASH, BASE_CASH, COINS))
        as_of_ms = self.now_ms - self.pick((0, 0, 0, 0, 2 * HOUR_MS, -HOUR_MS))
        return money.Attest(asset, self.pick((4_000_000, 4_000_000, 6_000_000, 1_000)), as_of_ms, bytes(32))

    def pay_across(self) -> Operation:
        source, payer, free = self.holding((CASH, OTHER_CASH))
        target = OTHER_CASH if source == CASH else CASH
        if self.one_in(12):
            target = self.pick((source, COINS, BASE_CASH))
        amount = self.pick((self.amount(free), free // 2 or 1, 150_000))
        expires_ms = self.pick((0, 0, 0, 0, 0, 0, 0, self.now_ms + 5_000, self.now_ms + HOUR_MS, 1))
        return money.PayAcross(
            payer, self.other(payer), source, target, amount, self.salt(), expires_ms, not self.one_in(3)
        )

    def a_payment(self) -> tuple[bytes, bytes] | None:
        """(who may touch it, its identifier): rather of one that waits. None where a new one would do better."""
        known = [(each, self.books.row(Payment, each.id)) for each in self.payments]
        waiting = [each for each, row in known if row is not None and row.status is PaymentStatus.WAITING]
        if not waiting and not self.one_in(3):
            return None
        if not known or self.one_in(8):
            return self.person(), STRANGER
        chosen = self.pick(waiting) if waiting and not self.one_in(5) else self.pick(self.payments)
        return self.pick((chosen.payer, account(ISSUERS.get(chosen.source_asset, "icbc")))), chosen.id

    def release_payment(self) -> Operation:
        found = self.a_payment()
        return self.pay_across() if found is None else money.ReleasePayment(*found)

    def cancel_payment(self) -> Operation:
        found = self.a_payment()
        return self.pay_across() if found is None else money.CancelPayment(*found)

    def quarantine(self) -> Operation:
        authority = account(self.pick(("pboc", "regulator", "pboc", "alice")))
        asset = self.pick((CASH, OTHER_CASH, BASE_CASH, COINS))
        return money.Quarantine(authority, asset, self.one_in(6), bytes(32))

    def set_payment_policy(self) -> Operation:
        currency = "CNY" if not self.one_in(5) else "USD"
        return money.SetPaymentPolicy(account("pboc"), currency, self.one_in(2))

    # Links

    def two_registers(self) -> tuple[bytes, bytes]:
        return self.pick(((b"CSDC", b"CCDC"), (b"CCDC", b"CSDC")))

    def agree_link(self) -> Operation:
        source, target = self.two_registers() if not self.one_in(8) else (b"CSDC", self.pick((b"CSDC", b"NONE")))
        instrument = self.pick((BOND[:12], BOND[:12], BOND[:12], SHARE[:12], CASH[:12]))
        return links.AgreeLink(
            source, target, instrument, self.pick((100_000, 100_000, 10)), self.pick((0, 0, 0, self.moment()))
        )

    def end_link(self) -> Operation:
        by = self.pick(("csdc", "ccdc", "icbc"))
        instrument = BOND[:12] if self.one_in(4) else SHARE[:12]
        return links.EndLink(account(by), *self.two_registers(), instrument)

    def cross(self) -> Operation:
        asset, who, free = self.holding((BOND, BOND_ACROSS) if not self.one_in(5) else (SHARE, MIRROR))
        register = b"CCDC" if asset[12:] == b"CSDC" else b"CSDC"
        return links.Cross(who, asset, register, self.amount(free), self.salt())

    def reconcile(self) -> Operation:
        day = self.today - self.pick((0, 1, 2, self.dice.below(500), -1))
        return links.Reconcile(MIRROR if not self.one_in(4) else BOND_ACROSS, day, 500, bytes(32))

    # Orders and escrows

    def order(self) -> Operation:
        """Over people, for a short time, and lifted often: the market would stand still."""
        standing = [each for each in self.orders if self._stands(each)]
        regulators = (account("regulator"), account("court"))
        authority, approver = (
            regulators if not self.one_in(12) else (regulators[0], self.pick((*regulators, b"a" * 32)))
        )
        if self.orders and self.dice.below(10) < 2 + len(standing):
            lifted = self.pick(standing) if standing and not self.one_in(8) else self.pick(self.orders)
            return orders.Order(authority, approver, self.salt(), Power.RELEASE, lifts=lifted.id)
        asset, who, free = self.holding((BOND, SHARE, CASH, OTHER_CASH), everybody=self.one_in(4))
        busy = [(spot, amount) for spot, amount in self.stage.spots.items() if spot[2] is not Bucket.FREE]
        if busy and self.one_in(3):
            (asset, who, _, _), free = self.pick(busy)
        power = self.pick((Power.FREEZE, Power.PARTIAL_FREEZE, Power.CLAWBACK, Power.FORCED_TRANSFER))
        expires_ms = (
            self.now_ms + self.pick((5_000, 20_000, MINUTE_MS, HOUR_MS)) if not self.one_in(8) else self.pick((0, 1))
        )
        terms: dict[str, Any] = {"account": who, "asset": asset, "expires_ms": expires_ms}
        if self.one_in(4) and who in {account(name) for name in PEOPLE}:
            terms["party"] = who
            terms.pop("account")
        if power is not Power.FREEZE and not self.one_in(10):
            terms["quantity"] = self.amount(free) if not self.one_in(6) else 10**9
        if power in (Power.CLAWBACK, Power.FORCED_TRANSFER):
            terms["target"] = account("auditor")
        if self.one_in(3):
            terms["catches_later"] = True
        if self.one_in(3):
            terms["consumes"] = self.pick((
                (Bucket.FREE,), (Bucket.LOCKED, Bucket.FREE), (Bucket.ESCROWED, Bucket.FREE), (Bucket.SETTLING,),
                (Bucket.PENDING, Bucket.FREE), (Bucket.SETTLING, Bucket.FREE), (Bucket.FREE, Bucket.FREE),
            ))  # fmt: skip
        if self.one_in(3):
            terms["appeal_until_ms"] = self.now_ms + self.pick((3_000, MINUTE_MS))
        if self.one_in(12):
            power, terms = Power.FREEZE, {"asset": asset, "catches_later": True, "expires_ms": self.now_ms + 3_000}
        settling = [spot for spot, _ in busy if spot[2] is Bucket.SETTLING]
        if settling and self.one_in(8):
            asset, who, _, _ = self.pick(settling)
            power = Power.FORCED_TRANSFER
            terms = {"account": who, "asset": asset, "consumes": (Bucket.SETTLING,), "target": account("auditor")}
        if self.one_in(20):
            power, terms = Power.PARTIAL_FREEZE, {
                "party": account("giant"), "asset": BOND, "quantity": 5, "catches_later": True,
                "expires_ms": expires_ms,
            }  # fmt: skip
        if self.one_in(15):
            terms.pop("asset", None)
        return orders.Order(authority, approver, self.salt(), power, **terms)

    def _stands(self, order: orders.Order) -> bool:
        row = self.books.row(OrderRow, order.id)
        return row is not None and row.status is OrderStatus.STANDING

    def appeal(self) -> Operation:
        standing = [each for each in self.orders if self._stands(each)]
        if not self.orders or self.one_in(10):
            return orders.Appeal(STRANGER, self.person(), bytes(32))
        order = self.pick(standing) if standing and not self.one_in(4) else self.pick(self.orders)
        who = order.account or order.party
        return orders.Appeal(order.id, who if who in self.signs and not self.one_in(5) else self.person(), bytes(32))

    def open_escrow(self) -> Operation:
        asset, who, free = self.holding((BOND, SHARE, CASH, BOND_ACROSS))
        expires_ms = self.now_ms + self.pick((5_000, 30_000, HOUR_MS, DAY_MS, DAY_MS))
        conditions: dict[str, Any] = self.pick((
            {"signers": tuple(sorted((account("bob"), account("carol")))), "threshold": self.pick((1, 2))},
            {"after_ms": self.now_ms + 3_000},
            {"after_height": self.stage.height + 3},
            {"preimage_hash": hashlib.sha256(PREIMAGES[0]).digest()},
            {"preimage_hash": hashlib.sha256(PREIMAGES[1]).digest(), "after_height": 1},
            {"signers": (account("bob"),), "threshold": 2},
            {},
        )[: 7 if self.one_in(5) else 5])  # fmt: skip
        return escrow.OpenEscrow(
            who, self.salt(), asset, self.amount(free), self.other(who), expires_ms=expires_ms, **conditions
        )

    def an_escrow(self) -> tuple[escrow.OpenEscrow | None, bool]:
        """An escrow, mostly one that is open; or none, and whether a new one would do better."""
        there = [(each, self.books.row(EscrowRow, each.id)) for each in self.escrows]
        is_open = [each for each, row in there if row is not None and row.status is EscrowStatus.OPEN]
        if is_open and not self.one_in(8):
            return self.pick(is_open), False
        if not is_open and not self.one_in(3):
            return None, True
        known = [each for each, row in there if row is not None]
        return (self.pick(known) if known and not self.one_in(6) else None), False

    def fulfil_escrow(self) -> Operation:
        made, is_new = self.an_escrow()
        if made is None:
            return self.open_escrow() if is_new else escrow.FulfilEscrow(STRANGER)
        signers = made.signers if not self.one_in(5) else ()
        preimage = next((text for text in PREIMAGES if hashlib.sha256(text).digest() == made.preimage_hash), b"")
        return escrow.FulfilEscrow(made.id, signers, preimage if not self.one_in(5) else b"wrong")

    def return_escrow(self) -> Operation:
        made, is_new = self.an_escrow()
        if made is None:
            return self.open_escrow() if is_new else escrow.ReturnEscrow(STRANGER, self.person())
        return escrow.ReturnEscrow(made.id, made.beneficiary if not self.one_in(5) else made.account)

    # Time

    def moment_of_next_block(self) -> int:
        """Mostly a second later; sometimes hours, days, or far beyond everything that is due."""
        jump_ms = self.pick((1_000,) * 20 + (5_000, 20_000))
        if self.one_in(40):
            jump_ms = self.pick((5 * MINUTE_MS, HOUR_MS, 5 * HOUR_MS, 5 * HOUR_MS, DAY_MS, 3 * DAY_MS))
            if self.one_in(12):
                jump_ms = 40 * DAY_MS
        return self.stage.now_ms + jump_ms


_BREAKERS: Final[dict[type, Callable[[Room, Operation, Any], object]]] = {
    forms.Account: lambda room, operation, item: room._another_account(operation, item),
    forms.AssetName: lambda room, operation, item: room.pick((UNKNOWN_ASSET, *ASSETS)),
    forms.Amount: lambda room, operation, item: room.pick((0, U64_MAX, 1_000_000)),
    forms.Number: lambda room, operation, item: room._another_number(operation, item),
    forms.TimeMs: lambda room, operation, item: room.pick((0, 1, room.now_ms, room.now_ms + HOUR_MS, U64_MAX)),
    forms.Day: lambda room, operation, item: room.today + room.pick((-1, 0, 1, 5, 400)),
    forms.Reference: lambda room, operation, item: STRANGER,
    forms.RegisterCode: lambda room, operation, item: room.pick((b"NONE", b"CSDC", b"CCDC", b"ICBC")),
    forms.Instrument: lambda room, operation, item: room.pick((CASH[:12], SHARE[:12], b"X" * 12)),
    forms.Salt: lambda room, operation, item: bytes(16),
    forms.Switch: lambda room, operation, item: not getattr(operation, item.name),
    forms.Choice: lambda room, operation, item: item.kind(room.dice.below(len(item.kind))),
}
"""Kind of a field -> something else that could stand there."""
