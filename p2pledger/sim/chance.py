"""Seeded chance, one stream for each purpose.

A stream is named by its labels. Drawing once more in one of them (a new kind of fault, say) changes nothing in the
others, so that a seed keeps its meaning as far as possible. Labels are hashed by SHA-256 and never by ``hash()``, which
differs from process to process.
"""

from __future__ import annotations

import random
from hashlib import sha256

__all__ = ["secret_of", "stream"]


def _material(seed: int, labels: tuple[str, ...]) -> bytes:
    return sha256("/".join((f"p2pledger.sim.{seed}", *labels)).encode()).digest()


def stream(seed: int, *labels: str) -> random.Random:
    """The stream of chance that belongs to ``labels``."""
    return random.Random(int.from_bytes(_material(seed, ("chance", *labels)), "big"))


def secret_of(seed: int, name: str) -> bytes:
    """The 32 secret bytes of somebody's key in the world of a seed."""
    return _material(seed, ("key", name))
