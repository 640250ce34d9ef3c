"""Counters of one database that only grow, and what its sessions do, from pg_stat_database and pg_stat_activity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import asyncpg
from prometheus_client.metrics_core import Metric

from dbperf.monitor.metrics import counter, gauge, one
from dbperf.postgres.collect import collector
from dbperf.records.base import Record

_COUNTERS = {
    "commits": ("transactions_committed", 1.0),
    "rollbacks": ("transactions_rolled_back", 1.0),
    "blks_hit": ("blocks_hit", 1.0),
    "blks_read": ("blocks_read", 1.0),
    "deadlocks": ("deadlocks", 1.0),
    "temp_files": ("temp_files", 1.0),
    "temp_bytes": ("temp_bytes", 1.0),
    "active_ms": ("active_seconds", 1e-3),
    "idle_in_transaction_ms": ("idle_in_transaction_seconds", 1e-3),
}
"""By column: the metric's name, and the factor to its unit."""
COLUMNS = tuple(_COUNTERS)


class DatabaseLook(Record, frozen=True, kw_only=True):
    """The database's counters and sessions at one moment."""

    row: dict[str, float]
    """Counters of pg_stat_database by the collector's column."""
    stats_reset: datetime | None
    sessions: dict[tuple[str, str], int]
    """Sessions by state and by what type of event they wait for (CPU: for none)."""
    connections: int
    max_connections: int
    """Without those that are reserved for superusers."""
    invalid_indexes: int
    """Left by failed builds."""


async def look_at_database(conn: asyncpg.Connection) -> DatabaseLook:
    """Reads the counters of the connection's database and all sessions' states.

    Raises:
        asyncpg.PostgresError, OSError: the connection broke.
    """
    version = (conn.get_server_version().major,)
    row = await conn.fetchrow(collector("database", version))
    use = await conn.fetchrow(collector("database_counters", version))
    assert row is not None
    assert use is not None
    sessions: Counter[tuple[str, str]] = Counter()
    for r in await conn.fetch(collector("session_states", version)):
        # Only an active session waits in a way that matters: an idle one always waits for its client.
        wait = r["wait"].partition(":")[0] if r["state"] == "active" else ""
        sessions[r["state"], wait] += r["sessions"]
    return DatabaseLook(
        row={column: float(row[column]) for column in _COUNTERS},
        stats_reset=row["stats_reset"],
        sessions=dict(sessions),
        connections=use["connections"],
        max_connections=use["max_connections"],
        invalid_indexes=await conn.fetchval(collector("invalid_indexes", version)),
    )


class DatabaseCounters:
    """Sums what the database's counters gained from look to look; what was there already is not counted as new."""

    def __init__(self) -> None:
        self.gained: Counter[str] = Counter()
        self.last: DatabaseLook | None = None

    def add(self, now: DatabaseLook, *, replaced: bool = False) -> None:
        """The next look. The first one, and one at another server (`replaced`), only say from where to count."""
        last, self.last = self.last, now
        if replaced or last is None or last.stats_reset != now.stats_reset:
            return
        # Lower values without a new stats_reset are of a crash, after which counting begins at 0.
        fell = any(value < last.row[column] for column, value in now.row.items())
        self.gained.update(now.row if fell else _difference(last.row, now.row))

    def families(self, database: str) -> Iterator[Metric]:
        """Metrics as of the last look; none before the first."""
        if self.last is None:
            return
        for column, (name, factor) in _COUNTERS.items():
            family = counter(f"database_{name}")
            family.add_metric([database], self.gained[column] * factor)
            yield family
        sessions = gauge("sessions")
        for (state, wait), count in sorted(self.last.sessions.items()):
            sessions.add_metric([state, wait], count)
        yield sessions
        yield one(gauge("connections"), self.last.connections)
        yield one(gauge("max_connections"), self.last.max_connections)
        invalid = gauge("invalid_indexes")
        invalid.add_metric([database], self.last.invalid_indexes)
        yield invalid


def _difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, Any]:
    return {column: value - before[column] for column, value in after.items()}
