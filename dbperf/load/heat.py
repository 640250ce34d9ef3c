"""Latency distributions over time, small enough to keep: a coarse histogram for each stretch of the load."""

from __future__ import annotations

import math
from collections import defaultdict

from dbperf.records.load import LatencyStretch
from dbperf.stats.hdr import Latencies, log_grid

MAX_STRETCHES = 120
"""Of an endpoint in a stage: more columns than a picture has room for."""


class Heat:
    """Takes histograms second by second, and joins neighbours where a stage was long."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], dict[int, dict[int, int]]] = defaultdict(dict)
        """By stage and endpoint: second, cell of the grid, count."""

    def add(self, second: int, stage: str, endpoint: str, latency: Latencies) -> None:
        """The requests of a second; several of the same second (of several workers) are added up."""
        first, counts = log_grid(latency.counts)
        if counts:
            here = self._cells[stage, endpoint].setdefault(second, defaultdict(int))
            for i, n in enumerate(counts):
                here[first + i] += n

    def stretches(self) -> list[LatencyStretch]:
        """By stage and endpoint in the order in which they came, then by time. Seconds without a request are absent."""
        spans: dict[str, list[int]] = defaultdict(list)
        for (stage, _), seconds in self._cells.items():
            spans[stage] += seconds
        found = []
        for (stage, endpoint), seconds in self._cells.items():
            start = min(spans[stage])
            step = max(1, math.ceil((max(spans[stage]) - start + 1) / MAX_STRETCHES))
            joined: dict[int, dict[int, int]] = {}
            for second, cells in sorted(seconds.items()):
                here = joined.setdefault((second - start) // step, defaultdict(int))
                for cell, n in cells.items():
                    here[cell] += n
            for index, cells in joined.items():
                first, last = min(cells), max(cells)
                found.append(
                    LatencyStretch(
                        at_s=float(start + index * step),
                        seconds=step,
                        stage=stage,
                        endpoint=endpoint,
                        first=first,
                        counts=[cells.get(i, 0) for i in range(first, last + 1)],
                    )
                )
        return found
