"""From the files of traced processes to the `Trace` record. Fingerprints are computed here, never in the program."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import msgspec

from dbperf.plans.fingerprint import fingerprint, literals_masked
from dbperf.records.statements import Statements
from dbperf.records.trace import EndpointTrace, GcPauses, LoopBlock, RequestMeans, Trace, TraceStatement
from dbperf.trace.findings import findings_of, once_per_process
from dbperf.trace.measures import Key, RequestMeasures, measure
from dbperf.trace.reader import Request, Stream, TextInfo, read_folder
from dbperf.trace.rule_base import event_ms, spread_of
from dbperf.trace.state import Event
from dbperf.trace.stream import FLUSH_S
from dbperf.units import format_bytes

MIN_DELAY_NS = 60_000_000
"""A block is known to start at the loop's last beat, up to 50 ms before it did: less than this is not its doing."""
_WRITE = re.compile(r"\s*(INSERT|UPDATE|DELETE|MERGE|COPY\b.*\bFROM|WITH\b.*\b(INSERT|UPDATE|DELETE)\b)", re.I | re.S)


def collect(
    folder: Path, *, since: datetime | None = None, until: datetime | None = None, root: Path | None = None
) -> Trace:
    """The trace that processes wrote to a folder, while they run or afterwards.

    Args:
        folder: where `TraceMiddleware` wrote.
        since: leave out requests that started before.
        until: leave out requests that started at or after it.
        root: source paths below it are given relative to it (default: the working directory).

    Raises:
        RecordError: the folder holds no trace, or one that can't be read.
    """
    settled = until is not None and datetime.now(UTC) >= until + timedelta(seconds=FLUSH_S)
    stream = read_folder(folder, running=settled)
    lower = int(since.timestamp() * 1e9) if since else 0
    upper = int(until.timestamp() * 1e9) if until else 1 << 63
    requests = [r for r in stream.requests if lower <= r.started_ns < upper]
    stream.blocks = [b for b in stream.blocks if lower <= b.started_ns < upper]
    stream.collections = [c for c in stream.collections if lower <= c[0] < upper]
    _tell_dropped(stream, lower)
    return summarize(stream, requests, root or Path.cwd())


def _tell_dropped(stream: Stream, since_ns: int) -> None:
    """Requests that began in the window may have been in files that are gone, up to when those were last changed."""
    gone = [d for d in stream.dropped.values() if d.until_ns >= since_ns]
    if not gone:
        return
    until = datetime.fromtimestamp(max(d.until_ns for d in gone) / 1e9, UTC)
    size = format_bytes(sum(d.size_bytes or 0 for d in gone))
    at_least = "at least " if any(d.size_bytes is None for d in gone) else ""
    stream.complete = False
    stream.notes.append(
        f"the oldest {len(gone)} files ({at_least}{size}) were removed, with requests until "
        f"{until:%Y-%m-%d %H:%M:%S} UTC: the folder had reached its limit (limit_bytes of TraceMiddleware)"
    )


def summarize(stream: Stream, requests: Sequence[Request], root: Path) -> Trace:
    """The record of some requests of a stream."""
    writes = [is_write(t.text) for t in stream.texts]
    places = [_place(s, root) for s in stream.sources]
    by_route: defaultdict[str, list[RequestMeasures]] = defaultdict(list)
    for r in requests:
        by_route[r.route].append(measure(r, writes))
    endpoints = [_endpoint(route, ms, stream, places) for route, ms in by_route.items()]
    blocks = _blocks(stream, requests, places)
    endpoints = [
        msgspec.structs.replace(e, findings=findings_of(e, by_route[e.route], stream, places, writes, blocks))
        for e in endpoints
    ]
    endpoints = once_per_process(endpoints)
    started = min((r.started_ns for r in requests), default=0)
    ended = max((r.started_ns + r.duration_ns for r in requests), default=0)
    lost = sum(r.lost for r in requests)
    notes = [*stream.notes]
    if lost:
        notes.append(f"{lost} events of requests with very many statements were counted and not kept")
    return Trace(
        started_at=datetime.fromtimestamp(started / 1e9, UTC),
        ended_at=datetime.fromtimestamp(ended / 1e9, UTC),
        requests=len(requests),
        processes=stream.processes,
        endpoints=sorted(endpoints, key=lambda e: (-e.total_ms, e.route)),
        loop_blocks=blocks,
        gc=_gc(stream),
        complete=stream.complete and not lost,
        notes=notes,
    )


def join(trace: Trace, statements: Statements) -> Trace:
    """The trace with pg_stat_statements' queryid and server time on every statement that both saw, by fingerprint."""
    by_fingerprint = {s.fingerprint: s for s in statements.statements}

    def joined(s: TraceStatement) -> TraceStatement:
        server = by_fingerprint.get(s.fingerprint or "")
        if server is None:
            return s
        mean = server.mean_ms
        server_ms = mean * s.executions if mean is not None else None
        return msgspec.structs.replace(s, queryid=server.queryid, server_ms=server_ms)

    endpoints = [msgspec.structs.replace(e, statements=[joined(s) for s in e.statements]) for e in trace.endpoints]
    return msgspec.structs.replace(trace, endpoints=endpoints)


def _place(source: tuple[str, int, str], root: Path) -> str | None:
    file, line, _ = source
    if not file:
        return None
    path = Path(file)
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return f"{shown}:{line}"


def _endpoint(route: str, ms: list[RequestMeasures], stream: Stream, places: list[str | None]) -> EndpointTrace:
    n = len(ms)
    total = sum(m.request.duration_ns for m in ms) / 1e6
    sql = sum(m.sql_ns for m in ms) / 1e6
    pool = sum(m.pool_ns for m in ms) / 1e6
    commits = [c for m in ms for c in m.commits]
    statements = _statements(ms, stream, places)
    known = [s for s in statements if s.row_bytes is not None and s.rows is not None]
    return EndpointTrace(
        route=route,
        handler=stream.handlers.get(route),
        requests=n,
        errors=sum(m.request.failed or m.request.status >= 500 for m in ms),
        unfinished=sum(not m.request.finished for m in ms),
        total_ms=total,
        duration_ms=spread_of([m.request.duration_ns / 1e6 for m in ms]),
        statements_per_request=spread_of([m.statements for m in ms]),
        sql_ms=sql,
        pool_wait_ms=pool,
        python_ms=total - sql - pool,
        per_request=RequestMeans(
            duration_ms=total / n, sql_ms=sql / n, pool_wait_ms=pool / n, python_ms=(total - sql - pool) / n
        ),
        transactions=sum(len(m.transactions) for m in ms),
        commits_per_request=spread_of([len(m.commits) for m in ms]),
        commit_ms=sum(event_ms(c) for c in commits),
        commit_median_ms=median([event_ms(c) for c in commits]) if commits else None,
        rollbacks=sum(m.rollbacks for m in ms),
        pings=sum(len(m.pings) for m in ms),
        ping_ms=sum(event_ms(p) for m in ms for p in m.pings),
        checkouts=sum(len(m.checkouts) for m in ms),
        gc_ms=sum(m.request.gc_ns for m in ms) / 1e6,
        background_ms=sum(m.request.background_ns for m in ms) / 1e6,
        fetched_bytes=int(sum((s.row_bytes or 0) * (s.rows or 0) for s in known)) if known else None,
        response_bytes=sum(m.request.response_bytes for m in ms),
        statements=statements,
        findings=[],
    )


def _statements(ms: list[RequestMeasures], stream: Stream, places: list[str | None]) -> list[TraceStatement]:
    """One entry per fingerprint and source line: texts that differ in the length of a list are one statement."""
    events: defaultdict[tuple[str, int], list[Event]] = defaultdict(list)
    most: Counter[tuple[str, int]] = Counter()
    first: dict[tuple[str, int], int] = {}
    for m in ms:
        counts: Counter[tuple[str, int]] = Counter()
        for (text, source), found in m.by_statement.items():
            key = (shape_of(stream.texts[text]), source)
            first.setdefault(key, text)
            events[key].extend(found)
            counts[key] += len(found)
        for key, count in counts.items():
            most[key] = max(most[key], count)
    out = []
    for key, found in events.items():
        info = stream.texts[first[key]]
        times = [event_ms(e) for e in found]
        rows = [e.rows for e in found if isinstance(e.rows, int)]
        out.append(
            TraceStatement(
                fingerprint=fingerprint(info.text),
                text=literals_masked(info.text) or info.text,
                source=places[key[1]],
                function=stream.sources[key[1]][2] or None,
                calls=len(found),
                per_request=len(found) / len(ms),
                max_per_request=most[key],
                executions=sum(e.executions for e in found),
                total_ms=sum(times),
                median_ms=median(times),
                max_ms=max(times),
                rows=sum(rows) if rows else None,
                row_bytes=info.row_bytes,
                wide_columns=info.wide,
                errors=sum(e.failed for e in found),
            )
        )
    return sorted(out, key=lambda s: (-s.total_ms, s.text))


def is_write(text: str) -> bool:
    """Whether a statement changes data.

    >>> [is_write(t) for t in ("INSERT INTO t VALUES ($1)", "SELECT a FROM t")]
    [True, False]
    """
    return _WRITE.match(text) is not None


def shape_of(text: TextInfo) -> str:
    """What makes two texts the same statement: the fingerprint, or the text itself where there is none."""
    return fingerprint(text.text) or text.text


def _blocks(stream: Stream, requests: Sequence[Request], places: list[str | None]) -> list[LoopBlock]:
    routes = {(r.process, r.request_id): r.route for r in requests}
    grouped: defaultdict[Key, list[int]] = defaultdict(list)
    delayed: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    by_route: dict[Key, str | None] = {}
    route_ids: dict[str | None, int] = {None: -1}
    for b in stream.blocks:
        route = routes.get((b.process, b.request_id))
        key = (b.source, route_ids.setdefault(route, len(route_ids)))
        by_route[key] = route
        grouped[key].append(b.duration_ns)
        end = b.started_ns + b.duration_ns
        for r in requests:
            if r.started_ns >= end:
                break
            waited = min(end, r.started_ns + r.duration_ns) - max(b.started_ns, r.started_ns)
            if r.process == b.process and r.request_id != b.request_id and waited >= MIN_DELAY_NS:
                delayed[key][r.route] += 1
    found = [
        LoopBlock(
            source=places[key[0]] or "?",
            function=stream.sources[key[0]][2],
            route=by_route[key],
            count=len(times),
            total_ms=sum(times) / 1e6,
            max_ms=max(times) / 1e6,
            delayed=dict(delayed[key].most_common()),
        )
        for key, times in grouped.items()
    ]
    return sorted(found, key=lambda b: -b.total_ms)


def _gc(stream: Stream) -> GcPauses | None:
    if not stream.collections:
        return None
    times = [duration / 1e6 for _, duration, _ in stream.collections]
    generations = Counter(str(generation) for _, _, generation in stream.collections)
    return GcPauses(count=len(times), total_ms=sum(times), max_ms=max(times), by_generation=dict(generations))
