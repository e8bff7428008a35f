"""Who may make batches. Everybody must judge alike, so it depends on the batch and on what is agreed on long before.

    public                  anybody; the batches of those who are not in the genesis share a bound (``batches.py``)
    otherwise, simplex      a validator of the epoch that the batch names
    otherwise               whoever is in the genesis: validators, stakes, members

A leaver's batch of an old epoch stays valid for ever, since a final block may name it; but nobody keeps one unasked.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pledger import core
from p2pledger.node.epochs import Epochs
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.validators import Validators

__all__ = ["Makers"]


class Makers:
    """The rule of one network."""

    def __init__(self, genesis: Genesis, epochs: Epochs) -> None:
        self._is_public = genesis.profile == "public"
        self._epochs = epochs
        members = {key for member in genesis.members for key, _ in member.policy.keys}
        stakes = {stake.key for stake in genesis.stakes}
        self._known = frozenset(members | stakes | {seat.key for seat in genesis.validators})

    def judge(self, version: core.Version, present: Validators) -> Callable[[bytes, int], bool]:
        """Whether a key may make batches in an epoch, as this state knows; ``present`` are the validators of one epoch.

        The answer may be asked for in any thread.
        """

        def may_make(key: bytes, epoch: int) -> bool:
            if self._epochs.is_endless:
                return epoch == 0 and (self._is_public or key in self._known)
            validators = present if epoch == present.epoch else self._epochs.validators(version, epoch)
            return self._is_public or validators.signer_of(key) is not None

        return may_make

    def is_present(self, epoch: int, now: int) -> bool:
        """Whether a batch of this epoch is one of the present, and may be kept unasked."""
        return now - 1 <= epoch <= now + 1

    def is_stranger(self, key: bytes) -> bool:
        """Whether the genesis does not name this key: in a public network there may be any number of them."""
        return self._is_public and key not in self._known
