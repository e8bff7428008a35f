"""The engines of the chain family with real stores and sockets: trades, a partition, a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.lowlevel

from p2pledger.api.client import Client
from p2pledger.primitives.genesis import Genesis, Stake
from p2pledger.primitives.messages import ProgressStatus
from p2pledger.primitives.names import account_of_key
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.transactions import Issue
from p2pledger.server.serve import RunningServer
from tests.server.small_node import (
    BANK,
    CASH,
    PATIENCE_S,
    connect,
    genesis_of,
    make_directory,
    node_key,
    open_books,
    running,
    signed,
)

QUICK = {"slot_ms": 100, "initial_difficulty": 200_000, "max_drift_ms": 2_000}


def genesis_for(engine: str, nodes: int) -> Genesis:
    keys = [node_key(index).public_key for index in range(nodes)]
    stakes = tuple(Stake(account_of_key(key), 1_000, key) for key in keys) if engine in ("pos", "dpos") else ()
    # Work may begin with a race that is lost some blocks later; stake wins a slot in four.
    depth = {"pow": 6, "pos": 2}.get(engine, 1)
    parameters = Parameters(**{**QUICK, "delegates": nodes, "finality_depth": depth})
    return genesis_of(nodes, engine=engine, stakes=stakes, parameters=parameters)


async def same_books(servers: list[RunningServer], genesis: Genesis, expected: int) -> None:
    """All nodes hold the same final block at some height that has the expected holdings."""
    for server in servers:
        async with connect(server, genesis) as client:
            while not (lines := (await client.holdings(BANK)).lines) or lines[0].free != expected:
                await trio.lowlevel.checkpoint()
            assert lines[0].asset == CASH
            assert (await client.supply()).findings == ()


@pytest.mark.parametrize("engine", ["poa", "pow", "pos", "dpos"])
async def test_three_nodes_agree_and_go_on_after_a_restart(tmp_path: Path, engine: str) -> None:
    genesis = genesis_for(engine, 3)
    configs = [make_directory(tmp_path, genesis, index) for index in range(3)]
    async with running(*configs) as servers:
        for server in servers:
            await server.wait_ready()
        async with connect(servers[0], genesis) as client:
            news = await client.follow()
            await open_books(client, genesis)
            words = []
            while words.count(None) < 2:
                words += [line.status for line in await news.__anext__()]
            assert words[0] is ProgressStatus.PENDING
            status = await client.status()
            assert (status.engine, status.profile) == (engine, "consortium")
            head = await client.head()
            assert head.height >= head.final_height > 0
            assert isinstance(await client.forks(), tuple)
        await same_books(servers, genesis, 1_000_000)
    async with running(*configs) as servers:
        heights = [await server.wait_ready() for server in servers]
        assert min(heights) > 0
        async with connect(servers[2], genesis) as client:
            await settle(client, genesis, 7)
        await same_books(servers, genesis, 1_000_007)


async def settle(client: Client, genesis: Genesis, amount: int) -> None:
    identifier, data = signed(genesis, 99, Issue(CASH, BANK, amount))
    assert (await client.submit([data])).codes == (0,)
    settled = await client.wait_settled([identifier], PATIENCE_S)
    assert settled[identifier].code == 0


async def test_two_halves_that_mined_apart_become_one(tmp_path: Path) -> None:
    """Work: two nodes that do not know each other make a chain each; told of each other, they follow the heavier."""
    genesis = genesis_of(2, engine="pow", parameters=Parameters(**{**QUICK, "finality_depth": 1_000}))
    configs = [make_directory(tmp_path, genesis, index) for index in range(2)]
    async with running(configs[0]) as [first], connect(first, genesis) as client:
        while (await client.head()).height < 5:
            await trio.lowlevel.checkpoint()
    async with running(configs[1]) as [second], connect(second, genesis) as client:
        while (await client.head()).height < 3:
            await trio.lowlevel.checkpoint()
    async with (
        running(*configs) as servers,
        connect(servers[0], genesis) as one,
        connect(servers[1], genesis) as other,
    ):
        while not (forks := [*await one.forks(), *await other.forks()]):
            await trio.lowlevel.checkpoint()
        assert all("weight" in fork.reason for fork in forks)
