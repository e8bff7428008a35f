"""What of the genesis decides how blocks are executed. Made once from it, and handed to every execution."""

from __future__ import annotations

from dataclasses import dataclass

from p2pledger.primitives.faults import NO_FAULTS, Faults
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.parameters import Parameters

__all__ = ["Chainspec"]


@dataclass(frozen=True, slots=True)
class Chainspec:
    """The engine's name, the time of the genesis, the constants, and what names the network (8 bytes).

    ``faults`` are for tests only.
    """

    engine: str
    genesis_time_ms: int
    parameters: Parameters
    network_id: bytes
    faults: Faults = NO_FAULTS

    @classmethod
    def of(cls, genesis: Genesis, faults: Faults = NO_FAULTS) -> Chainspec:
        return cls(genesis.engine, genesis.time_ms, genesis.parameters, genesis.network_id, faults)

    def epoch_of(self, height: int) -> int:
        """The epoch of simplex in which a height lies: epoch e holds the heights e L + 1 .. (e + 1) L."""
        return max(0, height - 1) // self.parameters.epoch_blocks
