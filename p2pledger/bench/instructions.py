"""The workload *thousand-leg*: instructions of a thousand legs, each settled by one operation.

What is measured is the settlement alone. Before the window the instructions are entered in parts, and affirmed by all
sixteen brokers; each leg gives a little of one security, or of money, from one of them to another. An order is the one
operation that locks and settles an instruction: a thousand transfers that happen together or not at all.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from p2pledger.bench.progress import Progress
from p2pledger.bench.workloads import BROKERS
from p2pledger.cluster.local import Cluster
from p2pledger.cluster.settle import settle
from p2pledger.load.orders import Order
from p2pledger.load.trades import Trade, World
from p2pledger.primitives.errors import P2PLedgerError
from p2pledger.primitives.market.instructions import (
    AddLegs,
    Affirm,
    Instruct,
    Leg,
    Origin,
    Settle,
    legs_digest,
    terms_digest,
)
from p2pledger.primitives.names import account_named, asset_id
from p2pledger.primitives.transactions import Operation, Transaction

__all__ = ["LEGS", "ThousandLegs"]

LEGS: Final = 1_000
_PART: Final = 500
_DAY_MS: Final = 86_400_000
_WITHIN_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An instruction that everybody has affirmed, and what it moves."""

    id: bytes
    trades: tuple[Trade, ...]


class ThousandLegs:
    """``count`` instructions over a world that is open already."""

    def __init__(self, cluster: Cluster, world: World, count: int, seed: int) -> None:
        self._cluster = cluster
        self._world = world
        self._count = count
        self._seed = seed
        self._salts = iter(range(2**62))
        self._valid_until = 0
        self._prepared: list[_Prepared] = []

    async def prepare(self, progress: Progress) -> None:
        """Enters and affirms all of them. P2PLedgerError where the ledger refuses one: that is a bug of this file."""
        async with self._cluster.connect() as client:
            head = await client.status()
            self._valid_until = head.final_height + self._cluster.genesis.parameters.replay_window * 9 // 10
            day = int(time.time() * 1_000) // _DAY_MS
            for number in range(self._count):
                progress.say(f"entering instruction {number + 1} of {self._count}")
                transactions, prepared = self._entered(number, day)
                for transaction in transactions:
                    [outcome] = await settle(client, [transaction], timeout_s=_WITHIN_S)
                    if outcome.code:
                        why = f"reason {outcome.code}"
                        raise P2PLedgerError(f"instruction {number} was not entered", why=why, code="run_failed")
                self._prepared.append(prepared)

    def orders(self) -> Iterator[Order]:
        """One for each instruction: the operation that settles it."""
        for number, prepared in enumerate(self._prepared):
            by = BROKERS[number % len(BROKERS)]
            data, identifier = self._signed((Settle(prepared.id, account_named(by)),), by)
            yield Order(prepared.trades[0], identifier, self._valid_until, data, prepared.trades[1:])

    def _entered(self, number: int, day: int) -> tuple[list[bytes], _Prepared]:
        dice = random.Random(f"p2pledger bench thousand-leg {self._seed} {number}")
        assets = [item.asset(register) for item in self._world.instruments for register in item.registers]
        assets.append(self._world.moneys[0][0])
        trades = []
        for leg in range(LEGS):
            giver, taker = dice.sample(BROKERS, 2)
            asset = dice.choice(assets)
            trades.append(Trade(LEGS * number + leg, giver, taker, asset, asset, dice.randint(1, 100), assets[-1], 0))
        legs = [
            Leg(account_named(trade.seller), account_named(trade.buyer), asset_id(trade.source), trade.quantity)
            for trade in trades
        ]
        maker = BROKERS[number % len(BROKERS)]
        by = account_named(maker)
        salt = sha256(f"instruction {self._seed} {number}".encode()).digest()[:16]
        first = Instruct(by, salt, Origin.PARTY, b"", f"bench {number}", day, day, "", 0, LEGS, tuple(legs[:_PART]))
        parts: list[tuple[Operation, ...]] = [(first,)]
        for at in range(_PART, LEGS, _PART):
            parts.append((AddLegs(first.id, by, at, tuple(legs[at : at + _PART])),))
        digest = legs_digest(legs, terms_digest(day, day, ""))
        transactions = [self._signed(part, maker)[0] for part in parts]
        affirmations = tuple(Affirm(first.id, account_named(name), digest) for name in BROKERS)
        transactions.append(self._signed(affirmations, *BROKERS)[0])
        return transactions, _Prepared(first.id, tuple(trades))

    def _signed(self, operations: Sequence[Operation], *signers: str) -> tuple[bytes, bytes]:
        """The bytes of a transaction, and its id."""
        transaction = Transaction(
            self._cluster.genesis.network_id,
            self._valid_until,
            next(self._salts).to_bytes(16, "big"),
            account_named(signers[0]),
            tuple(operations),
        )
        return transaction.sign(self._cluster.consortium.member_keys[name] for name in signers), transaction.id
