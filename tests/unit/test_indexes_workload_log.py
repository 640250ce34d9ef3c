"""Server logs and traces as workloads: what counts, which values are kept, and what is refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbperf.errors import RecordError, UsageError
from dbperf.indexes.cases import sampled
from dbperf.indexes.workload import Workload, masked
from dbperf.indexes.workload_files import read_workload
from dbperf.indexes.workload_log import log_files

PREFIX = "2026-11-21 02:16:03.745 UTC [16757] app@shop "
STDERR = f"""\
{PREFIX}LOG:  duration: 0.450 ms  parse s1: SELECT * FROM t WHERE a = $1
{PREFIX}LOG:  duration: 0.439 ms  bind s1: SELECT * FROM t WHERE a = $1
{PREFIX}DETAIL:  parameters: $1 = 'it''s'
{PREFIX}LOG:  duration: 2.5 ms  execute s1: SELECT * FROM t WHERE a = $1
{PREFIX}DETAIL:  parameters: $1 = 'it''s'
{PREFIX}LOG:  duration: 3.5 ms  execute s1: SELECT * FROM t WHERE a = $1
{PREFIX}DETAIL:  Parameters: $1 = NULL
{PREFIX}LOG:  duration: 0.1 ms  execute fetch from s1/c: SELECT * FROM t WHERE a = $1
{PREFIX}LOG:  duration: 1 ms
cp: some archive command's own words
{PREFIX}LOG:  duration: 9 ms  statement: UPDATE t
\t   SET b = 2
\t WHERE c = 'x'
{PREFIX}LOG:  duration: 8 ms  statement: UPDATE t SET b = 2 WHERE c = 'y'
{PREFIX}ERROR:  column "nope" does not exist at character 8
{PREFIX}STATEMENT:  SELECT nope FROM t
{PREFIX}LOG:  statement: BEGIN
{PREFIX}LOG:  duration: 7 ms  plan:
\tQuery Text: SELECT count(*) FROM t
\tWHERE b < 9;
\tAggregate  (cost=1.0..2.0 rows=1 width=8) (actual time=6.0..7.0 rows=1 loops=1)
\t  ->  Seq Scan on t  (cost=0.0..1.0 rows=10 width=0) (actual time=0.1..6.0 rows=5000 loops=1)
\t        Filter: (b < 9)
{PREFIX}LOG:  duration: 7.2 ms  statement: SELECT count(*) FROM t
\tWHERE b < 9;
{PREFIX}LOG:  duration: 1 ms  plan:
\t{{
\t  "Query Text": "SELECT 1",
\t  "Plan": {{
"""


def read(tmp_path: Path, text: str, name: str = "server.log") -> Workload:
    path = tmp_path / name
    path.write_text(text)
    return read_workload(path)


def test_a_stderr_log(tmp_path: Path) -> None:
    found = read(tmp_path, STDERR)
    by_text = {s.text: s for s in found.statements}
    looked_up = by_text["SELECT * FROM t WHERE a = $1"]
    assert looked_up.id == "server.log:4"
    assert looked_up.calls == 2
    assert looked_up.mean_ms == 3.0
    # A quarter of the calls stays with the generic plan.
    assert {(c.text, c.share) for c in looked_up.cases} == {
        ("SELECT * FROM t WHERE a = 'it''s'", 0.375), ("SELECT * FROM t WHERE a = NULL", 0.375),
    }  # fmt: skip
    updated = by_text["UPDATE t\n   SET b = 2\n WHERE c = 'x'"]
    assert updated.calls == 2
    assert [(c.text, c.share) for c in updated.cases] == [("UPDATE t SET b = 2 WHERE c = 'y'", 0.5)]
    # Logged twice, by auto_explain and by log_min_duration_statement: executed once.
    assert by_text["SELECT count(*) FROM t\nWHERE b < 9"].calls == 1
    assert len(found.statements) == 3
    [plan] = found.plans
    assert plan.plan is not None
    assert plan.plan.root.children[0].actual_rows == 5000
    reasons = {s.id: s.reason for s in found.skipped}
    assert "utility statement" in reasons["server.log:17"]
    assert "cut off" in reasons["server.log:26"]
    assert len(reasons) == 2
    assert all(not s.cases for s in masked(found.statements)), "redacted, no value is left"


def test_csvlog_and_jsonlog_name_the_database(tmp_path: Path) -> None:
    rows, lines = io.StringIO(), []
    for database, message, detail in (
        ("shop", "duration: 1 ms  execute <unnamed>: SELECT 1 FROM t\nWHERE a = $1", "parameters: $1 = 'a\nb'"),
        ("shop", "duration: 1 ms  statement: SELECT 'x,\"y\"' FROM t", ""),
        ("other", "duration: 1 ms  statement: SELECT 2 FROM u", ""),
        ("", "checkpoint starting: time", ""),
    ):
        row = [""] * 26
        row[2], row[11], row[13], row[14] = database, "LOG", message, detail
        csv.writer(rows).writerow(row)
        lines.append(json.dumps({"dbname": database, "error_severity": "LOG", "message": message, "detail": detail}))
    from_csv = read(tmp_path, rows.getvalue() + '2026-01-01,"cut o', "a.csv")
    from_json = read(tmp_path, "\n".join(lines) + '\n{"cut o', "b.json")
    for found in (from_csv, from_json):
        assert [s.database for s in found.statements] == ["shop", "shop", "other"]
        assert found.statements[0].cases[0].text == "SELECT 1 FROM t\nWHERE a = 'a\nb'"
        here = found.of_database("shop")
        assert [s.text for s in here.statements][1] == "SELECT 'x,\"y\"' FROM t"
        assert [s.reason for s in here.skipped] == ["it ran in the database other"]
        assert found.of_database("elsewhere").statements == []
    # The log of one database serves its copy, which is called something else.
    assert from_csv.of_database("other").of_database("copy").statements != []


def test_of_one_log_in_three_formats_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "monday.log").write_text(STDERR)
    line = {"dbname": "d", "error_severity": "LOG", "message": "duration: 1 ms  statement: SELECT 1 FROM t"}
    (tmp_path / "monday.json").write_text(json.dumps(line) + "\n")
    (tmp_path / "tuesday.log").write_text(STDERR)
    (tmp_path / "notes.json").write_text('{"a": 1}')
    assert [p.name for p in log_files(tmp_path)] == ["monday.json", "tuesday.log"]
    assert {s.id.split(":")[0] for s in read_workload(tmp_path).statements} == {"monday.json", "tuesday.log"}


@pytest.mark.parametrize(
    ("name", "text", "error", "expected"),
    [
        ("a.log", f"{PREFIX}LOG:  database system is ready\n", UsageError, "no statement is logged in .*a.log"),
        ("a.csv", ",".join(["x"] * 11 + ["LOG"] + ["x"] * 14) + "\na,b\n", RecordError, r"a.csv, line 2: 2 columns"),
        ("a.json", '{"error_severity":"LOG","message":"x"}\n{"error\n{}\n', RecordError, r"a.json, line 2: not a line"),
        ("a.json", '{"kind": "load", "schema_version": 1}', RecordError, "a.json is a load of dbperf's"),
        ("a.json", '{"kind": ', RecordError, "a.json, line 1"),
    ],
)
def test_what_is_no_log(tmp_path: Path, name: str, text: str, error: type[Exception], expected: str) -> None:
    with pytest.raises(error, match=expected):
        read(tmp_path, text, name)


def test_a_raw_trace_is_not_guessed_at(tmp_path: Path) -> None:
    (tmp_path / "1.trace.jsonl").write_text("{}")
    with pytest.raises(UsageError, match="raw trace"):
        read_workload(tmp_path)


def test_a_statement_that_is_too_long_is_skipped_with_the_reason(tmp_path: Path) -> None:
    found = read(tmp_path, f"{PREFIX}LOG:  statement: SELECT '{'x' * (2 << 20)}'\n{PREFIX}LOG:  statement: SELECT 1\n")
    assert [s.text for s in found.statements] == ["SELECT 1"]
    assert "longer than 1 MB" in found.skipped[0].reason


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.integers(1, 6))
def test_a_sample_of_cases_stands_for_all(counts: list[int], most: int) -> None:
    given_ = [(str(i), float(n)) for i, n in enumerate(counts)]
    picked = sampled(given_, most)
    assert len(picked) <= most
    assert sum(n for _, n in picked) == pytest.approx(sum(counts))
    assert {name for name, n in given_ if n > sum(counts) / most} <= {name for name, _ in picked}


def test_a_trace(tmp_path: Path) -> None:
    def statement(text: str, calls: int, **more: object) -> dict[str, object]:
        return {
            "fingerprint": "f", "text": text, "source": "app/cases.py:42", "calls": calls, "per_request": 1.0,
            "max_per_request": 1, "executions": calls, "total_ms": 3.0 * calls, "median_ms": 3.0, "max_ms": 3.0, **more,
        }  # fmt: skip

    def endpoint(route: str, statements: list[dict[str, object]]) -> dict[str, object]:
        spread = {"median": 1.0, "max": 1.0}
        means = dict.fromkeys(("duration_ms", "sql_ms", "pool_wait_ms", "python_ms"), 1.0)
        return {
            "route": route, "requests": 5, "errors": 0, "total_ms": 1.0, "duration_ms": spread, "sql_ms": 1.0,
            "statements_per_request": spread, "pool_wait_ms": 0.0, "python_ms": 0.0, "per_request": means,
            "commits_per_request": spread, "commit_ms": 0.0, "commit_median_ms": None, "findings": [],
            "statements": statements,
        }  # fmt: skip

    endpoints = [
        endpoint("GET /cases", [
            statement("SELECT * FROM t WHERE a = $1", 5),
            statement("SELECT * FROM t WHERE b = %(b_1)s AND c = %(c_1)s", 1),
            statement("INSERT INTO t VALUES ($1)", 2, executions=200),
        ]),
        endpoint("GET /other", [statement("SELECT * FROM t WHERE a = $1", 7, queryid=77)]),
    ]  # fmt: skip
    trace = {
        "kind": "trace", "schema_version": 1, "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:01:00Z",
        "requests": 10, "processes": 1, "complete": True,
        "endpoints": endpoints,
    }  # fmt: skip
    (tmp_path / "trace.json").write_text(json.dumps(trace))
    found = read_workload(tmp_path)
    assert found == read_workload(tmp_path / "trace.json")
    assert [(s.id, s.text, s.calls, s.mean_ms) for s in found.statements] == [
        ("app/cases.py:42", "SELECT * FROM t WHERE a = $1", 12, 3.0),
        ("app/cases.py:42 (2)", "SELECT * FROM t WHERE b = $1 AND c = $2", 1, 3.0),
        ("app/cases.py:42 (3)", "INSERT INTO t VALUES ($1)", 200, 3.0),
    ]
    looped = {
        "rule_id": "n_plus_one", "severity": "warning", "title": "N+1: the same SELECT 7 times per request",
        "route": "GET /other", "text": "SELECT * FROM t WHERE a = $1", "source": "app/cases.py:42", "evidence": {},
        "advice": "Ask once for all.",
    }  # fmt: skip
    endpoints[1]["findings"] = [looped, {**looped, "rule_id": "pool_wait"}, {**looped, "text": "SELECT 1"}]
    (tmp_path / "trace.json").write_text(json.dumps(trace))
    [rewrite] = read_workload(tmp_path).rewrites
    assert (rewrite.statement, rewrite.rule_id) == ("app/cases.py:42", "n_plus_one")
    assert "7 times per request (GET /other). Ask once" in rewrite.reason
    assert rewrite.source == "app/cases.py:42"
    trace["endpoints"] = []
    (tmp_path / "trace.json").write_text(json.dumps(trace))
    with pytest.raises(UsageError, match=r"no endpoint in .* ran a statement"):
        read_workload(tmp_path)
