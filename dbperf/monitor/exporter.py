"""The exporter: looks at a database, and at the files of applications and loads, at an interval, and answers
Prometheus from what it saw last.

A scrape never asks the database, so it takes the same time whatever the database does, and however many scrape; there
is one connection, and one query on it at a time. While the database is away `dbperf_up` is 0 and the counters stand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from wsgiref.simple_server import WSGIServer

import asyncpg
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dbperf.errors import DbperfError, OutputError
from dbperf.monitor.database import DatabaseCounters, look_at_database
from dbperf.monitor.follow import Files
from dbperf.monitor.metrics import counter, gauge, one
from dbperf.monitor.relations import RelationCounters, look_at_relations
from dbperf.monitor.statements import StatementCounters
from dbperf.monitor.waits import WaitTimes, sample_waits
from dbperf.postgres.connect import connect, mask_dsn
from dbperf.postgres.statements import snapshot
from dbperf.records.verdicts import ServiceLevel

LIMIT_S = 10.0
"""Of a query. A look that takes longer counts as failed."""
SAMPLE_S = 1.0
"""Between samples of what sessions wait for."""
RELATIONS_EVERY = 4
"""Tables and indexes are read at one look in so many: a database may have tens of thousands of them."""
Tell = Callable[[str], None]


class Exporter(Collector):
    """Looks at a database, and is what a registry of prometheus-client collects from.

    Args:
        dsn: the database.
        top: statements, tables, indexes and endpoints with metrics of their own.
        every_s: seconds between looks.
        traces: folder that `TraceMiddleware` writes to.
        runs: a run directory, or a folder of run directories.
        levels: service levels, for the requests found in `traces` and `runs`.
        tell: called with one line when the database, or a file, goes away and when the database is back.
    """

    def __init__(
        self, dsn: str, *, top: int = 50, every_s: float = 15.0, traces: Path | None = None, runs: Path | None = None,
        levels: Sequence[ServiceLevel] = (), tell: Tell = lambda _: None,
    ) -> None:  # fmt: skip
        self.dsn = dsn
        self.every_s = every_s
        self.tell = tell
        self.counters = StatementCounters(top)
        self.database = DatabaseCounters()
        self.relations = RelationCounters(top)
        self.waits = WaitTimes()
        self.files = Files(traces=traces, runs=runs, levels=levels, most=top, tell=tell)
        self.up: bool | None = None
        """None before the first look."""
        self.failures = self.failed_relation_looks = 0
        self._looks = 0
        self._waits_due = self._counting = False
        self._seen: list[Metric] = []
        self._sampled: list[Metric] = []

    async def run(self) -> None:
        """Looks until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_database())
            if self.files.following:
                group.create_task(self._watch_files())

    async def _watch_files(self) -> None:
        while True:
            started = time.monotonic()
            await asyncio.to_thread(self.files.look)
            await asyncio.sleep(max(0.0, self.every_s - (time.monotonic() - started)))

    async def _watch_database(self) -> None:
        while True:
            connection: asyncpg.Connection | None = None
            try:
                connection = await connect(self.dsn, statement_timeout_s=LIMIT_S, application_name="dbperf serve")
                while True:
                    due = time.monotonic() + self.every_s
                    await asyncio.wait_for(self.look(connection), 3 * LIMIT_S)
                    self._came_back()
                    await self._sample_until(due, connection)
            except (
                DbperfError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                asyncpg.InternalClientError,
                OSError,
            ) as e:
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
        replaced, reset_at = self.counters.replaced, self.database.last and self.database.last.stats_reset
        self.counters.add(now)
        is_other = self.counters.replaced > replaced
        self.database.add(database, replaced=is_other)
        # Whether what tables and indexes count went on since their own last look, which may be some looks ago.
        self._counting = self._counting and not is_other and reset_at == database.stats_reset
        if self._looks % RELATIONS_EVERY == 0:
            await self._look_at_relations(connection)
        self._looks += 1
        name = now.databases.get(now.database_id, str(now.database_id))
        self._seen = [
            one(gauge("look_seconds"), now.took_ms / 1000),
            one(gauge("look_timestamp_seconds"), time.time()),
            *self.database.families(name),
            *self.relations.families(name),
            *self.counters.families(name),
        ]

    async def _look_at_relations(self, connection: asyncpg.Connection) -> None:
        try:
            self.relations.add(await look_at_relations(connection), counting=self._counting)
            self._counting = True
        except asyncpg.QueryCanceledError:
            self.failed_relation_looks += 1

    async def _sample_until(self, due: float, connection: asyncpg.Connection) -> None:
        """Samples waits until the next look is due."""
        while (left := due - time.monotonic()) > 0:
            started = time.monotonic()
            sessions = await asyncio.wait_for(sample_waits(connection), LIMIT_S)
            await asyncio.sleep(max(0.0, min(SAMPLE_S, left) - (time.monotonic() - started)))
            self.waits.add(sessions, time.monotonic() - started)
            self._sampled = list(self.waits.families())

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
        return [*self._state(), *self._seen, *self._sampled, *self.files.seen]

    def _state(self) -> Iterator[Metric]:
        yield one(gauge("up"), 1 if self.up else 0)
        yield one(counter("failed_looks"), self.failures)
        yield one(counter("failed_relation_looks"), self.failed_relation_looks)


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
