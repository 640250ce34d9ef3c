"""The registry of rules, what they get to see, and how they report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from dbperf.plans.derive import nodes_ms
from dbperf.plans.tree import Tree, label
from dbperf.records.base import Record
from dbperf.records.plans import Finding, Plan, PlanNode

Severity = Literal["info", "warning", "critical"]


class Thresholds(Record, frozen=True, kw_only=True):
    """From when on something is worth a person's time. The defaults keep healthy plans free of findings."""

    min_ms: float = 1.0
    """Findings that explain less time are left out..."""
    min_share: float = 0.05
    """...and those that explain less of the plan (0..1)."""
    critical_ms: float = 100.0
    critical_share: float = 0.5
    """A finding that explains both is critical."""
    many_rows: float = 1000
    """Rows that are worth avoiding."""
    big_table_rows: float = 10_000
    """Without ANALYZE: tables from which on a scan is worth a finding."""
    discarded: float = 0.9
    """Share of rows read and thrown away."""
    misestimate: float = 10
    slow_block_ms: float = 1.0
    """Time of one block read from storage: a fast disk needs 0.1 ms, a spinning one 5 to 10."""
    read_share: float = 0.2
    """Share of the time spent reading blocks from outside shared_buffers, from which on it matters (0..1)."""
    many_blocks: int = 1000
    """8 MB."""
    big_scan_ms: float = 200
    wait_ms: float = 50
    """Per row changed or locked: more is waiting, not work."""
    wide_bytes: int = 1000


class Index(NamedTuple):
    name: str
    columns: tuple[str, ...]
    """Key columns or expressions, as pg_get_indexdef prints them."""
    method: str = "btree"
    pattern_ops: bool = False
    """The first column has text_pattern_ops or the C collation, which LIKE 'prefix%' needs."""
    partial: bool = False


class Table(NamedTuple):
    """What the server knows about a relation."""

    schema: str
    name: str
    rows: float
    """reltuples; -1: never analysed."""
    types: dict[str, str]
    """Column to type, as format_type prints it."""
    indexes: tuple[Index, ...] = ()
    statistics: bool = True
    """There are column statistics (ANALYZE has run)."""
    pages: int | None = None
    """Blocks of the table itself, without TOAST, when VACUUM or ANALYZE last looked."""


Facts = dict[tuple[str | None, str], Table]
"""Tables by (schema, name), and by (None, name) where that is unambiguous. Empty when a plan is read offline."""


class Context:
    """A plan as rules see it."""

    def __init__(self, plan: Plan, *, statement: str | None, facts: Facts, thresholds: Thresholds) -> None:
        self.plan = plan
        self.tree = Tree(plan)
        self.nodes = self.tree.nodes
        self.statement = statement
        self.facts = facts
        self.at = thresholds
        self.timed = plan.root.total_ms is not None
        total = plan.execution_ms or nodes_ms(plan)
        self.total_ms = total if self.timed else None

    def of_type(self, *types: str) -> Iterator[PlanNode]:
        """Nodes of these types that ran, or all where nothing ran (EXPLAIN without ANALYZE)."""
        for node in self.nodes:
            if node.node_type in types and node.loops != 0:
                yield node

    def table(self, node: PlanNode) -> Table | None:
        return self.facts.get((node.schema, node.relation)) if node.relation else None

    def share(self, ms: float | None) -> float | None:
        """Of the plan's time (0..1)."""
        if ms is None or not self.total_ms:
            return None
        return min(1.0, ms / self.total_ms)

    def matters(self, ms: float | None) -> bool:
        """Whether a time is worth a finding. Without times everything is."""
        share = self.share(ms)
        return share is None or (ms is not None and ms >= self.at.min_ms and share >= self.at.min_share)


Evidence = dict[str, float | int | str | None]
Check = Callable[[Context], Iterator["Seen"]]


class Seen(NamedTuple):
    """What a rule's function yields; `find` makes a Finding of it."""

    node: PlanNode | None
    evidence: Evidence
    explains_ms: float | None
    advice: str
    sql: str | None = None
    severity: Severity | None = None
    """Instead of the one that follows from the time explained."""


class Rule(NamedTuple):
    id: str
    title: str
    severity: Severity
    """The usual one; `warning` becomes `critical` where it explains most of a long time."""
    check: Check
    needs_facts: bool = False
    """Says nothing about plans that are read offline."""

    def findings(self, context: Context) -> Iterator[Finding]:
        for seen in self.check(context):
            share = context.share(seen.explains_ms)
            severity = seen.severity or self.severity
            heavy = (
                share is not None
                and seen.explains_ms is not None
                and share >= context.at.critical_share
                and seen.explains_ms >= context.at.critical_ms
            )
            yield Finding(
                rule_id=self.id,
                severity="critical" if heavy and severity == "warning" else severity,
                title=self.title,
                node_id=seen.node.node_id if seen.node else None,
                node=label(seen.node) if seen.node else None,
                evidence=seen.evidence,
                explains_ms=seen.explains_ms,
                share=share,
                advice=seen.advice,
                sql=seen.sql,
            )


RULES: dict[str, Rule] = {}
"""All rules by id, in the order of their modules."""


def rule(
    id_: str, title: str, severity: Severity = "warning", *, needs_facts: bool = False
) -> Callable[[Check], Check]:
    """Registers a function as a rule."""

    def register(check: Check) -> Check:
        assert id_ not in RULES
        RULES[id_] = Rule(id_, title, severity, check, needs_facts)
        return check

    return register


def rows_out(node: PlanNode) -> float:
    """Rows that a node returned, over all loops and workers."""
    return (node.actual_rows or 0.0) * (node.loops or 0.0)


def removed(node: PlanNode, by: str = "Filter") -> float:
    """Rows that a node read and threw away, over all loops. EXPLAIN prints the average per loop."""
    value = node.extra.get(f"Rows Removed by {by}")
    return float(value) * (node.loops or 0.0) if isinstance(value, int | float) else 0.0


def number(node: PlanNode, key: str) -> float:
    """A figure of a node's `extra`, 0 where there is none."""
    value = node.extra.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def count(n: float) -> str:
    """A count in a sentence."""
    return f"{n:,.0f}"
