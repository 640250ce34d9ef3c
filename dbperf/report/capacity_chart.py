"""The load's stages as points, and the Universal Scalability Law that was fitted to them as a line."""

from __future__ import annotations

from dbperf.records.capacity import Capacity
from dbperf.report.charts import (
    ACCENT,
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Chart,
    Spec,
    axis_x_labelled,
    axis_y_labelled,
    layer,
    quantitative,
    render,
    spec,
)
from dbperf.stats.capacity import usl_throughput
from dbperf.units import format_count

HEIGHT = 220
_STEPS = 60


def capacity_chart(c: Capacity) -> Chart:
    """Throughput over load; the line goes on to the knee where that lies within twice what was measured."""
    top_load = _end(c)
    width = WIDTH - LEFT - RIGHT
    points = sorted(c.points, key=lambda p: p.load)
    hover = [
        (
            round(LEFT + width * p.load / top_load, 1),
            f"{p.stage}: {format_count(p.requests_per_s)} requests/s at a load of {p.load:.1f}",
        )
        for p in points
    ]
    highest = max(points, key=lambda p: p.requests_per_s)
    label = f"Throughput over load: at most {highest.requests_per_s:.1f} requests/s, at a load of {highest.load:.1f}"
    return Chart(
        picture=render(capacity_spec(c)), label=label, hover=hover, plot=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
    )


def capacity_spec(c: Capacity) -> Spec:
    """Vega-Lite: points, and a line where there is a law."""
    end = _end(c)
    line = []
    if c.usl is not None:
        loads = [end * i / _STEPS for i in range(_STEPS + 1)]
        line = [{"load": n, "rate": usl_throughput(c.usl, n)} for n in loads]
    points = [{"load": p.load, "rate": p.requests_per_s} for p in c.points]
    top = max(p["rate"] for p in [*points, *line]) * 1.1
    x = quantitative("load", scale={"domain": [0, end], "nice": False}, axis=axis_x_labelled())
    y = quantitative(
        "rate", scale={"domain": [0, top], "nice": False}, axis=axis_y_labelled("format(datum.value, ',~g') + '/s'")
    )
    return spec(
        [
            layer(line, {"type": "line", "color": ACCENT, "strokeWidth": 1.6, "opacity": 0.6}, x=x, y=y),
            layer(points, {"type": "point", "color": ACCENT, "filled": True, "size": 50, "opacity": 1}, x=x, y=y),
        ],
        height=HEIGHT,
    )


def _end(c: Capacity) -> float:
    """The right end of the picture, as a load."""
    measured = max(p.load for p in c.points)
    knee = c.usl.knee if c.usl is not None and c.usl.knee is not None else measured
    return max(measured, min(knee, 2 * measured)) * 1.05 or 1.0
