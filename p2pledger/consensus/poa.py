"""Proof of authority: known authorities write blocks in turn.

As in Clique (P. Szilagyi, EIP-225, 2017) a block in turn weighs 2 and one out of turn 1. The authority of slot s is
number s modulo n of those that are not excluded. If it is silent, the others may step in within the same slot, each
after a pause that grows with its distance from the turn, the nearest after half the slot:

    |-------- in turn --------|- 1st -|- 2nd -|- 3rd -|
    0                      slot / 2                 slot

The pause can be read from the header's time, so everybody judges it alike. Nobody makes two out-of-turn blocks in a row
(Clique's rule against one authority that writes everything). Out-of-turn blocks keep the ledger moving but confirm
nothing: finality comes from the ranges in blocks in turn alone (``confirmation.py``), so whoever has not its turn
cannot hurry anything to its end. With a single authority every block is in turn and final at once: a central registrar.

The proof is the canonical array ``[confirm_from]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from p2pledger.consensus.engine import BlockRef
from p2pledger.consensus.rule import Clock, Members, Past, Turn
from p2pledger.consensus.standing import PoaStanding, Standing
from p2pledger.primitives.blocks import MAX_PROOF_BYTES, Header
from p2pledger.primitives.codec import Fields, decode, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.validators import Validators

__all__ = ["PoaRule", "poa_proof"]

_IN_TURN: Final = 2
_OUT_OF_TURN: Final = 1


def poa_proof(confirm_from: int) -> bytes:
    return encode((confirm_from,))


def _read(proof: bytes) -> int:
    """PeerFault unless it has the form of a proof."""
    return Fields(decode(proof, limit_bytes=MAX_PROOF_BYTES, what="proof"), what="proof", count=1).integer("from")


class PoaRule:
    """``Rule`` for proof of authority. ``first`` are the authorities of the genesis: it tells removed from strange."""

    slotted = True
    ranged = True
    rests = True

    def __init__(self, clock: Clock, first: Validators) -> None:
        self._clock = clock
        self._first = first

    def form(self, header: Header) -> str | None:
        try:
            confirm_from = _read(header.proof)
        except PeerFault:
            return "malformed_proof"
        return None if 1 <= confirm_from <= header.height + 1 else "bad_confirm_range"

    def judge(self, header: Header, parent: BlockRef, standing: Standing) -> int | str:
        """``removed_authority``, ``wrong_proposer``, ``twice_out_of_turn``, ``wrong_order``, ``bad_confirm_range``."""
        assert isinstance(standing, PoaStanding)
        if standing.validators.signer_of(header.proposer) is None:
            return "wrong_proposer" if self._first.signer_of(header.proposer) is None else "removed_authority"
        distance = self._distance(standing, header.proposer, header.view)
        if distance == 0:
            return _IN_TURN
        if parent.proposer == header.proposer:
            return "twice_out_of_turn"
        if header.time_ms < self._clock.start_ms(header.view) + self._pause_ms(standing, distance):
            return "wrong_order"
        return _OUT_OF_TURN if _read(header.proof) == header.height + 1 else "bad_confirm_range"

    def turn(self, standing: Standing, parent: BlockRef, key: bytes, slot: int, now_ms: int) -> Turn | None:
        """In ``slot`` if there is time, in turn or after the pause."""
        assert isinstance(standing, PoaStanding)
        if standing.validators.signer_of(key) is None:
            return None
        for later in range(slot, slot + len(standing.validators) + 1):
            distance = self._distance(standing, key, later)
            if distance == 0 or parent.proposer != key:
                return Turn(later, self._clock.start_ms(later) + self._pause_ms(standing, distance))
        return None

    def prove(self, standing: Standing, turn: Turn, parent: BlockRef, confirm_from: int, keypair: Keypair) -> bytes:
        return poa_proof(confirm_from)

    def confirms(self, turn: Turn, standing: Standing, key: bytes) -> bool:
        """Only in turn."""
        assert isinstance(standing, PoaStanding)
        return self._distance(standing, key, turn.slot) == 0

    def confirm_from(self, header: Header) -> int:
        return _read(header.proof)

    def members(self, standing: Standing) -> Members:
        assert isinstance(standing, PoaStanding)
        return Members(tuple((member.key, member.weight) for member in standing.validators.members))

    def note(self, header: Header | None, standing: Standing, before: Standing | None) -> object:
        return self.members(standing)

    def usual_weight(self, note: object) -> int | None:
        return None

    def rival_weight(self, branch: Sequence[Header], past: Sequence[Past], standing: Standing) -> int:
        return 0

    def _distance(self, standing: PoaStanding, key: bytes, slot: int) -> int:
        """How many turns after the one whose slot it is the authority comes."""
        signer = standing.validators.signer_of(key)
        assert signer is not None
        return (signer - standing.validators.leader(slot)) % len(standing.validators)

    def _pause_ms(self, standing: PoaStanding, distance: int) -> int:
        count = len(standing.validators)
        return 0 if distance == 0 else self._clock.slot_ms * (count + distance - 1) // (2 * count)
