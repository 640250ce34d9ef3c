"""What loads do, from the run directories that they write to: stage marks, requests, and the newest comparison."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client.metrics_core import Metric

from dbperf.errors import RecordError
from dbperf.load.reader import FILE_NAME
from dbperf.monitor.levels import LevelCounters
from dbperf.monitor.metrics import counter, gauge, histogram, one
from dbperf.monitor.requests import BUCKETS_S, Times
from dbperf.monitor.top import Names
from dbperf.records.base import read_document
from dbperf.records.comparison import Comparison
from dbperf.records.tail import Tail
from dbperf.stats.hdr import Latencies, bin_of

SILENT_S = 10.0
"""A load says something every second: one that was silent for so long has ended, or was killed."""
MOST_MARKS = 200
_PHASES = {"ramp": "ramp", "warm-up": "warm-up", "measuring": "measured"}
_BINS = bin_of(np.array(BUCKETS_S) * 1e6)
"""The histogram's bins at the buckets' upper ends."""


class LoadCounters:
    """Follows the loads below a folder one at a time: the one that is on, or else the newest.

    Args:
        folder: a run directory, or one that holds run directories.
        levels: are told of the requests in the loads' measured parts.
        most: endpoints with series of their own.
        began_s: what loads did before (seconds since the epoch) is not counted.
    """

    def __init__(self, folder: Path, levels: LevelCounters, *, most: int, began_s: float) -> None:
        self.folder = folder
        self._levels = levels
        self._names = Names(most)
        self._began_s = began_s
        self._tail: Tail | None = None
        self.run = ""
        self.stage = self.phase = ""
        self.marks: dict[tuple[str, str], float] = {}
        """When the latest load's stages and phases began, seconds since the epoch."""
        self.users = 0
        self.running = False
        self.cpu_share = self.lag_ms = 0.0
        self.counts: dict[str, Counter[str]] = {}
        self.times: dict[str, Times] = {}
        self.comparison: tuple[str, Comparison] | None = None
        self._compared: tuple[Path, float] | None = None

    def look(self, now_s: float) -> None:
        """Reads what was written since the last call.

        Raises:
            RecordError: a file can't be read; what was read before stays.
        """
        self._find_comparison()
        if self._tail is None or not self.running:
            self._find_load()
        if self._tail is None:
            return
        try:
            first, lines = self._tail.lines()
        except FileNotFoundError:
            self.running = False
            return
        if first == 1 and lines:
            self._begin()
        broken = None
        for number, line in enumerate(lines, first):
            try:
                self._line(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, RecordError):
                broken = number
        with suppress(OSError):
            if now_s - self._tail.path.stat().st_mtime > SILENT_S:
                self.running = False
        if broken:
            raise RecordError(f"{self._tail.path}, line {broken}: not a line of a load")

    def _find_load(self) -> None:
        """The file that was written to last."""
        newest = _newest(self.folder, FILE_NAME)
        if newest is not None and (self._tail is None or newest[0] != self._tail.path):
            self._tail = Tail(newest[0])

    def _find_comparison(self) -> None:
        newest = _newest(self.folder, Comparison.file_name)
        if newest is not None and newest != self._compared:
            self._compared = newest
            self.comparison = newest[0].parent.name, read_document(Comparison, newest[0])

    def _begin(self) -> None:
        """A load that was not followed before."""
        assert self._tail is not None
        self.run = self._tail.path.resolve().parent.name
        self.stage = self.phase = ""
        self.marks, self.users, self.running = {}, 0, True

    def _line(self, line: dict[str, Any]) -> None:
        if "second" in line:
            self._second(line)
            return
        event = line["event"]
        if event == "ended":
            self.running, self.users = False, 0
            self._mark("", "ended", line["at"])
        elif event in _PHASES:
            self.stage, self.phase = line["name"], _PHASES[event]
            self._mark(self.stage, self.phase, line["at"])
        elif event == "measured":
            self.phase = "drain"

    def _mark(self, stage: str, phase: str, at_s: float) -> None:
        if len(self.marks) < MOST_MARKS:
            self.marks.setdefault((stage, phase), at_s)

    def _second(self, line: dict[str, Any]) -> None:
        self.users = line["users"]
        self.cpu_share, self.lag_ms = line["cpu_share"] or 0.0, line["lag_ms"] or 0.0
        if line["at"] < self._began_s:
            return
        for row in line["series"]:
            name: str = row["name"]
            latency = Latencies.decode(row["latency"]) if row["latency"] else Latencies()
            endpoint = self._names.of(name)
            counts = self.counts.setdefault(endpoint, Counter())
            counts.update(load_requests=row["requests"], load_request_errors=row["errors"])
            _add(self.times.setdefault(endpoint, Times()), latency, row["sum_ms"] / 1e3)
            if row["stage"] >= 0:
                self._levels.add(
                    "load", name, requests=row["requests"], errors=row["errors"], timed=latency.count,
                    within=latency.count_at_most,
                )  # fmt: skip

    def families(self) -> Iterator[Metric]:
        yield one(gauge("load_running"), int(self.running))
        yield one(gauge("load_users"), self.users if self.running else 0)
        info = gauge("load_stage_info")
        if self.running and self.stage:
            info.add_metric([self.run, self.stage, self.phase], 1)
        yield info
        marks = gauge("load_mark_timestamp_seconds")
        for (stage, phase), at_s in self.marks.items():
            marks.add_metric([self.run, stage, phase], at_s)
        yield marks
        for name in ("load_requests", "load_request_errors"):
            family = counter(name)
            for endpoint, counts in sorted(self.counts.items()):
                family.add_metric([endpoint], counts[name])
            yield family
        times = histogram("load_request_seconds")
        for endpoint, found in sorted(self.times.items()):
            found.add_to(times, endpoint)
        yield times
        yield one(gauge("load_generator_cpu_ratio"), self.cpu_share if self.running else 0)
        yield one(gauge("load_generator_lag_seconds"), self.lag_ms / 1e3 if self.running else 0)
        worse, at = gauge("regressions"), gauge("comparison_timestamp_seconds")
        if self.comparison is not None:
            run, comparison = self.comparison
            worse.add_metric([run], regressions(comparison))
            at.add_metric([run], comparison.compared_at.timestamp())
        yield from (worse, at)


def regressions(comparison: Comparison) -> int:
    """Metrics that got worse, may fail the gate, and are no accepted exception."""
    return sum(m.verdict == "worse" and m.gate and m.accepted is None for m in comparison.metrics)


def _newest(folder: Path, name: str) -> tuple[Path, float] | None:
    """The file of that name in the folder or one of its folders that was written last, and when."""
    found: list[tuple[float, Path]] = []
    for path in (folder / name, *folder.glob(f"*/{name}")):
        with suppress(OSError):
            found.append((path.stat().st_mtime, path))
    return (max(found)[1], max(found)[0]) if found else None


def _add(times: Times, latency: Latencies, sum_s: float) -> None:
    below = 0
    cumulated = np.cumsum(latency.counts)
    for i, at_most in enumerate([*(int(cumulated[b]) for b in _BINS), int(cumulated[-1])]):
        times.counts[i] += at_most - below
        below = at_most
    times.sum_s += sum_s
