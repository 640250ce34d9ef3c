"""Workloads as real servers and applications leave them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from dbperf.indexes.workload_files import read_workload
from dbperf.postgres.explain import explain
from tests.support.pgserver import PgServer, bindir_15
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
        assert eventually(lambda kept=kept: b"json is all" in kept.read_bytes(), 60), "the collector is a process"
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
