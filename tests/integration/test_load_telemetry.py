"""Telemetry of a real process and a real database, with a real lock and a real deadlock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import asyncpg
import psutil
import pytest

from dbperf.load.telemetry import Watch, listening_pids, watching
from dbperf.records.telemetry import Telemetry, TelemetrySample
from tests.conftest import Database
from tests.support.httpserver import FaultyServer


async def until(watch: Watch, seen: Callable[[TelemetrySample], bool]) -> TelemetrySample:
    for _ in range(100):
        if (sample := next((s for s in watch.telemetry().samples if seen(s)), None)) is not None:
            return sample
        await asyncio.sleep(0.2)
    pytest.fail(f"not seen in {watch.telemetry()}")


async def test_the_target_s_processes_are_found_by_their_port_and_watched() -> None:
    with FaultyServer() as server:
        assert listening_pids(server.url) == [server.process.pid]
        async with watching(server.url) as watch:
            sample = await until(watch, lambda s: bool(s.processes))
    (process,) = sample.processes
    assert process.pid == server.process.pid
    assert process.name.endswith("-m tests.support.httpserver")
    assert process.rss_bytes > 1 << 20
    assert process.threads >= 1
    assert process.file_descriptors is not None
    assert 0 <= sample.machine.cpu_share <= 1
    assert sample.machine.piece_ms is not None
    assert 0.005 < sample.machine.piece_ms < 5
    assert watch.telemetry().notes == ["no database was given (--dsn)"]
    assert listening_pids("http://example.invalid:80") == []


async def test_a_target_elsewhere_is_not_watched_and_that_is_said() -> None:
    async with watching("http://example.invalid") as watch:
        pass
    assert "the target's processes are not known" in watch.telemetry().notes[0]


async def test_sessions_locks_and_deadlocks_of_the_database_are_seen(db: Database) -> None:
    db.psql("CREATE TABLE account (id int PRIMARY KEY, n int); INSERT INTO account VALUES (1, 0), (2, 0)")
    first, second = [await asyncpg.connect(db.dsn) for _ in range(2)]
    async with watching("http://x.invalid", dsn=db.dsn, pids=[psutil.Process().pid]) as watch:
        await first.execute("BEGIN")
        await first.execute("UPDATE account SET n = 41 WHERE id = 1")
        await second.execute("BEGIN")
        await second.execute("UPDATE account SET n = 1 WHERE id = 2")
        blocked = asyncio.create_task(second.execute("UPDATE account SET n = 4711 WHERE id = 1"))
        sample = await until(watch, lambda s: s.postgres is not None and bool(s.postgres.blockers))
        assert sample.postgres is not None
        (blocker,) = sample.postgres.blockers
        assert blocker.blocked_pid == second.get_server_pid()
        assert blocker.blocking_pid == first.get_server_pid()
        assert "4711" not in blocker.blocked_query
        assert blocker.blocked_query.startswith("UPDATE account SET n = ")
        assert sample.postgres.locks_waiting == 1
        assert sample.postgres.waits == {"Lock:transactionid": 1}
        assert (sample.postgres.active_sessions, sample.postgres.idle_in_transaction) == (1, 1)
        with contextlib.suppress(asyncpg.DeadlockDetectedError):
            await first.execute("UPDATE account SET n = 1 WHERE id = 2")
        with contextlib.suppress(asyncpg.DeadlockDetectedError):
            await blocked
        for conn in (first, second):
            await conn.close()  # the statistics of a session are counted at its end at the latest
        await until(watch, lambda s: s.postgres is not None and s.postgres.deadlocks == 1)
    telemetry = watch.telemetry()
    assert all(s.postgres is None or s.postgres.max_connections == 57 for s in telemetry.samples)
    assert Telemetry.kind == "telemetry"


async def test_a_database_that_is_not_there_is_noted_and_the_rest_watched() -> None:
    async with watching("http://x.invalid", dsn="postgresql://u@127.0.0.1:1/x", pids=[psutil.Process().pid]) as watch:
        sample = await until(watch, lambda s: bool(s.processes))
    assert sample.postgres is None
    assert any("the database could not be watched" in note for note in watch.telemetry().notes)
