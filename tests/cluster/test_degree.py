"""Validators that have sessions with a few others only, as processes."""

from __future__ import annotations

from pathlib import Path

from p2pledger.cluster.local import Cluster
from p2pledger.server.config import load_config


async def test_a_cluster_whose_nodes_know_two_neighbours_settles(tmp_path: Path) -> None:
    async with Cluster(5, seed=3, directory=tmp_path / "net", degree=2) as cluster:
        # The ledger has been opened: that took transactions that all agreed on.
        heights = []
        for name in cluster.nodes:
            assert load_config(tmp_path / "net" / "nodes" / name).degree == 2
            async with cluster.connect(node=name) as client:
                status = await client.status()
                heights.append(status.final_height)
                assert status.peers == 2
        assert max(heights) > 0
