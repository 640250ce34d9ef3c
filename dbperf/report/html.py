"""The HTML report: one file, no request leaves it, nothing in it runs but our own script.

Content-Security-Policy allows exactly one style sheet and one script, by their hashes. Jinja escapes every value;
the only markup passed through is what this module and `charts` make.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemBytecodeCache, PackageLoader, StrictUndefined
from markupsafe import Markup

from dbperf import units
from dbperf.flame import drawing
from dbperf.flame.difference import difference_figures
from dbperf.flame.ops import without_lines
from dbperf.plans.tree import operation
from dbperf.records.plans import Plan, PlanNode
from dbperf.records.verdicts import LevelVerdict
from dbperf.report import charts, proof_view, ranges
from dbperf.report.capacity_chart import capacity_chart
from dbperf.report.change_words import (
    VERDICTS,
    change_bar,
    change_quantity,
    change_summary,
    change_text,
    shown_changes,
)
from dbperf.report.heat_chart import heat_chart
from dbperf.report.links import Links
from dbperf.report.model import EndpointReport, Report, StatementReport
from dbperf.report.requests import finding_groups, short_source
from dbperf.report.resources import resource_charts
from dbperf.report.text import visible
from dbperf.report.words import METRICS, node_anchor, quantity, short_sql

MAX_DETAILS = 50
"""Statements with a block of their own (text, figures, plan); the others stand in the table."""
TABLE_SQL = 110
"""Characters of a statement in the table."""
SHOWN_FINDINGS = 6
"""Findings in requests that are shown unfolded."""
MAX_CHARTS = 60
"""Endpoints (of a stage) with pictures: each costs 20 kB and 60 ms."""


@cache
def prepare() -> None:
    """Compiles the templates and starts the charts' engine: half of what a first report costs (0.6 s of CPU), so
    that whoever is about to be in a hurry has it behind them."""
    for name in environment().list_templates():
        environment().get_template(name)
    _ = charts.render(charts.spec([{"data": {"values": []}, "mark": "line", "encoding": {}}])).svg


def render_html(report: Report) -> str:
    """The whole file. Depends on the report only."""
    page = environment().get_template("report.html.j2")
    style, script = asset("report.css"), asset("report.js")
    # Figures are drawn when the page is there: their script stands at its end.
    flame_script = drawing.script() if report.flames else ""
    style += drawing.style() if report.flames else ""
    return page.render(
        r=report,
        flame_figures=_flame_figures(report),
        flame_differences=_flame_differences(report),
        flame_changes={d.route: d for d in report.changes.flames} if report.changes else {},
        flame_script=Markup(flame_script),  # noqa: S704 - our own file
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=policy(style, script, *([flame_script] if flame_script else [])),
        pictures=_pictures(report.endpoints),
        resource_pictures=resource_charts(report.resources) if report.resources else [],
        scale=ranges.scale(report.endpoints),
        details=details(report),
        linked_ranks={s.rank for s in details(report)},
        links=Links(report),
        index_anchors=proof_view.anchors(report),
        several_stages=len({e.stage for e in report.endpoints}) > 1,
        command=shlex.join(report.command),
    )


def _flame_figures(report: Report) -> list[Markup]:
    """The figures of the profiled endpoints, in their order; the drawing room escapes what it puts into them."""
    endpoints = report.flames.endpoints if report.flames else []
    return [
        Markup(drawing.figure(e.stacks, figure_id=f"f{n}", title=e.route))  # noqa: S704 - escaped there
        for n, e in enumerate(endpoints, 1)
    ]


def _flame_differences(report: Report) -> dict[str, list[tuple[str, Markup]]]:
    """By route: headings and figures of what changed."""
    drawn: dict[str, list[tuple[str, Markup]]] = {}
    after = {e.route: e.stacks for e in report.flames.endpoints} if report.flames else {}
    for n, d in enumerate(report.changes.flames if report.changes else [], 1):
        figures = difference_figures(
            without_lines(d.before), without_lines(after[d.route]), absolute=True, prefix=f"d{n}"
        )
        drawn[d.route] = [(heading, Markup(figure)) for heading, figure in figures]  # noqa: S704 - escaped there
    return drawn


def policy(style: str, *scripts: str) -> str:
    """The Content-Security-Policy: our style and our scripts by hash, and nothing else from anywhere."""
    return (
        f"default-src 'none'; script-src {' '.join(map(csp_hash, scripts))}; style-src {csp_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def csp_hash(text: str) -> str:
    """A source expression as in CSP Level 3, 2.3.1: the base64 of the SHA-256 of the element's text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def details(report: Report) -> list[StatementReport]:
    """The statements that have more to say than fits the table: a plan, a finding, a longer text. Heaviest first."""
    found = report.statements.statements if report.statements else []
    told = [s for s in found if s.plan or s.plan_error or s.findings]
    cut = [s for s in found if len(" ".join(s.text.split())) > TABLE_SQL]
    chosen = {s.rank for s in [*told, *cut][:MAX_DETAILS]}
    return [s for s in found if s.rank in chosen]


@cache
def asset(name: str) -> str:
    """A file of `assets/`, without comments and indentation (it is hashed as it stands in the page)."""
    text = (files("dbperf.report") / "assets" / name).read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not (line.startswith(("//", "/*")) and _whole_comment(line)))


def _whole_comment(line: str) -> bool:
    return line.startswith("//") or line.endswith("*/")


def _pictures(endpoints: list[EndpointReport]) -> dict[str, dict[str, charts.Chart | None]]:
    drawn = {}
    for e in endpoints[:MAX_CHARTS]:
        drawn[e.anchor] = {
            "distribution": charts.distribution_chart(e),
            "timeline": charts.timeline_chart(e),
            "heat": heat_chart(e),
        }
    return drawn


def _compiled() -> FileSystemBytecodeCache | None:
    """Templates compiled by an earlier process: 0.4 s of a report. In a folder that only this user can write to.

    What they print literally has been through this module's `finalize`: with another module they are others.
    """
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    try:
        return FileSystemBytecodeCache(pattern=f"dbperf-{own}-%s.cache")
    except (RuntimeError, OSError):
        return None


@cache
def environment() -> Environment:
    """Jinja with the report's filters; escapes every value."""
    env = Environment(
        loader=PackageLoader("dbperf.report"),
        bytecode_cache=_compiled(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    env.filters |= {
        "ms": units.format_ms,
        "signed_ms": lambda ms: f"{'−' if ms < 0 else '+'}{units.format_ms(abs(ms))}",
        "share": units.format_share,
        "count": units.format_count,
        "rate": _rate,
        "postgresql": lambda version: version if "PostgreSQL" in version else f"PostgreSQL {version}",
        "size": units.format_bytes,
        "seconds": units.format_seconds,
        "percentile": lambda q: f"P{q * 100:g}",
        "short_sql": short_sql,
        "utc": _utc,
        "svg": lambda chart: Markup(chart.svg),  # noqa: S704 - drawn by charts from numbers, and pruned by svg.tidy
        "hover": lambda chart: json.dumps(chart.hover, ensure_ascii=False, separators=(",", ":")),
        "plain": _plain,
        "short_source": short_source,
        "evidence": _evidence,
        "evidence_name": lambda key: key.removesuffix("_ms").removesuffix("_bytes").replace("_", " "),
    }
    env.globals |= {
        "METRICS": METRICS,
        "TABLE_SQL": TABLE_SQL,
        "quantity": quantity,
        "level_of": _level_of,
        "quantile_of": _quantile_of,
        "capacity_chart": capacity_chart,
        "change_bar": change_bar,
        "change_quantity": change_quantity,
        "change_summary": change_summary,
        "change_text": change_text,
        "CHANGE_VERDICTS": VERDICTS,
        "shown_changes": shown_changes,
        "finding_groups": finding_groups,
        "SHOWN_FINDINGS": SHOWN_FINDINGS,
        "range_bar": ranges.range_bar,
        "parts_bar": ranges.parts_bar,
        "shown_pair": proof_view.shown_pair,
        "named": proof_view.named,
        "proof_notes": proof_view.proof_notes,
        "SHAPES": proof_view.SHAPES,
        "INDEX_WORDS": proof_view.INDEX_WORDS,
        "EFFECT_WORDS": proof_view.EFFECT_WORDS,
        "proof_bar": proof_view.proof_bar,
        "proof_scale": proof_view.scale,
        "quantile_at": proof_view.at,
        "endpoint_ratio": proof_view.endpoint_ratio,
        "ratio_words": proof_view.ratio_words,
        "proof_sentences": proof_view.proof_sentences,
        "indexes_of_endpoint": proof_view.indexes_of_endpoint,
        "endpoints_of_index": proof_view.endpoints_of_index,
        "proofs_of": lambda proof: {i.name: i for i in proof.indexes} if proof else {},
        "costs_of": lambda advice: {s.id: s for s in advice.statements},
        "node_anchor": node_anchor,
        "plan_rows": plan_rows,
        "operation": operation,
        "worst_finding": _worst_finding,
    }
    return env


def _visible(value: Any) -> Any:
    """Control characters and direction overrides become visible: a terminal escape or a reversed text misleads."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return visible(value)


def _utc(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else units.MISSING


def _rate(n: float | None) -> str:
    """A count per request: rare is not never.

    >>> _rate(0.0003), _rate(0), _rate(11.4)
    ('<0.01', '0', '11.4')
    """
    return "<0.01" if n is not None and 0 < n < 0.005 else units.format_count(n)


def _plain(value: object) -> str:
    """A value of EXPLAIN or of a finding's evidence, for reading."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: units.MISSING}[value]
    if isinstance(value, int | float):
        return units.format_count(value)
    if isinstance(value, list):
        return ", ".join(_plain(v) for v in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_SUFFIX = re.compile(r"_(ms|share|bytes)$")


def _evidence(value: object, key: str) -> str:
    """A finding's evidence with the unit that its key names.

    >>> _evidence(0.00214, "rows_kept_share"), _evidence(6244, "plan_width_bytes"), _evidence(19.45, "row_error")
    ('0.2 %', '6.1 kB', '19.45')
    """
    unit = _SUFFIX.search(key)
    if unit and isinstance(value, int | float) and not isinstance(value, bool):
        return {"ms": units.format_ms, "share": units.format_share, "bytes": units.format_bytes}[unit[1]](value)
    return f"{value:.3g}" if isinstance(value, float) and 0 < abs(value) < 0.1 else _plain(value)


def _level_of(e: EndpointReport, metric: str) -> LevelVerdict | None:
    return next((v for v in e.levels if v.metric == metric), None)


def _quantile_of(e: EndpointReport, q: float) -> Any:
    return next((x for x in e.quantiles if abs(x.q - q) < 1e-9), None)


def _worst_finding(s: StatementReport) -> str | None:
    order = ("critical", "warning", "info")
    return next((x for x in order if any(f.severity == x for f in s.findings)), None)


def plan_rows(plan: Plan) -> list[dict[str, Any]]:
    """A plan's nodes from the root down, each with its depth and bar: self time where analysed, else self cost.

    `bar` is a share (0..1) of the sum over the plan. A node's own cost is its total less its children's (InitPlans
    and SubPlans included), which is approximate: LIMIT makes a parent cheaper than its child.
    """
    rows: list[dict[str, Any]] = []

    def walk(node: PlanNode, depth: int) -> None:
        cost = node.total_cost
        own = max(cost - sum(c.total_cost or 0.0 for c in node.children), 0.0) if cost is not None else None
        rows.append({"node": node, "depth": depth, "self": node.self_ms if plan.analyzed else own})
        for child in node.children:
            walk(child, depth + 1)

    walk(plan.root, 0)
    total = sum(row["self"] or 0.0 for row in rows)
    for row in rows:
        row["bar"] = row["self"] / total if row["self"] is not None and total > 0 else None
    return rows
