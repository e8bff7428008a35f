"""Builds the one extension, p2pledger._core, from Cython and C. Everything else stands in pyproject.toml.

The extension is optional. Where there is no C compiler, or the sources do not compile, the installation goes
on and the package runs on p2pledger/_reference.py: same results, far slower. Environment variables:

  P2PLEDGER_REQUIRE_CORE=1               a core that cannot be built is an error (the Makefile and CI set it)
  P2PLEDGER_SANITIZE=address,undefined   builds with these sanitizers, for test runs only

There are no -march flags on purpose: each kernel file names its own CPU level by a pragma and dispatch.c
chooses at run time, so that one build runs on every machine of its architecture.
"""

import os
import sys
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CORE_SOURCE = "p2pledger/_core.pyx"
NATIVE = "p2pledger/native"

require_core = os.environ.get("P2PLEDGER_REQUIRE_CORE", "0") not in ("", "0")
sanitizers = os.environ.get("P2PLEDGER_SANITIZE", "")


def core_extension() -> Extension:
    """The extension with all C files of the native folder; headers count as dependencies only."""
    compile_args = ["-std=c11", "-O3", "-fvisibility=hidden"]
    link_args = []
    if sanitizers:
        flag = f"-fsanitize={sanitizers}"
        compile_args += [flag, "-DP2L_DEBUG", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"]
        link_args += [flag]
    return Extension(
        "p2pledger._core",
        sources=[CORE_SOURCE, *sorted(glob(f"{NATIVE}/*.c"))],
        depends=sorted([*glob("p2pledger/*.pxd"), *glob(f"{NATIVE}/*.h")]),
        include_dirs=[NATIVE],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        # Also tells setuptools, at the end of an editable build, not to miss a library that was not made.
        optional=not require_core,
    )


class BuildCore(build_ext):
    """Builds the extension or, unless it is required, says why not and goes on."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # Time stamps know nothing of another compiler, of sanitizers, or of a build that was interrupted.
        self.force = True
        # setuptools hides `inplace` while it builds, and copies to the source folder afterwards.
        self.is_in_place = bool(self.inplace)

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        # Anything at all may go wrong in a foreign tool chain: a missing compiler, a missing Python.h, a
        # Cython that refuses the file. None of it may stop an installation that can do without.
        except Exception as failure:
            if require_core:
                raise
            # A library left over from older sources would be worse than none.
            Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
            if self.is_in_place or self.editable_mode:
                for leftover in Path("p2pledger").glob("_core.*.so"):
                    leftover.unlink()
            print(
                f"\np2pledger: the compiled core could not be built ({type(failure).__name__}: {failure}).\n"
                "p2pledger: the installation goes on; the package will run the REFERENCE CORE in plain\n"
                "p2pledger: Python, with the same results but far slower; `p2pledger version` says which.\n",
                file=sys.stderr,
            )


setup(
    ext_modules=[core_extension()] if Path(CORE_SOURCE).exists() else [],
    cmdclass={"build_ext": BuildCore},
)
