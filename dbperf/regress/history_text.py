"""A history for a terminal and as Markdown: series with sparklines, steps with their commits."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dbperf.records.comparison import Conditions
from dbperf.records.history import HistoryReport, Series, SeriesPoint, SeriesStep
from dbperf.regress.series import POINTS_NEEDED
from dbperf.regress.words import aligned, quantity, visible
from dbperf.units import MISSING, format_seconds

SPARK_WIDTH = 20
_BARS = "▁▂▃▄▅▆▇█"
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~#])")


def sparkline(values: Sequence[float], width: int = SPARK_WIDTH) -> str:
    """The newest `width` values as bars; the lowest and the highest of them span the scale, unless all are within
    10 % of each other, which is drawn as quiet as it is.

    >>> sparkline([1, 2, 4, 8])
    '▁▂▄█'
    >>> sparkline([100, 101, 100])
    '▄▅▄'
    """
    shown = list(values)[-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    middle = (low + high) / 2
    span = max(high - low, 0.1 * abs(middle)) or 1.0
    start = middle - span / 2
    return "".join(_BARS[min(len(_BARS) - 1, int((v - start) / span * len(_BARS)))] for v in shown)


def conditions_in_words(c: Conditions) -> str:
    """What the figures of a series have in common."""
    parts = []
    if c.target is not None:
        parts.append(c.target + (f" {c.scale}" if c.scale else ""))
    if c.workers is not None and c.workers > 1:
        parts.append(f"{c.workers} workers")
    if c.users is not None:
        parts.append(f"{c.users} user{'' if c.users == 1 else 's'}")
    if c.arrival_rate_per_s is not None:
        parts.append(f"{c.arrival_rate_per_s:g} arrivals/s")
    if c.duration_s is not None:
        parts.append(format_seconds(c.duration_s))
    if c.suite is not None:
        parts.append(f"suite {c.suite}")
    if c.database is not None:
        parts.append(c.database)
    if c.machine.cpu_model is not None or c.machine.cpu_count is not None:
        parts.append(f"{c.machine.cpu_count or ''}× {c.machine.cpu_model or 'CPU'}".strip())
    if c.provenance != "measured":
        parts.append(f"{c.provenance} data")
    return visible(", ".join(parts)) or "conditions unknown"


def render_show(report: HistoryReport, *, markdown: bool = False) -> str:
    """A line for each series, grouped by conditions."""
    lines = [f"{report.runs} runs in {report.store}"]
    for conditions, group in _by_conditions(report.series).items():
        rows = [["figure", "runs", "newest", "steps", "trend"]]
        rows += [
            [
                visible(s.name), str(len(s.points)),
                quantity(s.points[-1].value, s.unit), _step_count(s), sparkline([p.value for p in s.points]),
            ]
            for s in group
        ]  # fmt: skip
        if markdown:
            lines += ["", f"**{_escaped(conditions)}**", "", *_table(rows)]
        else:
            lines += ["", conditions, *(f"  {line}" for line in aligned(rows, right=(1, 2)))]
    return "\n".join([*lines, *_notes(report)])


def render_steps(report: HistoryReport, *, markdown: bool = False) -> str:
    """Each step with its range of commits, the worst first."""
    found = [(s, step) for s in report.series for step in s.steps]
    found.sort(key=lambda pair: (pair[1].verdict != "worse", -abs((pair[1].ratio or 0) - 1)))
    lines = []
    for series, step in found:
        title = f"{visible(series.name)}: {step_in_words(series, step)}"
        where = commit_range(series, step)
        if markdown:
            lines += [f"- **{_escaped(title)}**", f"  - {_escaped(where)}", *(f"  - {_escaped(c)}" for c in _log(step))]
        else:
            lines += [title, f"  {where}", *(f"    {c}" for c in _log(step))]
            lines += [f"  {sparkline([p.value for p in series.points])}", ""]
    if markdown and lines:
        lines.append("")
    searched = [s for s in report.series if len(s.points) >= POINTS_NEEDED]
    short = len(report.series) - len(searched)
    lines.append(
        f"{len(found)} step{'' if len(found) == 1 else 's'} in {len(searched)} series"
        + (f"; {short} more have fewer than {POINTS_NEEDED} runs, too few for any" if short else "")
    )
    return "\n".join([*lines, *_notes(report)])


def step_in_words(series: Series, step: SeriesStep) -> str:
    """ "worse, ×1.25: 12.3 ms → 15.4 ms since 2026-01-03 (run 20260103T…)"."""
    change = f"×{step.ratio:.2f}" if step.ratio is not None else f"{step.after - step.before:+.3g}"
    first = series.points[step.at]
    levels = f"{quantity(step.before, series.unit)} → {quantity(step.after, series.unit)}"
    return f"{step.verdict}, {change}: {levels} since {first.measured_at:%Y-%m-%d %H:%M} ({visible(first.source)})"


def commit_range(series: Series, step: SeriesStep) -> str:
    """Between which commits a step lies with 95 %."""
    before, after = series.points[step.earliest - 1], series.points[step.latest]
    if step.revision_before is None or step.revision_after is None:
        return f"between the runs {visible(before.source)} and {visible(after.source)}, whose commits are not known"
    if step.revision_before == step.revision_after:
        return f"at the same commit, {_short(before)}: not the code (machine, data, or changes not committed)"
    return f"commits {_short(before)}..{_short(after)}"


def _log(step: SeriesStep) -> list[str]:
    lines = [f"{c.revision[:12]} {visible(c.subject)} ({visible(c.author)})" for c in step.commits]
    return [*lines, f"and {step.commits_left_out} more"] if step.commits_left_out else lines


def _short(point: SeriesPoint) -> str:
    revision = point.git_revision or MISSING
    return revision[:12] + ("-dirty" if revision.endswith("-dirty") else "")


def _by_conditions(series: Sequence[Series]) -> dict[str, list[Series]]:
    groups: dict[str, list[Series]] = {}
    for s in series:
        groups.setdefault(conditions_in_words(s.conditions), []).append(s)
    return groups


def _step_count(s: Series) -> str:
    if len(s.points) < POINTS_NEEDED:
        return MISSING
    worse = sum(step.verdict == "worse" for step in s.steps)
    return f"{len(s.steps)}" + (f" ({worse} worse)" if worse else "")


def _notes(report: HistoryReport) -> list[str]:
    return ["", *(f"note: {visible(n)}" for n in report.notes)] if report.notes else []


def _table(rows: list[list[str]]) -> list[str]:
    head, *body = [[_escaped(c) for c in r] for r in rows]
    return [f"| {' | '.join(r)} |" for r in (head, ["---"] * len(head), *body)]


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", visible(text))
