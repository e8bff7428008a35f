"""The trace of a node as a file: a line for each mark, with the time (``p2pledger.network.tracing``)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from p2pledger.network.effects import Event, Mark, Stage, TimedReceived
from p2pledger.network.tracing import FULL, Trace, header_line, line_of, parse_trace
from p2pledger.primitives.errors import BadConfiguration

__all__ = ["TRACE_FILE", "Tracer", "clock_us", "read_trace"]

TRACE_FILE: Final = "trace.csv"
_LIMIT_BYTES: Final = 256 * 1_048_576
_BUFFER_BYTES: Final = 262_144


def clock_us() -> int:
    """CLOCK_MONOTONIC: one clock for all processes of a machine, which nobody sets."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000


class Tracer:
    """Notes marks. Lines are written some thousands at a time: those of a process that is killed may be missing."""

    def __init__(self, path: Path, name: str, key: bytes, *, limit_bytes: int = _LIMIT_BYTES) -> None:
        """OSError if the file cannot be written. A trace that is there goes on, after its last whole line."""
        self._file = path.open("a+", encoding="ascii", buffering=_BUFFER_BYTES)
        size_bytes = self._file.seek(0, os.SEEK_END)
        if size_bytes:
            self._file.seek(max(0, size_bytes - 1_024))
            tail = self._file.read()
            self._file.truncate(size_bytes - (len(tail) - tail.rfind("\n") - 1))
            self._file.seek(0, os.SEEK_END)
        else:
            self._file.write(header_line(name, key))
        self._left_bytes = limit_bytes - size_bytes

    def note(self, mark: Mark, event: Event) -> None:
        """The mark as of now; an arrival as of when the first and the last bytes of its frame came."""
        if mark.stage is Stage.ARRIVED and isinstance(event, TimedReceived):
            self._write(line_of(event.begun_us, mark, "first_byte"))
            self._write(line_of(event.came_us, mark, "complete"))
        else:
            self._write(line_of(clock_us(), mark))

    def _write(self, line: str) -> None:
        if self._left_bytes > 0:
            self._left_bytes -= len(line)
            self._file.write(line if self._left_bytes > 0 else f"{FULL}\n")

    def close(self) -> None:
        self._file.close()


def read_trace(path: Path) -> Trace:
    """What a node wrote. BadConfiguration if it cannot be read or is none."""
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise BadConfiguration("the trace cannot be read", where=str(path), why=why) from None
    return parse_trace(text, where=str(path))
