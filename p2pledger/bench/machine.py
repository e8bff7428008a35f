"""Where a figure comes from: the machine, the system on it, and how fast its disk keeps a promise."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pledger import __version__, core
from p2pledger.bench.histogram import Histogram

__all__ = ["Machine", "commit_of", "cpu_model", "describe_machine", "fsync_histogram"]

_FSYNCS: Final = 200
_FSYNC_BYTES: Final = 4_096
_LIMIT_US: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Machine:
    """What must be known to judge a figure. ``fsync_*`` is how long a write of 4 KiB takes to be on the disk of the
    folder in which the nodes keep their data; ``cores`` are those that this process may use."""

    cpu: str
    cores: int
    memory_mib: int
    kernel: str
    python: str
    version: str
    commit: str
    core: str
    level: str
    fsync_p50_ms: float
    fsync_p99_ms: float


def describe_machine(folder: Path) -> Machine:
    """This machine, seen from a folder on the disk that is measured. It takes as long as 200 writes."""
    fsyncs = fsync_histogram(folder)
    return Machine(
        cpu=cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        version=__version__,
        commit=commit_of(),
        core=core.description(),
        level=core.level(),
        fsync_p50_ms=(fsyncs.percentile_us(0.50) or _LIMIT_US) / 1000,
        fsync_p99_ms=(fsyncs.percentile_us(0.99) or _LIMIT_US) / 1000,
    )


def fsync_histogram(folder: Path, count: int = _FSYNCS) -> Histogram:
    """How long it takes to append 4 KiB to a file in this folder and to have them on the disk."""
    histogram = Histogram(_LIMIT_US)
    path = folder / ".fsync-probe"
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            began = time.perf_counter_ns()
            file.write(bytes(_FSYNC_BYTES))
            os.fsync(file.fileno())
            histogram.add((time.perf_counter_ns() - began) // 1000)
    path.unlink()
    return histogram


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit_of() -> str:
    """The commit of the sources, with a plus sign where they were changed since; empty if they are not in git."""
    here = Path(__file__).resolve().parent
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            cwd=here, capture_output=True, text=True, check=False, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip() if told.returncode == 0 else ""
