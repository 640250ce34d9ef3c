"""ORDER BY, LIMIT, OFFSET, DISTINCT: order that an index has for free, and rows that are made to be dropped."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dbperf.plans.expressions import compared, create_index, index_columns, quote
from dbperf.plans.rules.base import Context, Seen, count, number, removed, rows_out, rule
from dbperf.plans.tree import GATHERS, outer
from dbperf.records.plans import PlanNode

_SORT_KEY = re.compile(
    r"(?:(?:\w+|\"[^\"]+\")\.)*(?P<column>\w+|\"[^\"]+\")(?P<rest>(?: (?:DESC|NULLS (?:FIRST|LAST)))*)$"
)
_DISTANCE = re.compile(
    r"\(*(?:(?:\w+|\"[^\"]+\")\.)*(?P<column>\w+|\"[^\"]+\") (?P<operator><=>|<->|<#>|<\+>) (?P<rest>.*)$", re.DOTALL
)
_KEY_SHOWN = 200
KEYSET = (
    "remember the last row of the page before (WHERE (sort columns) > (last values) ORDER BY ... LIMIT n) instead of"
    " OFFSET"
)
_SCANS = ("Seq Scan", "Index Scan", "Bitmap Heap Scan", "Index Only Scan")


def _sort_keys(node: PlanNode) -> list[str]:
    keys = node.extra.get("Sort Key")
    return [str(k) for k in keys] if isinstance(keys, list) else []


def _input_scan(node: PlanNode) -> PlanNode | None:
    """The single scan that a node's rows come from."""
    below = outer(node)
    while below is not None and below.node_type in (*GATHERS, "Subquery Scan", "Sort", "Incremental Sort"):
        below = below.children[0] if below.children else None
    return below if below is not None and below.node_type in _SCANS else None


def _limit_above(context: Context, node: PlanNode) -> PlanNode | None:
    for up in context.tree.ancestors(node):
        if up.node_type == "Limit":
            return up
        if up.node_type not in (*GATHERS, "Subquery Scan"):
            return None
    return None


def _index_key(key: str) -> str:
    """A sort key as an index wants it: the column alone, or an expression in parentheses."""
    m = _SORT_KEY.match(key)
    if m is None:
        body, *rest = re.split(r" (?=DESC|NULLS)", key, maxsplit=1)
        return " ".join([f"({body})", *rest])
    return m["column"] + m["rest"]


@rule("order-by-limit-without-index", "Everything sorted to return the first few")
def order_by_limit_without_index(context: Context) -> Iterator[Seen]:
    """An index in the order of ORDER BY returns the first rows at once."""
    for node in context.of_type("Sort"):
        limit = _limit_above(context, node)
        scan = _input_scan(node)
        if limit is None or scan is None or scan.relation is None:
            continue
        below = outer(node)
        assert below is not None
        sorted_rows, returned = rows_out(below), rows_out(limit)
        if node.loops is None:
            sorted_rows, returned = below.plan_rows or 0.0, limit.plan_rows or 0.0
        if sorted_rows < context.at.many_rows or sorted_rows < 20 * max(returned, 1):
            continue
        spent = node.total_ms
        if not context.matters(spent):
            continue
        nearest = _distance_index(scan, _sort_keys(node))
        yield Seen(
            node,
            {
                "rows_sorted": sorted_rows,
                "rows_returned": returned,
                "sort_key": ", ".join(_sort_keys(node))[:_KEY_SHOWN],
            },
            spent,
            f"{count(sorted_rows)} rows are read and sorted to return {count(returned)}: "
            + (
                "an approximate index finds the nearest without comparing all; check its recall"
                if nearest
                else "an index in this order returns them without a sort"
            ),
            nearest or create_index(scan.schema, scan.relation, ordered_columns(scan, node)),
        )


def ordered_columns(scan: PlanNode, sort: PlanNode) -> list[str]:
    """Columns of an index that finds a scan's rows in a sort's order: its equalities, then the sort keys."""
    equal = [c for c in compared(scan.conditions.get("Filter", "")) if c.kind == "equal" and not c.function]
    keys = [_index_key(k) for k in _sort_keys(sort)]
    # An expression with a parameter or an operator's constant is no property of the row.
    return [] if any("$" in k or "::" in k for k in keys) else index_columns(equal) + keys


def _distance_index(scan: PlanNode, keys: list[str]) -> str | None:
    """A pgvector index for ORDER BY column <=> value."""
    m = _DISTANCE.match(keys[0]) if keys else None
    if m is None or scan.relation is None:
        return None
    if "$" not in m["rest"] and not m["rest"].rstrip(") ").endswith(("vector", "halfvec")):
        return None  # another type's distance operator
    kind = "halfvec" if "halfvec" in m["rest"] else "vector"
    operators = {"<=>": "cosine", "<->": "l2", "<#>": "ip", "<+>": "l1"}
    return create_index(
        scan.schema, scan.relation, [f"{m['column']} {kind}_{operators[m['operator']]}_ops"], using="USING hnsw "
    )


@rule("order-by-limit-wrong-index", "Index walked for its order, filtering as it goes")
def order_by_limit_wrong_index(context: Context) -> Iterator[Seen]:
    """The planner hopes that matching rows come early in the order; when they don't, it reads the whole index."""
    for node in context.of_type("Index Scan", "Index Only Scan"):
        limit = _limit_above(context, node)
        if limit is None or "Index Cond" in node.conditions or "Filter" not in node.conditions:
            continue
        lost, returned = removed(node), rows_out(node)
        if lost < context.at.many_rows or lost < 0.99 * (lost + returned) or not context.matters(node.self_ms):
            continue
        table = context.table(node)
        index = next((i for i in table.indexes if i.name == node.index_name), None) if table else None
        equal = [c for c in compared(node.conditions["Filter"]) if c.kind == "equal"]
        order = list(index.columns) if index else []
        columns = [*index_columns(equal), *order] if equal else []
        yield Seen(
            node,
            {"rows_read": lost + returned, "rows_kept": returned, "index": node.index_name},
            node.self_ms,
            f"{count(lost + returned)} rows were read in the order of {node.index_name} before {count(returned)}"
            " matched:"
            " an index on the filter's columns followed by the order's finds the first ones directly. Until then, ORDER"
            " BY x + 0 keeps the planner from it",
            create_index(node.schema, node.relation or "?", columns),
        )


@rule("large-offset", "OFFSET that reads and drops many rows")
def large_offset(context: Context) -> Iterator[Seen]:
    """Every page costs as much as all pages before it together."""
    for node in context.of_type("Limit"):
        below = outer(node)
        if below is None:
            continue
        dropped = rows_out(below) - rows_out(node)
        # Gather and its like return a few rows more than LIMIT wants.
        if dropped < context.at.many_rows or dropped < context.at.discarded * rows_out(below):
            continue
        spent = below.total_ms * dropped / rows_out(below) if below.total_ms is not None else None
        if context.matters(spent) and below.node_type not in GATHERS:
            yield Seen(
                node,
                {"rows_dropped": dropped, "rows_returned": rows_out(node)},
                spent,
                f"{count(dropped)} rows are produced and dropped before the page starts: {KEYSET}",
            )


@rule("distinct-removes-nothing", "DISTINCT or UNION that removes no row")
def distinct_removes_nothing(context: Context) -> Iterator[Seen]:
    """Sorting or hashing all rows to find that none was double."""
    for node in context.of_type("Unique", "Aggregate", "Group"):
        below = outer(node)
        if below is None or node.extra.get("Partial Mode") == "Partial":
            continue
        if node.node_type != "Unique" and not _only_distinct(context, node, below):
            continue
        rows = rows_out(below)
        if rows < context.at.many_rows or rows_out(node) != rows:
            continue
        helper = below if below.node_type in ("Sort", "Incremental Sort") else None
        spent = (node.self_ms or 0.0) + ((helper.self_ms or 0.0) if helper else 0.0) if context.timed else None
        if context.matters(spent):
            yield Seen(
                node,
                {"rows_in": rows, "rows_out": rows_out(node)},
                spent,
                f"all {count(rows)} rows were different already: leave DISTINCT out (or write UNION ALL) where the data"
                " can't hold duplicates",
            )


def _only_distinct(context: Context, node: PlanNode, below: PlanNode) -> bool:
    """Whether an aggregate computes nothing but the distinct values of its keys."""
    keys, output = node.extra.get("Group Key"), node.extra.get("Output")
    if not isinstance(keys, list):
        return False
    if isinstance(output, list):
        return {_bare(k) for k in keys} == {_bare(o) for o in output}
    asked = (context.statement or "").upper()
    if below.node_type == "Append":
        return "GROUP BY" not in asked
    return "DISTINCT" in asked and "GROUP BY" not in asked


def _bare(column: object) -> str:
    """A column without qualifier and parentheses: Output lists have none where there is one table, keys may."""
    return re.sub(r"^(?:\w+|\"[^\"]+\")\.", "", str(column).strip("()"))


@rule("incremental-sort-helpful", "Full sort where rows arrive half sorted", needs_facts=True)
def incremental_sort_helpful(context: Context) -> Iterator[Seen]:
    """With an index on the first sort column, rows arrive in groups, and only each group needs sorting (since 13)."""
    for node in context.of_type("Sort"):
        keys, scan = _sort_keys(node), _input_scan(node)
        limit = _limit_above(context, node)
        table = context.table(scan) if scan is not None else None
        if len(keys) < 2 or limit is None or table is None or "Filter" in (scan.conditions if scan else {}):
            continue
        first = _index_key(keys[0]).split(" ")[0]
        index = next((i for i in table.indexes if i.method == "btree" and quote(i.columns[0]) == first), None)
        if index is None or rows_out(node) * 20 > number_sorted(node) or not context.matters(node.total_ms):
            continue
        off = context.plan.settings.get("enable_incremental_sort") == "off"
        yield Seen(
            node,
            {"rows_sorted": number_sorted(node), "rows_returned": rows_out(limit), "index": index.name},
            node.total_ms,
            f"{index.name} delivers the rows in order of {first} already: "
            + (
                "enable_incremental_sort is off here; on, it sorts group by group and stops at the LIMIT"
                if off
                else "an incremental sort would stop at the LIMIT; the planner takes the groups for large (ANALYZE)"
            ),
            "SET enable_incremental_sort = on;" if off else None,
        )


def number_sorted(node: PlanNode) -> float:
    """Rows that went into a sort."""
    below = outer(node)
    return rows_out(below) if below is not None else number(node, "Actual Rows")
