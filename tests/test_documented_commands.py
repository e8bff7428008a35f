"""The documentation tells the truth: the commands it marks as runnable are run.

A fenced block is run when the line before its fence is the comment `<!-- runnable -->`:

    ```console     lines that begin with "$ " are commands, a backslash continues one; the rest is output
    ```sh          every line is part of a script
    ```python      the block is a program

All marked blocks of one document run in their order, in one shell, in one empty folder that is also the home
folder; the first command that fails is named with its line. Output is not compared: it holds figures that
differ from run to run, and what commands print is held by the tests of the command line.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
TIME_LIMIT_S = 240

MARKED_BLOCK = re.compile(r"^<!-- runnable -->\n+```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """A piece of shell script and the line of the document where it begins."""

    line: int
    script: str


def commands(document: str) -> list[Command]:
    """What the marked blocks of a document ask to be run. ValueError for an unknown language."""
    found: list[Command] = []
    for block in MARKED_BLOCK.finditer(document):
        language, text = block.groups()
        line = document.count("\n", 0, block.start(2)) + 1
        if language == "console":
            # A command, with the lines by which a backslash continues it.
            for match in re.finditer(r"^\$ ((?:.*\\\n)*.*)$", text, re.MULTILINE):
                found.append(Command(line + text.count("\n", 0, match.start()), match.group(1)))
        elif language in ("sh", "bash"):
            found.append(Command(line, text))
        elif language == "python":
            found.append(Command(line, f"python -c {shlex.quote(text)}"))
        else:
            raise ValueError(f"line {line}: no way to run a block of {language!r}")
    return found


def run_all(found: list[Command], folder: Path) -> tuple[int, str]:
    """Runs the commands in one bash; the exit status, and all output with the line of a failure."""
    script = ["trap 'echo \"failed: line $line\"' ERR"]
    for command in found:
        script += [f"line={command.line}", command.script]
    environment = {
        **os.environ,
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_COLOR": "1",
    }
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIME_LIMIT_S)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return -signal.SIGKILL, f"{output}\nstopped after {TIME_LIMIT_S} s"


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_marked_commands_run(path: Path, tmp_path: Path) -> None:
    found = commands(path.read_text(encoding="utf-8"))
    if not found:
        return
    status, output = run_all(found, tmp_path)
    assert status == 0, f"{path.relative_to(REPOSITORY)} ended with {status}:\n{output}"


def test_the_readme_has_commands_to_run() -> None:
    """A mark that is misspelt would leave the document untested without a word."""
    assert commands((REPOSITORY / "README.md").read_text(encoding="utf-8"))


SAMPLE = """\
Some words.

<!-- runnable -->
```console
$ echo one \\
    two
one two
$ test -z "$(ls)"
```

```console
$ not-marked
```

<!-- runnable -->
```python
print("it's", 3)
```
"""


def test_commands_are_found_with_their_lines() -> None:
    assert [(command.line, command.script) for command in commands(SAMPLE)] == [
        (5, "echo one \\\n    two"),
        (8, 'test -z "$(ls)"'),
        (17, "python -c 'print(\"it'\"'\"'s\", 3)\n'"),
    ]


def test_commands_run_in_order(tmp_path: Path) -> None:
    assert run_all(commands(SAMPLE), tmp_path) == (0, "one two\nit's 3\n")


def test_the_line_of_a_failing_command_is_named(tmp_path: Path) -> None:
    status, output = run_all(commands(SAMPLE.replace("test -z", "test -n")), tmp_path)
    assert status != 0
    assert "failed: line 8" in output


def test_an_unknown_language_is_an_error() -> None:
    with pytest.raises(ValueError, match="cobol"):
        commands("<!-- runnable -->\n```cobol\nSTOP RUN.\n```\n")
