"""Proof of stake by coin-age: stake that has rested long wins, and rests anew.

S. King and S. Nadal, "PPCoin: Peer-to-Peer Crypto-Currency with Proof-of-Stake", 2012. The *coin-age* of a stake row is
its amount times the heights since it was made or last won, capped (hoarding beyond ``coin_age_cap`` heights gains
nothing). In each slot each row has one lot:

    kernel = H("p2pl.kn1" || modifier || stake id (32) || slot (8))          wins if kernel <= base_target * coin-age

The modifier was fixed ``modifier_depth`` blocks before, so nothing that the producer chooses now, neither the content
of its block nor its time within the slot, changes its luck; and nobody hashes, for there is one lot in a slot. What is
left is *grinding*: who wins a slot may leave it empty and thereby choose between modifiers for ``modifier_depth``
blocks later, one bit for each block that it forgoes. Producing consumes the coin-age: the row starts again at this
height. A chain's weight is the coin-age consumed in it.

Exact integers throughout: amounts below 2^64 times at most ``coin_age_cap`` heights fit 128 bits, the product with the
target is capped at 2^256 - 1.

**What a chain of headers proves.** Little: old keys, sold or stolen, can sign a chain from far back at no cost (the
*long-range attack*). Therefore nothing that leaves out the last final block is ever followed, ``finality_depth`` blocks
deep; a node that was away for longer, or is new, needs the identifier of a recent block from somebody it trusts (a
checkpoint). A chain below the final block that honest stake has made while the network was parted raises the alarm:
see ``rival_weight``.

The proof is the stake's identifier (32 bytes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from p2pledger.consensus.engine import BlockRef
from p2pledger.consensus.rule import Clock, Members, Past, Turn
from p2pledger.consensus.standing import PosStanding, Stake, Standing
from p2pledger.primitives.blocks import Header
from p2pledger.primitives.hashing import KERNEL_TAG, MODIFIER_TAG, ZERO_HASH, tagged_hash
from p2pledger.primitives.keys import Keypair

__all__ = ["PosRule", "coin_age", "kernel", "kernel_wins"]

_MOST: Final = (1 << 256) - 1
_SLOTS_SEARCHED: Final = 16
_EASIER: Final = 2
"""How much easier than at the fork lots may be on a rival chain: one that should have won has half of the stake."""


def kernel(modifier: bytes, stake_id: bytes, slot: int) -> bytes:
    """The lot (32 bytes) of a stake row in a slot."""
    return tagged_hash(KERNEL_TAG, modifier + stake_id + slot.to_bytes(8, "big"))


def coin_age(stake: Stake, height: int, cap: int) -> int:
    """What a row has gathered when the block at ``height`` is made: amount times heights, at most ``cap`` of them."""
    return stake.amount * min(max(0, height - stake.since_height), cap)


def kernel_wins(lot: bytes, base_target: int, age: int) -> bool:
    return int.from_bytes(lot, "big") <= min(_MOST, base_target * age)


@dataclass(frozen=True, slots=True)
class _Note:
    """Of a final block: what its successors' lots hashed, and the row that made it, as it was before."""

    base_target: int
    modifier: bytes
    coin_age_cap: int
    stake_id: bytes
    stake: Stake | None


class PosRule:
    """``Rule`` for coin-age."""

    slotted = True
    ranged = False
    rests = False

    def __init__(self, clock: Clock, modifier_depth: int) -> None:
        self._clock = clock
        self._modifier_depth = modifier_depth

    def form(self, header: Header) -> str | None:
        return None if len(header.proof) == 32 else "malformed_proof"

    def judge(self, header: Header, parent: BlockRef, standing: Standing) -> int | str:
        """``unknown_stake``, ``wrong_proposer``, ``no_coin_age``, ``bad_stake_proof``, or the coin-age consumed."""
        assert isinstance(standing, PosStanding)
        stake = standing.stake(header.proof)
        if stake is None:
            return "unknown_stake"
        if stake.key != header.proposer:
            return "wrong_proposer"
        age = coin_age(stake, header.height, standing.coin_age_cap)
        if age == 0:
            return "no_coin_age"
        lot = kernel(standing.modifier, header.proof, header.view)
        return age if kernel_wins(lot, standing.base_target, age) else "bad_stake_proof"

    def turn(self, standing: Standing, parent: BlockRef, key: bytes, slot: int, now_ms: int) -> Turn | None:
        """The first slot soon in which one of the key's rows wins; of several rows the oldest in coin-age."""
        assert isinstance(standing, PosStanding)
        rows = [
            (coin_age(stake, parent.height + 1, standing.coin_age_cap), stake_id)
            for stake_id, stake in standing.stakes_of(key)
        ]
        rows = sorted(((age, stake_id) for age, stake_id in rows if age), reverse=True)
        for later in range(slot, slot + _SLOTS_SEARCHED):
            for age, stake_id in rows:
                if kernel_wins(kernel(standing.modifier, stake_id, later), standing.base_target, age):
                    return Turn(later, self._clock.start_ms(later), stake_id)
        return None

    def prove(self, standing: Standing, turn: Turn, parent: BlockRef, confirm_from: int, keypair: Keypair) -> bytes:
        return turn.proof

    def confirms(self, turn: Turn, standing: Standing, key: bytes) -> bool:
        return False

    def confirm_from(self, header: Header) -> int:
        return header.height + 1

    def members(self, standing: Standing) -> Members:
        return Members(())

    def note(self, header: Header | None, standing: Standing, before: Standing | None) -> object:
        assert isinstance(standing, PosStanding)
        stake_id, stake = ZERO_HASH, None
        if header is not None and isinstance(before, PosStanding):
            stake_id, stake = header.proof, before.stake(header.proof)
        return _Note(standing.base_target, standing.modifier, standing.coin_age_cap, stake_id, stake)

    def usual_weight(self, note: object) -> int | None:
        return None

    def rival_weight(self, branch: Sequence[Header], past: Sequence[Past], standing: Standing) -> int:
        """The coin-age that rows known here have consumed on the branch, each with a lot that wins.

        The states on the branch are not known, but its lots can be checked. The modifiers of its first blocks are those
        of our own chain below the fork, the later ones follow from its kernels. A row that has not moved since the fork
        stands in our state as it was; one that made blocks of our chain since then is remembered as it was before. The
        difficulty is taken to be at most half of what ours was at the fork: a rival with less than half of the stake
        could make more blocks than that allows, but is no rival.
        """
        assert isinstance(standing, PosStanding)
        notes = [each.note for each in past if isinstance(each.note, _Note)]
        if len(notes) < len(past):
            return 0
        fork = past[0].ref.height
        rows: dict[bytes, Stake | None] = {}
        for note in notes[1:]:
            rows.setdefault(note.stake_id, note.stake)

        def as_it_was(name: bytes) -> Stake | None:
            stake = rows[name] if name in rows else standing.stake(name)
            return stake if stake is not None and stake.since_height <= fork else None

        kernels: list[bytes] = []
        modifier = notes[0].modifier
        moved: dict[bytes, Stake] = {}
        total = 0
        for at, header in enumerate(branch):
            if at >= self._modifier_depth:
                modifier = next_modifier(modifier, kernels[at - self._modifier_depth])
            elif at < len(notes):
                modifier = notes[at].modifier
            else:
                break  # Our own chain is too short to tell.
            lot = kernel(modifier, header.proof, header.view)
            kernels.append(lot)
            stake = moved.get(header.proof) or as_it_was(header.proof)
            if stake is None or stake.key != header.proposer:
                continue
            age = coin_age(stake, header.height, notes[0].coin_age_cap)
            moved[header.proof] = Stake(stake.amount, header.height, stake.key)
            if kernel_wins(lot, notes[0].base_target * _EASIER, age):
                total += age
        return total


def next_modifier(modifier: bytes, lot: bytes) -> bytes:
    """The modifier after a block whose kernel was ``lot``."""
    return tagged_hash(MODIFIER_TAG, modifier + lot)
