# ruff: noqa: E501 - a statement is easier to read on one line
"""Statements whose plans cover PostgreSQL's node types: parallel, looping, shared sub-plans, never executed nodes.

`SCHEMA` loads in about a second. The tables are read only: one database per server serves all tests of a process.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

SCHEMA = """
CREATE TABLE customers (id int PRIMARY KEY, country text, segment text, email text, code varchar(20));
INSERT INTO customers SELECT i, 'c' || i % 40, CASE WHEN i % 100 = 0 THEN 'vip' ELSE 'normal' END,
  'user' || i || '@example.org', lpad(i::text, 8, '0') FROM generate_series(1, 5000) i;
CREATE INDEX customers_email ON customers (email);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, status text, total numeric, created_at timestamptz, note text);
INSERT INTO orders SELECT i, 1 + (i * 7919) % 5000, CASE WHEN i % 50 = 0 THEN 'open' ELSE 'done' END, (i * 37) % 1000,
  timestamptz '2026-01-01' + i * interval '1 minute', repeat('n', i % 60) FROM generate_series(1, 60000) i;
CREATE INDEX orders_customer ON orders (customer_id);
CREATE INDEX orders_created ON orders (created_at);
CREATE TABLE items (order_id int, product int, qty int, price numeric);
INSERT INTO items SELECT 1 + i % 60000, (i * 31) % 997, i % 9, i % 100 FROM generate_series(1, 120000) i;
CREATE TABLE parts (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES FROM (0) TO (1000);
CREATE TABLE parts_b PARTITION OF parts FOR VALUES FROM (1000) TO (2000);
INSERT INTO parts SELECT i, 'v' || i FROM generate_series(0, 1999) i;
CREATE TABLE few (id int PRIMARY KEY, parent int, name text);
INSERT INTO few SELECT i, i / 2, 'f' || i FROM generate_series(1, 60) i;
CREATE FUNCTION slow_one(int) RETURNS int LANGUAGE plpgsql AS $$BEGIN RETURN $1 + 1; END$$;
ANALYZE;
"""

PARALLEL = {
    "max_parallel_workers_per_gather": "2",
    "parallel_setup_cost": "0",
    "parallel_tuple_cost": "0",
    "min_parallel_table_scan_size": "0",
    "min_parallel_index_scan_size": "0",
    "jit": "off",
}
SERIAL = {"max_parallel_workers_per_gather": "0", "jit": "off"}


class Case(NamedTuple):
    sql: str
    settings: dict[str, str] = SERIAL


CORPUS: dict[str, Case] = {
    "seq": Case("SELECT * FROM customers WHERE country = 'c7'"),
    "index": Case("SELECT * FROM orders WHERE customer_id = 42"),
    "index_only": Case("SELECT count(*) FROM orders WHERE id < 500"),
    "bitmap": Case("SELECT * FROM orders WHERE customer_id IN (1, 2, 3) OR id = 9"),
    "backward": Case("SELECT * FROM orders ORDER BY id DESC LIMIT 5"),
    "hash_join": Case("SELECT count(*) FROM orders o JOIN customers c ON c.id = o.customer_id WHERE c.segment = 'vip'"),
    "left_join": Case("SELECT c.id, count(o.id) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY 1"),
    "merge_join": Case(
        "SELECT count(*) FROM orders o JOIN items i ON i.order_id = o.id",
        {**SERIAL, "enable_hashjoin": "off", "enable_nestloop": "off"},
    ),
    "nested_loop": Case(
        "SELECT * FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.segment = 'vip'",
        {**SERIAL, "enable_hashjoin": "off", "enable_mergejoin": "off"},
    ),
    "loops_of_nothing": Case(
        "SELECT count(*) FROM generate_series(1, 20000) g JOIN few f ON f.id = g",
        {**SERIAL, "enable_hashjoin": "off", "enable_mergejoin": "off"},
    ),
    "memoize": Case(
        "SELECT count(*) FROM items i JOIN orders o ON o.id = i.product",
        {**SERIAL, "enable_hashjoin": "off", "enable_mergejoin": "off"},
    ),
    "materialize": Case("SELECT count(*) FROM few a, few b, few c WHERE a.id < b.id"),
    "sort": Case("SELECT * FROM orders ORDER BY note, total"),
    "sort_spilled": Case("SELECT * FROM items ORDER BY price, qty", {**SERIAL, "work_mem": "64kB"}),
    "top_n": Case("SELECT * FROM orders ORDER BY total DESC LIMIT 10"),
    "incremental_sort": Case("SELECT * FROM orders ORDER BY customer_id, total LIMIT 100"),
    "hash_aggregate": Case("SELECT status, count(*), sum(total) FROM orders GROUP BY status"),
    "hash_aggregate_spilled": Case(
        "SELECT order_id, count(*) FROM items GROUP BY order_id", {**SERIAL, "work_mem": "64kB"}
    ),
    "group_aggregate": Case(
        "SELECT customer_id, count(*) FROM orders GROUP BY customer_id", {**SERIAL, "enable_hashagg": "off"}
    ),
    "grouping_sets": Case("SELECT status, customer_id % 3, count(*) FROM orders GROUP BY ROLLUP (1, 2)"),
    "window": Case("SELECT id, rank() OVER (PARTITION BY customer_id ORDER BY total) FROM orders WHERE id < 3000"),
    "distinct": Case("SELECT DISTINCT country FROM customers"),
    "union": Case("SELECT country FROM customers UNION SELECT status FROM orders"),
    "except": Case("SELECT id FROM customers EXCEPT SELECT customer_id FROM orders"),
    "append": Case("SELECT * FROM parts WHERE v LIKE 'v1%'"),
    "pruned": Case("SELECT * FROM parts WHERE k = 1500"),
    "merge_append": Case("SELECT * FROM (SELECT id FROM orders UNION ALL SELECT id FROM few) x ORDER BY id LIMIT 50"),
    "init_plan": Case("SELECT * FROM orders WHERE total > (SELECT avg(total) FROM orders)"),
    "init_plan_below_sort": Case(
        "SELECT * FROM orders WHERE total > (SELECT avg(price) * 10 FROM items) ORDER BY note LIMIT 7"
    ),
    "init_plan_in_target_list": Case("SELECT id, (SELECT max(total) FROM orders) FROM few ORDER BY name"),
    "two_init_plans": Case(
        "SELECT * FROM orders WHERE total > (SELECT avg(price) * 9 FROM items) AND id < (SELECT max(id) / 2 FROM orders)"
    ),
    "nested_init_plans": Case(
        "SELECT * FROM few WHERE id > (SELECT min(id) FROM few WHERE id > (SELECT avg(qty) FROM items))"
    ),
    "sub_plan": Case("SELECT id, (SELECT count(*) FROM orders o WHERE o.customer_id = c.id) FROM customers c WHERE id < 500"),
    "hashed_sub_plan": Case("SELECT * FROM orders WHERE customer_id NOT IN (SELECT id FROM customers WHERE id < 4900)"),
    "exists": Case("SELECT * FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id AND total > 990)"),
    "anti": Case("SELECT * FROM customers c WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id)"),
    "cte": Case("WITH x AS MATERIALIZED (SELECT * FROM orders WHERE total > 500) SELECT count(*) FROM x WHERE id % 2 = 0"),
    "cte_twice": Case(
        "WITH x AS (SELECT customer_id, sum(total) s FROM orders GROUP BY 1) "
        "SELECT * FROM x a JOIN x b ON a.s = b.s AND a.customer_id < b.customer_id"
    ),
    "cte_chain": Case(
        "WITH a AS MATERIALIZED (SELECT id, total FROM orders), b AS MATERIALIZED (SELECT id FROM a WHERE total > 900), "
        "c AS MATERIALIZED (SELECT a.id FROM a JOIN b USING (id)) SELECT count(*) FROM c, few WHERE few.id = c.id % 100"
    ),
    "cte_in_cte": Case(
        "WITH x AS MATERIALIZED (WITH x AS MATERIALIZED (SELECT * FROM items) SELECT product, count(*) n FROM x GROUP BY 1) "
        "SELECT * FROM x WHERE n > 100"
    ),
    "cte_cut_short": Case("WITH x AS MATERIALIZED (SELECT * FROM orders) SELECT * FROM x LIMIT 10"),
    "cte_in_init_plan": Case(
        "WITH x AS MATERIALIZED (SELECT * FROM orders) SELECT * FROM few WHERE id < (SELECT count(*) FROM x WHERE total > 998)"
    ),
    "recursive": Case(
        "WITH RECURSIVE r AS (SELECT id, parent, 0 d FROM few WHERE id = 1 "
        "UNION ALL SELECT f.id, f.parent, d + 1 FROM few f JOIN r ON f.parent = r.id WHERE d < 20) SELECT max(d) FROM r"
    ),
    "lateral": Case(
        "SELECT c.id, o.* FROM customers c CROSS JOIN LATERAL "
        "(SELECT * FROM orders o WHERE o.customer_id = c.id ORDER BY total DESC LIMIT 2) o WHERE c.segment = 'vip'"
    ),
    "never_executed": Case("SELECT * FROM few f JOIN orders o ON o.id = f.id WHERE f.name = 'nobody'"),
    "one_time_filter": Case("SELECT * FROM orders WHERE (SELECT false)"),
    "function_scan": Case("SELECT g, slow_one(g) FROM generate_series(1, 20000) g WHERE slow_one(g) > 3"),
    "values": Case("SELECT * FROM (VALUES (1), (2), (3)) v(i) JOIN few ON few.id = v.i"),
    "project_set": Case("SELECT generate_series(1, id) FROM few"),
    "limit_offset": Case("SELECT * FROM orders ORDER BY id LIMIT 10 OFFSET 20000"),
    "jit": Case("SELECT sum(total * 2 + id) FROM orders WHERE total + id > 10", {"jit": "on", "jit_above_cost": "0"}),
    "parallel_seq": Case("SELECT count(*) FROM items WHERE price > 50", PARALLEL),
    "parallel_hash": Case("SELECT count(*) FROM items i JOIN orders o ON o.id = i.order_id WHERE o.total > 500", PARALLEL),
    "parallel_nested_loop": Case(
        "SELECT count(*) FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.segment = 'vip'",
        {**PARALLEL, "enable_hashjoin": "off", "enable_mergejoin": "off"},
    ),
    "parallel_sort": Case("SELECT * FROM items ORDER BY price, product", {**PARALLEL, "work_mem": "256kB"}),
    "parallel_limit": Case("SELECT * FROM items WHERE qty = 3 LIMIT 100", PARALLEL),
    "parallel_init_plan": Case("SELECT count(*) FROM items WHERE price > (SELECT avg(total) / 10 FROM orders)", PARALLEL),
    "parallel_append": Case("SELECT count(*) FROM (SELECT id FROM orders UNION ALL SELECT order_id FROM items) x", PARALLEL),
    "parallel_no_leader": Case(
        "SELECT count(*) FROM items WHERE price > 50", {**PARALLEL, "parallel_leader_participation": "off"}
    ),
    "parallel_bitmap": Case(
        "SELECT sum(total) FROM orders WHERE customer_id BETWEEN 1 AND 1500", {**PARALLEL, "enable_seqscan": "off"}
    ),
    "parallel_index": Case(
        "SELECT count(*) FROM orders WHERE id > 10",
        {**PARALLEL, "enable_seqscan": "off", "enable_bitmapscan": "off"},
    ),
    "parallel_cte": Case(
        "WITH x AS MATERIALIZED (SELECT count(*) n FROM items WHERE qty > 2) SELECT count(*) FROM orders, x WHERE total < n",
        PARALLEL,
    ),
    "gather_in_loop": Case(
        "SELECT f.id, (SELECT count(*) FROM items i WHERE i.qty = f.id) FROM few f WHERE f.id < 5", PARALLEL
    ),
}  # fmt: skip


HEALTHY: dict[str, Case] = {
    "by key": Case("SELECT * FROM orders WHERE id = 4711"),
    "by index": Case("SELECT * FROM orders WHERE customer_id = 42"),
    "by several keys": Case("SELECT * FROM orders WHERE id = ANY ('{1,5,900,30000}')"),
    "by unique text": Case("SELECT * FROM customers WHERE email = 'user77@example.org'"),
    "by range": Case("SELECT * FROM orders WHERE created_at >= '2026-01-10' AND created_at < '2026-01-11'"),
    "newest first": Case("SELECT * FROM orders ORDER BY created_at DESC LIMIT 20"),
    "next page": Case("SELECT * FROM orders WHERE id > 30000 ORDER BY id LIMIT 20"),
    "newest of one": Case("SELECT * FROM orders WHERE customer_id = 42 ORDER BY created_at DESC LIMIT 5"),
    "small table": Case("SELECT * FROM few"),
    "small filter": Case("SELECT * FROM few WHERE name = 'f7'"),
    "whole table": Case("SELECT count(*), sum(total) FROM orders"),
    "group": Case("SELECT status, count(*) FROM orders GROUP BY status ORDER BY 2 DESC"),
    "half of it": Case("SELECT sum(price) FROM items WHERE price > 50"),
    "join by key": Case("SELECT o.*, c.email FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.id = 99"),
    "join few": Case(
        "SELECT * FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.email = 'user9@example.org'"
    ),
    "join many": Case(
        "SELECT c.country, sum(o.total) FROM customers c JOIN orders o ON o.customer_id = c.id GROUP BY 1"
    ),
    "left join": Case(
        "SELECT c.id, count(o.id) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id"
    ),
    "exists": Case("SELECT count(*) FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id)"),
    "not exists": Case("SELECT * FROM customers c WHERE NOT EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id)"),
    "in": Case("SELECT * FROM orders WHERE customer_id IN (SELECT id FROM few)"),
    "scalar sub-query": Case("SELECT * FROM few WHERE id = (SELECT max(id) FROM few)"),
    "sub-query per small row": Case(
        "SELECT f.id, (SELECT max(o.id) FROM orders o WHERE o.customer_id = f.id) FROM few f"
    ),
    "inlined cte": Case("WITH x AS (SELECT * FROM orders) SELECT * FROM x WHERE id = 5"),
    "cte used twice": Case(
        "WITH x AS (SELECT customer_id, sum(total) s FROM orders GROUP BY 1) SELECT count(*) FROM x WHERE s > (SELECT avg(s) FROM x)"
    ),
    "union all": Case("SELECT id FROM few UNION ALL SELECT id FROM orders WHERE id < 50"),
    "union that removes": Case("SELECT country FROM customers UNION SELECT country FROM customers"),
    "distinct that removes": Case("SELECT DISTINCT country FROM customers"),
    "pruned partition": Case("SELECT * FROM parts WHERE k = 1500"),
    "all partitions": Case("SELECT count(*) FROM parts"),
    "window": Case("SELECT id, rank() OVER (ORDER BY total) FROM orders WHERE customer_id = 42"),
    "recursive": Case(
        "WITH RECURSIVE r AS (SELECT id, parent FROM few WHERE id = 60 UNION ALL "
        "SELECT f.id, f.parent FROM few f JOIN r ON f.id = r.parent) SELECT * FROM r"
    ),
    "lateral top": Case(
        "SELECT f.id, o.id FROM few f CROSS JOIN LATERAL "
        "(SELECT id FROM orders o WHERE o.customer_id = f.id ORDER BY id DESC LIMIT 1) o"
    ),
    "small function": Case("SELECT * FROM generate_series(1, 10) g JOIN few ON few.id = g"),
    "values": Case("SELECT * FROM (VALUES (1), (2)) v(i) JOIN orders ON orders.id = v.i"),
    "bitmap": Case("SELECT sum(total) FROM orders WHERE customer_id BETWEEN 100 AND 160"),
    "parallel": Case("SELECT count(*) FROM items WHERE price > 20", PARALLEL),
    "parallel join": Case("SELECT count(*) FROM items i JOIN orders o ON o.id = i.order_id", PARALLEL),
    "nothing found": Case("SELECT * FROM orders WHERE id = -1"),
    "index only": Case("SELECT count(*) FROM orders WHERE customer_id = 77"),
    "min max": Case("SELECT min(id), max(id) FROM orders"),
}
"""Plans that a specialist would leave alone."""


SWITCHES = ("enable_hashjoin", "enable_mergejoin", "enable_nestloop", "enable_seqscan", "enable_hashagg")


def generated(count: int, seed: int) -> list[Case]:
    """Statements over SCHEMA put together at random: joins, filters, aggregates, sub-queries, order, limit, settings."""
    random = Random(seed)

    def one() -> Case:
        tables = random.sample(
            ["orders o", "customers c", "items i", "few f", "parts p", "LATERAL generate_series(1, 5) g"],
            k=random.choice([1, 1, 2, 2, 3]),
        )
        names = [t.split()[-1] for t in tables]
        key = {"o": "o.id", "c": "c.id", "i": "i.order_id", "f": "f.id", "p": "p.k", "g": "g.g"}
        source = tables[0]
        for table, name, before in zip(tables[1:], names[1:], names, strict=False):
            kind = random.choice(["JOIN", "LEFT JOIN", "JOIN", "FULL JOIN"])
            other = "o.customer_id" if before == "o" and random.random() < 0.5 else key[before]
            source += f" {kind} {table} ON {other} = {key[name]}"
        first = key[names[0]]
        filters = [
            f"{first} < {random.choice([10, 500, 3000])}",
            f"{first} % 7 = 3",
            f"{first} > (SELECT avg(id) FROM few)",
            f"EXISTS (SELECT 1 FROM few x WHERE x.parent = {first})",
            f"{first} NOT IN (SELECT id FROM few WHERE id % 2 = 0)",
            f"'it''s  (odd): x' <> {first}::text",
        ]
        where = " AND ".join([f"{first} < 5000", *random.sample(filters, k=random.choice([0, 1, 2]))])
        shape = random.choice(["rows", "count", "group", "distinct", "window", "cte"])
        tail = f" ORDER BY 1{random.choice(['', ' DESC'])} LIMIT {random.choice([1, 10, 2000])}"
        tail = random.choice(["", tail])
        sql = {
            "rows": f"SELECT {first}, (SELECT max(id) FROM few) FROM {source} WHERE {where}{tail}",
            "count": f"SELECT count(*) FROM {source} WHERE {where}",
            "group": f"SELECT {first} % 10, count(*) FROM {source} WHERE {where} GROUP BY 1{tail}",
            "distinct": f"SELECT DISTINCT {first} / 3 FROM {source} WHERE {where}{tail}",
            "window": f"SELECT {first}, row_number() OVER (ORDER BY {first}) FROM {source} WHERE {where}{tail}",
            "cte": f"WITH w AS MATERIALIZED (SELECT {first} v FROM {source} WHERE {where}) "
            f"SELECT a.v FROM w a JOIN few ON few.id = a.v UNION ALL (SELECT v FROM w LIMIT 3)",
        }[shape]
        settings = dict(random.choice([SERIAL, SERIAL, PARALLEL]))
        if random.random() < 0.5:  # one at most: without hash and merge joins some would run for minutes
            settings[random.choice(SWITCHES)] = "off"
        if random.random() < 0.3:
            settings["work_mem"] = "64kB"
        return Case(sql, settings)

    return [one() for _ in range(count)]
