"""Profiles a database over a window: statements, waits and counters, from the same moments."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

import asyncpg

from dbperf.errors import CapabilityError, ConnectError, ServerError, UsageError
from dbperf.masking import mask_secrets
from dbperf.postgres.activity import RATE_HZ, ActivitySampler
from dbperf.postgres.collect import collector
from dbperf.postgres.connect import connect
from dbperf.postgres.database import Counters, activity, counters
from dbperf.postgres.profile_findings import findings
from dbperf.postgres.server_info import server_info
from dbperf.postgres.statements import Accumulation, Snapshot, snapshot
from dbperf.postgres.wait_totals import Names
from dbperf.records.database import DatabaseActivity
from dbperf.records.profile import Collectors, Ended, Profile, ProfileSummary
from dbperf.records.run import Server
from dbperf.records.statements import OrderBy
from dbperf.records.waits import Waits

T = TypeVar("T")
INTERIM_S = 10.0
RECONNECT_S = 15.0
_BROKEN = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server's last word was an error, and its end has not come through yet
    ConnectError,
    asyncpg.OperatorInterventionError,
)


class Profiler:
    """An asynchronous context manager; `profile` has the result once it is left.

    Between the two ends it looks at pg_stat_statements every `interim_s`, so that an eviction, a reset or a crash
    takes at most that much with it. It never resets the server's statistics unless `reset` says so.
    """

    def __init__(
        self,
        dsn: str,
        *,
        rate_hz: float = RATE_HZ,
        all_databases: bool = False,
        reset: bool = False,
        embedded: bool = False,
        order_by: OrderBy = "total",
        interim_s: float = INTERIM_S,
        reconnect_s: float = RECONNECT_S,
    ) -> None:
        if not 0 <= rate_hz <= 1000:
            raise UsageError(f"a sampling rate of {rate_hz:g} Hz is not possible", hint="0 (off) to 1000; default 20")
        self._dsn = dsn
        self._rate_hz = rate_hz
        self._all_databases = all_databases
        self._reset = reset
        self._embedded = embedded
        self._order_by: OrderBy = order_by
        self._interim_s = interim_s
        self._reconnect_s = reconnect_s
        self.requests: int | None = None
        """HTTP requests in the window; set it before the end to have calls per request."""
        self.command: str | None = None
        self.command_exit_code: int | None = None
        self.ended: Ended = "complete"
        self._profile: Profile | None = None
        self._conn: asyncpg.Connection | None = None
        self._sampler: ActivitySampler | None = None
        self._window: Accumulation | None = None
        self._first_counters: Counters | None = None
        self._last_counters: Counters | None = None
        self._server: Server | None = None
        self._interim: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._looking = asyncio.Lock()
        self._paused = False
        self._pids: set[int] = set()
        self._snapshots = 0
        self._snapshots_ms = 0.0
        self._notes: list[str] = []

    @property
    def profile(self) -> Profile:
        """The result.

        Raises:
            ServerError: the window has not ended.
        """
        if self._profile is None:
            raise ServerError("the profile is not finished: leave the context, or await stop(), first")
        return self._profile

    async def __aenter__(self) -> Profiler:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.ended = "interrupted"
        await self.stop()

    async def connect(self) -> None:
        """Connects ahead of `start`, which then only reads the statistics.

        Raises:
            ConnectError: no connection.
            CapabilityError: pg_stat_statements is missing, too old, or not preloaded.
        """
        self._conn = await self._connect()
        try:
            if self._reset:
                await self._reset_statistics()
            self._server = await server_info(self._conn, dsn=self._dsn, embedded=self._embedded)
            if self._rate_hz:
                await self._make_sampler()
        except BaseException:
            await self.close()
            raise

    async def start(self) -> None:
        """Opens the window; raises as `connect` does."""
        if self._conn is None:
            await self.connect()
        assert self._conn is not None
        try:
            self._first_counters = self._last_counters = await counters(self._conn, whole=False)
            if self._sampler is not None:
                await self._sampler.start()
            first = await self._snapshot(texts=False)
        except BaseException:
            await self.close()
            raise
        self._window = Accumulation(first)
        self._interim = asyncio.create_task(self._look_in_between(), name="dbperf-interim")

    async def pause(self) -> None:
        """Takes the look that ends the window unless `resume` lets it go on: what comes after does not count."""
        assert self._window is not None, "start() comes first"
        if self._sampler is not None:
            self._sampler.paused = True
        self._paused = True
        await self._final_look()

    def resume(self) -> None:
        """Lets a paused window go on; what happened meanwhile is part of it, except for samples."""
        if self._sampler is not None:
            self._sampler.paused = False
        self._paused = False

    async def stop(self) -> Profile:
        """Closes the window and works the profile out; with a lost server, from what was seen last."""
        assert self._window is not None, "start() comes first"
        await self._end_interim()
        if self._sampler is not None:
            await self._sampler.stop()
        if not self._paused:
            await self._final_look()
        seconds = self._window.last.monotonic_s - self._window.first.monotonic_s
        await self.close()
        self._profile = self._worked_out(seconds)
        return self._profile

    def _worked_out(self, seconds: float) -> Profile:
        assert self._window is not None
        samples_ms = self._sampler.busy_ms if self._sampler else 0.0
        server_ms = self._sampler.server_ms if self._sampler else 0.0
        samples = self._sampler.samples if self._sampler else 0
        statements = self._window.result(
            requests=self.requests,
            own_active_ms=server_ms + self._snapshots_ms,
            order_by=self._order_by,
            notes=tuple(self._notes),
        )
        waits = self._waits(seconds, {s.queryid: s.text for s in statements.statements})
        database = self._database(seconds)
        collectors = Collectors(
            snapshots=self._snapshots,
            snapshots_ms=self._snapshots_ms,
            samples=samples,
            samples_server_ms=server_ms,
            samples_round_trip_ms=samples_ms,
            share=(server_ms + self._snapshots_ms) / (seconds * 1000) if seconds > 0 else 0.0,
        )
        summary = ProfileSummary(
            ended=self.ended,
            command=self.command and mask_secrets(self.command),
            command_exit_code=self.command_exit_code,
            requests=self.requests,
            collectors=collectors,
            findings=findings(statements, waits, database),
        )
        return Profile(summary=summary, statements=statements, waits=waits, database=database, server=self._server)

    def _waits(self, seconds: float, texts: dict[int, str]) -> Waits | None:
        if self._sampler is None:
            return None
        facts = self._last_counters.facts if self._last_counters else {}
        return self._sampler.result(window_s=seconds, max_connections=facts.get("max_connections"), texts=texts)

    def _database(self, seconds: float) -> DatabaseActivity | None:
        if self._first_counters is None or self._last_counters is None or self._last_counters is self._first_counters:
            return None
        return activity(self._first_counters, self._last_counters, seconds=seconds)

    async def _connect(self) -> asyncpg.Connection:
        conn = await connect(self._dsn, application_name="dbperf profile", statement_timeout_s=30)
        self._pids.add(conn.get_server_pid())
        await conn.fetch(collector("untracked", (conn.get_server_version().major,)))
        return conn

    async def _make_sampler(self) -> None:
        assert self._conn is not None
        first = await self._snapshot(texts=False)
        self._sampler = ActivitySampler(
            self._connect,
            version_num=self._conn.get_server_version().major * 10000,
            names=Names(users=first.users, databases=first.databases),
            database_id=None if self._all_databases else first.database_id,
            rate_hz=self._rate_hz,
            own_pids=lambda: self._pids,
        )
        await self._sampler.connect()

    async def _reset_statistics(self) -> None:
        assert self._conn is not None
        row = await self._conn.fetchrow(collector("pg_stat_statements_extension", (0,)))
        if row is None:
            return  # the first snapshot says what is missing
        try:
            await self._conn.execute(f"SELECT /* dbperf reset */ {row['schema']}.pg_stat_statements_reset()")
        except asyncpg.InsufficientPrivilegeError as e:
            raise CapabilityError(
                "this role may not reset pg_stat_statements",
                hint="leave --reset out, or GRANT EXECUTE ON FUNCTION pg_stat_statements_reset TO the role",
            ) from e

    async def _timed(self, work: Awaitable[T]) -> T:
        started = time.monotonic()
        try:
            return await work
        finally:
            self._snapshots += 1
            self._snapshots_ms += (time.monotonic() - started) * 1000

    async def _snapshot(self, *, texts: bool) -> Snapshot:
        assert self._conn is not None
        return await snapshot(
            self._conn,
            since=self._window.first if self._window else None,
            texts=texts,
            known_texts=self._window.texts.keys() if self._window else (),
            all_databases=self._all_databases,
        )

    async def _look(self, *, final: bool) -> None:
        assert self._conn is not None
        assert self._window is not None
        if final:  # what it costs falls behind the window
            self._window.add(await self._snapshot(texts=True))
            self._last_counters = await counters(self._conn)
        else:
            self._window.add(await self._timed(self._snapshot(texts=True)))
            known = self._last_counters.facts if self._last_counters else None
            self._last_counters = await self._timed(counters(self._conn, whole=False, facts=known))

    async def _look_in_between(self) -> None:
        while not self._closing.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), timeout=self._interim_s)
                return
            async with self._looking:
                if self._paused:
                    continue
                try:
                    if self._conn is None or self._conn.is_closed():
                        self._conn = await self._connect()
                    await self._look(final=False)
                except (*_BROKEN, CapabilityError):
                    # The next look, or the last one, connects again, and says what is missing.
                    if self._conn is not None:
                        self._conn.terminate()
                        self._conn = None

    async def _final_look(self) -> None:
        async with self._looking:
            if lost := await self._last_look():
                self.ended = "server lost"
                self._notes.append(f"the server was lost: {lost}; figures end with dbperf's last look")

    async def _last_look(self) -> str | None:
        """The look that closes the window; why there was none."""
        deadline = time.monotonic() + self._reconnect_s
        while True:
            try:
                if self._conn is None or self._conn.is_closed():
                    self._conn = await self._connect()
                await self._look(final=True)
                return None
            except _BROKEN as e:
                if self._conn is not None:
                    self._conn.terminate()
                    self._conn = None
                if time.monotonic() > deadline:
                    return str(e)
            except CapabilityError as e:
                return e.message
            await asyncio.sleep(0.3)

    async def _end_interim(self) -> None:
        # Waited for, not cancelled: a query that is under way would be cancelled on the server as well.
        self._closing.set()
        if self._interim is not None:
            await self._interim
            self._interim = None

    async def close(self) -> None:
        """Closes the connections without a result; may be called at any time, and again."""
        self._closing.set()
        if self._sampler is not None:
            await self._sampler.stop()
        if self._conn is not None:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._conn.close(timeout=2)
            self._conn = None
