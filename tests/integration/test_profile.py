"""`dbperf.profile` on real servers: totals, waits, blocking chains, counters, and what goes wrong in a window."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import dbperf
from dbperf.errors import CapabilityError, ConnectError
from dbperf.postgres.profile import Profiler
from dbperf.records.profile import Profile
from dbperf.records.statements import Statement
from dbperf.resources import sql
from tests.conftest import Database
from tests.support.pgserver import PgServer, bindir_15, bindir_18
from tests.support.waiting import eventually


def pgbench(db: Database | PgServer, name: str, *args: str) -> str:
    server = db if isinstance(db, PgServer) else db.server
    done = subprocess.run(
        [server.bindir / "pgbench", "-h", server.host, "-U", "postgres", *args, name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def find(profile: Profile, part: str) -> Statement:
    found = [s for s in profile.statements.statements if part in s.text]
    assert len(found) == 1, (part, [s.text for s in profile.statements.statements])
    return found[0]


def reported(out: str) -> tuple[int, float]:
    """Transactions, and the client's own mean latency of one (ms)."""
    count = re.search(r"actually processed: (\d+)", out)
    latency = re.search(r"latency average = ([\d.]+) ms", out)
    assert count
    assert latency
    return int(count[1]), float(latency[1])


async def agrees(db: Database, *args: str) -> Profile:
    """A profile of a pgbench run whose sum over statements is the server's own count, and within the client's time.

    How near the client's time it comes depends on what else the machine does; benchmarks/bench_profile.py tells it.
    """
    count = (
        "SELECT coalesce(sum(calls), 0), coalesce(sum(total_exec_time), 0) FROM pg_stat_statements s"
        " JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = current_database() AND query NOT LIKE '%dbperf%'"
        " AND query NOT LIKE '%pg_stat_statements%'"
    )
    calls, total_ms = (float(x) for x in db.psql(count).split("|"))
    async with dbperf.profile(db.dsn) as window:
        out = await asyncio.to_thread(pgbench, db, db.name, *args)
    calls_after, total_ms_after = (float(x) for x in db.psql(count).split("|"))
    statements = window.profile.statements
    assert sum(s.calls for s in statements.statements) == calls_after - calls
    assert statements.total_ms == pytest.approx(total_ms_after - total_ms)
    transactions, latency_ms = reported(out)
    assert 0 < statements.total_ms < 1.001 * transactions * latency_ms
    return window.profile


async def ended(db: Database, conn: Any) -> None:
    """Closes a session and waits until its process has ended: what it did is counted by then at the latest."""
    pid = conn.get_server_pid()
    await conn.close()
    while db.server.psql(f"SELECT pid FROM pg_stat_activity WHERE pid = {pid}"):
        await asyncio.sleep(0.02)


async def sampled(window: Profiler, more: int = 2) -> None:
    """Waits until the sampler has looked again so many times; the first of them may have begun before."""
    sampler = window._sampler
    assert sampler is not None
    wanted = sampler.samples + more
    while sampler.samples < wanted:
        await asyncio.sleep(0.01)


async def drawn(window: Profiler, root: str, waiter: str, *, ms: float) -> None:
    """Waits until the sampler has seen that `waiter` waited so long for `root`."""

    def seen() -> bool:
        assert window._sampler is not None
        return any(
            b.session.application_name == waiter and b.waited_ms >= ms
            for chain in window._sampler.blocking.chains()
            for b in chain.blocked
            if chain.root.application_name == root
        )

    while not seen():
        await asyncio.sleep(0.02)


async def look(window: Profiler) -> None:
    """A look between the window's ends, now and not when it is due."""
    async with window._looking:
        await window._look(final=False)


async def test_pgbench_calls_are_exact(db: Database) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements")
    pgbench(db, db.name, "-i", "-q", "-s", "1")
    async with dbperf.profile(db.dsn) as window:
        window.requests = 200
        out = await asyncio.to_thread(pgbench, db, db.name, "-n", "-c", "4", "-t", "50")
    profile = window.profile
    assert reported(out)[0] == 200
    for part in (
        "pgbench_accounts SET",
        "SELECT abalance",
        "pgbench_tellers SET",
        "pgbench_branches SET",
        "INSERT INTO",
    ):
        statement = find(profile, part)
        assert (statement.calls, statement.rows, statement.calls_per_request) == (200, 200, 1.0)
        assert statement.valid
    assert profile.statements.validity.complete, profile.statements.validity.notes
    assert profile.summary.ended == "complete"
    assert profile.statements.total_ms == pytest.approx(sum(s.total_ms for s in profile.statements.statements))
    assert profile.statements.attributed_share is not None
    assert 0 < profile.statements.attributed_share <= 1
    assert not [s.text for s in profile.statements.statements if "dbperf" in s.text]


async def test_the_sum_is_the_servers_and_within_what_pgbench_measured(db: Database, tmp_path: Path) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements; SET max_parallel_workers_per_gather = 0")
    pgbench(db, db.name, "-i", "-q", "-s", "1")
    script = tmp_path / "heavy.sql"
    script.write_text(
        "SELECT bid, sum(abalance), count(DISTINCT aid % 1000) FROM pgbench_accounts GROUP BY bid;\n"
        "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 20 = 7;\n"
    )
    await agrees(db, "-n", "-c", "1", "-t", "15", "-f", str(script))


async def test_the_six_database_statements_are_told_to_the_unit(db_18: Database, tmp_path: Path) -> None:
    from dbperf.phase3.seed import seed

    db_18.psql("CREATE EXTENSION pg_stat_statements")
    await seed(db_18.dsn, "smoke")
    db_18.psql(
        "INSERT INTO execution_log (case_id, success, error_type, execution_time_ms, created_at)"
        " SELECT case_id, success, error_type, execution_time_ms, created_at"
        " FROM execution_log, generate_series(1, 9);"
        " INSERT INTO case_bank (case_id, query, query_vector, usage_count, success_rate, status)"
        " SELECT case_id || '-' || g, query, query_vector, usage_count + g, success_rate, status"
        " FROM case_bank, generate_series(1, 9) AS g; ANALYZE"
    )
    case = db_18.psql("SELECT case_id FROM case_bank LIMIT 1")
    vector = db_18.psql("SELECT query_vector FROM case_bank WHERE query_vector IS NOT NULL LIMIT 1")
    scripts = []
    for n in range(1, 7):
        script = tmp_path / f"db-00{n}.sql"
        value = f"'{vector}'::vector" if n == 6 else f"'{case}'"
        script.write_text(sql(f"phase3/db-00{n}.sql").strip().replace("$1", value) + ";\n")
        scripts += ["-f", str(script)]
    profile = await agrees(db_18, "-n", "-M", "prepared", "-t", "90", *scripts)
    assert profile.statements.attributed_share is not None
    assert 0 < profile.statements.attributed_share <= 1
    assert sum(s.calls for s in profile.statements.statements) == 90
    assert len(profile.statements.statements) == 6


class Wait:
    """A statement that will wait for a lock, and the most that it can have waited, in ms."""

    def __init__(self, conn: Any, statement: str) -> None:
        self.pid = conn.get_server_pid()
        self.started = time.monotonic()
        self.task = asyncio.create_task(conn.execute(statement))
        self.most_ms = 0.0

    async def begun(self, db: Database) -> None:
        waiting = f"SELECT pid FROM pg_stat_activity WHERE pid = {self.pid} AND wait_event_type = 'Lock'"
        while not await asyncio.to_thread(db.server.psql, waiting):
            await asyncio.sleep(0.02)

    async def over(self) -> None:
        await self.task
        self.most_ms = (time.monotonic() - self.started) * 1000 + 5  # two clocks


async def test_a_planted_blocking_chain_is_drawn_with_its_durations(db: Database) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements; CREATE TABLE t (a int PRIMARY KEY, b int)")
    db.psql("INSERT INTO t SELECT g, 0 FROM generate_series(1, 3) AS g")
    a, b, c = [await asyncpg.connect(db.dsn, server_settings={"application_name": n}) for n in ("anna", "ben", "cleo")]
    async with dbperf.profile(db.dsn) as window:
        first = a.transaction()
        await first.start()
        await a.execute("UPDATE t SET b = 1 WHERE a = 1")
        second = b.transaction()
        await second.start()
        await b.execute("UPDATE t SET b = 2 WHERE a = 2")
        ben_waits = Wait(b, "UPDATE t SET b = 2 WHERE a = 1")
        await ben_waits.begun(db)
        cleo_waits = Wait(c, "UPDATE t SET b = 3 WHERE a = 2")
        await cleo_waits.begun(db)
        await drawn(window, "anna", "ben", ms=1100)
        await first.commit()
        await ben_waits.over()
        await drawn(window, "ben", "cleo", ms=600)
        await second.commit()
        await cleo_waits.over()
        await sampled(window)
    for conn in (a, b, c):
        await conn.close()
    waits = window.profile.waits
    assert waits is not None
    chain = next(x for x in waits.blockers if x.root.application_name == "anna")
    assert (chain.depth, chain.sessions, chain.cycle) == (3, 3, False)
    assert chain.root.state == "idle in transaction"
    assert chain.root.text == "UPDATE t SET b = $1 WHERE a = $2"
    (blocked_ben,) = chain.blocked
    (blocked_cleo,) = blocked_ben.blocked
    assert (blocked_ben.session.application_name, blocked_cleo.session.application_name) == ("ben", "cleo")
    assert blocked_ben.lock_type == "transactionid"
    assert blocked_ben.relation == "t"
    assert blocked_ben.ended
    assert 1100 <= blocked_ben.waited_ms <= ben_waits.most_ms
    later = next(x for x in waits.blockers if x.root.application_name == "ben")
    (blocked_later,) = later.blocked
    assert 600 <= blocked_later.waited_ms <= cleo_waits.most_ms
    assert blocked_later.ended
    assert {f.rule_id for f in window.profile.summary.findings} >= {"blocking-chain", "waits-lock"}
    lock = next(e for e in waits.events if e.wait_event_type == "Lock")
    assert 1000 < lock.session_ms < 1000 * 2 * window.profile.statements.window.seconds
    anna = next(i for i in waits.idle_transactions if i.session.application_name == "anna")
    assert anna.longest_idle_ms > 1000  # one sample before ben's wait was drawn
    assert {p.application_name for p in waits.pools} >= {"anna", "ben", "cleo"}


async def test_a_wait_that_has_not_ended_is_shown_as_such(db: Database) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements; CREATE TABLE t (a int)")
    a, b = [await asyncpg.connect(db.dsn) for _ in range(2)]
    transaction = a.transaction()
    await transaction.start()
    await a.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
    waiting = asyncio.create_task(b.execute("SELECT count(*) FROM t"))
    async with dbperf.profile(db.dsn) as window:
        while not window._sampler or not window._sampler.blocking.chains():
            await asyncio.sleep(0.02)
    await transaction.rollback()
    await waiting
    await a.close()
    await b.close()
    assert window.profile.waits is not None
    (chain,) = window.profile.waits.blockers
    (blocked,) = chain.blocked
    assert not blocked.ended
    assert (blocked.lock_type, blocked.lock_mode, blocked.relation) == ("relation", "AccessShareLock", "t")


async def test_a_deadlock_is_counted_and_drawn_without_going_round_in_circles(db: Database) -> None:
    db.psql(
        "CREATE EXTENSION pg_stat_statements; CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1), (2)"
    )
    a, b = [await asyncpg.connect(db.dsn) for _ in range(2)]
    async with dbperf.profile(db.dsn, rate_hz=100) as window:
        # The server looks for a deadlock once in each wait: anna's look comes before there is one, ben's when the
        # circle has stood for long enough to be sampled.
        for conn, key, timeout in ((a, 1, "1ms"), (b, 2, "2s")):
            await conn.execute(f"SET deadlock_timeout = '{timeout}'")
            await conn.execute("BEGIN")
            await conn.execute(f"UPDATE t SET b = 0 WHERE a = {key}")
        first = Wait(a, "UPDATE t SET b = 0 WHERE a = 2")
        await first.begun(db)
        await asyncio.sleep(0.2)
        with pytest.raises(asyncpg.DeadlockDetectedError):
            await b.execute("UPDATE t SET b = 0 WHERE a = 1")
        await first.over()
        await ended(db, a)
        await ended(db, b)
    assert window.profile.database is not None
    assert window.profile.database.counters is not None
    assert window.profile.database.counters.deadlocks == 1
    assert "deadlocks" in {f.rule_id for f in window.profile.summary.findings}
    assert window.profile.waits is not None
    assert any(c.cycle for c in window.profile.waits.blockers)


async def test_the_database_side(db: Database) -> None:
    db.psql(
        "CREATE EXTENSION pg_stat_statements; CREATE TABLE t (a int PRIMARY KEY, b int)"
        " WITH (autovacuum_enabled = off); INSERT INTO t SELECT g, g FROM generate_series(1, 50000) AS g"
    )
    db.psql("ANALYZE t")
    async with dbperf.profile(db.dsn) as window:
        conn = await asyncpg.connect(db.dsn, server_settings={"work_mem": "64kB"})
        for _ in range(12):
            await conn.fetchval("SELECT count(*) FROM t WHERE b % 7 = 3")
        await conn.fetch("SELECT a FROM t ORDER BY b % 100, a DESC OFFSET 49990")
        for key in range(30):
            await conn.execute("SELECT b FROM t WHERE a = $1", key)
        await conn.execute("UPDATE t SET b = b + 1 WHERE a <= 20000")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await conn.execute("SELECT 1 / 0")
        await ended(db, conn)
    activity = window.profile.database
    assert activity is not None
    assert activity.counters is not None
    assert activity.counters.temp_files >= 1
    assert activity.counters.temp_bytes > 0
    assert activity.counters.rollbacks == 1
    assert activity.counters.rows_updated == 20000
    assert activity.wal is not None
    assert activity.wal.wal_records >= 20000
    assert activity.checkpoints is not None
    assert bool(activity.io) == (db.major >= 16)
    (table,) = activity.tables
    assert (table.relation, table.rows_updated, table.rows_hot_updated < 20000) == ("t", 20000, True)
    assert table.seq_scans >= 13
    assert table.dead_rows == 20000
    (index,) = activity.indexes
    assert index.unique
    assert index.scans >= 30
    assert any(s.name == "work_mem" for s in activity.settings)
    rules = {f.rule_id for f in window.profile.summary.findings}
    assert {"large-sequential-scans", "dead-rows", "statement-spills"} <= rules
    spill = find(window.profile, "ORDER BY b %")
    assert spill.temp_blks_written > 0


async def test_a_sample_takes_no_memory_from_the_system(db: Database) -> None:
    """Unless told otherwise, glibc returns what a sample used each time: 9 page faults, half of its cost."""
    db.psql("CREATE EXTENSION pg_stat_statements")
    async with dbperf.profile(db.dsn, rate_hz=200) as window:
        assert window._sampler is not None
        assert window._sampler._conn is not None
        pid = window._sampler._conn.get_server_pid()
        await sampled(window, more=20)
        before = page_faults(pid)
        await sampled(window, more=50)
        after = page_faults(pid)
    assert after - before < 50


def page_faults(pid: int) -> int:
    """Minor faults of a process so far (proc_pid_stat(5), minflt)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


async def test_replication_lag(server_18: PgServer, db_18: Database, tmp_path: Path) -> None:
    db_18.psql("CREATE EXTENSION pg_stat_statements")
    receiver = subprocess.Popen(
        [server_18.bindir / "pg_receivewal", "-h", server_18.host, "-U", "postgres", "-D", tmp_path, "--no-loop"],
        stderr=subprocess.DEVNULL,
    )
    db_18.psql("SELECT pg_create_physical_replication_slot('idle', true)")
    try:
        async with dbperf.profile(db_18.dsn) as window:
            assert await asyncio.to_thread(
                eventually, lambda: db_18.psql("SELECT state FROM pg_stat_replication") == "streaming"
            )
            db_18.psql("CREATE TABLE t AS SELECT generate_series(1, 1000)")
    finally:
        db_18.psql("SELECT pg_drop_replication_slot('idle')")
        receiver.terminate()
        receiver.wait(120)
    assert window.profile.database is not None
    (replica,) = window.profile.database.replicas
    assert replica.application_name == "pg_receivewal"
    assert replica.state == "streaming"
    (slot,) = window.profile.database.slots
    assert (slot.slot, slot.active) == ("idle", False)
    assert slot.retained_wal_bytes is not None
    assert slot.retained_wal_bytes > 0


async def test_evictions_between_looks_cost_little(tmp_path: Path) -> None:
    server = PgServer(bindir_18(), {"pg_stat_statements.max": "100"})
    try:
        server.psql("CREATE EXTENSION pg_stat_statements")
        conn = await asyncpg.connect(server.dsn())
        async with dbperf.profile(server.dsn()) as window:
            for i in range(1, 200):
                await conn.execute("SELECT count(*) AS hot FROM (SELECT 1) AS x")
                await conn.execute("SELECT " + ", ".join(["1"] * i))
                if i % 20 == 0:
                    await look(window)
        await conn.close()
    finally:
        server.close()
    profile = window.profile
    assert profile.statements.validity.evictions
    assert not profile.statements.validity.complete
    assert find(profile, "AS hot").calls == 199
    seen = [s for s in profile.statements.statements if not s.text.endswith("AS hot")]
    assert sum(s.calls for s in seen) > 150, "looks in between keep what was evicted later"
    assert "statements-evicted" in {f.rule_id for f in profile.summary.findings}


@pytest.mark.parametrize("bindir", [bindir_15, bindir_18])
async def test_a_server_that_is_killed_and_comes_back(bindir: Any) -> None:
    server = PgServer(bindir(), {"synchronous_commit": "on"})  # or the crash takes the extension with it
    try:
        server.psql("CREATE EXTENSION pg_stat_statements")
        async with dbperf.profile(server.dsn(), interim_s=0.2) as window:
            conn = await asyncpg.connect(server.dsn())
            await conn.execute("SELECT pg_sleep(0.1), 'before'")
            await look(window)
            conn.terminate()
            await asyncio.to_thread(server.crash)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(server.start)
            server.psql("SELECT pg_sleep(0.2)")
    finally:
        server.close()
    profile = window.profile
    assert profile.summary.ended == "complete"
    assert profile.statements.validity.restarted
    assert profile.statements.validity.reset
    assert not profile.statements.validity.complete
    assert find(profile, "$2").calls == 1, "what was seen before the crash is kept"
    assert not all(s.valid for s in profile.statements.statements)
    assert profile.waits is not None
    assert profile.waits.sampler.gaps >= 1
    assert profile.waits.sampler.missed > 0


async def test_a_server_that_does_not_come_back_leaves_what_was_seen() -> None:
    server = PgServer(bindir_18())
    try:
        server.psql("CREATE EXTENSION pg_stat_statements")
        async with Profiler(server.dsn(), reconnect_s=0.5) as window:
            server.psql("SELECT 4711 AS kept")
            await look(window)
            await asyncio.to_thread(server.stop)
    finally:
        server.close()
    profile = window.profile
    assert profile.summary.ended == "server lost"
    assert find(profile, "AS kept").calls == 1
    assert not profile.statements.validity.complete
    assert any("lost" in n for n in profile.statements.validity.notes)


async def test_a_role_that_sees_little(db: Database) -> None:
    role = f"r_{db.name}"
    db.psql(f"CREATE EXTENSION pg_stat_statements; CREATE ROLE {role} LOGIN")
    conn = await asyncpg.connect(db.dsn)
    try:
        async with dbperf.profile(db.server.dsn(db.name, role)) as window:
            await conn.execute("SELECT pg_sleep(0.5)")
            await sampled(window)
    finally:
        await conn.close()
        db.psql(f"DROP OWNED BY {role}; DROP ROLE {role}")
    profile = window.profile
    assert profile.statements.validity.hidden_statements >= 1
    assert profile.statements.attributed_share == pytest.approx(0, abs=0.05)
    assert profile.waits is not None
    assert profile.waits.hidden_sessions_max >= 1
    assert not [s.text for s in profile.statements.statements if "dbperf" in s.text]
    [hidden] = [f for f in profile.summary.findings if f.rule_id == "statements-hidden"]
    assert "GRANT pg_read_all_stats" in hidden.advice
    assert hidden.sql is None, "CURRENT_USER of whoever runs it would be the administrator"


async def test_nothing_to_profile_with_ends_in_one_clear_error(db: Database) -> None:
    with pytest.raises(CapabilityError, match="not installed"):
        async with dbperf.profile(db.dsn):
            pass
    with pytest.raises(ConnectError):
        async with dbperf.profile("postgresql://nobody@127.0.0.1:1/x"):
            pass
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dbperf%'"
    assert await asyncio.to_thread(eventually, lambda: db.psql(left) == "0")


async def test_statistics_are_reset_only_when_told(db: Database) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements; SELECT 4711 AS kept")
    count = "SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%AS kept%' AND calls = 1"
    async with dbperf.profile(db.dsn):
        pass
    assert db.psql(count + " AND toplevel") == "1"
    async with dbperf.profile(db.dsn, reset=True) as window:
        db.psql("SELECT 4712 AS kept")
    assert find(window.profile, "AS kept").valid
    assert window.profile.statements.validity.complete


async def test_an_exception_inside_the_window_leaves_a_profile(db: Database) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements")
    window = dbperf.profile(db.dsn)

    async def broken() -> None:
        async with window:
            db.psql("SELECT 4711 AS kept")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broken()
    assert window.profile.summary.ended == "interrupted"
    assert find(window.profile, "AS kept").calls == 1


async def test_rollbacks_that_were_asked_for_are_no_failures(db: Database) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements")

    async def rules(statement: str) -> set[str]:
        async with dbperf.profile(db.dsn) as window:
            conn = await asyncpg.connect(db.dsn)
            for _ in range(20):
                with suppress(asyncpg.DivisionByZeroError):
                    await conn.execute(statement)
            await ended(db, conn)
        assert window.profile.database is not None
        assert window.profile.database.counters is not None
        assert window.profile.database.counters.rollbacks >= 20
        return {f.rule_id for f in window.profile.summary.findings}

    assert "rollbacks" not in await rules("BEGIN; SELECT 1; ROLLBACK")
    assert "rollbacks" in await rules("SELECT 1 / 0")
