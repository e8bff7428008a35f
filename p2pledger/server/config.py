"""What lies in the directory of one node.

genesis.bin     the agreement, canonical; its hash names the network
node.key        the node key as JSON: {"public_key": hex, "seed": hex}; mode 0600, anything wider is refused
config.json     name, where to listen, where the peers are
never_voted     present until the first start: this key has never voted anywhere (see Store.open)
network.toml    what lies between the nodes, if ``network`` of config.json names it
votes.db, chain.db, snapshots/, addresses.bin, lock, node.log, trace.csv      made by the node
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from p2pledger.network.topology import Topology
from p2pledger.primitives.errors import BadConfiguration, PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.keys import Keypair

__all__ = [
    "CONFIG_FILE",
    "GENESIS_FILE",
    "KEY_FILE",
    "LOG_FILE",
    "NETWORK_FILE",
    "NEVER_VOTED_FILE",
    "SNAPSHOTS_FOLDER",
    "PeerAddress",
    "ServerConfig",
    "load_config",
    "load_genesis",
    "load_keypair",
    "load_manifest",
    "load_network",
    "write_config",
    "write_node_directory",
]

GENESIS_FILE: Final = "genesis.bin"
KEY_FILE: Final = "node.key"
CONFIG_FILE: Final = "config.json"
NEVER_VOTED_FILE: Final = "never_voted"
LOG_FILE: Final = "node.log"
NETWORK_FILE: Final = "network.toml"
SNAPSHOTS_FOLDER: Final = "snapshots"
_SCHEMA: Final = "p2pledger.node/1"
_LOG_LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where another node listens. ``key`` is its node key in hexadecimal."""

    key: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One node. ``listen_port`` 0 takes a free port at every start; peers may be told anew while it runs."""

    directory: Path
    name: str
    listen_host: str = "127.0.0.1"
    listen_port: int = 0
    peers: tuple[PeerAddress, ...] = ()
    snapshot_every: int = 2_000
    """Heights between snapshots of the state."""
    log_level: str = "info"
    network: str = ""
    """The network manifest by which links are shaped, seen from the directory; none if empty."""
    degree: int = 0
    """To how many neighbours things are pushed that all others relay; 0: there is a session with everybody."""
    seeds: tuple[tuple[str, int], ...] | None = None
    """Host and port of nodes that are asked for others; none where a node is a seed itself. None: nobody is looked for,
    and the node calls its peers only."""
    trace: bool = False
    """Whether the node writes down when what happened to each batch and block."""

    def check(self) -> ServerConfig:
        """BadConfiguration, naming the setting."""
        if not self.name or len(self.name.encode()) > 64:
            raise BadConfiguration(f"name {self.name!r} must have 1 to 64 bytes")
        for what, port, least in (
            ("listen_port", self.listen_port, 0),
            *((f"the port of peer {peer.key}", peer.port, 1) for peer in self.peers),
            *((f"the port of seed {host}", port, 1) for host, port in self.seeds or ()),
        ):
            if not least <= port <= 65_535:
                raise BadConfiguration(f"{what} must be {least} to 65535, not {port}")
        for peer in self.peers:
            if len(_from_hex(peer.key)) != 32:
                raise BadConfiguration(f"peer key {peer.key!r} is not 32 bytes in hexadecimal")
        if self.snapshot_every < 1:
            raise BadConfiguration(f"snapshot_every must be at least 1, not {self.snapshot_every}")
        if not 0 <= self.degree <= 64 or self.degree == 1:
            raise BadConfiguration(f"degree must be 0, or 2 to 64, not {self.degree}")
        if self.seeds is not None and not self.degree:
            raise BadConfiguration("seeds need a degree", hint="It says with how many nodes there are to be sessions")
        if self.log_level not in _LOG_LEVELS:
            raise BadConfiguration(
                f"log_level {self.log_level!r} is not known", hint=f"Known: {', '.join(_LOG_LEVELS)}"
            )
        return self

    @property
    def peer_addresses(self) -> dict[bytes, tuple[str, int]]:
        """By node key."""
        return {bytes.fromhex(peer.key): (peer.host, peer.port) for peer in self.peers}


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def write_config(config: ServerConfig) -> None:
    """Write config.json, whole or not at all. BadConfiguration for settings that make no sense."""
    config.check()
    values: dict[str, Any] = {
        "schema": _SCHEMA,
        "name": config.name,
        "listen_host": config.listen_host,
        "listen_port": config.listen_port,
        "peers": {peer.key: [peer.host, peer.port] for peer in config.peers},
        "snapshot_every": config.snapshot_every,
        "log_level": config.log_level,
        "network": config.network,
        "degree": config.degree,
        "trace": config.trace,
    }
    if config.seeds is not None:
        values["seeds"] = [list(seed) for seed in config.seeds]
    path = config.directory / CONFIG_FILE
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def load_config(directory: Path) -> ServerConfig:
    """BadConfiguration says what is missing, unknown or wrong."""
    path = directory / CONFIG_FILE
    values = _load_json(path, "configuration of a node")
    values.setdefault("schema", "")
    if values.pop("schema") != _SCHEMA:
        raise BadConfiguration(
            "this is not the configuration of a node", where=str(path), why=f"schema is not {_SCHEMA}"
        )
    defaults = ServerConfig(directory, "")
    kinds: dict[str, type] = {
        "name": str,
        "listen_host": str,
        "listen_port": int,
        "peers": dict,
        "snapshot_every": int,
        "log_level": str,
        "network": str,
        "degree": int,
        "seeds": list,
        "trace": bool,
    }
    if unknown := values.keys() - kinds.keys():
        raise BadConfiguration(f"setting {sorted(unknown)[0]!r} is unknown", where=str(path))
    for key, value in values.items():
        if type(value) is not kinds[key]:
            raise BadConfiguration(f"setting {key!r} must be {kinds[key].__name__}, not {value!r}", where=str(path))
    return ServerConfig(
        directory,
        values.get("name", ""),
        values.get("listen_host", defaults.listen_host),
        values.get("listen_port", defaults.listen_port),
        peers_of(values.get("peers", {}), where=str(path)),
        values.get("snapshot_every", defaults.snapshot_every),
        values.get("log_level", defaults.log_level),
        values.get("network", defaults.network),
        values.get("degree", defaults.degree),
        _seeds_of(values["seeds"], where=str(path)) if "seeds" in values else None,
        values.get("trace", defaults.trace),
    ).check()


def load_network(config: ServerConfig) -> Topology | None:
    """The manifest of a node; None if it has none. BadConfiguration if it cannot be read or makes no sense."""
    if not config.network:
        return None
    return load_manifest(config.directory / config.network)


def load_manifest(path: Path) -> Topology:
    """A network manifest. BadConfiguration if it cannot be read or makes no sense."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise BadConfiguration("the network manifest cannot be read", where=str(path), why=why) from None
    return Topology.parse(text, where=str(path))


def peers_of(values: Mapping[str, Any], *, where: str) -> tuple[PeerAddress, ...]:
    """From {key: [host, port]}. BadConfiguration otherwise."""
    peers = []
    for key, place in values.items():
        match place:
            case [str(host), int(port)] if len(_from_hex(key)) == 32 and 0 < port < 65_536:
                peers.append(PeerAddress(key, host, port))
            case _:
                raise BadConfiguration(f"peer {key!r} at {place!r} is not a key with [host, port]", where=where)
    return tuple(peers)


def _seeds_of(values: list[Any], *, where: str) -> tuple[tuple[str, int], ...]:
    """From [[host, port], ...]. BadConfiguration otherwise."""
    seeds = []
    for place in values:
        match place:
            case [str(host), int(port)] if host and 0 < port < 65_536:
                seeds.append((host, port))
            case _:
                raise BadConfiguration(f"seed {place!r} is not [host, port]", where=where)
    return tuple(seeds)


def _load_json(path: Path, what: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfiguration(f"the {what} cannot be read", where=str(path), why=error.strerror or "") from None
    except ValueError as error:
        raise BadConfiguration(f"the {what} is not JSON", where=str(path), why=str(error)) from None
    if not isinstance(values, dict):
        raise BadConfiguration(f"the {what} is not a JSON object", where=str(path))
    return values


def load_genesis(directory: Path) -> Genesis:
    """BadConfiguration if it is missing or contradicts itself."""
    path = directory / GENESIS_FILE
    try:
        return Genesis.decode(path.read_bytes())
    except OSError as error:
        raise BadConfiguration("the genesis cannot be read", where=str(path), why=error.strerror or "") from None
    except PeerFault as fault:
        raise BadConfiguration("the genesis is damaged", where=str(path), why=str(fault)) from None


def load_keypair(directory: Path) -> Keypair:
    """The node key. BadConfiguration if it is missing, wrong, or open to others."""
    path = directory / KEY_FILE
    values = _load_json(path, "node key")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise BadConfiguration(
            "the node key can be read by others", where=str(path), hint=f"Close it with: chmod 600 {path}"
        )
    seed = _from_hex(str(values.get("seed", "")))
    if len(seed) != 32:
        raise BadConfiguration("the node key has no seed of 32 bytes in hexadecimal", where=str(path))
    keypair = Keypair.from_seed(seed)
    if values.get("public_key", keypair.public_key.hex()) != keypair.public_key.hex():
        raise BadConfiguration("public_key does not belong to the seed", where=str(path))
    return keypair


def write_node_directory(config: ServerConfig, genesis: Genesis, keypair: Keypair, *, never_voted: bool) -> None:
    """Make the directory of a node that has not run yet.

    ``never_voted`` declares that this key has never voted in this network, on any machine. Without it, a node whose
    vote log is missing only observes.
    """
    directory = config.directory
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / GENESIS_FILE).write_bytes(genesis.encode())
    values = {"public_key": keypair.public_key.hex(), "seed": keypair.seed.hex()}
    path = directory / KEY_FILE
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(json.dumps(values, indent=2) + "\n")
    if never_voted:
        (directory / NEVER_VOTED_FILE).touch()
    write_config(config)
