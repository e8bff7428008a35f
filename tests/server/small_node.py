"""A network of a few nodes in this process: real stores, real sockets, real TLS, and one member, a bank."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from p2pledger.api.client import Client
from p2pledger.primitives.genesis import Genesis, Member, Register
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.names import AssetKind, account_named, asset_id
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.transactions import Define, Issue, Operation, Transaction
from p2pledger.primitives.validators import Validator
from p2pledger.server import ServerConfig, load_keypair, serve, write_node_directory
from p2pledger.server.serve import RunningServer

BANK_KEY = Keypair.from_seed(b"bank".ljust(32))
BANK = account_named("bank")
CASH = asset_id("CNY@BANK")
PATIENCE_S = 30.0
"""Real time: only a test that fails waits so long."""


def node_key(index: int) -> Keypair:
    return Keypair.from_seed(f"node {index}".encode().ljust(32))


def genesis_of(validators: int, **changes: Any) -> Genesis:
    """The same for the same arguments, so that a node can be started again."""
    settings: dict[str, Any] = {
        "name": "small",
        "time_ms": 1_700_000_000_000,
        "validators": tuple(Validator(node_key(i).public_key, 1, f"node-{i}") for i in range(validators)),
        "members": (Member("bank", Policy.of(BANK_KEY.public_key), ("central_bank", "depository")),),
        "registers": (Register("BANK", "bank", "The bank's books"),),
    }
    return Genesis(**{**settings, **changes}).check()


def make_directory(root: Path, genesis: Genesis, index: int, **settings: Any) -> ServerConfig:
    config = ServerConfig(root / f"node-{index}", f"node-{index}", **settings)
    write_node_directory(config, genesis, node_key(index), never_voted=True)
    return config


@asynccontextmanager
async def running(*configs: ServerConfig) -> AsyncIterator[list[RunningServer]]:
    """Nodes that know each other, stopped in good order at the end."""
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            servers = [await nursery.start(partial(serve, config)) for config in configs]
            ports = {
                bytes.fromhex(_public_key(config)): ("127.0.0.1", server.port)
                for config, server in zip(configs, servers, strict=True)
            }
            for server in servers:
                server.set_peers(ports)
            try:
                yield servers
            finally:
                for server in servers:
                    server.stop()


def _public_key(config: ServerConfig) -> str:
    return load_keypair(config.directory).public_key.hex()


def connect(server: RunningServer, genesis: Genesis, keypair: Keypair = BANK_KEY) -> Any:
    return Client.connect("127.0.0.1", server.port, genesis, keypair, name="bank")


def signed(genesis: Genesis, salt: int, *operations: Operation, valid_until: int = 1_000) -> tuple[bytes, bytes]:
    """The identifier and the bytes of a transaction that the bank signed."""
    body = Transaction(genesis.network_id, valid_until, salt.to_bytes(16, "big"), BANK, operations)
    return body.id, body.sign([BANK_KEY])


async def open_books(client: Client, genesis: Genesis) -> None:
    """The bank defines its money and issues a million of it; each is final before the next."""
    define = Define(CASH, int(AssetKind.MONEY), 2, BANK, "Renminbi")
    for salt, operation in enumerate((define, Issue(CASH, BANK, 1_000_000))):
        identifier, data = signed(genesis, salt, operation)
        assert (await client.submit([data])).codes == (0,)
        settled = await client.wait_settled([identifier], PATIENCE_S)
        assert settled[identifier].code == 0


def log_of(config: ServerConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (config.directory / "node.log").read_text().splitlines()]
