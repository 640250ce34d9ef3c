"""Rules on statements: N+1, row-by-row writes and commits, duplicates, wide columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean, median
from typing import Literal, NamedTuple

from dbperf.plans.fingerprint import fingerprint, literals_masked
from dbperf.records.trace import Spread, TraceFinding
from dbperf.trace.measures import RequestMeasures
from dbperf.trace.rule_base import MIN_REPEATS, MIN_SAVED_MS, Context, event_ms, severity_of
from dbperf.trace.state import Event
from dbperf.units import format_bytes, format_ms

SET_STATEMENT_MS_PER_ROW = 0.005
"""What one more row costs a set-based statement: 5 µs, its way through a scan, the wire and asyncpg."""
MIN_WIDE_BYTES = 64 * 1024
"""Wide columns fetched per request from here on are worth a line."""
WIDE_RATIO = 10.0
"""Fetched over answered bytes: the wide columns were read and not handed on."""
SLOW_COMMIT_MS, SLOW_COMMIT_SHARE = 1.0, 0.2

_SET_BASED = re.compile(
    r"=\s*ANY\s*\(|\bunnest\s*\(|\bIN\s*\((?:[^()]*,){7}|\bVALUES\s*\([^()]*\)\s*,\s*\(|^\s*COPY\b", re.IGNORECASE
)


class TextKind(NamedTuple):
    """What of a statement's text matters for whether it loops."""

    shape: str
    """The same for texts that are the same statement."""
    set_based: bool
    is_write: bool


def repeated_statement(c: Context) -> list[TraceFinding]:
    """One statement per item instead of one for all: an N+1 of reads, or row-by-row writes.

    Counted per fingerprint and source line. A loop whose statement takes a set already (ANY, unnest, long IN lists,
    multi-row VALUES, COPY, executemany) is one statement per batch, and no finding.
    Saved: the time of the calls less what one statement for all would take, which is estimated as the longest call
    plus 5 µs for every row that all of them touched.
    """
    groups: dict[tuple[str, int], dict[int, list[Event]]] = {}
    text_of: dict[tuple[str, int], int] = {}
    for i, m in enumerate(c.requests):
        for (text, source), events in m.by_statement.items():
            single = [e for e in events if e.executions == 1]
            if not single or is_set_based(c.stream.texts[text].text):
                continue
            key = (c.shape(text), source)
            text_of.setdefault(key, text)
            groups.setdefault(key, {}).setdefault(i, []).extend(single)
    found = []
    for key, by_request in groups.items():
        counts = [len(by_request.get(i, ())) for i in range(len(c.requests))]
        looping = [events for events in by_request.values() if len(events) >= MIN_REPEATS]
        # Half of the requests that ran it at all must loop: one odd request is not the endpoint's way.
        if len(looping) * 2 < len(by_request) or not looping or all(_one_parameter_set(e) for e in looping):
            continue
        saved = fmean(_saved_by_one(events) for events in looping)
        if saved < MIN_SAVED_MS:
            continue
        found.append(_repeated(c, text_of[key], key[1], counts, looping, saved))
    return found


def is_set_based(text: str) -> bool:
    """Whether a statement works on a set already.

    >>> [is_set_based(t) for t in ("SELECT a FROM t WHERE b = $1", "SELECT a FROM t WHERE b = ANY ($1)")]
    [False, True]
    """
    return _SET_BASED.search(text) is not None


def loops_in(m: RequestMeasures, texts: Sequence[TextKind]) -> set[Literal["n_plus_one", "row_by_row_write"]]:
    """What `repeated_statement` would find if this one request were all that the endpoint did."""
    groups: dict[tuple[str, int], list[Event]] = {}
    writes: set[tuple[str, int]] = set()
    for (text, source), events in m.by_statement.items():
        kind = texts[text]
        if not kind.set_based:
            groups.setdefault((kind.shape, source), []).extend(e for e in events if e.executions == 1)
            if kind.is_write:
                writes.add((kind.shape, source))
    return {
        "row_by_row_write" if key in writes else "n_plus_one"
        for key, events in groups.items()
        if len(events) >= MIN_REPEATS and not _one_parameter_set(events) and _saved_by_one(events) >= MIN_SAVED_MS
    }


def _one_parameter_set(events: list[Event]) -> bool:
    """The same question again and again (polling) is a duplicate, not an N+1."""
    return len({e.parameters for e in events}) == 1 and events[0].parameters is not None


def _saved_by_one(events: list[Event]) -> float:
    times = [event_ms(e) for e in events]
    rows = sum(e.rows for e in events if isinstance(e.rows, int))
    return max(0.0, sum(times) - max(times) - SET_STATEMENT_MS_PER_ROW * rows)


def _repeated(
    c: Context, text: int, source: int, counts: list[int], looping: list[list[Event]], saved: float
) -> TraceFinding:
    statement = c.stream.texts[text].text
    write = c.is_write[text]
    often = [len(e) for e in looping]
    per = Spread(median=float(median(often)), max=float(max(counts)))
    verb = statement.split(None, 1)[0].upper()
    return TraceFinding(
        rule_id="row_by_row_write" if write else "n_plus_one",
        severity=severity_of(saved, c.request_ms),
        title=(
            f"{verb} of one row, {per.median:g} times per request"
            if write
            else f"N+1: the same {verb} {per.median:g} times per request"
        ),
        route=c.endpoint.route,
        fingerprint=fingerprint(statement),
        text=literals_masked(statement) or statement,
        source=c.places[source],
        per_request=per,
        saved_ms=saved,
        evidence={
            "calls": sum(often),
            "requests": len(looping),
            "median_ms": median(event_ms(e) for events in looping for e in events),
            "total_ms_per_request": fmean(sum(event_ms(e) for e in events) for events in looping),
            "function": c.stream.sources[source][2] or None,
        },
        advice=(
            "Write all rows with one statement: UPDATE ... FROM (SELECT ... or unnest($1::...)), INSERT ... SELECT, or "
            "executemany where every row needs values of its own."
            if write
            else "Ask once for all: JOIN the table, or WHERE key = ANY($1) and group in Python; with an ORM "
            "selectinload or joinedload; for the newest n per key a LATERAL join or row_number()."
        ),
    )


def commit_per_row(c: Context) -> list[TraceFinding]:
    """A request that commits again and again. Saved: all commits but one, as the client saw them."""
    many = [m.commits for m in c.requests if len(m.commits) >= MIN_REPEATS]
    if len(many) * 2 < sum(bool(m.commits) for m in c.requests) or not many:
        return []
    times = [event_ms(e) for commits in many for e in commits]
    saved = fmean(sum(event_ms(e) for e in commits) * (1 - 1 / len(commits)) for commits in many)
    if saved < MIN_SAVED_MS:
        return []
    per = Spread(median=float(median(len(x) for x in many)), max=float(max(len(x) for x in many)))
    sources = [e.source_id for commits in many for e in commits]
    source = max(set(sources), key=sources.count)
    return [
        TraceFinding(
            rule_id="commit_per_row",
            severity=severity_of(saved, c.request_ms),
            title=f"{per.median:g} commits per request",
            route=c.endpoint.route,
            source=c.places[source],
            per_request=per,
            saved_ms=saved,
            evidence={
                "commits": len(times),
                "requests": len(many),
                "commit_median_ms": median(times),
                "commit_max_ms": max(times),
                "commit_ms_per_request": sum(times) / len(many),
            },
            advice="Commit once, at the end: every COMMIT waits until its WAL is on disk. pg_stat_statements does not "
            "show that wait; the times here are the client's. Where one transaction would be too long, commit per "
            "batch of some hundred rows.",
        )
    ]


def slow_commit(c: Context) -> list[TraceFinding]:
    """A few commits that are a good part of the request: the disk's flush, a synchronous standby, deferred triggers."""
    commits = [e for m in c.requests if len(m.commits) < MIN_REPEATS for e in m.commits]
    if not commits:
        return []
    typical = median(event_ms(e) for e in commits)
    mean_per_request = sum(event_ms(e) for e in commits) / len(c.requests)
    if typical < SLOW_COMMIT_MS or mean_per_request < SLOW_COMMIT_SHARE * c.request_ms:
        return []
    return [
        TraceFinding(
            rule_id="slow_commit",
            severity="info",
            title=f"COMMIT takes {format_ms(typical)} of a request",
            route=c.endpoint.route,
            source=c.places[commits[0].source_id],
            per_request=c.endpoint.commits_per_request,
            evidence={"commit_median_ms": typical, "commit_max_ms": max(event_ms(e) for e in commits)},
            advice="The time is the WAL flush (wait event IO/WalSync) or a synchronous standby: faster storage for "
            "pg_wal, commit_delay under concurrency, or synchronous_commit = off for data that may be lost.",
        )
    ]


def duplicate_statement(c: Context) -> list[TraceFinding]:
    """The same read with the same parameters twice in a request, nothing written in between. Saved: the repeats."""
    repeats: dict[tuple[str, int], list[int]] = {}
    text_of: dict[tuple[str, int], int] = {}
    for m in c.requests:
        for (text, source), n in m.duplicates.items():
            key = (c.shape(text), source)
            text_of.setdefault(key, text)
            repeats.setdefault(key, []).append(n)
    found = []
    for key, counts in repeats.items():
        if len(counts) * 2 < len(c.requests):
            continue
        text, source = text_of[key], key[1]
        times = [event_ms(e) for m in c.requests for e in m.by_statement.get((text, source), ())]
        saved = fmean(counts) * median(times) if times else 0.0
        if saved < MIN_SAVED_MS:
            continue
        statement = c.stream.texts[text].text
        found.append(
            TraceFinding(
                rule_id="duplicate_statement",
                severity=severity_of(saved, c.request_ms),
                title="The same statement with the same parameters again in one request",
                route=c.endpoint.route,
                fingerprint=fingerprint(statement),
                text=literals_masked(statement) or statement,
                source=c.places[source],
                per_request=Spread(median=float(median(counts)), max=float(max(counts))),
                saved_ms=saved,
                evidence={"median_ms": median(times), "requests": len(counts)},
                advice="Keep the first answer for the rest of the request: pass it on, or use the session's identity "
                "map (session.get) instead of a new query.",
            )
        )
    return found


def wide_columns(c: Context) -> list[TraceFinding]:
    """Wide columns read by the row and not handed on: whole ORM rows with their vectors or documents.

    Whether Python looked at them can't be seen from outside; that the answer is far smaller than what was fetched can.
    Saved: the statements' time, by the wide columns' share of the fetched bytes.
    """
    found = []
    n = len(c.requests)
    answered = (c.endpoint.response_bytes or 0) / n
    for s in c.endpoint.statements:
        if not s.wide_columns or not s.rows:
            continue
        fetched = sum(s.wide_columns.values()) * s.rows / n
        if fetched < MIN_WIDE_BYTES or fetched < WIDE_RATIO * answered:
            continue
        names = ", ".join(sorted(s.wide_columns))
        share = sum(s.wide_columns.values()) / (s.row_bytes or 1.0)
        found.append(
            TraceFinding(
                rule_id="wide_columns",
                severity="critical" if fetched >= 16 * MIN_WIDE_BYTES else "warning",
                title=f"{format_bytes(fetched)} of {names} fetched per request, {format_bytes(answered)} answered",
                route=c.endpoint.route,
                fingerprint=s.fingerprint,
                text=s.text,
                source=s.source,
                per_request=Spread(median=s.per_request, max=float(s.max_per_request)),
                saved_ms=share * s.total_ms / n,
                evidence={
                    "columns": names,
                    "fetched_bytes_per_request": round(fetched),
                    "response_bytes_per_request": round(answered),
                    "rows_per_request": s.rows / n,
                    "statement_ms_per_request": s.total_ms / n,
                },
                advice=f"Leave {names} out of the SELECT: name the columns, or load_only() / deferred() in SQLAlchemy. "
                "What is computed from them belongs into the database (pgvector's <=> for a cosine distance).",
            )
        )
    return found
