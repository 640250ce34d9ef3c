"""Spans of real requests, under the semantic conventions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from dbperf.trace import hooks
from dbperf.trace.inprocess import AppRequest, call, lifespan
from dbperf.trace.middleware import TraceMiddleware
from dbperf.trace.otel import export
from tests.conftest import Database
from tests.support import traced_app


@pytest.fixture(autouse=True)
def unhooked() -> Iterator[None]:
    yield
    hooks.uninstall()


@pytest.mark.pg("== 18")
async def test_spans(db: Database, tmp_path: Path) -> None:
    db.psql(traced_app.SCHEMA)
    app = traced_app.make_app(db.dsn)
    traced = TraceMiddleware(app, tmp_path, watch_loop=False)
    async with lifespan(app):
        for path in ("/v1/items/3/logs", "/commit-per-row", "/raises"):
            await call(traced, AppRequest(path=path))
    traced.recorder.close()
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    made = export(tmp_path, provider)
    spans = memory.get_finished_spans()
    assert made == len(spans)
    servers = {s.name: s for s in spans if s.kind == SpanKind.SERVER}
    assert set(servers) == {"GET /v1/items/{item_id}/logs", "GET /commit-per-row", "GET /raises"}

    def children(name: str) -> list[ReadableSpan]:
        me = servers[name].context
        assert me
        return [s for s in spans if s.parent and s.parent.span_id == me.span_id]

    [statement] = [s for s in children("GET /v1/items/{item_id}/logs") if s.name == "SELECT"]
    attributes = dict(statement.attributes or {})
    assert attributes["db.system.name"] == "postgresql"
    assert attributes["db.query.text"] == "SELECT * FROM log WHERE item_id = $1"
    assert attributes["db.response.returned_rows"] == 10
    assert str(attributes["code.file.path"]).endswith("traced_app.py")
    assert sum(s.name == "COMMIT" for s in children("GET /commit-per-row")) == 30
    assert servers["GET /raises"].status.status_code == StatusCode.ERROR
    server = servers["GET /v1/items/{item_id}/logs"]
    times = [server.start_time, statement.start_time, statement.end_time, server.end_time]
    assert times == sorted(times, key=lambda t: t or 0)
    assert all(times)
