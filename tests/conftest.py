"""What all tests share: how hypothesis draws its examples, and where the real data lie."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A shell that starts a command in the background has it ignore SIGINT, and so would every process that a test starts
# and means to interrupt. A handler of our own is not inherited: they begin with the default.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent

# `ci`: the same examples in every run, so that a red test is red for everybody. `explore`: fresh examples,
# many of them, for a search by hand: HYPOTHESIS_PROFILE=explore make test PYTEST_ARGS=tests/ledger
# No deadline: how fast a shared machine is today is not what these tests ask.
settings.register_profile(
    "ci", derandomize=True, max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite", action="store_true", help="write scenarios and conformance vectors as the code behaves now"
    )


@pytest.fixture(scope="session")
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether files with expected results are written anew instead of compared (``--rewrite``)."""
    return bool(request.config.getoption("--rewrite"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data files that are too large, or not free enough, for the repository.

    P2PLEDGER_DATA names it; otherwise ../shared/data beside the repository. Without it the test is skipped.
    """
    folder = Path(os.environ.get("P2PLEDGER_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; P2PLEDGER_DATA can name another")
    return folder
