"""Latency distributions for drawing: HDR histograms binned on a logarithmic scale, and timelines made short."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from statistics import median

from dbperf.records.load import Histogram, LatencyStretch, LoadSecond
from dbperf.report.model import Bin, HeatColumn, TimelinePoint
from dbperf.stats.hdr import GRID_PER_DECADE, Latencies, log_grid

MAX_POINTS = 180
MAX_COLUMNS = 60
"""Of a heat map: 7 of the picture's units wide."""


def bins(histogram: Histogram) -> list[Bin]:
    """Counts on a fixed logarithmic grid (the same for every endpoint, so that pictures compare), without empty ends.

    Raises:
        RecordError: the histogram can't be decoded.
    """
    if histogram.count == 0:
        return []
    first, totals = log_grid(Latencies.decode(histogram).counts)
    return [Bin(low_ms=edge_ms(first + i), high_ms=edge_ms(first + i + 1), count=n) for i, n in enumerate(totals)]


def edge_ms(index: int) -> float:
    """The lower edge of a cell of the grid over microseconds, in ms, with the noise of the logarithm rounded away."""
    return float(f"{10 ** (index / GRID_PER_DECADE) / 1e3:.6g}")


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


def heat(stretches: Iterable[LatencyStretch]) -> list[HeatColumn]:
    """One endpoint's distributions over time as at most `MAX_COLUMNS` columns of cells that are a tenth of a decade
    (26 %) high."""
    rows = sorted(stretches, key=lambda s: s.at_s)
    if not rows:
        return []
    start, seconds = rows[0].at_s, rows[0].seconds
    step = max(1, math.ceil((rows[-1].at_s + seconds - start) / seconds / MAX_COLUMNS)) * seconds
    columns = []
    for index, group in groupby(rows, key=lambda s: int((s.at_s - start) // step)):
        cells: dict[int, int] = defaultdict(int)
        for s in group:
            for i, n in enumerate(s.counts):
                cells[(s.first + i) // 2] += n
        first, last = min(cells), max(cells)
        columns.append(
            HeatColumn(
                at_s=start + index * step,
                seconds=step,
                edges_ms=[edge_ms(2 * i) for i in range(first, last + 2)],
                counts=[cells[i] for i in range(first, last + 1)],
            )
        )
    return columns
