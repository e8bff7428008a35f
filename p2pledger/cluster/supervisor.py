"""Lets other terminals talk to the process that runs a cluster, and that process hear them.

A Unix socket in the cluster's directory (which only its owner can enter) takes one JSON line, such as
``{"do": "kill", "node": "VENUE-A"}``, and answers with one: ``{"ok": true}`` or ``{"error": {...}}``. Only what needs
the running process goes this way; the state of the cluster is read from cluster.json and from /proc, so that it can be
seen after a crash, too.

A socket's path may have about a hundred bytes, a directory's more. So the socket is named through a descriptor of the
directory: /proc/self/fd/N/control.sock.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import trio

from p2pledger.cluster.directory import ClusterState
from p2pledger.cluster.local import Cluster
from p2pledger.primitives.errors import InvalidInput, P2PLedgerError

__all__ = ["request", "running_state", "supervise"]

SOCKET_FILE: Final = "control.sock"
_MAX_LINE_BYTES: Final = 65_536
_LINE_TIMEOUT_S: Final = 5.0


@contextmanager
def _socket_path(directory: Path) -> Iterator[str]:
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_FILE}"
    finally:
        os.close(descriptor)


async def supervise(cluster: Cluster, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> str:
    """Serves the cluster's socket until ``down`` is asked for or a signal comes. Returns what ended it."""
    ending = trio.Event()
    reason = ""

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal reason
        async with stream:
            try:
                with trio.fail_after(_LINE_TIMEOUT_S):
                    asked = await _read_line(stream)
                answer, is_last = await _obey(cluster, asked)
                await stream.send_all(json.dumps(answer).encode() + b"\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, ValueError):
                return  # whoever asked is gone, or speaks something else
        if is_last:
            reason = "down"
            ending.set()

    async def hear_signals(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        nonlocal reason
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                reason = signal.Signals(number).name
                ending.set()
                return

    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    path = cluster.directory / SOCKET_FILE
    path.unlink(missing_ok=True)
    with _socket_path(cluster.directory) as name:
        await listener.bind(name)
    listener.listen(16)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(hear_signals)
            nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listener)])
            task_status.started()
            await ending.wait()
            nursery.cancel_scope.cancel()
    finally:
        path.unlink(missing_ok=True)
    return reason


async def _obey(cluster: Cluster, asked: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The answer to one request, and whether it is the last."""
    try:
        node = str(asked.get("node", ""))
        match asked.get("do"):
            case "kill":
                await cluster.kill(node)
            case "restart":
                await cluster.restart(node)
            case "stop":
                await cluster.stop(node)
            case "partition":
                cluster.cut(*[[str(name) for name in group] for group in asked["groups"]])
            case "delay":
                cluster.delay(node, str(asked["other"]), float(asked["amount"]))
            case "bandwidth":
                cluster.bandwidth(node, float(asked["amount"]))
            case "skew":
                cluster.skew(node, float(asked["amount"]))
            case "pause":
                cluster.pause(node)
            case "heal":
                cluster.heal()
            case "down":
                return {"ok": True}, True
            case unknown:
                raise InvalidInput(f"request {unknown!r} is unknown", code="unknown_request")
    except P2PLedgerError as error:
        told = {"code": error.code, "what": error.what, "where": error.where, "why": error.why, "hint": error.hint}
        return {"error": told}, False
    except (KeyError, TypeError, ValueError) as error:
        told = {"code": "bad_request", "what": "the request is not whole", "where": "", "why": repr(error), "hint": ""}
        return {"error": told}, False
    return {"ok": True}, False


async def _read_line(stream: trio.abc.ReceiveStream) -> dict[str, Any]:
    """One JSON object. ValueError for anything else."""
    data = bytearray()
    while not data.endswith(b"\n"):
        chunk = await stream.receive_some(4096)
        if not chunk or len(data) > _MAX_LINE_BYTES:
            raise ValueError("no line")
        data += chunk
    values = json.loads(data)
    if not isinstance(values, dict):
        raise ValueError("no object")
    return values


def running_state(directory: Path) -> ClusterState:
    """Who runs in this directory. InvalidInput ``not_running`` if nobody does, naming what was left behind."""
    state = ClusterState.load(directory)
    if state is None or not state.supervisor.is_alive:
        left = (
            [f"{node.name} (process {node.process.pid})" for node in state.leftovers if node.process] if state else []
        )
        raise InvalidInput(
            "no cluster is running here",
            where=str(directory),
            why=f"left behind: {', '.join(left)}" if left else "",
            hint=f"Start it with: p2pledger cluster up --detach --directory {directory}",
            code="not_running",
        )
    return state


async def request(
    directory: Path, do: str, node: str = "", *, timeout_s: float = 90.0, details: Mapping[str, object] | None = None
) -> None:
    """Asks the process that runs the cluster to do something, and waits until it is done.

    ``details``: what else the request says: groups, other, amount.
    """
    running_state(directory)
    sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        with trio.move_on_after(timeout_s) as patience:
            with _socket_path(directory) as name:
                await sock.connect(name)
            stream = trio.SocketStream(sock)
            await stream.send_all(json.dumps({"do": do, "node": node, **(details or {})}).encode() + b"\n")
            answer = await _read_line(stream)
    except (OSError, ValueError, trio.BrokenResourceError) as error:
        raise InvalidInput(
            "the process that runs the cluster does not answer",
            where=str(directory / SOCKET_FILE),
            why=str(error),
            code="not_running",
        ) from None
    finally:
        sock.close()
    if patience.cancelled_caught:
        raise InvalidInput(f"{do} {node} took longer than {timeout_s:g} s", where=str(directory), code="timeout")
    if "error" in answer:
        told = answer["error"]
        raise InvalidInput(told["what"], where=told["where"], why=told["why"], hint=told["hint"], code=told["code"])
