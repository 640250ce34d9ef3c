"""EXPLAIN ANALYZE executes only what is proven to read, and whatever is refused says why."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from dbperf.errors import StatementError
from dbperf.postgres.analyze import explain_analyze
from dbperf.postgres.readonly import prove_read_only
from tests.conftest import Database
from tests.support.module_database import module_database

SETUP = """
CREATE TABLE t (id int PRIMARY KEY, x text);
INSERT INTO t SELECT i, 'x' FROM generate_series(1, 100) i;
CREATE SEQUENCE s;
CREATE TABLE audit (at timestamptz);
CREATE FUNCTION writes() RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO audit VALUES (now()); SELECT 1';
CREATE FUNCTION hides() RETURNS int LANGUAGE sql STABLE AS 'SELECT writes()';
CREATE FUNCTION hides_deeper(n int) RETURNS int LANGUAGE plpgsql STABLE AS $$BEGIN RETURN public.hides() + n; END$$;
CREATE FUNCTION dynamic() RETURNS int LANGUAGE plpgsql STABLE AS $$BEGIN EXECUTE 'SELECT 1'; RETURN 1; END$$;
CREATE FUNCTION locks() RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT pg_advisory_lock(7) IS NULL';
CREATE FUNCTION good(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n + 1';
CREATE FUNCTION good_pl(n int) RETURNS bigint LANGUAGE plpgsql STABLE AS
  $$BEGIN RETURN (SELECT count(*) FROM t WHERE id < n); END$$;
CREATE FUNCTION op_writes(a t, b int) RETURNS bool LANGUAGE sql AS 'SELECT writes() = b';
CREATE OPERATOR ### (leftarg = t, rightarg = int, function = op_writes);
CREATE VIEW v_good AS SELECT id, good(id) g FROM t;
CREATE VIEW v_bad AS SELECT id, writes() w FROM t;
CREATE VIEW v_nextval AS SELECT nextval('s') n;
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN evil AS int CHECK (writes() > 0);
CREATE TABLE guarded (id int);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON guarded USING (writes() > 0);
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE elsewhere (line text) SERVER files OPTIONS (program 'touch /tmp/never');
"""


@pytest.fixture(scope="module", params=[15, 18])
def db(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from module_database(request, SETUP)


@pytest.fixture
async def conn(db: Database) -> AsyncIterator[asyncpg.Connection[Any]]:
    conn = await asyncpg.connect(db.dsn)
    yield conn
    await conn.close()


REFUSED = [
    ("INSERT INTO t VALUES (0, '')", "it inserts rows"),
    ("UPDATE t SET x = ''", "it updates rows"),
    ("DELETE FROM t", "it deletes rows"),
    ("MERGE INTO t USING t s ON s.id = t.id WHEN MATCHED THEN DELETE", "it merges rows"),
    ("WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", "it deletes rows"),
    ("SELECT * FROM (SELECT 1) a WHERE EXISTS (WITH i AS (INSERT INTO t VALUES (0) RETURNING 1) SELECT 1)", "inserts"),
    ("SELECT * FROM t FOR UPDATE", "locks rows"),
    ("SELECT * FROM (SELECT * FROM t FOR SHARE) x", "locks rows"),
    ("SELECT * INTO copy FROM t", "creates a table"),
    ("SELECT nextval('s')", "it calls nextval()"),
    ("SELECT pg_catalog.nextval('s')", "it calls nextval()"),
    ("SELECT \"nextval\"('s')", "it calls nextval()"),
    ("SELECT set_config('work_mem', '1GB', false)", "it calls set_config()"),
    ("SELECT * FROM dblink('dbname=x', 'DELETE FROM t') AS d(a int)", "it calls dblink()"),
    ("SELECT pg_advisory_lock(1)", "it calls pg_advisory_lock()"),
    ("SELECT query_to_xml('DELETE FROM t', true, true, '')", "it calls query_to_xml()"),
    ("SELECT pg_stat_reset()", "pg_stat_reset(), which is volatile"),
    ("SELECT writes()", "public.writes(), which is volatile"),
    ("SELECT public.hides()", "writes() (through public.hides()), which is volatile"),
    ("SELECT * FROM t ORDER BY hides_deeper(id)", "through public.hides()"),
    ("SELECT dynamic()", "whose body has EXECUTE"),
    ("SELECT locks()", "it calls pg_advisory_lock()"),
    ("SELECT * FROM t WHERE t ### 1", "op_writes(), which is volatile"),
    ("SELECT * FROM v_bad", "(through the view public.v_bad)"),
    ("SELECT * FROM v_nextval", "it calls nextval()"),
    ("SELECT 5::evil", "writes() (through a domain's check)"),
    ("SELECT * FROM guarded", "(through a policy of public.guarded)"),
    ("SELECT * FROM elsewhere", "a foreign table"),
    ("VALUES (writes())", "which is volatile"),
    ("SELECT 1; DELETE FROM t", "2 statements were given"),
    ("EXPLAIN ANALYZE DELETE FROM t", "is a utility statement"),
    ("COPY t TO PROGRAM 'true'", "is a utility statement"),
    ("DO $$BEGIN DELETE FROM t; END$$", "is a utility statement"),
    ("SELEC 1", "line 1, column 1: syntax error"),
]


@pytest.mark.parametrize(("sql", "reason"), REFUSED, ids=[s[:40] for s, _ in REFUSED])
async def test_what_may_write_is_refused_with_the_reason(conn: asyncpg.Connection[Any], sql: str, reason: str) -> None:
    with pytest.raises(StatementError) as e:
        await explain_analyze(conn, sql)
    assert reason in e.value.message
    assert await conn.fetchval("SELECT count(*) FROM t") == 100
    assert await conn.fetchval("SELECT count(*) FROM audit") == 0
    assert not await conn.fetchval("SELECT is_called FROM s")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t WHERE id = 5",
        "SELECT good(id), good_pl(id), lower(x) FROM t",
        "SELECT * FROM v_good WHERE g > 3 ORDER BY id DESC LIMIT 5 OFFSET 2",
        "WITH t AS (SELECT * FROM t WHERE id BETWEEN 1 AND 9) SELECT count(*) FROM t GROUP BY ROLLUP (id, x)",
        "WITH RECURSIVE r AS (SELECT 1 n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r",
        "SELECT now(), random(), current_date, extract(year FROM now()), 5::positive, '{1,2}'::int[], interval '1 day'",
        "SELECT *, rank() OVER (PARTITION BY x ORDER BY id) FROM t WHERE x LIKE 'x%' OR x ~ 'y' OR id IN (1, 2)",
        "SELECT a.id FROM t a LEFT JOIN LATERAL (SELECT * FROM t b WHERE b.id < a.id LIMIT 1) c ON true",
        "SELECT json_build_object('a', id), jsonb_path_query('{}', '$') FROM t TABLESAMPLE SYSTEM (50)",
        "SELECT * FROM pg_stat_user_tables",
        "SELECT * FROM generate_series(1, 3) WITH ORDINALITY",
        "TABLE t",
        "VALUES (1), (2)",
        "SELECT 'DELETE FROM t; nextval(''s'')', \"x\" FROM t -- DELETE FROM t",
    ],
)
async def test_what_only_reads_is_executed(conn: asyncpg.Connection[Any], sql: str) -> None:
    plan = await explain_analyze(conn, sql)
    assert plan.analyzed
    assert plan.root.total_ms is not None
    assert plan.root.buffers is not None


async def test_time_limits_and_errors_end_in_one_line(conn: asyncpg.Connection[Any], db: Database) -> None:
    with pytest.raises(StatementError, match="canceling statement due to statement timeout"):
        await explain_analyze(conn, "SELECT count(*) FROM t a, t b, t c, t d, t e", statement_timeout_s=0.2)
    with pytest.raises(StatementError, match="division by zero"):
        await explain_analyze(conn, "SELECT 1 / (id - id) FROM t")
    other = await asyncpg.connect(db.dsn)
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE t")
            with pytest.raises(StatementError, match="canceling statement due to lock timeout"):
                await explain_analyze(conn, "SELECT * FROM t", lock_timeout_s=0.1)
    finally:
        await other.close()
    assert await conn.fetchval("SHOW statement_timeout") == "0"


async def test_values_are_cast_to_the_parameters_types(conn: asyncpg.Connection[Any]) -> None:
    plan = await explain_analyze(conn, "SELECT * FROM t WHERE id = $1 AND x = $2", parameters=["7", "x"])
    assert plan.root.actual_rows == 1
    with pytest.raises(StatementError, match="has 2 parameters, 1 values were given"):
        await explain_analyze(conn, "SELECT * FROM t WHERE id = $1 AND x = $2", parameters=["7"])


async def test_a_read_only_role_can_prove_too(conn: asyncpg.Connection[Any]) -> None:
    await conn.execute(f"CREATE ROLE reader_{id(conn)}; GRANT pg_read_all_data TO reader_{id(conn)}")
    try:
        await conn.execute(f"SET ROLE reader_{id(conn)}")
        await prove_read_only(conn, "SELECT * FROM v_good WHERE id = 1")
        assert (await explain_analyze(conn, "SELECT * FROM v_good WHERE id = 1")).analyzed
    finally:
        await conn.execute(f"RESET ROLE; DROP ROLE reader_{id(conn)}")
