"""The heat map: latency over time, the stronger a cell, the more requests. Beside the timeline, on the same seconds."""

from __future__ import annotations

import math

from dbperf.report.charts import (
    ACCENT,
    BOTTOM,
    FAR,
    HEIGHT,
    LEFT,
    PLOT_WIDTH,
    RIGHT,
    TOP,
    WIDTH,
    Chart,
    Spec,
    axis_x_seconds,
    axis_y_logarithmic,
    layer,
    quantitative,
    render,
    spec,
)
from dbperf.report.model import EndpointReport, HeatColumn
from dbperf.units import format_count, format_ms, format_share

SHADES = (0.14, 0.3, 0.5, 0.74, 1.0)
"""Opacities; a cell's is by the square root of its count, so that few requests still show."""


def heat_chart(e: EndpointReport) -> Chart | None:
    """The picture and, for each column, where most of its requests were; None where the run kept no distributions."""
    if not e.heat:
        return None
    start, end = _span(e)
    hover = [(round(LEFT + PLOT_WIDTH * (c.at_s + c.seconds / 2 - start) / (end - start), 1), _said(c)) for c in e.heat]
    total = sum(sum(c.counts) for c in e.heat)
    low, high = min(c.edges_ms[0] for c in e.heat), max(c.edges_ms[-1] for c in e.heat)
    label = f"Latency of {format_count(total)} requests over time, from {format_ms(low)} to {format_ms(high)}"
    return Chart(
        picture=render(heat_spec(e)), label=label, hover=hover, plot=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
    )


def heat_spec(e: EndpointReport) -> Spec:
    """Vega-Lite: a layer of cells for each shade, and a line at the limit of P95."""
    start, end = _span(e)
    low, high = min(c.edges_ms[0] for c in e.heat), max(c.edges_ms[-1] for c in e.heat)
    limit = next((v for v in e.levels if v.metric == "p95" and v.unit == "ms"), None)
    near = limit is not None and low / FAR <= limit.limit <= high * FAR
    if limit is not None and near:
        low, high = min(low, limit.limit / 1.1), max(high, limit.limit * 1.1)
    x_scale = {"domain": [start, end], "nice": False}
    y_scale = {"type": "log", "domain": [low, high], "nice": False}
    most = max(n for c in e.heat for n in c.counts)
    cells: dict[float, list[Spec]] = {shade: [] for shade in SHADES}
    last: dict[tuple[float, float, float], Spec] = {}
    for column in e.heat:
        for i, n in enumerate(column.counts):
            if n:
                shade = SHADES[min(int(math.sqrt(n / most) * len(SHADES)), len(SHADES) - 1)]
                low_ms, high_ms = column.edges_ms[i], column.edges_ms[i + 1]
                before = last.get((shade, low_ms, high_ms))
                until = min(column.at_s + column.seconds, end)
                if before is not None and before["b"] == column.at_s:
                    before["b"] = until  # one cell for several: Vega takes its time for each
                    continue
                cell = {"a": column.at_s, "b": until, "low": low_ms, "high": high_ms}
                cells[shade].append(cell)
                last[shade, low_ms, high_ms] = cell
    axes: Spec = {
        "x": quantitative("a", scale=x_scale, axis=axis_x_seconds()),
        "x2": {"field": "b"},
        "y": quantitative("low", scale=y_scale, axis=axis_y_logarithmic(low, high)),
        "y2": {"field": "high"},
    }
    layers = [
        layer(rows, {"type": "rect", "color": ACCENT, "fillOpacity": shade}, **axes) for shade, rows in cells.items()
    ]
    if limit is not None and near:
        mark = {"type": "rule", "color": f"var(--{limit.verdict.replace('_', '-')})", "strokeWidth": 1.5}
        at = quantitative("limit", scale=y_scale)
        layers.append(layer([{"limit": limit.limit}], {**mark, "strokeDash": [4, 3]}, y=at))
    return spec(layers)


def _span(e: EndpointReport) -> tuple[float, float]:
    """The timeline's, so that one picture stands under the other."""
    starts = [e.heat[0].at_s, *(p.at_s for p in e.timeline[:1])]
    ends = [p.at_s + e.timeline_step_s for p in e.timeline[-1:]] or [e.heat[-1].at_s + e.heat[-1].seconds]
    return min(starts), max(*ends, e.heat[-1].at_s + 1)


def _said(c: HeatColumn) -> str:
    total = sum(c.counts)
    i = max(range(len(c.counts)), key=lambda i: c.counts[i])
    return (
        f"{c.at_s:g} s: {format_count(total)} requests, {format_share(c.counts[i] / total)} of them "
        f"{format_ms(c.edges_ms[i])} to {format_ms(c.edges_ms[i + 1])}"
    )
