"""The market of a world: who is there, and the seeded orders that clients hand in.

A depository keeps bonds, a bank keeps money, brokers trade. The first orders define both assets and issue them to the
brokers; each stage waits until the one before is final. Then come transfers, trades, locks, redemptions and new
accounts, mixed with what goes wrong in life: overdrafts, missing signatures, expired orders, orders for another
network, broken signatures, garbage, and the same order handed in twice or at two nodes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from p2pledger.primitives.genesis import Genesis, Member, Register
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.names import account_named, asset_id
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.transactions import (
    Define,
    Issue,
    Lock,
    Open,
    Operation,
    Redeem,
    Release,
    Transaction,
    Transfer,
    delivery_versus_payment,
)
from p2pledger.primitives.validators import Validator
from p2pledger.sim.chance import secret_of

__all__ = ["BROKERS", "Market", "Order"]

BROKERS: Final = 4
BOND: Final = asset_id("DE0001102531@CSDC")
CASH: Final = asset_id("EUR@BANK")
_TIME_MS: Final = 1_700_000_000_000
_FAR: Final = 5_000


@dataclass(frozen=True, slots=True)
class Order:
    """Bytes for a node. ``stage`` 0 defines, 1 issues, 2 trades. Garbage has no ``id`` and no end to wait for."""

    data: bytes
    id: bytes
    valid_until: int
    stage: int
    kind: str

    @property
    def has_end(self) -> bool:
        return bool(self.id)


class Market:
    """Members and their keys, the genesis, and a stream of orders."""

    def __init__(
        self,
        seed: int,
        validators: int,
        chance: random.Random,
        *,
        engine: str = "simplex",
        profile: str = "consortium",
        slot_ms: int = 1_000,
        depth: int = 16,
    ) -> None:
        self._chance = chance
        self.brokers = [f"broker-{index}" for index in range(BROKERS)]
        names = ["depository", "bank", *self.brokers]
        self.keys = {name: Keypair.from_seed(secret_of(seed, name)) for name in names}
        self.node_names = [f"node-{index}" for index in range(validators)]
        self.node_keys = {name: Keypair.from_seed(secret_of(seed, name)) for name in self.node_names}
        roles = {"depository": ("depository", "issuer"), "bank": ("bank",)}
        self.genesis = Genesis(
            name=f"world-{seed}",
            time_ms=_TIME_MS,
            validators=tuple(Validator(self.node_keys[name].public_key, 1, name) for name in self.node_names),
            members=tuple(
                Member(name, Policy.of(self.keys[name].public_key), roles.get(name, ("broker",))) for name in names
            ),
            registers=(Register("CSDC", "depository", "Bonds"), Register("BANK", "bank", "Money")),
            parameters=Parameters(view_timeout_ms=400, view_timeout_cap_ms=3_200, drop_after_ms=30_000),
        ).check()
        self._accounts = {name: account_named(name) for name in names}
        self._made: list[Order] = []

    def _order(
        self,
        payer: str,
        signers: Sequence[str],
        operations: Sequence[Operation],
        *,
        stage: int,
        kind: str,
        until: int = _FAR,
    ) -> Order:
        transaction = Transaction(
            self.genesis.network_id,
            until,
            self._chance.randbytes(16),
            self._accounts[payer],
            tuple(operations),
        )
        data = transaction.sign(self.keys[name] for name in signers)
        order = Order(data, transaction.id, until, stage, kind)
        self._made.append(order)
        return order

    def openings(self) -> list[Order]:
        """The orders that must be final before anybody trades."""
        depository, bank = self._accounts["depository"], self._accounts["bank"]
        define_bond = Define(BOND, 0, 0, depository, "Bond of 2020")
        define_cash = Define(CASH, 1, 2, bank, "Euro")
        bonds = [Issue(BOND, self._accounts[name], 1_000) for name in self.brokers]
        money = [Issue(CASH, self._accounts[name], 500_000) for name in self.brokers]
        return [
            self._order("depository", ["depository"], [define_bond], stage=0, kind="define"),
            self._order("bank", ["bank"], [define_cash], stage=0, kind="define"),
            self._order("depository", ["depository"], bonds, stage=1, kind="issue"),
            self._order("bank", ["bank"], money, stage=1, kind="issue"),
        ]

    def order(self) -> Order:
        """One more order, drawn from the stream."""
        chance = self._chance
        one, other = chance.sample(self.brokers, 2)
        source, target = self._accounts[one], self._accounts[other]
        amount = 1 + chance.randrange(60)
        draw = chance.randrange(100)
        if draw < 35:
            moves = [Transfer(source, target, CASH, amount * 100)]
            return self._order(one, [one], moves, stage=2, kind="transfer")
        if draw < 65:
            trade = delivery_versus_payment(
                seller=source, buyer=target, security=BOND, quantity=amount, money=CASH, price=amount * 997
            )
            return self._order(one, [one, other], trade, stage=2, kind="trade")
        if draw < 71:
            return self._order(one, [one], [Lock(source, BOND, amount, target)], stage=2, kind="lock")
        if draw < 75:
            return self._order(one, [one], [Release(target, BOND, amount, source)], stage=2, kind="release")
        if draw < 78:
            moves_out = [Redeem(BOND, source, amount)]
            return self._order("depository", ["depository", one], moves_out, stage=2, kind="redeem")
        if draw < 80:
            opened = Open(source, chance.randbytes(16), Policy.of(self.keys[one].public_key))
            return self._order(one, [one], [opened], stage=2, kind="open")
        if draw < 85:
            return self._order(one, [one], [Transfer(source, target, BOND, 10**9)], stage=2, kind="overdraft")
        if draw < 88:
            return self._order(one, [one], [Transfer(target, source, CASH, amount)], stage=2, kind="unauthorised")
        if draw < 91:
            moves = [Transfer(source, target, CASH, amount)]
            return self._order(one, [one], moves, stage=2, kind="expired", until=chance.randrange(1, 6))
        if draw < 93:
            moves = [Transfer(source, target, CASH, amount)]
            return self._order(one, [one], moves, stage=2, kind="too far ahead", until=2**40)
        if draw < 97:
            return chance.choice(self._made)
        return self._garbage(one, target)

    def _garbage(self, one: str, target: bytes) -> Order:
        chance = self._chance
        transaction = Transaction(
            self.genesis.network_id,
            _FAR,
            chance.randbytes(16),
            self._accounts[one],
            (Transfer(target, target, CASH, 1),),
        )
        data = transaction.sign([self.keys[one]])
        match chance.randrange(3):
            case 0:
                data = data[: chance.randrange(1, len(data))]
            case 1:
                data = data[:-1] + bytes([data[-1] ^ 1])
            case _:
                data = replace(transaction, network_id=b"elsewher").sign([self.keys[one]])
        return Order(data, b"", 0, 2, "garbage")
