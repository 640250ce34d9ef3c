"""Row estimates that are far off, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from dbperf.plans.expressions import compared, quote
from dbperf.plans.rules.base import Context, Seen, Severity, count, rows_out, rule
from dbperf.plans.tree import is_init_plan, label
from dbperf.records.plans import PlanNode

_SCANS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan")
_JOINS = ("Nested Loop", "Hash Join", "Merge Join")
_FACTOR_WARNING = 100


class Cause(NamedTuple):
    name: str
    advice: str
    sql: str | None = None


@rule("row-estimate", "Row estimate far off")
def row_estimate(context: Context) -> Iterator[Seen]:
    """The planner chooses joins, memory and order by row counts. Reported where the error starts."""
    for node in context.of_type(*_SCANS, *_JOINS, "Function Scan", "Aggregate", "Append", "Subquery Scan"):
        error = node.row_error
        if error is None or not _far_off(context, error) or any(_off(context, c) for c in node.children):
            continue
        rows, expected = rows_out(node), (node.plan_rows or 0.0) * (node.loops or 1.0)
        # A few rows more or less change no plan.
        if max(rows, expected) < context.at.many_rows or not context.matters(node.total_ms):
            continue
        # An error at the top misleads nobody: nothing is planned on it.
        if not _planned_upon(context, node):
            continue
        factor = max(error, 1 / error)
        cause = _cause(context, node)
        severity: Severity = "warning" if factor >= _FACTOR_WARNING else "info"
        yield Seen(
            node,
            {
                "rows": node.actual_rows,
                "rows_estimated": node.plan_rows,
                "factor": round(factor, 1),
                "direction": "under" if error > 1 else "over",
                "cause": cause.name,
                "loops": node.loops,
                "node_ms": node.total_ms,
            },
            None,  # the error itself takes no time; what was chosen because of it does
            f"{label(node)} returned {count(node.actual_rows or 0)} rows where {count(node.plan_rows or 0)} were"
            " expected"
            f" (factor {factor:,.0f}): {cause.advice}",
            cause.sql,
            severity,
        )


def _far_off(context: Context, error: float) -> bool:
    return error >= context.at.misestimate or error <= 1 / context.at.misestimate


def _off(context: Context, node: PlanNode) -> bool:
    """Whether a child has the error already (a hash or a sort only passes its child's rows on)."""
    if is_init_plan(node) or node.parent_relationship == "SubPlan":
        return False
    if node.row_error is not None and _far_off(context, node.row_error):
        return True
    return node.row_error is None and any(_off(context, c) for c in node.children)


def _planned_upon(context: Context, node: PlanNode) -> bool:
    """Whether a join, a sort or an aggregate above was chosen by this node's rows."""
    return any(
        up.node_type in (*_JOINS, "Sort", "Aggregate", "Memoize", "Gather Merge") for up in context.tree.ancestors(node)
    )


def _cause(context: Context, node: PlanNode) -> Cause:
    if node.node_type == "Function Scan":
        return Cause("function", "a set-returning function is taken for 100 or 1,000 rows: declare ROWS on it")
    if node.node_type in _JOINS:
        return Cause(
            "join", "the joined columns depend on each other or on the filter, which single-table statistics can't show"
        )
    return _groups(node) if node.node_type == "Aggregate" else _cause_in_scan(context, node)


def _cause_in_scan(context: Context, node: PlanNode) -> Cause:
    table = context.table(node)
    relation = _name(node)
    if table is not None and (table.rows < 0 or not table.statistics):
        return Cause("never analysed", f"{relation} has no statistics", f"ANALYZE {relation};")
    texts = [node.conditions[k] for k in ("Index Cond", "Recheck Cond", "Filter") if k in node.conditions]
    conditions = [c for text in texts for c in compared(text)]
    function = next((c for c in conditions if c.function), None)
    if function is not None:
        return Cause(
            "function",
            f"the planner knows nothing about the values of {function.function}; statistics on the expression tell it",
            f"CREATE STATISTICS ON ({function.function}) FROM {relation};\nANALYZE {relation};",
        )
    columns = list(dict.fromkeys(c.column for c in conditions))
    if len(columns) > 1 and relation is not None:
        return Cause(
            "correlated columns",
            f"{', '.join(columns)} depend on each other, and the planner multiplies as if they did not: extended"
            " statistics tell it",
            f"CREATE STATISTICS (dependencies, mcv) ON {', '.join(map(quote, columns))} FROM {relation};\nANALYZE"
            f" {relation};",
        )
    return Cause(
        "stale statistics",
        "the statistics are older than the data, or too coarse for it: ANALYZE, or a larger statistics target",
        f"ANALYZE {relation};" if relation is not None else None,
    )


def _groups(node: PlanNode) -> Cause:
    keys = node.extra.get("Group Key")
    if isinstance(keys, list) and len(keys) > 1:
        columns = ", ".join(re.sub(r"^.*\.", "", str(k)) for k in keys)
        return Cause(
            "missing extended statistics",
            f"the number of combinations of {columns} is guessed: CREATE STATISTICS (ndistinct) counts them",
        )
    return Cause("number of groups", "the number of distinct values is guessed from a sample: set its n_distinct")


def _name(node: PlanNode) -> str | None:
    if node.relation is None:
        return None
    return (
        quote(node.relation) if node.schema in (None, "public") else f"{quote(str(node.schema))}.{quote(node.relation)}"
    )
