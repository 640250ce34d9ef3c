"""What indexes cost the statements that write."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dbperf.postgres.whatif import PlanJson, nodes
from dbperf.records.advice import IndexSpec
from dbperf.records.shadow import Relation

_PAGE_CPU_MULTIPLIER = 50
"""DEFAULT_PAGE_CPU_MULTIPLIER in selfuncs.c: comparisons that visiting a B-tree page costs."""
_MISSING_SHARE = 0.1
"""Share of inserted entries whose leaf is not in memory. A guess: it depends on the keys' order and the memory."""


Writes = dict[tuple[str, str], dict[frozenset[str] | None, float]]
"""Rows that a workload writes by table (schema, name) and by what writes them: an UPDATE's columns, or None for INSERT
and DELETE, which touch every index (DELETE leaves that to VACUUM)."""


def rows_written(plan: PlanJson | None) -> float:
    """Rows that a plan's ModifyTable takes from below it."""
    for node in nodes(plan or {}):
        if node["Node Type"] == "ModifyTable":
            return sum(child.get("Plan Rows", 1.0) for child in node.get("Plans", ())) or 1.0
    return 0.0


def touched(spec: IndexSpec, columns: frozenset[str]) -> bool:
    """Whether an UPDATE of these columns changes the index's entries or the rows that it holds."""
    text = " ".join([*(k.expression or "" for k in spec.keys), spec.predicate or ""])
    names = {k.column for k in spec.keys} | set(spec.include)
    return bool(names & columns) or any(c in text for c in columns)


def write_cost(
    spec: IndexSpec, pages: int, tuples: float, writes: Writes, relation: Relation, settings: Mapping[str, str]
) -> float:  # fmt: skip
    """Planner's cost units that the workload's writes pay for one index.

    One new entry costs the descent that btcostestimate charges for a lookup, and a share of a page read.
    """
    per_entry = _entry_cost(spec, pages, tuples, settings)
    total = 0.0
    for columns, entries in writes.get((spec.schema, spec.table), {}).items():
        # A HOT update touches no index; the others add an entry to each.
        hot = columns is not None and not touched(spec, columns)
        total += entries * per_entry * (1 - _hot_share(relation) if hot else 1)
    return total


def blocks_hot(spec: IndexSpec, writes: Writes) -> bool:
    """Whether some UPDATE of the workload changes a column of the index, so that it can't be HOT any more."""
    return any(columns and touched(spec, columns) for columns in writes.get((spec.schema, spec.table), ()))


def _hot_share(relation: Relation) -> float:
    if not relation.updates or relation.hot_updates is None:
        return 0.5
    return min(1.0, relation.hot_updates / relation.updates)


def _entry_cost(spec: IndexSpec, pages: int, tuples: float, settings: Mapping[str, str]) -> float:
    operator, page = float(settings.get("cpu_operator_cost", "0.0025")), float(settings.get("random_page_cost", "4"))
    height = max(1, math.ceil(math.log(max(2, pages), 200)))
    descent = math.ceil(math.log2(max(2.0, tuples))) * operator + (height + 1) * _PAGE_CPU_MULTIPLIER * operator
    entries = {"gin": 10.0, "hnsw": 100.0, "brin": 0.05}.get(spec.method, 1.0)
    return entries * (descent + _MISSING_SHARE * page)
