"""The line that shows a running load: stage, users, throughput, percentiles with their recent past, database waits."""

from __future__ import annotations

from collections import deque

from dbperf.load.progress import LoadEvent
from dbperf.records.telemetry import TelemetrySample
from dbperf.units import format_count, format_ms

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 20


def sparkline(values: list[float]) -> str:
    """Values as bars, the largest as the highest.

    >>> sparkline([1.0, 4.0, 8.0])
    '▁▄█'
    """
    top = max(values, default=0.0)
    if top <= 0:
        return ""
    return "".join(_BARS[min(len(_BARS) - 1, max(0, round(v / top * len(_BARS)) - 1))] for v in values)


class LiveLine:
    """Takes the events of a load in order; `text` is what to show now."""

    def __init__(self, stages: int) -> None:
        self._stages = stages
        self._name = ""
        self._past: deque[float] = deque(maxlen=_WIDTH)

    def text(self, event: LoadEvent, sample: TelemetrySample | None = None) -> str | None:
        """The line after an event; None where it changes nothing that is shown.

        Args:
            event: the latest.
            sample: the latest of the target, where it is watched.
        """
        if event.kind != "second":
            self._name = event.stage or self._name
            return None
        if event.p95_ms is not None:
            self._past.append(event.p95_ms)
        stage = f"{self._name} ({event.stage_index + 1} of {self._stages}), " if self._stages > 1 else ""
        times = "/".join(format_ms(v) for v in (event.p50_ms, event.p95_ms, event.p99_ms))
        parts = [
            f"{stage}{event.phase}: {event.users} users, {format_count(event.requests_per_s)} req/s",
            f"P50/95/99 {times} {sparkline(list(self._past))}".rstrip(),
            f"{format_count(event.errors_per_s)} errors/s",
        ]
        if sample is not None and sample.postgres is not None and sample.postgres.waits:
            name, count = max(sample.postgres.waits.items(), key=lambda x: x[1])
            parts.append(f"database: {count} × {name}")
        return ", ".join(parts)
