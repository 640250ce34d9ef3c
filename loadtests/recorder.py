"""Listens to Locust's request events and writes, once a second, what ended in that second.

A second's line holds histograms of only its own requests, so everything up to the last second survives whatever
happens to this process, and the sum of the lines is the result: there is no other. Listening costs a few appends per
request; binning happens once a second, in numpy.

A request belongs to the stage in which it *started*, so that slow ones are not lost at a window's end.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import gevent
import numpy as np

from dbperf.stats.hdr import Latencies
from loadtests.failures import Failure, classify

UNMEASURED = -1
Left = tuple[int, str, str, int]
"""Stage, method and name of requests that have not ended, and how many they are."""


class _Series:
    """One endpoint: what has ended since the last flush."""

    __slots__ = ("failures", "latencies_ms", "method", "name", "sizes", "starts")

    def __init__(self, method: str, name: str) -> None:
        self.method = method
        self.name = name
        self.clear()

    def clear(self) -> None:
        self.latencies_ms: list[float] = []
        self.starts: list[float] = []
        self.sizes: list[int] = []
        self.failures: list[tuple[float, float, int, Failure]] = []


class Recorder:
    """One per process. `windows` says when which stage was measured; times are seconds since the epoch."""

    def __init__(self, *, own_names: bool = True) -> None:
        self._own_names = own_names
        """Whether endpoints are called as the suite calls them; else the method is put before Locust's name."""
        self._series: dict[tuple[str, str], _Series] = {}
        self._edges: list[float] = []
        self._stages: list[int] = []
        self.active: dict[int, tuple[float, str, str]] = {}
        """Requests under way: number of the user to start, method and name. The scenario's users keep it."""

    def open_window(self, stage: int) -> float:
        """From now on, requests that start belong to a stage. Returns the time."""
        return self._edge(stage)

    def close_window(self) -> float:
        """From now on, requests that start belong to no stage (ramp, warm-up, the end). Returns the time."""
        return self._edge(UNMEASURED)

    def _edge(self, stage: int) -> float:
        now = time.time()
        self._edges.append(now)
        self._stages.append(stage)
        return now

    def stage_at(self, start: float) -> int:
        at = int(np.searchsorted(self._edges, start, side="right")) - 1
        return self._stages[at] if at >= 0 else UNMEASURED

    def on_request(
        self,
        request_type: str,
        name: str,
        response_time: float,
        response_length: int,
        exception: BaseException | None = None,
        start_time: float = 0.0,
        response: Any = None,
        context: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Locust's `request` event. `context["intended"]` replaces the start in an open model: the latency then
        includes the time that the request should have been under way already."""
        series = self._series.get((request_type, name))
        if series is None:
            shown = name if self._own_names else f"{request_type} {name}"
            series = self._series[request_type, name] = _Series(request_type, shown)
        if context and "intended" in context:
            response_time += max(0.0, start_time - context["intended"]) * 1e3
            start_time = context["intended"]
        if exception is None:
            series.latencies_ms.append(response_time)
            series.starts.append(start_time)
            series.sizes.append(response_length)
        else:
            failure = classify(exception, response)
            series.failures.append((start_time, response_time, response_length, failure))

    def stages_at(self, starts: list[float]) -> list[int]:
        """`stage_at` for many at once."""
        at = np.searchsorted(self._edges, np.asarray(starts), side="right") - 1
        stages: list[int] = np.append(np.asarray(self._stages, dtype=np.int64), UNMEASURED)[at].tolist()
        return stages  # -1 picks the appended last

    def measured_active(self) -> list[Left]:
        """The measured requests that are still under way."""
        return self.left(list(self.active.values()))

    def left(self, requests: list[tuple[float, str, str]]) -> list[Left]:
        """How many of these requests (start, method, name) are measured. They may be a hundred thousand."""
        stages = self.stages_at([start for start, *_ in requests]) if requests else []
        found = Counter((s, m, n) for s, (_, m, n) in zip(stages, requests, strict=True) if s != UNMEASURED)
        return [(*key, count) for key, count in found.items()]

    def take(self) -> list[dict[str, Any]]:
        """What has ended since the last call, per endpoint and stage, ready for JSON."""
        rows: list[dict[str, Any]] = []
        for series in list(self._series.values()):
            latencies, starts, sizes, failures = series.latencies_ms, series.starts, series.sizes, series.failures
            if not (latencies or failures):
                continue
            series.clear()
            rows += _rows(self, series.method, series.name, latencies, starts, sizes, failures)
            gevent.sleep(0)  # users waiting for the loop go first: binning must not show up in their latencies
        return rows


def _rows(
    recorder: Recorder,
    method: str,
    name: str,
    latencies_ms: list[float],
    starts: list[float],
    sizes: list[int],
    failures: list[tuple[float, float, int, Failure]],
) -> list[dict[str, Any]]:
    latency, size = np.asarray(latencies_ms), np.asarray(sizes, dtype=np.int64)
    stages = np.asarray(recorder.stages_at(starts), dtype=np.int64)
    failed_in = recorder.stages_at([start for start, *_ in failures])
    rows = []
    for stage in sorted({*stages.tolist(), *failed_in}):
        mine = stages == stage
        bad = [f for f, s in zip(failures, failed_in, strict=True) if s == stage]
        # A request that was given up took at least as long: left out, a hanging server would look fast.
        timed_out = [ms for _, ms, _, failure in bad if failure.kind == "timeout"]
        answered = [ms for _, ms, _, failure in bad if failure.answered]
        times = np.concatenate((latency[mine], np.asarray(timed_out, dtype=np.float64)))
        kinds: dict[tuple[str, int | None], list[Any]] = {}
        for *_, failure in bad:
            entry = kinds.setdefault((failure.kind, failure.status), [failure.message, 0])
            entry[1] += 1
        rows.append(
            {
                "method": method,
                "name": name,
                "stage": stage,
                "requests": int(mine.sum()) + len(bad),
                "errors": len(bad),
                "bytes": int(size[mine].sum()) + sum(n for _, _, n, _ in bad),
                "latency": Latencies.of_ms(times).encode().encoded if times.size else None,
                "failed": Latencies.of_ms(answered).encode().encoded if answered else None,
                "sum_ms": float(times.sum()),
                "min_ms": float(times.min()) if times.size else None,
                "max_ms": float(times.max()) if times.size else None,
                "kinds": [[kind, status, message, n] for (kind, status), (message, n) in kinds.items()],
            }
        )
    return rows


class LineFile:
    """Appends JSON lines; each is handed to the system at once, so that a killed process loses none."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        self._file.close()
