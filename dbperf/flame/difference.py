"""Two profiles side by side: a page with the graph after (red: more, blue: less), the graph before, and the table."""

from __future__ import annotations

import html
from collections.abc import Sequence

from dbperf.flame.changes import compare, node_changes
from dbperf.flame.drawing import figure, page, place_of, quantity
from dbperf.flame.ops import total, without_lines
from dbperf.records.stacks import Frame, FrameChange, Stacks

_WORDS = {"more": "more", "less": "less", "cant_tell": "can't tell"}


def difference_page(before: Stacks, after: Stacks) -> tuple[str, list[FrameChange]]:
    """The HTML page, and every function's change.

    Full-stack profiles (milliseconds per request) are compared as they are, others as shares of their whole.

    Raises:
        UsageError: the units differ, or a profile is empty.
    """
    absolute = before.source == after.source == "fullstack"
    changes = compare(before, after, absolute=absolute)
    a, b = without_lines(before), without_lines(after)
    figures = difference_figures(a, b, absolute=absolute)
    lead = f"{before.name} before, {after.name} after. Red takes more, blue takes less, of the whole before."
    body = page(f"{before.name}: what changed", figures, lead=lead)
    return body.replace("<script>", f"{_table(changes, before.unit, absolute)}<script>", 1), changes


def difference_figures(
    before: Stacks, after: Stacks, *, absolute: bool = False, prefix: str = "change"
) -> list[tuple[str, str]]:
    """Headings and figures for a page: after, coloured by change, and before, coloured by what went away."""
    grown = node_changes(before, after, absolute=absolute)
    # Absolute changes are shares of the first profile's whole; both pictures speak of the whole before.
    scale = total(after) / total(before) if absolute else 1.0
    shrunk = {i: -c * scale for i, c in node_changes(after, before, absolute=absolute).items()}
    return [
        ("After, coloured by change", figure(after, figure_id=f"{prefix}-after", changes=grown)),
        ("Before, coloured by what changed", figure(before, figure_id=f"{prefix}-before", changes=shrunk)),
    ]


def _value(value: float, unit: str, absolute: bool) -> str:
    return quantity(value, unit) if absolute else f"{100 * value:.1f} %"


def _table(changes: Sequence[FrameChange], unit: str, absolute: bool) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(c.name[:200])}</td><td>{html.escape(_place(c))}</td>"
        f'<td class="n">{_value(c.before, unit, absolute)}</td><td class="n">{_value(c.after, unit, absolute)}</td>'
        f'<td class="n">{_interval(c, unit, absolute)}</td><td>{_WORDS[c.verdict]}</td></tr>'
        for c in changes[:50]
    )
    return (
        '<h2>Functions</h2><table><thead><tr><th>function</th><th>where</th><th class="n">before</th>'
        '<th class="n">after</th><th class="n">99 % interval of the change</th><th>verdict</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _place(c: FrameChange) -> str:
    return place_of(Frame(name=c.name, file=c.file, line=c.line))


def _interval(c: FrameChange, unit: str, absolute: bool) -> str:
    if c.ci_low is None or c.ci_high is None:
        return "–"
    return f"{_value(c.ci_low, unit, absolute)} to {_value(c.ci_high, unit, absolute)}"


def text_table(changes: Sequence[FrameChange], before: Stacks, after: Stacks, *, limit: int = 25) -> str:
    """The largest changes for a terminal."""
    absolute = before.source == after.source == "fullstack"
    lines = [f"{'before':>10}  {'after':>10}  {'verdict':<10}  function"]
    for c in changes[:limit]:
        lines.append(
            f"{_value(c.before, before.unit, absolute):>10}  {_value(c.after, before.unit, absolute):>10}  "
            f"{_WORDS[c.verdict]:<10}  {c.name[:80]}  {_place(c)}"
        )
    return "\n".join(lines) + "\n"
