"""Requests against a real application on a real server, and what the trace says of them, to the unit."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbperf.records.trace import EndpointTrace, Trace, TraceStatement
from dbperf.trace import hooks
from dbperf.trace.collect import collect
from dbperf.trace.inprocess import AppRequest, AppResponse, call, lifespan
from dbperf.trace.middleware import TraceMiddleware
from tests.conftest import Database
from tests.support import traced_app


@pytest.fixture(autouse=True)
def unhooked() -> Iterator[None]:
    yield
    hooks.uninstall()


async def trace_of(db: Database, folder: Path, *paths: str) -> tuple[Trace, list[AppResponse]]:
    db.psql(traced_app.SCHEMA)
    app = traced_app.make_app(db.dsn)
    traced = TraceMiddleware(app, folder)
    answers = []
    async with lifespan(app):
        for path in paths:
            answers.append(await call(traced, AppRequest(path=path)))
        if hasattr(app.state, "task"):  # what goes on after the answer
            await app.state.task
    assert traced.watch
    traced.watch.stop()
    traced.recorder.close()
    return collect(folder), answers


def only(trace: Trace) -> EndpointTrace:
    assert len(trace.endpoints) == 1
    return trace.endpoints[0]


def line_of(text: str) -> str:
    lines = inspect.getsource(traced_app).splitlines()
    [number] = [n for n, line in enumerate(lines, 1) if text in line]
    return f"tests/support/traced_app.py:{number}"


def statement(e: EndpointTrace, start: str) -> TraceStatement:
    [found] = [s for s in e.statements if s.text.startswith(start)]
    return found


# What an endpoint's own statements make of it. The other rules are about time, which a busy machine takes from any.
OF_STATEMENTS = {
    "n_plus_one", "row_by_row_write", "commit_per_row", "duplicate_statement", "wide_columns", "checkout_per_row",
    "autoflush_storm",
}  # fmt: skip


def rules(e: EndpointTrace) -> set[str]:
    return {f.rule_id for f in e.findings}


async def test_route_statement_line_and_rows(db: Database, tmp_path: Path) -> None:
    trace, answers = await trace_of(db, tmp_path, "/v1/items/3/logs", "/v1/items/4/logs")
    assert [a.status for a in answers] == [200, 200]
    e = only(trace)
    assert (e.route, e.requests, e.errors) == ("GET /v1/items/{item_id}/logs", 2, 0)
    [s] = e.statements
    assert s.text == "SELECT * FROM log WHERE item_id = $1"
    assert s.source == line_of("SELECT * FROM log WHERE item_id")
    assert (s.calls, s.per_request, s.rows) == (2, 1.0, 20)
    assert s.fingerprint
    assert len(s.fingerprint) == 16
    assert e.statements_per_request.median == e.statements_per_request.max == 1
    assert e.sql_ms + e.pool_wait_ms + e.python_ms == pytest.approx(e.total_ms)
    assert e.sql_ms > 0
    assert e.pool_wait_ms > 0  # the first request opens the connection
    assert e.python_ms > 0
    assert e.checkouts == 2
    assert not rules(e) & OF_STATEMENTS
    assert trace.complete


async def test_n_plus_one_is_counted_to_the_unit_with_its_line(db: Database, tmp_path: Path) -> None:
    trace, _ = await trace_of(db, tmp_path, "/n-plus-one", "/n-plus-one")
    e = only(trace)
    assert e.statements_per_request.median == e.statements_per_request.max == 61
    [f] = [f for f in e.findings if f.rule_id == "n_plus_one"]
    assert f.per_request
    assert (f.per_request.median, f.per_request.max) == (60, 60)
    assert f.source == line_of("text(SLOW)")
    assert f.severity == "critical"
    assert f.saved_ms
    assert 0 < f.saved_ms < e.per_request.sql_ms
    assert "commit_per_row" not in rules(e)


async def test_commit_per_row_and_row_by_row_write(db: Database, tmp_path: Path) -> None:
    trace, _ = await trace_of(db, tmp_path, "/commit-per-row", "/commit-per-row")
    e = only(trace)
    assert e.commits_per_request.median == 30
    assert e.transactions == 60
    [f] = [f for f in e.findings if f.rule_id == "commit_per_row"]
    assert f.per_request
    assert f.per_request.median == 30
    assert f.source == line_of("await s.commit()")
    assert f.saved_ms
    assert e.commit_ms / 2 * 0.9 < f.saved_ms < e.commit_ms / 2
    assert "row_by_row_write" in rules(e)


async def test_no_finding_where_a_loop_works_on_sets(db: Database, tmp_path: Path) -> None:
    trace, answers = await trace_of(db, tmp_path, "/batches", "/batches", "/health", "/health", "/v1/items/1/logs")
    assert [a.error for a in answers] == [None] * 5
    by_route = {e.route: e for e in trace.endpoints}
    assert not rules(by_route["GET /batches"]) & OF_STATEMENTS
    assert not rules(by_route["GET /health"]) & OF_STATEMENTS
    batches = by_route["GET /batches"]
    assert statement(batches, "UPDATE item").executions == 120
    assert statement(batches, "UPDATE item").calls == 2
    assert statement(batches, "SELECT id FROM log").rows == 1200
    assert batches.statements_per_request.median == 12


async def test_wide_columns_that_are_not_answered(db: Database, tmp_path: Path) -> None:
    trace, _ = await trace_of(db, tmp_path, "/wide", "/wide")
    [f] = [f for f in only(trace).findings if f.rule_id == "wide_columns"]
    assert f.evidence["columns"] == "document"
    assert f.evidence["fetched_bytes_per_request"] == 60 * 6400
    assert f.source == line_of("SELECT * FROM item")


async def test_the_same_statement_with_the_same_parameters(db: Database, tmp_path: Path) -> None:
    trace, _ = await trace_of(db, tmp_path, "/same-twice")
    [f] = [f for f in only(trace).findings if f.rule_id == "duplicate_statement"]
    assert f.per_request
    assert f.per_request.median == 1
    assert f.saved_ms
    assert f.saved_ms >= 2


async def test_gather_and_task_groups_count_once_by_wall_time(db: Database, tmp_path: Path) -> None:
    trace, _ = await trace_of(db, tmp_path, "/together")
    e = only(trace)
    assert e.statements_per_request.median == 5
    sleeping = statement(e, "SELECT pg_sleep")
    assert sleeping.total_ms >= 600
    assert 200 <= e.sql_ms + e.pool_wait_ms <= e.total_ms
    assert e.sql_ms < sleeping.total_ms
    assert sleeping.source == line_of("SELECT pg_sleep(0.2)")
    assert not rules(e) & OF_STATEMENTS


async def test_threads_and_background_tasks_belong_to_their_request(db: Database, tmp_path: Path) -> None:
    trace, _ = await trace_of(db, tmp_path, "/threads", "/background")
    by_route = {e.route: e for e in trace.endpoints}
    [s] = by_route["GET /threads"].statements
    assert s.calls == 2
    assert {s.text for s in by_route["GET /background"].statements} == {"SELECT $1"}
    assert by_route["GET /background"].statements_per_request.median == 2
    assert by_route["GET /background"].background_ms > 0
    assert by_route["GET /background"].sql_ms == 0  # all of it came after the response


async def test_a_blocked_loop_is_named_with_its_line(db: Database, tmp_path: Path) -> None:
    db.psql(traced_app.SCHEMA)
    app = traced_app.make_app(db.dsn)
    traced = TraceMiddleware(app, tmp_path)
    async with lifespan(app):
        await call(traced, AppRequest(path="/health"))
        held = asyncio.create_task(call(traced, AppRequest(path="/held")))
        await asyncio.sleep(0)
        await call(traced, AppRequest(path="/compute"))
        app.state.release.set()
        await held
        await asyncio.sleep(0.1)
    assert traced.watch
    traced.watch.stop()
    traced.recorder.close()
    trace = collect(tmp_path)
    [b] = [b for b in trace.loop_blocks if b.function == "spin"]  # a busy machine may block it elsewhere too
    assert b.route == "GET /compute"
    assert b.max_ms > 250
    assert b.delayed == {"GET /held": 1}
    compute = next(e for e in trace.endpoints if e.route == "GET /compute")
    assert rules(compute) >= {"blocked_loop", "idle_in_transaction"}


async def test_an_application_that_raises_or_streams(db: Database, tmp_path: Path) -> None:
    trace, answers = await trace_of(db, tmp_path, "/raises", "/streams", "/nowhere/5", "/copies", "/run-sync")
    assert answers[0].error
    assert "UndefinedTableError" in answers[0].error
    by_route = {e.route: e for e in trace.endpoints}
    assert by_route["GET /raises"].errors == 1
    assert by_route["GET /raises"].statements[0].errors == 1
    assert by_route["GET /streams"].statements_per_request.median == 3
    assert by_route["GET /streams"].response_bytes == 3000
    assert "GET (no route)" in by_route
    copies = by_route["GET /copies"]
    assert statement(copies, "COPY").rows == 2
    assert sum(s.calls for s in copies.statements if s.text.startswith("SELECT")) == 2
    [s] = by_route["GET /run-sync"].statements
    assert s.function == "sync_part"


async def test_installed_twice_counts_once(db: Database, tmp_path: Path) -> None:
    db.psql(traced_app.SCHEMA)
    app = traced_app.make_app(db.dsn)
    inner = TraceMiddleware(app, tmp_path / "inner")
    outer = TraceMiddleware(inner, tmp_path / "outer")
    async with lifespan(app):
        await call(outer, AppRequest(path="/v1/items/1/logs"))
    assert outer.watch
    outer.watch.stop()
    outer.recorder.close()
    assert only(collect(tmp_path / "outer")).statements_per_request.max == 1
    assert not (tmp_path / "inner").exists()


async def test_hooks_come_off(db: Database, tmp_path: Path) -> None:
    import asyncpg

    before = asyncpg.Connection.__dict__["fetch"]
    await trace_of(db, tmp_path, "/health")
    assert asyncpg.Connection.__dict__["fetch"] is not before
    hooks.uninstall()
    assert asyncpg.Connection.__dict__["fetch"] is before
