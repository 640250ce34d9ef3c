"""Everything that a report says, as typed data: the HTML, the Markdown and `report.json` all show these figures."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from dbperf.records.advice import Advice
from dbperf.records.base import Document, Record
from dbperf.records.capacity import Capacity
from dbperf.records.flames import Flames
from dbperf.records.load import ErrorCount, Quantile
from dbperf.records.plans import Finding, Plan
from dbperf.records.profile import ProfileSummary
from dbperf.records.proof import Proof
from dbperf.records.run import Host, LoadProfile, Provenance, RunStage, RunStatus, Server, Target
from dbperf.records.trace import Trace
from dbperf.records.verdicts import GateVerdict, LevelVerdict, Verdict
from dbperf.records.waits import Waits
from dbperf.report.changes_model import ChangesReport

Severity = Literal["info", "warning", "critical"]


class Fact(Record, frozen=True, kw_only=True):
    """One of the facts that matter: a figure, what it is, and where its evidence stands."""

    kind: Literal[
        "service_level", "errors", "statement", "finding", "requests", "endpoint", "statements_seen", "load", "proof"
    ]
    figure: str
    """Short, with its unit: "2.1 ×", "61 %"."""
    text: str
    code: str | None = None
    """The statement that it is about, on one line."""
    anchor: str | None = None
    """Id of the evidence in the HTML."""
    status: Verdict | Severity | None = None


class VerdictWords(Record, frozen=True, kw_only=True):
    """The verdict in words."""

    overall: Verdict | None
    """None: nothing was judged."""
    title: str
    text: str
    passed: int
    failed: int
    cant_tell: int
    facts: list[Fact]
    remedy: Fact | None = None
    """What helps, as it was measured; None where nothing was tried."""


class Missing(Record, frozen=True, kw_only=True):
    """A part that the report would have, and why this one does not."""

    part: str
    reason: str


class Note(Record, frozen=True, kw_only=True):
    """What weakens which figure."""

    about: str
    """"load", "statements", "POST /search", ..."""
    text: str
    severity: Severity = "info"


class Bin(Record, frozen=True, kw_only=True):
    """A bar of a latency distribution: requests that took from `low_ms` to below `high_ms`."""

    low_ms: float
    high_ms: float
    count: int


class TimelinePoint(Record, frozen=True, kw_only=True):
    """A stretch of the load, one second or (of a long load) several."""

    at_s: float
    seconds: int
    requests_per_s: float
    errors: int
    p50_ms: float | None
    """Of one second; the median of the seconds' medians where several are joined."""
    p95_ms: float | None
    """Of one second; the highest of the seconds' where several are joined."""


class HeatColumn(Record, frozen=True, kw_only=True):
    """How the requests that ended in a stretch of the load were distributed: `counts[i]` took from `edges_ms[i]` to
    below `edges_ms[i + 1]`."""

    at_s: float
    seconds: int
    edges_ms: list[float]
    counts: list[int]


class EndpointReport(Record, frozen=True, kw_only=True):
    """One endpoint in one stage."""

    anchor: str
    name: str
    stage: str
    verdict: Verdict | None
    """The worst of its levels; None: it has no service level."""
    requests: int
    requests_share: float
    """Of the stage's requests (0..1)."""
    requests_per_s: float
    requests_per_s_ci: tuple[float, float] | None
    unfinished: int
    """Requests that had not ended when the load did."""
    errors: int
    error_rate: float | None
    """0..1; None where nothing was requested."""
    errors_by_kind: list[ErrorCount]
    mean_ms: float | None
    min_ms: float | None
    max_ms: float | None
    quantiles: list[Quantile]
    levels: list[LevelVerdict]
    distribution: list[Bin]
    timeline: list[TimelinePoint]
    heat: list[HeatColumn]
    """Empty where the load kept no distributions over time."""
    measured_from_s: float
    """On the timeline; before it is ramp and warm-up, which no other figure includes."""
    measured_to_s: float
    timeline_step_s: int
    """Seconds per point of the timeline."""


class StatementReport(Record, frozen=True, kw_only=True):
    """One normalised statement, with its plan where there is one."""

    anchor: str
    rank: int
    queryid: str
    """A string: JavaScript can't hold 64 bits."""
    fingerprint: str
    text: str
    user: str | None
    database: str | None
    calls: int
    calls_per_request: float | None
    total_ms: float
    share: float
    """Of all statement time in the window (0..1)."""
    planning_ms: float | None
    mean_ms: float | None
    """None where it was planned but never executed."""
    max_ms: float | None
    """Of the window; None where only the maximum over the entry's life is known."""
    stddev_ms: float | None
    rows_per_call: float | None
    hit_ratio: float | None
    shared_blks_hit: int
    shared_blks_read: int
    temp_blks_written: int
    blk_read_ms: float | None
    wal_bytes: int | None
    merged: int
    note: str | None
    how: str | None
    """Where the plan's parameters came from."""
    parameters: list[str | None]
    plan: Plan | None
    plan_error: str | None
    findings: list[Finding]


class StatementsReport(Record, frozen=True, kw_only=True):
    """What the database did in the load window."""

    started_at: datetime
    ended_at: datetime
    window_s: float
    total_ms: float
    total_calls: int
    attributed_share: float | None
    statements: list[StatementReport]
    left_out: int
    """Statements beyond the report's limit, the ones with the least time."""
    left_out_ms: float


class ResourcePoint(Record, frozen=True, kw_only=True):
    """A sample during the load, or the highest values of several."""

    at_s: float
    machine_cpu_share: float | None
    """Of all cores (0..1)."""
    target_cpu_cores: float | None
    """All processes of the API together; 1.5: one and a half cores."""
    target_rss_bytes: float | None
    active_sessions: float | None
    locks_waiting: float | None


class ResourcesReport(Record, frozen=True, kw_only=True):
    """What was used during the load."""

    points: list[ResourcePoint]
    samples_per_point: int
    machine_cpu_share_mean: float
    steal_share_max: float
    deadlocks: int
    blocked_s_max: float | None
    """Longest that a session waited for another's lock; None: none was seen waiting."""
    connections_max: int | None
    max_connections: int | None
    pool_size: int | None


class LoadReport(Record, frozen=True, kw_only=True):
    """What the load generator did."""

    suite: str
    url: str
    started_at: datetime
    ended_at: datetime
    complete: bool
    requests: int
    errors: int
    requests_per_s: float | None
    """Over the measured stages."""
    stages: list[str]
    engine: str


class Environment(Record, frozen=True, kw_only=True):
    host: Host
    server: Server | None
    target: Target | None
    load_profile: LoadProfile | None
    git_revision: str | None
    dbperf_version: str


class Report(Document, frozen=True, kw_only=True):
    """`report.json`."""

    kind: ClassVar[str] = "report"
    file_name: ClassVar[str] = "report.json"

    name: str
    provenance: Provenance
    status: RunStatus
    redacted: bool
    started_at: datetime
    ended_at: datetime | None
    command: list[str]
    verdict: VerdictWords
    load: LoadReport | None
    endpoints: list[EndpointReport]
    levels: list[LevelVerdict]
    """Service levels that are not of one endpoint: for all requests, or for a pattern that nothing matched."""
    statements: StatementsReport | None
    gates: list[GateVerdict]
    trace: Trace | None
    flames: Flames | None
    advice: Advice | None
    proof: Proof | None
    waits: Waits | None
    changes: ChangesReport | None
    """Against another run or a baseline; None where nothing was asked for."""
    profile: ProfileSummary | None
    resources: ResourcesReport | None
    capacity: Capacity | None
    """Of a load with stages of several loads."""
    stages: list[RunStage]
    missing: list[Missing]
    notes: list[Note]
    environment: Environment
