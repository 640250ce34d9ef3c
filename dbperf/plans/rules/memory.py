"""Work that did not fit work_mem and went to temporary files."""

from __future__ import annotations

from collections.abc import Iterator

from dbperf.plans.rules.base import Context, Seen, count, number, rule
from dbperf.records.plans import PlanNode
from dbperf.units import format_bytes

_BLOCK = 8192


def _memory_for(kilobytes: float) -> str:
    """A round work_mem that holds so much: sorted and hashed rows need more room in memory than on disk."""
    needed, size = kilobytes * 2.5 / 1024, 4
    while size < needed:
        size *= 2
    return f"SET work_mem = '{size}MB';"


def _workers(node: PlanNode) -> list[dict[str, object]]:
    workers = node.extra.get("Workers")
    return [w for w in workers if isinstance(w, dict)] if isinstance(workers, list) else []


def _kilobytes(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


@rule("sort-spilled", "Sort spilled to disk")
def sort_spilled(context: Context) -> Iterator[Seen]:
    """An external merge writes and reads all rows."""
    for node in context.of_type("Sort", "Incremental Sort"):
        shares: list[dict[str, object]] = [node.extra, *_workers(node)]
        disk = sum(_kilobytes(w.get("Sort Space Used")) for w in shares if w.get("Sort Space Type") == "Disk")
        for key in ("Full-sort Groups", "Pre-sorted Groups"):
            groups = node.extra.get(key)
            space = groups.get("Sort Space Disk") if isinstance(groups, dict) else None
            disk += _kilobytes(space.get("Peak Sort Space Used")) if isinstance(space, dict) else 0.0
        if disk and context.matters(node.self_ms):
            yield Seen(
                node,
                {"disk_kb": disk, "sort_key": ", ".join(map(str, node.extra.get("Sort Key", [])))},
                node.self_ms,
                f"{format_bytes(disk * 1024)} were sorted on disk: give this query more work_mem, sort fewer or"
                " narrower rows, or read them in order from an index",
                _memory_for(disk),
            )


@rule("hash-batches", "Hash table in several batches")
def hash_batches(context: Context) -> Iterator[Seen]:
    """A hash that does not fit work_mem writes both sides of the join to files and reads them again."""
    for node in context.of_type("Hash"):
        batches = number(node, "Hash Batches")
        join = context.tree.parent(node)
        if batches <= 1 or join is None:
            continue
        spent = (node.self_ms or 0.0) + (join.self_ms or 0.0) if context.timed else None
        if context.matters(spent):
            memory = number(node, "Peak Memory Usage")
            yield Seen(
                node,
                {
                    "batches": batches,
                    "batches_planned": number(node, "Original Hash Batches"),
                    "memory_kb": memory,
                    "temp_blocks": join.self_buffers.temp_written if join.self_buffers else None,
                },
                spent,
                f"{count(batches)} batches: more work_mem (or hash_mem_multiplier) keeps the hash table in memory",
                _memory_for(memory * batches),
            )


@rule("hash-aggregate-spilled", "Hash aggregate spilled to disk")
def hash_aggregate_spilled(context: Context) -> Iterator[Seen]:
    """Groups that do not fit hash_mem are written out and aggregated batch by batch."""
    for node in context.of_type("Aggregate", "SetOp"):
        shares: list[dict[str, object]] = [node.extra, *_workers(node)]
        disk = sum(_kilobytes(w.get("Disk Usage")) for w in shares)
        if disk and context.matters(node.self_ms):
            yield Seen(
                node,
                {"disk_kb": disk, "batches": number(node, "HashAgg Batches")},
                node.self_ms,
                f"the groups went to disk ({format_bytes(disk * 1024)}): more work_mem keeps them in memory; an index"
                " in the order of the groups needs none",
                _memory_for(disk),
            )


@rule("temp-file-io", "Temporary files for stored rows")
def temp_file_io(context: Context) -> Iterator[Seen]:
    """CTEs, materialised rows and window frames that outgrow work_mem; sorts and hashes have rules of their own."""
    for node in context.of_type("CTE Scan", "Materialize", "WindowAgg", "Recursive Union", "Function Scan"):
        own = node.self_buffers
        blocks = own.temp_read + own.temp_written if own is not None else 0
        if blocks >= context.at.many_blocks and context.matters(node.self_ms):
            yield Seen(
                node,
                {"temp_blocks": blocks, "temp_bytes": blocks * _BLOCK},
                node.self_ms,
                f"{format_bytes(blocks * _BLOCK)} went through temporary files: keep fewer rows or columns at this"
                " point, or give the query more work_mem",
                _memory_for(blocks * _BLOCK / 1024),
            )
