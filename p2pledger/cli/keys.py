"""p2pledger keys: make and show key files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2pledger.cli.options import JsonOption
from p2pledger.cli.output import command, emit, say

app = typer.Typer(help="Make and show key files.", no_args_is_help=True)


@app.command()
@command
def new(
    path: Annotated[Path, typer.Argument(help="The key file to write; it must not exist.")],
    name: Annotated[str, typer.Option("--name", help="Whose key it is; the file's name if not given.")] = "",
    seed: Annotated[int | None, typer.Option("--seed", help="Make a DEV KEY that anybody can compute.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key file, readable by its owner only.

    \b
    Example: p2pledger keys new alice.json
    """
    import os

    from p2pledger.cluster.keyfiles import KeyFile, development_keypair
    from p2pledger.primitives.keys import Keypair

    owner = name or path.stem
    if seed is None:
        keypair = Keypair.from_seed(os.urandom(32))
    else:
        keypair = development_keypair(seed, "member", owner)
        say(f"DEV KEY from seed {seed}: anybody can compute it. Never use it for anything of value.")
    KeyFile(owner, keypair).save(path)
    _show(owner, keypair.public_key, path, as_json)


@app.command()
@command
def show(
    path: Annotated[Path, typer.Argument(help="A key file.")],
    as_json: JsonOption = False,
) -> None:
    """Show the public part of a key file. The secret part is never shown."""
    from p2pledger.cluster.keyfiles import KeyFile

    key = KeyFile.load(path)
    _show(key.name, key.keypair.public_key, path, as_json)


def _show(name: str, public_key: bytes, path: Path, as_json: bool) -> None:
    from p2pledger.primitives.names import account_named

    account = account_named(name)
    if as_json:
        emit(
            "p2pledger.keys/1",
            {"name": name, "public_key": public_key.hex(), "account": account.hex(), "path": str(path)},
        )
    else:
        print(f"name        {name}\npublic key  {public_key.hex()}\naccount     {account.hex()}\nfile        {path}")
