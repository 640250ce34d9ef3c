"""`dbperf run` from nothing to a report: figures checked against each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import msgspec
import pytest

import dbperf.cli.run as run_command
from dbperf.lab.run import Outcome
from dbperf.records.advice import Advice
from dbperf.records.base import parse_document
from dbperf.records.flames import Flames
from dbperf.records.load import Load
from dbperf.records.plans import Plans
from dbperf.records.proof import Proof
from dbperf.records.rundir import RunDirectory
from dbperf.records.statements import Statements
from dbperf.records.trace import Trace
from dbperf.records.verdicts import Verdicts
from dbperf.report import ReportFiles
from dbperf.units import format_ms
from tests.support.cli import STAGES, dbperf, environment, left_behind
from tests.support.doc_pages import ROOT, console
from tests.support.tutorial import printed

QUICK = ("run", "--quick", "--duration", "5s", "--warm-up", "1s")
pytestmark = pytest.mark.timeout(480)
"""A run has twelve stages, two of them loads; the first test waits for all of it."""


@dataclass(frozen=True)
class Quick:
    done: subprocess.CompletedProcess[str]
    path: Path
    env: dict[str, str]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Quick:
    """One real run at smoke scale. /reflection/batch is asked for often: at its usual 0.6 % some seconds have none.
    All users come at once: no figure is of the ramp."""
    folder = tmp_path_factory.mktemp("run")
    folder.chmod(0o711)
    env = environment(folder / "home")
    suite = (ROOT / "loadtests" / "suites" / "phase3.toml").read_text(encoding="utf-8")
    assert "weight = 0.6\n" in suite
    assert 'ramp = "2s"\n' in suite
    often = suite.replace("weight = 0.6\n", "weight = 20\n").replace('ramp = "2s"\n', "")
    (folder / "often.toml").write_text(often)
    done = dbperf(*QUICK, "--suite", "often.toml", "--out", "r", "--format", "json", env=env, cwd=folder, timeout=480)
    assert done.returncode in (0, 1), done.stderr
    return Quick(done, folder / "r", env)


def test_it_ends_complete_with_every_stage_done(quick: Quick) -> None:
    run = RunDirectory.open(quick.path)
    assert run.manifest.status == "complete"
    assert run.manifest.provenance == "measured"
    assert [s.name for s in run.manifest.stages] == list(STAGES)
    assert {s.status for s in run.manifest.stages} == {"done"}
    assert run.manifest.server is not None
    assert run.manifest.server.embedded
    assert run.manifest.server.version_num >= 180000
    assert {e.name for e in run.manifest.server.extensions} >= {"pg_stat_statements", "vector"}
    assert run.manifest.target is not None
    assert run.manifest.target.origin == "reference"
    assert run.manifest.load_profile is not None
    assert run.manifest.load_profile.users == 5
    assert not left_behind(quick.env)


def test_the_exit_code_and_the_last_line_are_the_verdict(quick: Quick) -> None:
    verdicts = RunDirectory.open(quick.path).read(Verdicts)
    printed = json.loads(quick.done.stdout)
    assert printed["verdict"] == verdicts.overall
    assert Path(quick.path.parent, printed["report"]).is_file()
    assert quick.done.returncode == (1 if verdicts.overall == "fail" else 0)


@pytest.mark.timeout(600)
def test_the_tutorials_commands_print_what_it_shows(
    quick: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of its commands but the loads themselves run on a real run, which stands for both of the tutorial's."""
    verdict = RunDirectory.open(quick.path).read(Verdicts).overall
    for name in ("slow", "fast"):
        shutil.copytree(quick.path, tmp_path / "runs" / name)
    report = ReportFiles(html=Path("report.html"), markdown=Path("summary.md"), json=Path("report.json"))
    for step in console((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")):
        if step.command.startswith("dbperf run "):
            out = step.command.split("--out ")[1]
            files = msgspec.structs.replace(report, html=Path(out, "report.html"))
            run_command._print(Outcome(path=quick.path, verdict=verdict, report=files), "text")
            output = capsys.readouterr().out.rstrip("\n")
        else:
            output = printed(step.command, tmp_path)
        assert step.shape
        assert re.search(step.shape, output, re.DOTALL), f"{step.command}: {step.shape}\n{output}"


def test_the_load_adds_up(quick: Quick) -> None:
    run = RunDirectory.open(quick.path)
    load = run.read(Load)
    assert load.complete
    [stage] = load.stages
    assert stage.requests == sum(e.requests for e in stage.endpoints)
    opened_s = (stage.started_at - load.started_at).total_seconds()
    closed_s = (stage.ended_at - load.started_at).total_seconds()
    inside = sum(s.requests for s in load.seconds if opened_s + 1 <= s.at_s < closed_s - 1)
    around = sum(s.requests for s in load.seconds if opened_s - 1 <= s.at_s < closed_s + 1)
    assert inside <= stage.requests <= around
    for endpoint in stage.endpoints:
        assert endpoint.latency.count <= endpoint.requests
        assert endpoint.errors == sum(e.count for e in endpoint.errors_by_kind)
        for q in endpoint.quantiles:
            if q.value_ms is not None and q.ci_low_ms is not None and q.ci_high_ms is not None:
                assert q.ci_low_ms <= q.value_ms <= q.ci_high_ms
    assert sum(e.errors for e in stage.endpoints) == 0
    assert run.manifest.load_profile is not None
    assert {e.name for e in stage.endpoints} <= set(run.manifest.load_profile.mix)
    assert "POST /reflection/analyze" in {e.name for e in stage.endpoints}


def test_the_statements_belong_to_the_load(quick: Quick) -> None:
    run = RunDirectory.open(quick.path)
    statements, load = run.read(Statements), run.read(Load)
    [stage] = load.stages
    assert statements.validity.complete
    measured_s = (stage.ended_at - stage.started_at).total_seconds()
    assert statements.window.seconds == pytest.approx(measured_s, abs=1.5)
    assert sum(s.share for s in statements.statements) == pytest.approx(1, abs=0.01)
    assert sum(s.total_ms for s in statements.statements) == pytest.approx(statements.total_ms, rel=0.01)
    assert not [s.text for s in statements.statements if "pg_stat_statements" in s.text]
    logs = [s for s in statements.statements if "execution_log" in s.text]
    assert logs
    assert all(s.calls_per_request is not None and s.calls_per_request > 0 for s in logs)


def test_the_top_statements_have_plans(quick: Quick) -> None:
    run = RunDirectory.open(quick.path)
    plans, statements = run.read(Plans), run.read(Statements)
    assert len(plans.plans) == min(10, len(statements.statements))
    assert {p.queryid for p in plans.plans} <= {s.queryid for s in statements.statements}
    planned = [p for p in plans.plans if p.plan is not None]
    assert len(planned) >= len(plans.plans) / 2
    assert any("execution_log" in (n or "") for p in planned if p.plan for n in [p.plan.root.relation, p.text])


def test_the_naive_target_gets_what_it_lacks(quick: Quick) -> None:
    run = RunDirectory.open(quick.path)
    advice, trace = run.read(Advice), run.read(Trace)
    assert any(r.table.endswith("execution_log") for r in advice.recommendations)
    assert advice.cost_after < advice.cost_before
    proof = run.read(Proof)
    [kept] = [p for p in proof.indexes if p.table.endswith("execution_log") and p.verdict == "keep"][:1]
    assert kept.statements[0].ratio is not None
    assert [q.id for q in proof.queries] == [f"DB-00{n}" for n in range(1, 7)]
    assert all(q.p95_before_ms is not None and q.p95_after_ms is not None for q in proof.queries)
    assert proof.cold is not None
    html = (quick.path / "report.html").read_text(encoding="utf-8")
    assert "Queries with limits" in html
    assert kept.name in html
    found = {(e.route, f.rule_id) for e in trace.endpoints for f in e.findings}
    assert ("POST /reflection/batch", "n_plus_one") in found


def test_the_same_load_comes_again_on_the_same_data_with_the_kept_indexes(quick: Quick) -> None:
    run = RunDirectory.open(quick.path)
    proof, before = run.read(Proof), run.read(Load)
    assert proof.kept
    after = parse_document(Load, (quick.path / "after" / "load.json").read_bytes(), source="load.json")
    assert after.suite == before.suite
    assert [s.users for s in after.stages] == [s.users for s in before.stages]
    first = {e.name: e.requests for s in before.stages for e in s.endpoints}
    second = {e.name: e.requests for s in after.stages for e in s.endpoints}
    assert {e.endpoint: (e.requests_before, e.requests_after) for e in proof.endpoints} == {
        name: (first[name], second[name]) for name in first if name in second
    }
    analyze = next(e for e in proof.endpoints if e.endpoint == "POST /reflection/analyze")
    assert [q.q for q in analyze.quantiles_after] == [0.5, 0.95, 0.99]
    for name in ("report.html", "summary.md"):
        assert "the same load" in (quick.path / name).read_text(encoding="utf-8").lower()


def test_flame_graphs_reach_from_the_endpoint_to_the_plan_node(quick: Quick) -> None:
    flames = RunDirectory.open(quick.path).read(Flames)
    assert 2 <= len(flames.endpoints) <= 4
    kinds = set()
    for flame in flames.endpoints:
        assert flame.requests > 0
        parts_ms = sum(s.value for s in flame.stacks.stacks)
        assert parts_ms == pytest.approx(flame.request_ms, rel=0.05)
        kinds |= {f.kind for f in flame.stacks.frames}
    assert {"endpoint", "python", "sql", "plan"} <= kinds


def test_the_verdicts_follow_from_the_figures(quick: Quick) -> None:
    verdicts = RunDirectory.open(quick.path).read(Verdicts)
    assert verdicts.levels
    for level in verdicts.levels:
        if level.verdict == "cant_tell" or level.observed is None:
            continue
        at_least = level.metric == "requests_per_s"
        holds = level.observed >= level.limit if at_least else level.observed <= level.limit
        assert holds == (level.verdict == "pass"), level


def test_the_report_says_what_the_records_say(quick: Quick) -> None:
    run = RunDirectory.open(quick.path)
    html = (quick.path / "report.html").read_text(encoding="utf-8")
    summary = (quick.path / "summary.md").read_text(encoding="utf-8")
    assert "default-src 'none'" in unescape(html)
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", html)
    analyze = next(e for e in run.read(Load).stages[0].endpoints if e.name == "POST /reflection/analyze")
    p50 = next(q for q in analyze.quantiles if q.q == 0.5)
    for text in (html, summary):
        assert "POST /reflection/analyze" in text
        assert format_ms(p50.value_ms) in text
    assert json.loads((quick.path / "report.json").read_text())


def test_an_existing_run_is_kept(quick: Quick) -> None:
    before = (quick.path / "run.json").read_bytes()
    done = dbperf(*QUICK, "--out", quick.path, env=quick.env, cwd=quick.path.parent)
    assert done.returncode == 3
    assert "exists and is kept" in done.stderr
    assert "--force" in done.stderr
    assert (quick.path / "run.json").read_bytes() == before
