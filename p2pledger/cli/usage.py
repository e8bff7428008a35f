"""What is done when a command line makes no sense: words for people, and with --json one object for programs."""

from __future__ import annotations

import re
import sys
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from p2pledger.cli.output import ExitCode, emit_error

__all__ = ["AmountCommand", "Commands"]

_UsageError: Final[type[Exception]] = typer.BadParameter.__mro__[1]
"""Typer brings it from where its Click is, which is not the same place in all its versions."""


class Commands(TyperGroup):
    """The root of all commands. A usage error with --json gives one object on stdout, too."""

    def main(self, args: Any = None, *more: Any, **options: Any) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        if "--json" not in given:
            return super().main(args, *more, **options)
        try:
            ended = super().main(args, *more, **{**options, "standalone_mode": False})
        except _UsageError as error:
            emit_error("usage", error.format_message())  # type: ignore[attr-defined]
            error.show()  # type: ignore[attr-defined]
            raise SystemExit(ExitCode.USAGE) from None
        except typer.Abort:
            raise SystemExit(ExitCode.INTERRUPTED) from None
        raise SystemExit(ended if isinstance(ended, int) else ExitCode.OK)


class AmountCommand(TyperCommand):
    """A command that takes amounts: a negative one looks like an option, and is not told as an unknown one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except _UsageError as error:
            option = getattr(error, "option_name", "")
            if not re.match(r"-[\d.]", option):
                raise
            text = next((item for item in given if item.startswith(option)), option)
            raise typer.BadParameter(f"{text} is not an amount: amounts are positive, such as 100", ctx=ctx) from None
