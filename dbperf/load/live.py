"""What shows a running load: stage, users, throughput, percentiles with their recent past, errors, database waits."""

from __future__ import annotations

from collections import deque

from dbperf.load.progress import LoadEvent
from dbperf.records.base import Record
from dbperf.records.telemetry import TelemetrySample
from dbperf.units import format_count, format_ms

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 40
_WAITS = 3


def sparkline(values: list[float]) -> str:
    """Values as bars, the largest as the highest.

    >>> sparkline([1.0, 4.0, 8.0])
    '▁▄█'
    """
    top = max(values, default=0.0)
    if top <= 0:
        return ""
    return "".join(_BARS[min(len(_BARS) - 1, max(0, round(v / top * len(_BARS)) - 1))] for v in values)


class Live(Record, frozen=True, kw_only=True):
    """What to show of a running load now."""

    line: str
    """For a log."""
    rows: list[tuple[str, str]]
    """For a terminal: names and values, short enough for 80 columns."""


class LiveView:
    """Takes the events of a load in order."""

    def __init__(self, stages: int) -> None:
        self._stages = stages
        self._name = ""
        self._past: dict[str, deque[float]] = {name: deque(maxlen=_WIDTH) for name in ("P50", "P95", "P99")}

    def after(self, event: LoadEvent, sample: TelemetrySample | None = None) -> Live | None:
        """What to show after an event; None where it changes nothing that is shown.

        Args:
            event: the latest.
            sample: the latest of the target, where it is watched.
        """
        if event.kind != "second":
            self._name = event.stage or self._name
            return None
        now = {"P50": event.p50_ms, "P95": event.p95_ms, "P99": event.p99_ms}
        for name, value in now.items():
            if value is not None:
                self._past[name].append(value)
        bars = {name: sparkline(list(past)) for name, past in self._past.items()}
        number = f" ({event.stage_index + 1} of {self._stages})" if self._stages > 1 else ""
        load = f"{event.users} users, {format_count(event.requests_per_s)} req/s"
        errors = f"{format_count(event.errors_per_s)} errors/s"
        waits = _waits(sample)
        parts = [
            f"{self._name}{number}, {event.phase}: {load}" if number else f"{event.phase}: {load}",
            f"P50/95/99 {'/'.join(format_ms(v) for v in now.values())}",
            errors,
        ]
        rows = [("stage", f"{self._name}{number}, {event.phase}"), ("load", f"{load}, {errors}")]
        rows += [(name, f"{format_ms(value):>8}  {bars[name]}".rstrip()) for name, value in now.items()]
        if waits:
            parts.append(f"database: {waits[0]}")
            rows.append(("database", ", ".join(waits[:_WAITS])))
        return Live(line=", ".join(parts), rows=rows)


def _waits(sample: TelemetrySample | None) -> list[str]:
    """Active sessions by what they wait for, most first."""
    if sample is None or sample.postgres is None:
        return []
    return [f"{count} × {name}" for name, count in sorted(sample.postgres.waits.items(), key=lambda x: -x[1])]
