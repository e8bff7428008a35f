"""The world before, beside the ledger: the same sales of bonds from one depository's market to the other's.

*Before.* Each depository keeps a register of its own, and neither can see or write the other's. A bond that is sold in
the other market must change its custody first:

    T, trade        seller and buyer agree; the seller asks his depository to move the units
    T, 15:00        cut-off: what is asked for later (or on a day without business) is taken up on the next business day
    T, 17:00        the depository books all of the day's transfers out, and sends the other one a file
    T + 1, 09:00    the other depository books them in; the sale settles there at that moment, securities against money

Between the two bookings the units stand in neither register. All else is as good as it can be: nobody makes a mistake,
no file is lost or repaired by hand, requests are made in the second of the trade, and the sale waits for no batch of
its own. Depositories of that time are rather slower.

*The ledger.* Both depositories and two venues validate one ledger, in the seeded world of all simulations
(``world.py``): the nodes that the server runs, links with delays, disks that must sync, work that takes modelled time.
The depositories have linked their registers. The same trades are handed in at the same moments of the same days, each
as one transaction of three operations: the bond crosses, goes to the buyer, and the money goes to the seller. A trade
is settled when the client has been told that it is final.

Both ways begin with the same holdings, and at the end everybody must hold the same. Time is simulated on both sides.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import permutations
from math import ceil
from typing import Final

from p2pledger.ledger.market.links import check_registers
from p2pledger.ledger.queries import check_conservation, rows
from p2pledger.ledger.tables import Holding, Table, asset_of
from p2pledger.network.peer import Peer
from p2pledger.node.archive import Archive, Recovery
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.genesis import Genesis, Member, Register
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.market.links import AgreeLink, Cross
from p2pledger.primitives.names import AssetKind, account_named, asset_id, asset_text, register_code
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.transactions import Define, Issue, Operation, Transaction, Transfer
from p2pledger.primitives.validators import Validator
from p2pledger.sim.chance import secret_of, stream
from p2pledger.sim.clients import Client
from p2pledger.sim.links import Delay, Weather
from p2pledger.sim.market import Order
from p2pledger.sim.world import Machine, PeerLike, World

__all__ = [
    "MODELLED",
    "Baseline",
    "Before",
    "Calendar",
    "Ledger",
    "Sale",
    "compare",
    "custody_transfer",
    "one_ledger",
    "percentile",
    "sales",
]

BONDS: Final = ("CND100000017", "CND100000025", "CND100000033")
REGISTERS: Final = ("CCDC", "CSDC")
_ISSUER: Final = REGISTERS[0]
"""Of the bonds in both registers: units cross between assets of one issuer alone."""
VALIDATORS: Final = ("CCDC", "CSDC", "VENUE-A", "VENUE-B")
BROKERS: Final = tuple(f"broker-{number}" for number in range(1, 9))
CASH: Final = "CNY@ICBC"
DAYS: Final = 5
"""The trades fall into so many business days, from a Monday on."""

MODELLED: Final = (
    "Trades: bonds sold into the other depository's market, 09:30 to 16:30 of five business days from a Monday on.",
    "Before: requests up to 15:00 are booked out at 17:00 and booked in at 09:00 of the next business day.",
    "Before: a sale settles at that moment; no mistakes, no lost files, no repairs by hand. It was slower in life.",
    "Ledger: four validators run the real node code; work at modelled cost, no faults, no other load, clocks in order.",
    "Ledger: one-way delays of 20 to 30 ms between all, disk syncs of 0.4 to 1.2 ms; it ends when the client hears.",
    "Simulated time on both sides: nothing here was measured on machines.",
)
"""What both times rest on, in sentences for people."""

_UTC_OFFSET: Final = timedelta(hours=8)
_FIRST_DAY: Final = date(2026, 3, 2)
_UNITS: Final = 10**9
_FEN: Final = 10**14
_GATEWAYS: Final = 4
_LATENCY_US: Final = 20_000
_JITTER_US: Final = 10_000
_SYNC_US: Final = 800
_PATIENCE_US: Final = 60_000_000
_VALID_HEIGHTS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Sale:
    """Units of a bond held at ``source`` are sold to a buyer at ``target``. ``time_s`` is Unix time."""

    number: int
    time_s: int
    seller: str
    buyer: str
    isin: str
    source: str
    target: str
    quantity: int
    price: int
    """the money for all of it, in fen"""


@dataclass(frozen=True, slots=True)
class Calendar:
    """The business days of both depositories, and their hours, in local time."""

    holidays: frozenset[date] = frozenset()
    opening_s: int = 9 * 3_600
    cut_off_s: int = 15 * 3_600
    close_s: int = 17 * 3_600

    def is_business_day(self, day: date) -> bool:
        return day.weekday() < 5 and day not in self.holidays

    def next_business_day(self, day: date) -> date:
        day += timedelta(days=1)
        while not self.is_business_day(day):
            day += timedelta(days=1)
        return day

    def business_day_of(self, time_s: int) -> date:
        """The day on which a request is taken up; at the cut-off's second it is in time."""
        local = datetime.fromtimestamp(time_s, UTC) + _UTC_OFFSET
        second = local.hour * 3_600 + local.minute * 60 + local.second
        day = local.date()
        in_time = self.is_business_day(day) and second <= self.cut_off_s
        return day if in_time else self.next_business_day(day)

    @staticmethod
    def moment_s(day: date, second: int) -> int:
        """Unix time of a second of a day, by local time."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) - _UTC_OFFSET
        return int(midnight.timestamp()) + second


def sales(seed: int, number: int, calendar: Calendar | None = None) -> list[Sale]:
    """``number`` sales in the market hours (09:30 to 16:30) of five business days; equal seeds give equal sales."""
    chance, calendar = stream(seed, "baseline"), calendar or Calendar()
    days = [_FIRST_DAY if calendar.is_business_day(_FIRST_DAY) else calendar.next_business_day(_FIRST_DAY)]
    while len(days) < DAYS:
        days.append(calendar.next_business_day(days[-1]))
    opening_s, span_s = 9 * 3_600 + 1_800, 7 * 3_600
    times_s = sorted(
        calendar.moment_s(chance.choice(days), opening_s + chance.randrange(span_s)) for _ in range(number)
    )
    found = []
    for index, time_s in enumerate(times_s):
        seller, buyer = chance.sample(BROKERS, 2)
        source, target = chance.sample(REGISTERS, 2)
        quantity = 100 * chance.randrange(1, 51)
        price = quantity * chance.randrange(9_500, 10_500)
        found.append(Sale(index, time_s, seller, buyer, chance.choice(BONDS), source, target, quantity, price))
    return found


def _opening() -> Counter[tuple[str, str]]:
    """What everybody holds before the first sale: (asset, holder) -> units."""
    held: Counter[tuple[str, str]] = Counter()
    for broker in BROKERS:
        held[CASH, broker] = _FEN
        for isin in BONDS:
            for register in REGISTERS:
                held[f"{isin}@{register}", broker] = _UNITS
    return held


Holdings = Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Before:
    """What became of the sales in the world before. Times are in seconds from trade to settlement, in their order."""

    times_s: tuple[float, ...]
    failed: int
    """sales for which the seller had no units, or the buyer no money, when they were wanted"""
    most_in_transit: int
    """units that stood in neither register at one moment, at most"""
    longest_in_transit_s: int
    holdings: Holdings


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of the sales on one ledger. ``findings``: where its books do not add up, or its nodes differ."""

    times_s: tuple[float, ...]
    failed: int
    final_height: int
    frames: int
    findings: tuple[str, ...]
    holdings: Holdings


@dataclass(frozen=True, slots=True)
class Baseline:
    """Both worlds, side by side."""

    sales: int
    seed: int
    before: Before
    ledger: Ledger

    @property
    def same_holdings(self) -> bool:
        """Whether everybody holds the same at the end of both."""
        return self.before.holdings == self.ledger.holdings

    @property
    def times_sooner(self) -> float:
        """By how much the median time fell."""
        now_s = percentile(self.ledger.times_s, 0.5)
        return percentile(self.before.times_s, 0.5) / now_s if now_s else 0.0


def percentile(times_s: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; 0 where there are no times."""
    ordered = sorted(times_s)
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else 0.0


# The world before


class _OldRegister:
    """One depository's own register. Nobody else reads it or writes in it."""

    def __init__(self, name: str, opening: Holdings) -> None:
        self.held: Counter[tuple[str, str]] = Counter()
        for (asset, holder), units in opening.items():
            isin, _, register = asset.partition("@")
            if register == name:
                self.held[isin, holder] = units

    def book_out(self, isin: str, holder: str, units: int) -> bool:
        if self.held[isin, holder] < units:
            return False
        self.held[isin, holder] -= units
        return True

    def book_in(self, isin: str, holder: str, units: int) -> None:
        self.held[isin, holder] += units


def custody_transfer(trades: Iterable[Sale], calendar: Calendar | None = None) -> Before:
    """The sales by custody transfer between two registers at T + 1."""
    calendar, opening = calendar or Calendar(), _opening()
    registers = {name: _OldRegister(name, opening) for name in REGISTERS}
    money = Counter({holder: units for (asset, holder), units in opening.items() if asset == CASH})
    events: list[tuple[int, int, str, Sale]] = []
    """(time, rank within a second, what, sale): a day's requests, then its bookings out; bookings in come at opening"""
    for sale in trades:
        day = calendar.business_day_of(sale.time_s)
        heapq.heappush(events, (calendar.moment_s(day, calendar.close_s), sale.number, "out", sale))
    times_s: list[float] = []
    failed = in_transit = most_in_transit = longest_s = 0
    while events:
        now_s, _, what, sale = heapq.heappop(events)
        local = (datetime.fromtimestamp(now_s, UTC) + _UTC_OFFSET).date()
        if what == "out":
            if not registers[sale.source].book_out(sale.isin, sale.seller, sale.quantity):
                failed += 1
                continue
            in_transit += sale.quantity
            most_in_transit = max(most_in_transit, in_transit)
            arrival_s = calendar.moment_s(calendar.next_business_day(local), calendar.opening_s)
            longest_s = max(longest_s, arrival_s - now_s)
            heapq.heappush(events, (arrival_s, sale.number, "in", sale))
            continue
        in_transit -= sale.quantity
        target = registers[sale.target]
        target.book_in(sale.isin, sale.seller, sale.quantity)
        if money[sale.buyer] < sale.price:
            failed += 1
            continue
        target.book_out(sale.isin, sale.seller, sale.quantity)
        target.book_in(sale.isin, sale.buyer, sale.quantity)
        money[sale.buyer] -= sale.price
        money[sale.seller] += sale.price
        times_s.append(float(now_s - sale.time_s))
    held = {(CASH, holder): units for holder, units in money.items() if units}
    for name, register in registers.items():
        held |= {(f"{isin}@{name}", holder): units for (isin, holder), units in register.held.items() if units}
    return Before(tuple(times_s), failed, most_in_transit, longest_s, held)


# One ledger


class _Members:
    """Who takes part, their keys, and the orders that they sign."""

    def __init__(self, seed: int, begin_ms: int) -> None:
        names = ("CCDC", "CSDC", "ICBC", *BROKERS)
        roles = {"CCDC": ("depository", "issuer"), "CSDC": ("depository", "issuer"), "ICBC": ("bank",)}
        self.keys = {name: Keypair.from_seed(secret_of(seed, f"member {name}")) for name in names}
        self.node_keys = {name: Keypair.from_seed(secret_of(seed, f"node {name}")) for name in VALIDATORS}
        self._chance = stream(seed, "salts")
        self.genesis = Genesis(
            name=f"joint bond ledger {seed}",
            time_ms=begin_ms,
            validators=tuple(Validator(self.node_keys[name].public_key, 1, name) for name in VALIDATORS),
            members=tuple(
                Member(name, Policy.of(self.keys[name].public_key), roles.get(name, ("broker",))) for name in names
            ),
            registers=(
                Register("CCDC", "CCDC", "Interbank market depository"),
                Register("CSDC", "CSDC", "Exchange market depository"),
                Register("ICBC", "ICBC", "Cash accounts"),
            ),
            parameters=Parameters(view_timeout_ms=400, view_timeout_cap_ms=3_200),
        ).check()

    def order(self, operations: Sequence[Operation], signers: Sequence[str], valid_until: int, stage: int) -> Order:
        payer, salt = account_named(signers[0]), self._chance.randbytes(16)
        body = Transaction(self.genesis.network_id, valid_until, salt, payer, tuple(operations))
        data = body.sign(self.keys[name] for name in signers)
        return Order(data, body.id, valid_until, stage, "sale" if stage == 2 else "opening")

    def openings(self) -> Iterator[Order]:
        """Assets; then who holds what of them, and the links between the registers, both ways."""
        cash, bank = asset_id(CASH), account_named("ICBC")
        yield self.order([Define(cash, int(AssetKind.MONEY), 2, bank, "Renminbi")], ["ICBC"], _VALID_HEIGHTS, 0)
        for name in REGISTERS:
            bonds = [asset_id(f"{isin}@{name}") for isin in BONDS]
            issuer = account_named(_ISSUER)
            defined = [Define(bond, int(AssetKind.SECURITY), 0, issuer, "Government bond") for bond in bonds]
            yield self.order(defined, list(dict.fromkeys((name, _ISSUER))), _VALID_HEIGHTS, 0)
            issued = [Issue(bond, account_named(broker), _UNITS) for bond in bonds for broker in BROKERS]
            yield self.order(issued, [_ISSUER], _VALID_HEIGHTS, 1)
        yield self.order([Issue(cash, account_named(broker), _FEN) for broker in BROKERS], ["ICBC"], _VALID_HEIGHTS, 1)
        links = [
            AgreeLink(register_code(source), register_code(target), isin.encode(), 2 * len(BROKERS) * _UNITS)
            for source, target in permutations(REGISTERS)
            for isin in BONDS
        ]
        yield self.order(links, list(REGISTERS), _VALID_HEIGHTS, 1)

    def sale(self, sale: Sale, valid_until: int) -> Order:
        """The bond crosses, goes to the buyer, and the money to the seller, in one transaction."""
        seller, buyer = account_named(sale.seller), account_named(sale.buyer)
        source, target = asset_id(f"{sale.isin}@{sale.source}"), asset_id(f"{sale.isin}@{sale.target}")
        operations = (
            Cross(seller, source, target[12:], sale.quantity, sale.number.to_bytes(16, "big")),
            Transfer(seller, buyer, target, sale.quantity),
            Transfer(buyer, seller, asset_id(CASH), sale.price),
        )
        return self.order(operations, [sale.seller, sale.buyer], valid_until, 2)


class _LedgerRun:
    """The seeded world of validators, and the gateways that hand in the sales at their moments."""

    def __init__(self, trades: Sequence[Sale], seed: int) -> None:
        self._trades = trades
        begin_s = Calendar.moment_s(_FIRST_DAY, 0)
        self.members = _Members(seed, 1_000 * begin_s)
        self._begin_s = begin_s
        weather = Weather(stream(seed, "weather"), {}, Delay("uniform", _LATENCY_US, _JITTER_US))
        self.world = World(seed, self.members.genesis, weather, build=self._build)
        for name in VALIDATORS:
            self.world.add_machine(Machine(self.world, name, self.members.node_keys[name], sync_us=_SYNC_US))
        self.machines = list(self.world.machines.values())
        self.gateways = []
        for index in range(_GATEWAYS):
            nodes = self.machines[index:] + self.machines[:index]
            name, keypair = f"gateway-{index}", self.members.keys[BROKERS[index]]
            self.gateways.append(Client(self.world, name, keypair, nodes, stream(seed, "gateway", name), self._ended))
        self._opening: Counter[int] = Counter()
        self._openings: list[Order] = []
        self._handed_in_us: dict[bytes, int] = {}
        self.times_s: list[float] = []
        self.failed = 0

    def _build(self, name: str, keypair: Keypair, archive: Archive, recovery: Recovery | None) -> PeerLike:
        return Peer(self.members.genesis, keypair, name=name, archive=archive, recovery=recovery)

    def live(self) -> None:
        for machine in self.machines:
            machine.start()
        self.world.connect_all()
        self._openings = list(self.members.openings())
        self._opening.update(order.stage for order in self._openings)
        self.world.after(100_000, partial(self._open_stage, 0))
        for sale in self._trades:
            self.world.at(1_000_000 * (sale.time_s - self._begin_s), partial(self._hand_in, sale))
        last_us = max(1_000_000 * (sale.time_s - self._begin_s) for sale in self._trades)
        self.world.run_until(last_us + _PATIENCE_US)

    def _open_stage(self, stage: int) -> None:
        # Every gateway hands in something, so that each has its session before the first sale.
        wanted = [order for order in self._openings if order.stage == stage]
        for index, order in enumerate(wanted):
            self.gateways[index % _GATEWAYS].hand_in(order)

    def _hand_in(self, sale: Sale) -> None:
        height = max(machine.peer.final_height for machine in self.machines if machine.peer is not None)
        order = self.members.sale(sale, height + _VALID_HEIGHTS)
        self._handed_in_us[order.id] = self.world.now_us
        self.gateways[BROKERS.index(sale.seller) % _GATEWAYS].hand_in(order)

    def _ended(self, order: Order, code: int) -> None:
        if order.stage == 2:
            if code:
                self.failed += 1
            else:
                self.times_s.append((self.world.now_us - self._handed_in_us[order.id]) / 1e6)
        elif not code:
            self._opening[order.stage] -= 1
            if order.stage == 0 and not self._opening[0]:
                self._open_stage(1)

    def outcome(self) -> Ledger:
        """What became of it, read from the nodes and checked."""
        peers = [machine.peer for machine in self.machines if machine.peer is not None]
        findings = [f"{kind} at {where}: {what}" for kind, where, what in self.world.evidence.breaches]
        if len(peers) < len(self.machines):
            findings.append("a node has stopped")
        if len({(peer.final_height, peer.final_version.root()) for peer in peers}) != 1:
            findings.append("the nodes do not stand at one height with one state root")
        version = peers[0].final_version
        findings += [
            f"{asset_text(finding.asset)}: {finding.what}, {finding.expected} expected and {finding.found} found"
            for finding in (*check_conservation(version), *check_registers(version))
        ]
        unfinished = len(self._trades) - len(self.times_s) - self.failed
        if unfinished or any(self._opening.values()):
            findings.append(f"{unfinished} sales without an outcome")
        names = {account_named(name): name for name in self.members.keys}
        held = {}
        for key, data in rows(version, Table.HOLDINGS):
            account, units = key[16:], Holding.decode(data).total
            held[asset_text(asset_of(key)), names.get(account, account.hex())] = units
        return Ledger(tuple(self.times_s), self.failed, peers[0].final_height, self.world.frames, tuple(findings), held)


def one_ledger(trades: Sequence[Sale], seed: int) -> Ledger:
    """The same sales on one ledger, each handed in at its own moment."""
    run = _LedgerRun(trades, seed)
    run.live()
    return run.outcome()


def compare(seed: int, number: int) -> Baseline:
    """``number`` sales both ways. InvalidInput where there are none."""
    if number < 1:
        raise InvalidInput("a comparison needs at least one trade", code="usage")
    trades = sales(seed, number)
    return Baseline(number, seed, custody_transfer(trades), one_ledger(trades, seed))
