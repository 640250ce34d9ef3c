"""The part of the exporter that reads files: applications' traces and loads' run directories."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from prometheus_client.metrics_core import Metric

from dbperf.errors import RecordError
from dbperf.monitor.levels import LevelCounters
from dbperf.monitor.loads import LoadCounters
from dbperf.monitor.metrics import counter
from dbperf.monitor.requests import RequestCounters
from dbperf.records.verdicts import ServiceLevel
from dbperf.trace.follow import Follower


class Files:
    """Reads what was added to the files, at each `look`; `seen` is what the last one found."""

    def __init__(
        self, *, traces: Path | None, runs: Path | None, levels: Sequence[ServiceLevel], most: int,
        tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        began_s = time.time()
        self._tell = tell
        self._levels = LevelCounters(levels, most=most)
        self._follower = Follower(traces, since_ns=int(began_s * 1e9)) if traces else None
        self._requests = RequestCounters(self._follower.stream, self._levels, most=most) if self._follower else None
        self._loads = LoadCounters(runs, self._levels, most=most, began_s=began_s) if runs else None
        self._errors: Counter[str] = Counter()
        self.seen: list[Metric] = []

    @property
    def following(self) -> bool:
        return self._follower is not None or self._loads is not None

    def look(self) -> None:
        """Reads on. What can't be read is told and counted, and never an error."""
        now_s = time.time()
        if self._follower is not None and self._requests is not None:
            requests, errors = self._follower.read()
            self._requests.add(requests)
            for error in errors:
                self._failed("traces", error)
        if self._loads is not None:
            try:
                self._loads.look(now_s)
            except RecordError as e:
                self._failed("runs", e)
        self._levels.tick(now_s)
        self.seen = list(self._families())

    def _failed(self, source: str, error: RecordError) -> None:
        if not self._errors[source]:
            self._tell(f"{error.message}; further ones are counted in dbperf_follow_errors_total")
        self._errors[source] += 1

    def _families(self) -> Iterator[Metric]:
        if self._requests is not None:
            yield from self._requests.families()
        if self._loads is not None:
            yield from self._loads.families()
        yield from self._levels.families()
        errors = counter("follow_errors")
        for source, there in (("traces", self._requests), ("runs", self._loads)):
            if there is not None:
                errors.add_metric([source], self._errors[source])
        yield errors
