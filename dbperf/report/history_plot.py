"""Series of figures over runs, with their steps, as one SVG file that stands on its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

from dbperf.records.comparison import Unit
from dbperf.records.history import Series
from dbperf.report.charts import (
    ACCENT,
    PLOT_WIDTH,
    SOFT,
    WIDTH,
    Spec,
    axis_y,
    axis_y_labelled,
    layer,
    quantitative,
    render,
    spec,
)
from dbperf.report.text import visible
from dbperf.report.trend_charts import step_layers

HEIGHT = 130
_TITLE = 34
_GAP = 14
_COLOURS = {
    "accent": "#2455c3", "soft": "#a9bfee", "muted": "#566070", "line": "#dfe3e9", "fail": "#b93a08", "pass": "#04785a",
}  # fmt: skip
"""The report's, on white: a file has no theme."""
_SMALL = 'font-size="10" fill="var(--muted)"'
_LABELS: dict[Unit, str] = {
    "share": "format(datum.value, '~%')",
    "per_s": "format(datum.value, ',~g') + '/s'",
    "bytes": "format(datum.value, '.3~s') + 'B'",
    "count": "format(datum.value, ',~g')",
}


def history_svg(series: Sequence[Series], subtitles: Sequence[str]) -> str:
    """A picture with a plot for each series: the figures in order with their intervals, the medians between steps,
    and where a level changed.

    Args:
        series: at least one, each with at least one point.
        subtitles: what its figures have in common, one for each.
    """
    parts = []
    pictures = [render(series_spec(one)) for one in series]
    for i, (one, subtitle, picture) in enumerate(zip(series, subtitles, pictures, strict=True)):
        top = i * (_TITLE + HEIGHT + _GAP)
        plot = picture.svg.replace("<svg ", f'<svg x="0" y="{top + _TITLE}" width="{WIDTH}" height="{HEIGHT}" ', 1)
        # Anything that a terminal or a parser could stumble over is made visible.
        for y, style, text in ((14, 'font-size="12" font-weight="600"', one.name), (28, _SMALL, subtitle)):
            parts.append(f'<text x="8" y="{top + y}" {style}>{escape(visible(text))}</text>')
        parts.append(plot)
    height = len(series) * (_TITLE + HEIGHT + _GAP)
    body = re.sub(r"var\(--([a-z]+)\)", lambda m: _COLOURS[m[1]], "\n".join(parts))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" fill="#1d2329">\n<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def series_spec(series: Series) -> Spec:
    """Vega-Lite: runs evenly spaced, from zero; a rule where a level changed, in the colour of its direction."""
    count = len(series.points)
    rows = [{"i": k + 0.5, "value": p.value, "low": p.ci_low, "high": p.ci_high} for k, p in enumerate(series.points)]
    highest = max(max(p.value, p.ci_high or 0.0) for p in series.points)
    top = highest * 1.1 or (0.01 if series.unit == "share" else 1.0)
    bottom = min(0.0, *(p.value for p in series.points))
    x = quantitative("i", scale={"domain": [0, count], "nice": False}, axis=None)
    y_scale = {"domain": [bottom, top], "nice": False}
    axis = axis_y(2) if series.unit == "ms" else axis_y_labelled(_LABELS[series.unit])
    y = quantitative("value", scale=y_scale, axis=axis)
    return spec(
        [
            layer(
                [r for r in rows if r["low"] is not None and r["high"] is not None],
                {"type": "rule", "color": SOFT, "strokeWidth": max(1.0, min(4.0, PLOT_WIDTH / count / 2))},
                x=x, y=quantitative("low", scale=y_scale, axis=axis), y2={"field": "high"},
            ),
            *step_layers(series.steps, count, x, y),
            layer(rows, {"type": "line", "color": ACCENT, "strokeWidth": 1.2, "strokeJoin": "round"}, x=x, y=y),
            layer(rows, {"type": "point", "shape": "circle", "filled": True, "opacity": 1, "color": ACCENT,
                         "size": 24 if count <= 60 else 8}, x=x, y=y),
        ],
        height=HEIGHT,
    )  # fmt: skip
