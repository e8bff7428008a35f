"""Who has a session with whom in a network whose nodes know a few neighbours each.

Rings: in each, the nodes stand in an order that a hash of salt, ring and key decides, and everybody knows the two
beside it. One ring connects all; a few of them, each in another order, make a graph of small diameter in which the loss
of a node, or of several, separates nobody (a sum of random Hamiltonian cycles; Law and Siu 2003).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256
from types import MappingProxyType

__all__ = ["neighbours_of"]


def neighbours_of(keys: Collection[bytes], degree: int, salt: bytes) -> Mapping[bytes, frozenset[bytes]]:
    """The neighbours of each node: about ``degree`` (rings may share a pair), at least two where there are so many.

    Equal keys, degrees and salts give equal neighbours, so every node can work them out for itself.
    """
    found: dict[bytes, set[bytes]] = {key: set() for key in keys}
    for ring in range(max(1, degree // 2)):
        order = sorted(keys, key=lambda key: sha256(salt + bytes((ring,)) + key).digest())
        for one, other in zip(order, [*order[1:], *order[:1]], strict=True):
            if one != other:
                found[one].add(other)
                found[other].add(one)
    return MappingProxyType({key: frozenset(known) for key, known in found.items()})
