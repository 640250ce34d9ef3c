"""A database with indexes of many kinds, its catalog as data, and ways to run what dbperf writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import Database

SHOP = """
CREATE SCHEMA "Weird schema";
CREATE TABLE customer (id int PRIMARY KEY, email text NOT NULL, region int, profile jsonb);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL, placed date, note text, "Odd: col" text,
                     total numeric, dropped int);
ALTER TABLE orders DROP COLUMN dropped;
CREATE TABLE "Weird schema"."Ta ble" (a int, "B" text, c int);
CREATE TABLE event (id int, at date, customer_id int) PARTITION BY RANGE (at);
CREATE TABLE event_26 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY LIST (id);
CREATE TABLE event_26_1 PARTITION OF event_26 FOR VALUES IN (1);
CREATE TABLE "event_26_Rest" PARTITION OF event_26 DEFAULT;
CREATE TABLE event_27 PARTITION OF event FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
INSERT INTO customer SELECT i, 'u' || i, i % 50, jsonb_build_object('plan', i % 4) FROM generate_series(1, 500) i;
INSERT INTO orders SELECT i, 1 + i % 500, date '2026-01-01' + i % 100, md5(i::text), 'x' || i % 7, i
FROM generate_series(1, 3000) i;
INSERT INTO event SELECT i % 3, date '2026-06-01' + i % 400, 1 + i % 500 FROM generate_series(1, 900) i;
CREATE INDEX plain ON orders (customer_id);
CREATE INDEX twin ON orders (customer_id);
CREATE INDEX expressed ON orders (lower(note) text_pattern_ops, "Odd: col" DESC NULLS LAST) WHERE note LIKE 'a:%';
ALTER INDEX expressed ALTER COLUMN 1 SET STATISTICS 77;
COMMENT ON INDEX expressed IS 'it''s: a comment';
CREATE INDEX covering ON orders (placed) INCLUDE (total, note) WITH (fillfactor = 70, deduplicate_items = off);
ALTER TABLE orders CLUSTER ON covering;
CREATE INDEX "Blocks" ON orders USING brin (placed) WITH (pages_per_range = 16);
CREATE INDEX documents ON customer USING gin (profile jsonb_path_ops);
CREATE INDEX hashed ON "Weird schema"."Ta ble" USING hash ("B");
CREATE INDEX event_customer ON event (customer_id, at DESC);
ANALYZE;
"""
DROPPABLE = ("plain", "twin", "expressed", "covering", "Blocks", "documents", "event_customer")

_CATALOG = """
SELECT json_agg(r ORDER BY r) FROM (
  SELECT json_build_array(n.nspname, c.relname, pg_get_indexdef(c.oid), x.indisvalid, x.indisready, x.indislive,
           x.indisclustered, x.indisunique, obj_description(c.oid, 'pg_class'), c.reloptions, c.reltablespace,
           (SELECT json_agg(json_build_array(a.attnum, a.attstattarget) ORDER BY a.attnum) FROM pg_attribute a
            WHERE a.attrelid = c.oid),
           (SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid = c.oid),
           t.reloptions, t.relhasindex)::text AS r
  FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast')) s
"""


def catalog(db: Database) -> list[Any]:
    """Everything about every index that a user could notice."""
    return list(json.loads(db.psql(_CATALOG) or "[]"))


def run_file(db: Database, path: Path) -> None:
    """Runs a file as its header says."""
    done = subprocess.run(
        [db.server.bindir / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", db.server.host, "-U", "postgres",
         "-f", path, db.name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def squawk(*files: Path) -> None:
    """Fails where squawk has anything to say."""
    program = Path(sys.executable).parent / "squawk"
    done = subprocess.run([program, "--reporter", "gcc", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout
