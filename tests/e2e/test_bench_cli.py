"""`dbperf bench` as a user runs it, in an empty folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dbperf.records.baseline import Baseline
from dbperf.records.benchmarks import Benchmarks
from dbperf.records.rundir import RunDirectory
from tests.support.cli import dbperf, environment, left_behind, warm_cache
from tests.support.httpserver import FaultyServer


@pytest.mark.slow
def test_the_reference_targets_benchmarks(tmp_path: Path) -> None:
    env = environment(tmp_path, **warm_cache())
    options = (
        "--save-baseline",
        "--reason",
        "first",
        "--out",
        "run",
        "-k",
        "PERF-001 or PERF-002 or PERF-008 or search",
    )
    done = dbperf("bench", *options, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "POST /reflection/analyze: test_perf[PERF-002]" in done.stdout
    run = RunDirectory.open(tmp_path / "run")
    assert run.manifest.status == "complete"
    assert run.manifest.target is not None
    assert (run.manifest.target.origin, run.manifest.target.scale) == ("reference", "smoke")
    benchmarks = run.read(Benchmarks).benchmarks
    assert {b.group for b in benchmarks} == {"POST /reflection/analyze", "POST /consolidation/dry-run", "POST /search"}
    assert all(len(b.samples_ms) >= 73 for b in benchmarks)
    baseline = json.loads((tmp_path / "reports" / Baseline.file_name).read_text())
    assert len(baseline["entries"]) == 4
    assert left_behind(env) == []
    same = dbperf("compare", "reports/performance_baseline.json", "run", env=env, cwd=tmp_path)
    assert same.returncode == 0, same.stdout


def test_own_benchmarks_against_a_url(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text('def test_ok(benchmark_endpoint):\n    benchmark_endpoint("GET /ok")\n')
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_default_fixture_loop_scope = function\naddopts = -p no:benchmark\n"
    )
    env = environment(tmp_path, **warm_cache())
    with FaultyServer() as server:
        done = dbperf("bench", "test_mine.py", "--url", server.url, "--format", "json", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [b["group"] for b in json.loads(done.stdout)["benchmarks"]] == ["GET /ok"]


def test_nothing_measured_is_an_error(tmp_path: Path) -> None:
    env = environment(tmp_path, **warm_cache())
    (tmp_path / "test_bad.py").write_text("import nowhere_to_be_found\n")
    done = dbperf("bench", "test_bad.py", "--out", "a", env=env, cwd=tmp_path)
    assert done.returncode == 3
    assert "nothing was measured" in done.stderr
    assert RunDirectory.open(tmp_path / "a").manifest.status == "failed"
    done = dbperf("bench", "--save-baseline", env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert "--reason" in done.stderr
