"""A long seeded walk over parties, accounts, permissions, instruments, claims and holders.

Everybody does what comes to his mind, most of it nonsense; moments pass. After every block the books are added up, with
the sums of holders and the shares in pools (``World``), and

    each flag of an asset or account says what the rows say that it repeats
    each name and LEI is the one of the party, and each ticker and name the one of the instrument, that bears it,
    as often as it is borne

The walk must meet every operation, and every refusal of each, of this part of the market.
"""

import random
import re
from collections import Counter

from p2pledger.ledger.market.claims import HolderRules
from p2pledger.ledger.market.custody import is_omnibus
from p2pledger.ledger.market.instruments import InstrumentRow
from p2pledger.ledger.market.lookalikes import Lookalike, NameKind
from p2pledger.ledger.market.permissions import is_permissioned
from p2pledger.ledger.operations import RULES
from p2pledger.ledger.tables import Account, AccountFlag, Asset, AssetFlag, Party
from p2pledger.primitives.forms import operation_name
from p2pledger.primitives.market.instruments import (
    INSTRUMENT_OPERATIONS,
    Accredit,
    Describe,
    InstrumentStatus,
    Nature,
    SetHolderRules,
    SetStatus,
    SetVenue,
)
from p2pledger.primitives.market.lookalikes import skeleton_key
from p2pledger.primitives.market.orders import Order, Power
from p2pledger.primitives.market.parties import (
    PARTY_OPERATIONS,
    AccountKind,
    Allocate,
    DropPermission,
    Effect,
    IssueClaim,
    RegisterAccount,
    RegisterParty,
    RevokeClaim,
    RoleNumber,
    SetPermission,
    Tier,
    TrustIssuer,
)
from p2pledger.primitives.names import asset_id
from p2pledger.primitives.transactions import Issue, Lock, Operation, Redeem, Release, Transfer
from tests.ledger.market.market_world import BOND, BOND_ACROSS, CASH, SHARE, account, founded, opened

NOWHERE = asset_id("US5949181045@CSDC")
STRANGER = bytes(31) + b"x"
LEIS = ("", "5493001KJTIIGC8Y1R12", "7LTWFZYICNSX8D621K86", "506700GE1G29325QX363", "5493001KJTIIGC8Y1R13")
OPENED = tuple(f"account-{number}" for number in range(8))
PEOPLE = ("alice", "bob", "carol", "dave")
KEEPERS = ("csdc", "ccdc", "broker", "icbc")
STEPS = 5_000


class Walker:
    """Draws operations, signed by whoever must sign, most of the time."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = founded()
        self.signers = {
            account(name): (name,) for name in (*PEOPLE, *KEEPERS, "issuer", "operator", "regulator", "sse")
        }
        for name in OPENED:
            self.signers[self.world.open("alice", name)] = ("alice", name)
        self.pool = opened("alice", OPENED[0])
        entry = RegisterAccount(self.pool, account("broker"), account("csdc"), Tier.BROKER, AccountKind.OMNIBUS)
        self.world.do(entry, "broker", "alice", OPENED[0], "csdc")
        for asset in (BOND, SHARE):
            self.world.do(Transfer(account("alice"), self.pool, asset, 500), "alice")
        self.met: Counter[tuple[str, str]] = Counter()

    def some(self, *names: str) -> bytes:
        """One of these accounts, or now and then any."""
        if self.chance.random() < 0.1:
            return self.chance.choice([*self.signers, STRANGER, STRANGER, STRANGER])
        return account(self.chance.choice(names))

    def asset(self) -> bytes:
        return self.chance.choice((BOND, BOND, SHARE, BOND_ACROSS, CASH) if self.chance.random() < 0.95 else (NOWHERE,))

    def moment(self) -> int:
        return self.chance.choice((0, 0, 0, self.world.now_ms + 50_000, self.world.now_ms - 50_000, 1))

    def amount(self) -> int:
        return self.chance.choice((0, 1, 5, 20, 100, 400) if self.chance.random() < 0.2 else (1, 5, 20, 100, 400))

    def topic(self) -> str:
        return self.chance.choice(("qualified", "sanctioned", "country"))

    def name(self) -> str:
        return self.chance.choice(("ours", "yours", "theirs", "nobody's"))

    def drawn(self) -> tuple[Operation, list[bytes]]:
        """An operation, and who must sign it."""
        chance, kinds = self.chance, (*PARTY_OPERATIONS, *INSTRUMENT_OPERATIONS)
        kind: type[Operation] = chance.choice(
            (*kinds, Transfer, Transfer, Lock, Release, Issue, Redeem, Allocate, Allocate)
        )
        loose = opened("alice", chance.choice(OPENED[1:])) if chance.random() < 0.97 else STRANGER
        holders = [*(account(name) for name in PEOPLE), self.pool, loose]
        one, other = chance.sample(holders, 2)
        asset, amount, by = self.asset(), self.amount(), self.some("csdc", "csdc", "ccdc", "operator", "regulator")
        operation: Operation
        if kind is RegisterParty:
            name = chance.choice(("Fund", "FUND 1", "Fund l", "broker", "Br0ker", f"Fund {chance.randrange(9)}", "\t"))
            roles = tuple(sorted(set(chance.choices([*RoleNumber], weights=[1] * 4 + [0] * 2 + [6, 6] + [1] * 3, k=2))))
            country = chance.choice(("CN", "DE", "d", "D3")[: 2 + (chance.random() < 0.1)])
            operation = RegisterParty(
                by, chance.choice((loose, one)), name, chance.choice(LEIS), country.ljust(2), roles
            )
            return operation, [by, operation.party]
        if kind is RegisterAccount:
            owner, custodian = self.some("alice", "bob", "broker"), self.some(*KEEPERS)
            tier, account_kind = chance.choice(list(Tier)), chance.choice(list(AccountKind))
            upper = chance.choice((b"", b"", self.pool, loose))
            operation = RegisterAccount(chance.choice((loose, loose, one)), owner, custodian, tier, account_kind, upper)
            return operation, [operation.account, owner, custodian]
        if kind is Allocate:
            place = self.pool if chance.random() < 0.95 else one
            source, target = (chance.choice((b"", account("bob"), account("carol"), other)) for _ in range(2))
            return Allocate(place, source, target, asset, amount), [account("broker")]
        if kind is SetPermission:
            by = self.some("operator", "csdc")
            codes = sorted(chance.sample((1, 2, 3, 4, 5, 9, 34, 34, 37, 40, 44, 44, 44, 35), 2))
            operation = SetPermission(
                by, self.name(), chance.choice(list(Effect)), RoleNumber(chance.choice((0, 0, 6, 7, 10))),
                chance.choice((b"", b"", b"", b"", one, STRANGER)), tuple(dict.fromkeys(codes)),
                chance.choice(("", "", "DB")),
                chance.choice((b"", b"", b"", b"CSDC", b"NONE")), chance.choice((0, 50)), 0, self.moment(),
            )  # fmt: skip
            return operation, [by]
        if kind is DropPermission:
            by = self.some("operator", "csdc", "ccdc")
            return DropPermission(by, self.name()), [by]
        if kind is TrustIssuer:
            return TrustIssuer(by, self.topic(), self.some("regulator", "broker"), chance.random() < 0.7), [by]
        if kind is IssueClaim:
            by = self.some("regulator", "broker")
            value = chance.choice(("CN", "DE", "yes"))
            return IssueClaim(by, self.some(*PEOPLE, "broker"), self.topic(), value, self.moment()), [by]
        if kind is RevokeClaim:
            by = self.some("regulator", "broker")
            return RevokeClaim(by, self.some(*PEOPLE), self.topic()), [by]
        if kind is Describe:
            by = self.some("csdc", "csdc", "ccdc")
            operation = Describe(
                by, asset, chance.choice(list(Nature)), chance.choice(("DBFTFB", "ESVUFR", "XXXXXX")), "",
                chance.choice(("TICK", "T1CK", "TlCK", "OTHER", "0THER", "MORE")), "CNY",
                chance.choice((0, 10, 9_999_999)),
                0, 0, "CN",
            )  # fmt: skip
            return operation, [by, account({CASH: "icbc"}.get(asset, "issuer"))]
        if kind is SetStatus:
            by = self.some("csdc", "ccdc", "icbc")
            return SetStatus(by, asset, InstrumentStatus(chance.random() < 0.8)), [by]
        if kind is Accredit:
            return Accredit(by, self.some("issuer"), self.moment()), [by]
        if kind is SetVenue:
            return SetVenue(by, asset, self.some("sse", "sse", "alice"), chance.random() < 0.5), [by]
        if kind is SetHolderRules:
            required, refused = (("qualified",), ()) if chance.random() < 0.2 else ((), ("sanctioned",))
            countries = chance.choice(((), (), ("CN", "DE"), ("xx",)))
            number, share = chance.choice((0, 3, 4)), chance.choice((0, 0, 300_000))
            if chance.random() < 0.2:
                required = refused = countries = ()
                number = share = 0
            return SetHolderRules(by, asset, required, refused, countries, number, share), [by]
        if kind is Transfer:
            return Transfer(one, other, asset, amount), [one]
        if kind is Lock:
            return Lock(one, asset, amount, other), [one]
        if kind is Release:
            return Release(one, asset, amount, other), [other]
        issuer = account({CASH: "icbc"}.get(asset, "issuer"))
        if kind is Issue:
            return Issue(asset, one, amount), [issuer]
        return Redeem(asset, one, amount), [one, issuer]

    def step(self) -> bytes | tuple[str, bytes]:
        operation, who = self.drawn()
        names = list(dict.fromkeys(name for each in who for name in self.signers.get(each, ("alice",))))
        return operation_name(type(operation)), self.world.signed(operation, *names)

    def walk(self) -> None:
        freeze = Order(account("regulator"), account("court"), bytes(16), Power.FREEZE, party=account("carol"))
        frozen = self.world.signed([freeze], "regulator", "court")
        for number in range(STEPS // 8):
            steps = [self.step() for _ in range(8)]
            transactions = [signed for _, signed in steps]
            if number == STEPS // 16:
                transactions.append(frozen)
            at_ms = self.world.now_ms + self.chance.choice((1_000, 1_000, 1_000, 60_000))
            receipts = self.world.block(*transactions, at_ms=at_ms)
            for (name, _), receipt in zip(steps, receipts, strict=False):
                self.met[name, receipt.reason.title] += 1
            self.check()

    def check(self) -> None:
        books = self.world.books
        borne: Counter[tuple[bytes, bytes]] = Counter()
        for asset, row in books.rows(Asset):
            instrument = books.row(InstrumentRow, asset)
            is_active = instrument is None or instrument.status is InstrumentStatus.ACTIVE
            assert bool(row.flags & AssetFlag.INACTIVE) is not is_active
            assert bool(row.flags & AssetFlag.PERMISSIONED) is is_permissioned(books, asset)
            assert bool(row.flags & AssetFlag.HOLDERS) is (books.row(HolderRules, asset) is not None)
            if instrument is not None:
                borne[skeleton_key(NameKind.TICKER, instrument.ticker), asset[:12]] += 1
                borne[skeleton_key(NameKind.INSTRUMENT, row.name), asset[:12]] += 1
        for party, entry in books.rows(Party):
            borne[skeleton_key(NameKind.PARTY, entry.name), party] += 1
            if entry.lei:
                borne[skeleton_key(NameKind.LEI, entry.lei), party] += 1
        assert {(key, row.owner): row.uses for key, row in books.rows(Lookalike)} == dict(borne)
        for each in self.signers:
            account_row = self.world.books.account(each)
            assert isinstance(account_row, Account)
            assert bool(account_row.flags & AccountFlag.OMNIBUS) is is_omnibus(books, each)


BEYOND = {
    # What 20,000 holdings make expensive: test_holders.py.
    ("set_holder_rules", "holder_limit"),
}


def test_a_walk_meets_every_operation_and_every_refusal() -> None:
    walker = Walker(seed=40)
    walker.walk()
    wanted = set()
    for kind in (*PARTY_OPERATIONS, *INSTRUMENT_OPERATIONS):
        text = re.search(r"refuses +(.+?)\n\n", f"{RULES[kind].__doc__}\n\n", re.DOTALL)
        assert text is not None
        words = re.sub(r"\(where .+?\)", "", text[1], flags=re.DOTALL)
        wanted |= {(operation_name(kind), reason) for reason in ("ok", *re.findall(r"\w+", words))}
    for pair, times in sorted(walker.met.items()):
        print(f"{times:6} {' '.join(pair)}")
    missing = wanted - BEYOND - walker.met.keys()
    assert not missing, missing
