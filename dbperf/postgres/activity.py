"""Samples pg_stat_activity at a fixed rate, and looks at the locks when a session waits for one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg

from dbperf.errors import ConnectError
from dbperf.postgres.blocking import Blocking
from dbperf.postgres.collect import collector
from dbperf.postgres.session_text import SQL as TEXT
from dbperf.postgres.wait_totals import Names, WaitTotals
from dbperf.records.waits import Sampler, Waits

RATE_HZ = 20.0
RECONNECT_S = 0.5
WHOLE_S = 1.0
"""Idle connections are looked at so often only: they need no higher rate, and there may be thousands of them."""
LOCKS_TIME_SHARE = 0.1
"""Looking at the locks may take this share of the time at most: with thousands of waiting sessions it gets slow."""

KEEP_HEAP = """
SELECT length(repeat(' ', least(33554432, connections.setting::bigint * (texts.setting::bigint + 3072))::int))
FROM pg_settings AS connections, pg_settings AS texts
WHERE connections.name = 'max_connections' AND texts.name = 'track_activity_query_size'
"""
"""A sample makes its backend copy the state of all sessions and free it again, 0.4 MB with 100 connections. glibc gives
that back to the system each time and asks for it anew: half of what a sample costs the server. Once it has freed a
piece this large (up to 32 MB), it keeps what lies below twice its size (mallopt(3), M_MMAP_THRESHOLD)."""

Connect = Callable[[], Awaitable[asyncpg.Connection]]


class ActivitySampler:
    """Samples until `stop`; start it as a task of the running event loop with `start`.

    A sample that is late is not made up for: its tick counts as missed, and the result says how many were. When the
    connection breaks it is made again, and the gap is counted.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        version_num: int,
        names: Names,
        database_id: int | None,
        rate_hz: float = RATE_HZ,
        own_pids: Callable[[], set[int]] = set,
    ) -> None:
        self._connect = connect
        self._names = names
        self._database_id = database_id
        self._rate_hz = rate_hz
        self._own_pids = own_pids
        version = (version_num // 10000,)
        self._activity = collector("activity", version).replace("{text}", TEXT.format(column="a.query"))
        self._locks = collector("activity_locks", version).replace("{text}", TEXT.format(column="a.query"))
        self.totals = WaitTotals(names, database_id=database_id)
        self.blocking = Blocking(names)
        self._conn: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.paused = False
        """While it is set there are no samples, and none count as missed."""
        self._gaps = 0
        self._missed = 0
        self._took_s: list[float] = []
        self._busy_s = 0.0
        self._server_s = 0.0
        self._longest_gap_s = 0.0
        self._locks_not_before_s = 0.0
        self._whole_not_before_s = 0.0
        self.failure: str | None = None

    @property
    def busy_ms(self) -> float:
        """What its queries took so far, round trips included."""
        return self._busy_s * 1000

    @property
    def server_ms(self) -> float:
        """What its queries took on the server so far, sending left out."""
        return self._server_s * 1000

    @property
    def samples(self) -> int:
        return len(self._took_s)

    async def connect(self) -> None:
        """Connects ahead of `start`.

        Raises:
            ConnectError: no connection.
        """
        self._conn = await self._connect()
        with suppress(asyncpg.PostgresError):  # it only saves
            await self._conn.execute(KEEP_HEAP)

    async def start(self) -> None:
        """Begins, and connects if that has not been done.

        Raises:
            ConnectError: no connection.
        """
        if self._conn is None:
            await self.connect()
        self._task = asyncio.create_task(self._run(), name="dbperf-activity")

    async def stop(self) -> None:
        """Ends sampling; what was seen stays."""
        self._stopping.set()
        if self._task is not None:
            try:
                await asyncio.wait_for(self._task, timeout=5)
            except TimeoutError:
                self.failure = "the last sample did not come back"
            self._task = None
        if self._conn is not None:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._conn.close(timeout=2)

    def result(self, *, window_s: float, max_connections: int | None, texts: dict[int, str]) -> Waits:
        """What sessions were doing; `texts` gives the normalised texts of statements by queryid."""
        samples = len(self._took_s)
        ticks = samples + self._missed
        sampler = Sampler(
            rate_hz=self._rate_hz,
            samples=samples,
            missed=self._missed,
            missed_share=self._missed / ticks if ticks else 0.0,
            gaps=self._gaps,
            sample_ms_mean=1000 * sum(self._took_s) / samples if samples else None,
            sample_ms_max=1000 * max(self._took_s) if samples else None,
            server_ms_mean=self.server_ms / samples if samples else None,
            longest_gap_ms=self._longest_gap_s * 1000 if samples > 1 else None,
        )
        return self.totals.result(
            sampler,
            window_s=window_s,
            blockers=self.blocking.chains(),
            max_connections=max_connections,
            texts=texts,
            notes=[self.failure] if self.failure else [],
        )

    async def _run(self) -> None:
        period = 1 / self._rate_hz
        due = time.monotonic()
        last: float | None = None
        while not self._stopping.is_set():
            now = time.monotonic()
            if self.paused:
                due, last = now + period, None
            if now < due:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), timeout=due - now)
                continue
            # Ticks that lie a whole period back can't be had any more.
            late = int((now - due) / period)
            self._missed += late
            due += (late + 1) * period
            if await self._once():
                if last is not None:
                    self._longest_gap_s = max(self._longest_gap_s, now - last)
                last = now
            else:
                self._missed += 1
        if not self.paused:  # the window's end: who waits no more has ended
            await self._once(last=True)

    async def _once(self, *, last: bool = False) -> bool:
        started = time.monotonic()
        whole = last or started >= self._whole_not_before_s
        try:
            if self._conn is None or self._conn.is_closed():
                await self.connect()
                assert self._conn is not None
            own = self._own_pids() | {self._conn.get_server_pid()}
            rows = await self._conn.fetch(self._activity, self._database_id, whole)
            took = time.monotonic() - started
            if whole:
                self._whole_not_before_s = started + WHOLE_S
            self._server_s += max(((r["read_at"] - r["at"]).total_seconds() for r in rows), default=0.0)
            waiting = self.totals.add((r for r in rows if r["pid"] not in own), whole=whole)
            if not waiting:
                self.blocking.add([])
            elif started >= self._locks_not_before_s:
                before = time.monotonic()
                locks = await self._conn.fetch(self._locks, ",".join(map(str, waiting)))
                self._locks_not_before_s = time.monotonic() + (time.monotonic() - before) * (1 / LOCKS_TIME_SHARE - 1)
                self._server_s += max((r["server_s"] for r in locks), default=0.0)
                self.blocking.add(locks)
        except (
            OSError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            ConnectError,
        ) as e:
            await self._broken(e)
            return False
        self._took_s.append(took)
        self._busy_s += time.monotonic() - started
        return True

    async def _broken(self, error: Exception) -> None:
        self._gaps += 1
        self.failure = f"sampling was interrupted: {error}"
        if self._conn is not None and not self._conn.is_closed():
            self._conn.terminate()
        self._conn = None
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), timeout=RECONNECT_S)
