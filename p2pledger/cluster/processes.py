"""One node as a process of its own.

The node tells over a pipe when it listens and when it is ready; nothing is guessed from its log. Its other pipe comes
from us, and tells it its peers. That pipe is also how a node learns that its parent is gone: when the last writing
end closes, however the parent died, the node reads the end of the file and stops. No orphan survives.

Each node has a session, and with it a process group, of its own, so that Ctrl-C at the terminal reaches only the
process that runs the cluster, which then stops its nodes in order.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from p2pledger.cluster.directory import NodeState, ProcessIdentity
from p2pledger.primitives.errors import P2PLedgerError
from p2pledger.server.config import LOG_FILE

__all__ = ["NodeFailed", "NodeProcess", "NodeStats"]

_GRACE_S = 10.0
"""How long a node may take to stop when it is asked to: it may be writing a snapshot."""


class NodeFailed(P2PLedgerError):
    """A node process ended, or did not come up. The error carries the end of its log."""

    code = "node_failed"
    exit_code = 1


@dataclass(frozen=True, slots=True)
class NodeStats:
    """Used and moved by one process since it started; bytes are those of the frames of its sessions."""

    cpu_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0


class NodeProcess:
    """A running node. Made by ``spawn``; ``wait_listening`` and ``wait_ready`` follow what it tells."""

    def __init__(self, name: str, key: bytes, directory: Path) -> None:
        self.name = name
        self.key = key
        self.directory = directory
        self.port = 0
        self.height = 0
        self.state = "starting"
        self.votes: bool | None = None
        """Whether it votes; known when it is ready."""
        self.failure = ""
        """Why it failed."""
        self.is_paused = False
        self.identity: ProcessIdentity | None = None
        self._process: trio.Process | None = None
        self._control = -1
        self._ready: trio.lowlevel.FdStream | None = None
        self._unread = bytearray()
        self._asking = trio.Lock()

    @property
    def log(self) -> Path:
        """What the node writes about itself, one JSON object a line."""
        return self.directory / LOG_FILE

    @property
    def output(self) -> Path:
        """What the interpreter may say on stdout and stderr."""
        return self.directory / "output.log"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def has_ended(self) -> bool:
        """There was a process, and it is gone."""
        return self._process is not None and not self.is_running

    async def spawn(self) -> None:
        """Starts the process; its configuration must be in ``directory``. It listens after ``wait_listening``."""
        assert not self.is_running
        ready_read, ready_write = os.pipe()
        control_read, self._control = os.pipe()
        try:
            with self.output.open("ab") as output:
                self._process = await trio.lowlevel.open_process(
                    [
                        sys.executable,
                        "-m",
                        "p2pledger.server",
                        str(self.directory),
                        "--ready-fd",
                        str(ready_write),
                        "--control-fd",
                        str(control_read),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(ready_write, control_read),
                    start_new_session=True,
                )
        except BaseException:
            os.close(ready_read)
            os.close(self._control)
            self._control = -1
            raise
        finally:
            os.close(ready_write)
            os.close(control_read)
        self._ready = trio.lowlevel.FdStream(ready_read)
        self._unread.clear()
        self.state, self.port, self.votes, self.failure = "starting", 0, None, ""
        self.is_paused = False
        self.identity = ProcessIdentity.of(self._process.pid)

    async def wait_listening(self) -> int:
        """The port. NodeFailed if the process ends before it listens."""
        while not self.port:
            report = await self._next_report()
            self.port = int(report.get("port", 0))
        return self.port

    async def wait_ready(self) -> int:
        """The height at which the node is connected and caught up. NodeFailed if it ends before."""
        while self.state != "running":
            report = await self._next_report()
            if report.get("ready"):
                self.height, self.votes = int(report.get("height", 0)), bool(report.get("votes"))
                self.state = "running"
        return self.height

    async def _next_report(self) -> Mapping[str, Any]:
        """The next JSON line of the ready pipe."""
        assert self._ready is not None
        while b"\n" not in self._unread:
            chunk = await self._ready.receive_some()
            if not chunk:
                raise await self._failure()
            self._unread += chunk
        line, _, rest = bytes(self._unread).partition(b"\n")
        self._unread[:] = rest
        report = json.loads(line)
        if not isinstance(report, dict):
            raise NodeFailed(f"node {self.name} reported {line!r}", where=str(self.log))
        if "error" in report:
            with trio.move_on_after(2):
                await self._wait_process()
            self.state = "failed"
            raise NodeFailed(f"node {self.name} stopped", why=str(report["error"]), where=str(self.log))
        return report

    async def fail(self, error: P2PLedgerError) -> None:
        """It cannot be used; what may be left of it is stopped."""
        self.state, self.failure = "failed", str(error)
        await self.stop()

    async def wait_ended(self) -> None:
        """Until the process has ended, for whatever reason; at once if there is none."""
        if self._process is not None:
            await self._process.wait()

    async def last_words(self) -> NodeFailed:
        """Why the process ended by itself, as it told us, else as its log says."""
        try:
            while True:
                await self._next_report()
        except NodeFailed as error:
            return error

    async def _wait_process(self) -> None:
        assert self._process is not None
        await self._process.wait()

    async def stats(self) -> NodeStats:
        """What the node has used and moved since its process started. NodeFailed if it is not running."""
        async with self._asking:
            if self._control < 0 or self.is_paused:
                raise NodeFailed(f"node {self.name} is not running", where=str(self.log))
            self._order({"stats": True})
            while "stats" not in (report := await self._next_report()):
                pass
        values = report["stats"]
        return NodeStats(float(values["cpu_s"]), int(values["bytes_in"]), int(values["bytes_out"]))

    def _order(self, order: Mapping[str, Any]) -> None:
        """One line on the control pipe, which holds far more than a line: it never blocks."""
        try:
            os.write(self._control, json.dumps(order).encode() + b"\n")
        except BrokenPipeError:
            pass  # it has just died; its reports will say so

    async def _failure(self) -> NodeFailed:
        assert self._process is not None
        with trio.move_on_after(2):
            await self._process.wait()
        status = self._process.poll()
        how = "closed its report" if status is None else f"ended with status {status}"
        when = "" if self.state == "running" else " before it was ready"
        self.state = "failed"
        why = self.last_error() or self.log_tail()
        return NodeFailed(f"node {self.name} {how}{when}", why=why, where=str(self.log))

    def last_error(self) -> str:
        """The last critical line of the log since the node was started, as a sentence; empty if there is none."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 65_536))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        found = ""
        for line in lines:
            try:
                values = json.loads(line)
                level, event = values["level"], values["event"]
            except (ValueError, KeyError, TypeError):
                continue  # cut at the beginning of the tail, or by a full disk
            if event == "starting":
                found = ""
            elif level == "critical":
                found = str(values.get("sentence") or values.get("traceback", event)).strip().splitlines()[-1]
        return found

    def log_tail(self, lines: int = 4) -> str:
        """The last lines of what the process said, in one."""
        for path in (self.output, self.log):
            try:
                with path.open("rb") as file:
                    file.seek(0, os.SEEK_END)
                    file.seek(max(0, file.tell() - 8192))
                    tail = file.read().decode("utf-8", "replace").strip().splitlines()[-lines:]
            except OSError:
                continue
            if tail:
                return " | ".join(tail)
        return ""

    def tell_peers(self, peers: Mapping[str, tuple[str, int]]) -> None:
        """Where the others listen: key in hexadecimal -> (host, port). A node that has just died is not told."""
        if self._control >= 0:
            self._order({"peers": {key: list(place) for key, place in peers.items()}})

    def shun(self, keys: Sequence[bytes]) -> None:
        """Have no sessions with the nodes of these keys until other ones are named; a restarted node knows none."""
        if self._control >= 0:
            self._order({"shun": [key.hex() for key in keys]})

    def trouble(self, delays_ms: Mapping[str, float], bandwidth_mbit: float | None) -> None:
        """So much more latency to the nodes of these names, and another uplink, until told otherwise."""
        if self._control >= 0:
            order: dict[str, Any] = {"delays_ms": dict(delays_ms)}
            if bandwidth_mbit is not None:
                order["bandwidth_mbit"] = bandwidth_mbit
            self._order({"trouble": order})

    def skew(self, skew_ms: float) -> None:
        """Let its clock be so far ahead of the machine's, or behind it."""
        if self._control >= 0:
            self._order({"skew_ms": skew_ms})

    def pause(self) -> None:
        """SIGSTOP: the process stands still, and its sockets stay open. NodeFailed if it does not run."""
        if self._process is None or not self.is_running:
            raise NodeFailed(f"node {self.name} is not running", where=str(self.log))
        self._process.send_signal(signal.SIGSTOP)
        self.is_paused = True

    def resume(self) -> None:
        """SIGCONT, if it was paused."""
        if self._process is not None and self.is_running and self.is_paused:
            self._process.send_signal(signal.SIGCONT)
        self.is_paused = False

    async def kill(self) -> None:
        """SIGKILL, and wait until the kernel has reaped it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
        self.state = "killed"
        await self._close_pipes()

    async def stop(self, grace_s: float = _GRACE_S) -> None:
        """Asks the node to stop by closing its pipe; insists with SIGTERM, then SIGKILL."""
        process = self._process
        self.resume()
        if self._control >= 0:
            os.close(self._control)
            self._control = -1
        if process is not None and process.poll() is None:
            for number in (None, signal.SIGTERM, signal.SIGKILL):
                if number is not None:
                    process.send_signal(number)
                with trio.move_on_after(grace_s if number is None else 2):
                    await process.wait()
                    break
        if self.state not in ("killed", "failed"):
            self.state = "stopped"
        await self._close_pipes()

    async def _close_pipes(self) -> None:
        if self._control >= 0:
            os.close(self._control)
            self._control = -1
        if self._ready is not None:
            await self._ready.aclose()
            self._ready = None

    def describe(self) -> NodeState:
        """As it is now; a process that ended by itself is seen here."""
        if self.state in ("starting", "running") and self._process is not None and not self.is_running:
            self.state = "failed"
        if self.state == "failed" and not self.failure:
            self.failure = self.last_error() or self.log_tail()
        identity = self.identity if self.is_running else None
        votes = self.votes if self.is_running else None
        failure = self.failure if self.state == "failed" else ""
        state = "paused" if self.is_paused and self.is_running else self.state
        return NodeState(self.name, self.key.hex(), state, self.port, identity, str(self.log), votes, failure)
