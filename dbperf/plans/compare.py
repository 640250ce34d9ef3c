"""Two plans of one statement side by side: what was done the same way, what changed, which indexes came or went.

Nodes are matched by what they are for: a scan by the alias it reads, a join by the aliases it has joined, anything else
by its kind and the aliases below it. So a join that changed its method or its order still finds its counterpart.
"""

from __future__ import annotations

from collections import defaultdict

from dbperf.plans.tree import is_init_plan, label, walk
from dbperf.records.plans import NodeChange, Plan, PlanComparison, PlanNode

_JOINS = ("Nested Loop", "Hash Join", "Merge Join")
_SORTS = ("Sort", "Incremental Sort")
_HELPERS = ("Hash", "Materialize", "Memoize", "Gather", "Gather Merge", "Bitmap Index Scan", "BitmapAnd", "BitmapOr")
_Key = tuple[str, frozenset[str], str]


def compare(before: Plan, after: Plan) -> PlanComparison:
    """Matched nodes in the order of the second plan, then what only the first has."""
    waiting: dict[_Key, list[PlanNode]] = defaultdict(list)
    for node, key in _keyed(before):
        waiting[key].append(node)
    changes: list[NodeChange] = []
    for node, key in _keyed(after):
        partner = waiting[key].pop(0) if waiting[key] else None
        changes.append(_change(partner, node))
    changes += [_change(node, None) for left in waiting.values() for node in left]
    gone, come = _indexes(before) - _indexes(after), _indexes(after) - _indexes(before)
    return PlanComparison(
        same_shape=not any(c.changed for c in changes),
        before_ms=before.execution_ms if before.execution_ms is not None else before.root.total_ms,
        after_ms=after.execution_ms if after.execution_ms is not None else after.root.total_ms,
        before_cost=before.root.total_cost,
        after_cost=after.root.total_cost,
        indexes_gone=sorted(gone),
        indexes_come=sorted(come),
        nodes=changes,
    )


def _keyed(plan: Plan) -> list[tuple[PlanNode, _Key]]:
    below: dict[int, frozenset[str]] = {}
    nodes = list(walk(plan.root))
    for node in reversed(nodes):
        own = {node.alias or node.relation or ""} - {""} if node.node_type != "Subquery Scan" else set()
        inputs = [below[c.node_id] for c in node.children if not is_init_plan(c)]
        below[node.node_id] = frozenset(own).union(*inputs)
    return [(n, (_kind(n), below[n.node_id], n.subplan_name or "")) for n in nodes]


def _kind(node: PlanNode) -> str:
    kind = node.node_type
    if kind in _JOINS:
        kind = "join"
    elif kind in _SORTS:
        kind = "sort"
    elif kind in _HELPERS:
        # A Bitmap Index Scan has no alias, and its index tells it from its neighbours.
        kind = f"{kind} {node.index_name or ''}"
    elif node.relation is not None:
        kind = "scan"
    return kind


def _change(before: PlanNode | None, after: PlanNode | None) -> NodeChange:
    a, b = before, after
    return NodeChange(
        before=label(a) if a else None,
        after=label(b) if b else None,
        before_id=a.node_id if a else None,
        after_id=b.node_id if b else None,
        before_ms=a.self_ms if a else None,
        after_ms=b.self_ms if b else None,
        before_rows=a.actual_rows if a else None,
        after_rows=b.actual_rows if b else None,
        before_cost=a.total_cost if a else None,
        after_cost=b.total_cost if b else None,
        changed=a is None or b is None or label(a) != label(b),
    )


def _indexes(plan: Plan) -> set[str]:
    return {n.index_name for n in walk(plan.root) if n.index_name}
