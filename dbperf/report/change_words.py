"""What a comparison says, in the words and the small pictures of the report."""

from __future__ import annotations

import math
from collections import Counter

from markupsafe import Markup

from dbperf.records.comparison import MetricComparison, MetricVerdict, OverallVerdict, Unit
from dbperf.report.changes_model import ChangesReport
from dbperf.units import MISSING, format_bytes, format_count, format_ms

VERDICTS: dict[MetricVerdict, str] = {
    "worse": "worse",
    "better": "better",
    "unchanged": "unchanged",
    "cant_tell": "can't tell",
    "not_comparable": "not comparable",
}
OVERALL: dict[OverallVerdict | None, str] = {
    "pass": "No regression",
    "fail": "A regression",
    "cant_tell": "Can't tell: no regression is shown, and none is ruled out",
    "not_comparable": "Not comparable",
    None: "Not compared",
}
WIDTH, HEIGHT = 150, 20
FARTHEST = 8.0
"""The picture of ratios reaches from an eighth to eight times; what lies beyond stands at its edge."""


def change_quantity(value: float | None, unit: Unit) -> str:
    """A figure with its unit.

    >>> change_quantity(12.3, "ms"), change_quantity(0.005, "share"), change_quantity(None, "ms")
    ('12.3 ms', '0.5 %', '–')
    """
    if value is None:
        return MISSING
    match unit:
        case "ms":
            return format_ms(value)
        case "share":
            return f"{value * 100:.3g} %"
        case "per_s":
            return f"{format_count(value)}/s"
        case "bytes":
            return format_bytes(value)
        case "count":
            return format_count(value)


def change_text(m: MetricComparison) -> tuple[str, str]:
    """The change, and its interval: a ratio, or a difference in points for shares. Empty where nothing was compared."""
    if m.verdict == "not_comparable" or m.a is None or m.b is None:
        return "", ""
    if m.unit == "share":
        interval = (
            f"{m.ci_low * 100:+.2f} to {m.ci_high * 100:+.2f}" if None not in (m.ci_low, m.ci_high) else ""  # type: ignore[operator]  # neither is None
        )
        return f"{(m.b - m.a) * 100:+.2f} points", interval
    if m.ratio is None:
        return f"{m.b - m.a:+g}", ""
    interval = ""
    if m.ci_low is not None or m.ci_high is not None:
        low = _ratio(m.ci_low) if m.ci_low is not None else "0"
        interval = f"{low} to {_ratio(m.ci_high) if m.ci_high is not None else '∞'}"
    return f"×{_ratio(m.ratio)}", interval


def _ratio(x: float) -> str:
    return f"{x:.2f}" if x >= 0.1 else f"{x:.2g}"


def change_bar(m: MetricComparison) -> Markup:
    """Where the ratio and its interval lie around 1, which is the line in the middle. Numbers only."""
    if m.ratio is None or m.ratio <= 0 or m.unit == "share" or m.verdict == "not_comparable":
        return Markup("")

    def x(ratio: float) -> float:
        at = math.log(min(max(ratio, 1 / FARTHEST), FARTHEST)) / math.log(FARTHEST)
        return round(WIDTH / 2 + at * (WIDTH / 2 - 5), 1)

    low = x(m.ci_low) if m.ci_low else x(m.ratio) if m.ci_low is None and m.ci_high is None else x(1 / FARTHEST)
    high = x(m.ci_high) if m.ci_high else x(m.ratio) if m.ci_low is None and m.ci_high is None else x(FARTHEST)
    parts = (
        f'<line class="track" x1="0" x2="{WIDTH}" y1="10" y2="10"/>'
        f'<line class="limit" x1="{WIDTH / 2:g}" x2="{WIDTH / 2:g}" y1="3" y2="17"/>'
        f'<line class="span" x1="{low}" x2="{high}" y1="10" y2="10"/>'
        f'<circle class="p95" cx="{x(m.ratio)}" cy="10" r="4"/>'
    )
    return Markup(f'<svg class="range" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{parts}</svg>')  # noqa: S704


def change_summary(c: ChangesReport) -> str:
    """One sentence: the verdict and how many metrics are behind it."""
    if c.verdict is None:
        return f"{OVERALL[None]}: {c.reason}" if c.reason else OVERALL[None]
    counted = Counter("accepted" if m.accepted else VERDICTS[m.verdict] for m in c.metrics)
    order = ["worse", "accepted", "can't tell", "better", "unchanged", "not comparable"]
    return f"{OVERALL[c.verdict]} ({', '.join(f'{counted[name]} {name}' for name in order if counted[name])})"


def shown_changes(c: ChangesReport) -> tuple[list[tuple[int, MetricComparison]], list[tuple[int, MetricComparison]]]:
    """The metrics with their numbers from 1: those worth a row at once (changed, accepted, or gating and open with
    figures on both sides), and the rest."""
    numbered = list(enumerate(c.metrics, 1))
    told = [
        (i, m)
        for i, m in numbered
        if m.verdict in ("worse", "better")
        or (m.gate and m.verdict == "cant_tell" and m.a is not None and m.b is not None)
    ]
    return told, [x for x in numbered if x not in told]
