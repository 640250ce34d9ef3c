"""Exports a trace as OpenTelemetry spans: a server span per request, a client span per statement.

Attributes follow the semantic conventions for HTTP servers and for databases (stable since 1.25 and 1.33 of
https://opentelemetry.io/docs/specs/semconv/database/database-spans/). Spans are made from the trace's files when they
are exported, so that the traced program pays nothing for them. Needs the extra `opentelemetry`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbperf.errors import CapabilityError
from dbperf.plans.fingerprint import literals_masked
from dbperf.trace.reader import Request, Stream, read_folder
from dbperf.trace.state import COMMIT, POOL, ROLLBACK, STATEMENT, Event

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

_NAMES = {COMMIT: "COMMIT", ROLLBACK: "ROLLBACK", POOL: "pool wait"}


def export(folder: Path, provider: TracerProvider, *, limit: int | None = None) -> int:
    """Makes spans of the requests in a trace folder, with the times at which they happened.

    Args:
        provider: an SDK's provider with the processors and exporters that the spans should go to.
        limit: export only so many requests, the first ones.

    Returns:
        How many spans were made.

    Raises:
        RecordError: the folder holds no trace.
        CapabilityError: opentelemetry is not installed.
    """
    try:
        from opentelemetry import trace
    except ImportError as missing:
        raise CapabilityError("opentelemetry is not installed", hint="pip install 'dbperf[opentelemetry]'") from missing
    stream = read_folder(folder)
    texts = [literals_masked(t.text) or t.text for t in stream.texts]
    tracer = provider.get_tracer("dbperf.trace")
    made = 0
    for request in stream.requests[:limit]:
        span = tracer.start_span(
            request.route, kind=trace.SpanKind.SERVER, start_time=request.started_ns, attributes=_request(request)
        )
        if request.failed or request.status >= 500:
            span.set_status(trace.StatusCode.ERROR)
        inside = trace.set_span_in_context(span)
        made += 1
        for e in request.events:
            if e.kind != STATEMENT and e.kind not in _NAMES:
                continue
            attributes, name = _event(e, stream, texts)
            child = tracer.start_span(
                name, context=inside, kind=trace.SpanKind.CLIENT, start_time=e.started_ns, attributes=attributes
            )
            if e.failed:
                child.set_status(trace.StatusCode.ERROR)
            child.end(e.ended_ns)
            made += 1
        span.end(request.started_ns + request.duration_ns)
    return made


def _request(r: Request) -> dict[str, Any]:
    method, _, route = r.route.partition(" ")
    found: dict[str, Any] = {"http.request.method": method, "http.route": route}
    if r.status:
        found["http.response.status_code"] = r.status
    if r.failed or r.status >= 500:
        found["error.type"] = str(r.status or "exception")
    return found


def _event(e: Event, stream: Stream, texts: list[str]) -> tuple[dict[str, Any], str]:
    found: dict[str, Any] = {"db.system.name": "postgresql"}
    if e.kind == STATEMENT:
        text = texts[e.text_id]
        name = text.split(None, 1)[0].upper() if text.strip() else "statement"
        found |= {"db.query.text": text, "db.operation.name": name}
        if isinstance(e.rows, int):
            found["db.response.returned_rows"] = e.rows
        if e.executions > 1:
            found["db.operation.batch.size"] = e.executions
    else:
        name = _NAMES[e.kind]
        if e.kind != POOL:
            found["db.operation.name"] = name
    file, line, function = stream.sources[e.source_id]
    if file:
        found |= {"code.file.path": file, "code.line.number": line, "code.function.name": function}
    return found, name
