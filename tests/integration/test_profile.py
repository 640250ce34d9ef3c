"""`dbperf.profile` on real servers: totals, waits, blocking chains, counters, and what goes wrong in a window."""

from __future__ import annotations

import asyncio
import re
import signal
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
    """A profile whose sum over statements is within 5 % of what pgbench measured as its client.

    On a busy machine the client waits for a processor after the server has answered, and the two differ for no fault
    of the profile: one of three attempts must agree, and none may be above.
    """
    seen = []
    for _ in range(3):
        async with dbperf.profile(db.dsn) as window:
            out = await asyncio.to_thread(pgbench, db, db.name, *args)
        transactions, latency_ms = reported(out)
        seen.append(window.profile.statements.total_ms / (transactions * latency_ms))
        assert seen[-1] < 1.05
        if seen[-1] > 0.95:
            return window.profile
    raise AssertionError(f"statements over client: {seen}")


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
    assert 0.1 < profile.statements.attributed_share <= 1
    assert not [s.text for s in profile.statements.statements if "dbperf" in s.text]


async def test_the_sum_agrees_with_pgbench_within_5_percent(db: Database, tmp_path: Path) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements; SET max_parallel_workers_per_gather = 0")
    pgbench(db, db.name, "-i", "-q", "-s", "2")
    script = tmp_path / "heavy.sql"
    script.write_text(
        "SELECT bid, sum(abalance), count(DISTINCT aid % 1000) FROM pgbench_accounts GROUP BY bid;\n"
        "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 20 = 7;\n"
    )
    await agrees(db, "-n", "-c", "1", "-t", "15", "-f", str(script))


async def test_the_six_database_statements_agree_with_the_client_within_5_percent(
    db_18: Database, tmp_path: Path
) -> None:
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
    profile = await agrees(db_18, "-n", "-M", "prepared", "-t", "150", *scripts)
    assert profile.statements.attributed_share is not None
    assert profile.statements.attributed_share > 0.8
    assert sum(s.calls for s in profile.statements.statements) == 150
    assert len(profile.statements.statements) == 6


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
        ben_started = time.monotonic()
        ben = asyncio.create_task(b.execute("UPDATE t SET b = 2 WHERE a = 1"))
        await asyncio.sleep(0.5)
        cleo_started = time.monotonic()
        cleo = asyncio.create_task(c.execute("UPDATE t SET b = 3 WHERE a = 2"))
        await asyncio.sleep(1.0)
        await first.commit()
        await ben
        ben_ms = (time.monotonic() - ben_started) * 1000
        await asyncio.sleep(0.4)
        await second.commit()
        await cleo
        cleo_ms = (time.monotonic() - cleo_started) * 1000
        await asyncio.sleep(0.3)
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
    # Short by the time to the next sample at most: 50 ms, more where the machine is busy.
    assert waits.sampler.longest_gap_ms is not None
    short_ms = waits.sampler.longest_gap_ms + 50
    assert ben_ms - short_ms <= blocked_ben.waited_ms <= ben_ms + 5
    later = next(x for x in waits.blockers if x.root.application_name == "ben")
    (blocked_later,) = later.blocked
    assert cleo_ms - short_ms <= blocked_later.waited_ms <= cleo_ms + 5
    assert blocked_later.ended
    assert {f.rule_id for f in window.profile.summary.findings} >= {"blocking-chain", "waits-lock"}
    lock = next(e for e in waits.events if e.wait_event_type == "Lock")
    assert lock.session_ms == pytest.approx(ben_ms + cleo_ms, rel=0.25)
    assert any(i.session.application_name == "anna" and i.longest_idle_ms > 1000 for i in waits.idle_transactions)
    assert {p.application_name for p in waits.pools} >= {"anna", "ben", "cleo"}


async def test_a_wait_that_has_not_ended_is_shown_as_such(db: Database) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements; CREATE TABLE t (a int)")
    a, b = [await asyncpg.connect(db.dsn) for _ in range(2)]
    transaction = a.transaction()
    await transaction.start()
    await a.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
    waiting = asyncio.create_task(b.execute("SELECT count(*) FROM t"))
    async with dbperf.profile(db.dsn) as window:
        await asyncio.sleep(0.6)
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
        for conn, key in ((a, 1), (b, 2)):
            await conn.execute("BEGIN")
            await conn.execute(f"UPDATE t SET b = 0 WHERE a = {key}")
        results = await asyncio.gather(
            a.execute("UPDATE t SET b = 0 WHERE a = 2"), b.execute("UPDATE t SET b = 0 WHERE a = 1"),
            return_exceptions=True,
        )  # fmt: skip
        assert sum(isinstance(r, asyncpg.DeadlockDetectedError) for r in results) == 1
        await a.close()
        await b.close()
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
        await conn.close()
        await asyncio.sleep(0.2)
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


async def test_replication_lag(server_18: PgServer, db_18: Database, tmp_path: Path) -> None:
    db_18.psql("CREATE EXTENSION pg_stat_statements")
    receiver = subprocess.Popen(
        [server_18.bindir / "pg_receivewal", "-h", server_18.host, "-U", "postgres", "-D", tmp_path, "--no-loop"],
        stderr=subprocess.DEVNULL,
    )
    db_18.psql("SELECT pg_create_physical_replication_slot('idle', true)")
    try:
        async with dbperf.profile(db_18.dsn) as window:
            for _ in range(50):
                if db_18.psql("SELECT state FROM pg_stat_replication") == "streaming":
                    break
                await asyncio.sleep(0.1)
            db_18.psql("CREATE TABLE t AS SELECT generate_series(1, 1000)")
    finally:
        db_18.psql("SELECT pg_drop_replication_slot('idle')")
        receiver.terminate()
        receiver.wait(10)
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
        async with dbperf.profile(server.dsn(), interim_s=0.1) as window:
            for i in range(1, 200):
                await conn.execute("SELECT count(*) AS hot FROM (SELECT 1) AS x")
                await conn.execute("SELECT " + ", ".join(["1"] * i))
                await asyncio.sleep(0.005)
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
    server = PgServer(bindir())
    try:
        server.psql("CREATE EXTENSION pg_stat_statements")
        async with dbperf.profile(server.dsn(), interim_s=0.2) as window:
            conn = await asyncpg.connect(server.dsn())
            await conn.execute("SELECT pg_sleep(0.1), 'before'")
            await asyncio.sleep(0.6)
            conn.terminate()
            await asyncio.to_thread(server.stop, signal.SIGKILL)
            await asyncio.sleep(0.5)
            (server.data / "postmaster.pid").unlink(missing_ok=True)
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
        async with Profiler(server.dsn(), interim_s=0.2, reconnect_s=0.5) as window:
            server.psql("SELECT 4711 AS kept")
            await asyncio.sleep(0.5)
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
    assert db.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dbperf%'") == "0"


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
            await conn.close()
            await asyncio.sleep(0.2)
        assert window.profile.database is not None
        assert window.profile.database.counters is not None
        assert window.profile.database.counters.rollbacks >= 20
        return {f.rule_id for f in window.profile.summary.findings}

    assert "rollbacks" not in await rules("BEGIN; SELECT 1; ROLLBACK")
    assert "rollbacks" in await rules("SELECT 1 / 0")
