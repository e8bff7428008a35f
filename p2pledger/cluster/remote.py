"""Reaches a running cluster from outside the process that runs it: by its directory, with its members' keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from p2pledger.api.client import CannotConnect, Client, NodeRefused
from p2pledger.cluster.consortium import Consortium, suggestion
from p2pledger.cluster.directory import ClusterState
from p2pledger.cluster.supervisor import running_state
from p2pledger.primitives.errors import InvalidInput, P2PLedgerError
from p2pledger.primitives.names import asset_text

__all__ = ["Remote", "TableReader", "decimals_of", "heights_of", "issuer_of", "table_rows"]

HOST = "127.0.0.1"
_PAGE: Final = 1_000


class Remote:
    """A cluster that somebody else runs. BadConfiguration if there is none, InvalidInput if it is not running."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.consortium = Consortium.load(directory)
        self.state: ClusterState = running_state(directory)

    @asynccontextmanager
    async def connect(self, member: str = "", node: str = "") -> AsyncIterator[Client]:
        """A client of ``member`` (any if empty) at ``node`` (the first that answers if empty)."""
        owner = member or next(iter(self.consortium.member_keys))
        keypair = self.consortium.keypair(owner)
        names = [state.name for state in self.state.nodes]
        if node and node not in names:
            raise InvalidInput(f"there is no node {node!r}", hint=suggestion(node, names), code="unknown_node")
        candidates = [state for state in self.state.nodes if state.is_alive and node in ("", state.name)]
        if not candidates:
            raise CannotConnect(
                f"node {node} is not running" if node else "no node is running",
                where=str(self.directory),
                hint=f"Start it again with: p2pledger cluster restart {node or names[0]}",
            )
        connected = False
        for number, candidate in enumerate(candidates):
            try:
                async with Client.connect(
                    HOST,
                    candidate.port,
                    self.consortium.genesis,
                    keypair,
                    name=owner,
                    node_key=bytes.fromhex(candidate.key),
                ) as client:
                    connected = True
                    yield client
                    return
            except (CannotConnect, NodeRefused):  # a node that hangs is refused by us, for taking too long
                if connected or number == len(candidates) - 1:
                    raise


async def decimals_of(client: Client, assets: Iterable[bytes] | None) -> dict[bytes, int]:
    """asset -> its decimals; of all assets if None. InvalidInput, with a suggestion, for one that does not exist."""
    known: dict[bytes, int] = {}
    after = b""
    while True:
        lines = (await client.assets(after=after)).lines
        known.update({line.asset: line.decimals for line in lines})
        if len(lines) < 1_000:
            break
        after = lines[-1].asset
    if assets is None:
        return known
    for asset in assets:
        if asset not in known:
            raise InvalidInput(
                f"there is no asset {asset_text(asset)}",
                hint=suggestion(asset_text(asset), [asset_text(other) for other in known]),
                code="unknown_asset",
            )
    return {asset: known[asset] for asset in assets}


async def issuer_of(client: Client, asset: bytes) -> bytes | None:
    """The account that issues an asset; None if there is no such asset."""
    after = b""
    while lines := (await client.assets(after=after)).lines:
        for line in lines:
            if line.asset == asset:
                return line.issuer
        after = lines[-1].asset
    return None


async def table_rows(client: Client, tables: Sequence[int]) -> tuple[int, dict[int, dict[bytes, bytes]]]:
    """All rows of some tables, by table and key, in one state, and its height: asked again if a block came between."""
    while True:
        found: dict[int, dict[bytes, bytes]] = {}
        heights = set()
        for table in tables:
            rows = found[table] = {}
            after = b""
            while True:
                answer = await client.rows(int(table), after=after, limit=_PAGE)
                heights.add(answer.height)
                rows.update(answer.lines)
                if len(answer.lines) < _PAGE:
                    break
                after = answer.lines[-1][0]
        if len(heights) == 1:
            return heights.pop(), found


class TableReader:
    """Rows that a node told, with the face of a state: for rules of the ledger that only read."""

    def __init__(self, tables: Mapping[int, Mapping[bytes, bytes]]) -> None:
        self._tables = tables

    def get(self, table: int, key: bytes) -> bytes | None:
        return self._tables[table].get(key)

    def scan(
        self, table: int, prefix: bytes = b"", after: bytes | None = None, limit: int = _PAGE
    ) -> list[tuple[bytes, bytes]]:
        rows = self._tables[table]
        keys = sorted(key for key in rows if key.startswith(prefix) and (after is None or key > after))
        return [(key, rows[key]) for key in keys[:limit]]


async def heights_of(directory: Path, state: ClusterState, timeout_s: float = 2.0) -> dict[str, tuple[int, int]]:
    """The height of the last final block and of the head, of each node that answers in time."""
    remote = Remote(directory)
    heights: dict[str, tuple[int, int]] = {}

    async def ask(name: str) -> None:
        try:
            with trio.move_on_after(timeout_s):
                async with remote.connect(node=name) as client:
                    status = await client.status()
                    heights[name] = status.final_height, status.head_height
        except P2PLedgerError:
            pass  # it is shown without a height

    async with trio.open_nursery() as nursery:
        for node in state.nodes:
            if node.is_alive:
                nursery.start_soon(ask, node.name)
    return heights
