"""Every test of the core runs over every witness: the reference, and the compiled core at each CPU level."""

import os
from collections.abc import Iterator
from types import ModuleType

import pytest

from p2pledger import _reference

compiled_core: ModuleType | None
try:
    from p2pledger import _core as compiled_core
except ImportError:
    compiled_core = None

MISSING = "the compiled core is not built here"
WITNESSES = ["reference", *(["compiled"] if compiled_core is None else compiled_core.levels())]


@pytest.fixture(params=WITNESSES)
def core(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """One implementation at one CPU level."""
    if request.param == "reference":
        yield _reference
        return
    if compiled_core is None:
        assert os.environ.get("P2PLEDGER_REQUIRE_CORE", "0") in ("", "0"), MISSING
        pytest.skip(MISSING)
    before = compiled_core.level()
    compiled_core.set_level(request.param)
    yield compiled_core
    compiled_core.set_level(before)


@pytest.fixture
def compiled() -> ModuleType:
    """The compiled core, for tests that hold it beside the reference."""
    if compiled_core is None:
        assert os.environ.get("P2PLEDGER_REQUIRE_CORE", "0") in ("", "0"), MISSING
        pytest.skip(MISSING)
    return compiled_core
