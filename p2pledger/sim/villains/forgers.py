"""Villains who say more than they ought to: in others' names, in others' words, or of things long past."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from p2pledger.network.effects import Effect, Received, Send
from p2pledger.primitives.codec import encode
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import CertificateMessage, Message, VoteMessage
from p2pledger.primitives.votes import VoteKind
from p2pledger.sim.villains.base import Villain
from p2pledger.sim.world import PeerLike

__all__ = ["Impersonator", "Replayer", "StaleVoter"]

_KEPT_FRAMES: Final = 256
_KEPT_VIEWS: Final = 64
_KINDS: Final = (VoteKind.NOTARISE, VoteKind.FINALISE)


class Impersonator(Villain):
    """Votes and proves in the names of others.

    It fills the places of others with votes under its own signature or under none that holds, and shows certificates
    whose quorum is itself, over and over, or others who never signed. (That it also tries to open sessions with hellos
    of others that it kept, see ``p2pledger.sim.impostor``.)
    """

    def add(self, heard: Received) -> Iterable[Effect]:
        known = self.heard_of(heard)
        if known is None or self.chance.randrange(6):
            return ()
        view, block = known
        kind = VoteKind.NULLIFY if block == ZERO_HASH else self.chance.choice(_KINDS)
        message: Message
        match self.chance.randrange(4):
            case 0:
                signer = self.chance.randrange(len(self.seats) + 1)
                message = VoteMessage(self.vote(view, kind, block, signer=signer).encode())
            case 1:
                signer = self.chance.randrange(len(self.seats))
                forged = replace(self.vote(view, kind, block, signer=signer), signature=self.chance.randbytes(64))
                message = VoteMessage(forged.encode())
            case 2:
                message = self._certificate(view, kind, block, [self.signer] * self.seats.quorum)
            case _:
                message = self._certificate(view, kind, block, list(range(len(self.seats)))[: self.seats.quorum])
        return self.tell_all(message)

    def _certificate(self, view: int, kind: VoteKind, block: bytes, signers: list[int]) -> Message:
        signature = self.vote(view, kind, block).signature
        pairs = tuple((signer, signature) for signer in signers)
        return CertificateMessage(encode((1, self.epoch, view, int(kind), block, pairs)))


class Replayer(Villain):
    """Keeps what others said and says it again, to anybody, at any time: votes, proposals, blocks, batches, wishes."""

    def __init__(self, inner: PeerLike, genesis: Genesis, keypair: Keypair, chance: random.Random) -> None:
        super().__init__(inner, genesis, keypair, chance)
        self._kept: deque[bytes] = deque(maxlen=_KEPT_FRAMES)

    def add(self, heard: Received) -> Iterable[Effect]:
        self._kept.append(heard.payload)
        if self.chance.randrange(5):
            return
        for _ in range(1 + self.chance.randrange(3)):
            yield Send(self.chance.choice(list(self.sessions)), self.chance.choice(self._kept))


class StaleVoter(Villain):
    """Votes where it has no business: in views long left, far ahead, and of other epochs; for blocks that lost, too."""

    def __init__(self, inner: PeerLike, genesis: Genesis, keypair: Keypair, chance: random.Random) -> None:
        super().__init__(inner, genesis, keypair, chance)
        self._past: deque[tuple[int, bytes]] = deque(maxlen=_KEPT_VIEWS)

    def add(self, heard: Received) -> Iterable[Effect]:
        known = self.heard_of(heard)
        if known is None:
            return ()
        if known not in self._past:
            self._past.append(known)
        if self.chance.randrange(4):
            return ()
        (view, block), (_, other) = self.chance.choice(self._past), self.chance.choice(self._past)
        if not self.chance.randrange(3):
            block = other
        if not self.chance.randrange(6):
            view += self.chance.choice((1, 7, 1_000))
        kind = VoteKind.NULLIFY if block == ZERO_HASH else self.chance.choice(_KINDS)
        vote = self.vote(view, kind, block)
        if not self.chance.randrange(6):
            elsewhere, self.epoch = self.epoch, self.epoch + self.chance.choice((1, 2))
            vote, self.epoch = self.vote(view, kind, block), elsewhere
        return self.tell_all(VoteMessage(vote.encode()))
