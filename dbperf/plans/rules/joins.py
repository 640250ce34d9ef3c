"""Joins that do more work than their result needs."""

from __future__ import annotations

from collections.abc import Iterator

import postgast

from dbperf.plans.expressions import columns_in, create_index, mentions_or_across_tables, parse, quote
from dbperf.plans.rules.base import Context, Seen, count, number, removed, rows_out, rule
from dbperf.plans.tree import inner, label, outer
from dbperf.records.plans import PlanNode

_JOINS = ("Nested Loop", "Hash Join", "Merge Join")


@rule("nested-loop-underestimate", "Nested loop chosen for far too few rows")
def nested_loop_underestimate(context: Context) -> Iterator[Seen]:
    """Right for a handful of outer rows; with thousands a hash join reads the inner side once."""
    for node in context.of_type("Nested Loop"):
        driving, repeated = outer(node), inner(node)
        if driving is None or repeated is None or driving.row_error is None:
            continue
        # Parallel workers and outer loops each have their own share.
        rounds = rows_out(driving)
        if driving.row_error < context.at.misestimate or rounds < context.at.many_rows:
            continue
        if _scans_whole_table(repeated) is None and context.matters(repeated.total_ms):
            yield Seen(
                node,
                {
                    "outer_rows": rounds,
                    "outer_rows_estimated": driving.plan_rows,
                    "factor": round(driving.row_error, 1),
                    "inner_ms": repeated.total_ms,
                },
                repeated.total_ms,
                f"{label(repeated)} ran {count(rounds)} times where {count(driving.plan_rows or 0)} were expected: get"
                f" the estimate of {label(driving)} right (ANALYZE, CREATE STATISTICS), and the planner takes a"
                " hash join",
            )


def _scans_whole_table(node: PlanNode) -> PlanNode | None:
    """The sequential scan that a join's inner side starts again for each outer row."""
    while node.node_type in ("Materialize", "Memoize", "Subquery Scan") and node.children:
        if node.node_type != "Subquery Scan":
            return None
        node = node.children[0]
    return node if node.node_type == "Seq Scan" else None


@rule("nested-loop-inner-seq-scan", "Nested loop that reads a whole table for each outer row")
def nested_loop_inner_seq_scan(context: Context) -> Iterator[Seen]:
    """Without an index on the inner side each outer row costs a full scan."""
    for node in context.of_type("Nested Loop"):
        repeated = inner(node)
        scan = _scans_whole_table(repeated) if repeated is not None else None
        if scan is None:
            continue
        read = rows_out(scan) + removed(scan)
        if scan.loops is not None and (
            scan.loops < 10 or read < 10 * context.at.many_rows or not context.matters(scan.total_ms)
        ):
            continue
        table = context.table(scan)
        if scan.loops is None and (table is None or table.rows < context.at.big_table_rows):
            continue
        columns = _join_columns(node, scan)
        yield Seen(
            scan,
            {"loops": scan.loops, "rows_read": read if scan.loops is not None else None},
            scan.total_ms,
            f"{scan.relation} is read from start to end "
            + (f"{count(scan.loops)} times" if scan.loops is not None else "for each outer row")
            + ": an index on the join's column finds the matches",
            create_index(scan.schema, scan.relation or "?", columns),
        )


def _join_columns(join: PlanNode, scan: PlanNode) -> list[str]:
    """The scan's own columns in equalities of the join's condition, or of its own filter ($n: the outer row)."""
    found: list[str] = []
    for text in (join.conditions.get("Join Filter"), scan.conditions.get("Filter")):
        tree = parse(text) if text else None
        if tree is None:
            continue
        for _, one in postgast.walk(tree):
            if type(one).__name__ != "A_Expr" or not one.name or one.name[-1].string.sval != "=":
                continue
            for side in (one.lexpr, one.rexpr):
                for table, column in columns_in(side):
                    if table == scan.alias and quote(column) not in found:
                        found.append(quote(column))
    return found[:3]


@rule("materialize-rescanned", "Stored rows read again and again")
def materialize_rescanned(context: Context) -> Iterator[Seen]:
    """A materialised inner side is cheaper than a scan each time, and still quadratic."""
    for node in context.of_type("Materialize"):
        again = rows_out(node)
        if (node.loops or 0) < 100 or again < 100 * context.at.many_rows:
            continue
        join = context.tree.parent(node)
        if join is None or join.node_type != "Nested Loop":
            continue
        spent = (node.self_ms or 0.0) + (join.self_ms or 0.0) if context.timed else None
        if context.matters(spent):
            yield Seen(
                node,
                {"loops": node.loops, "rows_read": again},
                spent,
                f"{count(again)} stored rows were compared in {count(node.loops or 0)} rounds: the join has no equality"
                " that a hash, a merge or an index could use. Rewrite the condition, or reduce one side first",
            )


@rule("late-filter", "Rows joined first and thrown away after")
def late_filter(context: Context) -> Iterator[Seen]:
    """A condition that only the finished join can check makes most of the join's work useless."""
    for node in context.of_type(*_JOINS):
        key = "Join Filter" if removed(node, "Join Filter") > removed(node) else "Filter"
        lost, kept = removed(node, key), rows_out(node)
        condition = node.conditions.get(key, "")
        if lost < 10 * context.at.many_rows or lost < context.at.discarded * (lost + kept):
            continue
        if mentions_or_across_tables(condition) or not context.matters(node.self_ms):
            continue
        repeated = inner(node)
        if repeated is not None and (_scans_whole_table(repeated) or repeated.node_type == "Materialize"):
            continue  # the rules about the inner side say it
        yield Seen(
            node,
            {"rows_joined": lost + kept, "rows_kept": kept, "condition": condition[:200]},
            node.self_ms,
            f"{count(lost + kept)} pairs were made to keep {count(kept)}: state the condition so that one side can be"
            " filtered before the join (an inner join where rows without a match are dropped anyway, a range as an"
            " indexed column)",
        )


@rule("or-across-tables", "OR over columns of different tables")
def or_across_tables(context: Context) -> Iterator[Seen]:
    """No index serves an OR whose arms are about different tables: the join is made in full and filtered after."""
    for node in context.of_type(*_JOINS):
        for key in ("Join Filter", "Filter"):
            condition = node.conditions.get(key)
            lost = removed(node, key)
            if condition is None or lost < context.at.many_rows or not mentions_or_across_tables(condition):
                continue
            spent = node.total_ms if node.node_type == "Nested Loop" else node.self_ms
            if context.matters(spent):
                yield Seen(
                    node,
                    {"rows_joined": lost + rows_out(node), "rows_kept": rows_out(node), "condition": condition[:200]},
                    spent,
                    "write each arm as a query of its own and put them together with UNION: each can use its index",
                )


@rule("memoize-evictions", "Memoize with too little memory")
def memoize_evictions(context: Context) -> Iterator[Seen]:
    """A cache that throws entries out before they are asked for again is work for nothing."""
    for node in context.of_type("Memoize"):
        evictions = number(node, "Cache Evictions") + number(node, "Cache Overflows")
        hits, misses = number(node, "Cache Hits"), number(node, "Cache Misses")
        if evictions < 0.1 * misses or evictions < 100 or hits > 9 * misses or not context.matters(node.total_ms):
            continue
        yield Seen(
            node,
            {"evictions": evictions, "hits": hits, "misses": misses, "memory_kb": number(node, "Peak Memory Usage")},
            node.total_ms,
            f"{count(evictions)} entries were thrown out and {count(misses)} of {count(hits + misses)} look-ups missed:"
            " more work_mem (or hash_mem_multiplier) keeps them",
            "SET work_mem = '64MB';",
        )
