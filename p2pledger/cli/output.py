"""How commands speak: data on stdout, talk on stderr, errors in words, and exit codes that mean something."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

from p2pledger.primitives.errors import P2PLedgerError

__all__ = ["ExitCode", "command", "counted", "emit", "emit_error", "root_cause", "say", "say_refusal", "table"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class ExitCode:
    """What a command ends with; see the package's docstring."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    UNREACHABLE = 4
    TIMEOUT = 5
    INTERNAL = 70
    INTERRUPTED = 130


_CODES = {
    "cannot_connect": ExitCode.UNREACHABLE,
    "not_running": ExitCode.UNREACHABLE,
    "refused": ExitCode.UNREACHABLE,
    "connection_lost": ExitCode.UNREACHABLE,
    "timeout": ExitCode.TIMEOUT,
    "timed_out": ExitCode.TIMEOUT,
}
"""Exit codes of errors that are told apart by their stable code rather than by their class."""


_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)

_NEXT = {
    "expired": "Send it again: what is signed is valid for a window of heights only",
    "duplicate": "It was executed before; 'p2pledger tx show' tells with what outcome",
    "fee_too_low": "Allow more with --max-fee",
    "unauthorised": "Leave --sign away, so that whoever has to sign does, or name all of them",
    "insufficient_free": "'p2pledger positions' shows what is free, and what the rest is needed for",
    "unknown_account": "Names are those of the genesis and of registered parties; others are 64 hexadecimal digits",
    "not_permitted": "'p2pledger permissions explain' shows every rule that was weighed",
    "not_matched": "'p2pledger instruction show' tells who has not affirmed; 'p2pledger market affirm' does it",
    "on_hold": "'p2pledger instruction show' tells who holds it; 'p2pledger market set-hold' lets it go on",
    "unknown_instruction": "'p2pledger instruction list' shows them all",
    "irrevocable": "Whoever wants it back has to trade back; only two regulators can stop it",
    "late": "Take a later settlement day",
    "too_early": "It settles by itself when its time comes",
    "stale_attestation": "The attestor states the deposits anew: 'p2pledger market attest'",
    "above_attestation": "'p2pledger money supply' shows what circulates and what is attested",
    "short_reserves": "It waits its turn, or its payer cancels it; 'p2pledger money supply' shows the reserves",
    "order_stops": "'p2pledger orders list' shows the orders; whoever is under one may appeal",
    "second_approver": "Name two parties of role regulator, who both sign",
}
"""What to do about refusals for which there is an answer; for the others it is in the operation's own rule."""


def say(sentence: str = "") -> None:
    """Talk: for people, on stderr."""
    print(sentence, file=sys.stderr, flush=True)


def say_refusal(code: int, rule: str, operation: str = "") -> None:
    """Why the ledger refuses: the sentence of the code, the name of the rule, and what to do next."""
    from p2pledger.primitives.reasons import Reason, sentence_of

    say(sentence_of(code))
    if rule:
        say(f"  rule:  {rule}")
    otherwise = f"docs/operations.md says what {operation or 'each operation'} needs and refuses"
    say(f"  next:  {_NEXT.get(Reason(code).title, otherwise)}")


def emit(schema: str, values: dict[str, Any]) -> None:
    """Data: one JSON object in one line on stdout."""
    print(json.dumps({"schema": schema, **values}, ensure_ascii=False), flush=True)


def emit_error(code: str, what: str, where: str = "", why: str = "", hint: str = "") -> None:
    """An error as data."""
    emit("p2pledger.error/1", {"code": code, "what": what, "where": where, "why": why, "hint": hint})


def counted(count: int, one: str, many: str = "") -> str:
    """``1 batch``, ``2 batches``; the plural has an s more if it is not given."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def table(titles: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> str:
    """A plain table; columns named in ``right`` are aligned to the right."""
    cells = [[str(title) for title in titles], *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(titles))]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if title in right else cell.ljust(width)
            for cell, width, title in zip(row, widths, titles, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def command(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Wraps a command: errors become words and an exit code, and nobody sees a traceback without asking for it."""

    @wraps(function)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            _leave(error, as_json=bool(kwargs.get("as_json")))

    return run


def root_cause(error: BaseException) -> BaseException:
    """What to tell of a group of errors: the first of our own, else an interruption, else the first of all."""
    leaves: list[BaseException] = []

    def collect(item: BaseException) -> None:
        if isinstance(item, BaseExceptionGroup):
            for inner in item.exceptions:
                collect(inner)
        else:
            leaves.append(item)

    collect(error)
    for kind in (KeyboardInterrupt, P2PLedgerError):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def _leave(error: BaseException, *, as_json: bool) -> NoReturn:
    cause = root_cause(error)
    if isinstance(cause, KeyboardInterrupt):
        # It has been heard. Whoever presses it again must not break what is left to say.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.environ.get("P2PLEDGER_DEBUG") and not isinstance(cause, SystemExit | KeyboardInterrupt):
        raise error
    if isinstance(cause, KeyboardInterrupt):
        if as_json:
            emit_error("interrupted", "interrupted by Ctrl-C")
        say("interrupted")
        raise SystemExit(ExitCode.INTERRUPTED) from None
    if isinstance(cause, OSError) and (cause.filename is not None or cause.errno in _DISK_ERRORS):
        # The machine refused, and the user can do something about it.
        why = cause.strerror or str(cause)
        cause = P2PLedgerError(
            "a file or directory cannot be used", where=str(cause.filename or ""), why=why, code="file_system"
        )
    if isinstance(cause, P2PLedgerError):
        if as_json:
            emit_error(cause.code, cause.what, cause.where, cause.why, cause.hint)
        say(f"error: {cause.what}")
        for label, text in (("where", cause.where), ("why", cause.why), ("next", cause.hint)):
            if text:
                say(f"  {label + ':':<7}{text}")
        raise SystemExit(_CODES.get(cause.code, cause.exit_code)) from None
    if isinstance(cause, BrokenPipeError):
        # Whoever read our output has had enough. The interpreter must not try to write it again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(ExitCode.FAILED) from None
    if isinstance(cause, Exception):
        if as_json:
            emit_error("internal_error", f"{type(cause).__name__}: {cause}")
        say(f"internal error: {type(cause).__name__}: {cause}")
        say("  next:  run it again with P2PLEDGER_DEBUG=1 for the traceback, and report it")
        raise SystemExit(ExitCode.INTERNAL) from None
    raise cause  # SystemExit and typer's own ways of ending
