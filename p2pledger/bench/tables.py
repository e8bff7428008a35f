"""What the rows of several measurements have in common: percentiles of runs together, and how sure they are."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from p2pledger.bench.histogram import Histogram
from p2pledger.bench.statistics import bootstrap

__all__ = ["PERCENTILES", "histogram_of", "percentile_columns"]

PERCENTILES: Final = ("p50_ms", "p99_ms", "p50_low_ms", "p50_high_ms", "p99_low_ms", "p99_high_ms")
_DRAWS: Final = 500


def histogram_of(run: Mapping[str, Any]) -> Histogram:
    """The latencies of a run as it was kept."""
    return Histogram.decode(b64decode(run["latencies"]))


def percentile_columns(histograms: Sequence[Histogram]) -> dict[str, Any]:
    """Median and 99th percentile of all runs together, and the interval of each from drawing whole runs."""
    merged = _merged(histograms)
    columns: dict[str, Any] = {}
    for name, share in (("p50", 0.50), ("p99", 0.99)):
        columns[f"{name}_ms"] = merged.milliseconds(share)
        interval = bootstrap(histograms, partial(_percentile_ms, share), seed=1, draws=_DRAWS)
        columns[f"{name}_low_ms"], columns[f"{name}_high_ms"] = round(interval.low, 3), round(interval.high, 3)
    return columns


def _merged(histograms: Sequence[Histogram]) -> Histogram:
    merged = Histogram(histograms[0].limit_us)
    for histogram in histograms:
        merged.merge(histogram)
    return merged


def _percentile_ms(share: float, histograms: Sequence[Histogram]) -> float:
    """Of the runs together; the limit stands for what lies above it."""
    merged = _merged(histograms)
    found = merged.percentile_us(share)
    return (merged.limit_us if found is None else found) / 1000
