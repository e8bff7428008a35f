"""A node as a process: sockets, files and the clock around one ``Peer``."""

from p2pledger.server.config import (
    PeerAddress,
    ServerConfig,
    load_config,
    load_genesis,
    load_keypair,
    write_config,
    write_node_directory,
)
from p2pledger.server.serve import serve

__all__ = [
    "PeerAddress",
    "ServerConfig",
    "load_config",
    "load_genesis",
    "load_keypair",
    "serve",
    "write_config",
    "write_node_directory",
]
