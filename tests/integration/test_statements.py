"""Snapshots and deltas of pg_stat_statements on real servers, for every version of the extension."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from dbperf.errors import CapabilityError
from dbperf.postgres.statements import delta, snapshot
from dbperf.records.base import parse_document
from dbperf.records.statements import Statement, Statements
from tests.conftest import Database
from tests.support.pgserver import PgServer, bindir_15, bindir_18

VERSIONS = [(15, "1.8"), (15, "1.9"), (15, "1.10"), (18, "1.8"), (18, "1.9"), (18, "1.10"), (18, "1.11"), (18, "1.12")]


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    conn = await asyncpg.connect(dsn)
    try:
        yield conn
    finally:
        await conn.close()


def find(profile: Statements, part: str) -> Statement:
    found = [s for s in profile.statements if part in s.text]
    assert len(found) == 1, (part, [s.text for s in profile.statements])
    return found[0]


@pytest.mark.parametrize(("major", "version"), VERSIONS)
async def test_every_version_of_the_extension(request: pytest.FixtureRequest, major: int, version: str) -> None:
    db: Database = request.getfixturevalue(f"db_{major}")
    db.psql(f"CREATE EXTENSION pg_stat_statements VERSION '{version}'")
    db.psql("CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 10000) AS g")
    async with connected(db.dsn) as conn, connected(db.dsn) as user:
        await user.execute("SELECT count(*) FROM t WHERE a > 5")
        before = await snapshot(conn, texts=False)
        for i in range(7):
            await user.execute(f"SELECT count(*) FROM t WHERE a > {i}")
        await user.execute("INSERT INTO t SELECT generate_series(1, 100)")
        after = await snapshot(conn, since=before)
    profile = delta(before, after, requests=14)
    assert profile.extension_version == version
    count = find(profile, "count(*)")
    assert (count.calls, count.rows, count.rows_per_call, count.calls_per_request) == (7, 7, 1.0, 0.5)
    assert count.valid
    assert count.text == "SELECT count(*) FROM t WHERE a > $1"
    assert count.user == "postgres"
    assert count.database == db.name
    assert count.mean_ms == pytest.approx(count.total_ms / 7)
    assert count.stddev_ms is not None
    assert count.max_ms is not None
    assert 0 < count.stddev_ms < count.max_ms
    assert count.hit_ratio == 1.0
    insert = find(profile, "INSERT INTO t")
    assert insert.rows == 100
    assert insert.wal_records is not None
    assert insert.wal_records >= 100
    assert not [s.text for s in profile.statements if "pg_stat_statements" in s.text], "dbperf's own must not count"
    assert profile.validity.complete, profile.validity.notes
    assert profile.validity.evictions == 0
    numbers = tuple(int(x) for x in version.split("."))
    assert (count.jit_ms is not None) == (numbers >= (1, 10))
    assert (count.local_blk_read_ms is not None) == (numbers >= (1, 11))
    assert (count.wal_buffers_full is not None) == (numbers >= (1, 12))
    assert sum(s.share for s in profile.statements) == pytest.approx(1.0)
    assert parse_document(Statements, profile.to_json(), source="x") == profile


async def test_the_window_standard_deviation_is_of_the_window_alone(db_18: Database) -> None:
    db_18.psql("CREATE EXTENSION pg_stat_statements")
    async with connected(db_18.dsn) as conn, connected(db_18.dsn) as user:
        for _ in range(3):
            await user.execute("SELECT pg_sleep(0.05)")
        before = await snapshot(conn)
        totals = []
        for seconds in (0, 0.1, 0.3):
            if seconds:
                await user.execute(f"SELECT pg_sleep({seconds})")
            totals.append(
                await conn.fetchval(
                    "SELECT total_exec_time FROM pg_stat_statements WHERE query LIKE 'SELECT pg_sleep(%'"
                    " AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
                )
            )
        after = await snapshot(conn)
    first, second = totals[1] - totals[0], totals[2] - totals[1]
    sleep = find(delta(before, after), "pg_sleep(")
    assert sleep.stddev_ms == pytest.approx(abs(second - first) / 2, rel=1e-3)
    assert sleep.mean_ms == pytest.approx((first + second) / 2)
    assert sleep.min_max_of == "life"


async def test_extension_in_another_schema_whose_name_needs_quotes(db: Database) -> None:
    db.psql('CREATE SCHEMA "my Stats"; CREATE EXTENSION pg_stat_statements SCHEMA "my Stats"')
    async with connected(db.dsn) as conn:
        before = await snapshot(conn)
        await conn.execute("SELECT 4711 AS x")
        assert find(delta(before, await snapshot(conn)), "AS x").calls == 1


async def test_in_lists_and_values_are_merged_and_shown_as_merged(db: Database) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements; CREATE TABLE t (a int, b int)")
    async with connected(db.dsn) as conn, connected(db.dsn) as user:
        before = await snapshot(conn)
        for n in (1, 2, 3, 5, 9):
            await user.execute(f"SELECT a FROM t WHERE a IN ({', '.join(map(str, range(n)))})")
            await user.execute(f"INSERT INTO t VALUES {', '.join(['(1, 2)'] * n)}")
        await user.execute("SELECT b FROM t WHERE a IN (1, 2)")
        profile = delta(before, await snapshot(conn))
    select = find(profile, "SELECT a FROM t")
    assert (select.calls, select.text) == (5, "SELECT a FROM t WHERE a IN ($1)")
    insert = find(profile, "INSERT")
    assert (insert.calls, insert.merged, insert.rows) == (5, 5, 20)
    assert select.merged == (5 if db.major == 15 else 2)  # 18 gives lists of two and more one queryid
    assert find(profile, "SELECT b").calls == 1


async def test_reset_within_the_window(db: Database) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements")
    async with connected(db.dsn) as conn:
        for _ in range(5):
            await conn.execute("SELECT 1 AS uno")
        before = await snapshot(conn)
        await conn.execute("SELECT 1 AS uno")
        await conn.execute("SELECT pg_stat_statements_reset()")
        await conn.execute("SELECT 1 AS uno")
        profile = delta(before, await snapshot(conn))
    assert profile.validity.reset
    assert not profile.validity.complete
    uno = find(profile, "AS uno")
    assert (uno.calls, uno.valid) == (1, False)
    assert uno.validity_note


@pytest.mark.parametrize("version", ["1.8", "1.9", "1.11"])
async def test_one_entry_reset_within_the_window(db_18: Database, version: str) -> None:
    db_18.psql(f"CREATE EXTENSION pg_stat_statements VERSION '{version}'")
    async with connected(db_18.dsn) as conn:
        for _ in range(5):
            await conn.execute("SELECT 1 AS uno")
        await conn.execute("SELECT 2 AS dos, 3 AS tres")
        before = await snapshot(conn)
        queryid = next(k.queryid for k, t in before.texts.items() if "AS uno" in t)
        await conn.execute("SELECT 2 AS dos, 3 AS tres")
        await conn.execute(f"SELECT pg_stat_statements_reset(0, 0, {queryid})")
        await conn.execute("SELECT 1 AS uno")
        profile = delta(before, await snapshot(conn))
    assert not find(profile, "AS uno").valid
    assert find(profile, "AS dos").valid
    assert not profile.validity.reset
    assert profile.validity.invalid_statements == 1


async def test_without_pg_read_all_stats_the_hidden_time_is_told(db: Database) -> None:
    role = f"r_{db.name}"
    db.psql(f"CREATE EXTENSION pg_stat_statements; CREATE ROLE {role} LOGIN")
    try:
        async with connected(db.server.dsn(db.name, role)) as conn, connected(db.dsn) as user:
            before, started = await snapshot(conn), time.monotonic()
            await user.execute("SELECT pg_sleep(0.2)")
            await conn.execute("SELECT pg_sleep(0.1)")
            elapsed_ms = (time.monotonic() - started) * 1000
            profile = delta(before, await snapshot(conn))
        own = find(profile, "pg_sleep")
        assert 100 <= own.total_ms < elapsed_ms
        assert profile.validity.hidden_statements >= 1
        assert 200 <= profile.validity.hidden_ms < elapsed_ms
        assert profile.total_ms == pytest.approx(own.total_ms + profile.validity.hidden_ms)
        assert own.share == pytest.approx(own.total_ms / profile.total_ms)
        assert any("pg_read_all_stats" in n for n in profile.validity.notes)
    finally:
        db.psql(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_missing_extension_says_what_to_do(db: Database) -> None:
    async with connected(db.dsn) as conn:
        with pytest.raises(CapabilityError) as e:
            await snapshot(conn)
    assert "CREATE EXTENSION pg_stat_statements" in (e.value.hint or "")


async def test_too_old_extension_says_what_to_do(db: Database) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements VERSION '1.7'")
    async with connected(db.dsn) as conn:
        with pytest.raises(CapabilityError, match=r"1\.7") as e:
            await snapshot(conn)
    assert "UPDATE" in (e.value.hint or "")


@pytest.mark.parametrize("bindir", [bindir_15, bindir_18])
async def test_eviction_restart_crash_and_no_preload(bindir: Any) -> None:
    # synchronous_commit: or the crash takes the extension with it.
    server = PgServer(bindir(), {"pg_stat_statements.max": "100", "synchronous_commit": "on"})
    try:
        server.psql("CREATE EXTENSION pg_stat_statements")
        async with connected(server.dsn()) as conn:
            before = await snapshot(conn)
            for i in range(250):
                await conn.execute("SELECT " + ", ".join(["1"] * (i + 1)))
            profile = delta(before, await snapshot(conn))
        assert profile.validity.evictions
        assert not profile.validity.complete
        assert not all(s.valid for s in profile.statements)
        assert any("pg_stat_statements.max (now 100)" in n for n in profile.validity.notes)

        # A clean restart keeps the entries: the window stays whole, and says that there was a restart.
        server.psql("SELECT pg_stat_statements_reset(); SELECT 1 AS kept")
        async with connected(server.dsn()) as conn:
            before = await snapshot(conn)
        server.stop(signal.SIGINT)
        server.start()
        async with connected(server.dsn()) as conn:
            await conn.execute("SELECT 1 AS kept")
            profile = delta(before, await snapshot(conn))
        assert profile.validity.restarted
        assert not profile.validity.reset
        assert (find(profile, "AS kept").calls, find(profile, "AS kept").valid) == (1, True)

        # A crash loses them.
        async with connected(server.dsn()) as conn:
            before = await snapshot(conn)
        server.crash()
        server.start()
        async with connected(server.dsn()) as conn:
            await conn.execute("SELECT 1 AS kept")
            profile = delta(before, await snapshot(conn))
        assert profile.validity.restarted
        assert profile.validity.reset
        assert (find(profile, "AS kept").calls, find(profile, "AS kept").valid) == (1, False)

        server.stop()
        server.settings["shared_preload_libraries"] = ""
        server.start()
        async with connected(server.dsn()) as conn:
            with pytest.raises(CapabilityError, match="not preloaded"):
                await snapshot(conn)
    finally:
        server.close()


async def test_text_with_emoji_html_and_a_megabyte(db: Database) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements; CREATE TABLE t (a int)")
    async with connected(db.dsn) as conn, connected(db.dsn) as user:
        before = await snapshot(conn)
        await user.execute('SELECT 1 AS "😀<script>alert(1)</script>"')
        for n in (100_000, 90_000):
            await user.execute(f"INSERT INTO t VALUES {', '.join(['(12)'] * n)}")
        profile = delta(before, await snapshot(conn))
    assert find(profile, "<script>").text == 'SELECT $1 AS "😀<script>alert(1)</script>"'
    insert = find(profile, "INSERT")
    assert (insert.calls, insert.merged) == (2, 2)
    assert len(insert.text) < 25_000
    assert "characters)" in insert.text


async def test_text_that_is_no_utf8_in_a_sql_ascii_database(db: Database) -> None:
    name = f"{db.name}_ascii"
    db.psql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    db.psql("CREATE EXTENSION pg_stat_statements")
    try:
        db.server.psql("CREATE EXTENSION pg_stat_statements", name)
        async with connected(db.server.dsn(name)) as inside, connected(db.dsn) as outside:
            before = await snapshot(inside)
            before_outside = await snapshot(outside)
            subprocess.run(
                [db.server.bindir / "psql", "-XqAt", "-h", db.server.host, "-U", "postgres", name],
                input=b'SELECT 1 AS "caf\xe9\xff";', env={"PGCLIENTENCODING": "SQL_ASCII"}, check=True,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
            await outside.execute("SELECT 2 AS dos, 3 AS tres")
            profile = delta(before, await snapshot(inside))
            assert find(profile, 'AS "caf').text == 'SELECT $1 AS "caf\ufffd\ufffd"'
            # From a UTF-8 database pg_stat_statements fails on that text: figures stay, the texts are said to miss.
            profile = delta(before_outside, await snapshot(outside))
            assert any(s.calls == 1 and s.text == "(text not available)" for s in profile.statements)
            assert any("encoding" in n for n in profile.validity.notes)
            assert not profile.validity.complete
    finally:
        db.psql(f"SELECT pg_stat_statements_reset(); DROP DATABASE {name} WITH (FORCE)")
