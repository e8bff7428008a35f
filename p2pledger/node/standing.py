"""Who may build on an executed block: read out of its state for the engine, which never sees one. (Chain family.)

The rules are the ledger's (``ledger/elections``); here they only take the form in which the engine asks.
"""

from __future__ import annotations

from p2pledger import core
from p2pledger.consensus.standing import DposStanding, PoaStanding, PosStanding, PowStanding, Stake, Standing
from p2pledger.ledger.elections import poa, pos, pow
from p2pledger.ledger.elections.dpos import Schedule
from p2pledger.ledger.tables import Stake as StakeRow
from p2pledger.node.chain import Chain
from p2pledger.node.stakes import StakeFinder
from p2pledger.primitives.genesis import Genesis

__all__ = ["Standings", "standing_of"]


class Standings:
    """The answers to an engine's ``ask``, worked out once for each block."""

    def __init__(self, genesis: Genesis, chain: Chain) -> None:
        self._genesis = genesis
        self._chain = chain
        self._known: dict[bytes, Standing] = {}
        self._stakes = StakeFinder()

    def ask(self, block_id: bytes) -> Standing | None:
        """The standing after a block; None where it is not executed, or below the final one."""
        entry = self._chain.get(block_id)
        if entry is None or entry.outcome is None:
            return None
        standing = self._known.get(block_id)
        if standing is None:
            # Some standings go on reading their state: they must not hold on to one that the chain has let go.
            self._known = {name: known for name, known in self._known.items() if self._chain.get(name) is not None}
            header = entry.block.header
            standing = self._known[block_id] = standing_of(
                self._genesis, entry.outcome.version, header.view, self._stakes
            )
        return standing


def standing_of(genesis: Genesis, version: core.Version, slot: int, stakes: StakeFinder | None = None) -> Standing:
    """Who may build on the block of this slot, after which the state is ``version``.

    ``stakes`` remembers from one state to the next where a producer's rows are. (Proof of stake.)
    """
    match genesis.engine:
        case "pow":
            return PowStanding(pow.next_target(version, genesis.parameters))
        case "pos":
            return _pos(genesis, version, stakes or StakeFinder())
        case "dpos":
            schedule = Schedule.read(version, genesis.parameters)
            return DposStanding(schedule.serving(slot + 1), schedule.producer, schedule.reveal_due)
        case "poa":
            return PoaStanding(poa.authorities(version))
        case _:
            raise AssertionError(f"no engine of the chain family: {genesis.engine}")


def _pos(genesis: Genesis, version: core.Version, stakes: StakeFinder) -> PosStanding:
    parameters = genesis.parameters

    def stake(identifier: bytes) -> Stake | None:
        row = pos.stake_of(version, identifier)
        return None if row is None else _stake(row)

    def stakes_of(key: bytes) -> tuple[tuple[bytes, Stake], ...]:
        return tuple((identifier, _stake(row)) for identifier, row in stakes.stakes_of(version, key))

    target = pos.base_target(version, parameters)
    return PosStanding(target, pos.modifier(version), parameters.coin_age_cap, stake, stakes_of)


def _stake(row: StakeRow) -> Stake:
    return Stake(row.amount, row.since_height, row.key)
