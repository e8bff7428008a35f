"""Nodes from their directories to their ends, with real stores and sockets, in this process."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from p2pledger.network.effects import Effect, Event, Halt, Identity, Started
from p2pledger.network.peer import Peer
from p2pledger.node.archive import Archive, Recovery
from p2pledger.primitives.errors import InvalidInput, NodeStopped
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.keys import Keypair
from p2pledger.server import ServerConfig, serve
from p2pledger.server.serve import PeerFace, RunningServer
from tests.server.small_node import (
    BANK,
    CASH,
    connect,
    genesis_of,
    log_of,
    make_directory,
    open_books,
    running,
)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.lowlevel.checkpoint()


def events_of(config: ServerConfig) -> list[str]:
    return [line["event"] for line in log_of(config)]


async def _issue(server: RunningServer, genesis: Genesis) -> None:
    async with connect(server, genesis) as client:
        await open_books(client, genesis)


async def test_one_validator_alone_is_a_network(tmp_path: Path) -> None:
    genesis = genesis_of(1)
    config = make_directory(tmp_path, genesis, 0)
    async with running(config) as [server]:
        assert await server.wait_ready() == 0
        await _issue(server, genesis)
        async with connect(server, genesis) as client:
            [line] = (await client.holdings(BANK)).lines
            assert (line.asset, line.free) == (CASH, 1_000_000)
            assert (await client.supply()).findings == ()
        stats = server.stats()
        assert stats.height >= 1
        assert stats.commits >= 1
        assert stats.bytes_in > 0
    assert events_of(config)[-1] == "ended"
    assert not (config.directory / "never_voted").exists()


async def test_four_validators_agree_and_a_late_one_catches_up(tmp_path: Path) -> None:
    genesis = genesis_of(4)
    configs = [make_directory(tmp_path, genesis, index) for index in range(4)]
    async with running(*configs[:3]) as servers:
        for server in servers:
            assert await server.wait_ready() == 0
        await _issue(servers[0], genesis)
    # All four, and the first three from their disks.
    async with running(*configs) as servers:
        heights = [await server.wait_ready() for server in servers]
        assert min(heights) >= 1
        statuses = []
        for server in servers:
            async with connect(server, genesis) as client:
                statuses.append(await client.status())
        newest = max(status.final_height for status in statuses)
        async with connect(servers[3], genesis) as client:
            while (await client.status()).final_height < newest:
                await trio.lowlevel.checkpoint()
            [line] = (await client.holdings(BANK)).lines
            assert line.free == 1_000_000
        roots = {status.state_root for status in statuses if status.final_height == newest}
        assert len(roots) == 1


async def test_snapshots_are_written_and_read_and_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    genesis = genesis_of(1)
    config = make_directory(tmp_path, genesis, 0, snapshot_every=1)
    async with running(config) as [server]:
        await _issue(server, genesis)
        await _until(lambda: "snapshot" in events_of(config))
    states = []

    def spy(genesis: Genesis, keypair: Keypair, name: str, archive: Archive, recovery: Recovery) -> PeerFace:
        states.append(recovery.state_height)
        return Peer(genesis, keypair, name=name, archive=archive, recovery=recovery)

    async def start_again() -> None:
        async with trio.open_nursery() as nursery:

            async def run(*, task_status: trio.TaskStatus[RunningServer]) -> None:
                await serve(config, make_peer=spy, task_status=task_status)

            server = await nursery.start(run)
            async with connect(server, genesis) as client:
                assert (await client.holdings(BANK)).lines[0].free == 1_000_000
            server.stop()

    await start_again()
    assert states.pop() >= 1
    for path in (config.directory / "snapshots").iterdir():
        data = bytearray(path.read_bytes())
        data[-40] ^= 1
        path.write_bytes(data)
    await start_again()
    assert states.pop() == 0
    assert "snapshot_damaged" in events_of(config)


async def test_a_directory_in_use_is_refused_by_name(tmp_path: Path) -> None:
    config = make_directory(tmp_path, genesis_of(1), 0)
    async with running(config):
        with pytest.raises(InvalidInput, match=f"node-0 \\(process {os.getpid()}\\)") as caught:
            await serve(config)
        assert caught.value.code == "directory_in_use"


async def test_a_node_that_lost_its_vote_log_says_so(tmp_path: Path) -> None:
    genesis = genesis_of(1)
    config = make_directory(tmp_path, genesis, 0)
    async with running(config) as [server]:
        await _issue(server, genesis)
    for path in config.directory.glob("votes.db*"):
        path.unlink()
    async with running(config) as [server]:
        assert server.port
    notes = [line["sentence"] for line in log_of(config) if line["event"] == "store_note"]
    assert any("observes" in note for note in notes)


async def test_a_halt_ends_the_node_with_its_code_and_the_log_says_why(tmp_path: Path) -> None:
    class Halting(Peer):
        def step(self, event: Event, now_ms: int, *, more: bool = False) -> list[Effect]:
            if isinstance(event, Started):
                return [Halt("foreign_state_root", "another root was certified")]
            return super().step(event, now_ms, more=more)

    def make(genesis: Genesis, keypair: Keypair, name: str, archive: Archive, recovery: Recovery) -> PeerFace:
        return Halting(genesis, keypair, name=name, archive=archive, recovery=recovery)

    config = make_directory(tmp_path, genesis_of(1), 0)
    with pytest.raises(NodeStopped, match="another root was certified") as caught:
        await serve(config, make_peer=make)
    assert caught.value.code == "foreign_state_root"
    stopped = [line for line in log_of(config) if line["event"] == "stopped"]
    assert [line["code"] for line in stopped] == ["foreign_state_root"]


async def test_a_bug_is_not_hidden(tmp_path: Path) -> None:
    class Broken(Peer):
        def admit(self, identity: Identity) -> tuple[str, str] | None:
            return None

        def step(self, event: Event, now_ms: int, *, more: bool = False) -> list[Effect]:
            raise ZeroDivisionError("a bug")

    def make(genesis: Genesis, keypair: Keypair, name: str, archive: Archive, recovery: Recovery) -> PeerFace:
        return Broken(genesis, keypair, name=name, archive=archive, recovery=recovery)

    config = make_directory(tmp_path, genesis_of(1), 0)
    with pytest.raises(BaseExceptionGroup) as caught:
        await serve(config, make_peer=make)
    assert caught.group_contains(ZeroDivisionError)
    [crash] = [line for line in log_of(config) if line["event"] == "crashed"]
    assert "a bug" in crash["traceback"]


async def test_without_its_block_log_a_node_syncs_again(tmp_path: Path) -> None:
    genesis = genesis_of(4)
    configs = [make_directory(tmp_path, genesis, index) for index in range(4)]
    async with running(*configs) as servers:
        for server in servers:
            await server.wait_ready()
        await _issue(servers[1], genesis)
    for path in configs[0].directory.glob("chain.db*"):
        path.unlink()
    shutil.rmtree(configs[0].directory / "snapshots", ignore_errors=True)
    async with running(*configs) as servers:
        assert await servers[0].wait_ready() >= 1
