"""What `dbperf run` does with advice: proves it on the reference target's tables, and asks DB-001 to 006 again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dbperf.indexes.verify import VerifyOptions
from dbperf.lab import provenance
from dbperf.lab.prove import advise_with_queries, prove_on
from dbperf.phase3.levels import QUERY_LEVELS
from dbperf.phase3.seed import seed
from dbperf.records.run import Manifest
from dbperf.records.rundir import RunDirectory
from tests.conftest import Database
from tests.support.cli import dbperf, environment, warm_cache
from tests.support.index_changes import catalog, run_file, squawk


async def test_the_queries_with_limits_and_the_endpoints(
    db_18: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in warm_cache().items():
        monkeypatch.setenv(name, value)
    await seed(db_18.dsn, "smoke", seed=1)
    # Small tables are read whole whatever there is: what is tried here is the way through, not the gain.
    db_18.psql(f"ALTER DATABASE {db_18.name} SET random_page_cost = 1.1")
    manifest = Manifest(
        name="t", status="running", provenance="measured", started_at=datetime.now(UTC), dbperf_version="0",
        command=["dbperf"], git_revision=None, pid=1, host=provenance.host(),
    )  # fmt: skip
    directory = RunDirectory.create(tmp_path / "run", manifest)
    (directory.path / "mean.sql").write_text(
        "-- calls: 50\nSELECT avg(execution_time_ms) FROM execution_log WHERE case_id = $1"
    )
    advice = await advise_with_queries(directory, db_18.dsn)
    proof = await prove_on(
        directory, db_18.dsn, advice, queries=QUERY_LEVELS,
        options=VerifyOptions(keep=True, challengers=1, statement_s=0.1),
    )  # fmt: skip
    assert [q.id for q in proof.queries] == [f"DB-00{n}" for n in range(1, 7)]
    assert all(80 <= q.executions <= 120 and q.p95_before_low_ms and q.p95_after_low_ms for q in proof.queries)
    assert {q.verdict for q in proof.queries if q.wanted_plan is None} == {"pass"}
    by_case = next(i for i in proof.indexes if i.table == "execution_log" and i.verdict == "keep")
    assert db_18.psql(f"SELECT to_regclass('{by_case.name}')") == by_case.name
    assert proof.kept


def test_advice_as_sql(db_18: Database, tmp_path: Path) -> None:
    db_18.psql(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text); "
        "INSERT INTO t SELECT i, i % 9000, md5(i::text) FROM generate_series(1, 60000) i; ANALYZE"
    )
    (tmp_path / "w.sql").write_text("SELECT * FROM t WHERE a = $1")
    before = catalog(db_18)
    env = environment(tmp_path, **warm_cache())
    common = ("advise", "--dsn", db_18.dsn, "--workload", "w.sql")
    done = dbperf(*common, "--out", "m", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "m").iterdir()} >= {"up.sql", "down.sql", "review.md", "migration.json"}
    squawk(tmp_path / "m" / "up.sql", tmp_path / "m" / "down.sql")
    run_file(db_18, tmp_path / "m" / "up.sql")
    assert db_18.psql("SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass") == "2"
    run_file(db_18, tmp_path / "m" / "down.sql")
    assert catalog(db_18) == before
    again = dbperf(*common, "--sql", "m", env=env, cwd=tmp_path)
    assert again.returncode == 2
    assert "exists and is kept" in again.stderr
