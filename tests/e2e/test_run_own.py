"""`dbperf run` on a user's own API and database: read only, and with `--apply` proved and put back."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbperf.phase3.launch import RunningTarget, start_target
from dbperf.phase3.seed import seed
from dbperf.records.advice import Advice
from dbperf.records.proof import Proof
from dbperf.records.rundir import RunDirectory
from tests.conftest import Database
from tests.support.cli import dbperf, environment, left_behind, warm_cache
from tests.support.index_changes import catalog
from tests.support.module_database import module_database

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", params=[18])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Database, RunningTarget]]:
    """An API that dbperf did not start, over a database that it did not fill. What a run changes it puts back."""
    for db in module_database(request, "CREATE EXTENSION pg_stat_statements"):
        asyncio.run(seed(db.dsn, "smoke", seed=1))
        with start_target(db.dsn, "naive") as target:
            yield db, target


def run(db: Database, target: RunningTarget, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    env = environment(folder / "home", **warm_cache())
    done = dbperf(
        "run", "--dsn", db.dsn, "--url", target.url, "--api-key", target.api_key, "--suite", "phase3", "--users", "3",
        "--duration", "2s", "--warm-up", "0s", "--out", "r", *more, env=env, cwd=folder,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert not left_behind(env)
    return done


def stage_details(directory: RunDirectory) -> dict[str, tuple[str, str]]:
    return {s.name: (s.status, s.detail or "") for s in directory.manifest.stages}


def test_without_apply_nothing_is_written_and_the_report_says_what_would_be_measured(
    served: tuple[Database, RunningTarget], tmp_path: Path
) -> None:
    db, target = served
    indexes, updated = catalog(db), db.psql("SELECT max(updated_at), sum(version) FROM case_bank")
    run(db, target, tmp_path)
    directory = RunDirectory.open(tmp_path / "r")
    assert directory.read(Advice).recommendations
    stages = stage_details(directory)
    assert stages["proof"] == ("skipped", stages["proof"][1])
    assert "--apply" in stages["proof"][1]
    assert not directory.has(Proof)
    assert catalog(db) == indexes
    assert db.psql("SELECT max(updated_at), sum(version) FROM case_bank") == updated
    assert "--apply" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")


def test_with_apply_the_advice_is_proved_and_the_indexes_are_dropped_again(
    served: tuple[Database, RunningTarget], tmp_path: Path
) -> None:
    db, target = served
    indexes = catalog(db)
    run(db, target, tmp_path, "--apply")
    directory = RunDirectory.open(tmp_path / "r")
    proof = directory.read(Proof)
    assert [i.name for i in proof.indexes if i.table == "execution_log" and i.verdict == "keep"]
    assert not proof.kept
    assert catalog(db) == indexes
    assert proof.queries == [], "the limits of DB-001 to 006 are the reference target's"
    assert proof.endpoints == []
    status, why = stage_details(directory)["again"]
    assert status == "skipped"
    assert "put back" in why
    html = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert all(i.name in html for i in proof.indexes)
