"""What a crash left at the end of a SQLite write-ahead log.

SQLite reads its log up to the last commit whose frames all carry the right running checksum, and forgets the rest
without a word. That is right for a write that was interrupted: nobody was told that it is durable. It is wrong
for a log that was damaged in its middle: all later commits would be gone, votes among them. So the log is read here
once before SQLite opens it, by the rules of SQLite's file format document, section 4:

    header  magic, version, page size, checkpoint number, salt 1, salt 2, checksum (2 words)         32 bytes
    frame   page number, pages after commit (0: no commit), salt 1, salt 2, checksum (2 words)       24 bytes, a page

What can be lost *innocently* is only the one transaction that was being written: the next one begins after the sync of
the one before. Hence, past the first bad frame and among frames of the same salt,

    nothing          the log is whole
    at most 1 commit an interrupted write, rolled back, said in a note
    2 commits        at least the first of them had been synced: committed data are damaged

Frames that an older use of the log left behind have another salt and do not count. The caller empties the log
right after opening, so that remains of an interrupted write are never counted twice.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["WalTail", "inspect_wal"]

_HEADER: Final = struct.Struct(">IIIIIIII")
_FRAME: Final = struct.Struct(">IIIIII")
_MAGIC: Final = 0x377F0682
"""The lowest bit says whether checksums read big-endian words."""


@dataclass(frozen=True, slots=True)
class WalTail:
    """What stands in a log: frames up to the last good commit, frames after it, and commits among those."""

    committed_frames: int
    lost_frames: int
    lost_commits: int
    header_is_damaged: bool = False

    @property
    def is_damaged(self) -> bool:
        """Committed data cannot be read any more."""
        return self.header_is_damaged or self.lost_commits > 1

    @property
    def is_interrupted(self) -> bool:
        """The last write did not end."""
        return self.lost_frames > 0 and not self.is_damaged


def _running_checksum(data: bytes, order: str, first: int, second: int) -> tuple[int, int]:
    for left, right in struct.iter_unpack(order + "II", data):
        first = (first + left + second) & 0xFFFFFFFF
        second = (second + right + first) & 0xFFFFFFFF
    return first, second


def inspect_wal(path: Path) -> WalTail:
    """Read a log that no process has open. A missing or an empty one is whole. OSError as the disk gives it."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return WalTail(0, 0, 0)
    with file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or not any(header):
            # The header is synced before the first frame, so nothing was committed to such a log.
            return WalTail(0, 1 if header else 0, 0)
        magic, _version, page_bytes, _number, salt_1, salt_2, first, second = _HEADER.unpack(header)
        order = ">" if magic & 1 else "<"
        if magic & ~1 != _MAGIC or _running_checksum(header[:24], order, 0, 0) != (first, second):
            return WalTail(0, 0, 0, header_is_damaged=True)
        good, committed, lost, lost_commits = True, 0, 0, 0
        place = 0
        while len(frame := file.read(_FRAME.size + page_bytes)) >= _FRAME.size:
            _page, commit, frame_salt_1, frame_salt_2, frame_first, frame_second = _FRAME.unpack_from(frame)
            place += 1
            is_ours = (frame_salt_1, frame_salt_2) == (salt_1, salt_2)
            if good and is_ours and len(frame) == _FRAME.size + page_bytes:
                first, second = _running_checksum(frame[:8], order, first, second)
                first, second = _running_checksum(frame[_FRAME.size :], order, first, second)
                good = (first, second) == (frame_first, frame_second)
            else:
                good = False
            if good and commit:
                committed, lost = place, 0
            elif is_ours:
                lost += 1
                lost_commits += 1 if commit else 0
    return WalTail(committed, lost, lost_commits)
