"""The log of a node: one JSON object a line, with the time (UTC), the level, the event and its fields.

Events are stable words that programs may match; sentences are for people. The file is turned over at 16 MiB, four old
ones are kept: a peer that misbehaves for a week must not fill the disk.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

__all__ = ["Journal"]

_MAX_BYTES: Final = 16 * 1_048_576
_KEPT: Final = 4
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()}
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Journal:
    """Opened for one node; several in one process do not meet."""

    def __init__(self, path: Path, *, level: str) -> None:
        self._handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=_MAX_BYTES, backupCount=_KEPT, encoding="utf-8"
        )
        self._handler.setFormatter(_Lines())
        self._logger = logging.Logger(path.parent.name, level=_LEVELS[level])
        self._logger.addHandler(self._handler)

    def write(self, level: str, event: str, fields: tuple[tuple[str, str | int], ...] = ()) -> None:
        """Fields may not be called time, level or event: the line has those."""
        self._logger.log(_LEVELS.get(level, logging.ERROR), "%s", event, extra={"fields": dict(fields)})

    def crash(self, error: BaseException) -> None:
        """A bug: with its traceback, for the one who will look for it."""
        extra = {"fields": {"error": type(error).__name__}}
        self._logger.critical("crashed", exc_info=error, extra=extra)

    def close(self) -> None:
        self._handler.close()
