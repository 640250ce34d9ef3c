"""The health of the indexes that exist, and those that are missing on foreign keys."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from dbperf.records.base import Document, Record

HealthKind = Literal[
    "invalid", "duplicate", "redundant", "unused", "bloated", "missing_on_foreign_key", "low_hot_share"
]


class ReplicaScans(Record, frozen=True, kw_only=True):
    """How often a standby used an index."""

    replica: str
    """Connection string with the password masked."""
    scans: int | None
    """None: the standby does not know the index (yet)."""


class IndexFinding(Record, frozen=True, kw_only=True):
    """One thing that is wrong with one index or table, the evidence, and SQL that puts it right and undoes it."""

    kind: HealthKind
    schema: str
    table: str
    index: str | None = None
    """None: about the table, or about an index that does not exist."""
    size_bytes: int
    """The index's real size; the table's where there is no index."""
    reclaimable_bytes: int | None = None
    """What the SQL frees; None: nothing, or not known."""
    scans: int | None = None
    """Since `stats_since`, on this server."""
    last_scan_at: datetime | None = None
    """PostgreSQL 16 and newer."""
    replicas: list[ReplicaScans] = []
    because_of: str | None = None
    """The index that makes it superfluous, or the foreign key that lacks one."""
    exact: bool = False
    """Of bloat: measured with pgstattuple, not estimated from statistics."""
    evidence: str
    """One sentence with the figures."""
    caution: str | None = None
    """What to check before the SQL is run."""
    up_sql: list[str] = []
    """Empty: no SQL is safe without a decision; `caution` says which."""
    down_sql: list[str] = []


class IndexHealth(Document, frozen=True, kw_only=True):
    """`index_health.json`. Findings that free the most space come first."""

    kind: ClassVar[str] = "index_health"
    file_name: ClassVar[str] = "index_health.json"

    database: str
    server_version: str
    read_at: datetime
    stats_since: datetime | None
    """Since when scans are counted, at the latest known reset or start; None: not known."""
    stats_reset_at: datetime | None
    stats_days: float | None
    replicas: list[str] = []
    indexes: int
    size_bytes: int
    findings: list[IndexFinding]
    notes: list[str] = []
