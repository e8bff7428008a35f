"""p2pledger fork: how nodes changed their minds about which chain to follow, and which trades that touched."""

from __future__ import annotations

from typing import Annotated

import typer

from p2pledger.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, NodeOption
from p2pledger.cli.output import command, counted, emit, say, table

__all__ = ["app"]

app = typer.Typer(help="Reorganisations of the chain.", no_args_is_help=True)


@app.callback()
def fork() -> None:
    """Reorganisations of the chain."""


@app.command()
@command
def show(
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    touched: Annotated[bool, typer.Option("--trades", help="List the transactions that fell out, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a node's head, why it follows that chain, and its last reorganisations with the trades that they touched.

    \b
    Examples: p2pledger fork show
              p2pledger fork show --node VENUE-A --trades
    """
    import trio

    from p2pledger.api.client import ForkLine, HeadAnswer
    from p2pledger.cluster.remote import Remote

    remote = Remote(directory)

    async def run() -> tuple[str, HeadAnswer, tuple[ForkLine, ...]]:
        async with remote.connect(node=node) as client:
            return client.node.name, await client.head(), await client.forks()

    name, head, forks = trio.run(run)
    if as_json:
        emit(
            "p2pledger.fork/1",
            {
                "node": name,
                "engine": remote.consortium.genesis.engine,
                "head": {
                    "height": head.height,
                    "block": head.block.hex(),
                    "weight": str(head.weight),
                    "reason": head.reason,
                    "final_height": head.final_height,
                    "final_block": head.final_block.hex(),
                },
                "forks": [
                    {
                        "height": line.height,
                        "depth": line.depth,
                        "old": line.old.hex(),
                        "new": line.new.hex(),
                        "ancestor": line.ancestor.hex(),
                        "reason": line.reason,
                        "reverted": [identifier.hex() for identifier in line.reverted],
                    }
                    for line in forks
                ],
            },
        )
        return
    print(f"head       {head.height:,}  {head.block.hex()}, weight {head.weight:,}")
    print(f"final      {head.final_height:,}  {head.final_block.hex()}")
    print(f"because    {head.reason or 'no other chain was seen'}")
    if forks:
        print()
        titles = ("height", "left", "old head", "new head", "common", "trades", "because")
        rows = [
            (
                line.height,
                line.depth,
                line.old.hex()[:12],
                line.new.hex()[:12],
                line.ancestor.hex()[:12],
                len(line.reverted),
                line.reason,
            )
            for line in forks
        ]
        print(table(titles, rows, right=("height", "left", "trades")))
    if touched:
        for line in forks:
            for identifier in line.reverted:
                print(f"reverted   {identifier.hex()}  by the change at height {line.height}")
    say(f"{name} remembers {counted(len(forks), 'reorganisation')} since it was started")
