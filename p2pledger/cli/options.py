"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["DirectoryOption", "JsonOption", "NodeOption"]

DirectoryOption = Annotated[
    Path,
    typer.Option(
        "--directory",
        "-d",
        envvar="P2PLEDGER_DIRECTORY",
        help="The cluster's directory.",
        show_default=True,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
NodeOption = Annotated[str, typer.Option("--node", help="The node to ask; any that runs if not given.")]

DEFAULT_DIRECTORY = Path("p2pledger-cluster")
