"""What processes, machine and server did during the load, made short enough to draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby
from statistics import mean

from dbperf.records.telemetry import Telemetry, TelemetrySample
from dbperf.report.charts import (
    ACCENT,
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Chart,
    Spec,
    axis_x_seconds,
    axis_y_labelled,
    layer,
    quantitative,
    render,
    spec,
)
from dbperf.report.model import ResourcePoint, ResourcesReport
from dbperf.units import format_bytes, format_count, format_share

MAX_POINTS = 180
HEIGHT = 130

SERIES: dict[str, tuple[str, Callable[[float], str], str]] = {
    "machine_cpu_share": ("Machine: CPU, of all cores", format_share, "format(datum.value, '.0%')"),
    "target_cpu_cores": ("API: CPU, in cores", format_count, "format(datum.value, '~g')"),
    "target_rss_bytes": ("API: memory", format_bytes, "format(datum.value, ',~g') + ' MB'"),
    "active_sessions": ("PostgreSQL: active sessions", format_count, "format(datum.value, '~g')"),
    "locks_waiting": ("PostgreSQL: sessions waiting for a lock", format_count, "format(datum.value, '~g')"),
}
"""Field to title, how to print a value, and how Vega labels the axis."""


def resources(telemetry: Telemetry) -> ResourcesReport | None:
    """At most `MAX_POINTS` points, each the highest of the samples that it joins; None without samples."""
    samples = sorted(telemetry.samples, key=lambda s: s.at_s)
    if not samples:
        return None
    step = max(1, math.ceil(len(samples) / MAX_POINTS))
    points = [
        _highest([_point(s) for _, s in group]) for _, group in groupby(enumerate(samples), key=lambda p: p[0] // step)
    ]
    return ResourcesReport(
        points=points,
        samples_per_point=step,
        machine_cpu_share_mean=mean(s.machine.cpu_share for s in samples),
        steal_share_max=max((s.machine.steal_share or 0.0 for s in samples), default=0.0),
        deadlocks=sum(s.postgres.deadlocks for s in samples if s.postgres),
        blocked_s_max=max((b.blocked_s for s in samples if s.postgres for b in s.postgres.blockers), default=None),
        connections_max=max((s.postgres.connections for s in samples if s.postgres), default=None),
        max_connections=next((s.postgres.max_connections for s in samples if s.postgres), None),
        pool_size=telemetry.pool_size,
    )


def _point(s: TelemetrySample) -> ResourcePoint:
    return ResourcePoint(
        at_s=s.at_s,
        machine_cpu_share=s.machine.cpu_share,
        target_cpu_cores=sum(p.cpu_share for p in s.processes) if s.processes else None,
        target_rss_bytes=sum(p.rss_bytes for p in s.processes) if s.processes else None,
        active_sessions=s.postgres.active_sessions if s.postgres else None,
        locks_waiting=s.postgres.locks_waiting if s.postgres else None,
    )


def _highest(points: list[ResourcePoint]) -> ResourcePoint:
    def top(field: str) -> float | None:
        return max((v for p in points if (v := getattr(p, field)) is not None), default=None)

    return ResourcePoint(at_s=points[0].at_s, **{field: top(field) for field in SERIES})


def resource_charts(report: ResourcesReport) -> list[tuple[str, str, Chart]]:
    """Title, the highest value in words, and the picture, of every series that has values above zero."""
    drawn = []
    for field, (title, text, label) in SERIES.items():
        values = [(p.at_s, v) for p in report.points if (v := getattr(p, field)) is not None]
        if not values or max(v for _, v in values) <= 0:
            continue
        highest = text(max(v for _, v in values))
        start, end = values[0][0], max(values[-1][0], values[0][0] + 1)
        width = WIDTH - LEFT - RIGHT
        hover = [(round(LEFT + width * (t - start) / (end - start), 1), f"{t:.0f} s: {text(v)}") for t, v in values]
        chart = Chart(
            # Round numbers on the axis of memory are round in megabytes.
            picture=render(
                resource_spec([(t, v / (1 << 20) if field.endswith("_bytes") else v) for t, v in values], label)
            ),
            label=f"{title} over the load, at most {highest}",
            hover=hover,
            plot=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
        )
        drawn.append((title, highest, chart))
    return drawn


def resource_spec(values: list[tuple[float, float]], label: str) -> Spec:
    """Vega-Lite: one line from zero."""
    top = max(v for _, v in values) * 1.1
    domain = [values[0][0], max(values[-1][0], values[0][0] + 1)]
    return spec(
        [
            layer(
                [{"t": t, "v": v} for t, v in values],
                {"type": "line", "color": ACCENT, "strokeWidth": 1.6, "strokeJoin": "round"},
                x=quantitative("t", scale={"domain": domain, "nice": False}, axis=axis_x_seconds()),
                y=quantitative("v", scale={"domain": [0, top], "nice": False}, axis=axis_y_labelled(label)),
            )
        ],
        height=HEIGHT,
    )
