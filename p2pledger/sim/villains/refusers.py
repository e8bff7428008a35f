"""Villains who do less than they ought to."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final

from p2pledger.network.effects import Effect, Received, Send
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import (
    BatchMessage,
    BlockMessage,
    Branch,
    Chain,
    ProposalMessage,
    VoteMessage,
    decode_message,
)
from p2pledger.primitives.votes import Vote, VoteKind
from p2pledger.sim.villains.base import Villain
from p2pledger.sim.world import PeerLike

__all__ = ["Nuller", "Silent", "Withholder"]


class Silent(Villain):
    """Hears everything and says nothing to other validators."""

    def answer(self, send: Send) -> Iterable[Effect]:
        return ()


class Withholder(Villain):
    """Votes and proposes, but keeps its data to itself and answers no question for any."""

    _KEPT: Final = (BatchMessage, Chain, Branch)

    def answer(self, send: Send) -> Iterable[Effect]:
        message = decode_message(send.payload)
        if isinstance(message, self._KEPT) or (isinstance(message, BlockMessage) and self.genesis.engine == "simplex"):
            return ()
        return (send,)


class Nuller(Villain):
    """Wants every view to end without a block: it proposes nothing, agrees to nothing, and nullifies at once."""

    def __init__(self, inner: PeerLike, genesis: Genesis, keypair: Keypair, chance: random.Random) -> None:
        super().__init__(inner, genesis, keypair, chance)
        self._nullified = 0

    def answer(self, send: Send) -> Iterable[Effect]:
        match decode_message(send.payload):
            case ProposalMessage():
                return ()
            case VoteMessage(data) if Vote.decode(data).kind is not VoteKind.NULLIFY:
                return ()
            case _:
                return (send,)

    def add(self, heard: Received) -> Iterable[Effect]:
        known = self.heard_of(heard)
        if known is None or known[0] <= self._nullified:
            return ()
        self._nullified = known[0]
        return self.tell_all(self.nullify(known[0]))
