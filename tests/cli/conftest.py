"""Commands as users run them: in a process of their own, or, where that makes no difference, in this one."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tests.cli.commands import Command, Done, environment


@pytest.fixture
def p2pledger() -> Command:
    """Runs one command to its end, here: an interpreter that starts takes longer than most commands."""
    from p2pledger.cli.app import app

    def run(*arguments: object, **more: str) -> Done:
        unset = {"P2PLEDGER_DIRECTORY": None, "P2PLEDGER_DEBUG": None}
        result = CliRunner().invoke(app, [str(item) for item in arguments], env={**unset, "NO_COLOR": "1", **more})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def p2pledger_process() -> Command:
    """Runs one command to its end, in a process."""

    def run(*arguments: object, **more: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "p2pledger", *map(str, arguments)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=environment(**more),
            timeout=120,
        )
        assert "Traceback" not in done.stderr or "P2PLEDGER_DEBUG" in more
        return Done(done.returncode, done.stdout, done.stderr)

    return run
