"""A partition: the nodes are cut into two halves that hear nothing of each other, and later become one network again.

Nothing is stopped and nothing is simulated: every node ends its sessions with the other half and refuses new ones.
Where a quorum has to vote (simplex), both halves halt. Where one may always build (pow, pos, dpos, poa), each half
goes on with a chain of its own; when they meet again one chain wins by the rule of the engine, and what stood only on
the other one goes back to *pending* and is applied again.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from p2pledger.api.client import ForkLine, HeadAnswer
from p2pledger.cluster.local import Cluster
from p2pledger.demo.live import View

__all__ = ["Half", "Partition", "cut_and_heal"]

_MEET_WITHIN_S = 30.0
_ASK_AGAIN_S = 0.1
_LAST_WORDS_S = 1.0
"""After this much of a cut, what was on its way across has arrived."""


@dataclass(frozen=True, slots=True)
class Half:
    """One half: the height of its chain before the cut and at its end, the final one a second after its beginning and
    at its end, and whether that chain was kept."""

    nodes: tuple[str, ...]
    height_before: int
    height: int
    final_before: int
    final_height: int
    won: bool


@dataclass(frozen=True, slots=True)
class Partition:
    """How a partition went."""

    seconds: float
    halves: tuple[Half, Half]
    forked: bool
    """Whether the halves had different chains when they met."""
    met_after_s: float
    """From the end of the cut to one head everywhere, or to the end of patience."""
    depth: int
    """Blocks that the half that lost has left; 0 if none did."""
    reason: str
    """Why, as a node of that half says."""


async def cut_and_heal(cluster: Cluster, seconds: float, view: View) -> Partition:
    """Cuts the cluster into halves for more than a second, and waits until all nodes follow one chain again."""
    middle = (len(cluster.nodes) + 1) // 2
    names = tuple(cluster.nodes[:middle]), tuple(cluster.nodes[middle:])
    before = [await _head(cluster, half[0]) for half in names]
    cluster.cut(*names)
    view.say(f"cut: {', '.join(names[0])} | {', '.join(names[1])}")
    await trio.sleep(_LAST_WORDS_S)
    alone = [await _head(cluster, half[0]) for half in names]
    await trio.sleep(seconds - _LAST_WORDS_S)
    known = [set(await _forks(cluster, half[0])) for half in names]
    apart = [await _head(cluster, half[0]) for half in names]
    cluster.heal()
    view.say(f"healed: the halves stand at heights {apart[0].height} and {apart[1].height}")
    healed_s = trio.current_time()
    forked = apart[0].block != apart[1].block
    new: list[list[ForkLine]] = [[], []]
    with trio.move_on_after(_MEET_WITHIN_S):
        while True:
            new = [
                [fork for fork in await _forks(cluster, half[0]) if fork not in known[i]]
                for i, half in enumerate(names)
            ]
            together = [await _head(cluster, half[0]) for half in names]
            if together[0].block == together[1].block and (not forked or any(new) or not _may_leave(cluster)):
                break
            await trio.sleep(_ASK_AGAIN_S)
    met_after_s = trio.current_time() - healed_s
    # The half that lost has given up the most.
    deepest = [max(forks, key=lambda fork: fork.depth, default=None) for forks in new]
    depths = [0 if fork is None else fork.depth for fork in deepest]
    lost = depths.index(max(depths))
    fork = deepest[lost]
    halves = [
        Half(
            names[i],
            before[i].height,
            apart[i].height,
            alone[i].final_height,
            apart[i].final_height,
            won=fork is not None and i != lost,
        )
        for i in range(2)
    ]
    if fork is not None:
        winner = ", ".join(halves[1 - lost].nodes)
        view.say(f"one chain again after {met_after_s:.1f} s, that of {winner}: {fork.reason}")
    reason = "" if fork is None else fork.reason
    return Partition(seconds, (halves[0], halves[1]), forked, round(met_after_s, 2), max(depths), reason)


def _may_leave(cluster: Cluster) -> bool:
    """Under simplex nobody ever leaves a chain: at most one can grow."""
    return cluster.genesis.engine != "simplex"


async def _head(cluster: Cluster, name: str) -> HeadAnswer:
    async with cluster.connect(node=name) as client:
        return await client.head()


async def _forks(cluster: Cluster, name: str) -> tuple[ForkLine, ...]:
    async with cluster.connect(node=name) as client:
        return await client.forks()
