"""p2pledger cluster fault: let something go wrong in a running cluster, and set it right again."""

from __future__ import annotations

from typing import Annotated

import typer

from p2pledger.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption
from p2pledger.cli.output import command

app = typer.Typer(help="Let something go wrong, and set it right again.", no_args_is_help=True)

NodeArgument = Annotated[str, typer.Argument(help="The node's name, such as VENUE-A.")]


@app.command()
@command
def partition(
    groups: Annotated[
        list[str],
        typer.Argument(metavar="A,B [C,D]...", help="Names with commas between; one group: against all others."),
    ],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    as_json: JsonOption = False,
) -> None:
    """Cut the network: nodes of different groups have no sessions with each other. Clients reach all of them.

    \b
    Examples: p2pledger cluster fault partition VENUE-A
              p2pledger cluster fault partition CCDC,CSDC VENUE-A,VENUE-B
    """
    from p2pledger.cli.cluster import ask

    names = [[name.strip() for name in group.split(",") if name.strip()] for group in groups]
    ask(directory, "partition", "", as_json, groups=names)


@app.command()
@command
def delay(
    one: NodeArgument,
    other: Annotated[str, typer.Argument(help="Another node.")],
    delay_ms: Annotated[float, typer.Argument(metavar="MS", help="Milliseconds more, one way; 0 ends it.")],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    as_json: JsonOption = False,
) -> None:
    """Let it take so much longer from each of two nodes to the other."""
    from p2pledger.cli.cluster import ask

    ask(directory, "delay", one, as_json, other=other, amount=delay_ms)


@app.command()
@command
def bandwidth(
    node: NodeArgument,
    bandwidth_mbit: Annotated[float, typer.Argument(metavar="MBIT", help="Megabits a second; 0: without a bound.")],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    as_json: JsonOption = False,
) -> None:
    """Give a node another uplink, which all that it sends to other nodes shares."""
    from p2pledger.cli.cluster import ask

    ask(directory, "bandwidth", node, as_json, amount=bandwidth_mbit)


@app.command()
@command
def pause(node: NodeArgument, directory: DirectoryOption = DEFAULT_DIRECTORY, as_json: JsonOption = False) -> None:
    """Let the process of a node stand still (SIGSTOP): its sessions stay open, and nothing is answered."""
    from p2pledger.cli.cluster import ask

    ask(directory, "pause", node, as_json)


@app.command()
@command
def kill(node: NodeArgument, directory: DirectoryOption = DEFAULT_DIRECTORY, as_json: JsonOption = False) -> None:
    """Kill a node with SIGKILL, as cluster kill does."""
    from p2pledger.cli.cluster import ask

    ask(directory, "kill", node, as_json)


@app.command()
@command
def restart(node: NodeArgument, directory: DirectoryOption = DEFAULT_DIRECTORY, as_json: JsonOption = False) -> None:
    """Start a node again, as cluster restart does; faults that concern it stay in force."""
    from p2pledger.cli.cluster import ask

    ask(directory, "restart", node, as_json)


@app.command(context_settings={"ignore_unknown_options": True})
@command
def skew(
    node: NodeArgument,
    skew_ms: Annotated[
        float, typer.Argument(metavar="MS", help="Milliseconds ahead of the machine's time, or behind it.")
    ],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    as_json: JsonOption = False,
) -> None:
    """Let the clock of a node be wrong. It jumps ahead, and goes back by running at half speed.

    \b
    Examples: p2pledger cluster fault skew VENUE-A 400
              p2pledger cluster fault skew VENUE-A -400
    """
    from p2pledger.cli.cluster import ask

    ask(directory, "skew", node, as_json, amount=skew_ms)


@app.command()
@command
def heal(directory: DirectoryOption = DEFAULT_DIRECTORY, as_json: JsonOption = False) -> None:
    """End partitions, delays, other bandwidths, skews and pauses. Nodes that were killed are not started again."""
    from p2pledger.cli.cluster import ask

    ask(directory, "heal", "", as_json)
