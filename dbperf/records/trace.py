"""What every request did: statements, transactions, waits, and the findings that follow (`trace.json`).

Times are milliseconds on the client's side: they hold the network and the driver, and for COMMIT the WAL flush that
pg_stat_statements does not show. `total_ms` sums over all requests of the trace; `per_request` values are means.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from dbperf.records.base import Document, Record


class Spread(Record, frozen=True, kw_only=True):
    """A count or a time over requests."""

    median: float
    max: float


class TraceFinding(Record, frozen=True, kw_only=True):
    """A pattern that costs time, where it is, and what to do."""

    rule_id: str
    severity: Literal["info", "warning", "critical"]
    title: str
    route: str
    fingerprint: str | None = None
    text: str | None = None
    """The statement, with $1, $2 for parameters."""
    source: str | None = None
    """"file:line" of the application's own frame."""
    per_request: Spread | None = None
    """How often a request did it."""
    saved_ms: float | None = None
    """Estimate of what a request would save without the pattern; the rule's documentation has the formula."""
    evidence: dict[str, float | int | str | None]
    advice: str


class TraceStatement(Record, frozen=True, kw_only=True):
    """One statement of one endpoint, from one source line."""

    fingerprint: str | None
    """libpg_query's; None where its parser does not know the text."""
    text: str
    source: str | None
    """"file:line" of the application's own frame; None: called from no frame of the application."""
    function: str | None = None
    queryid: int | None = None
    """pg_stat_statements' own, where the trace was joined with it."""
    calls: int
    per_request: float
    """Mean over the endpoint's requests."""
    max_per_request: int
    executions: int
    """Calls, with executemany counted per parameter set."""
    total_ms: float
    median_ms: float
    max_ms: float
    server_ms: float | None = None
    """`calls` times the server's mean time of the statement, where the trace was joined with pg_stat_statements."""
    rows: int | None = None
    row_bytes: float | None = None
    """Mean size of a fetched row as the driver returned it, estimated from samples; None: not known."""
    wide_columns: dict[str, float] = {}
    """Column to its mean size in bytes, for columns of 2 kB and more (what PostgreSQL stores in TOAST)."""
    errors: int = 0


class RequestMeans(Record, frozen=True, kw_only=True):
    """The parts of a mean request; duration_ms = sql_ms + pool_wait_ms + python_ms."""

    duration_ms: float
    sql_ms: float
    pool_wait_ms: float
    python_ms: float


class EndpointTrace(Record, frozen=True, kw_only=True):
    """One endpoint. `sql_ms`, `pool_wait_ms` and `python_ms` sum over all its requests and add up to `total_ms`.

    Where statements of a request overlap (gather), `sql_ms` counts the wall time once.
    """

    route: str
    """"GET /cases/{case_id}": method and route template."""
    handler: str | None = None
    """"file:line function" of the endpoint's function, where the framework tells it."""
    requests: int
    errors: int
    """Requests that ended with a status of 500 or more, or with an exception."""
    unfinished: int = 0
    total_ms: float
    duration_ms: Spread
    statements_per_request: Spread
    sql_ms: float
    pool_wait_ms: float
    python_ms: float
    """All that is neither a statement nor a wait for a connection: Python, and other awaits."""
    per_request: RequestMeans
    transactions: int = 0
    commits_per_request: Spread
    commit_ms: float
    """Over all requests, COMMIT as the client saw it."""
    commit_median_ms: float | None
    rollbacks: int = 0
    pings: int = 0
    ping_ms: float = 0.0
    checkouts: int = 0
    gc_ms: float = 0.0
    """Pauses of Python's garbage collector while requests of this endpoint were in flight."""
    background_ms: float = 0.0
    """After the response was sent: background tasks, clean-up."""
    fetched_bytes: int | None = None
    response_bytes: int | None = None
    statements: list[TraceStatement]
    """By total time, largest first."""
    findings: list[TraceFinding]


class LoopBlock(Record, frozen=True, kw_only=True):
    """A place that kept the event loop from running, over all its occurrences."""

    source: str
    """"file:line" of the innermost frame of the application."""
    function: str
    route: str | None
    """The endpoint that did it; None where the stack does not show it."""
    count: int
    total_ms: float
    max_ms: float
    delayed: dict[str, int]
    """Other endpoints to how many of their requests were in flight meanwhile."""


class GcPauses(Record, frozen=True, kw_only=True):
    """Python's garbage collector over the trace."""

    count: int
    total_ms: float
    max_ms: float
    by_generation: dict[str, int]


class Trace(Document, frozen=True, kw_only=True):
    """`trace.json`."""

    kind: ClassVar[str] = "trace"
    file_name: ClassVar[str] = "trace.json"

    started_at: datetime
    ended_at: datetime
    requests: int
    processes: int
    endpoints: list[EndpointTrace]
    """By total time, largest first."""
    loop_blocks: list[LoopBlock] = []
    gc: GcPauses | None = None
    complete: bool
    """False where the traced process was killed, or lost events."""
    notes: list[str] = []
