"""The Phase 3 service levels and the limits of DB-001..006, as the specification's tables have them."""

from __future__ import annotations

from typing import Literal

from dbperf.records.base import Record
from dbperf.records.verdicts import ServiceLevel

SERVICE_LEVELS: tuple[ServiceLevel, ...] = (
    ServiceLevel(endpoint="POST /reflection/analyze", p50_ms=500, p95_ms=1_000, p99_ms=2_000),
    ServiceLevel(endpoint="POST /reflection/batch", p50_ms=5_000, p95_ms=10_000, p99_ms=15_000),
    ServiceLevel(endpoint="POST /consolidation/run", p50_ms=1_500, p95_ms=3_000, p99_ms=5_000),
    ServiceLevel(endpoint="POST /consolidation/dry-run", p50_ms=1_000, p95_ms=2_000, p99_ms=3_000),
    ServiceLevel(endpoint="GET */health", p50_ms=50, p95_ms=100, p99_ms=200),
)


class RunLevels(Record, frozen=True, kw_only=True):
    """Limits of a whole run."""

    error_rate_by_users: dict[int, float]
    """Users of a stage to the share of errors (0..1) that it stays below."""
    error_rate_spike: float
    error_rate_soak: float
    requests_per_s: float
    """At least."""
    p95_growth_by_users: dict[int, float]
    """Users of a stage to how much its P95 may exceed the 10-user stage's (0.5: by half)."""
    spike_recovery_s: float
    """After the spike, P99 is back at its baseline within this time."""
    pool_share: float
    """Share of the connection pool in use, at most."""
    memory_per_worker_bytes: int
    cpu_share: float
    blocked_s: float
    """No transaction blocks another for longer."""
    profiling_overhead_share: float


RUN_LEVELS = RunLevels(
    error_rate_by_users={10: 0.001, 50: 0.01, 100: 0.05},
    error_rate_spike=0.10,
    error_rate_soak=0.005,
    requests_per_s=100,
    p95_growth_by_users={50: 0.5, 100: 1.0},
    spike_recovery_s=30,
    pool_share=0.8,
    memory_per_worker_bytes=2 << 30,
    cpu_share=0.8,
    blocked_s=1,
    profiling_overhead_share=0.05,
)


class QueryLevel(Record, frozen=True, kw_only=True):
    """A query with a limit."""

    id: str
    title: str
    file: str
    """Below sql/."""
    p95_ms: float
    plan: Literal["index scan", "vector index"] | None
    """What its plan must use."""
    draw_parameters: str | None = None
    """A query whose rows are parameters ($1), drawn as use has it; $1 is how many to draw. None: no parameter."""


QUERY_LEVELS: tuple[QueryLevel, ...] = (
    QueryLevel(
        id="DB-001", title="active cases with success_rate < 30, by usage_count, first 100",
        file="phase3/db-001.sql", p95_ms=50, plan="index scan",
    ),
    QueryLevel(
        id="DB-002", title="cases by usage_count, first 100", file="phase3/db-002.sql", p95_ms=50, plan="index scan"
    ),
    QueryLevel(id="DB-003", title="case_bank by status", file="phase3/db-003.sql", p95_ms=100, plan=None),
    QueryLevel(
        id="DB-004", title="newest 100 logs of one case", file="phase3/db-004.sql", p95_ms=20, plan="index scan",
        draw_parameters="SELECT case_id FROM execution_log ORDER BY random() LIMIT $1",
    ),
    QueryLevel(id="DB-005", title="logs counted per case", file="phase3/db-005.sql", p95_ms=100, plan=None),
    QueryLevel(
        id="DB-006", title="10 nearest cases by cosine distance", file="phase3/db-006.sql", p95_ms=200,
        plan="vector index",
        draw_parameters="SELECT query_vector FROM case_bank WHERE query_vector IS NOT NULL ORDER BY random() LIMIT $1",
    ),
)  # fmt: skip

# A popular case is asked for more often: drawing logs draws cases by their use. Statuses are mixed, as they are in use.
CASES_BY_POPULARITY = "SELECT case_id FROM execution_log ORDER BY random() LIMIT $1"
ARCHIVED_CASES = "SELECT case_id FROM case_bank_archive ORDER BY random() LIMIT $1"
