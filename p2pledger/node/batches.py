"""Batches that are held: checked, on their way to a final block, or just final.

A batch is judged by its bytes and the network's constants alone (``check_batch``), so all nodes judge it alike. Each
maker has a *lane* with a bounded number of bytes that are not yet final; what exceeds it is not kept, unless a
certified block names it. In a public network, where anybody may be a maker, strangers share four lanes. Final batches
stay in memory for some heights, for peers that are a little behind; older ones are read from the archive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from p2pledger import core
from p2pledger.primitives.hashing import BATCH_SIGN_TAG
from p2pledger.primitives.parameters import Parameters

__all__ = ["BadBatch", "BatchPool", "HeldBatch", "Segment", "check_batch", "likely_digest", "limits_of", "maker_of"]

_STRANGERS_LANES: Final = 4
"""All strangers together may fill as much as so many makers."""
_RECENT_HEIGHTS: Final = 64
_RECENT_BYTES: Final = 64 * 1024 * 1024
_TAIL_BYTES: Final = 66
"""A signed batch ends with its signature: 2 bytes of MessagePack head and 64 of signature."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Transactions ``start .. end`` of an own batch came from this client's session."""

    client: int
    start: int
    end: int


@dataclass(slots=True)
class HeldBatch:
    """A checked batch. ``segments`` is empty for batches of other makers."""

    data: bytes
    columns: core.Columns
    received_ms: int
    received_height: int
    segments: tuple[Segment, ...] = ()

    @property
    def digest(self) -> bytes:
        return self.columns.digest

    @property
    def size_bytes(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True)
class BadBatch:
    """Why a batch is refused whole."""

    code: str
    sentence: str


@lru_cache(maxsize=16)
def limits_of(parameters: Parameters) -> core.Limits:
    """The core's limits for scanning, from the network's parameters."""
    return core.Limits(
        max_transactions=parameters.max_batch_bytes // 128,
        max_operations=parameters.max_operations,
        max_signatures=parameters.max_signatures,
        max_transaction_bytes=parameters.max_transaction_bytes,
        max_batch_signatures=parameters.max_batch_signatures,
    )


def likely_digest(data: bytes) -> bytes | None:
    """The digest of a signed batch that has the right outer form; None where it surely has not.

    Cheap, and good enough to recognise a batch that is held already: only a scan says whether it is a batch at all.
    """
    if len(data) <= _TAIL_BYTES or data[:1] != b"\x92" or data[-_TAIL_BYTES:-64] != b"\xc4\x40":
        return None
    return core.batch_digest(memoryview(data)[1:-_TAIL_BYTES])


def maker_of(data: bytes, network_id: bytes, parameters: Parameters) -> tuple[bytes, int] | None:
    """Who has signed a batch, and in which epoch; None if its form is wrong or nobody has signed it.

    Enough to know whom to blame for it. Its transactions are another matter, and cost more.
    """
    if len(data) > parameters.max_batch_bytes:
        return None
    try:
        columns = core.scan_batch(data, network_id, limits_of(parameters))
    except core.MalformedBytes:
        return None
    message = BATCH_SIGN_TAG + columns.digest
    is_signed = core.verify_batch(columns.maker, columns.maker_signature, [message]) == b"\x01"
    return (columns.maker, columns.epoch) if is_signed else None


def check_batch(
    data: bytes, network_id: bytes, parameters: Parameters, may_make: Callable[[bytes, int], bool]
) -> core.Columns | BadBatch:
    """Form, limits, network, maker and every signature. Pure; microseconds a signature when compiled.

    ``may_make`` says whether a key may make batches in an epoch.
    """
    if len(data) > parameters.max_batch_bytes:
        return BadBatch("too_large", f"a batch of {len(data)} bytes exceeds {parameters.max_batch_bytes}")
    try:
        columns = core.scan_batch(data, network_id, limits_of(parameters))
    except core.MalformedBytes as error:
        return BadBatch(error.code, f"a batch is malformed at byte {error.offset}: {error.code}")
    if not may_make(columns.maker, columns.epoch):
        return BadBatch("unknown_maker", f"{columns.maker.hex()[:16]} makes no batches in epoch {columns.epoch}")
    verdict = core.verify_columns(columns)
    if not verdict.valid:
        bad = verdict.signature_flags.find(0)
        what = f"transaction signature {bad}" if verdict.maker else "the maker's signature"
        return BadBatch("bad_signature", f"{what} of a batch of {columns.maker.hex()[:16]} is not valid")
    return columns


@dataclass(slots=True)
class BatchPool:
    """The batches in memory: *open* (held, not final), in order of arrival, and *recent* (final)."""

    parameters: Parameters
    is_stranger: Callable[[bytes], bool] = lambda key: False
    """Whether a maker is one of any number: the lanes of all strangers together are bounded as well."""
    strangers_bytes: int = 0
    open: dict[bytes, HeldBatch] = field(default_factory=dict)
    recent: dict[bytes, bytes] = field(default_factory=dict)
    open_bytes: int = 0
    _recent_bytes: int = 0
    _lanes: dict[bytes, int] = field(default_factory=dict)
    _recent_by_height: deque[tuple[int, tuple[bytes, ...]]] = field(default_factory=deque)

    def lane_bytes(self, maker: bytes) -> int:
        """Bytes of this maker's batches that are held and not final."""
        return self._lanes.get(maker, 0)

    def has_room(self, maker: bytes, size_bytes: int, *, beyond_bytes: int = 0) -> bool:
        """Whether a maker's lane has room for a batch; ``beyond_bytes`` more than usual where it is needed."""
        most = self.parameters.lane_bytes + beyond_bytes
        if self._lanes.get(maker, 0) + size_bytes > most:
            return False
        return self.strangers_bytes + size_bytes <= _STRANGERS_LANES * most or not self.is_stranger(maker)

    def add(self, batch: HeldBatch) -> None:
        assert batch.digest not in self.open
        self.open[batch.digest] = batch
        self.open_bytes += batch.size_bytes
        maker = batch.columns.maker
        self._lanes[maker] = self.lane_bytes(maker) + batch.size_bytes
        if self.is_stranger(maker):
            self.strangers_bytes += batch.size_bytes

    def data(self, digest: bytes) -> bytes | None:
        """The signed bytes of an open or recently final batch."""
        held = self.open.get(digest)
        return held.data if held is not None else self.recent.get(digest)

    def finalise(self, height: int, digests: tuple[bytes, ...]) -> list[HeldBatch]:
        """The batches of a block that is final and executed; they leave their lanes."""
        batches = [self._remove(digest) for digest in digests]
        for batch in batches:
            self.recent[batch.digest] = batch.data
            self._recent_bytes += batch.size_bytes
        self._recent_by_height.append((height, digests))
        while self._recent_by_height[0][0] + _RECENT_HEIGHTS < height or self._recent_bytes > _RECENT_BYTES:
            for digest in self._recent_by_height.popleft()[1]:
                self._recent_bytes -= len(self.recent.pop(digest))
            if not self._recent_by_height:
                break
        return batches

    def stale(self, height: int, now_ms: int) -> Iterator[bytes]:
        """Batches that nobody ordered for so long that they may be dropped. Oldest first."""
        for digest, batch in self.open.items():
            if (
                batch.received_height + self.parameters.drop_after_heights > height
                or batch.received_ms + self.parameters.drop_after_ms > now_ms
            ):
                return
            yield digest

    def drop(self, digest: bytes) -> HeldBatch:
        return self._remove(digest)

    def _remove(self, digest: bytes) -> HeldBatch:
        batch = self.open.pop(digest)
        self.open_bytes -= batch.size_bytes
        maker = batch.columns.maker
        self._lanes[maker] -= batch.size_bytes
        if not self._lanes[maker]:
            del self._lanes[maker]
        if self.is_stranger(maker):
            self.strangers_bytes -= batch.size_bytes
        return batch
