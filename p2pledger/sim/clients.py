"""Clients: they hand in orders, wait to hear that they are final, and do not trust any one node.

A client holds a session with one node. When the session ends, or an order waits for longer than its patience, it goes
to the next node and hands in again, with the very same bytes, whatever has not come to an end; the ledger makes sure
that nothing happens twice. An order has come to an end when a node said so: by a final outcome, or by a refusal.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from p2pledger.network.effects import CLIENT, Identity
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import Follow, Progress, Settled, Submit, Submitted, decode_message
from p2pledger.primitives.reasons import Reason
from p2pledger.sim.evidence import Notice, ProgressNotice
from p2pledger.sim.market import Order
from p2pledger.sim.world import Machine, World

__all__ = ["Client"]

_PATIENCE_US: Final = 2_500_000
_KEPT: Final = (Reason.OK, Reason.ALREADY_PENDING, Reason.DUPLICATE)
_LATER: Final = (Reason.BUSY, Reason.NOT_READY)


@dataclass(slots=True)
class _Standing:
    order: Order
    since_us: int
    where: str = "not handed in"


@dataclass(slots=True, eq=False)
class Client:
    """One customer of the network. ``ended`` is called for each order that comes to an end, with its code."""

    world: World
    name: str
    keypair: Keypair
    nodes: list[Machine]
    chance: random.Random
    ended: Callable[[Order, int], None]
    follows: bool = False
    """Whether it wants to hear of its orders before they are final."""
    patience_us: int = _PATIENCE_US
    outcomes: dict[str, int] = field(default_factory=dict)
    """reason -> number of orders that ended so"""
    _at: int = 0
    _session: int | None = None
    _is_dialling: bool = False
    _is_watching: bool = False
    _request: int = 0
    _requests: dict[int, tuple[Order, ...]] = field(default_factory=dict)
    _open: dict[bytes, _Standing] = field(default_factory=dict)

    @property
    def node(self) -> Machine:
        return self.nodes[self._at % len(self.nodes)]

    @property
    def waiting(self) -> list[tuple[bytes, str]]:
        """(id, where it stands) of the orders that have not come to an end."""
        return [(name, standing.where) for name, standing in self._open.items()]

    def hand_in(self, order: Order) -> None:
        """An order for the ledger, now."""
        if order.has_end:
            self._open.setdefault(order.id, _Standing(order, self.world.now_us))
            self._watch()
        if self._session is None:
            self._dial(0)
        else:
            self._submit((order,))

    # Sessions

    def _dial(self, delay_us: int) -> None:
        if self._is_dialling:
            return
        self._is_dialling = True
        identity = Identity(self.keypair.public_key, CLIENT, self.name)
        self.world.after(delay_us, lambda: self.world.dial(self, identity, self.node))

    def session_opened(self, session: int, identity: Identity) -> None:
        self._is_dialling = False
        self._session = session
        self.world.trace.record(self.world.now_us, self.name, "opened", session, identity.name.encode())
        connection = self.world.connection_of(self)
        if self.follows and connection is not None:
            self.world.send(connection, self, Follow(True).encode(), bulk=False)
        if self._open:
            self._submit(tuple(standing.order for standing in self._open.values()))

    def session_closed(self, session: int) -> None:
        """``session`` 0: nobody answered. A number not heard of before: it ended while it was being opened."""
        if session != self._session and not self._is_dialling:
            return
        self.world.trace.record(self.world.now_us, self.name, "closed", session)
        self._session = None
        self._is_dialling = False
        self._requests.clear()
        self._at += 1
        if self._open:
            self._dial(50_000 + self.chance.randrange(200_000))

    # Orders

    def _submit(self, orders: tuple[Order, ...]) -> None:
        connection = self.world.connection_of(self)
        if connection is None:
            return
        self._request += 1
        self._requests[self._request] = orders
        session = connection.numbers[connection.side_of(self)]
        self.world.evidence.asked.update((self.name, session, order.id) for order in orders if order.has_end)
        payload = Submit(self._request, tuple(order.data for order in orders)).encode()
        self.world.send(connection, self, payload, bulk=False)

    def frame_arrived(self, session: int, payload: bytes) -> None:
        self.world.trace.record(self.world.now_us, self.name, "received", session, payload)
        match decode_message(payload):
            case Submitted(request, codes, retry_after_ms):
                orders = self._requests.pop(request, ())
                later = []
                for order, code in zip(orders, codes, strict=True):
                    if code in _KEPT:
                        self._stands(order, f"kept by {self.node.name}")
                    elif code in _LATER:
                        self._stands(order, f"put off by {self.node.name}")
                        later.append(order)
                    else:
                        self._end(order, code)
                if later:
                    self.world.after(retry_after_ms * 1_000, lambda: self._submit_again(session, tuple(later)))
            case Settled(height, _, ids, codes):
                for index in range(len(codes) // 4):
                    name, outcome = ids[32 * index : 32 * index + 32], codes[4 * index : 4 * index + 4]
                    code, operation = int.from_bytes(outcome[:2], "big"), int.from_bytes(outcome[2:], "big")
                    self._hear(session, height, name, code, operation)

            case Progress(status, height, _, ids, codes):
                node = self.node
                for index in range(len(codes) // 4 if node.is_honest else 0):
                    name, outcome = ids[32 * index : 32 * index + 32], codes[4 * index : 4 * index + 4]
                    self.world.evidence.progress.append(
                        ProgressNotice(
                            self.world.now_us, node.name, self.name, session, name, int(status), height, outcome
                        )
                    )

    def _submit_again(self, session: int, orders: tuple[Order, ...]) -> None:
        if self._session == session:
            self._submit(tuple(order for order in orders if order.id in self._open))

    def _stands(self, order: Order, where: str) -> None:
        standing = self._open.get(order.id)
        if standing is not None:
            standing.where = where

    def _hear(self, session: int, height: int, name: bytes, code: int, operation: int) -> None:
        node = self.node
        if node.is_honest:
            self.world.evidence.notices.append(
                Notice(self.world.now_us, node.name, self.name, session, name, height, code, operation)
            )
        standing = self._open.get(name)
        if standing is not None:
            self._end(standing.order, code)

    def _end(self, order: Order, code: int) -> None:
        if order.has_end and self._open.pop(order.id, None) is None:
            return
        title = Reason(code).title
        self.outcomes[title] = self.outcomes.get(title, 0) + 1
        self.ended(order, code)

    # Patience

    def _watch(self) -> None:
        if not self._is_watching:
            self._is_watching = True
            self.world.after(self.patience_us, self._look)

    def _look(self) -> None:
        self._is_watching = False
        if not self._open:
            return
        self._watch()
        overdue = [s for s in self._open.values() if self.world.now_us - s.since_us >= self.patience_us]
        if not overdue:
            return
        for standing in overdue:
            standing.since_us = self.world.now_us
        connection = self.world.connection_of(self)
        if connection is not None:
            self.world.close(connection)
        elif self._session is None:
            self._dial(0)
