"""Workloads as real servers and applications leave them."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from dbperf.indexes.advise import advise
from dbperf.indexes.sessions import read_source, with_workload
from dbperf.indexes.workload_files import read_workload
from dbperf.phase3.launch import start_target
from dbperf.phase3.seed import seed
from dbperf.postgres.explain import explain
from dbperf.postgres.shadow_catalog import read_catalog
from dbperf.postgres.shadow_database import ShadowDatabase
from dbperf.postgres.shadow_planner import ShadowPlanner
from dbperf.records.advice import Advice
from tests.support.pgserver import PgServer, bindir_15, bindir_18
from tests.support.shadow import ShadowHost
from tests.support.waiting import eventually

LOGGED = {
    "logging_collector": "on",
    "log_destination": "stderr,csvlog,jsonlog",
    "log_directory": "kept",
    "log_filename": "server.log",
    "log_file_mode": "0644",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "lc_messages": "C",
}
ON = "SET log_min_duration_statement = 0; SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on; "


@pytest.fixture(scope="module")
def logging_server() -> Iterator[PgServer]:
    """PostgreSQL 15 that writes its log in all three formats."""
    server = PgServer(bindir_15(), LOGGED)
    yield server
    server.close()


async def test_one_log_in_three_formats_is_one_workload(logging_server: PgServer, tmp_path: Path) -> None:
    logging_server.psql(
        "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, 'x' || i FROM generate_series(1, 99) i"
    )
    for form in ("text", "json"):
        conn = await asyncpg.connect(logging_server.dsn())
        try:
            await conn.execute(f"{ON} SET auto_explain.log_format = {form}")
            for i in range(12):
                await conn.fetch("SELECT * FROM t WHERE a = $1 AND b <> $2", i % 3, "it's\n\t, $1 = 'x'")
            for i in range(9):
                await conn.execute(f"SELECT b FROM t\nWHERE a = {i}")
            await conn.execute("SELECT count(*) FROM t; SELECT a FROM t ORDER BY b")
            with pytest.raises(asyncpg.UndefinedColumnError):
                await conn.execute("SELECT nope FROM t")
            await conn.execute(f"SET application_name = '{form} is all'")
        finally:
            await conn.close()
    found = []
    for suffix in (".log", ".csv", ".json"):
        path = tmp_path / f"server{suffix}"
        kept = logging_server.data / "kept" / path.name
        assert eventually(lambda kept=kept: b"json is all" in kept.read_bytes()), "the collector is a process"
        path.write_bytes(kept.read_bytes())
        found.append(read_workload(path))
    for w in found:
        calls = {s.text.split("\n")[0]: s.calls for s in w.statements}
        assert calls == {
            "SELECT * FROM t WHERE a = $1 AND b <> $2": 24,
            "SELECT b FROM t": 18,
            "SELECT count(*) FROM t": 2,
            "SELECT a FROM t ORDER BY b": 2,
        }
        assert [s.text for s in w.statements] == [s.text for s in found[0].statements]
        assert [s.cases for s in w.statements] == [s.cases for s in found[0].statements]
        assert len(w.plans) == 4
        assert all(p.plan is not None and p.plan.root.actual_rows is not None for p in w.plans)
    logged = found[0].statements[0]
    assert [c.share for c in logged.cases] == [0.25, 0.25, 0.25]
    assert [s.database for s in found[0].statements] == [None] * 4
    assert {s.database for w in found[1:] for s in w.statements} == {"postgres"}
    conn = await asyncpg.connect(logging_server.dsn())
    try:
        for s in found[0].statements:
            for case in s.cases:
                await explain(conn, case.text, verbose=False)
    finally:
        await conn.close()
    # The folder as the collector leaves it: each entry once.
    folder = read_workload(tmp_path)
    assert [s.calls for s in folder.statements] == [s.calls for s in found[2].statements]


QUERIES = Path(__file__).parents[2] / "sql" / "phase3"
BUSY = "SELECT case_id FROM execution_log GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"


def ask_endpoints(dsn: str, case: str) -> None:
    """What the naive implementation is asked for, one after the other."""
    with start_target(dsn, "naive") as target:
        for method, path, body in (
            ("POST", "/reflection/batch", {"min_logs": 10}),
            ("POST", "/reflection/analyze", {"case_id": case}),
            ("GET", "/consolidation/summary", None),
            ("GET", "/taxonomy/v1/tree", None),
            ("POST", "/consolidation/run", {}),
        ):
            request = urllib.request.Request(
                target.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
                headers={"X-API-Key": target.api_key, "content-type": "application/json"},
            )  # fmt: skip
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert answer.status == 200


async def ask_queries(dsn: str, case: str) -> None:
    """DB-001 to DB-006."""
    conn = await asyncpg.connect(dsn)
    try:
        await conn.set_type_codec("vector", schema="public", encoder=str, decoder=str)
        for n in range(1, 7):
            values = {4: [case], 6: [str([0.1] * 1536)]}.get(n, [])
            await conn.fetch((QUERIES / f"db-00{n}.sql").read_text(), *values)
    finally:
        await conn.close()


async def exported(dsn: str, log: Path, file: Path) -> None:
    """What `dbperf shadow export` writes, read by a role that may only read."""
    conn = await asyncpg.connect(dsn, server_settings={"default_transaction_read_only": "on"})
    try:
        catalog = await read_catalog(conn, source="test")
    finally:
        await conn.close()
    file.write_bytes(with_workload(catalog, read_workload(log).of_database(catalog.database)).to_json())


async def advised(file: Path) -> Advice:
    catalog, workload = await read_source(None, file, None)
    host = ShadowHost()
    try:
        planner = await ShadowPlanner.open(await ShadowDatabase.create(host, catalog))
        try:
            return await advise(catalog, workload, planner)
        finally:
            await planner.close()
    finally:
        host.close()


def test_the_naive_reference_target_gets_what_it_needs(tmp_path: Path) -> None:
    """From a slow-query log, by a read-only role, without hypopg, offline: the target is stopped when advice begins."""
    server = PgServer(bindir_18())
    try:
        asyncio.run(seed(server.dsn(), "smoke"))
        server.psql("VACUUM ANALYZE; CREATE ROLE ro LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ro")
        case = server.psql(BUSY)
        server.psql("ALTER DATABASE postgres SET log_min_duration_statement = 0")
        ask_endpoints(server.dsn(), case)
        asyncio.run(ask_queries(server.dsn(), case))
        assert server.psql("SELECT count(*) FROM pg_available_extensions WHERE name = 'hypopg'") == "0"
        asyncio.run(exported(server.dsn(user="ro"), server.log, tmp_path / "shop.json"))
    finally:
        server.close()
    advice = asyncio.run(advised(tmp_path / "shop.json"))
    texts = {s.id: s.text or "" for s in advice.statements}

    def indexes_of(words: str) -> list[str]:
        """Recommended for a statement whose text has the words."""
        [id_] = [i for i, text in texts.items() if " ".join(words.split()) in " ".join(text.split())]
        return [r.create_sql for r in advice.recommendations if id_ in r.statements]

    def why_none(words: str) -> str:
        [reason] = [
            x.reason for x in advice.rejected if x.statement and " ".join(words.split()) in " ".join(x.sql.split())
        ]
        return reason

    def query(n: int) -> str:
        """Without the comment before it."""
        return (QUERIES / f"db-00{n}.sql").read_text().split("\n", 1)[1]

    case_first = "ON public.execution_log (case_id"
    # POST /reflection/batch and /analyze: the newest logs of a case, once per case; DB-004 the same by hand.
    assert any(case_first in x for x in indexes_of("ORDER BY execution_log.created_at DESC, execution_log.log_id DESC"))
    assert any(case_first in x for x in indexes_of(query(4)))
    # DB-002: the first of an order. DB-001: few cases that are active and bad.
    assert any("ON public.case_bank (usage_count DESC" in x for x in indexes_of(query(2)))
    assert any("ON public.case_bank (" in x for x in indexes_of(query(1)))
    # DB-003 and DB-005 read whole tables, and so few vectors are compared one by one in no time.
    for n in (3, 5, 6):
        assert indexes_of(query(n)) == []
        assert ("compares all vectors" if n == 6 else "rows: reading the table in one go") in why_none(query(n))
    # What the driver looks up in the catalog is not the application's.
    assert all("pg_" not in text for text in texts.values())
    assert advice.cost_after < 0.7 * advice.cost_before
    assert {r.table for r in advice.recommendations} <= {"execution_log", "case_bank"}
