"""Finding one's way in a plan: walking it, parents, and a node in words."""

from __future__ import annotations

from collections.abc import Iterator

from dbperf.records.plans import Plan, PlanNode

GATHERS = ("Gather", "Gather Merge")
_JOINS = {"Hash Join": "Hash", "Merge Join": "Merge"}
_AGGREGATES = {"Hashed": "HashAggregate", "Sorted": "GroupAggregate", "Mixed": "MixedAggregate"}


def walk(node: PlanNode) -> Iterator[PlanNode]:
    """The node and everything below it, in pre-order (the order of node ids)."""
    stack = [node]
    while stack:
        one = stack.pop()
        yield one
        stack.extend(reversed(one.children))


class Tree:
    """A plan with its parents at hand."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.nodes = list(walk(plan.root))
        self.by_id = {n.node_id: n for n in self.nodes}
        self._parents = {c.node_id: n for n in self.nodes for c in n.children}

    def parent(self, node: PlanNode) -> PlanNode | None:
        return self._parents.get(node.node_id)

    def ancestors(self, node: PlanNode) -> Iterator[PlanNode]:
        """From the parent up to the root."""
        up = self.parent(node)
        while up is not None:
            yield up
            up = self.parent(up)


def outer(node: PlanNode) -> PlanNode | None:
    """The child that a join reads first, or the only input of another node."""
    return next((c for c in node.children if c.parent_relationship == "Outer"), None)


def inner(node: PlanNode) -> PlanNode | None:
    """The child that a join looks matches up in."""
    return next((c for c in node.children if c.parent_relationship == "Inner"), None)


def is_init_plan(node: PlanNode) -> bool:
    """Whether the node is a sub-plan that runs at most once and is shared: an InitPlan or a CTE."""
    return node.parent_relationship == "InitPlan"


def operation(node: PlanNode) -> str:
    """The node's type as EXPLAIN's text format prints it: "Parallel Hash Left Join", "Partial HashAggregate".

    >>> operation(PlanNode(node_id=0, node_type="Aggregate", strategy="Hashed", extra={"Partial Mode": "Finalize"}))
    'Finalize HashAggregate'
    >>> operation(PlanNode(node_id=0, node_type="Hash Join", join_type="Right Anti", parallel_aware=True))
    'Parallel Hash Right Anti Join'
    """
    name = node.node_type
    if name == "Aggregate" and node.strategy in _AGGREGATES:
        name = _AGGREGATES[node.strategy]
    elif name == "SetOp" and node.strategy == "Hashed":
        name = "HashSetOp"
    elif name in ("ModifyTable", "Foreign Scan") and node.extra.get("Operation") not in (None, "Select"):
        name = str(node.extra["Operation"]) if name == "ModifyTable" else f"Foreign {node.extra['Operation']}"
    elif name == "Custom Scan" and "Custom Plan Provider" in node.extra:
        name = f"Custom Scan ({node.extra['Custom Plan Provider']})"
    elif node.extra.get("Scan Direction") == "Backward":
        name += " Backward"
    if node.join_type not in (None, "Inner"):
        name = f"{_JOINS.get(name, name)} {node.join_type} Join"
    elif name in ("SetOp", "HashSetOp"):
        name += f" {node.extra['Command']}" if "Command" in node.extra else ""
    mode = node.extra.get("Partial Mode")
    prefix = f"{mode} " if mode not in (None, "Simple") else ""
    return ("Parallel " if node.parallel_aware else "") + prefix + name


def source(node: PlanNode) -> str | None:
    """What a scan reads: the relation as EXPLAIN prints it, a CTE, a function."""
    for name in (node.relation, node.extra.get("CTE Name"), node.extra.get("Function Name")):
        if isinstance(name, str):
            return f"{node.schema}.{name}" if node.schema and node.schema not in ("public", "pg_temp") else name
    return None


def label(node: PlanNode) -> str:
    """The node in words, schema `public` left out.

    >>> label(PlanNode(node_id=0, node_type="Index Scan", relation="t", alias="x", index_name="t_pkey"))
    'Index Scan using t_pkey on t x'
    """
    text = operation(node)
    what = source(node)
    if node.index_name:
        # A Bitmap Index Scan has no relation.
        text += f" on {node.index_name}" if node.node_type == "Bitmap Index Scan" else f" using {node.index_name}"
    if what:
        text += f" on {what}"
    if node.alias and node.alias not in (node.relation, what):
        text += f" {node.alias}" if what else f" on {node.alias}"
    return text
