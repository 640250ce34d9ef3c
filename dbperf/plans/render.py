"""A plan as an indented tree with the figures that matter, for terminals and failed assertions."""

from __future__ import annotations

from dbperf.plans.derive import nodes_ms
from dbperf.plans.tree import label
from dbperf.records.plans import Plan, PlanNode
from dbperf.units import format_count, format_ms, format_share

_CONDITIONS = ("Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "Filter", "Order By")


def render_tree(plan: Plan, *, conditions: bool = True, width: int = 100) -> str:
    """Self time and share first, then the node, its rows against the estimate, and its conditions."""
    total = nodes_ms(plan)
    lines: list[str] = []
    stack: list[tuple[PlanNode, int]] = [(plan.root, 0)]
    while stack:
        node, depth = stack.pop()
        lines.append(_line(node, depth, total))
        if conditions:
            indent = " " * (22 + 2 * depth + 2)
            for key in _CONDITIONS:
                if key in node.conditions:
                    text = f"{key}: {node.conditions[key]}"
                    lines.append(indent + (text if len(text) <= width else text[: width - 3] + "..."))
        stack.extend((c, depth + 1) for c in reversed(node.children))
    return "\n".join(lines)


def _line(node: PlanNode, depth: int, total: float | None) -> str:
    if node.self_ms is None:
        figures = f"{'cost ' + format_count(node.total_cost):>20}  "
    else:
        figures = f"{format_ms(node.self_ms):>12} {format_share(node.self_ms / total if total else None):>7}  "
    name = f"{node.subplan_name}: {label(node)}" if node.subplan_name else label(node)
    return f"{figures}{'  ' * depth}{name}{_rows(node)}"


def _rows(node: PlanNode) -> str:
    if node.loops == 0:
        return "  (never executed)"
    if node.actual_rows is None:
        return f"  (about {format_count(node.plan_rows)} rows)"
    parts = [f"{format_count(node.actual_rows)} rows"]
    if node.row_error is not None and not 0.5 < node.row_error < 2:
        parts[0] += f", {format_count(node.plan_rows)} expected"
    if node.loops is not None and node.loops > 1:
        parts.append(f"x {format_count(node.loops)} loops")
    if node.buffers is not None and (blocks := node.buffers.shared_hit + node.buffers.shared_read):
        parts.append(f"{format_count(blocks)} blocks")
    return f"  ({', '.join(parts)})"
