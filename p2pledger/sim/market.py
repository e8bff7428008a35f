"""The market of a world: who is there, and the seeded orders that clients hand in.

A depository keeps bonds, a bank keeps money, brokers trade. The first orders define both assets and issue them to the
brokers; each stage waits until the one before is final. Then come transfers, trades, locks, redemptions and new
accounts, mixed with what goes wrong in life: overdrafts, missing signatures, expired orders, orders for another
network, broken signatures, garbage, and the same order handed in twice or at two nodes. Where there is native money,
members pay and stake it besides. Standing offers, where a world has some, are taken by nobody: they expire, which is
work that the ledger does by itself.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from p2pledger.ledger.elections.pos import SLOTS_PER_BLOCK
from p2pledger.primitives.genesis import Genesis, Member, Money, Register, Stake
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.market.offers import PlaceOffer
from p2pledger.primitives.names import account_named, account_of_key, asset_id
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.transactions import (
    Define,
    Issue,
    Lock,
    Open,
    Operation,
    Pay,
    Redeem,
    Release,
    Transaction,
    Transfer,
    Unstake,
    delivery_versus_payment,
)
from p2pledger.primitives.transactions import Stake as StakeMoney
from p2pledger.primitives.validators import Validator
from p2pledger.sim.chance import secret_of

__all__ = ["BROKERS", "DIFFICULTY", "Market", "Order"]

BROKERS: Final = 4
DIFFICULTY: Final = 256
"""Hashes for a first block of proof of work: few, for they are really searched."""
_MONEY: Final = 1_000_000_000
_STAKE: Final = 1_000_000
_STAKES_OF_ONE: Final = 4
_MOST_FEE: Final = 10_000
_EPOCH_BLOCKS: Final = 40
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
        interval_ms: int = 1_000,
        depth: int = 16,
    ) -> None:
        """``interval_ms``: how often a block of a chain engine should come; ``depth``: its ``finality_depth``."""
        self._chance = chance
        self._engine = engine
        self._profile = profile
        self.brokers = [f"broker-{index}" for index in range(BROKERS)]
        names = ["depository", "bank", *self.brokers]
        self.keys = {name: Keypair.from_seed(secret_of(seed, name)) for name in names}
        self.node_names = [f"node-{index}" for index in range(validators)]
        self.node_keys = {name: Keypair.from_seed(secret_of(seed, name)) for name in self.node_names}
        roles = {"depository": ("depository", "issuer"), "bank": ("bank",)}
        keys = [self.node_keys[name].public_key for name in self.node_names]
        self._has_money = engine != "simplex" or profile == "public"
        self.genesis = Genesis(
            name=f"world-{seed}",
            profile=profile,
            engine=engine,
            time_ms=_TIME_MS,
            validators=tuple(Validator(self.node_keys[name].public_key, 1, name) for name in self.node_names),
            members=tuple(
                Member(name, Policy.of(self.keys[name].public_key), roles.get(name, ("broker",))) for name in names
            ),
            registers=(Register("CSDC", "depository", "Bonds"), Register("BANK", "bank", "Money")),
            parameters=self._parameters(validators, interval_ms, depth),
            money=tuple(Money(account_named(name), _MONEY) for name in names) if self._has_money else (),
            stakes=tuple(
                Stake(account_of_key(key), _STAKE, key)
                for key in keys
                for _ in range({"pos": _STAKES_OF_ONE, "dpos": 1}.get(engine, 0))
            ),
        ).check()
        self._accounts = {name: account_named(name) for name in names}
        self._made: list[Order] = []
        self._staked: list[tuple[str, bytes]] = []

    def _parameters(self, validators: int, interval_ms: int, depth: int) -> Parameters:
        # Epochs are short: whoever is convicted is to be out before a world ends.
        parameters = Parameters(
            view_timeout_ms=400, view_timeout_cap_ms=3_200, drop_after_ms=30_000, epoch_blocks=_EPOCH_BLOCKS
        )
        if self._engine != "simplex":
            parameters = replace(
                parameters,
                slot_ms=interval_ms // SLOTS_PER_BLOCK if self._engine == "pos" else interval_ms,
                finality_depth=depth,
                delegates=validators,
                epoch_rounds=2,
                initial_difficulty=DIFFICULTY,
                coin_age_cap=100,
                modifier_depth=3,
            )
        if self._profile == "public":
            parameters = replace(parameters, least_fee=2, block_reward=50, halving_blocks=20)
        return parameters

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
            _MOST_FEE if self._profile == "public" else 0,
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
        if self._has_money and not chance.randrange(10):
            return self._native(one, source, target, amount)
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

    def offer(self, world_ms: int, chance: random.Random) -> Order:
        """A standing offer that expires soon after this time of the world; now and then, before it gets anywhere."""
        broker, salt = chance.choice(self.brokers), chance.randbytes(16)
        expires_ms = _TIME_MS + world_ms + chance.choice((-50, 100, 700, 2_000, 2_000, 5_000))
        gives, takes = (BOND, CASH) if chance.randrange(2) else (CASH, BOND)
        amount, lots = chance.choice((1, 20, 400)), chance.choice((1, 3))
        offered = PlaceOffer(self._accounts[broker], salt, gives, amount, takes, 7, lots, expires_ms, b"")
        return self._order(broker, [broker], [offered], stage=2, kind="offer")

    def _native(self, one: str, source: bytes, target: bytes, amount: int) -> Order:
        """Paying, staking and taking back native money."""
        chance = self._chance
        operation: Operation
        match chance.randrange(4):
            case 0:
                salt = chance.randbytes(16)
                node = self.node_keys[chance.choice(self.node_names)]
                operation = StakeMoney(source, amount * 1_000, salt, node.public_key)
                self._staked.append((one, operation.id))
            case 1 if self._staked:
                one, stake = chance.choice(self._staked)
                source = self._accounts[one]
                operation = Unstake(source, stake)
            case _:
                operation = Pay(source, target, amount if chance.randrange(5) else 2 * _MONEY)
        return self._order(one, [one], [operation], stage=2, kind="native")

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
