"""One workload under every engine: the engine decides who writes the blocks, never who holds what.

A seed gives the same trades to five networks that differ only in the engine of their genesis. No trade can fail: every
broker has more of both assets than it can ever give away. Then the holdings at the end do not depend on the order of
the trades, and so neither does the root over the securities tables (``ledger/securities.py``), though native money,
rewards, stakes, replay memory and the rows of the engines differ. They are compared with each other, and with a recount
that adds up the trades and knows no ledger.

The worlds are those of all simulations, judged by the same checkers, here without faults.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from p2pledger.ledger.queries import rows
from p2pledger.ledger.securities import securities_root
from p2pledger.ledger.tables import Holding, Table, asset_of
from p2pledger.network.peer import Peer
from p2pledger.primitives.names import account_named, asset_text
from p2pledger.primitives.transactions import Define, Issue, delivery_versus_payment
from p2pledger.sim.chance import stream
from p2pledger.sim.checkers import judge
from p2pledger.sim.evidence import Violation
from p2pledger.sim.market import BOND, BROKERS, CASH, Market, Order
from p2pledger.sim.run import Run
from p2pledger.sim.scenario import Scenario

__all__ = ["EngineRun", "Holdings", "Trade", "recount", "run_engine", "trades"]

_VALIDATORS: Final = 4
_LATENCY_US: Final = 20_000
_INTERVAL_MS: Final = 1_000
_DEPTH: Final = 6
_TRADES_PER_S: Final = 500
_OPENING_S: Final = 2
_OPENING_S_OF_CHAINS: Final = 25
_BOND_UNITS: Final = 10**9
_CENTS: Final = 10**13

Holdings = Mapping[tuple[str, str], int]
"""(asset, member) -> units, without zeros"""


@dataclass(frozen=True, slots=True)
class Trade:
    """Delivery versus payment between two brokers. ``price`` is the money for all of it."""

    seller: str
    buyer: str
    quantity: int
    price: int


@dataclass(frozen=True, slots=True)
class EngineRun:
    """What became of the workload under one engine. ``root`` is empty where the nodes do not agree on one."""

    engine: str
    root: str
    holdings: Holdings
    settled: int
    """Trades that are final and were carried out."""
    final_height: int
    simulated_s: float
    seconds: float
    violations: tuple[Violation, ...]


def trades(seed: int, number: int) -> Iterator[Trade]:
    """``number`` trades; equal seeds give equal trades."""
    chance = stream(seed, "workload")
    brokers = [f"broker-{index}" for index in range(BROKERS)]
    for _ in range(number):
        seller, buyer = chance.sample(brokers, 2)
        yield Trade(seller, buyer, 1 + chance.randrange(1_000), 1 + chance.randrange(1_000_000))


def recount(seed: int, number: int) -> Holdings:
    """What everybody holds after those trades, by adding up."""
    held: Counter[tuple[str, str]] = Counter()
    for broker in (f"broker-{index}" for index in range(BROKERS)):
        held[asset_text(BOND), broker], held[asset_text(CASH), broker] = _BOND_UNITS, _CENTS
    for trade in trades(seed, number):
        held[asset_text(BOND), trade.seller] -= trade.quantity
        held[asset_text(BOND), trade.buyer] += trade.quantity
        held[asset_text(CASH), trade.buyer] -= trade.price
        held[asset_text(CASH), trade.seller] += trade.price
    return dict(held)


class _Workload(Market):
    """The members of every simulated market, with the trades above instead of orders drawn by chance."""

    def __init__(self, seed: int, engine: str, number: int) -> None:
        chance = stream(seed, "market")
        super().__init__(seed, _VALIDATORS, chance, engine=engine, interval_ms=_INTERVAL_MS, depth=_DEPTH)
        self._trades = trades(seed, number)

    def openings(self) -> list[Order]:
        depository, bank = account_named("depository"), account_named("bank")
        bonds = [Issue(BOND, account_named(name), _BOND_UNITS) for name in self.brokers]
        money = [Issue(CASH, account_named(name), _CENTS) for name in self.brokers]
        define_bond, define_cash = Define(BOND, 0, 0, depository, "Bond of 2020"), Define(CASH, 1, 2, bank, "Euro")
        return [
            self._order("depository", ["depository"], [define_bond], stage=0, kind="define"),
            self._order("bank", ["bank"], [define_cash], stage=0, kind="define"),
            self._order("depository", ["depository"], bonds, stage=1, kind="issue"),
            self._order("bank", ["bank"], money, stage=1, kind="issue"),
        ]

    def order(self) -> Order:
        trade = next(self._trades)
        operations = delivery_versus_payment(
            seller=account_named(trade.seller),
            buyer=account_named(trade.buyer),
            security=BOND,
            quantity=trade.quantity,
            money=CASH,
            price=trade.price,
        )
        return self._order(trade.seller, [trade.seller, trade.buyer], operations, stage=2, kind="trade")


def run_engine(engine: str, seed: int, number: int) -> EngineRun:
    """The workload in a world under one engine."""
    began_s = time.perf_counter()
    is_chain = engine != "simplex"
    opening_s = _OPENING_S_OF_CHAINS if is_chain else _OPENING_S
    scenario = Scenario(
        seed=seed,
        duration_us=1_000_000 * (opening_s + -(-number // _TRADES_PER_S)),
        validators=_VALIDATORS,
        latency_us=_LATENCY_US,
        jitter_us=_LATENCY_US // 4,
        skew_ms=(0,),
        sync_us=800,
        villains=(),
        faults=(),
        orders=number,
        clients=BROKERS,
        engine=engine,
        interval_ms=_INTERVAL_MS,
        depth=_DEPTH,
        idle_s=0,
        bound_s=240,
    )
    run = Run(scenario, market=_Workload(seed, engine, number))
    evidence = run.live()
    violations = tuple(judge(evidence))
    names = {account_named(name): name for name in run.market.keys}
    peers = [machine.peer for machine in run.honest if isinstance(machine.peer, Peer)]
    roots = {securities_root(peer.final_version).hex() for peer in peers}
    held: dict[tuple[str, str], int] = {}
    for key, data in rows(peers[0].final_version, Table.HOLDINGS) if peers else ():
        row, account = Holding.decode(data), key[len(key) - 32 :]
        if row.total:
            held[asset_text(asset_of(key)), names.get(account, account.hex())] = row.total
    succeeded = sum(client.outcomes.get("ok", 0) for client in run.clients)
    return EngineRun(
        engine,
        roots.pop() if len(roots) == 1 and len(peers) == _VALIDATORS else "",
        held,
        succeeded - len(run.market.openings()),
        max(evidence.heights.values(), default=0),
        run.world.now_us / 1e6,
        round(time.perf_counter() - began_s, 3),
        violations,
    )
