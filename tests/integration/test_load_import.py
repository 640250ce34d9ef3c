"""Results of a real Locust run, read back. (Broken files, and k6's: tests/unit/test_regress_sources.py.)"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dbperf.load.gates import judge_gates
from dbperf.load.imports import as_load, read_foreign
from dbperf.records.load import Load
from dbperf.regress.sources import read_side
from tests.support.httpserver import FaultyServer

LOCUSTFILE = """
import time
import gevent
from locust import FastHttpUser, constant, events, task

seen = {"/ok": 0, "/status/500": 0}
began = time.time()

@events.init.add_listener
def watch(environment, **_):
    @events.request.add_listener
    def count(name, **_):  # ends when there is enough, however fast the machine is
        global began
        seen[name] += 1
        users = environment.runner.user_count
        if min(seen.values()) >= 20 and users == 4 and time.time() - began > 3:
            began = float("inf")
            gevent.spawn(environment.runner.quit)  # it kills the users, so it can't run in one of them

class Plain(FastHttpUser):
    wait_time = constant(0.01)

    @task(3)
    def ok(self):
        self.client.get("/ok")

    @task
    def broken(self):
        self.client.get("/status/500")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `locust --csv --json` leaves behind."""
    path = tmp_path_factory.mktemp("locust")
    (path / "locustfile.py").write_text(LOCUSTFILE)
    with FaultyServer() as server:
        done = subprocess.run(
            [sys.executable, "-m", "locust", "--headless", "-H", server.url, "-u", "4", "-r", "4", "-t", "60s",
             "--csv", "old", "--csv-full-history", "--json", "--skip-log"],
            cwd=path, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
    (path / "old.json").write_text(done.stdout)
    return path


def imported(path: Path) -> Load:
    return as_load(read_foreign(path), path)


def test_locust_s_json_keeps_its_samples(folder: Path) -> None:
    load = imported(folder / "old.json")
    raw = {f"{x['method']} {x['name']}": x for x in json.loads((folder / "old.json").read_text())}
    found = {e.name: e for e in load.stages[0].endpoints}
    assert set(found) == {"GET /ok", "GET /status/500"}
    for name, e in found.items():
        assert e.requests == raw[name]["num_requests"] == e.latency.count
        assert e.errors == raw[name]["num_failures"]
    assert found["GET /ok"].quantiles[0].ci_low_ms is not None
    last, first = max(x["last_request_timestamp"] for x in raw.values()), min(x["start_time"] for x in raw.values())
    assert (load.ended_at - load.started_at).total_seconds() == pytest.approx(last - first, abs=1e-3)
    (gate,) = judge_gates(load, ['endpoint("GET /status/500").errors < 50%'])
    assert gate.verdict == "fail"


def test_locust_s_csv_files_are_read_together(folder: Path) -> None:
    load = imported(folder / "old_stats.csv")
    found = {e.name: e for e in load.stages[0].endpoints}
    broken = found["GET /status/500"]
    assert [(x.kind, x.count) for x in broken.errors_by_kind] == [("http 500", broken.requests)]
    assert load.stages[0].users == 4
    p95 = next(q for q in found["GET /ok"].quantiles if q.q == 0.95)
    assert p95.value_ms is not None
    assert (p95.ci_low_ms, p95.reason) == (None, "imported: the file holds no samples")
    assert "the number of users changed during the run: the highest counts" not in load.notes


def test_an_imported_result_becomes_a_run_with_a_report(folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dbperf", "load", "--import", str(folder / "old.json"), "--format", "markdown"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| GET /ok |" in done.stdout
    runs = tmp_path / "reports" / "runs"
    (run,) = (p for p in runs.iterdir() if p.is_dir())
    assert {"run.json", "load.json", "report.html", "load.md"} <= {p.name for p in run.iterdir()}
    latest = (runs / "summary_latest.md").read_text()
    assert latest.endswith((run / "summary.md").read_text())
    assert f"]({run.name}/report.html)" in latest
    as_run, as_file = read_side(run).measurements, read_side(folder / "old.json").measurements
    assert [(m.subject, m.requests, m.requests_per_s, m.latency, m.rounded_by) for m in as_run] == [
        (m.subject, m.requests, m.requests_per_s, m.latency, "locust") for m in as_file
    ]
