"""The arithmetic of a request and the rules, on streams made by hand (no server)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from dbperf.errors import RecordError
from dbperf.records.base import parse_document
from dbperf.records.trace import Trace
from dbperf.trace.collect import collect, summarize
from dbperf.trace.measures import measure
from dbperf.trace.parts import SUFFIX
from dbperf.trace.reader import Request, Stream, TextInfo
from dbperf.trace.state import (
    AUTOFLUSH,
    BEGIN,
    COMMIT,
    FETCH,
    PING,
    POOL,
    STATEMENT,
    Event,
    RequestTrace,
    kind_of,
    parameters_hash,
)
from dbperf.trace.stream import Recorder, route_of

MS = 1_000_000
TEXTS = [
    TextInfo("SELECT * FROM log WHERE id = $1"),
    TextInfo("UPDATE item SET n = $1 WHERE id = $2"),
    TextInfo("SELECT 1"),
]


def event(kind: int, at_ms: float, ms: float, text: int = -1, **more: Any) -> Event:
    fields = {
        "rows": None,
        "executions": 1,
        "parameters": None,
        "connection": 1,
        "failed": False,
        "source_id": 1,
        **more,
    }
    return Event(kind=kind, text_id=text, started_ns=int(at_ms * MS), ended_ns=int((at_ms + ms) * MS), **fields)


def request(events: list[Event], ms: float = 100, **more: Any) -> Request:
    fields: dict[str, Any] = {
        "process": 0, "request_id": 1, "route": "GET /x", "status": 200, "started_ns": 0, "background_ns": 0,
        "response_bytes": 10, "gc_ns": 0, "lost": 0, "failed": False, "finished": True, **more,
    }  # fmt: skip
    return Request(duration_ns=int(ms * MS), events=events, **fields)


def trace_of(*requests: Request) -> Trace:
    stream = Stream(texts=TEXTS, sources=[("", 0, ""), ("/app/main.py", 7, "view")], processes=1)
    return summarize(stream, requests, Path("/app"))


def rules(*requests: Request) -> set[str]:
    return {f.rule_id for e in trace_of(*requests).endpoints for f in e.findings}


def loop(n: int, *, text: int = 0, ms: float = 1.0, same: bool = False, **more: Any) -> list[Event]:
    return [event(STATEMENT, i * 2, ms, text, parameters=0 if same else i, rows=1, **more) for i in range(n)]


def test_overlapping_statements_count_once_and_the_parts_add_up() -> None:
    m = measure(
        request(
            [
                event(POOL, 0, 10),
                event(STATEMENT, 10, 20, 0),
                event(STATEMENT, 20, 20, 0, connection=2),
                event(POOL, 35, 15),
            ]
        ),
        [False] * 3,
    )
    assert m.sql_ns == 30 * MS
    assert m.pool_ns == 20 * MS  # 10 before, 10 after the statements; 5 overlap with one
    assert m.statements == 2


def test_what_runs_after_the_response_is_not_the_requests_time() -> None:
    m = measure(request([event(STATEMENT, 90, 30, 0), event(STATEMENT, 150, 30, 0)]), [False] * 3)
    assert m.sql_ns == 10 * MS
    assert m.statements == 2


def test_a_cursors_fetches_belong_to_its_statement() -> None:
    m = measure(request([event(STATEMENT, 0, 1, 0, rows=50), event(FETCH, 5, 2, 0, rows=30)]), [False] * 3)
    [[e]] = m.by_statement.values()
    assert (e.rows, e.ended_ns - e.started_ns) == (80, 3 * MS)


def test_n_plus_one_and_its_saving() -> None:
    trace = trace_of(request(loop(20)), request(loop(30)))
    [f] = trace.endpoints[0].findings
    assert f.rule_id == "n_plus_one"
    assert f.per_request
    assert (f.per_request.median, f.per_request.max) == (25, 30)
    assert f.saved_ms == pytest.approx(((20 - 1 - 0.1) + (30 - 1 - 0.15)) / 2)
    assert f.source == "main.py:7"


@pytest.mark.parametrize(
    ("what", "requests"),
    [
        ("a few look-ups", [request(loop(4))]),
        ("polling: one question again and again", [request(loop(20, same=True, ms=0.01))]),
        ("executemany", [request(loop(20, executions=100))]),
        ("one odd request of many", [request(loop(20)), *[request(loop(1)) for _ in range(3)]]),
        ("too fast to matter", [request(loop(6, ms=0.01))]),
        ("nothing", [request([])]),
        ("one commit", [request([event(BEGIN, 0, 0.1), event(COMMIT, 1, 0.1)])]),
        ("a read again after a write", [
            request(
                [
                    event(STATEMENT, 0, 5, 0, parameters=1),
                    event(STATEMENT, 5, 5, 1),
                    event(STATEMENT, 10, 5, 0, parameters=1),
                ]
            )
        ]),
    ],
)  # fmt: skip
def test_no_finding(what: str, requests: list[Request]) -> None:
    assert rules(*requests) == set(), what


def test_set_based_loops_are_no_finding() -> None:
    for text in (
        "SELECT * FROM log WHERE id = ANY($1)",
        "INSERT INTO t VALUES ($1, $2), ($3, $4)",
        "SELECT * FROM t WHERE id IN ($1, $2, $3, $4, $5, $6, $7, $8)",
        "UPDATE t SET a = v.a FROM unnest($1::int[]) v(a)",
    ):
        stream = Stream(texts=[TextInfo(text)], sources=[("", 0, ""), ("/a.py", 1, "f")])
        trace = summarize(stream, [request(loop(20))], Path("/"))
        assert trace.endpoints[0].findings == [], text


def test_commits_pool_pings_flushes_and_pauses() -> None:
    commits = [e for i in range(10) for e in (event(BEGIN, i * 5, 0.1), event(COMMIT, i * 5 + 1, 3))]
    assert rules(request(commits)) == {"commit_per_row"}
    assert rules(request([event(COMMIT, 0, 40)])) == {"slow_commit"}
    waits = request([event(POOL, 0, 50)])
    assert rules(waits, waits, waits) == {"pool_wait"}
    assert rules(waits, *[request([])] * 20) == set()  # a connection is opened
    assert rules(request([event(PING, 0, 5)])) == {"pool_pre_ping"}
    assert rules(request([event(AUTOFLUSH, i, 1) for i in range(10)])) == {"autoflush_storm"}
    assert rules(request([], gc_ns=20 * MS)) == {"garbage_collection"}
    held = [event(BEGIN, 0, 1), event(COMMIT, 80, 1)]
    assert rules(request(held)) == {"idle_in_transaction"}
    assert rules(request([event(BEGIN, 0, 1), event(STATEMENT, 1, 1998, 0), event(COMMIT, 1999, 1)], ms=2000)) == {
        "long_transaction"
    }


def test_the_collector_is_told_once_for_all_that_it_stops() -> None:
    """It runs in the whole process: a health check that it stops has not made its objects."""
    busy = [request([], gc_ns=30 * MS, route="POST /work") for _ in range(5)]
    trace = trace_of(*busy, request([], gc_ns=30 * MS, ms=40, route="GET /health"), request([], route="GET /quiet"))
    told = {e.route: [f.rule_id for f in e.findings] for e in trace.endpoints}
    assert told == {"POST /work": ["garbage_collection"], "GET /health": [], "GET /quiet": []}
    (finding,) = trace.endpoints[0].findings
    assert finding.evidence["delayed_endpoints"] == "GET /health"


def test_wide_columns_need_a_small_answer() -> None:
    wide = [TextInfo("SELECT * FROM item", row_bytes=20_000, wide={"vector": 19_000.0})]
    stream = Stream(texts=wide, sources=[("", 0, ""), ("/a.py", 1, "f")])

    def found(answer: int) -> list[str]:
        r = request([event(STATEMENT, 0, 5, 0, rows=100)], response_bytes=answer)
        return [f.rule_id for f in summarize(stream, [r], Path("/")).endpoints[0].findings]

    assert found(1000) == ["wide_columns"]
    assert found(1_900_000) == []


def test_literals_are_masked() -> None:
    stream = Stream(texts=[TextInfo("SELECT * FROM t WHERE name = 'Kim'")], sources=[("", 0, ""), ("/a.py", 1, "f")])
    trace = summarize(stream, [request([event(STATEMENT, 0, 1, 0)])], Path("/"))
    assert b"Kim" not in trace.to_json()
    assert parse_document(Trace, trace.to_json(), source="x") == trace


def scope(path: str, template: str | None = None, **parameters: str) -> dict[str, Any]:
    route = None if template is None else type("Route", (), {"path": template})()
    return {"method": "GET", "path": path, "route": route, "path_params": parameters, "app": object()}


@pytest.mark.parametrize(
    ("given", "status", "want"),
    [
        (scope("/a/b", "/a/b"), 200, "/a/b"),
        (scope("/cases/5", "/cases/{id}", id="5"), 200, "/cases/{id}"),
        (scope("/outer/inner/5", "/inner/{id}", id="5"), 200, "/outer/inner/{id}"),
        (scope("/t/acme/inner/5", "/inner/{id}", id="5", tenant="acme"), 200, "/t/{tenant}/inner/{id}"),
        (scope("/files/a/b/c", "/files/{rest:path}", rest="a/b/c"), 200, "/files/{rest:path}"),
        (scope("/nowhere/123"), 404, "(no route)"),
        ({"method": "GET", "path": "/raw/123/x/0f8fad5b-d9cb-469f-a165-70867728950e"}, 200, "/raw/{id}/x/{id}"),
    ],
)
def test_route(given: dict[str, Any], status: int, want: str) -> None:
    r = RequestTrace(None, given, 1, 0)
    r.status = status
    assert route_of(r) == want


def test_kinds_and_parameters() -> None:
    from dbperf.trace import state

    assert kind_of("  rollback to savepoint a") == state.CHATTER
    assert kind_of("ROLLBACK") == state.ROLLBACK
    assert kind_of("START TRANSACTION READ ONLY") == BEGIN
    assert kind_of("SELECT 'BEGIN'") == STATEMENT
    assert parameters_hash((1, "a")) == parameters_hash((1, "a"))
    assert parameters_hash(([1],)) is None


def test_a_killed_process_leaves_what_it_wrote(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.start()
    for i in range(3):
        r = RequestTrace(recorder, {"method": "GET", "path": f"/x/{i}"}, i + 1, 0)
        r.ended_ns = r.finished_ns = r.started_ns + 5 * MS
        recorder.done(r)
    recorder.flush()
    assert recorder.path
    whole = recorder.path.read_bytes()
    recorder.path.write_bytes(whole[:-7])  # the last line is cut off
    trace = collect(tmp_path)
    recorder.close()
    assert trace.requests == 2
    assert not trace.complete
    assert "was killed" in trace.notes[0]


def test_unfinished_requests_are_written_at_the_end(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.start()
    r = RequestTrace(recorder, {"method": "GET", "path": "/never"}, 1, 0)
    recorder.in_flight[1] = r
    recorder.close()
    [e] = collect(tmp_path).endpoints
    assert (e.route, e.unfinished) == ("GET /never", 1)


def test_a_folder_that_cant_be_written_stops_the_trace_and_not_the_program(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    recorder = Recorder(blocked / "traces")
    recorder.start()
    recorder.done(RequestTrace(recorder, {"method": "GET", "path": "/"}, 1, 0))
    recorder.flush()
    recorder.close()
    assert "can't be written" in caplog.text


@pytest.mark.parametrize(
    "content", [b"{}\n", b'["h", 99, 1, 0, 0, ""]\n', b"nonsense\n", b'["h",2,1,0,0,""]\n["r",1]\n']
)
def test_a_file_that_is_no_trace(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"1{SUFFIX}").write_bytes(content)
    with pytest.raises(RecordError):
        collect(tmp_path)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="holds no trace"):
        collect(tmp_path)


def test_many_events_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbperf.trace.state.MAX_EVENTS", 10)
    r = RequestTrace(None, {"method": "GET", "path": "/"}, 1, 0)
    for i in range(25):
        r.add(event(STATEMENT, i, 1, 0))
    assert (len(r.events), r.lost) == (10, 15)
    assert msgspec.json.encode(r.events[0])
