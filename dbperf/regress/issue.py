"""Issues from a comparison: which regressions belong together, what an issue says, and how it is found again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Literal

from msgspec import field

from dbperf.records.base import Record
from dbperf.records.comparison import Comparison, MetricComparison, Side
from dbperf.records.history import Commit
from dbperf.regress.words import VERDICTS, change, quantity, visible
from dbperf.units import MISSING

LABELS = ("performance", "regression", "automated")
CRITICAL, HIGH = "priority-critical", "priority-high"
Priority = Literal["priority-critical", "priority-high"]
CRITICAL_RATIO = 1.5
"""A latency that grew by half, or a throughput that fell by a third."""
CRITICAL_SHARE = 0.05
"""Five points more errors."""
MAX_BODY = 60_000
"""GitHub takes 65,536 characters."""
_MARKER = re.compile(r"<!-- dbperf-regression: ([0-9a-f]{16}) -->")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~#@])")
_BACKTICKS = re.compile(r"`+")


class Family(Record, frozen=True, kw_only=True):
    """Metrics that share an issue: those of a service of dbperf.toml, else those of an endpoint."""

    name: str
    fingerprint: str
    """The same for every run, so that the family's issue is found again."""
    failing: list[MetricComparison]
    """Gating, worse, and not accepted."""
    metrics: list[MetricComparison]
    """All of the family that gate."""
    gone: bool
    """Every gating metric was compared, and none is worse or open."""

    @property
    def priority(self) -> Priority:
        return CRITICAL if any(_critical(m) for m in self.failing) else HIGH  # type: ignore[return-value]  # both are

    @property
    def title(self) -> str:
        worst = max(self.failing, key=_size)
        return f"Performance regression: {visible(self.name)} ({worst.metric} {_short_change(worst)})"


class Evidence(Record, frozen=True, kw_only=True):
    """What a run tells besides its figures."""

    commits: list[Commit] = field(default_factory=list)
    """Behind A's revision up to B's, newest first."""
    commits_left_out: int = 0
    statements: list[str] = field(default_factory=list)
    """Statements whose time per request or plan changed, a line each, in Markdown."""
    flames: list[str] = field(default_factory=list)
    """Frames that take more time, a line each, in Markdown."""
    reproduce: list[str] = field(default_factory=list)
    """Shell commands."""
    repository_url: str | None = None
    """"https://github.com/owner/name", for links."""


def families(comparison: Comparison) -> list[Family]:
    """The families of a comparison, in the order of its metrics."""
    groups: dict[str, list[MetricComparison]] = {}
    for m in comparison.metrics:
        if m.gate or m.verdict == "not_comparable":
            groups.setdefault(m.service or m.subject, []).append(m)
    return [
        Family(
            name=name,
            fingerprint=hashlib.sha256(f"dbperf regression {name}".encode()).hexdigest()[:16],
            failing=[m for m in metrics if m.gate and m.verdict == "worse" and m.accepted is None],
            metrics=metrics,
            gone=all(m.verdict in ("unchanged", "better") for m in metrics),
        )
        for name, metrics in groups.items()
    ]


def marker(fingerprint: str) -> str:
    """The hidden line by which an issue is found again.

    >>> marked(f"text\\n{marker('0123456789abcdef')}")
    '0123456789abcdef'
    """
    return f"<!-- dbperf-regression: {fingerprint} -->"


def marked(body: str | None) -> str | None:
    """The fingerprint in an issue's body; None where there is none."""
    found = _MARKER.search(body or "")
    return found[1] if found else None


def run_marker(comparison: Comparison) -> str:
    """A hidden line that says which comparison a text is about, so that nothing is said twice."""
    told = f"{comparison.a.source}\n{comparison.b.source}\n{comparison.b.measured_at}\n{comparison.compared_at}"
    return f"<!-- dbperf-comparison: {hashlib.sha256(told.encode()).hexdigest()[:16]} -->"


def body(family: Family, comparison: Comparison, evidence: Evidence) -> str:
    """An issue's text, or a comment's when the regression is seen again."""
    parts = [
        [
            f"`dbperf compare` found {len(family.failing)} metric{'s' if len(family.failing) > 1 else ''} of "
            f"{_escaped(family.name)} worse than {'they were' if len(family.failing) > 1 else 'it was'}.", "",
            *_table(family.failing), "",
            f"Before: {_side(comparison.a)}.  ", f"Now: {_side(comparison.b)}.", "",
            f"{comparison.family} metrics were judged together; the chance of any false alarm among them is at most "
            f"{comparison.alpha:.0%}.",
        ],
        _commits(comparison, evidence),
        _section("Statements and plans", evidence.statements),
        _section("Where the time went (flame graphs, ms per request)", evidence.flames),
        ["### Reproduce", "", "```sh", *(visible(c) for c in evidence.reproduce), "```"] if evidence.reproduce else [],
        [f"### {len(others)} other metrics that gate", "", *_table(others)]
        if (others := [m for m in family.metrics if m not in family.failing]) else [],
    ]  # fmt: skip
    end = f"{marker(family.fingerprint)}\n{run_marker(comparison)}\n"
    text = ""
    for part in (p for p in parts if p):
        section = "\n".join(part) + "\n\n"
        if len(text) + len(section) + len(end) > MAX_BODY:
            text += "*What does not fit here is in the run directory.*\n\n"
            break
        text += section
    return text + end


def gone_text(family: Family, comparison: Comparison) -> str:
    """The comment with which an issue is closed."""
    return "\n".join(
        [
            f"The regression of {_escaped(family.name)} is gone: every metric that gates is unchanged or better.", "",
            *_table(family.metrics), "", f"Before: {_side(comparison.a)}.  ", f"Now: {_side(comparison.b)}.", "",
            run_marker(comparison), "",
        ]
    )  # fmt: skip


def code(text: str) -> str:
    """A code span for foreign text: what stands in it mentions nobody, refers to no issue and is no markup."""
    line = " ".join(visible(text).split()).replace("|", "\\|")
    fence = "`" * (1 + max((len(m) for m in _BACKTICKS.findall(line)), default=0))
    return f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}"


def _commits(comparison: Comparison, evidence: Evidence) -> list[str]:
    before, after = comparison.a.git_revision, comparison.b.git_revision
    lines = ["### Suspected commits", ""]
    if before is None or after is None:
        return [*lines, f"{'A' if before is None else 'B'} does not tell its revision."]
    if before == after:
        return [*lines, f"Both sides are {code(before[:12])}: not the code, or changes that were not committed."]
    span = f"{before.removesuffix('-dirty')[:12]}..{after.removesuffix('-dirty')[:12]}"
    link = f" ([compare]({evidence.repository_url}/compare/{span.replace('..', '...')}))"
    dirty = " Changes that were not committed took part." if "-dirty" in before + after else ""
    lines.append(f"{code(span)}{link if evidence.repository_url else ''}{dirty}")
    if evidence.commits:
        lines += ["", *(f"- {code(f'{c.revision[:12]} {c.subject}')} ({code(c.author)})" for c in evidence.commits)]
        lines += [f"- and {evidence.commits_left_out} more"] if evidence.commits_left_out else []
    else:
        lines += ["", "This repository's history does not tell what lies between them."]
    return lines


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"### {title}", "", *(f"- {line}" for line in lines)] if lines else []


def _table(metrics: Sequence[MetricComparison]) -> list[str]:
    rows = ["| metric | before | now | change (95 % interval) | tolerance | verdict |", "|---|---:|---:|---:|---:|---|"]
    for m in sorted(metrics, key=_size, reverse=True):
        cells = [m.name, quantity(m.a, m.unit), quantity(m.b, m.unit), change(m), m.tolerance,
                 f"{VERDICTS[m.verdict]}: {m.reason}"]  # fmt: skip
        rows.append("| " + " | ".join(_escaped(c) for c in cells) + " |")
    return rows


def _side(side: Side) -> str:
    when = f", {side.measured_at:%Y-%m-%d %H:%M} UTC" if side.measured_at else ""
    revision = f", revision {code(side.git_revision[:12])}" if side.git_revision else ""
    return f"{code(side.source)}{revision}{when}"


def _size(m: MetricComparison) -> float:
    """How much worse, for the order: above 1, the larger the worse."""
    if m.ratio is not None and m.ratio > 0:
        return m.ratio if m.direction == "lower" else 1 / m.ratio
    return 1 + abs((m.b or 0.0) - (m.a or 0.0))


def _critical(m: MetricComparison) -> bool:
    if "hard limit" in m.reason:
        return True
    if m.unit == "share":
        return (m.b or 0.0) - (m.a or 0.0) >= CRITICAL_SHARE
    return _size(m) >= CRITICAL_RATIO


def _short_change(m: MetricComparison) -> str:
    if m.unit == "share" and m.a is not None and m.b is not None:
        return f"{(m.b - m.a) * 100:+.1f} points"
    return f"×{m.ratio:.2f}" if m.ratio is not None else quantity(m.b, m.unit) or MISSING


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", visible(text))
