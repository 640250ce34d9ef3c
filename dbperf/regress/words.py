"""Texts about a comparison that every output shares."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from dbperf.records.comparison import Comparison, MetricComparison, MetricVerdict, OverallVerdict, Unit
from dbperf.units import MISSING, format_bytes, format_count, format_ms

_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
VERDICTS: dict[MetricVerdict, str] = {
    "worse": "worse",
    "better": "better",
    "unchanged": "unchanged",
    "cant_tell": "can't tell",
    "not_comparable": "not comparable",
}
OVERALL: dict[OverallVerdict, str] = {
    "pass": "pass: no regression",
    "fail": "FAIL: a regression",
    "cant_tell": "can't tell: no regression is shown, and none is ruled out",
    "not_comparable": "not comparable: nothing could be compared",
}


def quantity(value: float | None, unit: Unit) -> str:
    """A figure with its unit.

    >>> quantity(12.3, "ms"), quantity(0.005, "share"), quantity(0.27, "per_s"), quantity(None, "ms")
    ('12.3 ms', '0.5 %', '0.27/s', '–')
    """
    if value is None:
        return MISSING
    if unit == "ms":
        return format_ms(value)
    if unit == "share":
        return f"{value * 100:.3g} %"
    if unit == "per_s":
        return f"{format_count(value)}/s"
    return format_bytes(value) if unit == "bytes" else format_count(value)


def change(m: MetricComparison) -> str:
    """ "×1.12 (1.08–1.16)", or the difference in points for shares; – where nothing was compared."""
    if m.verdict == "not_comparable" or m.a is None or m.b is None:
        return MISSING
    if m.unit == "share":
        text = f"{(m.b - m.a) * 100:+.2f} points"
        if m.ci_low is not None and m.ci_high is not None:
            text += f" ({m.ci_low * 100:+.2f} to {m.ci_high * 100:+.2f})"
        return text
    if m.ratio is None:
        return f"{m.b - m.a:+g}"
    text = f"×{m.ratio:.3f}"
    if m.ci_low is not None or m.ci_high is not None:
        low = f"{m.ci_low:.3f}" if m.ci_low is not None else "0"
        high = f"{m.ci_high:.3f}" if m.ci_high is not None else "∞"
        text += f" ({low}–{high})"
    return text


def groups(comparison: Comparison) -> dict[str, list[MetricComparison]]:
    """The metrics by what they mean for the gate, in the order in which a reader wants them; none is left out."""
    found: dict[str, list[MetricComparison]] = {
        "Failures": [], "Accepted exceptions": [], "Warnings": [], "Passed": [], "Not comparable": []
    }  # fmt: skip
    for m in comparison.metrics:
        if m.verdict == "not_comparable":
            found["Not comparable"].append(m)
        elif m.accepted is not None:
            found["Accepted exceptions"].append(m)
        elif m.verdict == "worse":
            found["Failures" if m.gate else "Warnings"].append(m)
        elif m.verdict == "cant_tell":
            found["Warnings"].append(m)
        else:
            found["Passed"].append(m)
    return found


def summary_line(comparison: Comparison) -> str:
    """One line for the end of a terminal's output."""
    counts = ", ".join(f"{len(ms)} {title.lower()}" for title, ms in groups(comparison).items() if ms)
    return f"{OVERALL[comparison.verdict]} ({counts or 'nothing to compare'})"


def visible(text: str) -> str:
    """Text from a foreign file on one line, with characters that steer a terminal or a page made visible.

    >>> visible("GET /a\\x1b[31m")
    'GET /a\\\\x1b[31m'
    """
    return "".join(_shown(c) for c in text)


def _shown(c: str) -> str:
    if c == " " or unicodedata.category(c) not in _UNSEEN:
        return c
    return c.encode("unicode_escape", "surrogatepass").decode()


def aligned(rows: Iterable[list[str]], right: Iterable[int] = ()) -> list[str]:
    """Rows of a table with columns aligned; those in `right` to the right."""
    table = [list(r) for r in rows]
    if not table:
        return []
    to_right = set(right)
    widths = [max(len(r[i]) for r in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [c.rjust(w) if i in to_right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines
