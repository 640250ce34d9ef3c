"""Markdown for a pull request or a step summary: the verdict, the tables, and how to get the rest.

GitHub refuses comments above 65,536 characters, so that the least important rows go first, and the text says so.
Whatever came from a database or an API stands in code spans, where neither markup nor @mentions work.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC

from dbperf.records.comparison import MetricComparison
from dbperf.records.verdicts import LevelVerdict, Verdict
from dbperf.report.change_words import VERDICTS, change_quantity, change_summary, change_text, shown_changes
from dbperf.report.markdown_indexes import index_sections
from dbperf.report.markdown_text import Section, code, prose
from dbperf.report.model import EndpointReport, Report, StatementReport
from dbperf.report.requests import finding_groups, short_source
from dbperf.report.words import METRICS, quantity, short_sql
from dbperf.units import format_count, format_ms, format_share

MAX_CHARS = 60_000
MAX_STATEMENTS = 10
MAX_FINDINGS = 8
_MARKS = {"pass": "✅ pass", "fail": "❌ fail", "cant_tell": "❔ can't tell", None: "–"}
_CHANGES: dict[str, Verdict] = {"worse": "fail", "better": "pass", "cant_tell": "cant_tell"}


def render_markdown(report: Report, *, max_chars: int = MAX_CHARS) -> str:
    """The summary, at most `max_chars` long."""
    sections = _sections(report)
    kept = {i: len(s.rows) for i, s in enumerate(sections)}
    text = _compose(sections, kept)
    for i in sorted(kept, key=lambda i: sections[i].importance):
        while len(text) > max_chars and kept[i] > 0:
            # Rows differ in length; an estimate from the excess needs few rounds.
            average = max(sum(map(len, sections[i].rows)) // len(sections[i].rows), 1)
            kept[i] = max(kept[i] - max((len(text) - max_chars) // average, 1), 0)
            text = _compose(sections, kept)
    return text if len(text) <= max_chars else text[: max_chars - 20] + "\n\n(cut short)\n"


def _compose(sections: Sequence[Section], kept: dict[int, int]) -> str:
    lines: list[str] = []
    for i, s in enumerate(sections):
        if not s.rows and not s.head:
            continue
        lines += [*s.head, *s.rows[: kept[i]]]
        if (lost := len(s.rows) - kept[i]) > 0:
            lines += ["", f"*{format_count(lost)} more {s.what} are in the HTML report.*"]
        lines.append("")
    return "\n".join(lines)


def _sections(r: Report) -> list[Section]:
    several = len({e.stage for e in r.endpoints}) > 1
    statements = r.statements.statements[:MAX_STATEMENTS] if r.statements else []
    findings = [(s, f) for s in (r.statements.statements if r.statements else []) for f in s.findings]
    sections = [
        Section(importance=9, head=_head(r), rows=[], what="lines"),
        Section(
            importance=8,
            head=_table("Endpoint", *(["Stage"] if several else []), "Verdict", "P50", "P95", "P99", "Req/s", "Errors"),
            rows=[_endpoint(e, several) for e in r.endpoints],
            what="endpoints",
        ),
        Section(
            importance=7,
            head=_table("Gate", "Verdict", "Reason"),
            rows=[f"| {code(g.expr)} | {_MARKS[g.verdict]} | {prose(g.reason)} |" for g in r.gates],
            what="gates",
        ),
        Section(
            importance=7,
            head=_table("Of", "Stage", "Level", "Verdict", "Measured"),
            rows=[_level(v) for v in r.levels],
            what="service levels",
        ),
        Section(
            importance=8,
            head=_changes_head(r),
            rows=[_change(m) for _, m in shown_changes(r.changes)[0]] if r.changes else [],
            what="changes",
        ),
        Section(
            importance=6,
            head=[
                "### Statements by total time",
                "",
                *_table("#", "Statement", "Time", "Calls", "Mean", "Rows/call", "Hits"),
            ],
            rows=[_statement(s) for s in statements],
            what="statements",
        ),
        Section(
            importance=5,
            head=["### Findings", ""],
            rows=[
                f"- **{f.severity}**, statement {s.rank}: {prose(f.title)}"
                + (f", {format_share(f.share)} of the plan's time" if f.share is not None else "")
                + f". {prose(f.advice)}"
                for s, f in findings
            ],
            what="findings",
        ),
        Section(
            importance=5,
            head=["### Requests", ""],
            rows=[
                f"- **{g.finding.severity}**, {code(g.finding.route)}: {prose(g.finding.title)}"
                + (f" at {code(short_source(g.finding.source))}" if g.finding.source else "")
                + (f", also in {len(g.also)} other endpoints" if g.also else "")
                + (f"; about {format_ms(g.finding.saved_ms)} per request could be saved" if g.finding.saved_ms else "")
                + f". {prose(g.finding.advice)}"
                for g in finding_groups(r.trace)[:MAX_FINDINGS]
            ],
            what="findings in requests",
        ),
        *index_sections(r),
        Section(
            importance=4,
            head=["### Data quality", ""],
            rows=[f"- missing: {prose(m.part)} ({prose(m.reason)})" for m in r.missing]
            + [f"- **{prose(n.about)}**: {prose(n.text)}" for n in r.notes],
            what="notes",
        ),
    ]
    return [s for s in sections if s.rows or s.importance == 9 or (r.changes and "### Changes" in s.head)] + [
        Section(importance=9, head=_tail(r), rows=[], what="lines")
    ]


def _head(r: Report) -> list[str]:
    mark = {"pass": "✅ ", "fail": "❌ ", "cant_tell": "❔ ", None: ""}[r.verdict.overall]
    lines = [f"## {mark}{r.verdict.title}", ""]
    if r.provenance != "measured":
        lines += [f"> **{r.provenance.capitalize()} data**: these figures were not measured.", ""]
    if r.status in ("partial", "failed"):
        lines += [f"> **{r.status.capitalize()} run**: it ended before it was complete.", ""]
    lines += [r.verdict.text, ""]
    for f in r.verdict.facts:
        about = f" {code(f.code)}" if f.code else ""
        lines.append(f"- **{f.figure}** {prose(f.text)}{about}")
    if helps := r.verdict.remedy:
        lines.append(f"- **{helps.figure}** {prose(helps.text)}")
    return lines


def _changes_head(r: Report) -> list[str]:
    if r.changes is None:
        return []
    lines = ["### Changes", "", f"Against {code(r.changes.against)}: {prose(change_summary(r.changes))}", ""]
    told, _ = shown_changes(r.changes)
    return [*lines, *_table("Metric", "Verdict", "Before", "Now", "Change")] if told else lines


def _change(m: MetricComparison) -> str:
    change, interval = change_text(m)
    verdict = f"{_MARKS[_CHANGES.get(m.verdict)].split()[0]} {VERDICTS[m.verdict]}"
    if m.accepted:
        verdict = f"{VERDICTS[m.verdict]}, accepted until {m.accepted.until} ({prose(m.accepted.reason)})"
    cells = [code(m.name), verdict, change_quantity(m.a, m.unit), change_quantity(m.b, m.unit)]
    return f"| {' | '.join([*cells, f'{change} ({interval})' if interval else change])} |"


def _tail(r: Report) -> list[str]:
    env = r.environment
    where = [f"PostgreSQL {env.server.version}".replace("PostgreSQL PostgreSQL", "PostgreSQL")] if env.server else []
    where += [f"{env.host.cpu_count} CPUs", f"dbperf {env.dbperf_version}"]
    if env.load_profile and env.load_profile.users is not None:
        where.insert(0, f"{env.load_profile.users} users")
    if env.git_revision:
        where.append(f"revision {env.git_revision[:12]}")
    run = f"{code(r.name)}, {r.started_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return [f"{run}, {', '.join(where)}. Again: {code(shlex.join(r.command))}"]


def _table(*columns: str) -> list[str]:
    right = {
        "P50",
        "P95",
        "P99",
        "Req/s",
        "Errors",
        "Time",
        "Calls",
        "Mean",
        "Rows/call",
        "Hits",
        "#",
        "Before",
        "Now",
        "Change",
    }
    return [f"| {' | '.join(columns)} |", f"|{'|'.join('--:' if c in right else '---' for c in columns)}|"]


def _endpoint(e: EndpointReport, several: bool) -> str:
    cells = [code(e.name), *([code(e.stage)] if several else []), _MARKS[e.verdict]]
    levels: dict[str, LevelVerdict] = {v.metric: v for v in e.levels}
    values = {f"p{q.q * 100:g}": q.value_ms for q in e.quantiles}
    for metric in ("p50", "p95", "p99"):
        cells.append(_cell(format_ms(values.get(metric)), levels.get(metric)))
    cells.append(_cell(format_count(e.requests_per_s), levels.get("requests_per_s")))
    cells.append(_cell(format_share(e.error_rate), levels.get("error_rate")))
    return f"| {' | '.join(cells)} |"


def _level(v: LevelVerdict) -> str:
    side = "at least" if v.metric == "requests_per_s" else "at most"
    level = f"{METRICS[v.metric]} {side} {quantity(v.limit, v.unit)}"
    of = "all requests" if v.endpoint == "all" else code(v.endpoint)
    return f"| {of} | {code(v.stage)} | {level} | {_MARKS[v.verdict]} | {quantity(v.observed, v.unit)} |"


def _cell(text: str, level: LevelVerdict | None) -> str:
    if level is None or level.verdict == "pass":
        return text
    return f"{_MARKS[level.verdict].split()[0]} {text} (limit {quantity(level.limit, level.unit)})"


def _statement(s: StatementReport) -> str:
    calls = format_count(s.calls)
    if s.calls_per_request is not None:
        calls += f" ({format_count(s.calls_per_request)}/request)"
    cells = [str(s.rank), code(short_sql(s.text, 120)), f"{format_ms(s.total_ms)} ({format_share(s.share)})", calls]
    cells += [format_ms(s.mean_ms), format_count(s.rows_per_call), format_share(s.hit_ratio)]
    return f"| {' | '.join(cells)} |"
