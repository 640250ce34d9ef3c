"""What `dbperf explain` prints: text, Markdown, JSON."""

from __future__ import annotations

import textwrap
from typing import Any

import msgspec

from dbperf.plans.derive import nodes_ms
from dbperf.plans.render import render_tree
from dbperf.records.plans import Explanation, Finding, PlanComparison
from dbperf.units import format_count, format_ms, format_share

_MARKS = {"critical": "✗", "warning": "!", "info": "·"}
_WIDTH = 100


def render(found: Explanation, form: str) -> str:
    """An explanation in one of the formats."""
    if form == "json":
        return _json(found)
    return _markdown(found) if form == "markdown" else _text(found)


def _json(record: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(record), indent=2).decode()


def _summary(found: Explanation) -> str:
    plan = found.plan
    if not plan.analyzed:
        how = "generic plan, for any values" if found.how == "generic" else "planned, not executed"
        return f"{how}: cost {format_count(plan.root.total_cost)}, about {format_count(plan.root.plan_rows)} rows"
    spent = plan.execution_ms if plan.execution_ms is not None else nodes_ms(plan)
    parts = [f"executed in {format_ms(spent)}", f"{format_count(plan.root.actual_rows)} rows"]
    if plan.planning_ms is not None:
        parts.append(f"planning {format_ms(plan.planning_ms)}")
    if plan.root.buffers is not None:
        parts.append(f"{format_count(plan.root.buffers.shared_hit + plan.root.buffers.shared_read)} blocks")
    return ", ".join(parts)


def _cases(found: Explanation) -> list[str]:
    lines = []
    for case in found.cases:
        values = ", ".join(
            f"${i} = {'NULL' if v is None else _short(repr(v))}" for i, v in enumerate(case.parameters, 1)
        )
        rows = format_count(case.plan.root.actual_rows)
        lines.append(f"{case.case}: {format_ms(case.plan.execution_ms)}, {rows} rows ({values})")
    return lines


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _text(found: Explanation) -> str:
    lines = [_summary(found), *(f"  {line}" for line in _cases(found)), *(f"note: {n}" for n in found.notes), ""]
    if not found.findings:
        lines.append("No finding: nothing here is known to cost more than it should.")
    for finding in found.findings:
        lines += [*_finding_text(finding), ""]
    if found.findings:
        lines.pop()
    lines += ["", "   self time   share  node" if found.plan.root.self_ms is not None else f"{'cost':>20}  node"]
    return "\n".join([*lines, render_tree(found.plan)])


def _finding_text(f: Finding) -> list[str]:
    spent = f"  {format_ms(f.explains_ms)}, {format_share(f.share)}" if f.explains_ms is not None else ""
    where = f" · {f.node}" if f.node else ""
    lines = [f"{_MARKS[f.severity]} {f.severity}: {f.title}{where}{spent}  [{f.rule_id}]"]
    lines += textwrap.wrap(f.advice, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    lines += [f"    {line}" for line in (f.sql or "").splitlines()]
    return lines


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _markdown(found: Explanation) -> str:
    lines = [f"**{_summary(found)}**", ""]
    lines += [f"- {line}" for line in (*_cases(found), *found.notes)]
    if found.findings:
        lines += ["", "| severity | finding | node | explains | advice |", "|---|---|---|---|---|"]
        for f in found.findings:
            spent = f"{format_ms(f.explains_ms)} ({format_share(f.share)})" if f.explains_ms is not None else ""
            advice = _cell(f.advice) + (f" `{_cell(f.sql)}`" if f.sql else "")
            lines.append(f"| {f.severity} | {f.title} | {_cell(f.node or '')} | {spent} | {advice} |")
    else:
        lines += ["", "No finding."]
    return "\n".join([*lines, "", "```", render_tree(found.plan), "```"])


def render_comparison(found: PlanComparison, form: str) -> str:
    """A comparison of two plans in one of the formats."""
    if form == "json":
        return _json(found)
    before, after = found.before_ms, found.after_ms
    if before is not None and after is not None:
        ratio = f" ({after / before:.2f} times)" if before else ""
        head = f"{format_ms(before)} -> {format_ms(after)}{ratio}, one execution each"
    else:
        head = f"cost {format_count(found.before_cost)} -> {format_count(found.after_cost)}"
    lines = [head]
    lines += [f"index no longer used: {name}" for name in found.indexes_gone]
    lines += [f"index now used: {name}" for name in found.indexes_come]
    if found.same_shape:
        lines.append("the same nodes in both plans")
    rows = []
    for n in found.nodes:
        what = n.after or f"(gone) {n.before}"
        if n.changed and n.before and n.after:
            what = f"{n.before} -> {n.after}"
        elif n.before is None:
            what = f"(new) {n.after}"
        figures = (
            f"{format_ms(n.before_ms)} -> {format_ms(n.after_ms)}"
            if n.before_ms is not None or n.after_ms is not None
            else f"cost {format_count(n.before_cost)} -> {format_count(n.after_cost)}"
        )
        rows.append((figures, "*" if n.changed else "", what))
    if form == "markdown":
        table = ["| self time | changed | node |", "|---|---|---|"]
        return "\n".join([f"**{lines[0]}**", "", *(f"- {x}" for x in lines[1:]), "", *table,
                          *(f"| {a} | {b} | {_cell(c)} |" for a, b, c in rows)])  # fmt: skip
    return "\n".join([*lines, "", *(f"{a:>24} {b or ' '} {c}" for a, b, c in rows)])
