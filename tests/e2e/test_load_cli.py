"""`dbperf load` as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.cli import dbperf, dbperf_here, environment
from tests.support.httpserver import FaultyServer

SUITE = """
name = "shop"
gates = ["requests > 10", "errors < 50%"]
[[stages]]
users = 2
duration = "1s"
[[stages]]
arrival_rate = 30
duration = "1s"
[[endpoints]]
path = "/ok"
[think_time]
min = "10ms"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        yield running


def test_the_ready_suites_are_listed(tmp_path: Path) -> None:
    done = dbperf_here("load", "--list", "--format", "json", env=environment(tmp_path), cwd=tmp_path)
    assert done.returncode == 0
    suites = {s["name"]: s for s in json.loads(done.stdout)}
    assert {f"LOAD-{i:03d}" for i in range(1, 13)} <= set(suites)
    assert {"smoke", "ramp", "spike", "soak", "stress", "constant"} <= set(suites)
    assert all(s["ci_expected_s"] <= 60 for s in suites.values() if s["ci_expected_s"] is not None)
    assert suites["smoke"]["expected_s"] == 10
    text = dbperf_here("load", "--list", env=environment(tmp_path), cwd=tmp_path).stdout
    assert "LOAD-001" in text
    assert "7 min 25 s" in text


def test_a_suite_runs_and_its_result_is_json_as_promised(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(SUITE)
    done = dbperf("load", "shop.toml", "--url", server.url, "--out", "run", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    first, second = found["stages"]
    assert (first["name"], first["users"], first["arrival_rate"]) == ("2 users", 2, None)
    assert (second["name"], second["users"], second["arrival_rate"]) == ("30/s", None, 30)
    (endpoint,) = first["endpoints"]
    assert {"name", "requests", "errors", "rps", "p50_ms", "p95_ms", "p99_ms", "max_ms", "ci"} <= set(endpoint)
    assert endpoint["ci"]["p50_ms"][0] <= endpoint["p50_ms"] <= endpoint["ci"]["p50_ms"][1]
    assert [(g["expr"], g["verdict"]) for g in found["gates"]] == [("requests > 10", "pass"), ("errors < 50%", "pass")]
    assert found["generator"]["saturated"] in (True, False)
    assert found["generator"]["late_starts"] >= 0
    assert found["verdict"] == "pass"
    assert "capacity" in found
    run = tmp_path / "run"
    assert {"run.json", "load.json", "load.xml", "load.md", "telemetry.json", "report.html"} <= {
        p.name for p in run.iterdir()
    }
    stages = [stage["name"] for stage in json.loads((run / "run.json").read_text())["stages"]]
    assert "load" in stages
    assert not {"flames", "trace", "advice", "proof"} & set(stages)  # what looks for causes is dbperf run's
    suite = ElementTree.parse(run / "load.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "0", "0")
    assert "| `requests > 10` | pass |" in (run / "load.md").read_text()


def test_a_missed_gate_exits_with_1_and_says_why(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(SUITE.replace('"/ok"', '"/status/500"'))
    (tmp_path / "dbperf.toml").write_text('gates = ["requests < 1000000"]')
    done = dbperf("load", "shop.toml", "--url", server.url, "--gate", "p95 < 1s", cwd=tmp_path)
    assert done.returncode == 1
    assert "FAIL        errors < 50%: 100 %" in done.stdout
    assert "FAIL        p95 < 1s: no request succeeded" in done.stdout
    assert "pass        requests < 1000000" in done.stdout
    assert "shop: FAIL" in done.stdout


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["load"], 2, "which suite?"),
        (["load", "spikes"], 2, "did you mean 'spike'?"),
        (["load", "smoke", "--gate", "p95 < 5"], 2, "gate: 'p95 < 5', column 7: 5 lacks a unit"),
        (["load", "smoke", "--url", "http://db.example.com"], 2, "--i-know-this-is-not-production"),
        (["load", "smoke", "--users", "500"], 2, "500 users are more than 100"),
        (["load", "phase3", "--ci"], 2, "suite 'phase3' has no CI variant"),
        (["load", "smoke", "--dsn", "postgresql://x@/y"], 2, "--dsn without --url"),
        (["load", "smoke", "--url", "http://127.0.0.1:1"], 3, "127.0.0.1:1 refuses connections"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_line(args: list[str], code: int, message: str, tmp_path: Path) -> None:
    done = dbperf_here(*args, env=environment(tmp_path), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
