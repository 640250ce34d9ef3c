"""The report's templates: Jinja with the report's filters, which escapes every value and shows what can't be seen.

A picture is put into its place when the rest of the page is written: the chart engine draws meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemBytecodeCache, PackageLoader, StrictUndefined
from markupsafe import Markup

from dbperf import units
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
from dbperf.report.model import EndpointReport, StatementReport
from dbperf.report.requests import finding_groups, short_source
from dbperf.report.text import visible
from dbperf.report.words import METRICS, node_anchor, quantity, short_sql

TABLE_SQL = 110
"""Characters of a statement in the table."""
SHOWN_FINDINGS = 6
"""Findings in requests that are shown unfolded."""
_PLACE = re.compile("\0([0-9]{1,6})\0")
"""Where a picture will stand. Jinja's values hold no NUL (`_visible` shows it as a sign), markup made elsewhere may."""
_PLACES: ContextVar[list[charts.Chart]] = ContextVar("_PLACES")


def render_page(template: str, **values: object) -> str:
    """A whole page."""
    places: list[charts.Chart] = []
    token = _PLACES.set(places)
    try:
        page = environment().get_template(template).render(**values)
    finally:
        _PLACES.reset(token)
    return _PLACE.sub(lambda found: places[n].svg if (n := int(found[1])) < len(places) else "", page)


def _place(chart: charts.Chart) -> Markup:
    places = _PLACES.get()
    places.append(chart)
    return Markup(f"\0{len(places) - 1}\0")  # noqa: S704 - a number of our own


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
        "svg": _place,
        "breaks": _breaks,
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


def _breaks(path: str) -> Markup:
    """A path that breaks behind its slashes, where a column is too narrow for it, and not inside a word.

    >>> _breaks("GET /a/<b>")
    Markup('GET /<wbr>a/<wbr>&lt;b&gt;')
    """
    return Markup("/<wbr>").join(visible(path).split("/"))


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
