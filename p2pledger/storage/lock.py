"""One process per directory.

The lock is the kernel's (``flock``), so it ends with its holder however that one died. The file's text only serves the
sentence that names the holder; the file is never deleted, because a third process could lock the deleted file.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from p2pledger.storage.errors import DirectoryInUse, StorageFailed

__all__ = ["DirectoryLock"]

LOCK_FILE = "lock"


class DirectoryLock:
    """Held from construction to ``release``. DirectoryInUse names the process that has it."""

    def __init__(self, directory: Path, name: str) -> None:
        path = directory / LOCK_FILE
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageFailed(
                "the directory cannot be used", where=str(directory), why=error.strerror or str(error)
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._file, 4096, 0).decode("utf-8", "replace").strip() or "a process that just started"
            os.close(self._file)
            raise DirectoryInUse(
                f"the directory is in use by {holder}",
                where=str(directory),
                hint="Stop that process, or choose another directory",
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{name} (process {os.getpid()})\n".encode(), 0)

    def release(self) -> None:
        """Let others in. Calling it again does nothing."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1
