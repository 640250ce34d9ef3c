"""Small pictures of one figure over the runs of a group."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from dbperf.records.history import SeriesStep
from dbperf.report.charts import (
    ACCENT,
    BOTTOM,
    FAIL,
    LEFT,
    MUTED,
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
_BETTER = "var(--pass)"


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
    steps = f"; {len(trend.steps)} steps" if trend.steps else ""
    label = f"{count} runs{steps}; the newest: {format_ms(newest.value_ms)}"
    return Chart(
        picture=render(trend_spec(trend)), label=label, hover=hover, plot=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
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
        *step_layers(trend.steps, len(rows), x, quantitative("value", scale=y, axis=axis)),
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


def step_layers(steps: Sequence[SeriesStep], count: int, x: Spec, y: Spec) -> list[Spec | None]:
    """Vega-Lite: a rule where a level changed, in the colour of its direction, and each level's median.

    Args:
        steps: of one series.
        count: how many runs it has; they are a unit apart, the first at 0.5.
        x: the channel of the field "i".
        y: the channel of the field "value".
    """
    bounds = [0, *(s.at for s in steps), count]
    levels = [s.before for s in steps[:1]] + [s.after for s in steps]
    medians = [
        {"i": a, "end": b, "value": level}
        for (a, b), level in zip(itertools.pairwise(bounds), levels, strict=False)  # no levels without a step
    ]
    jumps = [{"i": s.at, "colour": FAIL if s.verdict == "worse" else _BETTER} for s in steps]
    colour = {"field": "colour", "type": "nominal", "scale": None}
    return [
        layer(jumps, {"type": "rule", "strokeWidth": 1.5, "strokeDash": [4, 3]}, x=x, color=colour),
        layer(medians, {"type": "rule", "color": MUTED, "strokeWidth": 2, "opacity": 0.7}, x=x,
              x2={"field": "end"}, y=y),
    ]  # fmt: skip
