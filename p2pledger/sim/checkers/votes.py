"""Votes: an honest node never contradicts itself, not even across a crash.

In one view it notarises at most one block, finalises at most one, and never both finalises and nullifies (Chan and
Pass, Simplex Consensus, section 2). All votes that left the node count, whatever it remembers of them.
"""

from __future__ import annotations

import msgpack

from p2pledger.sim.evidence import Evidence

__all__ = ["check_votes"]

NOTARISE, NULLIFY, FINALISE = 1, 2, 3


def check_votes(evidence: Evidence) -> list[str]:
    faults: list[str] = []
    cast: dict[tuple[str, int, int, int], bytes] = {}
    for sent in evidence.votes:
        _, epoch, view, kind, block, _, _ = msgpack.unpackb(sent.vote, use_list=False)
        first = cast.setdefault((sent.node, epoch, view, kind), block)
        if first != block:
            word = {NOTARISE: "notarised", FINALISE: "finalised"}.get(kind, "nullified")
            faults.append(f"{sent.node} {word} both {first.hex()[:16]} and {block.hex()[:16]} in view {view}")
        other = {NULLIFY: FINALISE, FINALISE: NULLIFY}.get(kind)
        if other is not None and (sent.node, epoch, view, other) in cast:
            faults.append(f"{sent.node} both nullified and finalised in view {view}")
    return list(dict.fromkeys(faults))
