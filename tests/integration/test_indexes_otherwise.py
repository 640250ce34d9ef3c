"""Where no index is the answer: the rewrite, the statistics object, or the reason."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import msgspec
import pytest

from dbperf.indexes.advice_text import as_markdown, as_text
from dbperf.indexes.advise import Request, advise
from dbperf.indexes.workload import checked
from dbperf.plans.read import read_plans
from dbperf.postgres.shadow_catalog import read_catalog
from dbperf.postgres.shadow_database import ShadowDatabase
from dbperf.postgres.shadow_planner import ShadowPlanner
from dbperf.records.advice import Advice
from dbperf.records.plans import StatementPlan
from dbperf.records.shadow import Catalog, WorkloadStatement
from tests.conftest import Database
from tests.support.shadow import ShadowHost

SCHEMA = """
CREATE TABLE log (id bigserial PRIMARY KEY, at timestamptz NOT NULL, plain timestamp NOT NULL, code int NOT NULL,
                  city text NOT NULL, zip text NOT NULL, note text, body text);
INSERT INTO log (at, plain, code, city, zip, note, body)
SELECT timestamptz '2026-01-01' + i * interval '1 min', timestamp '2026-01-01' + i * interval '1 min', i % 20000,
       'c' || i % 50, 'z' || i % 50, NULLIF('n' || i % 70, 'n3'), md5(i::text)
FROM generate_series(1, 60000) i;
CREATE TABLE blocked (code int);
INSERT INTO blocked SELECT i FROM generate_series(1, 30000) i;
CREATE TABLE tiny (a int); INSERT INTO tiny VALUES (1);
CREATE TABLE fresh (a int) WITH (autovacuum_enabled = off); INSERT INTO fresh SELECT generate_series(1, 9000);
CREATE TABLE empty (a int);
"""
REWRITTEN = {
    "random": ("SELECT id FROM log ORDER BY random() LIMIT 5", "order-by-random", "TABLESAMPLE"),
    "page": ("SELECT id, body FROM log ORDER BY id LIMIT 20 OFFSET 40000", "large-offset", "WHERE (sort columns) >"),
    "not in": ("SELECT id FROM log WHERE code NOT IN (SELECT code FROM blocked)", "not-in-subquery", "NOT EXISTS"),
    "day": ("SELECT id FROM log WHERE at::date = '2026-01-09'", "index-unusable-cast", "half-open range"),
    "cast": ("SELECT id FROM log WHERE code = 17.0", "index-unusable-cast", "in the column's own type"),
    "middle": ("SELECT id FROM log WHERE body LIKE '%abc%'", "index-unusable-wildcard", "trigram"),
}
UNSERVED = {
    "all": ("SELECT id, body FROM log WHERE code > 2", "% of log's rows"),
    # All columns: of two, an index-only scan would gain where VACUUM could mark the pages as visible to all.
    "key": ("SELECT * FROM log WHERE id = $1", "log_pkey serves it already"),
    "tiny": ("SELECT * FROM tiny WHERE a = 1", "small"),
    "empty": ("SELECT * FROM empty WHERE a = 1", "small"),
}


@pytest.fixture(scope="module")
def host() -> Iterator[ShadowHost]:
    host = ShadowHost()
    yield host
    host.close()


@asynccontextmanager
async def planner_for(host: ShadowHost, catalog: Catalog) -> AsyncIterator[ShadowPlanner]:
    planner = await ShadowPlanner.open(await ShadowDatabase.create(host, catalog))
    try:
        yield planner
    finally:
        await planner.close()
        host.server.psql('DROP DATABASE "shadow" WITH (FORCE)')


async def test_no_index_is_an_answer_with_its_reason(db_18: Database, host: ShadowHost) -> None:
    db_18.psql(SCHEMA)
    db_18.psql("VACUUM ANALYZE log, blocked, tiny")
    conn = await asyncpg.connect(db_18.dsn)
    try:
        catalog = await read_catalog(conn, source="test")
    finally:
        await conn.close()
    wanted = {k: v[0] for k, v in REWRITTEN.items()} | {k: v[0] for k, v in UNSERVED.items()}
    wanted |= {
        "none": "SELECT 1",
        "catalog": "SELECT * FROM pg_class",
        "fresh": "SELECT * FROM fresh WHERE a = 1",
        "served": "SELECT id FROM log WHERE city = 'c7' AND note = 'n1'",
        "plain": "SELECT id FROM log WHERE plain::date = '2026-01-09'",
    }
    workload = checked(WorkloadStatement(id=k, text=v) for k, v in wanted.items())
    async with planner_for(host, catalog) as planner:
        advice = await advise(catalog, workload, planner)
    rewrites = {(r.statement, r.rule_id): r for r in advice.rewrites}
    for id_, (_, rule, words) in REWRITTEN.items():
        assert words in rewrites[id_, rule].reason, rewrites
    assert {r.statement for r in advice.rewrites} == set(REWRITTEN), "what an index mends is not to be rewritten"
    assert "may be NULL" in rewrites["not in", "not-in-subquery"].reason
    assert "CREATE EXTENSION IF NOT EXISTS pg_trgm" in (rewrites["middle", "index-unusable-wildcard"].sql or "")
    reasons = {r.statement: r.reason for r in advice.rejected if r.statement is not None}
    for id_, (_, words) in UNSERVED.items():
        assert words in reasons[id_]
    assert "see the rewrites" in reasons["day"]
    assert {s.id: s.reason for s in advice.skipped} == dict.fromkeys(
        ("none", "catalog"), "it reads no table of the database"
    )
    assert "served" not in reasons
    [guess] = [r for r in advice.recommendations if r.table == "fresh"]
    assert "never analysed" in guess.reason
    assert "plain" not in reasons, "an index on the expression holds a timestamp without time zone"
    for text in (as_text(advice), as_markdown(advice)):
        for words in ("half-open range", "log_pkey serves it already", "CREATE INDEX"):
            assert words in text


async def executed(db: Database, *statements: str) -> list[StatementPlan]:
    """Plans with actual rows, as auto_explain logs them."""
    conn = await asyncpg.connect(db.dsn)
    try:
        found = []
        for sql in statements:
            [plan] = read_plans(await conn.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}"))
            found.append(StatementPlan(queryid=None, text=sql, how="logged", plan=plan))
        return found
    finally:
        await conn.close()


async def test_statistics_where_the_estimate_is_the_cause(db: Database, host: ShadowHost) -> None:
    """Recommended from executed plans; created, they mend the estimate, and are not recommended again."""
    db.psql(SCHEMA)
    db.psql("VACUUM ANALYZE log, blocked")
    where = "l.city = 'c7' AND l.zip = 'z7'"
    correlated = f"SELECT b.code, l.id FROM log l JOIN blocked b USING (code) WHERE {where} ORDER BY l.body"
    grouped = "SELECT city, zip, count(*) AS n FROM log GROUP BY city, zip ORDER BY n"
    workload = checked([WorkloadStatement(id="join", text=correlated), WorkloadStatement(id="groups", text=grouped)])

    async def advised() -> Advice:
        conn = await asyncpg.connect(db.dsn)
        try:
            catalog = await read_catalog(conn, source="test")
        finally:
            await conn.close()
        plans = await executed(db, correlated, grouped)
        async with planner_for(host, catalog) as planner:
            return await advise(catalog, replace(workload, plans=plans), planner, Request(max_indexes=0))

    first = await advised()
    [one] = first.statistics
    assert one.statements == ["join", "groups"]
    assert one.create_sql == (
        "CREATE STATISTICS public.st_log_city_zip (ndistinct, dependencies, mcv) ON city, zip FROM public.log; "
        "ANALYZE public.log;"
    )
    # 2 % of 2 %, or 50 * 50 groups; which of the two is further off is up to ANALYZE's sample.
    assert one.factor == pytest.approx(50, rel=0.4)
    assert "number of combinations" in one.reason
    assert "depend on each other" in one.reason
    assert "extended statistics" in as_text(first)
    for s in first.statistics:
        db.psql(s.create_sql)
    again = await advised()
    assert again.statistics == []
    for s in first.statistics:
        db.psql(s.drop_sql)
    assert db.psql("SELECT count(*) FROM pg_statistic_ext") == "0"
    # A plan that was not executed says nothing.
    conn = await asyncpg.connect(db.dsn)
    try:
        text = await conn.fetchval(f"EXPLAIN (FORMAT JSON) {correlated}")
    finally:
        await conn.close()
    assert not read_plans(json.dumps(json.loads(text)))[0].analyzed
    assert msgspec.json.decode(first.to_json())["statistics"][0]["rows"] > 0


LONG = "Größe_" + "x" * 55
"""63 bytes, the longest name there is."""


async def test_what_can_not_be_seen_is_said_and_the_rest_advised(db: Database, host: ShadowHost) -> None:
    role = f"{db.name}_some"
    long_column = LONG[:-1] + "y"
    assert len(LONG.encode()) == len(long_column.encode()) == 63
    db.psql(f"""
        CREATE TABLE "{LONG}" (id int, "{long_column}" int, secret text);
        INSERT INTO "{LONG}" SELECT i, i % 9000, 's' || i % 3 FROM generate_series(1, 30000) i;
        CREATE TABLE pair (a int, b int, c int);
        INSERT INTO pair SELECT i % 100, i % 100, i FROM generate_series(1, 30000) i;
        CREATE STATISTICS both_of (mcv, dependencies) ON a, b FROM pair;
        CREATE ROLE {role} LOGIN;
        GRANT SELECT (id, "{long_column}") ON "{LONG}" TO {role}; GRANT SELECT ON pair TO {role};
    """)
    db.psql("VACUUM ANALYZE")
    other = await asyncpg.connect(db.dsn)
    try:
        await other.execute("CREATE TEMP TABLE scratch (a int)")
        conn = await asyncpg.connect(db.server.dsn(db.name, role))
        try:
            catalog = await read_catalog(conn, source="test")
            everything = await read_catalog(other, source="test")
        finally:
            await conn.close()
    finally:
        await other.close()
    workload = checked(
        WorkloadStatement(id=k, text=v)
        for k, v in {
            "long": f'SELECT id FROM "{LONG}" WHERE "{long_column}" = 77',
            "hidden": f"SELECT id FROM \"{LONG}\" WHERE secret = 's1'",
            "pair": "SELECT c FROM pair WHERE a = 5 AND b = 5",
            "one": "SELECT c FROM pair WHERE a = 5",
            "temp": "SELECT * FROM scratch WHERE a = 1",
            "utility": "VACUUM pair",
            "huge": f"SELECT '{'x' * (10 << 20)}' FROM pair",
        }.items()
    )
    async with planner_for(host, catalog) as planner:
        advice = await advise(catalog, workload, planner)
        none = await advise(catalog, workload, planner, Request(budget_bytes=8192, max_indexes=5))
    async with planner_for(host, everything) as planner:
        owned = await advise(everything, workload, planner, Request(max_indexes=0))
    db.psql(f"DROP OWNED BY {role}; DROP ROLE {role}")
    reasons = {s.id: s.reason for s in advice.skipped}
    assert set(reasons) == {"temp", "utility", "huge"}
    assert "scratch" in reasons["temp"]
    assert "longer than 1 MB" in reasons["huge"]
    assert {s.id for s in advice.statements} == {"long", "hidden", "pair", "one"}
    notes = "; ".join(advice.notes)
    assert "no statistics of secret: the role may not SELECT these columns" in notes
    # pg_stats_ext shows rows to a table's owner only; the superuser's copy lacks the list of combinations.
    assert (
        "public.both_of: without its data, which only the table's owner is shown, estimates of pair may be off" in notes
    )
    assert "public.both_of: without its most common value combinations estimates of pair may be off" in owned.notes
    [made] = [r for r in advice.recommendations if r.table == LONG and "long" in r.statements]
    assert len(made.name.encode()) <= 63
    db.psql(made.create_sql)
    db.psql(made.drop_sql)
    # A budget that holds nothing is told from a workload that needs nothing.
    assert none.recommendations == []
    assert "No index that helps fits the budget" in as_text(none)
    assert "No index that helps fits the budget" in as_markdown(none)
