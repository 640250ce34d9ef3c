"""What the database as a whole did over a window: differences of the server's own counters."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from dbperf.records.base import Document, Record


class DatabaseCounters(Record, frozen=True, kw_only=True):
    """pg_stat_database, over the window; dbperf's own queries, one transaction each, are among them."""

    commits: int
    rollbacks: int
    blks_read: int
    blks_hit: int
    hit_ratio: float | None = None
    """hit / (hit + read); None where no block was touched."""
    rows_returned: int
    rows_fetched: int
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    conflicts: int
    deadlocks: int
    temp_files: int
    temp_bytes: int
    checksum_failures: int | None
    blk_read_ms: float
    blk_write_ms: float
    session_ms: float
    active_ms: float
    idle_in_transaction_ms: float
    sessions: int
    sessions_abandoned: int
    sessions_fatal: int
    sessions_killed: int


class WalCounters(Record, frozen=True, kw_only=True):
    """pg_stat_wal of the whole server, over the window."""

    wal_records: int
    wal_fpi: int
    wal_bytes: int
    wal_buffers_full: int


class CheckpointCounters(Record, frozen=True, kw_only=True):
    """pg_stat_checkpointer (17 and newer) or pg_stat_bgwriter, of the whole server, over the window."""

    timed: int
    requested: int
    write_ms: float
    sync_ms: float
    buffers_written: int
    buffers_clean: int
    maxwritten_clean: int
    buffers_alloc: int
    buffers_backend: int | None = None
    """Up to 16; newer servers have it in pg_stat_io."""


class IoCounters(Record, frozen=True, kw_only=True):
    """One row of pg_stat_io (16 and newer), of the whole server, over the window. None: not possible there."""

    backend_type: str
    object: str
    context: str
    reads: int | None
    read_bytes: int | None
    read_ms: float | None
    writes: int | None
    write_bytes: int | None
    write_ms: float | None
    extends: int | None
    hits: int | None
    evictions: int | None
    reuses: int | None
    fsyncs: int | None
    fsync_ms: float | None


class TableActivity(Record, frozen=True, kw_only=True):
    """One table with activity in the window."""

    schema: str
    relation: str
    seq_scans: int
    seq_rows_read: int
    seq_rows_per_scan: float | None
    index_scans: int
    index_rows_fetched: int
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    rows_hot_updated: int
    hot_share: float | None
    """HOT updates among all updates (0..1); None: no updates."""
    live_rows: int
    """Estimated, at the window's end."""
    dead_rows: int
    """Estimated, at the window's end."""
    dead_share: float | None
    blks_read: int
    blks_hit: int
    size_bytes: int
    """Main fork as of the last VACUUM or ANALYZE."""
    vacuums: int
    """Automatic ones included."""
    analyzes: int
    last_vacuum_at: datetime | None
    last_analyze_at: datetime | None


class IndexActivity(Record, frozen=True, kw_only=True):
    """One index of a table with activity in the window."""

    schema: str
    relation: str
    index: str
    scans: int
    rows_read: int
    rows_fetched: int
    scans_since_reset: int
    """Since the database's statistics began: 0 over a long time means that nobody reads it."""
    size_bytes: int
    unique: bool


class Replica(Record, frozen=True, kw_only=True):
    """A standby or subscriber, at the window's end."""

    application_name: str
    state: str | None
    sync_state: str | None
    sent_lag_bytes: int | None
    replay_lag_bytes: int | None
    write_lag_ms: float | None
    flush_lag_ms: float | None
    replay_lag_ms: float | None


class ReplicationSlot(Record, frozen=True, kw_only=True):
    """A slot, at the window's end."""

    slot: str
    slot_type: str
    active: bool
    retained_wal_bytes: int | None


class Setting(Record, frozen=True, kw_only=True):
    """A setting that matters for performance."""

    name: str
    value: str
    """As SHOW prints it."""
    source: str
    """Where it comes from: default, configuration file, database, ..."""


class DatabaseActivity(Document, frozen=True, kw_only=True):
    """`database.json`. A part is None where it was reset within the window or can't be read; a note says why."""

    kind: ClassVar[str] = "database"
    file_name: ClassVar[str] = "database.json"

    database: str
    server_version: str
    size_bytes: int | None
    seconds: float
    stats_reset_at: datetime | None
    """When the database's counters began."""
    counters: DatabaseCounters | None
    wal: WalCounters | None
    checkpoints: CheckpointCounters | None
    io: list[IoCounters]
    """Rows with activity, most time first."""
    tables: list[TableActivity]
    """Most rows read first."""
    indexes: list[IndexActivity]
    in_recovery: bool
    recovery_lag_ms: float | None = None
    """On a standby: since the last replayed transaction was committed."""
    replicas: list[Replica]
    slots: list[ReplicationSlot]
    settings: list[Setting]
    notes: list[str] = []
