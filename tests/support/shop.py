"""The project that the documentation's how-to pages speak of: a shop's API on PostgreSQL, its files and its servers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dbperf.processes import free_port
from dbperf.trace.asgi import FACTORY
from tests.support.pgserver import PgServer
from tests.support.waiting import eventually

ROLES = ("me", "app", "reader", "monitor")
SCHEMA = """
CREATE EXTENSION pg_stat_statements;
CREATE ROLE me LOGIN; CREATE ROLE app LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE monitor LOGIN;
GRANT pg_read_all_stats TO me, app, reader, monitor;
CREATE DATABASE app OWNER me;
"""
TABLES = """
CREATE EXTENSION pg_stat_statements;
SET ROLE me;
CREATE TABLE items (item_id int PRIMARY KEY, name text NOT NULL, price int NOT NULL);
CREATE TABLE orders (order_id bigserial PRIMARY KEY, customer_id int NOT NULL, item_id int NOT NULL REFERENCES items,
  placed_at timestamptz NOT NULL DEFAULT now(), note text);
INSERT INTO items SELECT i, 'item ' || i, i * 10 FROM generate_series(1, 500) i;
INSERT INTO orders (customer_id, item_id, placed_at, note)
  SELECT i % 2000, 1 + i % 500, timestamptz '2025-01-01' + i * interval '1 minute', repeat('x', 100)
  FROM generate_series(1, 20000) i;
GRANT USAGE ON SCHEMA public TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader, app;
RESET ROLE;
VACUUM ANALYZE;
"""
API = '''\
"""A shop's API, written as one writes things the first time."""

import os

import asyncpg
from fastapi import FastAPI

app = FastAPI()
state = {}


async def pool():
    if "pool" not in state:
        state["pool"] = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=5)
    return state["pool"]


@app.get("/orders")
async def orders(limit: int = 20):
    p = await pool()
    found = await p.fetch("SELECT order_id, item_id FROM orders ORDER BY placed_at DESC LIMIT $1", limit)
    names = [await p.fetchval("SELECT name FROM items WHERE item_id = $1", r["item_id"]) for r in found]
    return [{"order": r["order_id"], "item": n} for r, n in zip(found, names)]


@app.get("/orders/count")
async def count(customer: int = 7):
    return await (await pool()).fetchval("SELECT count(*) FROM orders WHERE customer_id = $1", customer)


@app.get("/items/{item_id}")
async def item(item_id: int):
    return await (await pool()).fetchval("SELECT name FROM items WHERE item_id = $1", item_id)


@app.post("/orders")
async def order(body: dict):
    p = await pool()
    return await p.fetchval("INSERT INTO orders (customer_id, item_id) VALUES (1, $1) RETURNING order_id", body["item"])
'''
FILES = {
    "app/main.py": API,
    "requests.txt": (
        'GET /orders\nGET /orders/count?customer=8\n{"method": "POST", "path": "/orders", "data": {"item": 3}}\n'
    ),
    "queries/orders_of_a_customer.sql": "SELECT * FROM orders WHERE customer_id = 7;\n",
    "queries/newest.sql": "-- calls: 20\nSELECT order_id, item_id FROM orders ORDER BY placed_at DESC LIMIT 20;\n",
    "job.py": "import json\nfor _ in range(60):\n    json.loads(json.dumps(list(range(50000))))\n",
    "package/__init__.py": "",
    "package/module.py": (
        "from app.main import app\n\n\ndef function():\n    return sum(i * i for i in range(300_000))\n"
    ),
    "locustfile.py": (
        "from locust import FastHttpUser, constant, task\n\n\nclass Customer(FastHttpUser):\n"
        "    wait_time = constant(0.1)\n\n    @task\n    def look(self):\n        self.client.get('/orders')\n"
    ),
    "tests/api/test_orders.py": (
        "import os\nfrom urllib.request import urlopen\n\n\ndef test_orders():\n"
        "    assert urlopen(os.environ['SHOP_URL'] + '/orders/count').status == 200\n"
    ),
    "before.stacks.txt": "main;parse 70\nmain;send 30\n",
    "after.stacks.txt": "main;parse 20\nmain;send 30\n",
    "perf.txt": (
        "python 4711 [000]  100.100000:     250000 cpu-clock:\n\t    55d0 parse (/usr/bin/python3)\n"
        "\t    55e0 main (/usr/bin/python3)\n\n"
        "python 4711 [000]  100.200000:     250000 cpu-clock:\n\t    55f0 send (/usr/bin/python3)\n"
        "\t    55e0 main (/usr/bin/python3)\n\n"
    ),
}  # fmt: skip


def write_files(folder: Path) -> None:
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def make_database(server: PgServer) -> None:
    server.psql(SCHEMA)
    server.psql(TABLES, "app")


class ServedShop:
    """The API in a process of its own, under trace."""

    def __init__(self, folder: Path, traces: Path, dsn: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        env = {
            **os.environ,
            "DATABASE_URL": dsn,
            "DBPERF_TRACE_APP": "app.main:app",
            "DBPERF_TRACE_DIR": str(traces),
        }
        port = self.url.rpartition(":")[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--factory", FACTORY, "--port", port, "--log-level", "warning"],
            cwd=folder, env=env,
        )  # fmt: skip
        self.pid = self._process.pid

    def wait(self) -> None:
        assert eventually(self._answers)

    def _answers(self) -> bool:
        try:
            return bool(urllib.request.urlopen(f"{self.url}/orders", timeout=60).status == 200)
        except urllib.error.URLError:
            return False

    @contextmanager
    def visited(self) -> Iterator[None]:
        """Requests come one after the other while the block runs: a process that does nothing can't be sampled."""
        left = threading.Event()

        def visit() -> None:
            while not left.is_set():
                assert self._answers()

        with ThreadPoolExecutor(1) as pool:
            visits = pool.submit(visit)
            try:
                yield
            finally:
                left.set()
        visits.result()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)
