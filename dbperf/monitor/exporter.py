"""The exporter: looks at a database at an interval, and answers Prometheus from what it saw last.

A scrape never asks the database, so it takes the same time whatever the database does, and however many scrape; there
is one connection, and one query on it at a time. While the database is away `dbperf_up` is 0 and the counters stand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Lock
from wsgiref.simple_server import WSGIServer

import asyncpg
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dbperf.errors import DbperfError, OutputError
from dbperf.monitor.database import DatabaseCounters, look_at_database
from dbperf.monitor.metrics import statement_families
from dbperf.monitor.statements import StatementCounters
from dbperf.postgres.connect import connect, mask_dsn
from dbperf.postgres.statements import snapshot

LIMIT_S = 10.0
"""Of a query. A look that takes longer counts as failed."""
Tell = Callable[[str], None]


class Exporter(Collector):
    """Looks at a database, and is what a registry of prometheus-client collects from.

    Args:
        dsn: the database.
        top: statements with counters of their own.
        every_s: seconds between looks.
        tell: called with one line when the database goes away and when it is back.
    """

    def __init__(self, dsn: str, *, top: int = 50, every_s: float = 15.0, tell: Tell = lambda _: None) -> None:
        self.dsn = dsn
        self.every_s = every_s
        self.tell = tell
        self.counters = StatementCounters(top)
        self.database = DatabaseCounters()
        self.up: bool | None = None
        """None before the first look."""
        self.failures = 0
        self.took_s: float | None = None
        self.seen_at_s: float | None = None
        self._lock = Lock()

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            connection: asyncpg.Connection | None = None
            try:
                connection = await connect(self.dsn, statement_timeout_s=LIMIT_S, application_name="dbperf serve")
                while True:
                    started = time.monotonic()
                    await asyncio.wait_for(self.look(connection), 2 * LIMIT_S)
                    self._came_back()
                    await asyncio.sleep(max(0.0, self.every_s - (time.monotonic() - started)))
            except (DbperfError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as e:
                # asyncio.TimeoutError is an OSError.
                self._went_away(e.message if isinstance(e, DbperfError) else f"{type(e).__name__}: {e}".strip(": "))
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(min(self.every_s, 5.0))

    async def look(self, connection: asyncpg.Connection) -> None:
        """Looks once, on a connection of `connect`."""
        last = self.counters.last
        now = await snapshot(connection, since=last, texts=last is not None, known_texts=self.counters.texts.keys())
        database = await look_at_database(connection)
        with self._lock:
            replaced = self.counters.replaced
            self.counters.add(now)
            self.database.add(database, replaced=self.counters.replaced > replaced)
            self.took_s = now.took_ms / 1000
            self.seen_at_s = time.time()

    def _came_back(self) -> None:
        if not self.up:
            self.tell(
                f"looking at {mask_dsn(self.dsn) or 'the database of the PG* variables'} every {self.every_s:g} s"
            )
        self.up = True

    def _went_away(self, why: str) -> None:
        self.failures += 1
        if self.up is not False:
            self.tell(f"the database can't be read: {why}; trying on")
        self.up = False

    def collect(self) -> list[Metric]:
        """The metrics as of the last look; does not wait for the database."""
        with self._lock:
            return list(self._families())

    def _families(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("dbperf_up", "Whether the last look succeeded.", value=1 if self.up else 0)
        yield CounterMetricFamily("dbperf_failed_looks", "Looks that failed.", value=self.failures)
        last = self.counters.last
        if last is None or self.took_s is None or self.seen_at_s is None:
            return
        yield GaugeMetricFamily("dbperf_look_seconds", "How long the last look took.", value=self.took_s)
        yield GaugeMetricFamily("dbperf_look_timestamp_seconds", "When the last look succeeded.", value=self.seen_at_s)
        name = last.databases.get(last.database_id, str(last.database_id))
        yield from self.database.families(name)
        yield from statement_families(self.counters, name)


def listen(exporter: Exporter, *, host: str, port: int) -> WSGIServer:
    """Answers scrapes from threads of its own until `shutdown()` and `server_close()` are called.

    Raises:
        OutputError: the port is taken, or the host is none of this machine.
    """
    registry = CollectorRegistry()
    registry.register(exporter)
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as e:
        raise OutputError(f"{host}:{port} can't be used: {e.strerror}", hint="--port 0 takes a free one") from e
    return server


def serve(exporter: Exporter) -> None:
    """Looks until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        asyncio.run(exporter.run())
