"""Blocks: too many for the rows, not in memory, slow to come, and wide rows."""

from __future__ import annotations

from collections.abc import Iterator

from dbperf.plans.rules.base import Context, Seen, count, removed, rows_out, rule
from dbperf.records.plans import PlanNode
from dbperf.units import format_bytes

_BLOCK = 8192


def _own_blocks(node: PlanNode) -> int:
    own = node.self_buffers
    return own.shared_hit + own.shared_read if own is not None else 0


@rule("many-buffers-per-row", "Many blocks for few rows")
def many_buffers_per_row(context: Context) -> Iterator[Seen]:
    """A table or index full of dead space, or rows scattered over it."""
    for node in context.of_type("Seq Scan", "Index Scan", "Index Only Scan"):
        rows, blocks = rows_out(node) + removed(node), _own_blocks(node)
        if blocks < context.at.many_blocks or not context.matters(node.self_ms):
            continue
        width = max(node.plan_width or 0, 1)
        if node.node_type == "Seq Scan":
            # So many rows of that width fill a block; the width counts only the columns that are needed. More blocks
            # than the table has are TOAST's: toast-fetched says it.
            fits = max(1.0, _BLOCK / (width + 28))
            pages = table.pages if (table := context.table(node)) is not None else None
            if pages is None or (node.loops or 0) > 1 or blocks > 1.5 * pages or rows / blocks > min(2.0, fits / 4):
                continue
            why = f"{node.relation} is mostly empty space"
            sql = f"VACUUM FULL {node.relation};  -- locks the table; pg_repack does not"
        else:
            # A look-up reads the index's height and one block of the table per row.
            if blocks < 10 * (rows + 4 * (node.loops or 1)):
                continue
            why = f"{node.index_name} or the table is bloated by dead rows"
            sql = f"REINDEX INDEX CONCURRENTLY {node.index_name};\nVACUUM {node.relation};"
        yield Seen(
            node,
            {"blocks": blocks, "rows": rows, "blocks_per_row": round(blocks / max(rows, 1), 2)},
            node.self_ms,
            f"{count(blocks)} blocks ({format_bytes(blocks * _BLOCK)}) were read for {count(rows)} rows: {why}",
            sql,
        )


@rule("toast-fetched", "Large values fetched for every row", needs_facts=True)
def toast_fetched(context: Context) -> Iterator[Seen]:
    """Values of more than 2 kB live in another table (TOAST), and each needs several blocks more."""
    for node in context.of_type("Seq Scan"):
        table, blocks = context.table(node), _own_blocks(node)
        if table is None or not table.pages or (node.loops or 0) > 1 or node.parallel_aware:
            continue
        if (
            blocks - table.pages < context.at.many_blocks
            or blocks < 2 * table.pages
            or not context.matters(node.self_ms)
        ):
            continue
        rows = rows_out(node) + removed(node)
        yield Seen(
            node,
            {"blocks": blocks, "blocks_of_table": table.pages, "rows": rows},
            node.self_ms,
            f"{count(blocks)} blocks were read of a table of {count(table.pages)}: large values were fetched for"
            f" {count(rows)} rows. Leave their column out, look at fewer rows, or let an index answer (a vector index"
            " for the nearest, an expression index for a part)",
        )


@rule("low-cache-hit", "Most blocks were not in shared_buffers")
def low_cache_hit(context: Context) -> Iterator[Seen]:
    """A working set larger than shared_buffers, or a first, cold execution."""
    top = context.plan.root.buffers
    if top is None or top.shared_read < context.at.many_blocks:
        return
    touched = top.shared_hit + top.shared_read
    if top.shared_read < 0.5 * touched or not context.matters(context.total_ms):
        return
    node = max(context.nodes, key=lambda n: n.self_buffers.shared_read if n.self_buffers else 0)
    spent = top.read_ms if context.timed else None
    if spent is not None and (context.share(spent) or 0.0) < context.at.read_share:
        return  # it came from the operating system's memory
    yield Seen(
        node,
        {"blocks_read": top.shared_read, "blocks_hit": top.shared_hit, "hit_ratio": round(top.shared_hit / touched, 3)},
        spent,
        f"{count(top.shared_read)} of {count(touched)} blocks came from outside shared_buffers: execute it twice to"
        " tell a"
        " cold cache from one that is too small, and read less before making it larger",
        severity="info",
    )


@rule("slow-io", "Slow reads from storage")
def slow_io(context: Context) -> Iterator[Seen]:
    """Each block takes longer than storage should need (needs track_io_timing)."""
    for node in context.nodes:
        own = node.self_buffers
        if own is None or own.read_ms is None or own.shared_read + own.local_read < 10:
            continue
        per_block = own.read_ms / (own.shared_read + own.local_read)
        # Over all workers: their reads overlap.
        spent = min(own.read_ms, node.self_ms or own.read_ms)
        if per_block >= context.at.slow_block_ms and context.matters(spent):
            yield Seen(
                node,
                {"ms_per_block": round(per_block, 3), "blocks_read": own.shared_read + own.local_read},
                spent,
                f"a block took {per_block:.2g} ms on average: storage is slow or busy. Look at its latency and"
                " throttling"
                " (IOPS limits of cloud disks)",
            )


@rule("wide-rows", "Wide rows returned")
def wide_rows(context: Context) -> Iterator[Seen]:
    """Columns that nobody needs cost sorting, copying, de-toasting and sending."""
    root = context.plan.root
    width, rows = root.plan_width or 0, rows_out(root) if context.plan.analyzed else (root.plan_rows or 0.0)
    if width >= context.at.wide_bytes and rows >= 100 and width * rows >= context.at.many_blocks * _BLOCK / 8:
        yield Seen(
            root,
            {"row_bytes": width, "rows": rows, "result_bytes": width * rows},
            None,
            f"{count(rows)} rows of {format_bytes(width)}: name the columns that are needed instead of SELECT *, large"
            " texts, JSON and vectors above all",
            severity="info" if not _sorted_wide(context) else "warning",
        )
        return
    sent = context.plan.extra.get("Serialization")
    if isinstance(sent, dict):
        kilobytes, ms = sent.get("Output Volume"), sent.get("Time")
        if isinstance(kilobytes, int | float) and kilobytes * 1024 >= context.at.many_blocks * _BLOCK / 8:
            spent = float(ms) if isinstance(ms, int | float) else None
            if rows and kilobytes * 1024 / rows >= context.at.wide_bytes and context.matters(spent):
                yield Seen(
                    root,
                    {"result_bytes": kilobytes * 1024, "rows": rows},
                    spent,
                    f"{format_bytes(kilobytes * 1024)} had to be fetched and converted for {count(rows)} rows: name the"
                    " columns that are needed instead of SELECT *",
                )


def _sorted_wide(context: Context) -> bool:
    return any((n.plan_width or 0) >= context.at.wide_bytes for n in context.of_type("Sort"))
