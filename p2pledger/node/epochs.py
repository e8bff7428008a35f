"""Which validators serve when (simplex). In the chain family there is one epoch, and it never ends.

Epoch e holds the heights e L + 1 .. (e + 1) L, with L = ``epoch_blocks``; the genesis belongs to epoch 0. Table
VALIDATORS has a row for each epoch in which the set changes, and the set of an epoch is that of the newest row up to
it. A row is written at least one epoch ahead, so the sets of the present epoch and of the next one are known in every
state.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pledger import core
from p2pledger.ledger import queries
from p2pledger.ledger.tables import Table, ValidatorsRow, validators_key
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.validators import Validators

__all__ = ["Epochs"]


@dataclass(frozen=True, slots=True)
class Epochs:
    """The calendar of one network."""

    genesis: Genesis

    @property
    def is_endless(self) -> bool:
        return self.genesis.engine != "simplex"

    def after(self, height: int) -> int:
        """The epoch of the block above this height."""
        return 0 if self.is_endless else height // self.genesis.parameters.epoch_blocks

    def last_height(self, epoch: int) -> int | None:
        """The height with which an epoch ends; None if it never does."""
        return None if self.is_endless else (epoch + 1) * self.genesis.parameters.epoch_blocks

    def validators(self, version: core.Version, epoch: int) -> Validators:
        """Those of an epoch, as far as this state knows: certainly for its own epoch and the next one."""
        if self.is_endless:
            return self.genesis.validator_set
        row = version.get(Table.VALIDATORS, validators_key(epoch))
        if row is None:
            before = [data for key, data in self._rows(version) if int.from_bytes(key, "big") <= epoch]
            row = before[-1]
        return ValidatorsRow.decode(row).validators(epoch)

    def change_waits(self, version: core.Version, epoch: int) -> bool:
        """Whether a later epoch than this one has other validators: then blocks are made until it is there."""
        newest = self._rows(version)[-1][0]
        return not self.is_endless and int.from_bytes(newest, "big") > epoch

    def has_seat(self, version: core.Version, epoch: int, key: bytes) -> bool:
        """Whether a key belongs to a validator of this epoch, the one before, or any that is fixed for later."""
        if self.is_endless:
            return self.genesis.validator_set.signer_of(key) is not None
        rows = self._rows(version)
        earlier = [int.from_bytes(at, "big") for at, _ in rows if int.from_bytes(at, "big") < max(1, epoch)]
        recent = [data for at, data in rows if int.from_bytes(at, "big") >= earlier[-1]]
        return any(seat.key == key for data in recent for seat in ValidatorsRow.decode(data).members)

    @staticmethod
    def _rows(version: core.Version) -> list[tuple[bytes, bytes]]:
        return list(queries.rows(version, Table.VALIDATORS))
