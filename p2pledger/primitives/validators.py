"""The validators of one epoch, and the quorum arithmetic that all safety rests on.

With total weight W, up to f = floor((W - 1) / 3) may be faulty. A quorum is floor(2 W / 3) + 1: any two quorums share
more than f, so at least one honest validator is in both; and W - f is always at least a quorum, so the honest ones
alone can form one. Both hold for every W >= 1 in exact integers (tests/primitives/test_validators.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import BadConfiguration
from p2pledger.primitives.forms import Form, Number, PublicKey, Text
from p2pledger.primitives.hashing import VALIDATORS_TAG, tagged_hash

__all__ = ["Validator", "Validators", "faulty_of", "quorum_of"]


def faulty_of(total_weight: int) -> int:
    """The largest weight of faulty validators that is tolerated: floor((W - 1) / 3)."""
    return (total_weight - 1) // 3


def quorum_of(total_weight: int) -> int:
    """The weight that a certificate needs: floor(2 W / 3) + 1."""
    return 2 * total_weight // 3 + 1


@dataclass(frozen=True, slots=True, order=True)
class Validator:
    """One seat: the node's public key (32 bytes), its weight, and the name of its operator."""

    form: ClassVar[Form] = (PublicKey("key"), Number("weight", 1, 2**32 - 1), Text("name", 0))
    key: bytes
    weight: int = 1
    name: str = ""


@dataclass(frozen=True, slots=True)
class Validators:
    """The set of one epoch, ordered by key; a *signer* is an index in this order."""

    epoch: int
    members: tuple[Validator, ...]
    total_weight: int = field(init=False)
    quorum: int = field(init=False)
    hash: bytes = field(init=False)
    _index: dict[bytes, int] = field(init=False, repr=False, compare=False)

    @classmethod
    def of(cls, epoch: int, members: Iterable[Validator]) -> Validators:
        return cls(epoch, tuple(sorted(members, key=lambda member: member.key)))

    def __post_init__(self) -> None:
        keys = [member.key for member in self.members]
        if not keys:
            raise BadConfiguration("a validator set is empty")
        if keys != sorted(set(keys)) or any(len(key) != 32 for key in keys):
            raise BadConfiguration("validator keys must be 32 bytes, unique and in order")
        if any(not 0 < member.weight < 2**32 for member in self.members):
            raise BadConfiguration("a validator's weight must be 1 .. 2^32 - 1")
        total = sum(member.weight for member in self.members)
        seats = encode([[member.key, member.weight] for member in self.members])
        for name, value in (
            ("total_weight", total),
            ("quorum", quorum_of(total)),
            ("hash", tagged_hash(VALIDATORS_TAG, seats)),
            ("_index", {key: index for index, key in enumerate(keys)}),
        ):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.members)

    def signer_of(self, key: bytes) -> int | None:
        """The index of a key, or None for a stranger."""
        return self._index.get(key)

    def leader(self, view: int) -> int:
        """The index of the validator who may propose in ``view``: in turn."""
        return view % len(self.members)

    def weight_of(self, signers: Iterable[int]) -> int:
        """The weight of distinct signers; an index out of range or a repeated one is a ValueError."""
        seen: set[int] = set()
        for signer in signers:
            if signer in seen or not 0 <= signer < len(self.members):
                raise ValueError(f"signer {signer} is repeated or out of range")
            seen.add(signer)
        return sum(self.members[signer].weight for signer in seen)
