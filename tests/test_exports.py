"""The public face: what `import p2pledger` offers exists, and costs nothing until it is touched."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import p2pledger

PACKAGE = Path(p2pledger.__file__).parent
# What takes time to import and must therefore wait until a name or a command needs it.
HEAVY_MODULES = [
    "trio",
    "cryptography",
    "nacl",
    "msgpack",
    "hypothesis",
    "starlette",
    "hypercorn",
    "rich",
    "ssl",
]


def loaded_after(statement: str) -> list[str]:
    """Which heavy modules a fresh interpreter has loaded after a statement."""
    script = f"{statement}\nimport sys\nprint(*sorted(set({HEAVY_MODULES!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("name", p2pledger.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(p2pledger, name) is not None


def test_the_three_lists_of_names_agree() -> None:
    """__all__, the table of homes, and the imports by which type checkers know the names."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.asname or alias.name
        for block in ast.walk(tree)
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    lazy = set(p2pledger.__all__) - {"__version__"}
    assert typed == lazy
    assert set(p2pledger._HOMES) == lazy
    assert p2pledger.__all__ == sorted(p2pledger.__all__)


def test_dir_shows_the_public_names_before_they_are_loaded() -> None:
    assert set(p2pledger.__all__) <= set(dir(p2pledger))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Bazaar'"):
        p2pledger.Bazaar  # noqa: B018


def test_the_root_loads_nothing_heavy() -> None:
    assert loaded_after("import p2pledger") == []


def test_the_command_line_starts_without_anything_heavy() -> None:
    """`p2pledger --help` has 0.2 s; trio alone would take more."""
    assert loaded_after("import p2pledger.cli") == []


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
