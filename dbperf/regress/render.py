"""A comparison as text for a terminal, and as Markdown (`regression-analysis.md`, a step summary, an issue's body)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from textwrap import wrap

from dbperf.records.comparison import Comparison, MetricComparison, Side
from dbperf.regress.words import OVERALL, VERDICTS, aligned, change, groups, quantity, summary_line, visible

FILE_NAME = "regression-analysis.md"
_SHORT = {"requests_per_s": "req/s"}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~#])")


def render_text(comparison: Comparison, *, everything: bool = False, width: int | None = None) -> str:
    """A table; metrics that do not gate and have not changed are left out unless `everything`.

    `width` is the terminal's, in characters: where one line a metric does not fit, endpoints become headings, and long
    sentences are wrapped. None (a file, a pipe) keeps a metric on a line, so that it can be searched for.
    """
    shown = [m for m in comparison.metrics if everything or m.gate or m.verdict in ("worse", "not_comparable")]
    rows = [["metric", "A", "B", "B / A", "verdict"]]
    rows += [
        [visible(m.name), quantity(m.a, m.unit), quantity(m.b, m.unit), change(m), _verdict(m)]
        for m in sorted(shown, key=_order)
    ]
    table = aligned(rows, right=(1, 2))
    if width is not None and max(map(len, table)) > width:
        table = _grouped(sorted(shown, key=_order))
    lines = [f"A: {_side(comparison.a)}", f"B: {_side(comparison.b)}", "", *table, ""]
    head = len(lines)
    for m in sorted(shown, key=_order):
        if m.verdict in ("worse", "cant_tell", "not_comparable"):
            extra = f" [accepted until {m.accepted.until}: {visible(m.accepted.reason)}]" if m.accepted else ""
            lines.append(f"{VERDICTS[m.verdict]}: {visible(m.name)}: {visible(m.reason)}{extra}")
    lines += [f"note: {visible(n)}" for n in comparison.notes]
    lines.append(summary_line(comparison))
    if width is not None:
        wrapped = (wrap(line, max(width, 20), subsequent_indent="  ") or [""] for line in lines[head:])
        lines = [*lines[:head], *(part for parts in wrapped for part in parts)]
    return "\n".join(lines) + "\n"


def _grouped(metrics: Sequence[MetricComparison]) -> list[str]:
    """A heading for each endpoint, in the order of its gravest metric, and a line for each metric below it."""
    rows = [["", "A", "B", "B / A", "verdict"]]
    by_endpoint: dict[str, list[MetricComparison]] = {}
    for m in metrics:
        by_endpoint.setdefault(m.name.removesuffix(f" {m.metric}"), []).append(m)
    for found in by_endpoint.values():
        rows += [
            [_SHORT.get(m.metric, visible(m.metric)), quantity(m.a, m.unit), quantity(m.b, m.unit), change(m),
             _verdict(m)] for m in found
        ]  # fmt: skip
    first, *body = aligned(rows, right=(1, 2))
    lines, rest = [f"  {first}"], iter(body)
    for endpoint, found in by_endpoint.items():
        lines += [visible(endpoint), *(f"  {next(rest)}" for _ in found)]
    return lines


def render_markdown(comparison: Comparison) -> str:
    """Failures, warnings, passed, not comparable, accepted exceptions and a summary."""
    lines = [
        "# Regression analysis", "", f"**{_escaped(OVERALL[comparison.verdict])}**", "",
        f"- A: {_escaped(_side(comparison.a))}", f"- B: {_escaped(_side(comparison.b))}",
        f"- {comparison.family} metrics were judged together; the chance of any false alarm is at most "
        f"{comparison.alpha:.0%}",
    ]  # fmt: skip
    for title, metrics in groups(comparison).items():
        if not metrics:
            continue
        lines += ["", f"## {title}", "", "| metric | A | B | B / A (95 % interval) | tolerance | verdict |"]
        lines.append("|---|---:|---:|---:|---:|---|")
        lines += [_row(m) for m in sorted(metrics, key=_order)]
    if comparison.notes:
        lines += ["", "## Notes", "", *(f"- {_escaped(n)}" for n in comparison.notes)]
    counts = [f"| {title} | {len(metrics)} |" for title, metrics in groups(comparison).items()]
    lines += ["", "## Summary", "", "| | metrics |", "|---|---:|", *counts, ""]
    return "\n".join(lines)


def _row(m: MetricComparison) -> str:
    reason = m.reason
    if m.accepted:
        reason += f"; accepted by {m.accepted.who} until {m.accepted.until}: {m.accepted.reason}"
    cells = [
        m.name, quantity(m.a, m.unit), quantity(m.b, m.unit), change(m), m.tolerance,
        f"{VERDICTS[m.verdict]}: {reason}",
    ]  # fmt: skip
    return "| " + " | ".join(_escaped(c) for c in cells) + " |"


def _verdict(m: MetricComparison) -> str:
    text = VERDICTS[m.verdict]
    if m.accepted:
        return f"{text} (accepted)"
    return f"{text} (weak)" if m.evidence == "summary" and m.verdict in ("worse", "better", "unchanged") else text


def _side(side: Side) -> str:
    parts = [visible(side.source), side.kind]
    if side.provenance != "measured":
        parts.append(f"{side.provenance} data")
    if side.git_revision:
        parts.append(f"revision {side.git_revision[:12]}{'-dirty' if side.git_revision.endswith('-dirty') else ''}")
    if side.measured_at:
        parts.append(f"{side.measured_at:%Y-%m-%d %H:%M}")
    return ", ".join(parts)


def _order(m: MetricComparison) -> tuple[int, int]:
    rank = {"worse": 0, "cant_tell": 1, "better": 2, "unchanged": 3, "not_comparable": 4}
    return (not m.gate, rank[m.verdict])


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", visible(text))
