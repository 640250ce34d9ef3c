"""A trace as text for a terminal and as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from dbperf.records.trace import EndpointTrace, Trace, TraceFinding
from dbperf.units import MISSING, format_count, format_ms

_SQL_WIDTH = 60


def text(trace: Trace) -> str:
    """Endpoints with their parts, statements and findings, for a terminal."""
    lines = [f"{trace.requests} requests, {len(trace.endpoints)} endpoints"]
    for e in trace.endpoints:
        lines += ["", *_endpoint(e)]
    if trace.loop_blocks:
        lines += ["", "event loop blocked by"]
        for b in trace.loop_blocks:
            others = sum(b.delayed.values())
            lines.append(
                f"  {format_ms(b.total_ms):>8}  {b.function} at {b.source} ({b.count} times, {others} requests waited)"
            )
    lines += [f"note: {n}" for n in trace.notes]
    return "\n".join(lines) + "\n"


def _endpoint(e: EndpointTrace) -> list[str]:
    p = e.per_request
    per = e.statements_per_request
    lines = [
        f"{e.route}  ({e.requests} requests, {e.errors} errors)",
        f"  {format_ms(p.duration_ms)} per request: SQL {format_ms(p.sql_ms)}, pool wait {format_ms(p.pool_wait_ms)}, "
        f"Python and other waits {format_ms(p.python_ms)}",
        f"  {format_count(per.median)} statements per request (at most {format_count(per.max)}), "
        f"{format_count(e.commits_per_request.median)} commits of {format_ms(e.commit_median_ms)}",
    ]
    for s in e.statements[:10]:
        lines.append(
            f"    {format_count(s.per_request):>7} x {format_ms(s.median_ms):>8}  {one_line(s.text)}  "
            f"{s.source or MISSING}"
        )
    if len(e.statements) > 10:
        lines.append(f"    and {len(e.statements) - 10} more statements")
    for f in e.findings:
        lines.append(f"  {f.severity}: {f.title}{_where(f)}{_saves(f)}")
        lines.append(f"    {f.advice}")
    return lines


def markdown(trace: Trace) -> str:
    """The same as tables."""
    rows = [
        [
            f"`{e.route}`", str(e.requests), format_ms(e.per_request.duration_ms), format_ms(e.per_request.sql_ms),
            format_ms(e.per_request.pool_wait_ms), format_ms(e.per_request.python_ms),
            format_count(e.statements_per_request.median), format_count(e.statements_per_request.max),
        ]
        for e in trace.endpoints
    ]  # fmt: skip
    head = ["endpoint", "requests", "per request", "SQL", "pool wait", "Python", "statements (median)", "(max)"]
    out = table(head, rows)
    findings = [
        [f.severity, f"`{f.route}`", cell(f.title), f"`{f.source}`" if f.source else MISSING, format_ms(f.saved_ms)]
        for e in trace.endpoints
        for f in e.findings
    ]
    if findings:
        out += "\n" + table(["severity", "endpoint", "finding", "line", "would save per request"], findings)
    return out


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")


def one_line(sql: str, width: int = _SQL_WIDTH) -> str:
    flat = " ".join(sql.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def _where(f: TraceFinding) -> str:
    return f" at {f.source}" if f.source else ""


def _saves(f: TraceFinding) -> str:
    if f.saved_ms is None:
        return ""
    return f", would save {format_ms(f.saved_ms)} per request"
