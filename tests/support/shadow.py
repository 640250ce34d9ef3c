"""A server for shadows, a database with every kind of object, and statements over it."""

from __future__ import annotations

import random
from pathlib import Path

from tests.support.pgserver import PgServer, bindir_18


class ShadowHost:
    """What `ShadowDatabase` needs of a server."""

    def __init__(self) -> None:
        self.server = PgServer(
            bindir_18(),
            {"autovacuum": "off", "shared_preload_libraries": "", "max_locks_per_transaction": "1024"},
            initdb=("--no-data-checksums",),
        )

    @property
    def data_dir(self) -> Path:
        return self.server.data

    def dsn(self, database: str = "postgres") -> str:
        return self.server.dsn(database)

    def close(self) -> None:
        self.server.close()


# VACUUM marks a page all-visible only when the commit of its rows is on disk, which synchronous_commit = off delays.
SHOP = """
SET synchronous_commit = on;
SELECT setseed(0.5);
CREATE TABLE customer (id bigserial PRIMARY KEY, name text NOT NULL, email varchar(100), region int NOT NULL,
                       tags text[], profile jsonb, created timestamptz NOT NULL DEFAULT now());
CREATE TABLE product (id int PRIMARY KEY, sku char(12) NOT NULL, category text, price numeric(10, 2), weight real);
CREATE TABLE orders (id bigserial PRIMARY KEY, customer_id bigint NOT NULL,
                     status text NOT NULL, placed date NOT NULL, total numeric, note text);
CREATE TABLE item (order_id bigint NOT NULL, line smallint NOT NULL, product_id int NOT NULL,
                   quantity int NOT NULL, price numeric(10, 2) NOT NULL, PRIMARY KEY (order_id, line));
INSERT INTO customer (name, email, region, tags, profile, created)
SELECT md5(i::text), 'user' || i || '@example.org', (random() ^ 2 * 50)::int, ARRAY['t' || i % 30, 'u' || i % 7],
       jsonb_build_object('plan', i % 4, 'lang', 'l' || i % 12), timestamptz '2026-01-01' + i * interval '7 min'
FROM generate_series(1, 20000) i;
INSERT INTO product SELECT i, 'SKU' || lpad(i::text, 9, '0'), 'c' || (random() * 20)::int, random() * 500, random()
FROM generate_series(1, 3000) i;
INSERT INTO orders (customer_id, status, placed, total, note)
SELECT 1 + (random() ^ 3 * 19999)::int, (ARRAY['open', 'paid', 'sent', 'sent', 'sent', 'sent', 'void'])[1 + i % 7],
       date '2025-01-01' + i / 100, random() * 1000, CASE WHEN i % 9 = 0 THEN repeat('n', i % 80) END
FROM generate_series(1, 50000) i;
INSERT INTO item SELECT o, l, 1 + (random() * 2999)::int, 1 + (random() * 5)::int, random() * 500
FROM generate_series(1, 50000) o, generate_series(1, 3) l;
ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customer;
ALTER TABLE item ADD FOREIGN KEY (order_id) REFERENCES orders;
CREATE INDEX ON orders (customer_id, placed DESC);
CREATE INDEX ON item (product_id) INCLUDE (quantity);
CREATE INDEX ON customer (lower(email));
CREATE INDEX ON orders (placed) WHERE status = 'open';
CREATE INDEX ON orders USING brin (placed) WITH (pages_per_range = 16);
CREATE UNIQUE INDEX ON product (sku);
CREATE INDEX ON product USING hash (category);
"""

_CUSTOMER = [
    "region = {n}",
    "id = {id}",
    "created > '2026-02-{d:02d}'",
    "lower(email) = 'user{id}@example.org'",
    "name LIKE 'a{n}%'",
    "profile->>'plan' = '2'",
    "region IN ({n}, {n} + 1, 3)",
]
_ORDERS = [
    "o.customer_id = {id}",
    "o.status = 'open'",
    "o.placed BETWEEN '2025-03-01' AND '2025-04-{d:02d}'",
    "o.total > {n} * 10",
    "o.note IS NULL",
    "o.status = 'void' AND o.placed > '2025-06-{d:02d}'",
]
_SHAPES = [
    "SELECT * FROM customer WHERE {c}",
    "SELECT name FROM customer WHERE {c} AND {c2} ORDER BY created DESC LIMIT 20",
    "SELECT region, count(*) FROM customer WHERE {c} GROUP BY region",
    "SELECT * FROM orders o WHERE {o}",
    "SELECT o.id, o.total FROM orders o WHERE {o} ORDER BY placed DESC LIMIT 10",
    "SELECT status, sum(total) FROM orders o WHERE {o} GROUP BY status ORDER BY 2",
    "SELECT c.name, o.total FROM orders o JOIN customer c ON c.id = o.customer_id WHERE {o}",
    "SELECT c.region, sum(i.quantity * i.price) FROM customer c JOIN orders o ON o.customer_id = c.id "
    "JOIN item i ON i.order_id = o.id WHERE {o} GROUP BY 1",
    "SELECT p.category, count(*) FROM item i JOIN product p ON p.id = i.product_id JOIN orders o ON o.id = i.order_id "
    "WHERE {o} GROUP BY 1 ORDER BY 2 DESC LIMIT 5",
    "SELECT * FROM product p WHERE EXISTS (SELECT FROM item i WHERE i.product_id = p.id AND i.quantity > 3) "
    "AND p.price < {n}",
    "SELECT quantity FROM item WHERE product_id = {n}",
    "SELECT DISTINCT customer_id FROM orders o WHERE {o}",
    "SELECT max(placed), min(placed) FROM orders o WHERE {o}",
    "SELECT * FROM orders o WHERE {o} AND NOT EXISTS (SELECT FROM item i WHERE i.order_id = o.id)",
    "UPDATE orders o SET total = total + 1 WHERE {o}",
    "DELETE FROM item WHERE order_id = {id}",
    "SELECT sku FROM product WHERE category = 'c{n}'",
    "WITH top AS (SELECT customer_id, sum(total) s FROM orders o WHERE {o} GROUP BY 1) "
    "SELECT c.name, s FROM top JOIN customer c ON c.id = top.customer_id ORDER BY s DESC LIMIT 3",
    "SELECT row_number() OVER (PARTITION BY customer_id ORDER BY placed) FROM orders o WHERE {o}",
]


def corpus(count: int, seed: int = 1) -> list[str]:
    """Statements over SHOP, the same for the same seed."""
    draw = random.Random(seed)
    statements = []
    for i in range(count):
        values = {"n": draw.randint(1, 45), "id": draw.randint(1, 19000), "d": draw.randint(1, 28)}
        c, c2 = (x.format(**values) for x in draw.sample(_CUSTOMER, 2))
        o = draw.choice(_ORDERS).format(**values)
        statements.append(_SHAPES[i % len(_SHAPES)].format(c=c, c2=c2, o=o, **values))
    return statements
