"""Index changes that a DBA signs, what applying them did, and what measuring them showed."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from dbperf.records.base import Document, Record
from dbperf.records.load import Quantile
from dbperf.records.plans import Plan

ProofVerdict = Literal["keep", "reject", "cant_tell"]
EffectVerdict = Literal["better", "worse", "unchanged", "cant_tell"]


class IndexChange(Record, frozen=True, kw_only=True):
    """One change, as the statements that make and undo it; each is run on its own."""

    action: Literal["create", "drop", "set"]
    schema: str
    table: str
    name: str
    """Of the index; of the table where its settings change."""
    up_sql: list[str]
    """Without semicolons."""
    down_sql: list[str]
    reason: str
    size_bytes: int | None = None
    """Created: estimated, or real where it was measured; dropped: real."""
    gain: float | None = None
    """Share of the workload's cost (0..1)."""
    statements: list[str] = []
    """Ids of the statements that it serves."""
    frees_first: bool = False
    """Of a drop: nothing that is created stands in for it, so it comes first."""


class Migration(Document, frozen=True, kw_only=True):
    """`migration.json` beside up.sql and down.sql: what they say, for `dbperf apply` to compare with."""

    kind: ClassVar[str] = "index_migration"
    file_name: ClassVar[str] = "migration.json"

    created_at: datetime
    dbperf_version: str
    source: str
    """The database that the advice is for, password masked."""
    server_version: str
    changes: list[IndexChange]
    """In the order of up.sql."""
    up_sha256: str
    down_sha256: str


class AppliedStatement(Record, frozen=True, kw_only=True):
    """One statement of the file, and what became of it."""

    sql: str
    name: str
    """The index or table."""
    outcome: Literal["done", "already", "repaired", "planned", "failed", "not_reached"]
    """`repaired`: an invalid index was in the way and was removed first. `planned`: of a rehearsal."""
    note: str | None = None
    elapsed_s: float = 0.0
    waited_s: float = 0.0
    """For locks, in tries that were given up."""
    tries: int = 0
    size_bytes: int | None = None
    """Real size of what was built."""
    estimated_bytes: int | None = None


class Applied(Document, frozen=True, kw_only=True):
    """What `dbperf apply` did."""

    kind: ClassVar[str] = "index_applied"
    file_name: ClassVar[str] = "applied.json"

    target: str
    direction: Literal["up", "down"]
    started_at: datetime
    elapsed_s: float
    complete: bool
    statements: list[AppliedStatement]
    notes: list[str] = []
    error: str | None = None


class ColdProof(Record, frozen=True, kw_only=True):
    """First executions after the caches were emptied, with and without one index in turns; medians."""

    pairs: int
    before_ms: float
    after_ms: float
    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    """95 % interval; None with fewer than 6 pairs."""


class StatementProof(Record, frozen=True, kw_only=True):
    """One statement, measured with and without one index in turns. Times are medians of execution, warm."""

    id: str
    text: str | None
    calls: float
    values: Literal["none", "drawn", "given"]
    """Where its parameters' values came from."""
    pairs: int
    before_ms: float | None
    after_ms: float | None
    ratio: float | None
    """Median of after over before, pair by pair; below 1: faster with the index."""
    ratio_low: float | None
    ratio_high: float | None
    """95 % interval."""
    cost_before: float | None
    cost_after: float | None
    buffers_before: int | None
    buffers_after: int | None
    """Shared blocks, hit or read, of one execution."""
    uses_index: bool
    recall: float | None = None
    """Of an approximate index: the share of the exact answer's rows that it finds (0..1)."""
    plan_before: Plan | None = None
    plan_after: Plan | None = None
    cold: ColdProof | None = None
    """Only where dbperf started the server itself."""
    verdict: EffectVerdict
    error: str | None = None
    """Why it was not measured."""


class WriteProof(Record, frozen=True, kw_only=True):
    """A statement that writes, measured with and without one index in turns, each time rolled back."""

    id: str
    text: str | None
    calls: float
    pairs: int
    before_ms: float | None
    after_ms: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    verdict: EffectVerdict
    error: str | None = None


class IndexProof(Record, frozen=True, kw_only=True):
    """One index: built, measured, judged."""

    name: str
    schema: str
    table: str
    create_sql: str
    verdict: ProofVerdict
    reason: str
    size_bytes: int | None
    estimated_bytes: int | None
    build_s: float | None
    saved_ms: float | None = None
    """Of the workload's measured time, weighted by calls, what the index saves; below 0: what it costs."""
    write_cost_ratio: float | None = None
    """Time of the workload's writes to the table with the index over without, weighted by calls."""
    statements: list[StatementProof] = []
    writes: list[WriteProof] = []


class EndpointProof(Record, frozen=True, kw_only=True):
    """An endpoint under the same load before and after."""

    endpoint: str
    requests_before: int
    requests_after: int
    errors_before: int = 0
    errors_after: int = 0
    quantiles_before: list[Quantile]
    quantiles_after: list[Quantile]
    p50_ratio: float | None = None
    p50_ratio_low: float | None = None
    p50_ratio_high: float | None = None
    p95_ratio: float | None
    """After over before; None with too few requests for it. So for P50."""
    p95_ratio_low: float | None
    p95_ratio_high: float | None
    verdict: EffectVerdict
    """Of P50 and P95 together: slower where one is shown to be, else faster where one is."""
    judged_q: float | None = None
    """The percentile (0..1) that decides; None: none could be compared, or a record of before there was a choice."""


class QueryProof(Record, frozen=True, kw_only=True):
    """A query with a limit, executed before any index was built and again with all that were kept."""

    id: str
    title: str
    limit_ms: float
    """Of P95."""
    wanted_plan: str | None
    """"index scan" or "vector index"; None: any."""
    executions: int
    """Counted after; before there may be more or fewer."""
    executions_before: int | None = None
    p95_before_ms: float | None
    p95_before_low_ms: float | None = None
    p95_before_high_ms: float | None = None
    p95_after_ms: float | None
    p95_after_low_ms: float | None
    p95_after_high_ms: float | None
    """95 % interval; None with fewer than 72 executions."""
    index_before: str | None = None
    index: str | None
    """That its plan uses afterwards."""
    verdict: Literal["pass", "fail", "cant_tell"]
    reason: str


class Proof(Document, frozen=True, kw_only=True):
    """`proof.json`."""

    kind: ClassVar[str] = "proof"
    file_name: ClassVar[str] = "proof.json"

    target: str
    server_version: str
    started_at: datetime
    elapsed_s: float
    indexes: list[IndexProof]
    endpoints: list[EndpointProof] = []
    queries: list[QueryProof] = []
    kept: bool = False
    """Whether the indexes with the verdict keep were left in place."""
    cold: str | None = None
    """Which caches were empty for the cold figures; None: all figures are warm."""
    load_before_s: float | None = None
    load_after_s: float | None = None
    """How long the endpoints were measured."""
    notes: list[str] = []
    complete: bool = True
