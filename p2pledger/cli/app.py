"""The tree of commands. Importing it must stay cheap: whatever is heavy is imported inside a command."""

from __future__ import annotations

from typing import Annotated

import typer

from p2pledger import __version__
from p2pledger.cli import (
    bench,
    certificate,
    cluster,
    demo,
    fork,
    inspect,
    keys,
    market,
    proof,
    sim,
    stake,
    transactions,
    validators,
    verify,
    views,
)
from p2pledger.cli.options import JsonOption
from p2pledger.cli.output import command, emit
from p2pledger.cli.usage import Commands

__all__ = ["app"]

app = typer.Typer(
    name="p2pledger",
    cls=Commands,
    help="A peer-to-peer ledger for securities markets.",
    epilog=(
        "Exit codes: 0 done, 1 a check failed, 2 wrong usage, 3 bad configuration, 4 cannot connect, 5 timed out, "
        "70 internal error, 130 interrupted. Data go to stdout, talk to stderr; --json gives one object."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.add_typer(cluster.app, name="cluster")
app.add_typer(keys.app, name="keys")
app.add_typer(transactions.app, name="tx")
app.add_typer(market.app, name="market")
app.command()(inspect.holdings)
app.command()(views.positions)
app.command()(views.investor)
app.command()(views.look_through)
app.command()(views.tasks)
app.add_typer(views.instruction_app, name="instruction")
app.add_typer(views.money_app, name="money")
app.add_typer(views.permissions_app, name="permissions")
app.add_typer(views.orders_app, name="orders")
app.add_typer(views.venue_app, name="venue")
app.add_typer(proof.app, name="proof")
app.add_typer(inspect.block_app, name="block")
app.add_typer(fork.app, name="fork")
app.add_typer(stake.app, name="stake")
app.command()(stake.delegate)
app.command()(stake.undelegate)
app.add_typer(stake.delegates_app, name="delegates")
app.add_typer(validators.app, name="validators")
app.command()(verify.verify)
app.command()(certificate.certificate)
app.command()(verify.doctor)
app.add_typer(sim.app, name="sim")
app.add_typer(bench.app, name="bench")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"p2pledger {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """A peer-to-peer ledger for securities markets."""


@app.command()
@command
def version(as_json: JsonOption = False) -> None:
    """Show the version, which core runs, and on which Python."""
    import platform

    from p2pledger import core

    values = {
        "version": __version__,
        "core": {"compiled": core.compiled, "level": core.level(), "description": core.description()},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    if as_json:
        emit("p2pledger.version/1", values)
    else:
        print(f"p2pledger {__version__}\n{core.description()}\nPython {values['python']} on {values['platform']}")
