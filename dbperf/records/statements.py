"""Statement statistics over a window: the difference of two snapshots of pg_stat_statements."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from dbperf.records.base import Document, Record

OrderBy = Literal["total", "mean", "io", "temp", "wal", "planning", "rows"]


class StatementKey(Record, frozen=True, kw_only=True, order=True):
    """pg_stat_statements' own key."""

    user_id: int
    database_id: int
    queryid: int
    toplevel: bool


class Window(Record, frozen=True, kw_only=True):
    """The stretch of time between two snapshots, on the server's clock."""

    started_at: datetime
    ended_at: datetime
    seconds: float
    """By dbperf's monotonic clock: the server's may be set while it runs."""


class Validity(Record, frozen=True, kw_only=True):
    """What happened in the window that weakens its figures."""

    complete: bool
    """Nothing below happened."""
    reset: bool = False
    """pg_stat_statements was reset in the window."""
    restarted: bool = False
    """The server restarted in the window."""
    evictions: int | None = None
    """Times that entries were thrown out in the window (dealloc). Version 1.8 does not count them: 0 there where
    the table was never full, else None."""
    lost_statements: int = 0
    """Entries that were there at the start and gone at the end: what they did in the window is unknown."""
    invalid_statements: int = 0
    """Listed statements whose figures cover only a part of the window."""
    hidden_statements: int = 0
    """Entries of other roles that were active in the window and whose identity this role may not see."""
    hidden_ms: float = 0.0
    """Time of the hidden ones: part of `total_ms` of the profile, but of no statement in it."""
    clock_change_s: float | None = None
    """By how much the server's clock was set in the window; None: it was not."""
    settings: dict[str, str] = {}
    """Settings that decide what is tracked: pg_stat_statements.*, compute_query_id, track_io_timing."""
    notes: list[str] = []


class Statement(Record, frozen=True, kw_only=True):
    """One normalised statement over the window. Times are milliseconds of server time; None: not tracked there."""

    queryid: int
    fingerprint: str
    """libpg_query's fingerprint: the same for IN lists and VALUES of different length."""
    text: str
    """As pg_stat_statements normalised it, with $1, $2 for constants."""
    merged: int = 1
    """How many pg_stat_statements entries are summed here."""
    user: str | None = None
    database: str | None = None
    toplevel: bool = True
    calls: int
    total_ms: float
    mean_ms: float | None
    """None where it was planned but never executed."""
    min_ms: float | None = None
    max_ms: float | None = None
    min_max_of: Literal["window", "life"] = "life"
    """pg_stat_statements keeps minimum and maximum over an entry's life. They are the window's own where the entry
    began in the window, or both moved in it."""
    stddev_ms: float | None = None
    """Of the window's own calls, worked out from both snapshots; None where that is lost in rounding."""
    plans: int | None = None
    planning_ms: float | None = None
    """Not in `total_ms`; None: pg_stat_statements.track_planning is off."""
    share: float
    """Of all statement time in the window, planning included where tracked (0..1)."""
    calls_per_request: float | None = None
    rows: int
    rows_per_call: float | None
    """None where it was planned but never executed."""
    shared_blks_hit: int
    shared_blks_read: int
    shared_blks_dirtied: int
    shared_blks_written: int
    local_blks_hit: int = 0
    local_blks_read: int = 0
    local_blks_dirtied: int = 0
    local_blks_written: int = 0
    temp_blks_read: int
    temp_blks_written: int
    hit_ratio: float | None
    """hit / (hit + read) of shared blocks; None where it touched none."""
    blk_read_ms: float | None = None
    blk_write_ms: float | None = None
    local_blk_read_ms: float | None = None
    local_blk_write_ms: float | None = None
    temp_blk_read_ms: float | None = None
    temp_blk_write_ms: float | None = None
    wal_records: int | None = None
    wal_fpi: int | None = None
    wal_bytes: int | None = None
    wal_buffers_full: int | None = None
    jit_functions: int | None = None
    jit_ms: float | None = None
    parallel_workers_to_launch: int | None = None
    parallel_workers_launched: int | None = None
    valid: bool = True
    validity_note: str | None = None


class Statements(Document, frozen=True, kw_only=True):
    """`statements.json`."""

    kind: ClassVar[str] = "statements"
    file_name: ClassVar[str] = "statements.json"

    window: Window
    validity: Validity
    extension_version: str
    total_ms: float
    """Execution and, where tracked, planning of all top-level statements in the window, hidden ones included and
    dbperf's own left out."""
    total_calls: int
    active_ms: float | None = None
    """Time that sessions spent active in the window (pg_stat_database.active_time), dbperf's own left out."""
    attributed_share: float | None
    """Share of the database's active time in the window that the listed statements account for (0..1); None: unknown.
    Sessions report their active time at most once a second, so it is rough for windows of a few seconds."""
    statements: list[Statement]
    """By total time, largest first."""
