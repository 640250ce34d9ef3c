"""`dbperf bench --against` over real servers of two revisions of the reference target.

No outcome here depends on how noisy the machine is: a slowdown is several times what a request takes, and where nothing
changed, the same samples are judged again with an error budget of one in a million.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from dbperf.records.comparison import Comparison
from dbperf.records.interleaved import Interleaved
from dbperf.records.rundir import RunDirectory
from dbperf.regress.interleaved import judge
from dbperf.regress.judge import Rules
from tests.support.cli import dbperf, environment, left_behind, started, warm_cache
from tests.support.revisions import git, repository, slow_down_analyze

ANALYZE, HEALTH = "POST /reflection/analyze", "GET /reflection/health"
SLEEP_S = 0.02
SURE = Rules(services=[], overrides={}, alpha=1e-6)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository(tmp_path_factory.mktemp("repo"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_slowed_endpoint_is_caught_and_the_others_are_not(repo: Path, tmp_path: Path) -> None:
    env = environment(tmp_path, **warm_cache())
    requests = [
        {"endpoint": ANALYZE, "body": {"case_id": "case-000001", "limit": 10}},
        {"endpoint": HEALTH},
        {"endpoint": "GET /nowhere"},
    ]
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    slow_down_analyze(repo, SLEEP_S)
    try:
        options = ("--samples", "240", "--requests", tmp_path / "requests.json", "--out", tmp_path / "run")
        done = dbperf("bench", "--against", "HEAD", *options, "--format", "json", env=env, cwd=repo, timeout=500)
    finally:
        git(repo, "checkout", "--quiet", ".")
    assert done.returncode == 1, done.stderr
    assert "uncommitted changes" in done.stderr
    result = json.loads(done.stdout)
    assert result["verdict"] == "fail"
    by_name = {m["name"]: m for m in result["metrics"]}
    slow = by_name[f"{ANALYZE} p50"]
    assert slow["verdict"] == "worse"
    assert slow["b"] - slow["a"] >= SLEEP_S * 1e3 * 0.5
    assert slow["ci_low"] > 1
    run = RunDirectory.open(tmp_path / "run")
    assert run.manifest.status == "complete"
    assert run.read(Comparison).verdict == "fail"
    assert f"{ANALYZE} p50" in (run.path / "regression-analysis.md").read_text()
    found = run.read(Interleaved)
    assert found.a.git_revision == git(repo, "rev-parse", "HEAD")
    assert found.b.git_revision == f"{found.a.git_revision}-dirty"
    assert found.a.rows == found.b.rows
    again = {m.name: m.verdict for m in judge(found, SURE).comparison.metrics}
    assert "worse" not in (again[f"{HEALTH} p50"], again[f"{HEALTH} p95"], again[f"{HEALTH} errors"])
    assert any("GET /nowhere: neither side" in n for n in result["notes"])
    assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 1
    assert left_behind(env) == []


def test_ctrl_c_leaves_no_worktree_and_no_server(repo: Path, tmp_path: Path) -> None:
    env = environment(tmp_path, TMPDIR=str(tmp_path), **warm_cache())
    with started("bench", "--against", "HEAD", "--out", tmp_path / "run", env=env, cwd=repo) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("seeding"):
                break
        assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 2
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr
    assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 1
    assert list(tmp_path.glob("dbperf-*")) == []
    assert left_behind(env) == []
    assert RunDirectory.open(tmp_path / "run").manifest.status == "partial"


def test_what_can_not_be_compared_is_an_error(tmp_path: Path) -> None:
    env = environment(tmp_path)
    done = dbperf("bench", "--against", "HEAD", env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert "no git repository" in done.stderr
    done = dbperf("bench", "--against", "HEAD", "--against-url", "http://127.0.0.1:1", env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert "different second sides" in done.stderr
    assert not (tmp_path / "reports").exists()
