"""Account policies: which keys, with which weights, may act for an account (docs/protocol.md, section 3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from p2pledger.primitives.codec import Fields, Value
from p2pledger.primitives.errors import InvalidInput, PeerFault

__all__ = ["MAX_POLICY_KEYS", "Policy"]

MAX_POLICY_KEYS: Final = 16
_MAX_WEIGHT: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Policy:
    """``threshold`` out of weighted ``keys`` ((32-byte key, weight), ascending by key); versions count from 1."""

    threshold: int
    keys: tuple[tuple[bytes, int], ...]
    version: int = 1

    @classmethod
    def of(cls, *keys: bytes, threshold: int = 1, version: int = 1) -> Policy:
        """A policy over keys of weight 1. InvalidInput where it could never be satisfied."""
        policy = cls(threshold, tuple((key, 1) for key in sorted(set(keys))), version)
        try:
            return cls.decode(policy.values())
        except PeerFault as fault:
            raise InvalidInput("this policy is not possible", why=str(fault), code="bad_policy") from None

    @classmethod
    def decode(cls, values: Value) -> Policy:
        """The policy of a decoded array. PeerFault ``malformed`` unless its form is right."""
        fields = Fields(values, what="policy", count=3)
        threshold = fields.integer("threshold")
        rows = fields.array("keys", most=MAX_POLICY_KEYS)
        version = fields.integer("version")
        keys = []
        for row in rows:
            entry = Fields(row, what="policy key", count=2)
            keys.append((entry.binary("key", 32), entry.integer("weight", most=_MAX_WEIGHT)))
        names = [key for key, _ in keys]
        if not keys or names != sorted(set(names)) or not all(weight for _, weight in keys):
            raise PeerFault("the keys of a policy must be ascending, unique and have a weight", code="malformed")
        if not 1 <= threshold <= sum(weight for _, weight in keys) or version < 1:
            raise PeerFault("the threshold or version of a policy is out of range", code="malformed")
        return cls(threshold, tuple(keys), version)

    def values(self) -> tuple[Value, ...]:
        """The array that is encoded."""
        return (self.threshold, self.keys, self.version)

    def satisfied_by(self, signers: Iterable[bytes]) -> bool:
        present = set(signers)
        return sum(weight for key, weight in self.keys if key in present) >= self.threshold
