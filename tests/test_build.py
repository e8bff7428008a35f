"""The build: the compiled core where it is required, the reference core where there is no compiler."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from p2pledger import core

REPOSITORY = Path(__file__).resolve().parent.parent


def is_core_required() -> bool:
    return os.environ.get("P2PLEDGER_REQUIRE_CORE", "0") not in ("", "0")


def copy_sources(target: Path) -> Path:
    """What an installation needs, without anything that was built here."""
    built = shutil.ignore_patterns("*.so", "_core.c", "__pycache__")
    shutil.copytree(REPOSITORY / "p2pledger", target / "p2pledger", ignore=built)
    for name in ("pyproject.toml", "setup.py", "LICENSE"):
        shutil.copy(REPOSITORY / name, target)
    return target


@pytest.mark.skipif(not is_core_required(), reason="P2PLEDGER_REQUIRE_CORE is not set: either core may run")
def test_the_compiled_core_is_the_one_that_is_tested() -> None:
    assert core.compiled, "these tests ran on the reference core; build the core with: make environment"


def test_a_required_core_that_cannot_be_built_is_an_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-lib", "lib", "--build-temp", "temp"],
        cwd=copy_sources(tmp_path),
        env={**os.environ, "CC": "/bin/false", "P2PLEDGER_REQUIRE_CORE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0, done.stdout + done.stderr


@pytest.mark.slow
def test_without_a_compiler_it_installs_and_says_that_it_runs_the_reference_core(tmp_path: Path) -> None:
    """In an environment of its own, that sees the libraries of this one, so that nothing is fetched."""
    home = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    libraries = home / "lib" / version / "site-packages"
    # A path file adds the folder but runs none of the path files in it: not the editable install of this package.
    (libraries / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (tmp_path / "source").mkdir()
    source = copy_sources(tmp_path / "source")
    environment = {
        name: value for name, value in os.environ.items() if name not in ("P2PLEDGER_REQUIRE_CORE", "PYTHONPATH")
    }
    installed = subprocess.run(
        [home / "bin" / "python", "-m", "pip", "install", "--verbose", "--no-index", "--no-deps",
         "--no-build-isolation", "--ignore-installed", "--disable-pip-version-check", source],
        env={**environment, "CC": "/bin/false"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    assert installed.returncode == 0, installed.stdout
    assert "REFERENCE CORE" in installed.stdout
    assert list((libraries / "p2pledger").glob("_core.*.so")) == []

    said = subprocess.run(
        [home / "bin" / "p2pledger", "version"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "reference core" in said.stdout.lower()
