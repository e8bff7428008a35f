"""Nodes as processes: what they tell, what they take, and that none outlives the one who started it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import trio

from p2pledger.api.client import Client
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.market.offers import PlaceOffer
from p2pledger.primitives.names import AssetKind, asset_id
from p2pledger.primitives.transactions import Define
from p2pledger.server import load_config
from tests.server.small_node import (
    BANK,
    BANK_KEY,
    CASH,
    PATIENCE_S,
    genesis_of,
    log_of,
    make_directory,
    node_key,
    open_books,
    signed,
)

COMMAND = [sys.executable, "-W", "error", "-m", "p2pledger.server"]


class Process:
    """A node process with its two pipes."""

    def __init__(self, directory: Path) -> None:
        ready, ready_write = os.pipe()
        control_read, self.control = os.pipe()
        self.process = subprocess.Popen(
            [*COMMAND, str(directory), "--ready-fd", str(ready_write), "--control-fd", str(control_read)],
            pass_fds=(ready_write, control_read),
            stderr=subprocess.PIPE,
        )
        os.close(ready_write)
        os.close(control_read)
        self._ready: IO[str] = os.fdopen(ready, encoding="utf-8")
        self.directory = directory
        self.port = 0

    def report(self) -> dict[str, Any]:
        line = self._ready.readline()
        assert line, f"the node ended: {self.process.communicate()[1].decode()}"
        values = json.loads(line)
        self.port = values.get("port", self.port)
        return dict(values)

    def order(self, **values: object) -> None:
        os.write(self.control, json.dumps(values).encode() + b"\n")

    def let_go(self) -> None:
        """As if whoever started it had died."""
        if self.control >= 0:
            os.close(self.control)
            self.control = -1

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self.let_go()
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self._ready.close()


@pytest.fixture
def genesis() -> Genesis:
    return genesis_of(4)


@pytest.fixture
def nodes(tmp_path: Path, genesis: Genesis) -> Iterator[list[Process]]:
    processes = [Process(make_directory(tmp_path, genesis, index).directory) for index in range(4)]
    try:
        yield processes
    finally:
        for process in processes:
            process.close()


def introduce(nodes: list[Process]) -> None:
    peers = {node_key(index).public_key.hex(): ["127.0.0.1", node.port] for index, node in enumerate(nodes)}
    for node in nodes:
        if node.process.poll() is None:
            node.order(peers=peers)


def test_a_validator_that_is_killed_comes_back_at_another_port_and_loses_nothing(
    nodes: list[Process], genesis: Genesis
) -> None:
    for node in nodes:
        assert node.report() == {"port": node.port, "pid": node.process.pid}
    introduce(nodes)
    for node in nodes:
        assert node.report() == {"ready": True, "height": 0, "votes": True}

    async def trade() -> int:
        async with Client.connect("127.0.0.1", nodes[0].port, genesis, BANK_KEY) as client:
            await open_books(client, genesis)
            return (await client.status()).final_height

    height = trio.run(trade)
    assert height >= 2
    nodes[3].process.send_signal(signal.SIGKILL)
    assert nodes[3].wait() == -signal.SIGKILL
    directory = nodes[3].directory
    nodes[3].close()
    nodes[3] = Process(directory)
    nodes[3].report()
    introduce(nodes)
    assert nodes[3].report()["height"] >= height

    async def look() -> int:
        async with Client.connect("127.0.0.1", nodes[3].port, genesis, BANK_KEY) as client:
            return (await client.holdings(BANK)).lines[0].free

    assert trio.run(look) == 1_000_000
    # The addresses are kept, so that a node can be started alone.
    assert [peer.port for peer in load_config(directory).peers] == [node.port for node in nodes]
    nodes[3].order(stats=True)
    stats = nodes[3].report()["stats"]
    assert stats["height"] >= height
    assert stats["bytes_in"] > 0
    assert stats["rss_mib"] > 10
    for node in nodes:
        node.let_go()
    assert [node.wait() for node in nodes] == [0] * 4


def test_a_network_at_rest_does_by_itself_what_is_due(nodes: list[Process], genesis: Genesis) -> None:
    """A standing offer expires while nobody says anything: one block, and one more that certifies its state."""
    for node in nodes:
        node.report()
    introduce(nodes)
    for node in nodes:
        node.report()
    gold = asset_id("XAU@BANK")

    async def place() -> tuple[int, int]:
        async with Client.connect("127.0.0.1", nodes[0].port, genesis, BANK_KEY) as client:
            await open_books(client, genesis)
            expires_ms = time.time_ns() // 1_000_000 + 1_500
            operations = (
                Define(gold, int(AssetKind.MONEY), 0, BANK, "Gold"),
                PlaceOffer(BANK, bytes(16), CASH, 70, gold, 1, 1, expires_ms, b""),
            )
            identifier, data = signed(genesis, 9, *operations)
            assert (await client.submit([data])).codes == (0,)
            [settled] = (await client.wait_settled([identifier], PATIENCE_S)).values()
            assert (settled.code, settled.rule) == (0, "")
            assert (await client.holdings(BANK)).lines[0].locked == 70
            return settled.height, expires_ms

    async def wait_until_it_is_back(port: int) -> tuple[int, bytes]:
        async with Client.connect("127.0.0.1", port, genesis, BANK_KEY) as client:
            with trio.fail_after(PATIENCE_S):
                while (await client.holdings(BANK)).lines[0].locked:
                    pass
            status = await client.status()
            assert status.held_batches == 0
            return status.state_height, status.state_root

    height, expires_ms = trio.run(place)
    found = [trio.run(wait_until_it_is_back, node.port) for node in nodes]
    assert time.time_ns() // 1_000_000 >= expires_ms
    assert len({root for _, root in found}) == 1
    assert all(height + 1 < at <= height + 4 for at, _ in found)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_node_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    config = make_directory(tmp_path, genesis_of(1), 0)
    node = Process(config.directory)
    try:
        node.report()
        assert node.report() == {"ready": True, "height": 0, "votes": True}
        node.process.send_signal(number)
        assert node.wait() == 0
        assert node.process.stderr is not None
        assert node.process.stderr.read() == b""
        assert log_of(config)[-1]["event"] == "ended"
    finally:
        node.close()


def test_a_node_that_lost_its_vote_log_says_that_it_does_not_vote(tmp_path: Path) -> None:
    directory = make_directory(tmp_path, genesis_of(1), 0).directory
    (directory / "never_voted").unlink()
    node = Process(directory)
    try:
        node.report()
        assert node.report() == {"ready": True, "height": 0, "votes": False}
        node.order(stats=True)
        assert node.report()["stats"]["votes"] is False
    finally:
        node.close()


def test_the_end_of_the_starting_thread_is_not_the_end_of_the_parent(tmp_path: Path) -> None:
    """Linux sends the death signal when the *thread* ends that started a process, and Trio starts them in threads."""
    node = Process(make_directory(tmp_path, genesis_of(1), 0).directory)
    try:
        node.report()
        node.process.send_signal(signal.SIGUSR1)
        node.report()
        node.order(stats=True)
        assert node.report()["stats"]["sessions"] == 0
    finally:
        node.close()


def test_a_bad_order_is_answered_and_does_no_harm(tmp_path: Path) -> None:
    node = Process(make_directory(tmp_path, genesis_of(1), 0).directory)
    try:
        node.report()
        node.report()
        for line in (b"not json\n", b"[]\n", b'{"peers": {"abc": 1}}\n', b'{"peers": 7}\n'):
            os.write(node.control, line)
            assert node.report()["code"] == "bad_order"
        node.order(stats=True)
        assert "stats" in node.report()
    finally:
        node.close()


def test_a_node_that_cannot_start_says_why_and_with_which_exit_code(tmp_path: Path) -> None:
    config = make_directory(tmp_path, genesis_of(1), 0)
    (config.directory / "node.key").chmod(0o644)
    done = subprocess.run([*COMMAND, str(config.directory)], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 3
    assert "the node key can be read by others" in done.stderr
    assert "Traceback" not in done.stderr
    node = Process(config.directory)
    try:
        assert "can be read by others" in node.report()["error"]
    finally:
        node.close()
