"""What all villains share: the honest peer inside, who is at the other end of each session, and a hand to sign with."""

from __future__ import annotations

import random
from collections.abc import Iterable

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
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import (
    CertificateMessage,
    Message,
    ProposalMessage,
    VoteMessage,
    decode_message,
)
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from p2pledger.sim.world import PeerLike

__all__ = ["Villain", "said"]


class Villain:
    """A peer in disguise. ``answer`` may change what the peer inside says; ``add`` says more."""

    def __init__(self, inner: PeerLike, genesis: Genesis, keypair: Keypair, chance: random.Random) -> None:
        self.inner = inner
        self.genesis = genesis
        self.keypair = keypair
        self.chance = chance
        self.seats = genesis.validator_set
        self.sessions: dict[int, bytes] = {}
        """session -> node key, of the other validators"""
        self.epoch = 0
        """the newest epoch that anybody spoke of"""

    @property
    def final_height(self) -> int:
        return self.inner.final_height

    @property
    def final_version(self) -> core.Version:
        return self.inner.final_version

    def admit(self, identity: Identity) -> tuple[str, str] | None:
        return self.inner.admit(identity)

    def step(self, event: Event, now_ms: int, *, more: bool = False) -> list[Effect]:
        match event:
            case SessionOpened(session, identity) if identity.role != CLIENT:
                self.sessions[session] = identity.node_key
            case SessionClosed(session):
                self.sessions.pop(session, None)
        effects: list[Effect] = []
        for effect in self.inner.step(event, now_ms, more=more):
            if isinstance(effect, Send) and effect.session in self.sessions:
                effects += self.answer(effect)
            else:
                effects.append(effect)
        if isinstance(event, Received) and event.session in self.sessions:
            effects += self.add(event)
        return effects

    def answer(self, send: Send) -> Iterable[Effect]:
        """What goes to another validator in the place of this."""
        return (send,)

    def add(self, heard: Received) -> Iterable[Effect]:
        """What is said on hearing this from another validator."""
        return ()

    # Tools

    @property
    def signer(self) -> int:
        signer = self.seats.signer_of(self.keypair.public_key)
        assert signer is not None, "a villain is a validator"
        return signer

    def vote(self, view: int, kind: VoteKind, block: bytes, *, signer: int | None = None) -> Vote:
        """A vote with this villain's signature, whoever it says that it is by."""
        who = self.signer if signer is None else signer
        return Vote.make(self.genesis.network_id, self.epoch, view, kind, block, who, self.keypair)

    def nullify(self, view: int) -> Message:
        return VoteMessage(self.vote(view, VoteKind.NULLIFY, ZERO_HASH).encode())

    def heard_of(self, heard: Received) -> tuple[int, bytes] | None:
        """The view and block that a message of the vote speaks of (zero: of none); None for other messages."""
        known = said(heard.payload)
        if known is None:
            return None
        self.epoch = max(self.epoch, known[0])
        return known[1], known[2]

    def tell_all(self, message: Message) -> list[Effect]:
        payload = message.encode()
        return [Send(session, payload) for session in self.sessions]


def said(payload: bytes) -> tuple[int, int, bytes] | None:
    """Epoch, view and block of a proposal, vote or certificate."""
    try:
        message = decode_message(payload)
        match message:
            case VoteMessage(data) | ProposalMessage(_, data):
                vote = Vote.decode(data)
                return vote.epoch, vote.view, vote.block
            case CertificateMessage(data):
                certificate = Certificate.decode(data)
                return certificate.epoch, certificate.view, certificate.block
            case _:
                return None
    except PeerFault:
        return None
