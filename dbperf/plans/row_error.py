"""How far the planner's row estimates were off, where the plan lets one say so."""

from __future__ import annotations

from dbperf.plans.tree import GATHERS, Tree, inner, is_init_plan
from dbperf.records.plans import PlanNode

# They return no rows of their own, or print none.
_ROWLESS = frozenset({"BitmapAnd", "BitmapOr", "ModifyTable", "Hash"})
# They read their input to the end before they return a row, whatever is above them.
_BLOCKING = frozenset({"Sort", "Hash", "Bitmap Heap Scan", "BitmapAnd", "BitmapOr", "ModifyTable"})


def row_errors(tree: Tree) -> dict[int, float]:
    """Actual over estimated rows by node id, both at least 1.

    Below a Gather the estimate of a partial node is one worker's share, and the actual rows are an average over the
    processes that took part: both are brought to the whole (optimizer/path/costsize.c, get_parallel_divisor).
    A node that something above may have stopped early has an error only when it returned *more* than estimated.
    """
    if tree.plan.root.loops is None:
        return {}
    partial = _partial(tree)
    stopped = _may_stop_early(tree)
    workers = _workers(tree)
    found: dict[int, float] = {}
    for node in tree.nodes:
        if node.node_type in _ROWLESS or not node.loops or node.actual_rows is None or node.plan_rows is None:
            continue
        estimated, actual = node.plan_rows, node.actual_rows
        if node.node_id in partial and (scope := workers.get(node.node_id)) is not None:
            gather, processes = scope
            estimated *= parallel_divisor(gather.workers_planned or 0)
            actual *= processes
        error = max(actual, 1.0) / max(estimated, 1.0)
        if error < 1 and node.node_id in stopped:
            continue
        if error > 1 and _rereads(tree, node):
            continue
        found[node.node_id] = error
    return found


def parallel_divisor(workers: int) -> float:
    """What the planner divides a partial path's rows by: the leader takes part with 1 - 0.3 per worker.

    >>> [parallel_divisor(n) for n in (0, 1, 2, 4)]
    [1.0, 1.7, 2.4, 4.0]
    """
    return workers + max(0.0, 1 - 0.3 * workers)


def _workers(tree: Tree) -> dict[int, tuple[PlanNode, float]]:
    """For each node below a Gather: that Gather, and how many processes ran its child."""
    found: dict[int, tuple[PlanNode, float]] = {}
    for node in tree.nodes:
        up = tree.parent(node)
        if up is None or is_init_plan(node):
            continue
        if up.node_type in GATHERS:
            found[node.node_id] = (up, max(1.0, (node.loops or 0.0) / max(up.loops or 0.0, 1.0)))
        elif up.node_id in found:
            found[node.node_id] = found[up.node_id]
    return found


def _partial(tree: Tree) -> set[int]:
    """Nodes whose rows are shared out among the workers: parallel-aware ones, and what reads them."""
    found: set[int] = set()
    for node in reversed(tree.nodes):
        if node.node_type in GATHERS:
            continue
        feeds = [c for c in node.children if c.parent_relationship in ("Outer", "Member", "Subquery")]
        if node.parallel_aware or any(c.node_id in found for c in feeds):
            found.add(node.node_id)
    return found


def _may_stop_early(tree: Tree) -> set[int]:
    """Nodes that something above may not read to the end."""
    found: set[int] = set()
    for node in tree.nodes:  # parents come first
        up = tree.parent(node)
        if up is None:
            continue
        # An InitPlan, a SubPlan or a CTE is read as far as its reader wants.
        shared = node.parent_relationship in ("InitPlan", "SubPlan")
        blocks = up.node_type in _BLOCKING or (up.node_type == "Aggregate" and up.strategy != "Sorted")
        passes = up.node_id in found and not blocks
        cut = up.node_type in ("Limit", "Merge Join") or (
            # They go on to the next outer row at the first match.
            inner(up) is node
            and (up.join_type in ("Semi", "Anti", "Right Semi", "Right Anti") or up.extra.get("Inner Unique") is True)
        )
        # A hash join with an empty side does not read the other.
        empty = up.node_type == "Hash Join" and inner(up) is not node and _is_empty(inner(up))
        if shared or passes or cut or empty:
            found.add(node.node_id)
    return found


def _is_empty(node: PlanNode | None) -> bool:
    return node is not None and node.actual_rows == 0


def _rereads(tree: Tree, node: PlanNode) -> bool:
    """The inner side of a merge join counts rows again when the join goes back to a mark."""
    up = tree.parent(node)
    return up is not None and up.node_type == "Merge Join" and inner(up) is node
