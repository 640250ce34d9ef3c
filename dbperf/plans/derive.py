"""Self times, self buffers and row errors of a plan.

EXPLAIN prints a node's time as the average of one loop, its children included. Three things make the difference
between a node and its children wrong when taken naively:

- *Loops and workers.* A node below a Gather runs in several processes at once, and its loops are counted over all of
  them. Its wall time is time x loops / processes (executor/instrument.c, nodeGather.c). Workers run on while the leader
  is busy above the Gather: what they then did beyond the Gather's own time cost the statement nothing, and is cut.
- *InitPlans and CTEs* hang below the node that declares them, but run when some other node first asks for their value
  or next row (executor/nodeSubplan.c, ExecSetParamPlan; nodeCtescan.c), and their time is in that node's. It is taken
  from the nodes that refer to them.
- *Rounding.* Times are printed with 3 digits per loop: 100,000 loops of 0.0005 ms show as 0.000 or 0.001. A parent is
  raised within its rounding to hold its children, and a child never gets more than its parent has.

So that self times always sum to the root's total (`nodes_ms`), and each node's total stays within the rounding of what
EXPLAIN printed; the tests check both on every plan of the corpus.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from dbperf.plans.row_error import row_errors
from dbperf.plans.tree import GATHERS, Tree, is_init_plan
from dbperf.records.plans import Buffers, Plan, PlanNode

_COUNTS = (
    "shared_hit", "shared_read", "shared_dirtied", "shared_written", "local_hit", "local_read", "local_dirtied",
    "local_written", "temp_read", "temp_written",
)  # fmt: skip
_TIMES = ("read_ms", "write_ms", "temp_read_ms", "temp_write_ms")
HALF_DIGIT_MS = 0.0005
"""Rounding of the times that EXPLAIN prints per loop."""
_PARAMETER = re.compile(r"\$\d+")


def derive(plan: Plan) -> Plan:
    """The plan with `total_ms`, `self_ms`, `self_buffers` and `row_error` of every node filled in.

    Without ANALYZE, or with TIMING off, the times stay None; without BUFFERS the buffers do.
    """
    tree = Tree(plan)
    errors = row_errors(tree)
    totals, selfs = _times(tree)
    buffers = _self_buffers(tree)
    done: dict[int, PlanNode] = {}
    for node in reversed(tree.nodes):  # children have larger ids
        done[node.node_id] = msgspec.structs.replace(
            node,
            children=[done[c.node_id] for c in node.children],
            total_ms=totals.get(node.node_id),
            self_ms=selfs.get(node.node_id),
            self_buffers=buffers.get(node.node_id),
            row_error=errors.get(node.node_id),
        )
    return msgspec.structs.replace(plan, root=done[plan.root.node_id])


def nodes_ms(plan: Plan) -> float | None:
    """Time spent in nodes: the root's, and that of data-modifying CTEs that run after it (executor/execMain.c,
    ExecPostprocessPlan). None without times. `execution_ms` adds triggers, and starting and ending the executor.
    """
    if plan.root.total_ms is None:
        return None
    return sum(n.self_ms or 0.0 for n in Tree(plan).nodes)


def _times(tree: Tree) -> tuple[dict[int, float], dict[int, float]]:
    if tree.plan.root.actual_total_ms is None:
        return {}, {}
    processes = processes_of(tree)
    rounds = {n.node_id: max(n.loops or 0.0, 0.0) / processes[n.node_id] for n in tree.nodes}
    raw: dict[int, float] = {}
    for node in reversed(tree.nodes):  # children have larger ids
        at = node.node_id
        printed = max(node.actual_total_ms or 0.0, 0.0) * rounds[at]
        inside = sum(raw[c.node_id] for c in node.children if not is_init_plan(c))
        raw[at] = max(printed, min(inside, printed + HALF_DIGIT_MS * rounds[at]))
    slack = {at: min(HALF_DIGIT_MS * n, raw[at]) for at, n in rounds.items()}
    return _Shares(tree, raw, slack).run()


def processes_of(tree: Tree) -> dict[int, float]:
    """How many processes ran each node at once, by node id.

    The child of a Gather runs once per process and loop of the Gather, whether the leader took part or not, so that
    its loops count the processes.
    """
    found: dict[int, float] = {}
    for node in tree.nodes:
        up = tree.parent(node)
        if up is None:
            found[node.node_id] = 1.0
        elif up.node_type in GATHERS and not is_init_plan(node):
            found[node.node_id] = max(1.0, (node.loops or 0.0) / max(up.loops or 0.0, 1.0)) * found[up.node_id]
        else:
            found[node.node_id] = found[up.node_id]
    return found


def _self_buffers(tree: Tree) -> dict[int, Buffers]:
    """Own buffers less the children's. A Gather that a LIMIT stops early can lack its workers' blocks, which then
    make nothing negative but are missing in its ancestors."""
    if tree.plan.root.buffers is None:
        return {}
    found: dict[int, dict[str, Any]] = {n.node_id: {} for n in tree.nodes}
    for name in (*_COUNTS, *_TIMES):
        raw = {n.node_id: float(getattr(n.buffers, name, None) or 0) for n in tree.nodes}
        if not any(raw.values()):
            continue
        for node_id, value in _Shares(tree, raw, None).run()[1].items():
            found[node_id][name] = value if name in _TIMES else round(value)
    return {node_id: Buffers(**values) for node_id, values in found.items()}


class _Shares:
    """Splits inclusive figures (`raw`, by node id) into each node's own.

    `slack` says how far each figure may be too large; children are then cut to what their parent has. None: the figures
    are exact counts, and nothing is cut.
    """

    def __init__(self, tree: Tree, raw: dict[int, float], slack: dict[int, float] | None) -> None:
        self.tree, self.raw, self.slack = tree, raw, slack
        self.total: dict[int, float] = {}
        self.own: dict[int, float] = {}

    def run(self) -> tuple[dict[int, float], dict[int, float]]:
        self._assign(self.tree.plan.root, self.raw[self.tree.plan.root.node_id])
        producers = [n for n in self.tree.nodes[1:] if is_init_plan(n)]
        consumers = {p.node_id: consumers_of(self.tree, p) for p in producers}
        for producer in producers:
            self._assign(producer, self.raw[producer.node_id])
        for producer in _order(self.tree, producers, consumers):
            self._charge(producer, consumers[producer.node_id])
        return self.total, self.own

    def _assign(self, top: PlanNode, total: float) -> None:
        """Totals and own figures of a node and what is below it, InitPlans left out."""
        stack = [(top, total)]
        while stack:
            node, have = stack.pop()
            self.total[node.node_id] = have
            children = [c for c in node.children if not is_init_plan(c)]
            given = self._fitted(children, have)
            self.own[node.node_id] = max(0.0, have - sum(given))
            stack.extend(zip(children, given, strict=True))

    def _fitted(self, children: list[PlanNode], have: float) -> list[float]:
        """The children's figures, cut to what there is: first within their rounding, then in proportion."""
        raw = [self.raw[c.node_id] for c in children]
        excess = sum(raw) - have
        if self.slack is None or excess <= 0:
            return raw
        slack = [self.slack[c.node_id] for c in children]
        cut = min(1.0, excess / sum(slack)) if sum(slack) > 0 else 0.0
        raw = [r - s * cut for r, s in zip(raw, slack, strict=True)]
        wanted = sum(raw)
        return [r * have / wanted for r in raw] if wanted > have else raw

    def _charge(self, producer: PlanNode, consumers: list[PlanNode]) -> None:
        """Takes an InitPlan's or CTE's figure from the nodes that waited for it."""
        rest = self.total[producer.node_id]
        if rest <= 0:
            return
        for group in (consumers, self._others(producer, consumers)):
            # The one that asked first paid for it all, so it has the most.
            for node in sorted(group, key=lambda n: -self.own[n.node_id]):
                taken = min(rest, self.own[node.node_id])
                self.own[node.node_id] -= taken
                rest -= taken
                if rest <= 0:
                    return
        # What is left of a data-modifying CTE ran when the executor ended, outside of every other node.
        if self.slack is not None and producer.node_type != "ModifyTable":
            self._assign(producer, self.total[producer.node_id] - rest)

    def _others(self, producer: PlanNode, consumers: list[PlanNode]) -> list[PlanNode]:
        """Who else may have waited: where no reference is shown (output lists need VERBOSE), any node below.
        Ending parallel workers is timed in the node that declares the CTE (executor/execProcnode.c, ExecShutdownNode).
        """
        declared = self.tree.parent(producer)
        assert declared is not None
        if consumers and producer.subplan_name is not None and producer.subplan_name.startswith("CTE "):
            return [declared]
        known = {n.node_id for n in consumers}
        return [n for n in _below(declared, producer) if n.node_id not in known]


def consumers_of(tree: Tree, producer: PlanNode) -> list[PlanNode]:
    """The nodes that read an InitPlan's value or a CTE's rows, as far as the plan shows them."""
    declared = tree.parent(producer)
    assert declared is not None
    name = producer.subplan_name or ""
    if name.startswith("CTE "):
        cte = name.removeprefix("CTE ")
        return [
            n
            for n in _below(declared, producer)
            if n.node_type == "CTE Scan" and n.extra.get("CTE Name") == cte and _declarer(tree, n, cte) is producer
        ]
    returned = {*_PARAMETER.findall(name)}
    label = re.match(r"InitPlan \d+", name)
    found: dict[int, PlanNode] = {}
    for node in _below(declared, producer):
        if _refers(node, returned, label[0] if label else None):
            # A Gather evaluates the parameters that its workers need before it starts them.
            gathers = [a for a in tree.ancestors(node) if a.node_type in GATHERS]
            at = declared.node_id
            reader = next((g for g in reversed(gathers) if g.node_id >= at), node)
            found[reader.node_id] = reader
    return list(found.values())


def _refers(node: PlanNode, parameters: set[str], name: str | None) -> bool:
    texts: list[Any] = [*node.conditions.values(), *node.extra.values()]
    for value in texts:
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                continue
            if parameters and not parameters.isdisjoint(_PARAMETER.findall(text)):
                return True
            if name and f"({name})" in text:  # since 17: (InitPlan 1).col1
                return True
    return False


def _declarer(tree: Tree, scan: PlanNode, cte: str) -> PlanNode | None:
    """The CTE that a CTE Scan reads: the nearest of that name, as in SQL's scoping."""
    below = scan
    for up in (scan, *tree.ancestors(scan)):
        for child in up.children:
            if child is not below and is_init_plan(child) and child.subplan_name == f"CTE {cte}":
                return child
        below = up
    return None


def _below(top: PlanNode, without: PlanNode) -> list[PlanNode]:
    """A node and everything below it, one child left out."""
    found, stack = [], [top]
    while stack:
        node = stack.pop()
        found.append(node)
        stack.extend(c for c in reversed(node.children) if c is not without)
    return found


def _order(tree: Tree, producers: list[PlanNode], consumers: dict[int, list[PlanNode]]) -> list[PlanNode]:
    """Producers so that each comes after those that its consumers run in: a cut of the outer one then still counts."""
    inside: dict[int, set[int]] = {}
    for p in producers:
        holders = set()
        for reader in consumers[p.node_id] or [tree.by_id[p.node_id]]:
            holders |= {a.node_id for a in (reader, *tree.ancestors(reader)) if is_init_plan(a)}
        inside[p.node_id] = holders - {p.node_id}
    ordered: list[PlanNode] = []
    waiting = list(producers)
    while waiting:
        done = {p.node_id for p in ordered}
        # A plan that PostgreSQL made has no cycle; a forged one must not hang.
        ready = next((p for p in waiting if inside[p.node_id] <= done), waiting[0])
        ordered.append(ready)
        waiting.remove(ready)
    return ordered
