"""What lies in a cluster's directory, and who is using it.

    genesis.bin          the agreement; its hash is the network
    keys/NAME.json       business keys of the members          (mode 0600)
    nodes/NAME/          one node: its key, its configuration, its store, node.log
    network.toml         what lies between the nodes, if links are shaped; each node has a copy
    cluster.json         who runs now: process ids, start times, ports; which faults are in force
    control.sock         where the process that runs the cluster listens
    lock                 held by that process; the kernel lets it go with its holder

A process id alone proves nothing: it may belong to somebody else by now. A process is known here by its id *and* the
moment it started, which the kernel tells in /proc.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from p2pledger.primitives.errors import BadConfiguration

__all__ = ["ClusterState", "NodeState", "ProcessIdentity", "Usage", "is_cluster", "refuse_foreign", "usage_of"]

STATE_FILE: Final = "cluster.json"
STATE_SCHEMA: Final = "p2pledger.cluster/1"
_OWN_FILES: Final = frozenset(
    {
        "genesis.bin",
        "genesis.bin.partial",
        "keys",
        "nodes",
        "cluster.json",
        "cluster.json.partial",
        "control.sock",
        "lock",
        "network.toml",
        "supervisor.log",
    }
)


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that cannot be confused with a later one of the same id. ``started`` is in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """None if no such process exists."""
        fields = _stat(pid)
        return None if fields is None else cls(pid, int(fields[19]))

    @property
    def is_alive(self) -> bool:
        """Whether this very process runs; a zombie does not."""
        fields = _stat(self.pid)
        return fields is not None and int(fields[19]) == self.started and fields[0] != "Z"

    def kill(self, number: int = signal.SIGKILL) -> bool:
        """Sends a signal to this very process. False if it is gone."""
        if not self.is_alive:
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def _stat(pid: int) -> list[str] | None:
    """Fields 3.. of /proc/PID/stat (proc(5)); the second may hold spaces and brackets, so they are cut after it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far: processor time, and the memory it holds now."""

    cpu_s: float = 0.0
    rss_mib: float = 0.0


def usage_of(pid: int) -> Usage:
    """Zeros if the process is gone."""
    fields = _stat(pid)
    if fields is None or fields[0] == "Z":
        return Usage()
    ticks = int(fields[11]) + int(fields[12])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20)


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node as it was last known. ``state``: starting, running, paused, stopped, killed or failed.

    ``votes`` is None until the node has told whether it votes; ``failure`` says why it failed.
    """

    name: str
    key: str
    state: str
    port: int
    process: ProcessIdentity | None
    log: str
    votes: bool | None = None
    failure: str = ""

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.is_alive


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The contents of cluster.json."""

    network: str
    seed: int | None
    supervisor: ProcessIdentity
    nodes: tuple[NodeState, ...]
    faults: tuple[str, ...] = ()
    """Those in force that were asked for by command, a sentence each."""

    @property
    def leftovers(self) -> tuple[NodeState, ...]:
        """Nodes that live on though the process that ran them is gone."""
        return () if self.supervisor.is_alive else tuple(node for node in self.nodes if node.is_alive)

    def save(self, directory: Path) -> None:
        partial = directory / f"{STATE_FILE}.partial"
        partial.write_text(json.dumps({"schema": STATE_SCHEMA, **asdict(self)}, indent=2) + "\n", encoding="utf-8")
        partial.replace(directory / STATE_FILE)

    @classmethod
    def load(cls, directory: Path) -> ClusterState | None:
        """None if there is no such file; BadConfiguration if it is not ours."""
        path = directory / STATE_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except OSError as error:
            why = error.strerror or str(error)
            raise BadConfiguration("the state of the cluster cannot be read", where=str(path), why=why) from None
        except ValueError as error:
            raise BadConfiguration("this is not the state of a cluster", where=str(path), why=str(error)) from None
        try:
            if values["schema"] != STATE_SCHEMA:
                raise ValueError(f"its schema is {values['schema']!r}, not {STATE_SCHEMA!r}")
            nodes = tuple(
                NodeState(
                    str(node["name"]),
                    str(node["key"]),
                    str(node["state"]),
                    int(node["port"]),
                    None if node["process"] is None else ProcessIdentity(**node["process"]),
                    str(node["log"]),
                    node.get("votes"),
                    str(node.get("failure", "")),
                )
                for node in values["nodes"]
            )
            seed = None if values["seed"] is None else int(values["seed"])
            faults = tuple(str(fault) for fault in values.get("faults", ()))
            return cls(str(values["network"]), seed, ProcessIdentity(**values["supervisor"]), nodes, faults)
        except (KeyError, TypeError, ValueError) as error:
            raise BadConfiguration(
                "this is not the state of a cluster", where=str(path), why=f"{type(error).__name__}: {error}"
            ) from None


def is_cluster(directory: Path) -> bool:
    """Whether a cluster was made in this directory."""
    return (directory / "genesis.bin").is_file()


def refuse_foreign(directory: Path) -> None:
    """BadConfiguration if the directory holds what no cluster put there: nothing of others is ever mixed in."""
    if directory.exists() and not directory.is_dir():
        raise BadConfiguration(f"{directory} is not a directory", hint="Choose another with --directory")
    if not directory.exists() or is_cluster(directory):
        return
    if strangers := sorted(path.name for path in directory.iterdir() if path.name not in _OWN_FILES):
        raise BadConfiguration(
            "the directory is not empty and holds no cluster",
            where=str(directory),
            why=f"found {', '.join(strangers[:3])}",
            hint="Choose an empty or a new directory",
            code="foreign_directory",
        )
