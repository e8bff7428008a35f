"""The equivocator tells two halves of the network different stories.

It proposes different blocks for one view, votes for whatever anybody notarises, finalises it to him, and votes to
nullify the same view to the others. No partition cuts it off.
"""

from __future__ import annotations

import random
from dataclasses import replace

from p2pledger.network.effects import Effect, Received, Send
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import (
    CertificateMessage,
    Chain,
    ProposalMessage,
    Status,
    VoteMessage,
    decode_message,
)
from p2pledger.primitives.votes import Certificate, VoteKind
from p2pledger.sim.villains.base import Villain
from p2pledger.sim.world import PeerLike

__all__ = ["Equivocator"]


class Equivocator(Villain):
    """Two proposals for one view. Every second validator, in the order of their keys, hears the other story."""

    def __init__(self, inner: PeerLike, genesis: Genesis, keypair: Keypair, chance: random.Random) -> None:
        super().__init__(inner, genesis, keypair, chance)
        self._others: dict[bytes, Block] = {}
        self._supported: set[tuple[int, bytes, int]] = set()

    def _hears_other_story(self, session: int) -> bool:
        signer = self.seats.signer_of(self.sessions[session])
        return signer is not None and signer % 2 == 1

    def answer(self, send: Send) -> list[Effect]:
        """The peer's own message as it is to one half; to the other, a second proposal in the place of the first.

        What proves the one story is kept from those who hear the other.
        """
        if not self._hears_other_story(send.session):
            return [send]
        message = decode_message(send.payload)
        if isinstance(message, Chain | Status):
            return []
        if isinstance(message, CertificateMessage):
            return [send] if Certificate.decode(message.certificate).kind is VoteKind.NULLIFY else []
        if not isinstance(message, ProposalMessage):
            return [send]
        block = Block.decode(message.block)
        if block.header.proposer != self.keypair.public_key:
            return [send]
        other = self._others.get(block.id)
        if other is None:
            header = replace(block.header, time_ms=block.header.time_ms + 1)
            other = self._others[block.id] = Block(header, block.digests)
        vote = self.vote(other.header.view, VoteKind.NOTARISE, other.id)
        return [Send(send.session, ProposalMessage(other.encode(), vote.encode()).encode())]

    def add(self, heard: Received) -> list[Effect]:
        """Whoever speaks for a block hears that it is right and final; the others, that its view is to be left."""
        known = self.heard_of(heard)
        if known is None:
            return []
        view, block = known
        if block == ZERO_HASH or (view, block, heard.session) in self._supported:
            return []
        self._supported.add((view, block, heard.session))
        lies: list[Effect] = [
            Send(heard.session, VoteMessage(self.vote(view, kind, block).encode()).encode())
            for kind in (VoteKind.NOTARISE, VoteKind.FINALISE)
        ]
        if not self.chance.randrange(4):
            for session in self.sessions:
                if session != heard.session:
                    lies.append(Send(session, self.nullify(view).encode()))
        return lies
