"""p2pledger cluster: run a consortium on this machine, and look after it from any terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pledger.cli import faults
from p2pledger.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption
from p2pledger.cli.output import command, emit, say, table

if TYPE_CHECKING:
    from p2pledger.cluster.directory import ClusterState
    from p2pledger.primitives.genesis import Genesis

app = typer.Typer(help="Run a consortium on this machine.", no_args_is_help=True)
app.add_typer(faults.app, name="fault")

NodeArgument = Annotated[str, typer.Argument(help="The node's name, such as VENUE-A.")]


@app.command()
@command
def up(
    validators: Annotated[
        int | None, typer.Option("--validators", "-n", min=1, max=40, help="How many validators; 4 for a new cluster.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Make DEV KEYS from this number.")] = None,
    engine: Annotated[
        str, typer.Option("--engine", help="simplex, pow, pos, dpos or poa; the profile's own if not given.")
    ] = "",
    profile: Annotated[
        str, typer.Option("--profile", help="consortium (simplex), private (poa) or public (pow, with fees).")
    ] = "",
    network: Annotated[
        str, typer.Option("--network", metavar="FILE", help="What lies between the nodes: latency, bandwidth, loss.")
    ] = "",
    degree: Annotated[
        int,
        typer.Option("--degree", min=0, max=64, help="With how many others a node has sessions; 0 for all others."),
    ] = 0,
    trace: Annotated[
        bool, typer.Option("--trace", help="Let the nodes note when what happened to each batch and block.")
    ] = False,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    detach: Annotated[bool, typer.Option("--detach", help="Leave it running in the background.")] = False,
    ready_fd: Annotated[int, typer.Option("--ready-fd", hidden=True)] = -1,
    as_json: JsonOption = False,
) -> None:
    """Start a cluster, or go on with the one in the directory. Ctrl-C ends it in good order.

    A node that cannot be started is named and left out, as long as the others are a quorum.
    The directory keeps a copy of the manifest that --network names (docs/measuring.md); "none" takes it away.

    \b
    Examples: p2pledger cluster up --seed 7
              p2pledger cluster up --detach --directory trial
              p2pledger cluster up --engine dpos --seed 7
              p2pledger cluster up --profile public
              p2pledger cluster up --network network.toml --trace
              p2pledger cluster up --validators 8 --degree 4
    """
    from p2pledger.cluster.development import chosen
    from p2pledger.primitives.errors import InvalidInput

    chosen(profile, engine)
    if degree == 1:
        raise InvalidInput("a network in which each node has one session falls apart", hint="2 or more", code="usage")
    plan = _Plan(validators, seed, profile, engine, network, degree, trace)
    if detach:
        _detach(directory, plan, as_json)
    else:
        _foreground(directory, plan, ready_fd, as_json)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is asked for; None or empty where it is left open."""

    validators: int | None
    seed: int | None
    profile: str
    engine: str
    network: str
    degree: int
    trace: bool


def _foreground(directory: Path, plan: _Plan, ready_fd: int, as_json: bool) -> None:
    import json
    import os

    import trio

    from p2pledger.cli.output import root_cause
    from p2pledger.cluster.local import Cluster
    from p2pledger.cluster.supervisor import running_state, supervise
    from p2pledger.primitives.errors import P2PLedgerError

    def report(values: dict[str, Any]) -> None:
        """To the terminal that asked for a detached cluster; it may be gone."""
        if ready_fd >= 0:
            try:
                os.write(ready_fd, json.dumps(values).encode() + b"\n")
                os.close(ready_fd)
            except OSError:
                pass

    async def run() -> str:
        cluster_to_be = Cluster(
            plan.validators,
            seed=plan.seed,
            directory=directory,
            profile=plan.profile,
            engine=plan.engine,
            network=plan.network or None,
            degree=plan.degree,
            trace=plan.trace,
        )
        async with cluster_to_be as cluster, trio.open_nursery() as nursery:
            if cluster.consortium.seed is not None:
                _warn_of_dev_keys(cluster.consortium.seed)
            ended = ""

            async def serve(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
                nonlocal ended
                ended = await supervise(cluster, task_status=task_status)

            await nursery.start(serve)
            _show(running_state(cluster.directory), directory, as_json, {})
            if ready_fd < 0:
                say("Running. Ctrl-C ends it.")
            report({"ok": True})
        return ended

    try:
        ended = trio.run(run)
    except BaseException as error:
        cause = root_cause(error)
        if isinstance(cause, P2PLedgerError):
            told = {"code": cause.code, "what": cause.what, "where": cause.where, "why": cause.why, "hint": cause.hint}
            report({"error": told, "exit_code": cause.exit_code})
        raise
    say("ended")
    if ended == "SIGINT":
        raise SystemExit(130)


def _detach(directory: Path, plan: _Plan, as_json: bool) -> None:
    import json
    import os
    import subprocess
    import sys

    from p2pledger.cluster.directory import refuse_foreign
    from p2pledger.cluster.supervisor import running_state
    from p2pledger.primitives.errors import P2PLedgerError

    refuse_foreign(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ready_read, ready_write = os.pipe()
    arguments = [sys.executable, "-m", "p2pledger", "cluster", "up", "--directory", str(directory.absolute())]
    arguments += ["--ready-fd", str(ready_write)]
    asked = {"validators": plan.validators, "seed": plan.seed, "profile": plan.profile, "engine": plan.engine}
    for option, value in {**asked, "network": plan.network, "degree": plan.degree or None}.items():
        if value not in (None, ""):
            arguments += [f"--{option}", str(value)]
    arguments += ["--trace"] if plan.trace else []
    log = directory / "supervisor.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(ready_write,),
            start_new_session=True,
        )
    os.close(ready_write)
    try:
        with os.fdopen(ready_read, "rb") as pipe:
            line = pipe.readline()
    except KeyboardInterrupt:
        process.terminate()
        raise
    answer = json.loads(line) if line else {}
    if not answer.get("ok"):
        process.wait()
    if "error" in answer:
        told = answer["error"]
        error = P2PLedgerError(told["what"], where=told["where"], why=told["why"], hint=told["hint"], code=told["code"])
        error.exit_code = int(answer["exit_code"])
        raise error
    if not line:
        raise P2PLedgerError("the cluster did not start", where=str(log), hint="The log says why", code="node_failed")
    # It runs on by itself: nobody waits for it, and that is no fault.
    process.returncode = 0
    state = running_state(directory)
    if state.seed is not None:
        _warn_of_dev_keys(state.seed)
    _show(state, directory, as_json, {})


def _warn_of_dev_keys(seed: int) -> None:
    say(f"DEV KEYS from seed {seed}: anybody can compute them. Never use this network for anything of value.")


def _show(state: ClusterState, directory: Path, as_json: bool, heights: dict[str, tuple[int, int]]) -> None:
    from p2pledger.cluster.consortium import load_genesis
    from p2pledger.cluster.directory import usage_of

    rows: list[dict[str, Any]] = []
    for node in state.nodes:
        alive = node.is_alive
        shown = node.state if alive or node.state in ("killed", "stopped", "failed") else "dead"
        final, head = heights.get(node.name, (None, None))
        usage = usage_of(node.process.pid) if alive and node.process is not None else None
        rows.append(
            {
                "name": node.name,
                "state": shown,
                "votes": node.votes if alive else None,
                "pid": node.process.pid if alive and node.process is not None else None,
                "port": node.port if alive else None,
                "height": final,
                "head": head,
                "cpu_s": None if usage is None else round(usage.cpu_s, 2),
                "rss_mib": None if usage is None else round(usage.rss_mib, 1),
                "key": node.key,
                "log": node.log,
                "failure": node.failure or None,
            }
        )
    running = state.supervisor.is_alive
    genesis = load_genesis(directory)
    _warn(state, genesis)
    if as_json:
        emit(
            "p2pledger.cluster.ps/1",
            {
                "directory": str(directory),
                "network": state.network,
                "profile": genesis.profile,
                "engine": genesis.engine,
                "seed": state.seed,
                "running": running,
                "supervisor_pid": state.supervisor.pid if running else None,
                "faults": list(state.faults) if running else [],
                "nodes": rows,
            },
        )
        return
    titles = ("name", "state", "votes", "pid", "port", "height", "head", "cpu_s", "rss_mib")
    cells = [[_word(row[title]) for title in titles] for row in rows]
    print(table(titles, cells, right=titles[3:]))
    who = f"run by process {state.supervisor.pid}" if running else "nobody runs it"
    say(f"network {state.network}, {genesis.profile}, engine {genesis.engine}, in {directory}, {who}")
    for fault in state.faults if running else ():
        say(f"fault in force: {fault}")


def _word(value: object) -> object:
    return "-" if value is None else value if not isinstance(value, bool) else "yes" if value else "NO"


def _warn(state: ClusterState, genesis: Genesis) -> None:
    """Which nodes failed and which do not vote, as long as somebody runs the cluster."""
    from p2pledger.cluster.development import needed_weight

    if not state.supervisor.is_alive:
        return
    for node in state.nodes:
        if node.state == "failed":
            say(f"warning: {node.name} failed: {node.failure or 'its log says why'}")
            say(f"  next:  when that is repaired, p2pledger cluster restart {node.name}")
        elif node.is_alive and node.votes is False:
            say(
                f"warning: {node.name} does not vote: its vote log (votes.db) was lost, so it may have voted before "
                "and cannot know what. It only observes until the validators give it a new key"
            )
    voting = sum(node.is_alive and node.votes is True for node in state.nodes)
    validators = len(state.nodes)
    if voting < validators and any(node.state == "running" for node in state.nodes):
        enough = voting >= needed_weight(genesis)
        told = "a quorum, so the ledger goes on" if enough else "fewer than a quorum, so nothing becomes final"
        if genesis.engine in ("pow", "pos"):
            told = "the ledger goes on" if enough else "no block is made"
        say(f"{voting} of {validators} nodes are ready and vote: {told}")


@app.command()
@command
def ps(directory: DirectoryOption = DEFAULT_DIRECTORY, as_json: JsonOption = False) -> None:
    """Show the nodes: state, whether they vote, process, port, height, use of the machine."""
    import trio

    from p2pledger.cluster.consortium import load_genesis
    from p2pledger.cluster.directory import ClusterState
    from p2pledger.cluster.remote import heights_of
    from p2pledger.primitives.errors import InvalidInput

    load_genesis(directory)
    state = ClusterState.load(directory)
    if state is None:
        raise InvalidInput("this cluster was never started", where=str(directory), code="not_running")
    heights = trio.run(heights_of, directory, state) if state.supervisor.is_alive else {}
    _show(state, directory, as_json, heights)
    for node in state.leftovers:
        assert node.process is not None
        say(f"left behind by an earlier run: {node.name}, process {node.process.pid}; end it with cluster down")


@app.command()
@command
def logs(
    node: NodeArgument,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 40,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the last lines of a node's log."""
    import time
    from collections import deque

    from p2pledger.cluster.consortium import load_genesis, suggestion
    from p2pledger.primitives.errors import InvalidInput

    known = [seat.name for seat in load_genesis(directory).validators]
    if node not in known:
        raise InvalidInput(f"there is no node {node!r}", hint=suggestion(node, known), code="unknown_node")
    path = directory / "nodes" / node / "node.log"
    if not path.exists():
        raise InvalidInput("the node has no log yet", where=str(path), code="no_log")
    with path.open(encoding="utf-8", errors="replace") as file:
        last = deque(file, maxlen=lines)
        if as_json:
            emit(
                "p2pledger.cluster.logs/1", {"node": node, "path": str(path), "lines": [line.rstrip() for line in last]}
            )
            return
        print("".join(last), end="", flush=True)
        while follow:
            if line := file.readline():
                print(line, end="", flush=True)
            else:
                time.sleep(0.2)


@app.command()
@command
def kill(node: NodeArgument, directory: DirectoryOption = DEFAULT_DIRECTORY, as_json: JsonOption = False) -> None:
    """Kill a node with SIGKILL, as a power cut of its process would."""
    ask(directory, "kill", node, as_json)


@app.command()
@command
def restart(node: NodeArgument, directory: DirectoryOption = DEFAULT_DIRECTORY, as_json: JsonOption = False) -> None:
    """Start a node again; returns when it has caught up with the others."""
    ask(directory, "restart", node, as_json)


def ask(directory: Path, do: str, node: str, as_json: bool, **details: object) -> None:
    """Let the process that runs the cluster do something, and show what came of it."""
    from functools import partial

    import trio

    from p2pledger.cluster.consortium import load_genesis
    from p2pledger.cluster.supervisor import request, running_state

    load_genesis(directory)
    trio.run(partial(request, directory, do, node, details=details))
    _show(running_state(directory), directory, as_json, {})


@app.command()
@command
def down(
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    purge: Annotated[bool, typer.Option("--purge", help="Delete the directory with all its data and keys.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop all nodes in good order, and end what a crashed run left behind."""
    import shutil
    import time

    import trio

    from p2pledger.cluster.consortium import load_genesis
    from p2pledger.cluster.directory import ClusterState
    from p2pledger.cluster.supervisor import request
    from p2pledger.primitives.errors import P2PLedgerError

    load_genesis(directory)
    state = ClusterState.load(directory)
    ended: list[str] = []
    if state is not None:
        processes = [(node.name, node.process) for node in state.nodes if node.process is not None]
        if state.supervisor.is_alive:
            ended = [name for name, process in processes if process.is_alive]
            trio.run(request, directory, "down")
        else:
            for node in state.leftovers:
                assert node.process is not None
                say(f"ending {node.name}, process {node.process.pid}, left behind by an earlier run")
                node.process.kill()
                ended.append(node.name)
        patience_s = time.monotonic() + 30
        waited = [("the cluster", state.supervisor), *processes]
        while alive := [name for name, process in waited if process.is_alive]:
            if time.monotonic() > patience_s:
                raise P2PLedgerError(
                    f"{', '.join(alive)} did not end within 30 s", where=str(directory), code="timeout"
                )
            time.sleep(0.05)
    if purge:
        shutil.rmtree(directory)
    if as_json:
        emit("p2pledger.cluster.down/1", {"directory": str(directory), "ended": ended, "purged": purge})
    else:
        say(f"ended: {', '.join(ended) or 'nothing was running'}" + ("; directory deleted" if purge else ""))
