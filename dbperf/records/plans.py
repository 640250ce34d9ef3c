"""Plan trees, as typed data. Field names are EXPLAIN's own; what is derived says so."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from dbperf.records.base import Document, Record


class Buffers(Record, frozen=True, kw_only=True):
    """Blocks of 8 kB (BLCKSZ) and I/O times of a node, its children included, over all loops and workers."""

    shared_hit: int = 0
    shared_read: int = 0
    shared_dirtied: int = 0
    shared_written: int = 0
    local_hit: int = 0
    local_read: int = 0
    local_dirtied: int = 0
    local_written: int = 0
    temp_read: int = 0
    temp_written: int = 0
    read_ms: float | None = None
    write_ms: float | None = None
    temp_read_ms: float | None = None
    temp_write_ms: float | None = None


class PlanNode(Record, frozen=True, kw_only=True):
    """One node of a plan.

    `actual_*` are per loop, as EXPLAIN prints them, and None without ANALYZE or for a node that never ran (its `loops`
    is 0). `total_ms`, `self_ms`, `self_buffers` and `row_error` are derived (dbperf.plans.derive). The node in words
    ("Parallel Seq Scan on t") is `dbperf.plans.tree.label`.
    """

    node_id: int
    """Pre-order number from 0, the same for the same plan shape."""
    node_type: str
    parent_relationship: str | None = None
    subplan_name: str | None = None
    relation: str | None = None
    schema: str | None = None
    alias: str | None = None
    index_name: str | None = None
    join_type: str | None = None
    strategy: str | None = None
    startup_cost: float | None = None
    total_cost: float | None = None
    plan_rows: float | None = None
    plan_width: int | None = None
    actual_startup_ms: float | None = None
    actual_total_ms: float | None = None
    actual_rows: float | None = None
    loops: float | None = None
    parallel_aware: bool = False
    """EXPLAIN prints "Parallel" before the node's name: its rows are shared out among the workers."""
    workers_planned: int | None = None
    workers_launched: int | None = None
    buffers: Buffers | None = None
    conditions: dict[str, str] = {}
    """"Filter", "Index Cond", "Hash Cond", "Join Filter", "Recheck Cond", ... to its expression."""
    extra: dict[str, Any] = {}
    """Every other key that EXPLAIN printed, untouched."""
    total_ms: float | None = None
    """Wall time spent in the node and its children over all loops; parallel workers overlap and count once."""
    self_ms: float | None = None
    """`total_ms` less the children's, and less the InitPlans and CTEs that ran when this node asked for their rows.
    The self times of a plan sum to its root's `total_ms` (dbperf.plans.derive.nodes_ms)."""
    self_buffers: Buffers | None = None
    row_error: float | None = None
    """Actual over estimated rows, both at least 1; above 1: underestimated. None where the two can't be compared: never
    executed, or stopped before its end (below a LIMIT) with fewer rows than estimated."""
    children: list[PlanNode] = []


class Trigger(Record, frozen=True, kw_only=True):
    name: str
    relation: str | None = None
    constraint: str | None = None
    total_ms: float | None
    calls: int


class Plan(Record, frozen=True, kw_only=True):
    """One EXPLAIN. `extra` holds what else it printed: "Query Text" and "Query Parameters" of auto_explain,
    "Serialization", ..."""

    root: PlanNode
    analyzed: bool
    planning_ms: float | None = None
    execution_ms: float | None = None
    """As EXPLAIN prints it: nodes, triggers, and starting and ending the executor."""
    planning_buffers: Buffers | None = None
    triggers: list[Trigger] = []
    jit: dict[str, Any] | None = None
    settings: dict[str, str] = {}
    query_id: int | None = None
    extra: dict[str, Any] = {}


class Finding(Record, frozen=True, kw_only=True):
    """What a rule saw in a plan, a profile or a trace, in numbers, and what to do."""

    rule_id: str
    severity: Literal["info", "warning", "critical"]
    title: str
    node_id: int | None = None
    node: str | None = None
    """The node in words: "Seq Scan on execution_log"."""
    evidence: dict[str, float | int | str | None]
    explains_ms: float | None = None
    """How much of the plan's time it explains."""
    share: float | None = None
    """The same as a share of the plan's time (0..1)."""
    advice: str
    sql: str | None = None


class StatementPlan(Record, frozen=True, kw_only=True):
    """The plan of a statement of a profile, or why there is none."""

    queryid: int | None
    fingerprint: str | None = None
    text: str
    how: Literal["generic", "values", "analyze", "logged", "given"] | None
    """Where the parameters came from: generic plan, values drawn from statistics, executed, a log, as given."""
    parameters: list[str | None] = []
    plan: Plan | None
    findings: list[Finding] = []
    error: str | None = None


class ExplainedCase(Record, frozen=True, kw_only=True):
    """A statement executed, or planned, with one set of values."""

    case: str
    """"typical", "common", "rare" (drawn from statistics) or "given"."""
    parameters: list[str | None]
    origins: list[str] = []
    """Where each value comes from."""
    plan: Plan
    findings: list[Finding] = []


class Explanation(Record, frozen=True, kw_only=True):
    """What `dbperf explain` says: a plan, what is wrong in it, and how it came about."""

    statement: str | None = None
    how: Literal["generic", "values", "analyze", "logged", "given"]
    parameters: list[str | None] = []
    plan: Plan
    """With several cases the one that took longest."""
    findings: list[Finding] = []
    cases: list[ExplainedCase] = []
    """All cases where values were drawn from statistics."""
    notes: list[str] = []


class NodeChange(Record, frozen=True, kw_only=True):
    """A part of the statement as two plans do it. None: only the other plan has it."""

    before: str | None
    after: str | None
    before_id: int | None = None
    after_id: int | None = None
    before_ms: float | None = None
    """Self time."""
    after_ms: float | None = None
    before_rows: float | None = None
    after_rows: float | None = None
    before_cost: float | None = None
    after_cost: float | None = None
    changed: bool
    """Another node type, index or join order; times alone are no change."""


class PlanComparison(Record, frozen=True, kw_only=True):
    """Two plans of the same statement."""

    same_shape: bool
    before_ms: float | None = None
    after_ms: float | None = None
    before_cost: float | None = None
    after_cost: float | None = None
    indexes_gone: list[str] = []
    indexes_come: list[str] = []
    nodes: list[NodeChange] = []


class Plans(Document, frozen=True, kw_only=True):
    """`plans.json`."""

    kind: ClassVar[str] = "plans"
    file_name: ClassVar[str] = "plans.json"

    plans: list[StatementPlan]
