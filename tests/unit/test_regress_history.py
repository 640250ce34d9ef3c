"""Series from stored runs, the steps in them with their commits, and the SQLite file that keeps them."""

from __future__ import annotations

import sqlite3
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from dbperf.errors import OutputError, RecordError
from dbperf.records.comparison import Conditions, Machine
from dbperf.records.history import HistoryReport, Series, StoredFigure, StoredRun
from dbperf.regress.history_sqlite import SqliteHistory
from dbperf.regress.history_text import render_show, render_steps, sparkline
from dbperf.regress.series import commits_between, series_of, stored_run, with_steps
from tests.support.comparing import START, lognormal, make_run

HERE = Conditions(
    users=10, duration_s=60.0, target="reference target", scale="smoke", machine=Machine(cpu_model="EPYC", cpu_count=2)
)


def figure(value: float, metric: str = "p95", **more: Any) -> StoredFigure:
    values = {"subject": "GET /a", "unit": "ms", "direction": "lower", "conditions": HERE, **more}
    return StoredFigure(metric=metric, value=value, **values)


def run(i: int, *figures: StoredFigure, revision: str | None = None) -> StoredRun:
    return StoredRun(
        run_id=f"id{i:04}", source=f"r{i}", kind="run", measured_at=START + timedelta(days=i),
        git_revision=revision or f"{i:040x}", figures=list(figures),
    )  # fmt: skip


def level(n: int, *, step_at: int, factor: float, cv: float = 0.02, seed: int = 1) -> list[float]:
    x = 100 * np.exp(np.random.default_rng(seed).normal(0, cv, n))
    x[step_at:] *= factor
    return [float(v) for v in x]


def one(values: list[float], **more: Any) -> Series:
    (found,) = series_of([run(i, figure(v, **more)) for i, v in enumerate(values)])
    return found


def changed(**conditions: Any) -> Conditions:
    return msgspec.structs.replace(HERE, **conditions)


@pytest.mark.parametrize(
    "other",
    [
        changed(users=100),
        changed(users=None, arrival_rate_per_s=50.0),
        changed(duration_s=600.0),
        changed(scale="large"),
        changed(target="api.example.org"),
        changed(provenance="sample"),
        changed(machine=Machine(cpu_model="Xeon", cpu_count=2)),
        changed(machine=Machine()),
        changed(users=None),
    ],
)
def test_only_comparable_figures_form_a_series(other: Conditions) -> None:
    runs = [run(i, figure(100.0, conditions=HERE if i % 2 else other)) for i in range(8)]
    assert [len(s.points) for s in series_of(runs)] == [4, 4]
    assert [len(s.points) for s in series_of([run(i, figure(1.0, conditions=HERE)) for i in range(8)])] == [8]
    close = changed(duration_s=60.4)
    assert len(series_of([run(0, figure(1.0)), run(1, figure(1.0, conditions=close))])) == 1


def test_series_are_chosen_by_metric_and_endpoint_and_come_in_order_of_time() -> None:
    figures = [
        figure(2.0),
        figure(3.0, metric="p99"),
        figure(1.0, metric="own", unit="count"),
        figure(9.0, subject="B"),
    ]
    runs = [run(i, *figures) for i in (3, 1, 2)]
    assert [s.name for s in series_of(runs)] == ["B p95", "GET /a own", "GET /a p95"]  # p99 does not gate
    assert [s.name for s in series_of(runs, metrics=["p99"])] == ["GET /a p99"]
    assert [s.name for s in series_of(runs, subject="GET *")] == ["GET /a own", "GET /a p95"]
    assert [p.source for p in series_of(runs)[0].points] == ["r1", "r2", "r3"]
    staged = [run(1, figure(1.0, stage="x"), figure(2.0, stage="y"))]
    assert [s.name for s in series_of(staged)] == ["GET /a [x] p95", "GET /a [y] p95"]


def test_a_step_has_a_direction_and_a_range_of_revisions() -> None:
    found = with_steps(one(level(40, step_at=25, factor=1.3)))
    (step,) = found.steps
    assert step.verdict == "worse"
    assert step.ratio == pytest.approx(1.3, rel=0.03)
    assert step.earliest <= 25 <= step.latest
    assert step.revision_before == found.points[step.earliest - 1].git_revision
    assert step.revision_after == found.points[step.latest].git_revision
    more = with_steps(one(level(40, step_at=25, factor=1.3), metric="requests_per_s", unit="per_s", direction="higher"))
    assert [s.verdict for s in more.steps] == ["better"]
    assert with_steps(one(level(40, step_at=25, factor=1.03))).steps == []
    assert with_steps(one(level(10, step_at=5, factor=3))).steps == []


def test_shares_and_counts_that_start_at_nothing() -> None:
    errors = with_steps(one([0.0] * 20 + [0.02] * 20, metric="errors", unit="share"))
    assert [(s.at, s.verdict, s.ratio) for s in errors.steps] == [(20, "worse", None)]
    small = with_steps(one([0.0] * 20 + [0.001] * 20, metric="errors", unit="share"))
    assert small.steps == []
    assert with_steps(one([0.0] * 40, metric="errors", unit="share")).steps == []


def git(folder: Path, *args: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *who, *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commits_of_a_step_are_named(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    for i in range(24):
        git(tmp_path, "commit", "-q", "--allow-empty", "-m", f"change {i}")
    revisions = git(tmp_path, "rev-list", "--reverse", "HEAD").split()
    commits, left_out = commits_between(revisions[0], f"{revisions[2]}-dirty", tmp_path)
    assert [(c.subject, c.author) for c in commits] == [("change 2", "Ada"), ("change 1", "Ada")]
    assert (left_out, len(commits_between(revisions[0], revisions[23], tmp_path)[0])) == (0, 20)
    assert commits_between(revisions[0], revisions[23], tmp_path)[1] == 3
    for unknown in ("f" * 40, "--output=x", None):
        assert commits_between(revisions[0], unknown, tmp_path) == ([], 0)
    assert commits_between(revisions[0], revisions[2], tmp_path / "none") == ([], 0)


def test_what_people_read(tmp_path: Path) -> None:
    found = with_steps(one(level(40, step_at=25, factor=1.3)), repository=tmp_path)
    short = one([1.0, 2.0], subject="short")
    report = HistoryReport(store="x", runs=40, series=[found, short])
    shown = render_show(report)
    assert "reference target smoke, 10 users" in shown
    assert "1 (1 worse)" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    steps = render_steps(report)
    assert "GET /a p95: worse, ×1.3" in steps
    assert "commits 000000000000..000000000000" in steps
    assert "1 step in 1 series; 1 more have fewer than 11 runs" in steps
    assert "- **GET /a p95: worse" in render_steps(report, markdown=True)
    same = [msgspec.structs.replace(p, git_revision="abc") for p in found.points]
    same_series = with_steps(msgspec.structs.replace(found, points=same))
    assert "not the code" in render_steps(msgspec.structs.replace(report, series=[same_series]))
    assert sparkline([]) == ""
    assert len(sparkline(list(range(500)))) == 20


def test_a_run_directory_becomes_a_stored_run(tmp_path: Path) -> None:
    path = make_run(tmp_path / "r", {"GET /a": lognormal(500)}, errors={"GET /a": 5}, git_revision="abc")
    stored = stored_run(path)
    figures = {f.metric: f for f in stored.figures}
    assert set(figures) == {"p50", "p95", "p99", "errors", "requests_per_s"}
    assert figures["p95"].conditions.users == 10
    assert figures["p95"].ci_low < figures["p95"].value < figures["p95"].ci_high
    assert figures["errors"].value == pytest.approx(5 / 505)
    assert (stored.source, stored.git_revision) == ("r", "abc")
    assert stored_run(path).run_id == stored.run_id
    partial = make_run(tmp_path / "p", {"GET /a": lognormal(500)}, status="partial")
    with pytest.raises(RecordError, match="is partial"):
        stored_run(partial)
    assert stored_run(partial, force=True).figures


def test_sqlite_keeps_what_it_is_given(tmp_path: Path) -> None:
    store = SqliteHistory(tmp_path / "reports" / "h.sqlite3")
    with pytest.raises(RecordError, match="there is no history"):
        store.runs()
    runs = [run(2, figure(1.5, ci_low=1.0, stage="s")), run(1, figure(2.0, metric="errors", unit="share"))]
    assert store.add(runs) == 2
    assert store.add([*runs, run(3, figure(1.0))]) == 1
    assert store.runs() == [runs[1], runs[0], run(3, figure(1.0))]


def test_sqlite_adds_all_or_none(tmp_path: Path) -> None:
    store = SqliteHistory(tmp_path / "h.sqlite3")
    store.add([run(1, figure(1.0))])
    with pytest.raises(RecordError):
        store.add([run(2, figure(1.0)), run(3, figure(1.0), figure(1.0))])  # the same figure twice
    assert [r.run_id for r in store.runs()] == ["id0001"]


def test_files_that_are_no_history_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite3"
    path.write_text("no database\n" * 100)
    foreign = tmp_path / "foreign.sqlite3"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    newer = tmp_path / "newer.sqlite3"
    SqliteHistory(newer).add([run(1, figure(1.0))])
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for file, message in ((path, "no history"), (foreign, "another program"), (newer, "newer dbperf")):
        before = file.read_bytes()
        for action in (SqliteHistory(file).runs, lambda f=file: SqliteHistory(f).add([run(5, figure(1.0))])):
            with pytest.raises(RecordError, match=message):
                action()
        assert file.read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        SqliteHistory(tmp_path / "file" / "h.sqlite3").add([run(1, figure(1.0))])


def test_times_are_kept_in_utc(tmp_path: Path) -> None:
    store = SqliteHistory(tmp_path / "h.sqlite3")
    at = datetime.fromisoformat("2026-01-01T01:00:00+02:00")
    store.add([msgspec.structs.replace(run(1, figure(1.0)), measured_at=at), run(2, figure(1.0))])
    assert store.runs()[0].measured_at == at
    assert store.runs()[0].measured_at.tzinfo == UTC
