"""Delegated proof of stake: stake elects delegates, who write blocks in an order that is shuffled each round.

D. Larimer, "Delegated Proof-of-Stake" (BitShares, 2014); confirmations as in EOS. The election, the penalties and the
shuffle are the ledger's (``ledger/elections/dpos.py``); here stands what a block must show. Slot s belongs to one
delegate, ``producer(s)`` in the state after the parent: nobody else may use it, so a silent delegate costs a slot and
no more. Each block weighs 1; what is justified comes first (``confirmation.py``).

**Nobody knows the order of a round early.** The proof is the canonical array ``[confirm_from, commitment, reveal]``.
With its block in a round a delegate commits to a secret, ``H("p2pl.cm1" || secret)``, and opens what it committed to
two rounds before; the secrets opened in a round seed the order of the next. When the first secret of a round is opened
all commitments are final or nearly so, and who commits does not know what the others have committed to. The last one to
open knows all other secrets and chooses between two orders: with its secret, or without. So each delegate that
withholds its secret gains at most one bit, and it can only withhold by leaving its slot empty, which the ledger
punishes: a block that owes a secret and does not open it is refused.

The secrets are derived from the delegate's key and the slot in which they are committed to, so a crash loses none:
``secret = H("p2pl.cm1" || key seed || network || slot)``; nobody without the key can tell them from chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from p2pledger.consensus.engine import BlockRef
from p2pledger.consensus.rule import Clock, Members, Past, Turn
from p2pledger.consensus.standing import DposStanding, Standing
from p2pledger.primitives.blocks import MAX_PROOF_BYTES, Header
from p2pledger.primitives.codec import Fields, decode, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.hashing import COMMITMENT_TAG, tagged_hash
from p2pledger.primitives.keys import Keypair

__all__ = ["DposProof", "DposRule", "commitment_to"]

_SLOTS_SEARCHED: Final = 4_096
"""How far back a delegate looks for the slot in which it committed: less than three rounds are needed."""


def commitment_to(secret: bytes) -> bytes:
    """What a delegate publishes two rounds before the 32 bytes of its secret."""
    return tagged_hash(COMMITMENT_TAG, secret)


@dataclass(frozen=True, slots=True)
class DposProof:
    """``commitment`` has 32 bytes; ``reveal`` 32, or none where nothing is due."""

    confirm_from: int
    commitment: bytes
    reveal: bytes = b""

    def encode(self) -> bytes:
        return encode((self.confirm_from, self.commitment, self.reveal))

    @classmethod
    def decode(cls, data: bytes) -> DposProof:
        """PeerFault for bad form."""
        fields = Fields(decode(data, limit_bytes=MAX_PROOF_BYTES, what="proof"), what="proof", count=3)
        proof = cls(fields.integer("confirm_from"), fields.binary("commitment"), fields.binary("reveal"))
        if len(proof.commitment) not in (0, 32) or len(proof.reveal) not in (0, 32):
            raise PeerFault("a commitment or reveal has neither 32 bytes nor none", code="malformed")
        return proof


class DposRule:
    """``Rule`` for delegated stake."""

    slotted = True
    ranged = True
    rests = False

    def __init__(self, clock: Clock, network_id: bytes) -> None:
        self._clock = clock
        self._network_id = network_id

    def form(self, header: Header) -> str | None:
        try:
            proof = DposProof.decode(header.proof)
        except PeerFault:
            return "malformed_proof"
        if not proof.commitment:
            return "bad_commitment"
        return None if 1 <= proof.confirm_from <= header.height + 1 else "bad_confirm_range"

    def judge(self, header: Header, parent: BlockRef, standing: Standing) -> int | str:
        """``wrong_order``, ``wrong_proposer``, ``reveal_missing``, ``reveal_not_due``, ``bad_reveal``, or 1."""
        assert isinstance(standing, DposStanding)
        if standing.producer(header.view) != header.proposer:
            return "wrong_order" if header.proposer in standing.delegates else "wrong_proposer"
        due = standing.reveal_due(header.proposer, header.view)
        reveal = DposProof.decode(header.proof).reveal
        if due is None:
            return "reveal_not_due" if reveal else 1
        if not reveal:
            return "reveal_missing"
        return 1 if commitment_to(reveal) == due else "bad_reveal"

    def turn(self, standing: Standing, parent: BlockRef, key: bytes, slot: int, now_ms: int) -> Turn | None:
        """The delegate's next slot within two rounds."""
        assert isinstance(standing, DposStanding)
        for later in range(slot, slot + 2 * len(standing.delegates)):
            if standing.producer(later) == key:
                return Turn(later, self._clock.start_ms(later))
        return None

    def prove(self, standing: Standing, turn: Turn, parent: BlockRef, confirm_from: int, keypair: Keypair) -> bytes:
        assert isinstance(standing, DposStanding)
        due = standing.reveal_due(keypair.public_key, turn.slot)
        reveal = b"" if due is None else self._opened(due, turn.slot, keypair)
        return DposProof(confirm_from, commitment_to(self._secret(turn.slot, keypair)), reveal).encode()

    def confirms(self, turn: Turn, standing: Standing, key: bytes) -> bool:
        return True

    def confirm_from(self, header: Header) -> int:
        return DposProof.decode(header.proof).confirm_from

    def members(self, standing: Standing) -> Members:
        assert isinstance(standing, DposStanding)
        return Members(tuple((key, 1) for key in standing.delegates))

    def note(self, header: Header | None, standing: Standing, before: Standing | None) -> object:
        return self.members(standing)

    def usual_weight(self, note: object) -> int | None:
        return None

    def rival_weight(self, branch: Sequence[Header], past: Sequence[Past], standing: Standing) -> int:
        return 0

    def _secret(self, slot: int, keypair: Keypair) -> bytes:
        return tagged_hash(COMMITMENT_TAG, keypair.seed + self._network_id + slot.to_bytes(8, "big"))

    def _opened(self, due: bytes, slot: int, keypair: Keypair) -> bytes:
        """The secret behind a commitment of this key; none if it was not made here (the slot is then in vain)."""
        for earlier in range(slot - 1, max(-1, slot - 1 - _SLOTS_SEARCHED), -1):
            secret = self._secret(earlier, keypair)
            if commitment_to(secret) == due:
                return secret
        return b""
