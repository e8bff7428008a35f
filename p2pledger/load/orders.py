"""What is signed for a trade: one transaction with all its legs, by everybody whose holdings it touches."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from p2pledger.cluster.consortium import Consortium
from p2pledger.load.trades import Trade
from p2pledger.primitives.market.links import Cross
from p2pledger.primitives.names import asset_id
from p2pledger.primitives.transactions import (
    Operation,
    SignedTransaction,
    Transaction,
    Transfer,
    delivery_versus_payment,
)

__all__ = ["Order", "OrderDesk"]


@dataclass(frozen=True, slots=True)
class Order:
    """A signed transaction, ready to be sent."""

    trade: Trade
    id: bytes
    valid_until: int
    data: bytes
    more: tuple[Trade, ...] = ()
    """What it settles beside ``trade``, together with it or not at all."""


class OrderDesk:
    """Signs trades with the members' keys."""

    def __init__(self, consortium: Consortium, seed: int) -> None:
        self._network_id = consortium.genesis.network_id
        self._keys = dict(consortium.member_keys)
        self._accounts = {name: consortium.account(name) for name in self._keys}
        self._assets: dict[str, bytes] = {}
        self._least_fee = consortium.genesis.parameters.least_fee
        self._seed = seed

    def _asset(self, text: str) -> bytes:
        if (asset := self._assets.get(text)) is None:
            asset = self._assets[text] = asset_id(text)
        return asset

    def sign(self, trade: Trade, valid_until: int) -> Order:
        """The order of a trade; the same trade and ``valid_until`` give the same identifier."""
        seller, buyer = self._accounts[trade.seller], self._accounts[trade.buyer]
        signers = {trade.seller, trade.buyer}
        operations: tuple[Operation, ...]
        if trade.is_cross:
            source, target = self._asset(trade.source), self._asset(trade.target)
            # A trade that is signed again, for other heights, is another crossing.
            crossing = sha256(f"{self._seed}/{trade.number}/{valid_until}".encode()).digest()[:16]
            operations = (
                Cross(seller, source, target[12:], trade.quantity, crossing),
                Transfer(seller, buyer, target, trade.quantity),
                Transfer(buyer, seller, self._asset(trade.money), trade.price),
            )
        elif not trade.price:
            operations = (Transfer(seller, buyer, self._asset(trade.source), trade.quantity),)
            signers = {trade.seller}
        else:
            operations = tuple(
                delivery_versus_payment(
                    seller=seller,
                    buyer=buyer,
                    security=self._asset(trade.source),
                    quantity=trade.quantity,
                    money=self._asset(trade.money),
                    price=trade.price,
                )
            )
        salt = sha256(f"{self._seed}/{trade.number}".encode()).digest()[:16]
        payer = buyer if trade.price else seller
        fee = self._least_fee * len(operations)
        transaction = Transaction(self._network_id, valid_until, salt, payer, operations, fee)
        data = transaction.sign(self._keys[name] for name in signers)
        return Order(trade, transaction.id, valid_until, data)

    def check(self, order: Order) -> bool:
        """Whether the bytes say what the order says: for tests."""
        return SignedTransaction.decode(order.data).id == order.id
