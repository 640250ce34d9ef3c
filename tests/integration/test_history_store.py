"""The history in a team's PostgreSQL, and `dbperf history` as a user runs it on it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from dbperf.errors import RecordError, ServerError
from dbperf.postgres.history_store import PostgresHistory
from tests.conftest import Database
from tests.support.cli import dbperf, environment
from tests.support.comparing import START, lognormal, make_run
from tests.unit.test_regress_history import figure, run


def test_postgresql_keeps_what_it_is_given(db: Database) -> None:
    store = PostgresHistory(db.dsn)
    assert not store.exists()
    with pytest.raises(RecordError, match="there is no history"):
        store.runs()
    runs = [run(2, figure(1.5, ci_low=1.0, stage="s")), run(1, figure(2.0, metric="errors", unit="share"))]
    assert store.add(runs) == 2
    assert store.exists()
    assert store.add([*runs, run(3, figure(1.0))]) == 1
    assert store.runs() == [runs[1], runs[0], run(3, figure(1.0))]
    with pytest.raises(ServerError):
        store.add([run(4, figure(1.0)), run(5, figure(1.0), figure(1.0))])  # the same figure twice
    assert len(store.runs()) == 3


def test_two_at_once_make_one_schema(db_18: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda i: PostgresHistory(db_18.dsn).add([run(i, figure(1.0))]), [1, 1, 2, 3]))
    assert sorted(added) == [0, 1, 1, 1]
    assert len(PostgresHistory(db_18.dsn).runs()) == 3


def test_newer_schemas_and_missing_rights(db_18: Database) -> None:
    store = PostgresHistory(db_18.dsn)
    store.add([run(1, figure(1.0))])
    role = f"reader_{db_18.name}"
    db_18.psql(f"CREATE ROLE {role} LOGIN")
    try:
        reader = PostgresHistory(db_18.dsn.replace("//postgres@", f"//{role}@"))
        assert reader.dsn != db_18.dsn
        with pytest.raises(ServerError, match="permission denied") as denied:
            reader.runs()
        assert "GRANT USAGE" in str(denied.value.hint)
    finally:
        db_18.psql(f"DROP ROLE {role}")
    db_18.psql("INSERT INTO dbperf_history.schema_version VALUES (99)")
    for action in (store.runs, lambda: store.add([run(2, figure(1.0))])):
        with pytest.raises(RecordError, match="newer dbperf"):
            action()


def test_nothing_is_written_to_a_database_without_apply(db_18: Database, tmp_path: Path) -> None:
    path = make_run(tmp_path / "r", {"GET /a": lognormal(500)}, git_revision="abc")
    env = environment(tmp_path, DBPERF_HISTORY=db_18.dsn)
    done = dbperf("history", "add", path, env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert "nothing is written" in done.stderr
    assert "make the schema dbperf_history" in done.stderr
    assert db_18.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'dbperf_history'") == "0"
    done = dbperf("history", "add", path, path, "--apply", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "making the schema" in done.stderr
    assert "1 of 2 runs added, 1 known already" in done.stdout
    done = dbperf("history", "show", "--format", "json", env=env, cwd=tmp_path)
    assert {s["metric"] for s in json.loads(done.stdout)["series"]} == {"p50", "p95", "errors", "requests_per_s"}


def test_the_history_of_a_project(tmp_path: Path) -> None:
    runs = []
    for i in range(16):
        slow = 1.5 if i >= 8 else 1.0
        latencies = [x * slow for x in lognormal(300, seed=i)]
        at = START + timedelta(days=i)
        path = make_run(tmp_path / f"r{i:02}", {"GET /a": latencies}, git_revision=f"{i:040x}", started_at=at)
        runs.append(path)
    env = environment(tmp_path)
    done = dbperf("history", "add", *runs, env=env, cwd=tmp_path)
    assert done.stdout == "reports/history.sqlite3: 16 of 16 runs added\n"
    done = dbperf("history", "steps", "--metric", "p95", "--fail-on", "worse", "--plot", "t.svg", env=env, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "GET /a p95: worse" in done.stdout
    assert "  commits 000000000000..000000000000" in done.stdout
    assert (tmp_path / "t.svg").read_text().startswith("<svg")
    done = dbperf("history", "show", "--metric", "p59", env=env, cwd=tmp_path)
    assert (done.returncode, "metrics here: errors, p50" in done.stderr) == (2, True)
