"""What became of the chain: where all nodes agree, who wrote its blocks, and how often nodes left one for another.

Simplex and poa rest when nothing is left to do: all nodes come to stand at one height. Under the other engines the
chain grows on, so no two nodes can be asked at the same height. There all are asked for the final block of the lowest
height that all have passed; its header says the root of the state before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import trio

from p2pledger.api.client import Client, ForkLine, NodeStatus
from p2pledger.cluster.local import Cluster
from p2pledger.primitives.blocks import Block, Header
from p2pledger.primitives.errors import P2PLedgerError

__all__ = ["RESTING", "UNREACHABLE", "Standing", "forks_of", "proposers", "wait_agreement"]

UNREACHABLE: Final = (P2PLedgerError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What a node that is down, or that goes down meanwhile, comes to."""
RESTING: Final = ("simplex", "poa")
"""Engines under which the chain stands still when nothing is left to do."""
_ASK_AGAIN_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Standing:
    """A height that a node has made final, its block there and the root of the state after it."""

    height: int
    block: bytes
    state_root: bytes


async def wait_agreement(cluster: Cluster, within_s: float, least_height: int = 0) -> dict[str, Standing]:
    """Where each node stands, once all stand alike, beyond ``least_height``, and have nothing left to order.

    After ``within_s`` whatever is known then; a node that cannot be reached is missing.
    """
    standings: dict[str, Standing] = {}
    with trio.move_on_after(within_s):
        while True:
            statuses = {name: status for name in cluster.nodes if (status := await _status(cluster, name)) is not None}
            standings = await _standings(cluster, statuses)
            is_busy = any(status.mempool_bytes or status.held_batches for status in statuses.values())
            agreed = len(set(standings.values())) == 1 and len(standings) == len(cluster.nodes)
            if agreed and not is_busy and min(each.height for each in standings.values()) >= least_height:
                break
            await trio.sleep(_ASK_AGAIN_S)
    return standings


async def _status(cluster: Cluster, name: str) -> NodeStatus | None:
    try:
        async with cluster.connect(node=name) as client:
            return await client.status()
    except UNREACHABLE:
        return None


async def _standings(cluster: Cluster, statuses: Mapping[str, NodeStatus]) -> dict[str, Standing]:
    if cluster.genesis.engine in RESTING:
        return {
            name: Standing(status.final_height, status.final_block, status.state_root)
            for name, status in statuses.items()
        }
    common = min((status.final_height for status in statuses.values()), default=0)
    standings = {}
    for name in statuses:
        try:
            async with cluster.connect(node=name) as client:
                header = await _header(client, common)
                standings[name] = Standing(common - 1, header.parent, header.parent_state_root)
        except UNREACHABLE:
            continue
    return standings


async def _header(client: Client, height: int) -> Header:
    return Block.decode((await client.block(height)).block).header


async def proposers(client: Client, names: Mapping[bytes, str], first: int, last: int) -> dict[str, int]:
    """Blocks by the name of who wrote them, of the final heights from ``first`` to ``last``."""
    counts: Counter[str] = Counter(dict.fromkeys(names.values(), 0))
    for height in range(first, last + 1):
        proposer = (await _header(client, height)).proposer
        counts[names.get(proposer, proposer.hex())] += 1
    return dict(counts)


async def forks_of(cluster: Cluster) -> dict[str, tuple[ForkLine, ...]]:
    """The last reorganisations of each node that answers."""
    forks = {}
    for name in cluster.nodes:
        try:
            async with cluster.connect(node=name) as client:
                forks[name] = await client.forks()
        except UNREACHABLE:
            continue
    return forks
