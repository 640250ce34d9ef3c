"""Pictures of latencies: Vega-Lite specifications, rendered to SVG when the report is built.

The specifications are altair's own language, written down as it would write them: importing altair and letting it copy
and check each chart took 1.3 s of the 2 s that a report may take. A test has altair check them.

Colours are CSS variables of the page, so that one picture serves both themes. The plot area is fixed, so that the
page's script can map the pointer to a value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from dbperf import vega
from dbperf.records.base import Record
from dbperf.report.model import EndpointReport
from dbperf.report.svg import tidy
from dbperf.units import format_count, format_ms, format_share

WIDTH, HEIGHT = 480, 190
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 26
FAR = 4
"""A limit this many times beyond everything measured is an arrow at the edge: on the axis it would squeeze the rest."""
PLOT_WIDTH = WIDTH - LEFT - RIGHT
ACCENT, SOFT, MUTED, LINE, FAIL = (f"var(--{n})" for n in ("accent", "soft", "muted", "line", "fail"))
Spec = dict[str, Any]

_MS_LABEL = (
    "datum.value >= 1000 ? format(datum.value / 1000, ',~g') + ' s' : "
    "datum.value > 0 && datum.value < 1 ? format(datum.value * 1000, '~g') + ' µs' : format(datum.value, '~g') + ' ms'"
)
# Text of size 0 is not measured, and measuring took 15 of a picture's 27 ms. `tidy` gives it its size; where a text of
# that size would stand is said here. All labels have room: none is left out for want of it.
_MIDDLE, _BELOW = 3, 8
_Y_AXIS: Spec = {
    "title": None,
    "grid": True,
    "gridColor": LINE,
    "domain": False,
    "ticks": False,
    "labelColor": MUTED,
    "labelFontSize": 0,
    "labelOffset": _MIDDLE,
    "labelOverlap": False,
    "labelPadding": 6,
}
_X_AXIS: Spec = {
    "title": None,
    "grid": False,
    "domainColor": LINE,
    "tickColor": LINE,
    "labelColor": MUTED,
    "labelFontSize": 0,
    "labelOverlap": False,
    "labelFlush": False,
    "labelPadding": 2 + _BELOW,
}


class Picture:
    """An SVG for the page, which the chart engine draws meanwhile."""

    def __init__(self, drawing: vega.Drawing) -> None:
        self._drawing = drawing

    @cached_property
    def svg(self) -> str:
        """Waits for it; raises as `vega.Drawing.svg` does."""
        return tidy(self._drawing.svg())


class Chart(Record, frozen=True, kw_only=True):
    """A picture and what the pointer reads off it."""

    picture: Picture
    label: str
    """What it shows, for people who can't see it."""
    hover: list[tuple[float, str]]
    """x in the picture's own units, and the text for it; by x."""
    plot: tuple[float, float, float, float] = (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
    """Left, top, right and bottom of the plot area."""

    @property
    def svg(self) -> str:
        return self.picture.svg


def distribution_chart(e: EndpointReport) -> Chart | None:
    """Latency histogram on a logarithmic axis, with P50, P95 and P99, their intervals and their limits above it."""
    if not e.distribution:
        return None
    total = sum(b.count for b in e.distribution)
    low, high = _domain(e)
    hover = [
        (
            round(LEFT + PLOT_WIDTH * math.log(math.sqrt(b.low_ms * b.high_ms) / low) / math.log(high / low), 1),
            f"{format_ms(b.low_ms)} to {format_ms(b.high_ms)}: {format_count(b.count)} requests "
            f"({format_share(b.count / total)})",
        )
        for b in e.distribution
    ]
    said = ", ".join(f"P{q.q * 100:g} {format_ms(q.value_ms)}" for q in e.quantiles if q.value_ms is not None)
    label = f"Latency distribution of {format_count(total)} requests: {said}"
    return Chart(picture=render(distribution_spec(e)), label=label, hover=hover)


def distribution_spec(e: EndpointReport) -> Spec:
    """Vega-Lite: bars below, and a row each for P50, P95 and P99 above them."""
    total = sum(b.count for b in e.distribution)
    peak = max(b.count for b in e.distribution) / total
    rows = _quantile_rows(e, peak)
    low, high = _domain(e)
    x = {"type": "log", "domain": [low, high], "nice": False}
    y = {"domain": [0, peak * 1.62], "nice": False}
    bars = layer(
        [{"low": b.low_ms, "high": b.high_ms, "share": b.count / total} for b in e.distribution if b.count],
        {"type": "rect", "color": SOFT},
        x=quantitative("low", scale=x, axis={**_X_AXIS, "values": log_ticks(low, high), "labelExpr": _MS_LABEL}),
        x2={"field": "high"},
        y=quantitative(
            "share", scale=y, axis={**_Y_AXIS, "values": [0, peak], "format": ".0%" if peak > 0.05 else ".1%"}
        ),
    )
    at = quantitative("y", scale=y)
    names = layer(
        rows,
        {"type": "text", "align": "right", "dx": -6, "dy": _MIDDLE, "fontSize": 0, "color": MUTED},
        x={"datum": low, "type": "quantitative", "scale": x},
        y=at,
        text={"field": "name", "type": "nominal"},
    )
    intervals = layer(
        [r for r in rows if r["ci_low"] is not None and r["ci_high"] is not None],
        {"type": "rule", "color": ACCENT, "strokeWidth": 5, "opacity": 0.35},
        x=quantitative("ci_low"),
        x2={"field": "ci_high"},
        y=at,
    )
    values = layer(
        [r for r in rows if r["value"] is not None],
        {"type": "point", "shape": "circle", "filled": True, "size": 42, "color": ACCENT, "opacity": 1},
        x=quantitative("value"),
        y=at,
    )
    status = {"field": "status", "type": "nominal", "scale": None}
    beyond = layer(
        [{**r, "edge": high} for r in rows if "limit" in r and r["limit"] > high],
        {"type": "point", "shape": "triangle-right", "filled": True, "size": 44, "opacity": 1},
        x=quantitative("edge"),
        y=at,
        color=status,
    )
    limits = layer(
        [r for r in rows if "limit" in r and r["limit"] <= high],
        {"type": "tick", "orient": "vertical", "size": 13, "thickness": 2.5, "opacity": 1},
        x=quantitative("limit"),
        y=at,
        color=status,
    )
    return spec([bars, names, intervals, values, limits, beyond])


def _domain(e: EndpointReport) -> tuple[float, float]:
    """The range of the latency axis: every request, every interval and the limits that are near, and a little air."""
    edges = [e.distribution[0].low_ms, e.distribution[-1].high_ms]
    edges += [x for q in e.quantiles if q.q <= 0.99 for x in (q.value_ms, q.ci_low_ms, q.ci_high_ms) if x]
    farthest = max(edges) * FAR
    edges += [v.limit for v in e.levels if v.unit == "ms" and 0 < v.limit <= farthest]
    return min(edges) / 1.06, max(edges) * 1.06


def _quantile_rows(e: EndpointReport, peak: float) -> list[Spec]:
    limits = {str(v.metric): v for v in e.levels}
    rows: list[Spec] = []
    for i, (q, name) in enumerate(((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))):
        found = next((x for x in e.quantiles if math.isclose(x.q, q)), None)
        level = limits.get(name)
        if found is None or (found.value_ms is None and level is None):
            continue
        row: Spec = {"name": name.upper(), "y": peak * (1.5 - 0.17 * i)}
        row |= {"value": found.value_ms, "ci_low": found.ci_low_ms, "ci_high": found.ci_high_ms}
        if level is not None:
            row |= {"limit": level.limit, "status": f"var(--{level.verdict.replace('_', '-')})"}
        rows.append(row)
    return rows


def timeline_chart(e: EndpointReport) -> Chart | None:
    """P50 and P95 over time, with the seconds that had errors marked."""
    if all(p.p95_ms is None for p in e.timeline):
        return None
    step = e.timeline_step_s
    start, end = e.timeline[0].at_s, e.timeline[-1].at_s + step
    hover = [
        (
            round(LEFT + PLOT_WIDTH * (p.at_s + step / 2 - start) / (end - start), 1),
            f"{p.at_s:g} s: P50 {format_ms(p.p50_ms)}, P95 {format_ms(p.p95_ms)}, {format_count(p.requests_per_s)}/s"
            + (f", {p.errors} errors" if p.errors else ""),
        )
        for p in e.timeline
    ]
    per = "second" if step == 1 else f"{step} s"
    return Chart(picture=render(timeline_spec(e)), label=f"P50 and P95 per {per} over the load", hover=hover)


def timeline_spec(e: EndpointReport) -> Spec:
    """Vega-Lite: two lines that break where nothing ended, and a cross where something failed."""
    step = e.timeline_step_s
    rows = [{"t": p.at_s + step / 2, "p50": p.p50_ms, "p95": p.p95_ms} for p in e.timeline]
    top = max(p.p95_ms or 0.0 for p in e.timeline) * 1.08 or 1.0
    domain = [e.timeline[0].at_s, e.timeline[-1].at_s + step]
    x = quantitative(
        "t",
        scale={"domain": domain, "nice": False},
        axis=axis_x_seconds(),
    )
    scale = {"domain": [0, top], "nice": False}
    axis = axis_y(3)
    layers = []
    for field, color in (("p50", SOFT), ("p95", ACCENT)):
        y = quantitative(field, scale=scale, axis=axis)
        layers.append(
            layer(rows, {"type": "line", "color": color, "strokeWidth": 1.6, "strokeJoin": "round"}, x=x, y=y)
        )
        layers.append(layer(_lonely(rows), {"type": "circle", "color": color, "size": 12, "opacity": 1}, x=x, y=y))
    failed = [{"t": p.at_s + step / 2, "y": top} for p in e.timeline if p.errors]
    cross = {"type": "point", "shape": "cross", "angle": 45, "size": 36, "filled": True, "color": FAIL, "opacity": 1}
    outside = [(domain[0], min(e.measured_from_s, domain[1])), (max(e.measured_to_s, domain[0]), domain[1])]
    shade = layer(
        [{"a": a, "b": b, "low": 0, "high": top} for a, b in outside if b - a > 0.5],
        {"type": "rect", "color": MUTED, "opacity": 0.12},
        x={**x, "field": "a"},
        x2={"field": "b"},
        y=quantitative("low", scale=scale),
        y2={"field": "high"},
    )
    return spec([shade, *layers, layer(failed, cross, x=x, y=quantitative("y", scale=scale))])


def _lonely(rows: list[Spec]) -> list[Spec]:
    """Points between two gaps: a line alone would not show them."""
    missing = [True, *(r["p95"] is None for r in rows), True]
    return [r for i, r in enumerate(rows) if not missing[i + 1] and missing[i] and missing[i + 2]]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis: 1, 2, 5 where it spans little, powers of ten where it spans much.

    >>> log_ticks(8, 250)
    [10, 20, 50, 100, 200]
    >>> log_ticks(1, 40_000)
    [1, 10, 100, 1000, 10000]
    """
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 1.8 else (1, 3) if decades < 2.6 else (1,)
    found = [
        float(f"{s}e{k}") for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for s in steps
    ]
    return [int(t) if t == int(t) else t for t in found if low <= t <= high]


def quantitative(field: str, **more: Any) -> Spec:
    """A channel that shows a number."""
    return {"field": field, "type": "quantitative", **more}


def layer(rows: Sequence[Spec], mark: Spec, **encoding: Spec | None) -> Spec | None:
    """A layer with data of its own; None without data."""
    return {"data": {"values": list(rows)}, "mark": mark, "encoding": encoding} if rows else None


def axis_y_labelled(label: str) -> Spec:
    """A quiet axis from zero with labels by a Vega expression."""
    return {**_Y_AXIS, "tickCount": 2, "labelExpr": label}


def axis_x_seconds() -> Spec:
    """Seconds since the load's start."""
    return {**_X_AXIS, "tickCount": 6, "labelExpr": "format(datum.value, ',~g') + ' s'"}


def axis_x_labelled() -> Spec:
    """A quiet axis of numbers."""
    return {**_X_AXIS, "tickCount": 6, "labelExpr": "format(datum.value, ',~g')"}


def axis_y_logarithmic(low: float, high: float) -> Spec:
    """A quiet logarithmic axis of times."""
    return {**_Y_AXIS, "values": log_ticks(low, high), "labelExpr": _MS_LABEL}


def axis_y(ticks: int) -> Spec:
    """A quiet axis of times from zero."""
    return {**_Y_AXIS, "tickCount": ticks, "labelExpr": _MS_LABEL}


def spec(layers: Sequence[Spec | None], *, height: int = HEIGHT) -> Spec:
    """A picture of layers (those without data left out) with the plot area that the page's script knows."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": PLOT_WIDTH,
        "height": height - TOP - BOTTOM,
        "autosize": {"type": "none"},
        "padding": {"left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
        # The page describes the picture; Vega need not describe each mark.
        "config": {"aria": False, "font": "sans-serif", "background": "transparent", "view": {"stroke": None}},
        "layer": [one for one in layers if one is not None],
    }


def render(specification: Spec) -> Picture:
    """The picture, which is drawn from now on: ask for all before you look at the first."""
    return Picture(vega.draw(specification))
