"""A public network in which everybody knows one seed, as processes: the others are found by asking."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import trio

from p2pledger.cluster.consortium import Consortium, node_directory
from p2pledger.cluster.processes import NodeProcess
from p2pledger.network.addressbook import AddressBook
from p2pledger.server.addresses import ADDRESSES_FILE
from p2pledger.server.config import load_config, write_config

NODES = 5
DEGREE = 3
PATIENCE_S = 120.0
"""Real time: only a test that fails waits so long."""


def _met(node: NodeProcess) -> set[str]:
    """The keys of all nodes with which a node had a session so far, as its log says."""
    lines = [json.loads(line) for line in node.log.read_text(encoding="utf-8").splitlines()]
    return {line["key"] for line in lines if line["event"] == "session_opened"}


async def test_who_knows_a_seed_finds_the_others_and_goes_on_without_it(tmp_path: Path) -> None:
    consortium = Consortium.make(NODES, seed=11, profile="public", engine="poa")
    consortium.save(tmp_path)
    nodes = [
        NodeProcess(name, key, node_directory(tmp_path, name)) for name, key in consortium.node_keys_by_genesis.items()
    ]
    seed, *others = nodes
    try:
        with trio.fail_after(PATIENCE_S):
            for node in nodes:
                seeds = () if node is seed else (("127.0.0.1", seed.port),)
                write_config(replace(load_config(node.directory), seeds=seeds, degree=DEGREE))
                await node.spawn()
                await node.wait_listening()
            for node in nodes:
                await node.wait_ready()
            # Each of them is in session with as many as it wants, and only one of those was in its configuration.
            while any(len(_met(node) - {seed.key.hex()}) < DEGREE - 1 for node in others):  # noqa: ASYNC110
                await trio.sleep(0.1)
            for node in nodes:
                assert _met(node) <= {other.key.hex() for other in nodes if other is not node}
            # What was found outlives the seed and a restart: nobody to ask is left, and the neighbours are called.
            await seed.kill()
            last = others[-1]
            await last.stop()
            book = AddressBook.decode((last.directory / ADDRESSES_FILE).read_bytes())
            assert book.anchors
            assert book.tried_count >= 2
            last.log.unlink()
            await last.spawn()
            await last.wait_listening()
            await last.wait_ready()
            assert _met(last) - {seed.key.hex()}
    finally:
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(node.kill)
