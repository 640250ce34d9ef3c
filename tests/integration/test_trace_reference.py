"""The reference target under trace, which it does not know of: naive is named to the unit, tuned is not."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from dbperf.phase3.launch import RunningTarget, start_target
from dbperf.phase3.seed import seed
from dbperf.phase3.service import ImplementationName
from dbperf.records.trace import Trace
from dbperf.trace.collect import collect
from dbperf.trace.launch import environment
from tests.conftest import Database

CASE = "SELECT case_id FROM execution_log GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"


def ask(target: RunningTarget, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        target.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
        headers={"X-API-Key": target.api_key, "content-type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.loads(answer.read())


def traced(
    db: Database, implementation: ImplementationName, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Trace, list[Any]]:
    asyncio.run(seed(db.dsn, "smoke"))
    for name, value in environment(folder).items():
        monkeypatch.setenv(name, value)
    with start_target(db.dsn, implementation) as target:
        case = db.psql(CASE)
        answers = [ask(target, "POST", "/reflection/batch", {"min_logs": 10}) for _ in range(2)]
        ask(target, "POST", "/reflection/analyze", {"case_id": case})
        ask(target, "GET", "/consolidation/summary")
        ask(target, "GET", "/reflection/health")
        ask(target, "GET", "/taxonomy/v1/tree")
        answers.append(ask(target, "POST", "/consolidation/run", {}))
    return collect(folder), answers


def findings(trace: Trace) -> set[tuple[str, str]]:
    return {(e.route, f.rule_id) for e in trace.endpoints for f in e.findings}


@pytest.mark.pg("== 18")
def test_naive_is_named_with_line_and_count(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace, answers = traced(db, "naive", tmp_path, monkeypatch)
    assert trace.complete
    found = findings(trace)
    by_route = {e.route: e for e in trace.endpoints}
    batch = by_route["POST /reflection/batch"]
    [f] = [f for f in batch.findings if f.rule_id == "n_plus_one"]
    assert f.per_request
    assert f.per_request.median == answers[0]["analyzed_cases"]
    assert f.source
    assert f.source.startswith("dbperf/phase3/naive.py:")
    assert f.text
    assert "execution_log" in f.text
    assert f.saved_ms
    run = by_route["POST /consolidation/run"]
    [f] = [f for f in run.findings if f.rule_id == "commit_per_row"]
    archived = sum(answers[2][k] for k in ("removed_cases", "merged_cases", "archived_cases"))
    assert f.per_request
    assert f.per_request.median == archived + 1  # one more ends the reading
    assert ("GET /consolidation/summary", "wide_columns") in found
    assert ("GET /taxonomy/{version}/tree", "n_plus_one") not in found  # both implementations read it at once
    assert not {rule for route, rule in found if route == "GET /reflection/health"} - {"pool_wait", "blocked_loop"}


@pytest.mark.pg("== 18")
def test_tuned_has_none_of_these(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace, _ = traced(db, "tuned", tmp_path, monkeypatch)
    rules = {"n_plus_one", "row_by_row_write", "commit_per_row", "wide_columns", "duplicate_statement"}
    assert not {rule for _, rule in findings(trace)} & rules
    assert {e.route: e.statements_per_request.max for e in trace.endpoints}["POST /reflection/batch"] == 2
