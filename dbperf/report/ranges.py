"""The small pictures inside tables: an endpoint's P50 to P99 on a scale that all endpoints share."""

from __future__ import annotations

import math

from markupsafe import Markup

from dbperf.records.trace import EndpointTrace
from dbperf.report.model import EndpointReport

WIDTH, HEIGHT = 150, 20


def scale(endpoints: list[EndpointReport]) -> tuple[float, float]:
    """Lowest and highest latency (ms) of a table's logarithmic scale."""
    seen = [q.value_ms for e in endpoints for q in e.quantiles if q.value_ms and q.q <= 0.99]
    seen += [v.limit for e in endpoints for v in e.levels if v.unit == "ms"]
    if not seen:
        return 1.0, 10.0
    return min(seen) / 1.2, max(seen) * 1.2


def range_bar(e: EndpointReport, low_high: tuple[float, float]) -> Markup:
    """A line from P50 to P99 with dots at P50, P95 and P99, and a tick at the limit of P95. Numbers only."""
    low, high = low_high

    def x(ms: float) -> float:
        return round(4 + (WIDTH - 8) * math.log(ms / low) / math.log(high / low), 1)

    found = {round(q.q, 4): q.value_ms for q in e.quantiles if q.value_ms}
    points = [found[q] for q in (0.5, 0.95, 0.99) if q in found]
    level = next((v for v in e.levels if v.metric == "p95"), None)
    parts = [f'<line class="track" x1="0" x2="{WIDTH}" y1="10" y2="10"/>']
    if points:
        parts.append(f'<line class="span" x1="{x(points[0])}" x2="{x(points[-1])}" y1="10" y2="10"/>')
        parts += [
            f'<circle class="p{round(q * 100)}" cx="{x(found[q])}" cy="10" r="{r}"/>'
            for q, r in ((0.5, 3), (0.95, 4), (0.99, 3))
            if q in found
        ]
    if level is not None:
        at = x(level.limit)
        parts.append(f'<line class="limit {level.verdict}" x1="{at}" x2="{at}" y1="2" y2="18"/>')
    return Markup(f'<svg class="range" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>')  # noqa: S704


def parts_bar(e: EndpointTrace) -> Markup:
    """The mean request in three parts: SQL, waiting for a connection of the pool, Python. Numbers only."""
    whole = e.per_request.duration_ms
    at, parts = 0.0, []
    for name, ms in (
        ("sql", e.per_request.sql_ms),
        ("pool", e.per_request.pool_wait_ms),
        ("python", e.per_request.python_ms),
    ):
        width = round(100 * ms / whole, 1) if whole > 0 else 0.0
        parts.append(f'<rect class="{name}" x="{at:.1f}" width="{width}" height="8"/>')
        at += width
    head = '<svg class="parts" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
    return Markup(f"{head}{''.join(parts)}</svg>")  # noqa: S704 - made of numbers
