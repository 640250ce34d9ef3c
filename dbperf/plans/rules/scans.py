"""Scans that read much and keep little."""

from __future__ import annotations

from collections.abc import Iterator

from dbperf.plans.expressions import Compared, compared, create_index, index_columns
from dbperf.plans.rules.base import Context, Seen, count, number, removed, rows_out, rule
from dbperf.plans.rules.order import ordered_columns
from dbperf.plans.rules.usable import obstacle
from dbperf.plans.tree import GATHERS
from dbperf.records.plans import PlanNode

_PASS_THROUGH = ("Limit", "Gather", "Gather Merge", "Subquery Scan", "Result")


def comparisons(node: PlanNode, key: str = "Filter") -> list[Compared]:
    return compared(node.conditions[key]) if key in node.conditions else []


def below_limit(context: Context, node: PlanNode) -> PlanNode | None:
    """The LIMIT that reads a node's rows with nothing in between that changes them."""
    for up in context.tree.ancestors(node):
        if up.node_type == "Limit":
            return up
        if up.node_type not in _PASS_THROUGH:
            return None
    return None


@rule("seq-scan-discards", "Sequential scan that discards most rows")
def seq_scan_discards(context: Context) -> Iterator[Seen]:
    """Reads a whole table for few of its rows, and no index could have been used instead."""
    for node in context.of_type("Seq Scan"):
        if "Filter" not in node.conditions or below_limit(context, node) or obstacle(context, node):
            continue
        lost, kept = removed(node), rows_out(node)
        if node.loops is None:
            yield from _estimated(context, node)
        elif lost >= context.at.many_rows and lost >= context.at.discarded * (lost + kept):
            if not context.matters(node.self_ms):
                continue
            sql = _index_for(node, context)
            yield Seen(
                node,
                {"rows_read": lost + kept, "rows_kept": kept, "loops": node.loops},
                node.self_ms,
                f"{count(lost + kept)} rows are read to keep {count(kept)}: an index on the filter's columns finds them"
                " directly" + ("" if sql else "; no column of the filter can be looked up in a B-tree"),
                sql,
            )


def _estimated(context: Context, node: PlanNode) -> Iterator[Seen]:
    """Without ANALYZE: what the planner expects, against the table's size."""
    table = context.table(node)
    if table is None or node.plan_rows is None or table.rows < context.at.big_table_rows:
        return
    if node.plan_rows <= (1 - context.at.discarded) * table.rows and (sql := _index_for(node, context)):
        yield Seen(
            node,
            {"rows_read_estimated": table.rows, "rows_kept_estimated": node.plan_rows, "total_cost": node.total_cost},
            None,
            f"about {count(table.rows)} rows are to be read to keep {count(node.plan_rows)}: an index on the filter's"
            " columns finds them directly",
            sql,
        )


def _index_for(node: PlanNode, context: Context | None = None) -> str | None:
    up = context.tree.parent(node) if context is not None else None
    sorted_for_limit = context is not None and up is not None and up.node_type == "Sort" and below_limit(context, up)
    if sorted_for_limit and up is not None and all(c.kind == "equal" for c in comparisons(node)):
        return create_index(node.schema, node.relation or "?", ordered_columns(node, up) or _columns(node))
    return create_index(node.schema, node.relation or "?", _columns(node))


def _columns(node: PlanNode) -> list[str]:
    return index_columns(comparisons(node))


@rule("index-scan-filters", "Index scan that filters most rows away")
def index_scan_filters(context: Context) -> Iterator[Seen]:
    """The index finds many rows, and the table must be read to throw most of them away."""
    for node in context.of_type("Index Scan", "Index Only Scan", "Bitmap Heap Scan"):
        lost, kept = removed(node), rows_out(node)
        limited = node.node_type != "Bitmap Heap Scan" and "Index Cond" not in node.conditions
        if limited or lost < context.at.many_rows or lost < context.at.discarded * (lost + kept):
            continue
        if not context.matters(node.self_ms):
            continue
        looked_up = comparisons(node, "Recheck Cond" if node.node_type == "Bitmap Heap Scan" else "Index Cond")
        columns = index_columns([*looked_up, *comparisons(node)])
        yield Seen(
            node,
            {"rows_found": lost + kept, "rows_kept": kept, "loops": node.loops, "index": node.index_name},
            node.self_ms,
            f"the index finds {count(lost + kept)} rows, and the filter keeps {count(kept)} of them: an index that has"
            " the filter's columns too finds only those",
            create_index(node.schema, node.relation or "?", columns) if comparisons(node) else None,
        )


@rule("index-leading-column", "Index searched without its leading column", needs_facts=True)
def index_leading_column(context: Context) -> Iterator[Seen]:
    """A B-tree is ordered by its first column; a condition on a later one alone makes PostgreSQL read all of it, or
    (from 18 on) search it once per value of the first."""
    for node in context.of_type("Index Scan", "Index Only Scan", "Bitmap Index Scan"):
        owner = node if node.relation else _heap_scan(context, node)
        table = context.table(owner) if owner else None
        index = next((i for i in table.indexes if i.name == node.index_name), None) if table else None
        if owner is None or index is None or index.method != "btree" or len(index.columns) < 2:
            continue
        used = comparisons(node, "Index Cond")
        names = {c.column for c in used}
        if not used or index.columns[0] in names or any(c.function for c in used):
            continue
        if not context.matters(node.self_ms):
            continue
        yield Seen(
            node,
            {
                "index": index.name,
                "leading_column": index.columns[0],
                "searches": number(node, "Index Searches") or None,
                "blocks": _blocks(node),
            },
            node.self_ms,
            f"the index starts with {index.columns[0]}, which the condition does not have, so that most of the index is"
            " read: an index that starts with the condition's column reads only what it needs",
            create_index(owner.schema, owner.relation or "?", index_columns(used)),
        )


def _heap_scan(context: Context, node: PlanNode) -> PlanNode | None:
    return next((up for up in context.tree.ancestors(node) if up.node_type == "Bitmap Heap Scan"), None)


def _blocks(node: PlanNode) -> int | None:
    own = node.self_buffers
    return own.shared_hit + own.shared_read if own is not None else None


@rule("index-only-heap-fetches", "Index-only scan that visits the table")
def index_only_heap_fetches(context: Context) -> Iterator[Seen]:
    """Pages that VACUUM has not marked all-visible must be looked at in the table."""
    for node in context.of_type("Index Only Scan"):
        fetches = number(node, "Heap Fetches")
        rows = rows_out(node)
        if fetches < context.at.many_rows or fetches < 0.1 * rows or not context.matters(node.self_ms):
            continue
        yield Seen(
            node,
            {"heap_fetches": fetches, "rows": rows},
            node.self_ms,
            f"{count(fetches)} of {count(rows)} rows were looked up in the table although the index has all columns: "
            "VACUUM marks pages all-visible; if it is often so, let autovacuum come earlier for this table",
            f"VACUUM (ANALYZE) {node.schema + '.' if node.schema else ''}{node.relation};",
        )


@rule("bitmap-lossy", "Bitmap too large for work_mem")
def bitmap_lossy(context: Context) -> Iterator[Seen]:
    """A bitmap that outgrows work_mem keeps whole pages instead of rows, all of which are checked again."""
    for node in context.of_type("Bitmap Heap Scan"):
        lossy, exact = number(node, "Lossy Heap Blocks"), number(node, "Exact Heap Blocks")
        # A BRIN index knows pages only: nothing exact at all, and no fault of work_mem.
        if exact == 0 or lossy < 0.1 * (lossy + exact) or not context.matters(node.self_ms):
            continue
        yield Seen(
            node,
            {"lossy_blocks": lossy, "exact_blocks": exact, "rows_rechecked_away": removed(node, "Index Recheck")},
            node.self_ms,
            f"{count(lossy)} of {count(lossy + exact)} blocks were kept as whole pages: more work_mem keeps the rows"
            " themselves",
            "SET work_mem = '64MB';",
        )


@rule("bitmap-recheck", "Rows found by an index and thrown away on recheck")
def bitmap_recheck(context: Context) -> Iterator[Seen]:
    """The index is only approximate for the condition: BRIN on scattered values, trigrams, lossy pages."""
    for node in context.of_type("Bitmap Heap Scan", "Index Scan"):
        lost, kept = removed(node, "Index Recheck"), rows_out(node)
        if lost < context.at.many_rows or lost < context.at.discarded * (lost + kept):
            continue
        if number(node, "Lossy Heap Blocks") and number(node, "Exact Heap Blocks"):
            continue  # bitmap-lossy says it
        if context.matters(node.self_ms):
            columns = index_columns(comparisons(node, "Recheck Cond"))
            yield Seen(
                node,
                {"rows_rechecked_away": lost, "rows_kept": kept, "lossy_blocks": number(node, "Lossy Heap Blocks")},
                node.self_ms,
                f"the index names {count(lost + kept)} rows, of which the recheck keeps {count(kept)}: it does not fit"
                " the condition; a BRIN index needs values in the order of the table, a B-tree does not",
                create_index(node.schema, node.relation or "?", columns),
            )


@rule("limit-over-filter", "Many rows read to return a few")
def limit_over_filter(context: Context) -> Iterator[Seen]:
    """A LIMIT stops early only if matching rows come early."""
    for node in context.of_type("Seq Scan"):
        limit = below_limit(context, node)
        lost, kept = removed(node), rows_out(node)
        if limit is None or "Filter" not in node.conditions or obstacle(context, node):
            continue
        if lost < context.at.many_rows or lost < 0.99 * (lost + kept) or not context.matters(node.self_ms):
            continue
        yield Seen(
            node,
            {"rows_read": lost + kept, "rows_kept": kept, "rows_returned": rows_out(limit)},
            node.self_ms,
            f"{count(lost + kept)} rows were read before the LIMIT had its {count(rows_out(limit))}: an index on the"
            " filter's columns finds them at once",
            _index_for(node),
        )


@rule("partition-pruning-missing", "Partitions read that hold no matching row")
def partition_pruning_missing(context: Context) -> Iterator[Seen]:
    """Without a condition on the partition key every partition is searched."""
    for node in context.of_type("Append", "Merge Append"):
        members = [c for c in node.children if c.loops and c.relation]
        empty = [c for c in members if rows_out(c) == 0 and c.conditions]
        if len(members) < 4 or len(empty) < 0.5 * len(members):
            continue
        wasted = sum(c.total_ms or 0.0 for c in empty) if context.timed else None
        if context.matters(wasted):
            yield Seen(
                node,
                {"partitions_read": len(members), "partitions_without_rows": len(empty)},
                wasted,
                f"{len(empty)} of {len(members)} partitions were read for nothing: a condition on the partition key, as"
                " a plain comparison with a constant or parameter, lets the planner leave them out",
            )


@rule("parallelism-missing", "Big scan by a single process", "info")
def parallelism_missing(context: Context) -> Iterator[Seen]:
    """A long scan that no worker helps with."""
    if any(n.node_type in GATHERS for n in context.nodes):
        return
    for node in context.of_type("Seq Scan"):
        share = context.share(node.self_ms)
        if node.self_ms is None or node.self_ms < context.at.big_scan_ms or share is None or share < 0.5:
            continue
        if any(up.node_type == "Limit" for up in context.tree.ancestors(node)):
            continue  # reading less is the better advice, and other rules give it
        off = context.plan.settings.get("max_parallel_workers_per_gather") == "0"
        why = (
            "max_parallel_workers_per_gather is 0 here"
            if off
            else "a function that is not PARALLEL SAFE, a cursor, or a low estimate keeps workers away"
        )
        yield Seen(
            node,
            {"rows_read": removed(node) + rows_out(node), "blocks": _blocks(node)},
            node.self_ms,
            f"one process read it all; {why}. If the rows are really needed, workers can share the reading",
            "SET max_parallel_workers_per_gather = 2;" if off else None,
        )
