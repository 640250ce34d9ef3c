"""Sub-queries and CTEs that run more often, or store more, than needed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dbperf.plans.derive import consumers_of
from dbperf.plans.expressions import compared, create_index, index_columns
from dbperf.plans.rules.base import Context, Seen, count, removed, rows_out, rule
from dbperf.plans.tree import label, walk
from dbperf.records.plans import PlanNode

_NOT_IN = re.compile(r"\(?NOT \((?:ANY \(.* = )?\(?(?P<hashed>hashed )?SubPlan (?P<n>\d+)")

NOT_EXISTS = (
    "write NOT EXISTS (SELECT ... WHERE inner = outer): it becomes a hash anti-join, and it means the same where the"
    " columns are NOT NULL"
)


def _sub_plans(context: Context) -> Iterator[tuple[PlanNode, PlanNode]]:
    """(the node that evaluates it, the sub-plan) for each that was executed, or may be."""
    for node in context.nodes:
        up = context.tree.parent(node)
        if up is not None and node.parent_relationship == "SubPlan" and node.loops != 0:
            yield up, node


def _not_in(up: PlanNode, sub_plan: PlanNode) -> bool:
    """Whether a node's filter has NOT IN (sub-plan), not hashed."""
    number = (sub_plan.subplan_name or "").removeprefix("SubPlan ").split(" ")[0]
    for text in up.conditions.values():
        for m in _NOT_IN.finditer(text):
            if m["n"] == number and not m["hashed"]:
                return True
    return False


def _inner_seq_scan(sub_plan: PlanNode) -> PlanNode | None:
    return next((n for n in walk(sub_plan) if n.node_type == "Seq Scan" and n.loops != 0), None)


@rule("subplan-per-row", "Sub-query that scans a table for each row")
def subplan_per_row(context: Context) -> Iterator[Seen]:
    """A correlated sub-query without an index on what correlates it."""
    for up, node in _sub_plans(context):
        scan = _inner_seq_scan(node)
        if scan is None or _not_in(up, node):
            continue
        read = rows_out(scan) + removed(scan)
        if scan.loops is not None and (scan.loops < 10 or read < 10 * context.at.many_rows):
            continue
        if scan.loops is None and ((table := context.table(scan)) is None or table.rows < context.at.big_table_rows):
            continue
        if context.matters(node.total_ms):
            columns = index_columns(compared(_outer_as_parameter(scan)))
            yield Seen(
                scan,
                {"loops": scan.loops, "rows_read": read if scan.loops is not None else None, "in": label(up)},
                node.total_ms,
                f"{scan.relation} is read from start to end for each row of {label(up)}"
                + (f" ({count(scan.loops)} times)" if scan.loops is not None else "")
                + ": an index on the column that ties the sub-query to the row finds it, or a join does it in one pass",
                create_index(scan.schema, scan.relation or "?", columns),
            )


def _outer_as_parameter(scan: PlanNode) -> str:
    """The scan's filter with columns of the outer query as parameters: (customer_id = c.id) -> (customer_id = $1)."""
    text = scan.conditions.get("Filter", "")
    own = re.escape(scan.alias or scan.relation or "")
    text = re.sub(rf"\b{own}\.", "", text)
    return re.sub(r"\b[a-z_]\w*\.(?:[a-z_]\w*|\"[^\"]+\")(?!\()", "$1", text)


@rule("correlated-subquery", "Correlated sub-query executed many times")
def correlated_subquery(context: Context) -> Iterator[Seen]:
    """Each row starts the sub-query anew; a join answers all rows at once."""
    for up, node in _sub_plans(context):
        if node.loops is None or node.loops < context.at.many_rows or _inner_seq_scan(node) or _not_in(up, node):
            continue
        if context.matters(node.total_ms):
            yield Seen(
                node,
                {"loops": node.loops, "ms_per_loop": (node.total_ms or 0.0) / node.loops, "in": label(up)},
                node.total_ms,
                f"it ran {count(node.loops)} times, once per row of {label(up)}: a LEFT JOIN with GROUP BY (or"
                " LATERAL for"
                " the newest of each) does it in one pass",
            )


@rule("not-in-subquery", "NOT IN with a sub-query that can't be hashed")
def not_in_subquery(context: Context) -> Iterator[Seen]:
    """NOT IN must treat NULL specially, so that it can't become an anti-join; too large for a hash, it is searched
    again for every row."""
    for up, node in _sub_plans(context):
        if not _not_in(up, node) or (node.loops is not None and node.loops < 100):
            continue
        spent = (node.total_ms or 0.0) + (up.self_ms or 0.0) if context.timed else None
        if context.matters(spent):
            yield Seen(
                up,
                {"loops": node.loops, "rows_compared": rows_out(node) if node.loops is not None else None},
                spent,
                NOT_EXISTS,
            )


@rule("cte-materialised-once", "CTE stored although it is read once")
def cte_materialised_once(context: Context) -> Iterator[Seen]:
    """MATERIALIZED (and any CTE before 12) keeps conditions and LIMIT outside from reaching the query inside."""
    for node in context.nodes:
        name = node.subplan_name or ""
        if not name.startswith("CTE ") or node.node_type in ("Recursive Union", "ModifyTable"):
            continue
        readers = consumers_of(context.tree, node) if context.tree.parent(node) is not None else []
        if len(readers) != 1 or node.loops == 0:
            continue
        reader = readers[0]
        stored = rows_out(node) if node.loops is not None else (node.plan_rows or 0.0)
        lost = removed(reader)
        useful = "Filter" in reader.conditions or any(u.node_type == "Limit" for u in context.tree.ancestors(reader))
        if stored < context.at.many_rows or not useful or (node.loops is not None and lost < 0.5 * stored):
            continue
        spent = node.total_ms
        if context.matters(spent):
            yield Seen(
                node,
                {"rows_stored": stored, "rows_used": rows_out(reader) if reader.loops is not None else None},
                spent,
                f"{count(stored)} rows are stored, and read once with a condition that could have been applied inside:"
                " write NOT MATERIALIZED, or a plain sub-query",
            )
