"""Small pictures of one figure over the runs of a group."""

from __future__ import annotations

from dbperf.report.charts import (
    ACCENT,
    BOTTOM,
    LEFT,
    RIGHT,
    SOFT,
    TOP,
    WIDTH,
    Chart,
    Spec,
    axis_y,
    layer,
    quantitative,
    render,
    spec,
)
from dbperf.report.history import Trend
from dbperf.units import format_ms

HEIGHT = 130


def trend_chart(trend: Trend) -> Chart | None:
    """The figure of each run in order, with its interval; the newest is emphasised."""
    if not trend.points:
        return None
    count, width = len(trend.points), WIDTH - LEFT - RIGHT
    hover = []
    for i, p in enumerate(trend.points):
        interval = (
            f" ({format_ms(p.low_ms)} to {format_ms(p.high_ms)})"
            if p.low_ms is not None and p.high_ms is not None
            else ""
        )
        at = f"{p.started_at:%Y-%m-%d %H:%M}"
        hover.append((round(LEFT + width * (i + 0.5) / count, 1), f"{at}: {format_ms(p.value_ms)}{interval}"))
    newest = trend.points[-1]
    label = f"{count} runs; the newest: {format_ms(newest.value_ms)}"
    return Chart(
        svg=render(trend_spec(trend)), label=label, hover=hover, plot=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
    )


def trend_spec(trend: Trend) -> Spec:
    """Vega-Lite: a line through the runs, evenly spaced, from zero."""
    rows = [{"i": i + 0.5, "value": p.value_ms, "low": p.low_ms, "high": p.high_ms} for i, p in enumerate(trend.points)]
    top = max(max(p.value_ms, p.high_ms or 0.0) for p in trend.points) * 1.1 or 1.0
    x = quantitative("i", scale={"domain": [0, len(rows)], "nice": False}, axis=None)
    y = {"domain": [0, top], "nice": False}
    axis = axis_y(2)
    layers = [
        layer(
            [r for r in rows if r["low"] is not None and r["high"] is not None],
            {"type": "rule", "color": SOFT, "strokeWidth": 4, "opacity": 0.7},
            x=x,
            y=quantitative("low", scale=y, axis=axis),
            y2={"field": "high"},
        ),
        layer(
            rows,
            {"type": "line", "color": ACCENT, "strokeWidth": 1.6, "strokeJoin": "round"},
            x=x,
            y=quantitative("value", scale=y, axis=axis),
        ),
        layer(
            rows,
            {"type": "point", "shape": "circle", "filled": True, "size": 30, "color": ACCENT, "opacity": 1},
            x=x,
            y=quantitative("value", scale=y),
        ),
    ]
    return spec(layers, height=HEIGHT)
