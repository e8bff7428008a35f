"""``python -m p2pledger.server DIRECTORY [--ready-fd N] [--control-fd M]``: one node as a process.

What it tells, one JSON object a line, on the ready descriptor:

    {"port": 40123, "pid": 4711}            it listens
    {"ready": true, "height": 17, "votes": true}    it is connected to a quorum and has caught up; whether it votes
    {"error": "...", "code": "..."}         it could not start, or had to stop
    {"stats": {"height": 17, ...}}          the answer to "stats"

What it takes, one JSON object a line, on the control descriptor:

    {"peers": {"<key hex>": ["127.0.0.1", 40124], ...}}      where the others are; may come again, kept in config.json
    {"shun": ["<key hex>", ...]}                             no sessions with these, until other ones are named
    {"trouble": {"delays_ms": {"<name>": 20}, "bandwidth_mbit": 5}}    faults of links on top of the manifest, instead
                                                             of those that were told before; {} ends them
    {"skew_ms": -500}                                        how wrong the node's clock is to be
    {"stats": true}                                          report what was used so far

When the control descriptor ends, whoever started the node is gone, and the node stops: no orphan survives. SIGTERM and
SIGINT stop it as well. Exit codes: 0 stopped in good order; else that of the error (docs/architecture.md).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from p2pledger.network.topology import Trouble
from p2pledger.primitives.errors import P2PLedgerError
from p2pledger.server.config import ServerConfig, load_config, peers_of, write_config
from p2pledger.server.serve import RunningServer, serve

__all__ = ["main"]

_MAX_LINE_BYTES: Final = 1_048_576
_PR_SET_PDEATHSIG: Final = 1
_SWITCH_S: Final = 0.001
"""How long the stepping task keeps the interpreter while the thread of the disk wants it: votes wait for that one."""


class _Reporter:
    """Writes lines to the one who started us, if he listens."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def tell(self, **values: object) -> None:
        if self._descriptor is not None:
            try:
                os.write(self._descriptor, json.dumps(values).encode() + b"\n")
            except BrokenPipeError:
                self._descriptor = None


async def _run(config: ServerConfig, reporter: _Reporter, control: int | None) -> None:
    async with trio.open_nursery() as nursery:
        # Before the node starts, so that a signal at any time ends it in good order.
        stop = trio.Event()
        await nursery.start(_hear_signals, stop, control is not None)
        running = trio.Event()

        async def run(*, task_status: trio.TaskStatus[RunningServer]) -> None:
            await serve(config, task_status=task_status)
            nursery.cancel_scope.cancel()

        async def stop_when_asked() -> None:
            await stop.wait()
            if not running.is_set():
                nursery.cancel_scope.cancel()
            else:
                server.stop()

        nursery.start_soon(stop_when_asked)
        server = await nursery.start(run)
        running.set()
        reporter.tell(port=server.port, pid=os.getpid())
        if stop.is_set():
            server.stop()
        nursery.start_soon(_tell_ready, server, reporter)
        if control is not None:
            nursery.start_soon(_take_orders, control, config, server, reporter, stop)


async def _tell_ready(server: RunningServer, reporter: _Reporter) -> None:
    height = await server.wait_ready()
    reporter.tell(ready=True, height=height, votes=server.votes)


async def _hear_signals(stop: trio.Event, has_parent: bool, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1) as signals:
        if has_parent:
            _ask_for_death_signal()
        task_status.started()
        parent = os.getppid()
        async for number in signals:
            # SIGUSR1 comes when the *thread* that started us ends; only a new parent means that the process is gone.
            if number != signal.SIGUSR1 or os.getppid() != parent:
                stop.set()


def _ask_for_death_signal() -> None:
    """The second belt, beside the pipe, whose other end a careless sibling may hold open. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGUSR1), 0, 0, 0)


async def _take_orders(
    control: int, config: ServerConfig, server: RunningServer, reporter: _Reporter, stop: trio.Event
) -> None:
    unread = bytearray()
    async with trio.lowlevel.FdStream(control) as stream:
        while data := await stream.receive_some(65_536):
            unread += data
            while (end := unread.find(b"\n")) >= 0:
                line = bytes(unread[:end])
                del unread[: end + 1]
                config = _obey(line, config, server, reporter)
            if len(unread) > _MAX_LINE_BYTES:
                break
    stop.set()


def _obey(line: bytes, config: ServerConfig, server: RunningServer, reporter: _Reporter) -> ServerConfig:
    try:
        order: Any = json.loads(line)
        if not isinstance(order, dict):
            raise ValueError("an order is a JSON object")
        if "peers" in order:
            peers = peers_of(order["peers"], where="the control descriptor")
            config = replace(config, peers=peers)
            server.set_peers(config.peer_addresses)
            write_config(config)
        if "shun" in order:
            server.shun([bytes.fromhex(key) for key in order["shun"]])
        if "trouble" in order:
            server.trouble(_trouble_of(order["trouble"]))
        if "skew_ms" in order:
            server.skew(float(order["skew_ms"]))
        if "stats" in order:
            reporter.tell(stats=asdict(server.stats()))
    except (ValueError, TypeError, AttributeError, P2PLedgerError, OSError) as error:
        reporter.tell(error=str(error), code="bad_order")
    return config


def _trouble_of(values: dict[str, Any]) -> Trouble:
    rate_mbit = values.get("bandwidth_mbit")
    return Trouble(
        {str(name): round(1_000 * float(delay_ms)) for name, delay_ms in values.get("delays_ms", {}).items()},
        None if rate_mbit is None else round(125_000 * float(rate_mbit)),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a node; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m p2pledger.server", description="Run one node.")
    parser.add_argument("directory", type=Path, help="the directory of the node")
    parser.add_argument("--ready-fd", type=int, help="a descriptor to report to, one JSON object a line")
    parser.add_argument("--control-fd", type=int, help="a descriptor to take orders from; its end ends the node")
    options = parser.parse_args(arguments)
    reporter = _Reporter(options.ready_fd)
    try:
        config = load_config(options.directory)
        sys.setswitchinterval(_SWITCH_S)
        trio.run(partial(_run, config, reporter, options.control_fd))
    except P2PLedgerError as error:
        return _explain(error, reporter)
    except BaseExceptionGroup as group:
        reasons, others = group.split(P2PLedgerError)
        if reasons is None or others is not None:
            raise
        return _explain(_first(reasons), reporter)
    return 0


def _first(group: BaseExceptionGroup[P2PLedgerError]) -> P2PLedgerError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _explain(error: P2PLedgerError, reporter: _Reporter) -> int:
    reporter.tell(error=str(error), code=error.code)
    print(f"p2pledger.server: {error}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
