"""The chooser: which implementation runs, that it says so, and that both have the same names."""

import inspect
import os
import subprocess
import sys
from types import ModuleType

import pytest

from p2pledger import _reference, core

# The names whose implementation is chosen; the rest of core.__all__ is shared.
CHOSEN = sorted(set(_reference.__all__) & set(core.__all__) - {"verify_zip215"})


def run(choice: str | None, program: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "P2PLEDGER_CORE"}
    if choice is not None:
        environment["P2PLEDGER_CORE"] = choice
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_reference_can_be_forced_and_says_so() -> None:
    told = run("reference", "from p2pledger import core; print(core.compiled, core.level(), core.description())")
    assert told.stdout.startswith("False reference REFERENCE CORE")
    assert "P2PLEDGER_CORE=reference" in told.stdout


def test_a_wrong_choice_is_refused_by_name() -> None:
    told = run("fastest", "import p2pledger.core")
    assert told.returncode != 0
    assert "P2PLEDGER_CORE must be one of compiled, reference or unset, not 'fastest'" in told.stderr


def test_a_demanded_compiled_core_that_is_missing_is_an_error() -> None:
    hide = "import sys; sys.modules['p2pledger._core'] = None; "
    told = run("compiled", hide + "import p2pledger.core")
    assert told.returncode != 0
    assert "P2PLEDGER_CORE=compiled, but there is no compiled core" in told.stderr
    told = run(None, hide + "from p2pledger import core; print(core.compiled, core.description())")
    assert told.stdout.startswith("False REFERENCE CORE")


def test_the_compiled_core_runs_where_it_is_built(compiled: ModuleType) -> None:
    told = run(None, "from p2pledger import core; print(core.compiled, core.description())")
    assert told.stdout.startswith("True compiled core, level ")


@pytest.mark.parametrize("name", CHOSEN)
def test_both_implementations_have_the_same_names_and_parameters(compiled: ModuleType, name: str) -> None:
    one, other = getattr(_reference, name), getattr(compiled, name)
    if not isinstance(one, type):
        assert list(inspect.signature(one).parameters) == list(inspect.signature(other).parameters)
        return
    members = {member for member in dir(one) if not member.startswith("_")}
    assert members == {member for member in dir(other) if not member.startswith("_")}
    for member in members:
        if inspect.isfunction(getattr(one, member)):
            parameters = inspect.signature(getattr(one, member)).parameters
            assert list(parameters) == list(inspect.signature(getattr(other, member)).parameters), member


def test_errors_are_shared(compiled: ModuleType) -> None:
    for name in ("MalformedBytes", "StateReleased", "BranchInUse", "Limits", "Proof"):
        assert getattr(compiled, name) is getattr(_reference, name) is getattr(core, name)
    error = core.MalformedBytes("truncated", 7)
    assert (error.code, error.offset, str(error)) == ("truncated", 7, "truncated at byte 7")
