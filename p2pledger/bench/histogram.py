"""Latencies in a histogram that keeps three significant digits, can be merged, and knows what it did not see.

Theory. A percentile of latencies is only honest if everything that was due is in it. What was given up, or had not
ended when the run did, took at least as long as was waited for; left out, it would make a slow system look fast. So a
histogram has a *limit*: what took longer, and what never came, is counted as *over the limit*, above every number. A
percentile that falls there is not a number but "> limit".

Buckets are those of the HDR histogram (Gil Tene): below 2,048 microseconds each has its own; from there on each power
of two is divided into 1,024, so a bucket is never wider than a thousandth of its values. Runs are merged by adding the
counts, which is exact; averaging percentiles of runs is not done anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Self

from p2pledger.primitives.codec import Fields, Value, decode, encode
from p2pledger.primitives.errors import InvalidInput

__all__ = ["Histogram", "bucket_of", "ceiling_of"]

_EXACT: Final = 2_048
_HALF: Final = _EXACT // 2
_MOST_BYTES: Final = 16_777_216
_RARE: Final = 0.999
_RARE_SAMPLES: Final = 10_000
"""A share of 99.9 % and more is not told of fewer samples."""


def bucket_of(microseconds: int) -> int:
    """The number of the bucket of a value that is not negative. Greater values are never in lower buckets."""
    if microseconds < _EXACT:
        return microseconds
    shift = microseconds.bit_length() - _EXACT.bit_length() + 1
    return _EXACT + (shift - 1) * _HALF + (microseconds >> shift) - _HALF


def ceiling_of(bucket: int) -> int:
    """The greatest value in a bucket: what a percentile that falls there is said to be."""
    if bucket < _EXACT:
        return bucket
    shift, place = divmod(bucket - _EXACT, _HALF)
    return ((place + _HALF + 1) << (shift + 1)) - 1


@dataclass(slots=True)
class Histogram:
    """Counts of latencies in microseconds. What took longer than ``limit_us`` is in ``over`` and in no bucket."""

    limit_us: int
    over: int = 0
    counts: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.limit_us <= 0:
            raise InvalidInput("the limit of a histogram must be positive", code="usage")

    def __len__(self) -> int:
        """All samples, those over the limit among them."""
        return self.counts.total() + self.over

    def add(self, microseconds: int, count: int = 1) -> None:
        """Counts a latency. What a clock made negative counts as 0."""
        if microseconds > self.limit_us:
            self.over += count
        else:
            self.counts[bucket_of(max(0, microseconds))] += count

    def add_missing(self, count: int = 1) -> None:
        """Counts what was due and was not seen to end within the limit."""
        self.over += count

    @classmethod
    def of(cls, limit_us: int, latencies_us: Iterable[int]) -> Self:
        histogram = cls(limit_us)
        for latency in latencies_us:
            histogram.add(latency)
        return histogram

    def merge(self, other: Histogram) -> None:
        """Adds another run. InvalidInput if it had another limit: what is missing there means something else."""
        if other.limit_us != self.limit_us:
            raise InvalidInput(
                "histograms of different limits cannot be merged",
                why=f"{self.limit_us} and {other.limit_us} microseconds",
                code="usage",
            )
        self.counts.update(other.counts)
        self.over += other.over

    def percentile_us(self, share: float) -> int | None:
        """The least value that at least this share of all samples does not exceed (nearest rank), rounded up to the
        end of its bucket; None where it is over the limit.

        InvalidInput without samples, for a share outside of (0, 1], and for 99.9 % or more of under 10,000 samples:
        such a figure would be the accident of a few.
        """
        total = len(self)
        if not 0 < share <= 1:
            raise InvalidInput(f"a share of {share} is not in (0, 1]", code="usage")
        if not total:
            raise InvalidInput("no samples, so no percentile", code="no_samples")
        if _RARE <= share < 1 and total < _RARE_SAMPLES:
            raise InvalidInput(
                f"{share:.4%} of {total:,} samples is not told", why="10,000 are needed", code="no_samples"
            )
        rank = max(1, -int(-share * total // 1))
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return min(ceiling_of(bucket), self.limit_us)
        return None

    def text(self, share: float) -> str:
        """A percentile in milliseconds for people: ``12.3``, ``> 5000`` over the limit, ``-`` where none is told."""
        try:
            value = self.percentile_us(share)
        except InvalidInput:
            return "-"
        return f"> {self.limit_us / 1000:g}" if value is None else f"{value / 1000:.4g}"

    def milliseconds(self, share: float) -> float | str | None:
        """The same for JSON: a number, ``"> 5000"``, or None."""
        text = self.text(share)
        if text == "-":
            return None
        return text if text.startswith(">") else float(text)

    def curve(self) -> Iterator[tuple[int, float]]:
        """(microseconds, share of all samples that are not above it), ascending: the distribution, for plots."""
        total, seen = len(self), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            yield min(ceiling_of(bucket), self.limit_us), seen / total

    def encode(self) -> bytes:
        """Canonical: equal histograms have equal bytes."""
        rows = tuple((bucket, count) for bucket, count in sorted(self.counts.items()) if count)
        return encode((1, self.limit_us, self.over, rows))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """PeerFault where these are not the bytes of a histogram."""
        values: Value = decode(data, limit_bytes=_MOST_BYTES, what="histogram")
        fields = Fields(values, what="histogram", count=4, version=1)
        limit_us, over = fields.integer("limit_us"), fields.integer("over")
        histogram = cls(limit_us, over)
        for row in fields.array("counts", most=1_000_000):
            item = Fields(row, what="bucket", count=2)
            bucket = item.integer("bucket")
            histogram.counts[bucket] = item.integer("count")
        return histogram
