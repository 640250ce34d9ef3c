"""Shadows against their sources: the same plans at the same costs, and a word about what can't be carried."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import pytest

from dbperf.postgres.shadow_catalog import read_catalog
from dbperf.postgres.shadow_database import ShadowDatabase, pivot_bytes
from dbperf.postgres.shadow_files import btree_height
from dbperf.postgres.shadow_planner import ShadowPlanner
from dbperf.postgres.whatif import Candidate, Question
from dbperf.records.advice import IndexKey, IndexSpec
from dbperf.records.base import parse_document
from dbperf.records.shadow import Catalog
from tests.conftest import Database
from tests.support.pgserver import PgServer
from tests.support.shadow import SHOP, ShadowHost, corpus


@pytest.fixture(scope="module")
def host() -> Iterator[ShadowHost]:
    host = ShadowHost()
    yield host
    host.close()


@pytest.fixture(scope="module")
def shop(server_18: PgServer) -> Iterator[str]:
    name = f"shop{os.getpid()}"
    server_18.psql(f"CREATE DATABASE {name}")
    server_18.psql(f"{SHOP}; CREATE EXTENSION pageinspect;", name)
    server_18.psql("VACUUM ANALYZE", name)
    server_18.psql(f"CREATE ROLE {name}_ro LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}_ro", name)
    yield name
    server_18.psql(f"DROP DATABASE {name} WITH (FORCE)")
    server_18.psql(f"DROP ROLE {name}_ro")


@asynccontextmanager
async def shadow_of(host: ShadowHost, catalog: Catalog) -> AsyncIterator[ShadowDatabase]:
    shadow = await ShadowDatabase.create(host, catalog)
    try:
        yield shadow
    finally:
        host.server.psql('DROP DATABASE "shadow" WITH (FORCE)')


async def read(dsn: str) -> Catalog:
    conn = await asyncpg.connect(dsn, server_settings={"default_transaction_read_only": "on"})
    try:
        return await read_catalog(conn, source="test")
    finally:
        await conn.close()


async def source_costs(dsn: str, statements: list[str]) -> list[float]:
    conn = await asyncpg.connect(dsn)
    try:
        found = [await conn.fetchval(f"EXPLAIN (FORMAT JSON) {s}") for s in statements]
        return [json.loads(f)[0]["Plan"]["Total Cost"] for f in found]
    finally:
        await conn.close()


async def shadow_costs(shadow: ShadowDatabase, statements: list[str]) -> list[float]:
    planner = await ShadowPlanner.open(shadow)
    try:
        answers = await planner.ask([Question(statement=s) for s in statements])
    finally:
        await planner.close()
    assert [a.error for a in answers if a.error] == []
    return [a.cost for a in answers if a.cost is not None]


async def assert_same_costs(dsn: str, host: ShadowHost, statements: list[str]) -> list[str]:
    """The source's costs to the last digit; returns the notes."""
    async with shadow_of(host, await read(dsn)) as shadow:
        assert await shadow_costs(shadow, statements) == await source_costs(dsn, statements)
        return [f"{n.object}: {n.reason}" for n in shadow.notes]


async def test_costs_of_200_statements_are_the_sources(server_18: PgServer, shop: str, host: ShadowHost) -> None:
    statements = corpus(200)
    async with shadow_of(host, await read(server_18.dsn(shop))) as shadow:
        source, costs = await source_costs(server_18.dsn(shop), statements), await shadow_costs(shadow, statements)
    assert len(costs) == 200
    assert [s for s, a, b in zip(statements, source, costs, strict=True) if a != b] == []
    assert shadow.notes == []


async def test_a_plain_read_only_role_is_enough(server_18: PgServer, shop: str, host: ShadowHost) -> None:
    """It sees no statistics of index expressions and no tree heights: costs within 1 % for at least 99 %."""
    statements = corpus(200, seed=2)
    catalog = await read(server_18.dsn(shop, f"{shop}_ro"))
    assert all(i.height is None for r in catalog.relations for i in r.indexes)
    async with shadow_of(host, catalog) as shadow:
        source, costs = await source_costs(server_18.dsn(shop), statements), await shadow_costs(shadow, statements)
    off = [s for s, a, b in zip(statements, source, costs, strict=True) if abs(b / a - 1) > 0.01]
    assert len(off) <= 2, off
    assert any("derived from the column" in n.reason for n in shadow.notes)


async def test_heights_are_estimated_as_they_are(server_18: PgServer, shop: str) -> None:
    catalog = await read(server_18.dsn(shop))
    known = [(r, i) for r in catalog.relations for i in r.indexes if i.height is not None]
    assert len(known) >= 8
    assert [i.name for r, i in known if btree_height(i.pages, pivot_bytes(r, i)) != i.height] == []


async def test_candidates_cost_what_built_indexes_cost(server_18: PgServer, shop: str, host: ShadowHost) -> None:
    specs = [
        IndexSpec(schema="public", table="orders", keys=(IndexKey(column="total"),)),
        IndexSpec(
            schema="public",
            table="orders",
            keys=(IndexKey(column="status"), IndexKey(column="placed", descending=True)),
            include=("total",),
        ),
        IndexSpec(schema="public", table="customer", keys=(IndexKey(column="tags"),), method="gin"),
        IndexSpec(schema="public", table="orders", keys=(IndexKey(column="customer_id"),), predicate="status = 'void'"),
        IndexSpec(schema="public", table="customer", keys=(IndexKey(expression="profile ->> 'plan'"),)),
    ]
    statements = [*corpus(100, seed=3), "SELECT * FROM orders WHERE status = 'void' AND customer_id = 17"]
    async with shadow_of(host, await read(server_18.dsn(shop))) as shadow:
        planner = await ShadowPlanner.open(shadow)
        before = await planner.ask([Question(statement=s) for s in statements])
        conn = await asyncpg.connect(server_18.dsn(shop))
        candidates = []
        try:
            for n, spec in enumerate(specs):
                await conn.execute(spec.create_sql(f"dbperf_{n}"))
                pages, tuples = await conn.fetchrow(
                    "SELECT relpages, reltuples::float8 FROM pg_class WHERE relname = $1", f"dbperf_{n}"
                )
                candidates.append(Candidate(name=f"dbperf_{n}", spec=spec, pages=pages, tuples=tuples))
            await conn.execute("ANALYZE customer")
            source = await source_costs(server_18.dsn(shop), statements)
        finally:
            for n in range(len(specs)):
                await conn.execute(f"DROP INDEX IF EXISTS dbperf_{n}")
            await conn.close()
        assert await planner.add(candidates) == {}
        on = frozenset(c.name for c in candidates)
        answers = await planner.ask([Question(statement=s, on=on) for s in statements])
        without = await planner.ask([Question(statement=s) for s in statements])
        await planner.remove(sorted(on))
        removed = await planner.ask([Question(statement=s) for s in statements])
        await planner.close()
    # ANALYZE of a table that fits its sample gives the same statistics but for the expression's.
    pairs = zip(statements, source, answers, strict=True)
    off = [(s, a, b.cost) for s, a, b in pairs if abs((b.cost or 0) / a - 1) > 0.01]
    assert off == []
    assert frozenset[str]().union(*(a.used for a in answers)) >= {"dbperf_1", "dbperf_3", "dbperf_4"}
    assert [a.cost for a in without] == [a.cost for a in before] == [a.cost for a in removed]


async def test_existing_indexes_can_be_hidden(server_18: PgServer, shop: str, host: ShadowHost) -> None:
    async with shadow_of(host, await read(server_18.dsn(shop))) as shadow:
        planner = await ShadowPlanner.open(shadow)
        statement = "SELECT * FROM customer WHERE id = 7"
        seen, hidden = await planner.ask(
            [
                Question(statement=statement),
                Question(statement=statement, off=frozenset({("public", "customer_pkey")})),
            ]
        )
        await planner.close()
    assert seen.existing == {"customer_pkey"}
    assert hidden.existing == frozenset()
    assert (hidden.cost or 0) > 10 * (seen.cost or 0)


async def test_partitions_and_inheritance(db_18: Database, host: ShadowHost) -> None:
    db_18.psql("""
        CREATE TABLE event (id bigint NOT NULL, at date NOT NULL, kind text, PRIMARY KEY (id, at))
          PARTITION BY RANGE (at);
        CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2026-03-01');
        CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM ('2026-03-01') TO ('2026-06-01')
          PARTITION BY RANGE (id);
        CREATE TABLE event_2a (kind text, gone int, id bigint NOT NULL, at date NOT NULL);
        ALTER TABLE event_2a DROP gone;
        ALTER TABLE event_2 ATTACH PARTITION event_2a FOR VALUES FROM (0) TO (15000);
        CREATE TABLE event_2z PARTITION OF event_2 DEFAULT;
        INSERT INTO event SELECT i, date '2026-01-01' + i % 150, chr(97 + i % 5) FROM generate_series(1, 30000) i;
        CREATE INDEX ON event (kind, at);
        CREATE TABLE base (id int PRIMARY KEY, v int CHECK (v >= 0));
        CREATE TABLE derived (w int, CHECK (id > 5000)) INHERITS (base);
        INSERT INTO base SELECT i, i % 10 FROM generate_series(1, 5000) i;
        INSERT INTO derived SELECT i, i % 10, i FROM generate_series(5001, 12000) i;
    """)
    db_18.psql("VACUUM ANALYZE")
    statements = [
        "SELECT * FROM event WHERE at = '2026-02-03' AND kind = 'b'",
        "SELECT * FROM event WHERE at > '2026-03-10' AND kind = 'a' ORDER BY at LIMIT 5",
        "SELECT kind, count(*) FROM event GROUP BY kind",
        "SELECT * FROM event WHERE id = 77",
        "SELECT * FROM base WHERE v = 3",
        "SELECT * FROM base WHERE id = 17",
        "SELECT count(*) FROM ONLY base",
    ]
    assert await assert_same_costs(db_18.dsn, host, statements) == []
    # A candidate on a partitioned table is an index on each partition.
    spec = IndexSpec(schema="public", table="event", keys=(IndexKey(column="at"), IndexKey(column="id")))
    async with shadow_of(host, await read(db_18.dsn)) as shadow:
        planner = await ShadowPlanner.open(shadow)
        assert await planner.add([Candidate(name="c", spec=spec, pages=120, tuples=30000)]) == {}
        [answer] = await planner.ask(
            [Question(statement="SELECT id FROM event WHERE at = '2026-04-04'", on=frozenset({"c"}))]
        )
        await planner.close()
    assert answer.used == {"c"}


async def test_types_views_and_other_objects(db_18: Database, host: ShadowHost) -> None:
    db_18.psql("""
        CREATE SCHEMA "Größe";
        CREATE TYPE "Größe".mood AS ENUM ('sad', 'it''s ok', 'happy');
        CREATE DOMAIN "Größe".email AS text CHECK (VALUE LIKE '%@%');
        CREATE TYPE "Größe".point2 AS (x int, y int);
        CREATE TYPE "Größe".span AS RANGE (subtype = float8);
        CREATE COLLATION "Größe".plain (provider = libc, locale = 'C');
        CREATE FUNCTION "Größe".twice(i int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT i * 2';
        CREATE SEQUENCE "Größe".numbers;
        CREATE TABLE "Größe"."Select ""all"" of" (
          id int DEFAULT nextval('"Größe".numbers') PRIMARY KEY, m "Größe".mood, e "Größe".email, p "Größe".point2,
          s "Größe".span, t text COLLATE "Größe".plain, n int, "Doppelt" int GENERATED ALWAYS AS (n * 2) STORED,
          v int GENERATED ALWAYS AS (n + 1) VIRTUAL, r int GENERATED ALWAYS AS IDENTITY, tr int4range);
        INSERT INTO "Größe"."Select ""all"" of" (m, e, p, s, t, n, tr)
        SELECT (ARRAY['sad', 'it''s ok', 'happy'])[1 + i % 3]::"Größe".mood,
               i || '@x', ROW(i, i)::"Größe".point2, "Größe".span(i, i + 2),

               'ä' || i, i % 100, int4range(i, i + i % 9) FROM generate_series(1, 5000) i;
        CREATE INDEX ON "Größe"."Select ""all"" of" ("Größe".twice(n));
        CREATE INDEX ON "Größe"."Select ""all"" of" (t);
        CREATE INDEX ON "Größe"."Select ""all"" of" USING gist (tr);
        CREATE STATISTICS "Größe".both (ndistinct, dependencies) ON n, "Doppelt" FROM "Größe"."Select ""all"" of";
        CREATE VIEW "Größe".v AS SELECT id, "Größe".twice(n) AS d FROM "Größe"."Select ""all"" of" WHERE m <> 'sad';
        CREATE MATERIALIZED VIEW "Größe".mv AS SELECT m, count(*) AS c FROM "Größe"."Select ""all"" of" GROUP BY n, m;
        CREATE INDEX ON "Größe".mv (c);
        CREATE TABLE t63_ÄÖÜ_0123456789012345678901234567890123456789012345678901 (a int);
        INSERT INTO t63_ÄÖÜ_0123456789012345678901234567890123456789012345678901 SELECT generate_series(1, 3000);
        CREATE TABLE empty (a int PRIMARY KEY);
    """)
    db_18.psql("VACUUM ANALYZE")
    table = '"Größe"."Select ""all"" of"'
    statements = [
        f"SELECT * FROM {table} WHERE m = 'happy' AND n > 5",
        f"SELECT * FROM {table} WHERE t LIKE 'ä12%'",
        f'SELECT n, "Doppelt", count(*) FROM {table} GROUP BY 1, 2',
        f'SELECT * FROM {table} WHERE n = 5 AND "Doppelt" = 10 AND v = 6',
        f'SELECT * FROM {table} WHERE "Größe".twice(n) = 8',
        f"SELECT * FROM {table} WHERE tr @> 17 AND s @> 3.0::float8 AND e = '4@x'",
        f"INSERT INTO {table} (n) VALUES (1)",
        'SELECT * FROM "Größe".v WHERE d = 4',
        'SELECT * FROM "Größe".mv WHERE c > 60',
        "SELECT * FROM t63_ÄÖÜ_0123456789012345678901234567890123456789012345678901 WHERE a = 1",
        "SELECT * FROM empty WHERE a = 1",
    ]
    notes = await assert_same_costs(db_18.dsn, host, statements)
    assert notes == []


async def test_foreign_tables_row_security_and_tables_without_statistics(db_18: Database, host: ShadowHost) -> None:
    role = f"{db_18.name}_app"
    db_18.psql(f"""
        CREATE EXTENSION postgres_fdw;
        CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw
          OPTIONS (host '10.0.0.1', dbname 'secret', fdw_tuple_cost '0.7');
        CREATE FOREIGN TABLE remote (id int, v text) SERVER far;
        CREATE TABLE tenant (id int PRIMARY KEY, owner text NOT NULL, v int);
        INSERT INTO tenant SELECT i, 'u' || i % 40, i FROM generate_series(1, 8000) i;
        ALTER TABLE tenant ENABLE ROW LEVEL SECURITY;
        CREATE ROLE {role} LOGIN; GRANT SELECT ON tenant TO {role};
        CREATE POLICY own ON tenant TO {role} USING (owner = current_user);
        CREATE POLICY other ON tenant TO pg_monitor USING (v > 5);
        CREATE TABLE fresh (a int) WITH (autovacuum_enabled = off); INSERT INTO fresh SELECT generate_series(1, 9000);
        CREATE TABLE hidden (a int); INSERT INTO hidden SELECT generate_series(1, 100);
    """)
    db_18.psql("ANALYZE tenant; ANALYZE hidden;")
    try:
        dsn = db_18.server.dsn(db_18.name, role)
        catalog = await read(dsn)
        text = catalog.to_json().decode()
        assert "10.0.0.1" not in text
        assert "secret" not in text
        async with shadow_of(host, catalog) as shadow:
            planner = await ShadowPlanner.open(shadow)
            [answer] = await planner.ask([Question(statement="SELECT * FROM tenant WHERE id < 500")])
            await planner.close()
            # The policy that holds for the role is planned, the one for pg_monitor is not.
            assert "owner = CURRENT_USER" in json.dumps(answer.plan)
            assert "v > 5" not in json.dumps(answer.plan)
            notes = {n.object: n.reason for n in shadow.notes}
        assert "row security" in notes["public.tenant"]
        assert "may not SELECT" in notes["public.hidden"]
        assert "never analysed" in notes["public.fresh"]
        tables = ("fresh WHERE a = 1", "remote WHERE id = 4", "tenant WHERE v = 3")
        statements = [f"SELECT * FROM {t}" for t in tables]
        await assert_same_costs(db_18.dsn, host, statements)
    finally:
        db_18.psql(f"DROP POLICY own ON tenant; DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.pg("< 18")
async def test_an_older_source(db: Database, host: ShadowHost) -> None:
    db.psql(SHOP)
    db.psql("CREATE EXTENSION hypopg; CREATE STATISTICS s (ndistinct, dependencies, mcv) ON status, placed FROM orders")
    db.psql("VACUUM ANALYZE")
    statements = corpus(100, seed=4)
    async with shadow_of(host, await read(db.dsn)) as shadow:
        source, costs = await source_costs(db.dsn, statements), await shadow_costs(shadow, statements)
        notes = {n.object: n.reason for n in shadow.notes}
    # The planners differ in places: PostgreSQL 18 costs some sorts and hash joins otherwise.
    assert sum(abs(b / a - 1) <= 0.01 for a, b in zip(source, costs, strict=True)) >= 85
    assert "the shadow does not have it" in notes["extension hypopg"]
    assert "most common value combinations" in notes["public.s"]


async def test_types_of_missing_extensions_are_said(db_18: Database, host: ShadowHost) -> None:
    db_18.psql("CREATE TABLE place (id int PRIMARY KEY, at text, name text); "
               "INSERT INTO place SELECT i, 'x', 'n' || i FROM generate_series(1, 500) i; ANALYZE place")  # fmt: skip
    catalog = await read(db_18.dsn)
    body = msgspec.json.decode(catalog.to_json())
    body["extensions"].append({"name": "postgis", "schema": "public", "version": "3.4"})
    body["relations"][0]["columns"][1]["type"] = "public.geometry"
    catalog = parse_document(Catalog, msgspec.json.encode(body), source="test")
    async with shadow_of(host, catalog) as shadow:
        planner = await ShadowPlanner.open(shadow)
        plain, spatial = await planner.ask(
            [
                Question(statement="SELECT name FROM place WHERE id = 4"),
                Question(statement="SELECT name FROM place WHERE st_intersects(at, 'POINT(1 1)'::geometry)"),
            ]
        )
        await planner.close()
    assert plain.cost is not None
    assert "geometry" in (spatial.error or "")
    assert any(n.object == "extension postgis" for n in shadow.notes)
    assert any("geometry" in n.reason for n in shadow.notes if n.object == "public.place")


async def test_nothing_is_locked_or_written_on_the_source(db_18: Database, host: ShadowHost) -> None:
    db_18.psql("""
        CREATE TABLE held (a int PRIMARY KEY); INSERT INTO held SELECT generate_series(1, 2000); ANALYZE held;
        CREATE TABLE free (a int REFERENCES held); ANALYZE free; CREATE VIEW v AS SELECT a + 1 AS b FROM held;
    """)
    holder = await asyncpg.connect(db_18.dsn)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
            conn = await asyncpg.connect(
                db_18.dsn, server_settings={"default_transaction_read_only": "on", "lock_timeout": "500"}
            )
            catalog = await read_catalog(conn, source="test")
            await conn.close()
    finally:
        await holder.close()
    assert [r.name for r in catalog.relations] == ["free"]
    assert [n.object for n in catalog.notes if "locked" in n.reason] == ["public.held"]


def candidate(name: str, table: str, *keys: IndexKey, pages: int = 300, **more: object) -> Candidate:
    spec = IndexSpec(schema="public", table=table, keys=keys, **more)  # type: ignore[arg-type]
    return Candidate(name=name, spec=spec, pages=pages, tuples=50000)


async def test_sessions_answer_alike_and_leave_nothing(server_18: PgServer, shop: str, host: ShadowHost) -> None:
    """The first session's candidates and the others' copies of them, of every kind; and none unless it is asked for."""
    partitioned = """
        CREATE TABLE part (k int, v int) PARTITION BY RANGE (k);
        CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (50000);
        CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (50000) TO (100000);
        INSERT INTO part SELECT i, i % 1000 FROM generate_series(0, 99999) i; ANALYZE part
    """
    server_18.psql(partitioned, shop)
    catalog = await read(server_18.dsn(shop))
    server_18.psql("DROP TABLE part", shop)
    made = [
        candidate("plain", "customer", IndexKey(column="region"), IndexKey(column="created", descending=True)),
        candidate("covering", "item", IndexKey(column="quantity"), include=("price",)),
        candidate("partial", "orders", IndexKey(column="customer_id"), predicate="status = 'open'"),
        candidate("expression", "customer", IndexKey(expression="lower(name)")),
        candidate(
            "brin", "customer", IndexKey(column="created"), method="brin", pages=3, options=(("pages_per_range", "8"),)
        ),
        candidate("partitioned", "part", IndexKey(column="v")),
        candidate("refused", "customer", IndexKey(expression="now()")),
    ]
    wanted = {
        "SELECT * FROM customer WHERE region = 3 ORDER BY created DESC LIMIT 5": {"plain"},
        "SELECT sum(price) FROM item WHERE quantity = 6": {"covering"},
        "SELECT * FROM orders WHERE status = 'open' AND customer_id = 77": {"partial"},
        "SELECT * FROM customer WHERE lower(name) = 'a7'": {"expression"},
        "SELECT * FROM customer WHERE created < '2026-01-02'": {"brin"},
        "SELECT * FROM part WHERE v = 7": {"partitioned"},
    }
    everything = frozenset(c.name for c in made) - {"refused"}
    questions = [Question(statement=s, on=frozenset(on)) for s, on in wanted.items()]
    questions += [Question(statement=s, on=everything) for s in wanted] + [Question(statement=s) for s in wanted]
    by_id = "SELECT * FROM orders WHERE id = 5"
    questions += [Question(statement=by_id), Question(statement=by_id, off=frozenset({("public", "orders_pkey")}))]
    found = []
    async with shadow_of(host, catalog) as shadow:
        planner = await ShadowPlanner.open(shadow, sessions=3)
        try:
            assert list(await planner.add(made)) == ["refused"]
            sessions = planner.sessions
            for asked in ([s] for s in sessions), [sessions]:
                for planner.sessions in asked:
                    found.append([(a.cost, a.used) for a in await planner.ask(questions)])
            names = "SELECT relname FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE relname ~ '^dbperf' "
            other = await shadow.connect()
            assert await other.fetch(f"{names} OR relname = ANY ($1)", sorted(everything)) == [], "nothing is committed"
            await other.close()
            await sessions[1].roll_back()
            assert await sessions[1].conn.fetch(f"{names} OR relname = ANY ($1)", sorted(everything)) == []
        finally:
            await planner.close()
    assert len(found) == 4
    assert all(answers == found[0] for answers in found)
    n = len(wanted)
    alone, among_all, without = (found[0][i : i + n] for i in range(0, 3 * n, n))
    assert [set(used) for _, used in alone] == list(wanted.values())
    assert all(used for _, used in among_all)
    assert not any(used for _, used in without)
    assert all(a < b for (a, _), (b, _) in zip(alone, without, strict=True) if a and b)
    (there, _), (hidden, _) = found[0][-2:]
    assert there is not None
    assert hidden is not None
    assert there < hidden / 10
