"""`dbperf init` against a real API: what it writes is what the other commands read, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from dbperf.config import load_config
from dbperf.load import load_suite
from dbperf.processes import free_port
from dbperf.records.load import Load
from dbperf.records.rundir import RunDirectory
from tests.support.cli import dbperf, environment, left_behind
from tests.support.httpserver import FaultyServer

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{f"GIT_{who}_{what}": "kim@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def test_a_project_gets_a_configuration_a_suite_and_a_workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = environment(tmp_path, DATABASE_URL="postgresql://me:secret@db.internal/app")
    project = tmp_path / "shop"
    project.mkdir()
    with FaultyServer() as server:
        done = dbperf(
            "init", "--url", server.url, "--ci", "github", "--start", "uvicorn shop:app", env=env, cwd=project
        )
        assert done.returncode == 0, done.stderr
        written = {p.relative_to(project).as_posix() for p in project.rglob("*") if p.is_file()}
        action = {".github/actions/dbperf/action.yml", ".github/actions/dbperf/comment.py"}
        assert written == {"dbperf.toml", "loadtests/api.toml", ".github/workflows/dbperf.yml"} | action
        assert set(done.stdout.split()) == written
        assert not any("secret" in (project / name).read_text() for name in written)

        monkeypatch.chdir(project)
        monkeypatch.setenv("DATABASE_URL", "postgresql://me@db.internal/app")
        config = load_config(None)
        assert (config.url, config.dsn) == (server.url, "postgresql://me@db.internal/app")
        assert config.suite == "loadtests/api.toml"
        suite = load_suite(config.suite)
        assert {"GET /ok"} <= {e.name for e in suite.endpoints}
        assert all(e.method == "GET" and "{" not in e.path for e in suite.endpoints)

        # The suite as it stands makes a load, from a configuration as it stands.
        plain = {k: v for k, v in env.items() if k != "DATABASE_URL"}
        assert dbperf("init", "--url", server.url, "--force", env=plain, cwd=project).returncode == 0
        short = dbperf(
            "load",
            "loadtests/api.toml",
            "--url",
            server.url,
            "--duration",
            "1s",
            "--warm-up",
            "0s",
            "--out",
            "run",
            env=plain,
            cwd=project,
        )
        assert (project / "run" / "report.html").is_file(), short.stderr
        assert short.returncode in (0, 1), short.stderr
    workflow = project / ".github" / "workflows" / "dbperf.yml"
    assert "( uvicorn shop:app )" in workflow.read_text()
    for name in action:
        assert (project / name).read_bytes() == (ROOT / name).read_bytes()
    assert "dbperf run --suite loadtests/api.toml" in workflow.read_text()
    _passes(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", workflow)
    _passes(BIN / "zizmor", "--offline", "--no-progress", "--strict-collection", workflow.parents[1])


def test_the_workflows_script_measures_the_base_and_the_pull_request(tmp_path: Path) -> None:
    """As GitHub runs the step; both sides' API is this checkout's test server."""
    port = free_port()
    env = environment(tmp_path / "home", PYTHONPATH=str(ROOT), DBPERF_URL=f"http://127.0.0.1:{port}")
    env |= {"PATH": f"{BIN}{os.pathsep}{env['PATH']}", "RUNNER_TEMP": str(tmp_path / "temp"), **GIT}
    project = tmp_path / "shop"
    project.mkdir()
    start = f"touch started; exec {sys.executable} -m tests.support.httpserver --port {port}"
    with FaultyServer("--port", str(port)) as server:
        done = dbperf("init", "--url", server.url, "--ci", "github", "--start", start, env=env, cwd=project)
        assert done.returncode == 0, done.stderr
    (project / "dbperf.toml").write_text('duration = "1s"\nwarm_up = "0s"\nusers = 2\n')
    for command in (
        ("init", "-q"),
        ("add", "."),
        ("commit", "-qm", "base"),
        ("commit", "-qm", "head", "--allow-empty"),
    ):
        subprocess.run(["git", *command], cwd=project, env=env, check=True, timeout=60)
    workflow = YAML(typ="safe").load((project / ".github" / "workflows" / "dbperf.yml").read_text())
    [step] = [s for s in workflow["jobs"]["measure"]["steps"] if s.get("name", "").startswith("Measure the base")]
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=project, env={**env, "BASE": "HEAD~1"}, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    dbperf("down", "--all", "--quiet", env=env, cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "temp" / "base" / "started").exists(), "the base's API started in the base's folder"
    assert (project / "started").exists()
    for name in ("base", "ci"):
        run = RunDirectory.open(project / "reports" / name)
        assert run.has(Load)
        # This API asks no database: no server is started to plan nothing.
        [advice] = [s for s in run.manifest.stages if s.name == "advice"]
        assert (advice.status, advice.detail) == ("skipped", "no statement ran")
    compared = dbperf("compare", "reports/base", "reports/ci", env=env, cwd=project)
    assert compared.returncode in (0, 1), compared.stderr
    assert not left_behind(env)


def test_the_gitlab_job_fits_gitlabs_schema(tmp_path: Path) -> None:
    done = dbperf("init", "--ci", "gitlab", env=environment(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    _passes(BIN / "check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", tmp_path / ".gitlab" / "dbperf.yml")


def test_nothing_is_overwritten_and_nothing_is_written_in_part(tmp_path: Path) -> None:
    env = environment(tmp_path)
    (tmp_path / "dbperf.toml").write_text("users = 3\n")
    done = dbperf("init", "--ci", "github", env=env, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr == ("dbperf: dbperf.toml is there already; nothing was written\n  hint: --force replaces it\n")
    assert (tmp_path / "dbperf.toml").read_text() == "users = 3\n"
    assert not (tmp_path / ".github").exists()
    assert dbperf("init", "--force", env=env, cwd=tmp_path).returncode == 0
    assert "users = 3" not in (tmp_path / "dbperf.toml").read_text()


def test_an_api_that_does_not_answer_leaves_nothing(tmp_path: Path) -> None:
    done = dbperf("init", "--url", "http://127.0.0.1:9", env=environment(tmp_path), cwd=tmp_path)
    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "dbperf.toml").exists()


def _passes(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
