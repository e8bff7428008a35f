"""Villains by name. Each wraps a peer from outside and uses its keys through the public values; no peer knows of them.

============  =========================================================================================================
equivocator   tells two halves of the network different stories: proposes different blocks for one view, votes for
              whatever anybody notarises, finalises it to him, and votes to nullify the same view to the others
silent        takes part in nothing: hears everything, sends nothing to other validators
withholder    votes and proposes, but keeps its batches to itself and answers no question for data
============  =========================================================================================================

At most f of them stand in one world: that is what the protocol promises to survive.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final

from p2pledger import core
from p2pledger.network.effects import (
    CLIENT,
    Effect,
    Event,
    Identity,
    Received,
    Send,
    SessionClosed,
    SessionOpened,
)
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import (
    BatchMessage,
    BlockMessage,
    CertificateMessage,
    Chain,
    Message,
    ProposalMessage,
    Status,
    VoteMessage,
    decode_message,
)
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from p2pledger.sim.world import PeerLike

__all__ = ["VILLAINS", "Equivocator", "Silent", "Withholder", "disguise"]


class _Villain:
    """What all share: the peer inside, and who is at the other end of each session."""

    def __init__(self, inner: PeerLike) -> None:
        self._inner = inner
        self._validators: dict[int, bytes] = {}

    @property
    def final_height(self) -> int:
        return self._inner.final_height

    @property
    def final_version(self) -> core.Version:
        return self._inner.final_version

    def admit(self, identity: Identity) -> tuple[str, str] | None:
        return self._inner.admit(identity)

    def _listen(self, event: Event) -> None:
        match event:
            case SessionOpened(session, identity) if identity.role != CLIENT:
                self._validators[session] = identity.node_key
            case SessionClosed(session):
                self._validators.pop(session, None)


class Silent(_Villain):
    def step(self, event: Event, now_ms: int) -> list[Effect]:
        self._listen(event)
        effects = self._inner.step(event, now_ms)
        return [effect for effect in effects if not (isinstance(effect, Send) and effect.session in self._validators)]


class Withholder(_Villain):
    _KEPT: Final = (BatchMessage, BlockMessage, Chain)

    def step(self, event: Event, now_ms: int) -> list[Effect]:
        self._listen(event)
        return [effect for effect in self._inner.step(event, now_ms) if not self._keeps(effect)]

    def _keeps(self, effect: Effect) -> bool:
        if not isinstance(effect, Send) or effect.session not in self._validators:
            return False
        return isinstance(decode_message(effect.payload), self._KEPT)


class Equivocator(_Villain):
    """Every second validator, in the order of their keys, hears the other story."""

    def __init__(self, inner: PeerLike, genesis: Genesis, keypair: Keypair, chance: random.Random) -> None:
        super().__init__(inner)
        self._genesis = genesis
        self._keypair = keypair
        self._chance = chance
        self._seats = genesis.validator_set
        signer = self._seats.signer_of(keypair.public_key)
        assert signer is not None
        self._signer = signer
        self._others: dict[bytes, Block] = {}
        self._supported: set[tuple[int, bytes, int]] = set()

    def step(self, event: Event, now_ms: int) -> list[Effect]:
        self._listen(event)
        effects: list[Effect] = []
        for effect in self._inner.step(event, now_ms):
            if isinstance(effect, Send) and effect.session in self._validators:
                effects += self._tell(effect)
            else:
                effects.append(effect)
        if isinstance(event, Received) and event.session in self._validators:
            effects += self._support(event)
        return effects

    def _hears_other_story(self, session: int) -> bool:
        signer = self._seats.signer_of(self._validators[session])
        return signer is not None and signer % 2 == 1

    def _tell(self, send: Send) -> list[Effect]:
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
        other = self._others.get(block.id)
        if other is None:
            header = replace(block.header, time_ms=block.header.time_ms + 1)
            other = self._others[block.id] = Block(header, block.digests)
        vote = self._vote(other.header.view, VoteKind.NOTARISE, other.id)
        return [self._send(send.session, ProposalMessage(other.encode(), vote.encode()))]

    def _support(self, event: Received) -> list[Effect]:
        """Whoever speaks for a block hears that it is right and final; the others, that its view is to be left."""
        try:
            message = decode_message(event.payload)
            if isinstance(message, VoteMessage | ProposalMessage):
                vote = Vote.decode(message.vote)
                view, block = vote.view, vote.block
            elif isinstance(message, CertificateMessage):
                certificate = Certificate.decode(message.certificate)
                view, block = certificate.view, certificate.block
            else:
                return []
        except PeerFault:
            return []
        if block == ZERO_HASH or (view, block, event.session) in self._supported:
            return []
        self._supported.add((view, block, event.session))
        lies: list[Effect] = [
            self._send(event.session, VoteMessage(self._vote(view, kind, block).encode()))
            for kind in (VoteKind.NOTARISE, VoteKind.FINALISE)
        ]
        nullify = VoteMessage(self._vote(view, VoteKind.NULLIFY, ZERO_HASH).encode())
        for session in self._validators:
            if session != event.session and not self._chance.randrange(4):
                lies.append(self._send(session, nullify))
        return lies

    def _vote(self, view: int, kind: VoteKind, block: bytes) -> Vote:
        return Vote.make(self._genesis.network_id, 0, view, kind, block, self._signer, self._keypair)

    @staticmethod
    def _send(session: int, message: Message) -> Send:
        return Send(session, message.encode())


VILLAINS: Final = ("equivocator", "silent", "withholder")


def disguise(kind: str, inner: PeerLike, genesis: Genesis, keypair: Keypair, chance: random.Random) -> PeerLike:
    """The villain of a name around an honest peer."""
    match kind:
        case "equivocator":
            return Equivocator(inner, genesis, keypair, chance)
        case "silent":
            return Silent(inner)
        case "withholder":
            return Withholder(inner)
        case _:
            raise ValueError(f"no villain is called {kind!r}")
