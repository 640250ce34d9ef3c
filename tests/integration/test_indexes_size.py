"""The size model against indexes that were really built."""

from __future__ import annotations

import asyncpg

from dbperf.indexes.candidates import as_spec
from dbperf.indexes.size import estimate
from dbperf.postgres.shadow_catalog import read_catalog
from tests.conftest import Database
from tests.support.module_database import copies

TABLE = """
SET synchronous_commit = on;
SELECT setseed(0.25);
CREATE TABLE f (id bigserial, orderkey int, custkey int, linenum smallint, status varchar(1), mode varchar(10),
                priority text, d date, ts timestamptz, price numeric(12, 2), qty int, u uuid, s text, nul int,
                city varchar(30), flag bool, tags text[]);
INSERT INTO f (orderkey, custkey, linenum, status, mode, priority, d, ts, price, qty, u, s, nul, city, flag, tags)
SELECT i / 4, (random() ^ 2 * 9000)::int, i % 7, (ARRAY['O', 'F', 'P'])[1 + (random() ^ 3 * 3)::int % 3],
       (ARRAY['AIR', 'TRUCK', 'SHIP', 'RAIL', 'FOB', 'MAIL', 'REG AIR'])[1 + i % 7],
       (ARRAY['1-URGENT', '2-HIGH', '3-MEDIUM', '4-NOT SPECIFIED', '5-LOW'])[1 + (random() * 5)::int % 5],
       date '1992-01-01' + (random() * 2500)::int, now() - random() * interval '900 days',
       round((random() * 100000)::numeric, 2), (random() * 50)::int, gen_random_uuid(), md5(i::text),
       CASE WHEN random() < 0.8 THEN NULL ELSE (random() * 100000)::int END, 'CITY ' || (random() * 250)::int,
       random() < 0.1, ARRAY['t' || i % 40, 'u' || i % 9]
FROM generate_series(1, 60000) i;
"""
INDEXES = [
    "(id)", "(orderkey)", "(custkey)", "(linenum)", "(status)", "(mode)", "(priority)", "(d)", "(ts)", "(price)",
    "(qty)", "(u)", "(s)", "(nul)", "(city)", "(flag)", "(custkey, d)", "(status, d)", "(mode, priority)",
    "(city, custkey)", "(d, custkey)", "(flag, ts)", "(ts, custkey)", "(s, d)", "(qty, price)",
    "(custkey, status)", "(flag, city)", "(status, mode, priority)", "(city, d)", "(custkey) INCLUDE (price)",
    "(d) INCLUDE (qty, price)", "(orderkey) INCLUDE (mode)", "(city) INCLUDE (custkey, d)",
    "(status) INCLUDE (price, s)", "(price) INCLUDE (city)",
]  # fmt: skip


table = copies(TABLE, 15, 18)
table_18 = copies(TABLE, 18)


async def test_btrees_are_as_large_as_estimated(table: Database) -> None:
    """Within 10 % for 95 % of them: with duplicates, NULLs, INCLUDE, aligned and unaligned keys."""
    table.psql("; ".join(f"CREATE INDEX ON f {i}" for i in INDEXES) + "; VACUUM ANALYZE f")
    conn = await asyncpg.connect(table.dsn)
    try:
        [relation] = (await read_catalog(conn, source="test")).relations
    finally:
        await conn.close()
    ratios = {i.definition: estimate(relation, as_spec(i, relation)).pages / i.pages for i in relation.indexes}
    assert len(ratios) == len(INDEXES)
    off = {k: round(v, 3) for k, v in ratios.items() if abs(v - 1) > 0.1}
    assert len(off) <= len(INDEXES) // 20, off
    assert all(0.8 < v < 1.25 for v in ratios.values()), off


async def test_an_index_on_char_is_never_larger_than_estimated(db: Database) -> None:
    """Some minor releases deduplicate char(n), others do not: the estimate is the larger of the two."""
    db.psql("CREATE TABLE f AS SELECT (ARRAY['O', 'F', 'P'])[1 + i % 3]::char(1) AS status, i % 5000 AS k"
            " FROM generate_series(1, 60000) i")  # fmt: skip
    db.psql("CREATE INDEX ON f (status)")
    db.psql("CREATE INDEX ON f (k, status)")
    db.psql("VACUUM ANALYZE f")
    conn = await asyncpg.connect(db.dsn)
    try:
        [relation] = (await read_catalog(conn, source="test")).relations
    finally:
        await conn.close()
    for i in relation.indexes:
        assert estimate(relation, as_spec(i, relation)).pages > 0.95 * i.pages, i.definition


async def test_other_methods_are_roughly_right(table_18: Database) -> None:
    table_18.psql(
        "CREATE INDEX ON f USING brin (id); CREATE INDEX ON f USING gin (tags); CREATE INDEX ON f (d) WHERE flag"
    )
    table_18.psql("VACUUM ANALYZE f")
    conn = await asyncpg.connect(table_18.dsn)
    try:
        [relation] = (await read_catalog(conn, source="test")).relations
    finally:
        await conn.close()
    for i in relation.indexes:
        share = i.tuples / relation.tuples if i.predicate else 1.0
        pages = estimate(relation, as_spec(i, relation), share=share).pages
        assert i.pages / 2 <= pages <= i.pages * 2, (i.definition, i.pages, pages)
