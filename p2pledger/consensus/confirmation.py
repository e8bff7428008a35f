"""Finality by confirmation, for delegates and authorities: ranges of heights that each producer signs with its blocks.

A block at height h confirms the heights ``confirm_from .. h`` of its own chain; ``confirm_from = h + 1`` confirms
nothing. A producer's confirmation of a block is a vote for it; building blocks and voting are one act, as in EOS's
pipelined DPoS (D. Larimer), and nobody sends votes of their own. Two quorums make a block final, as a justified and a
finalised checkpoint do in Casper FFG (V. Buterin and V. Griffith, 2017, arXiv:1710.09437) and a locked and a committed
node in HotStuff (M. Yin et al., 2019):

    justified   more than 2/3 of the weight has ranges that cover the block
    final       more than 2/3 of the weight has, on a chain in which the block is already justified, a block whose
                ranges reach back to it without a gap; the block that completes the justification counts too

An honest producer keeps two promises, across crashes too (``promise.py``):

    ranges   it confirms from one above the greatest height that it ever confirmed, wherever that was. So it confirms
             at most one block at each height, and all its ranges are disjoint.
    lock     once it has confirmed on a chain with a justified block, it confirms on a chain that leaves this block out
             only if that chain has a justified block at a greater height.

**Why no two final blocks conflict** while less than 1/3 of the weight is faulty, whatever the network does. Let X be
final and Y conflict with X, Y justified, at the same height or above (of two final ones take the higher as Y).

1. At the same height both would be confirmed by an honest producer in common: but it confirms one block at a height.
2. Above: let Y be the one that was justified first of all such blocks. Some honest K confirmed Y, in a block y, and is
   among those that made X final, by a block x whose ranges reach back to X without a gap.
   - K signed x before y. With x, K was locked on X or on something higher above it. When K left X's descendants, at y
     at the latest, the chain that it went to already had a justified block Z above K's lock; Z conflicts with X, is
     higher than X, and was justified before Y: which was the first. A contradiction.
   - K signed y before x. With y, K had confirmed up to y's height, above X's. Every range that K signed later begins
     higher, so it neither covers X nor closes the gap to a range before y that does. So x does not reach back to X.

**When producers change.** Which set counts is read from the chain: the members in force at a block are those that the
state after its parent names. A block needs its quorums *in each set in force between the last final block of its chain
and itself*. Two conflicting chains share the set in force right above the higher one of the final blocks from which
they count, so the argument goes through with an honest member of that set. The price is progress, never safety: if so
many leave at once that the rest is no quorum of the old set any more, nothing new gets final until enough of them are
back.

A range that overlaps another one of the same key convicts its signer (``primitives/evidence.py``), so an attack on
finality can be punished: two conflicting final blocks show that 1/3 of the weight broke one of the two promises.

``Tally`` counts one chain. It is a value: each block has the one of its parent with its own range added, so forks share
what they have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from p2pledger.consensus.rule import Members

__all__ = ["Tally"]


@dataclass(frozen=True, slots=True)
class Tally:
    """The confirmations on one chain above its last final block.

    ``ranges`` holds, by key, the heights that it confirmed on this chain as (first, last), rising, with gaps between;
    ``sets`` the members in force, each with the first height at which it was; ``candidates`` the justified heights that
    are not final yet, rising, each with the height of the block that completed it.
    """

    final: int
    justified: int
    ranges: Mapping[bytes, tuple[tuple[int, int], ...]]
    sets: tuple[tuple[int, Members], ...] = ()
    candidates: tuple[tuple[int, int], ...] = ()

    @classmethod
    def at(cls, final: int) -> Tally:
        """Of a chain whose last block, at this height, is final."""
        return cls(final, final, {})

    def extended(self, height: int, key: bytes, confirm_from: int, members: Members) -> Tally:
        """With the block of ``key`` at ``height``, one above, which confirms ``confirm_from .. height``."""
        tally = self
        if not tally.sets or tally.sets[-1][1] != members:
            tally = replace(tally, sets=(*tally.sets, (height, members)))
        first = max(confirm_from, tally.final + 1)
        if first > height:
            return tally
        held = list(tally.ranges.get(key, ()))
        while held and held[-1][1] + 1 >= first:
            first = min(first, held.pop()[0])
        tally = replace(tally, ranges={**tally.ranges, key: (*held, (first, height))})
        return tally._justify(height)._finalise()

    def _justify(self, height: int) -> Tally:
        """With the highest block that is justified now, if it is higher than the one before.

        Support changes only where a range ends or a set comes into force.
        """
        ends = {last for held in self.ranges.values() for _, last in held}
        ends.update(first - 1 for first, _ in self.sets)
        for candidate in sorted((end for end in ends if end > self.justified), reverse=True):
            if self._enough(candidate, candidate):
                return replace(self, justified=candidate, candidates=(*self.candidates, (candidate, height)))
        return self

    def _finalise(self) -> Tally:
        for candidate, completed in reversed(self.candidates):
            if self._enough(candidate, completed):
                ranges = {
                    key: kept
                    for key, held in self.ranges.items()
                    if (kept := tuple(each for each in held if each[1] > candidate))
                }
                last_needed = max(at for at, (first, _) in enumerate(self.sets) if first <= candidate + 1)
                candidates = tuple(each for each in self.candidates if each[0] > candidate)
                sets = self.sets[last_needed:]
                return replace(self, final=candidate, ranges=ranges, sets=sets, candidates=candidates)
        return self

    def _enough(self, height: int, reaching: int) -> bool:
        """Whether in every set that counts a quorum has a range without a gap from ``height`` to ``reaching``."""
        supporters = {
            key
            for key, held in self.ranges.items()
            if any(first <= height and last >= reaching for first, last in held)
        }
        return all(
            sum(weight for key, weight in members.seats if key in supporters) >= members.quorum
            for first, members in self.sets
            if first <= height
        )
