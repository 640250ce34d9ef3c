"""EXPLAIN on real servers: typed plans with and without parameters, and statements that have none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from dbperf.errors import ServerError, StatementError
from dbperf.plans.tree import label, walk
from dbperf.postgres.explain import explain, explain_statement
from tests.conftest import Database

SETUP = """
CREATE TABLE t (a int PRIMARY KEY, b text, d timestamptz DEFAULT now());
INSERT INTO t SELECT i, 'x' || i FROM generate_series(1, 2000) i;
CREATE TABLE parts (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200);
ANALYZE t;
"""


@pytest.fixture
async def conn(db: Database) -> AsyncIterator[asyncpg.Connection[Any]]:
    db.psql(SETUP)
    conn = await asyncpg.connect(db.dsn)
    yield conn
    await conn.close()


async def test_a_statement_without_parameters(conn: asyncpg.Connection[Any]) -> None:
    plan = await explain(conn, "SELECT * FROM t WHERE a = 5;  -- five")
    assert label(plan.root) == "Index Scan using t_pkey on t"
    assert plan.root.conditions["Index Cond"] == "(t.a = 5)"
    assert not plan.analyzed
    assert plan.root.total_ms is None


async def test_generic_and_custom_plans(conn: asyncpg.Connection[Any]) -> None:
    generic = await explain(conn, "SELECT * FROM t WHERE a = $1 AND b <> $2")
    assert generic.root.conditions["Index Cond"] == "(t.a = $1)"
    custom = await explain(conn, "SELECT * FROM t WHERE a = $1 AND b <> $2", parameters=["7", r"it's \ odd"])
    assert custom.root.conditions["Index Cond"] == "(t.a = 7)"
    assert "it''s" in custom.root.conditions["Filter"]
    null = await explain(conn, "SELECT * FROM t WHERE a = $1", parameters=[None])
    assert null.root.node_type == "Result"
    with pytest.raises(StatementError, match="has 1 parameters, 2 values were given"):
        await explain(conn, "SELECT * FROM t WHERE a = $1", parameters=["1", "2"])
    with pytest.raises(StatementError, match='invalid input syntax for type integer: "x"'):
        await explain(conn, "SELECT * FROM t WHERE a = $1", parameters=["x"])
    assert not await conn.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'dbperf%'")


@pytest.mark.pg(">= 16")
async def test_a_generic_plan_shows_all_partitions(db: Database) -> None:
    db.psql(SETUP)
    conn = await asyncpg.connect(db.dsn)
    try:
        plan = await explain(conn, "SELECT * FROM parts WHERE k = $1 LIMIT $2")
    finally:
        await conn.close()
    assert {n.relation for n in walk(plan.root) if n.relation} == {"parts_1", "parts_2"}


async def test_normalised_texts_that_are_no_sql_any_more(conn: asyncpg.Connection[Any]) -> None:
    plan = await explain(
        conn,
        "SELECT extract($1 FROM d), b FROM t WHERE d > now() - interval $2 AND d < date $3 AND a IN ($4 /*, ... */)",
    )
    assert plan.root.relation == "t"


async def test_writes_are_planned_and_not_executed(conn: asyncpg.Connection[Any]) -> None:
    for sql in ("DELETE FROM t WHERE a = $1", "INSERT INTO t VALUES ($1, $2)", "UPDATE t SET b = $2 WHERE a = $1"):
        assert (await explain(conn, sql)).root.node_type == "ModifyTable"
    assert await conn.fetchval("SELECT count(*) FROM t") == 2000


async def test_inside_the_callers_transaction(conn: asyncpg.Connection[Any]) -> None:
    async with conn.transaction():
        await conn.execute("INSERT INTO t VALUES (0, 'mine')")
        assert (await explain_statement(conn, "SELECT nonsense FROM t")).error
        await explain(conn, "SELECT * FROM t WHERE a = $1")
    assert await conn.fetchval("SELECT count(*) FROM t") == 2001


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT *\nFROM t\nWHERE nope = $1", 'line 3, column 7: column "nope" does not exist'),
        ("SELECT * FROM nope", 'line 1, column 15: relation "nope" does not exist'),
        ("SELECT * FROM nope WHERE a = $1", 'relation "nope" does not exist'),
        ("SELEC 1", 'line 1, column 1: syntax error at or near "SELEC"'),
        ("", "the statement is empty"),
        ("SELECT 1; DROP TABLE t", "2 statements were given"),
        ("VACUUM t", "VACUUM is a utility statement"),
        ("SET work_mem = $1", "is a utility statement"),
    ],
)
async def test_what_can_not_be_planned_says_why(conn: asyncpg.Connection[Any], sql: str, message: str) -> None:
    found = await explain_statement(conn, sql, queryid=-5)
    assert found.plan is None
    assert found.how is None
    assert found.queryid == -5
    assert found.error is not None
    assert message in found.error
    assert (await explain_statement(conn, "SELECT 1")).plan  # the connection is still good


async def test_a_lost_connection_is_no_property_of_the_statement(conn: asyncpg.Connection[Any]) -> None:
    conn.terminate()
    with pytest.raises(ServerError):
        await explain_statement(conn, "SELECT 1")


async def test_a_generic_plan_gets_findings_from_what_the_server_knows(db: Database) -> None:
    db.psql("CREATE TABLE log AS SELECT i AS id, i % 500 AS case_id FROM generate_series(1, 20000) i; ANALYZE log")
    conn = await asyncpg.connect(db.dsn)
    try:
        found = await explain_statement(conn, "SELECT * FROM log WHERE case_id = $1")
    finally:
        await conn.close()
    assert found.how == "generic"
    assert [f.rule_id for f in found.findings] == ["seq-scan-discards"]
    assert found.findings[0].sql == "CREATE INDEX CONCURRENTLY ON log (case_id);"
    assert found.findings[0].explains_ms is None
