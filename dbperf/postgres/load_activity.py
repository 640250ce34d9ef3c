"""What sessions do and wait for, once a second beside a load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import asyncpg

from dbperf.postgres.collect import collector
from dbperf.postgres.fingerprint import literals_masked
from dbperf.records.telemetry import Blocker, PostgresSample

_COUNTERS = ("commits", "rollbacks", "deadlocks", "temp_bytes", "wal_bytes", "checkpoints")
_TEXT_LIMIT = 500


class ActivityWatch:
    """Samples one database. The first sample has no increases: it only starts the counters."""

    def __init__(self, conn: asyncpg.Connection[Any]) -> None:
        self._conn = conn
        version = conn.get_server_version()
        self._version = (version.major, version.minor)
        self._before: Mapping[str, Any] | None = None

    async def sample(self) -> PostgresSample | None:
        """The sessions now, and what has been counted since the last call; None from the first call.

        Raises:
            asyncpg.PostgresError, OSError: the server has gone, or refuses.
        """
        sessions = await self._conn.fetch(collector("session_states", self._version))
        waiting = sum(r["sessions"] for r in sessions if r["state"] == "active" and r["wait"].startswith("Lock:"))
        # Asking who blocks whom takes every partition of the lock table for a moment: only where somebody waits.
        blockers = await self._conn.fetch(collector("session_blockers", self._version)) if waiting else []
        now = await self._conn.fetchrow(collector("database_counters", self._version))
        assert now is not None
        before, self._before = self._before, now
        if before is None:
            return None
        grown = {k: None if now[k] is None or before[k] is None else int(now[k] - before[k]) for k in _COUNTERS}
        waits: Counter[str] = Counter()
        states: Counter[str] = Counter()
        for row in sessions:
            states[row["state"]] += row["sessions"]
            if row["state"] == "active":
                waits[row["wait"]] += row["sessions"]
        return PostgresSample(
            active_sessions=states["active"],
            idle_in_transaction=states["idle in transaction"] + states["idle in transaction (aborted)"],
            connections=now["connections"],
            max_connections=now["max_connections"],
            waits=dict(waits),
            locks_waiting=waiting,
            blockers=[_blocker(row) for row in blockers],
            **grown,  # type: ignore[arg-type]  # the columns that may be NULL are the fields that may be None
        )


def _blocker(row: Mapping[str, Any]) -> Blocker:
    return Blocker(
        blocked_pid=row["blocked_pid"],
        blocking_pid=row["blocking_pid"],
        blocked_s=row["blocked_s"] or 0.0,
        blocked_query=_masked(row["blocked_query"]),
        blocking_query=_masked(row["blocking_query"]),
    )


def _masked(query: str | None) -> str:
    """The text without its literals; a text that can't be parsed (cut off by the server) is not shown at all."""
    masked = literals_masked(query) if query else ""
    return "(not shown: it can't be parsed)" if masked is None else masked[:_TEXT_LIMIT]
