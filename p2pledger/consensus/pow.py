"""Proof of work: whoever finds a header whose hash is small enough writes the next block.

S. Nakamoto, "Bitcoin: A Peer-to-Peer Electronic Cash System", 2008. The *work hash* of a header is the double SHA-256
of its canonical bytes, read as a big-endian number; the header's last eight bytes are the nonce, so a miner hashes the
same prefix with another end again and again. A block is good if its work hash is at most the target that the state
after its parent names (LWMA-1, ``ledger/elections/pow.py``). A target T is met by one of 2^256 / (T + 1) hashes on
average: that is the block's weight, and the chain with the greatest sum wins, which is not always the longest one.

Nobody is elected and nobody votes: a block is final when ``finality_depth`` blocks of work stand on it. With a share q
of the work an attacker catches up from z blocks behind with probability (q / (1 - q))^z; with q >= 1/2 always. A miner
that keeps blocks to itself earns more than its share from q = 1/3 on, and from less if it also wins races (I. Eyal and
E. G. Sirer, 2014). A partition that is longer than finality_depth blocks ends with the alarm: see ``rival_weight``.

The header's view is its height: there are no slots, and two blocks of one key at one height are no offence.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from p2pledger.consensus.engine import BlockRef
from p2pledger.consensus.rule import Members, Past, Turn
from p2pledger.consensus.standing import PowStanding, Standing
from p2pledger.primitives.blocks import Header
from p2pledger.primitives.keys import Keypair

__all__ = ["NONCE_BYTES", "PowRule", "search_prefix", "weight_of_target", "work_hash"]

NONCE_BYTES: Final = 8


def work_hash(header: Header) -> int:
    """The double SHA-256 of the header's canonical bytes, as a number."""
    return int.from_bytes(sha256(sha256(header.encode()).digest()).digest(), "big")


def search_prefix(header: Header) -> bytes:
    """What stands before the nonce in a header's canonical bytes. The proof must have the length of a nonce."""
    assert len(header.proof) == NONCE_BYTES, "a template without a place for the nonce"
    return header.encode()[:-NONCE_BYTES]


def weight_of_target(target: int) -> int:
    """The expected number of hashes that meet a target once."""
    return (1 << 256) // (target + 1)


class PowRule:
    """``Rule`` for proof of work."""

    slotted = False
    ranged = False
    rests = False

    def form(self, header: Header) -> str | None:
        return None if len(header.proof) == NONCE_BYTES else "malformed_proof"

    def judge(self, header: Header, parent: BlockRef, standing: Standing) -> int | str:
        """``not_enough_work``, or the weight of the target that was met."""
        assert isinstance(standing, PowStanding)
        return weight_of_target(standing.target) if work_hash(header) <= standing.target else "not_enough_work"

    def turn(self, standing: Standing, parent: BlockRef, key: bytes, slot: int, now_ms: int) -> Turn | None:
        """At once: everybody may search."""
        return Turn(parent.height + 1, now_ms, bytes(NONCE_BYTES))

    def prove(self, standing: Standing, turn: Turn, parent: BlockRef, confirm_from: int, keypair: Keypair) -> bytes:
        """Room for a nonce, to be searched for."""
        return turn.proof

    def confirms(self, turn: Turn, standing: Standing, key: bytes) -> bool:
        return False

    def confirm_from(self, header: Header) -> int:
        return header.height + 1

    def members(self, standing: Standing) -> Members:
        return Members(())

    def note(self, header: Header | None, standing: Standing, before: Standing | None) -> object:
        """The target of the block above."""
        assert isinstance(standing, PowStanding)
        return standing.target

    def usual_weight(self, note: object) -> int | None:
        assert isinstance(note, int)
        return weight_of_target(note)

    def rival_weight(self, branch: Sequence[Header], past: Sequence[Past], standing: Standing) -> int:
        """Work that was certainly done: only hashes that meet the target at the fork count, each with its weight.

        The targets on the branch are not known without its states. If they are harder, more work was done than is
        counted; if they are easier, every hash still meets the harder one with the same luck, so the sum is right on
        average. Nobody gets it without that work.
        """
        target = past[0].note
        assert isinstance(target, int)
        return weight_of_target(target) * sum(work_hash(header) <= target for header in branch)
