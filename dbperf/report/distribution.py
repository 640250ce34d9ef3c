"""Latency distributions for drawing: HDR histograms binned on a logarithmic scale, and timelines made short."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from statistics import median

import numpy as np

from dbperf.records.load import Histogram, LoadSecond
from dbperf.report.model import Bin, TimelinePoint
from dbperf.stats.hdr import Latencies, bin_edges_us

BINS_PER_DECADE = 20
"""12 % wide: fine enough for two modes to show, wide enough that a few hundred requests make a shape."""
MAX_POINTS = 180


def bins(histogram: Histogram) -> list[Bin]:
    """Counts on a fixed logarithmic grid (the same for every endpoint, so that pictures compare), without empty ends.

    Raises:
        RecordError: the histogram can't be decoded.
    """
    if histogram.count == 0:
        return []
    counts = Latencies.decode(histogram).counts
    used = np.flatnonzero(counts)
    if not used.size:
        return []
    low_us, high_us = bin_edges_us(used)
    middles = np.maximum((low_us + high_us) / 2, 1.0)
    grid = np.floor(np.log10(middles) * BINS_PER_DECADE).astype(int)
    first, last = int(grid.min()), int(grid.max())
    totals = np.bincount(grid - first, weights=counts[used].astype(float), minlength=last - first + 1)
    return [
        Bin(low_ms=_edge_ms(first + i), high_ms=_edge_ms(first + i + 1), count=int(n)) for i, n in enumerate(totals)
    ]


def _edge_ms(index: int) -> float:
    """The lower edge of a bin of the grid over microseconds, in ms, with the noise of the logarithm rounded away."""
    return float(f"{10 ** (index / BINS_PER_DECADE) / 1e3:.6g}")


def timeline(seconds: Iterable[LoadSecond]) -> tuple[list[TimelinePoint], int]:
    """One endpoint's seconds as at most `MAX_POINTS` points, and how many seconds a point joins."""
    rows = sorted(seconds, key=lambda s: s.at_s)
    if not rows:
        return [], 1
    start = rows[0].at_s
    step = max(1, math.ceil((rows[-1].at_s - start + 1) / MAX_POINTS))
    points = []
    for index, group in groupby(rows, key=lambda s: int((s.at_s - start) // step)):
        points.append(_point(start + index * step, step, list(group)))
    return points, step


def _point(at_s: float, step: int, rows: Sequence[LoadSecond]) -> TimelinePoint:
    p50 = [r.p50_ms for r in rows if r.p50_ms is not None]
    p95 = [r.p95_ms for r in rows if r.p95_ms is not None]
    return TimelinePoint(
        at_s=at_s,
        seconds=step,
        requests_per_s=sum(r.requests for r in rows) / step,
        errors=sum(r.errors for r in rows),
        p50_ms=median(p50) if p50 else None,
        p95_ms=max(p95) if p95 else None,
    )
