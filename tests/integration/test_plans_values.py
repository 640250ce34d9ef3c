"""Representative values come from the column statistics, fit the types, and find many, some and few rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from dbperf.postgres.analyze import explain_analyze
from dbperf.postgres.representative import Values, representative_values
from tests.conftest import Database
from tests.support.module_database import module_database

SETUP = """
CREATE TABLE orders (id int PRIMARY KEY, status text, total numeric, created_at timestamptz, ok bool, tags text[],
  doc jsonb);
INSERT INTO orders SELECT i, CASE WHEN i % 100 < 90 THEN 'done' WHEN i % 100 < 99 THEN 'open' ELSE 'it''s "odd" \\' END,
  i % 1000, timestamptz '2026-01-01' + i * interval '1 hour', true, ARRAY['a'], '{}' FROM generate_series(1, 20000) i;
ANALYZE orders;
"""


@pytest.fixture(scope="module", params=[15, 18])
def db(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from module_database(request, SETUP)


@pytest.fixture
async def conn(db: Database) -> AsyncIterator[asyncpg.Connection[Any]]:
    conn = await asyncpg.connect(db.dsn)
    yield conn
    await conn.close()


async def values(conn: asyncpg.Connection[Any], sql: str) -> dict[str, Values]:
    async with conn.transaction():
        return {v.case: v for v in await representative_values(conn, sql)}


async def test_common_typical_and_rare_values(conn: asyncpg.Connection[Any]) -> None:
    found = await values(conn, "SELECT * FROM orders WHERE status = $1 LIMIT $2")
    assert found["common"].values == ("done", "1000")
    assert found["rare"].values == ('it\'s "odd" \\', "1")
    assert found["common"].origins == ("common value of status", "a usual LIMIT")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM orders WHERE status = $1",
        "SELECT * FROM orders o WHERE o.total > $1",
        "SELECT * FROM orders WHERE $1 >= id",
        "SELECT * FROM orders WHERE created_at BETWEEN $1 AND $2",
        "SELECT * FROM orders WHERE status LIKE $1",
        "SELECT * FROM orders WHERE id = ANY ($1)",
        "SELECT * FROM orders WHERE status IN ($1, $2) AND total < $3::numeric",
        "SELECT * FROM orders WHERE ok = $1 AND tags @> $2 AND doc @> $3 AND created_at > now() - $4::interval",
    ],
)
async def test_every_case_is_executed_and_common_ones_find_the_most(conn: asyncpg.Connection[Any], sql: str) -> None:
    rows = {}
    for case, found in (await values(conn, sql)).items():
        plan = await explain_analyze(conn, sql, parameters=found.values)
        rows[case] = plan.root.actual_rows
    assert rows["common" if "common" in rows else "typical"] == max(rows.values())
    if "rare" in rows and "LIKE" not in sql:
        assert rows["rare"] == min(rows.values())


async def test_without_statistics_the_defaults_fit_the_types(conn: asyncpg.Connection[Any]) -> None:
    await conn.execute('CREATE TABLE bare (a uuid, b date, c int[], d interval, e inet, f smallint, g "char", h bytea)')
    sql = "SELECT * FROM bare WHERE a = $1 AND b < $2 AND c = $3 AND d = $4 AND e = $5 AND f = $6 AND g = $7 AND h = $8"
    (found,) = (await values(conn, sql)).values()
    assert all("no statistics" in origin for origin in found.origins)
    await explain_analyze(conn, sql, parameters=found.values)
