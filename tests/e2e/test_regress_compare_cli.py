"""`dbperf compare` as a user runs it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from dbperf.records.comparison import Comparison
from dbperf.records.rundir import RunDirectory
from tests.support.cli import dbperf, dbperf_here, environment
from tests.support.comparing import lognormal, make_run

A = "GET /a"


def runs(tmp_path: Path, factor: float) -> tuple[Path, Path]:
    a = make_run(tmp_path / "a", {A: lognormal(5000)})
    return a, make_run(tmp_path / "b", {A: [x * factor for x in lognormal(5000, seed=2)]})


def test_a_regression_is_exit_code_1_in_every_format(tmp_path: Path) -> None:
    a, b = runs(tmp_path, 1.3)
    summary = tmp_path / "summary.md"
    env = environment(tmp_path, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    done = dbperf("compare", a, b, env=env, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "GET /a p95" in done.stdout
    assert "FAIL" in done.stdout
    assert "::error title=GET /a p95::" in done.stderr
    assert "# Regression analysis" in summary.read_text()
    assert RunDirectory.open(b).read(Comparison).verdict == "fail"
    assert "## Failures" in (b / "regression-analysis.md").read_text()
    done = dbperf("compare", a, b, "--format", "json", "--no-github", env=env, cwd=tmp_path)
    assert json.loads(done.stdout)["verdict"] == "fail"
    assert done.stderr == ""
    done = dbperf("compare", a, b, "--format", "junit", "-o", "x.xml", env=env, cwd=tmp_path)
    assert done.returncode == 1
    assert (tmp_path / "x.xml").read_text().startswith("<?xml")


def test_thresholds_services_and_what_cant_be_told(tmp_path: Path) -> None:
    a, b = runs(tmp_path, 1.3)
    dbperf = partial(dbperf_here, env=environment(tmp_path), cwd=tmp_path)
    wide = ("--threshold", "p95=80%", "--threshold", "p50=80%")
    done = dbperf("compare", a, b, *wide, "--no-save")
    assert done.returncode == 0, done.stdout
    assert not (b / "comparison.json").exists()
    (tmp_path / "dbperf.toml").write_text('[services.s]\nendpoints = ["GET /*"]\np95 = "+80%"\np50 = "+80%"\n')
    assert dbperf("compare", a, b).returncode == 0
    done = dbperf("compare", a, b, "--threshold", "p95=max 10ms")
    assert done.returncode == 1
    assert "breaks the hard limit" in done.stdout
    (tmp_path / "dbperf.toml").unlink()
    few = make_run(tmp_path / "few", {A: lognormal(80)}, seconds=60)
    assert dbperf("compare", few, few).returncode == 0
    assert dbperf("compare", few, few, "--fail-on", "cant-tell").returncode == 1


def test_bad_input_is_one_line_and_overwrites_nothing(tmp_path: Path) -> None:
    a, b = runs(tmp_path, 1.3)
    dbperf = partial(dbperf_here, env=environment(tmp_path), cwd=tmp_path)
    report = tmp_path / "out.md"
    report.write_text("kept")
    (b / "load.json").write_bytes((b / "load.json").read_bytes()[:200])
    done = dbperf("compare", a, b, "--format", "markdown", "-o", report)
    assert done.returncode == 3
    assert "load.json, line" in done.stderr
    assert "Traceback" not in done.stderr
    assert report.read_text() == "kept"
    assert not (b / "comparison.json").exists()
    for wrong in (("--threshold", "p95"), ("--threshold", "p95=much"), ("--ignore", "weather"), ("--run-to-run", "x")):
        done = dbperf("compare", a, a, *wrong)
        assert done.returncode == 2, wrong
        assert done.stderr.startswith("dbperf: ")


def test_a_baselines_life(tmp_path: Path) -> None:
    a, b = runs(tmp_path, 1.3)
    dbperf = partial(dbperf_here, env=environment(tmp_path), cwd=tmp_path)
    file = "reports/performance_baseline.json"
    assert dbperf("baseline", "show").returncode == 3
    done = dbperf("baseline", "promote", a, "--reason", "first", "--who", "kim")
    assert done.returncode == 0, done.stderr
    assert "by kim: first" in done.stdout
    assert dbperf("compare", file, b).returncode == 1
    for metric in ("GET /a p50", "GET /a p95"):
        done = dbperf("baseline", "accept", metric, "--until", "2999-12-31", "--reason", "known")
        assert done.returncode == 0, done.stderr
    done = dbperf("compare", file, b)
    assert done.returncode == 0
    assert "accepted until 2999-12-31: known" in done.stdout
    shown = dbperf("baseline", "show").stdout
    assert "GET /a p95" in shown
    assert "first" in shown
    assert dbperf("baseline", "show", "--format", "markdown").stdout.startswith("| endpoint")
    assert json.loads(dbperf("baseline", "show", "--format", "json").stdout)["kind"] == "baseline"
    bad = dbperf("baseline", "accept", "GET /a p95", "--until", "soon", "--reason", "x")
    assert bad.returncode == 2
