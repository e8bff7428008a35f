"""Fetching a branch: a block whose ancestors are not known, and they, back to one that is.

A branch comes from above, newest first, in pieces; each block in it is named by the one before, so nobody can slip in
another. It is only of use from its lowest block upwards, and so it is gathered whole before anything of it is judged.
One branch at a time is fetched from each peer, and at most 2,048 blocks or 8 MiB of it are kept: what is longer than
that is not caught up with from above, but from below (``sync.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from p2pledger.primitives.blocks import Block
from p2pledger.primitives.errors import PeerFault

__all__ = ["BRANCH_BLOCKS", "Branches"]

BRANCH_BLOCKS: Final = 128
"""Blocks in one piece, at most."""
_MOST_BLOCKS: Final = 2_048
_MOST_BYTES: Final = 8 * 1_048_576
_PATIENCE_MS: Final = 2_000
_MOST_QUESTIONS: Final = 256
"""The newest questions to one peer: an answer to one of them may come late, or twice, and is no offence."""


@dataclass(slots=True)
class _Download:
    wanted: bytes
    due_ms: int
    blocks: list[Block] = field(default_factory=list)
    size_bytes: int = 0
    then: bytes | None = None
    """What was wanted of the same peer in the meantime: the newest of it."""


class Branches:
    """The branches that are being fetched, by peer. Pure: it says what to ask; the peer asks."""

    def __init__(self) -> None:
        self._downloads: dict[bytes, _Download] = {}
        self._overdue: dict[bytes, _Download] = {}
        """By peer, the last one that did not come in time. A peer that is only slow may still bring it."""
        self._asked: dict[bytes, list[bytes]] = {}
        """By peer, what it was asked for, oldest first."""
        self.given_up = 0
        """Branches that were too long, or that did not come."""

    @property
    def next_due_ms(self) -> int | None:
        return min((download.due_ms for download in self._downloads.values()), default=None)

    def want(self, key: bytes, block_id: bytes, now_ms: int) -> bytes | None:
        """A branch of this peer is wanted; the block to ask it for, unless it is busy with another branch."""
        download = self._downloads.get(key)
        if download is not None:
            if block_id != download.wanted:
                download.then = block_id
            return None
        self._downloads[key] = _Download(block_id, now_ms + _PATIENCE_MS)
        return self._ask(key, block_id)

    def _ask(self, key: bytes, block_id: bytes) -> bytes:
        questions = self._asked.setdefault(key, [])
        questions.append(block_id)
        del questions[:-_MOST_QUESTIONS]
        return block_id

    def lost(self, key: bytes) -> None:
        """The session with this peer has ended."""
        self._asked.pop(key, None)
        self._downloads.pop(key, None)
        self._overdue.pop(key, None)

    def late(self, now_ms: int) -> None:
        """Give up what did not come in time."""
        for key, download in list(self._downloads.items()):
            if now_ms >= download.due_ms:
                self._overdue[key] = self._downloads.pop(key)
                self.given_up += 1

    def came(
        self, key: bytes, datas: tuple[bytes, ...], now_ms: int, is_known: Callable[[bytes], bool]
    ) -> tuple[list[Block], bytes | None]:
        """A piece came: the whole branch, oldest first, if it is complete; and what to ask this peer for next.

        A piece that comes late is as good as one in time. PeerFault ``bad_branch`` where a block is not the parent of
        the one before it, or the first one is not what this peer was ever asked for.
        """
        blocks = [Block.decode(data) for data in datas]
        if any(upper.header.parent != lower.id for upper, lower in pairwise(blocks)):
            raise PeerFault("a block of a branch is not the parent of the one before", code="bad_branch")
        if blocks and blocks[0].id not in self._asked.get(key, ()):
            raise PeerFault("a branch does not begin with a block that was asked for", code="bad_branch")
        download, overdue = self._downloads.get(key), self._overdue.get(key)
        if blocks and (download is None or blocks[0].id != download.wanted):
            if overdue is None or blocks[0].id != overdue.wanted:
                return [], None  # The answer to a question that nobody asks any more.
            if download is not None:
                overdue.then = download.wanted
            download = self._downloads[key] = overdue
            del self._overdue[key]
        if download is None:
            return [], None
        wanted = download.wanted
        for block, data in zip(blocks, datas, strict=True):
            if is_known(wanted):
                break
            download.blocks.append(block)
            download.size_bytes += len(data)
            wanted = block.header.parent
        is_complete = is_known(wanted)
        is_too_long = len(download.blocks) > _MOST_BLOCKS or download.size_bytes > _MOST_BYTES
        if datas and not is_complete and not is_too_long:
            download.wanted, download.due_ms = wanted, now_ms + _PATIENCE_MS
            return [], self._ask(key, wanted)
        del self._downloads[key]
        if not is_complete:
            self.given_up += 1
        then = download.then
        follows = then is not None and not is_known(then) and all(block.id != then for block in download.blocks)
        return download.blocks[::-1] if is_complete else [], self.want(key, then, now_ms) if follows and then else None
