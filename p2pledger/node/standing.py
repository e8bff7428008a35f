"""Who may build on an executed block: read out of its state for the engine, which never sees one. (Chain family.)"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from p2pledger import core
from p2pledger.consensus.standing import PoaStanding, Standing
from p2pledger.ledger import queries
from p2pledger.ledger.tables import Table
from p2pledger.node.chain import Chain, Entry
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.validators import Validators

__all__ = ["Standings"]

_REMEMBERED: Final = 256


class Standings:
    """The answers to an engine's ``ask``, worked out once for each block."""

    def __init__(self, genesis: Genesis, chain: Chain) -> None:
        self._genesis = genesis
        self._chain = chain
        self._known: OrderedDict[bytes, Standing] = OrderedDict()

    def ask(self, block_id: bytes) -> Standing | None:
        """The standing after a block; None where it is not executed, or below the final one."""
        entry = self._chain.get(block_id)
        if entry is None or entry.outcome is None:
            return None
        standing = self._known.get(block_id)
        if standing is None:
            standing = self._known[block_id] = _standing(self._genesis, entry)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return standing


def _standing(genesis: Genesis, entry: Entry) -> Standing:
    assert entry.outcome is not None
    version = entry.outcome.version
    match genesis.engine:
        case "poa":
            return PoaStanding(_authorities(genesis, version))
        case _:
            raise AssertionError(f"no engine of the chain family: {genesis.engine}")


def _authorities(genesis: Genesis, version: core.Version) -> Validators:
    """Without those whom evidence has convicted; with them where nobody would be left."""
    everybody = genesis.validator_set
    if version.count(Table.EVIDENCE) == 0:
        return everybody
    convicted = {key[:32] for key, _ in queries.rows(version, Table.EVIDENCE)}
    honest = [seat for seat in everybody.members if seat.key not in convicted]
    return Validators.of(0, honest) if honest else everybody
