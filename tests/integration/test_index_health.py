"""`dbperf indexes` on real servers: each kind of finding planted, and what must never be proposed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from dbperf.indexes.health import Thresholds, judge_health
from dbperf.postgres.connect import connected
from dbperf.postgres.index_health import read_health
from dbperf.records.index_health import IndexFinding, IndexHealth
from tests.conftest import Database
from tests.support.cli import dbperf, environment
from tests.support.module_database import copies

TABLES = """
CREATE TABLE customer (id int PRIMARY KEY, email text UNIQUE, region int, name text);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customer, placed date, note text,
                     status text, total int);
INSERT INTO customer SELECT i, 'u' || i, i % 50, md5(i::text) FROM generate_series(1, 3000) i;
INSERT INTO orders SELECT i, 1 + i % 3000, date '2026-01-01' + i % 100, md5(i::text), 'open', i
FROM generate_series(1, 20000) i;
ANALYZE;
"""
# Else a session's counts become seen by others when it has ended, or with what it does a second later.
COUNTED = "SELECT pg_stat_force_next_flush();"


tables = copies(TABLES, 15, 18)
tables_18 = copies(TABLES, 18)


async def health(db: Database, *, exact: bool = False, **limits: float) -> IndexHealth:
    async with connected(db.dsn) as conn:
        return judge_health(await read_health(conn, exact=exact), Thresholds(**{"unused_days": 0.0, **limits}))


def of(found: IndexHealth, kind: str) -> dict[str | None, IndexFinding]:
    return {f.index or f.because_of: f for f in found.findings if f.kind == kind}


async def test_unused_never_names_what_carries_a_rule(tables: Database) -> None:
    tables.psql("CREATE INDEX spare ON orders (note); CREATE INDEX read_often ON orders (placed);")
    tables.psql("SELECT pg_stat_reset()")
    tables.psql("SET enable_seqscan = off; SELECT count(*) FROM orders WHERE placed = '2026-01-05';" + COUNTED)
    found = await health(tables)
    unused = of(found, "unused")
    assert set(unused) == {"spare"}
    one = unused["spare"]
    assert one.up_sql == ["DROP INDEX CONCURRENTLY public.spare;"]
    assert one.down_sql == ["CREATE INDEX CONCURRENTLY spare ON public.orders USING btree (note);"]
    assert one.size_bytes == int(tables.psql("SELECT pg_relation_size('spare')"))
    assert one.reclaimable_bytes == one.size_bytes
    assert found.stats_reset_at is not None
    assert found.stats_since == found.stats_reset_at
    assert f"{found.stats_reset_at:%Y-%m-%d %H:%M}" in one.evidence


async def test_a_short_count_proposes_no_drop(tables: Database) -> None:
    tables.psql("CREATE INDEX spare ON orders (note); SELECT pg_stat_reset();")
    found = of(await health(tables, unused_days=7), "unused")["spare"]
    assert found.up_sql == []
    assert "wait until 7 days" in (found.caution or "")


async def test_duplicates_and_prefixes_keep_one(tables: Database) -> None:
    tables.psql(
        """
        CREATE INDEX twin_a ON orders (customer_id); CREATE INDEX twin_b ON orders (customer_id);
        CREATE INDEX wide ON orders (placed, total); CREATE INDEX narrow ON orders (placed);
        CREATE INDEX backwards ON orders (placed DESC);
        CREATE INDEX other_collation ON orders (note COLLATE "C"); CREATE INDEX note ON orders (note);
        CREATE INDEX partial ON orders (placed) WHERE status = 'open';
        CREATE INDEX pattern ON orders (note text_pattern_ops);
        CREATE INDEX like_the_key ON orders (id);
        CREATE UNIQUE INDEX second_key ON orders (id);
        CREATE INDEX mixed ON orders (status, total DESC); CREATE INDEX plain ON orders (status, total);
        """
    )
    async with connected(tables.dsn) as conn:
        facts = await read_health(conn)
    # As if all were read, so that none is unused.
    facts = dataclasses.replace(facts, indexes=[dataclasses.replace(i, scans=1) for i in facts.indexes])
    found = judge_health(facts)
    assert of(found, "unused") == {}
    duplicates, redundant = of(found, "duplicate"), of(found, "redundant")
    assert len({"twin_a", "twin_b"} & set(duplicates)) == 1
    assert "like_the_key" in duplicates
    assert duplicates["second_key"].up_sql == []
    assert "orders_pkey" in (duplicates["second_key"].because_of or "")
    assert set(redundant) == {"narrow", "backwards"}
    assert {f.because_of for f in redundant.values()} == {"wide"}


async def test_invalid_indexes_are_found_and_dropped(tables: Database) -> None:
    with pytest.raises(RuntimeError, match="unique"):
        tables.psql("CREATE UNIQUE INDEX CONCURRENTLY broken ON orders (status)")
    found = of(await health(tables), "invalid")
    assert set(found) == {"broken"}
    for sql in found["broken"].up_sql:
        tables.psql(sql)
    assert of(await health(tables), "invalid") == {}


async def test_bloat_is_estimated_low_and_measured_exactly(db: Database) -> None:
    db.psql(
        """
        CREATE TABLE t (id int, v int); ALTER TABLE t SET (autovacuum_enabled = off);
        INSERT INTO t SELECT i, i FROM generate_series(1, 400000) i;
        CREATE INDEX bloated ON t (id); CREATE INDEX fresh_later ON t (v);
        DELETE FROM t WHERE id % 10 <> 0; VACUUM t;
        REINDEX INDEX fresh_later; ANALYZE t; CREATE EXTENSION pgstattuple;
        """
    )
    estimated, exact = of(await health(db), "bloated"), of(await health(db, exact=True), "bloated")
    assert set(estimated) == set(exact) == {"bloated"}
    size = int(db.psql("SELECT pg_relation_size('bloated')"))
    db.psql(exact["bloated"].up_sql[0])
    freed = size - int(db.psql("SELECT pg_relation_size('bloated')"))
    assert exact["bloated"].exact
    assert not estimated["bloated"].exact
    assert exact["bloated"].reclaimable_bytes == pytest.approx(freed, rel=0.1)
    assert 0.6 * freed < (estimated["bloated"].reclaimable_bytes or 0) <= freed


async def test_foreign_keys_without_an_index_on_ordinary_and_partitioned_tables(tables: Database) -> None:
    tables.psql(
        """
        CREATE TABLE event (id int, at date, customer_id int REFERENCES customer, "Odd col" int REFERENCES orders)
            PARTITION BY RANGE (at);
        CREATE TABLE event_26 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
            PARTITION BY LIST (id);
        CREATE TABLE event_26_1 PARTITION OF event_26 FOR VALUES IN (1);
        CREATE TABLE "event_26_Rest" PARTITION OF event_26 DEFAULT;
        CREATE TABLE event_27 PARTITION OF event FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
        INSERT INTO event SELECT i % 3, date '2026-06-01' + i % 400, 1 + i % 3000, 1 + i
        FROM generate_series(1, 5000) i;
        ANALYZE;
        """
    )
    missing = of(await health(tables), "missing_on_foreign_key")
    assert set(missing) == {"orders_customer_id_fkey", "event_customer_id_fkey", "event_Odd col_fkey"}
    for f in missing.values():
        for sql in f.up_sql:
            tables.psql(sql)
    found = await health(tables)
    assert of(found, "missing_on_foreign_key") == {}
    assert of(found, "invalid") == {}
    for f in missing.values():
        for sql in f.down_sql:
            tables.psql(sql)
    assert len(of(await health(tables), "missing_on_foreign_key")) == 3


async def test_low_hot_share_is_told_apart_by_cause(tables: Database) -> None:
    tables.psql(
        """
        CREATE INDEX on_total ON orders (total);
        SELECT pg_stat_reset();
        UPDATE orders SET total = total + 1;
        """
        + COUNTED
    )
    found = [f for f in (await health(tables)).findings if f.kind == "low_hot_share"]
    assert [f.table for f in found] == ["orders"]
    assert "20,000 updates" in found[0].evidence
    if tables.major < 16:
        assert found[0].up_sql == []
        assert "on_total" in (found[0].caution or "")


async def test_a_table_held_locked_is_left_out_with_a_note(tables: Database) -> None:
    tables.psql("CREATE INDEX spare ON orders (note)")
    async with connected(tables.dsn, read_only=False) as holder, holder.transaction():
        await holder.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        found = await health(tables)
    assert not [f for f in found.findings if f.table == "orders"]
    assert any("public.orders" in n and "locked" in n for n in found.notes)


def test_the_command_in_its_three_formats(tables_18: Database, tmp_path: Path) -> None:
    tables_18.psql("CREATE INDEX spare ON orders (note)")
    env = environment(tmp_path)
    text = dbperf("indexes", "--dsn", tables_18.dsn, "--unused-days", "0", env=env, cwd=tmp_path)
    assert text.returncode == 0, text.stderr
    assert "public.spare on orders" in text.stdout
    assert "DROP INDEX CONCURRENTLY public.spare;" in text.stdout
    done = dbperf("indexes", "--dsn", tables_18.dsn, "--format", "json", env=env, cwd=tmp_path)
    document = json.loads(done.stdout)
    assert document["kind"] == "index_health"
    assert {f["kind"] for f in document["findings"]} >= {"unused"}
    markdown = dbperf("indexes", "--dsn", tables_18.dsn, "--format", "markdown", "-o", "out.md", env=env, cwd=tmp_path)
    assert markdown.stdout == ""
    assert (tmp_path / "out.md").read_text().startswith("## Indexes of ")
