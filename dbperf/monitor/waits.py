"""What active sessions wait for, from a sample a second: time by wait event, which only grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import asyncpg
from prometheus_client.metrics_core import Metric

from dbperf.monitor.metrics import counter
from dbperf.monitor.top import OTHER, Names
from dbperf.postgres.collect import collector

MOST = 100
"""Wait events with a series of their own. PostgreSQL has more names than that, but a server meets a few dozen."""
LONGEST_S = 5.0
"""A sample stands for no longer than this, however long the next one takes."""


async def sample_waits(conn: asyncpg.Connection) -> Counter[str]:
    """Active sessions of clients by wait event ("Lock:transactionid"; "CPU" for none).

    Raises:
        asyncpg.PostgresError, OSError: the connection broke.
    """
    waits: Counter[str] = Counter()
    for row in await conn.fetch(collector("session_states", (conn.get_server_version().major,))):
        if row["state"] == "active":
            waits[row["wait"]] += row["sessions"]
    return waits


class WaitTimes:
    """Sums sessions times seconds by wait event."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._names = Names(MOST)

    def add(self, sessions: Mapping[str, int], lasted_s: float) -> None:
        """A sample, and how long it was until the next one."""
        for wait, count in sessions.items():
            self.seconds[self._names.of(wait)] += count * min(lasted_s, LONGEST_S)  # type: ignore[assignment]  # a float

    def families(self) -> Iterator[Metric]:
        family = counter("active_session_seconds")
        for wait, seconds in sorted(self.seconds.items()):
            kind, _, event = wait.partition(":")
            family.add_metric([kind, event] if wait != OTHER else [OTHER, OTHER], seconds)
        yield family
