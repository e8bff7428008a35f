"""Villains by name. Each wraps a peer from outside and uses its keys through the public values; no peer knows of them.

=============  ========================================================================================================
equivocator    tells two halves of the network different stories: votes for both (simplex), or seals two blocks in each
               slot (chains); no partition cuts it off
nuller         refuses every block and votes to nullify every view
silent         takes part in nothing: hears everything, says nothing
withholder     votes and proposes, but keeps its batches to itself and answers no question for data
impersonator   votes, proves and seals in the names of others, with signatures that do not hold; replays handshakes
replayer       says again what others said, to anybody, at any time
stale voter    votes in views and epochs that are over, or not yet begun
twins          no disguise at all: two machines run honest code with one key (S. Bano et al., "Twins: BFT Systems Made
               Robust", 2021, arXiv:2004.10617)
selfish        a miner or staker who keeps its blocks to itself until showing them costs the others most
long-range     a staker who writes a second chain from the genesis on, and shows it when it is long
grinding       a staker or delegate who leaves a slot empty when its block would bring it bad luck
=============  ========================================================================================================

At most as many of them stand in one world as its engine promises to survive (``p2pledger.sim.assumptions``), unless a
scenario means to go beyond that.
"""

from __future__ import annotations

import random
from typing import Final

from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.keys import Keypair
from p2pledger.sim.villains.base import Villain
from p2pledger.sim.villains.equivocator import Equivocator
from p2pledger.sim.villains.forgers import Impersonator, Replayer, StaleVoter
from p2pledger.sim.villains.producers import BlockForger, DoubleProducer, Grinder, LongRangeStaker, SelfishMiner
from p2pledger.sim.villains.refusers import Nuller, Silent, Withholder
from p2pledger.sim.world import PeerLike

__all__ = ["TWINS", "VILLAINS", "disguise", "villains_of"]

TWINS: Final = "twins"
_ANYWHERE: Final[dict[str, type[Villain]]] = {"silent": Silent, "withholder": Withholder, "replayer": Replayer}
_VOTING: Final[dict[str, type[Villain]]] = {
    "equivocator": Equivocator,
    "nuller": Nuller,
    "impersonator": Impersonator,
    "stale voter": StaleVoter,
}
_PRODUCING: Final[dict[str, type[Villain]]] = {"impersonator": BlockForger}
VILLAINS: Final[dict[str, dict[str, type[Villain]]]] = {
    "simplex": _ANYWHERE | _VOTING,
    "pow": _ANYWHERE | _PRODUCING | {"selfish": SelfishMiner},
    "pos": _ANYWHERE
    | _PRODUCING
    | {
        "equivocator": DoubleProducer,
        "selfish": SelfishMiner,
        "long-range": LongRangeStaker,
        "grinding": Grinder,
    },
    "dpos": _ANYWHERE | _PRODUCING | {"equivocator": DoubleProducer, "selfish": SelfishMiner, "grinding": Grinder},
    "poa": _ANYWHERE | _PRODUCING | {"equivocator": DoubleProducer, "selfish": SelfishMiner},
}
"""engine -> name -> who it is; twins, who are under every engine, need no disguise"""


def villains_of(engine: str) -> tuple[str, ...]:
    """The names of the villains who have something to do under an engine."""
    return (*VILLAINS[engine], TWINS)


def disguise(kind: str, inner: PeerLike, genesis: Genesis, keypair: Keypair, chance: random.Random) -> PeerLike:
    """The villain of a name around an honest peer. Twins wear none."""
    if kind == TWINS:
        return inner
    villain = VILLAINS[genesis.engine].get(kind)
    if villain is None:
        raise ValueError(f"no villain is called {kind!r}")
    return villain(inner, genesis, keypair, chance)
