"""What one request did, in numbers: the input of the aggregation and of the rules."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from dbperf.trace.reader import Request
from dbperf.trace.state import (
    AUTOFLUSH,
    BEGIN,
    CHATTER,
    COMMIT,
    FETCH,
    PING,
    POOL,
    PREPARE,
    ROLLBACK,
    STATEMENT,
    Event,
)  # fmt: skip

_SQL = frozenset((STATEMENT, FETCH, PREPARE, BEGIN, COMMIT, ROLLBACK, CHATTER, PING))

Key = tuple[int, int]
"""Text and source number."""


@dataclass
class Transaction:
    """From BEGIN to its COMMIT or ROLLBACK on one connection."""

    duration_ns: int
    idle_ns: int
    """Within it, with no statement under way on the connection."""
    idle_source: int
    """The line that issued the statement after the longest idle stretch."""


@dataclass
class RequestMeasures:
    """One request, measured from its events. Times are nanoseconds."""

    request: Request
    statements: int = 0
    sql_ns: int = 0
    pool_ns: int = 0
    by_statement: dict[Key, list[Event]] = field(default_factory=dict)
    duplicates: Counter[Key] = field(default_factory=Counter)
    """How often a statement ran again with the same parameters and no write in between."""
    commits: list[Event] = field(default_factory=list)
    rollbacks: int = 0
    pings: list[Event] = field(default_factory=list)
    checkouts: list[Event] = field(default_factory=list)
    autoflushes: list[Event] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)


def measure(request: Request, is_write: list[bool]) -> RequestMeasures:
    """Measures one request; `is_write` says of every text number whether it changes data."""
    m = RequestMeasures(request)
    end_ns = request.started_ns + request.duration_ns
    grouped: defaultdict[Key, list[Event]] = defaultdict(list)
    fetches: list[Event] = []
    last_write: dict[tuple[int, int], int] = {}
    writes = 0
    for e in sorted(request.events, key=lambda e: e.started_ns):
        if e.kind == STATEMENT:
            m.statements += 1
            key = (e.text_id, e.source_id)
            grouped[key].append(e)
            if is_write[e.text_id]:
                writes += 1
            elif e.parameters is not None:
                same = (e.text_id, e.parameters)
                if last_write.get(same) == writes:
                    m.duplicates[key] += 1
                last_write[same] = writes
        elif e.kind == FETCH:
            fetches.append(e)
        elif e.kind == COMMIT:
            m.commits.append(e)
        elif e.kind == ROLLBACK:
            m.rollbacks += 1
        elif e.kind == PING:
            m.pings.append(e)
        elif e.kind == POOL:
            m.checkouts.append(e)
        elif e.kind == AUTOFLUSH:
            m.autoflushes.append(e)
    m.by_statement = dict(grouped)
    _add_fetches(m.by_statement, fetches)
    # Only what falls into the request's own time counts against it; a background task has its own.
    sql = _clipped((e for e in request.events if e.kind in _SQL), request.started_ns, end_ns)
    pool = _clipped((e for e in request.events if e.kind == POOL), request.started_ns, end_ns)
    m.sql_ns = union_ns(sql)
    m.pool_ns = union_ns(sql + pool) - m.sql_ns
    m.transactions = _transactions(request.events)
    return m


def _add_fetches(grouped: dict[Key, list[Event]], fetches: list[Event]) -> None:
    """A cursor's later fetches belong to the statement that opened it: their time and rows are added to it."""
    by_text = {key[0]: key for key in grouped}
    for f in fetches:
        key = by_text.get(f.text_id)
        if key is None:
            continue
        opened = grouped[key][-1]
        rows = (opened.rows or 0) if isinstance(opened.rows, int | None) else 0
        more = f.rows if isinstance(f.rows, int) else 0
        grouped[key][-1] = opened._replace(ended_ns=opened.ended_ns + f.ended_ns - f.started_ns, rows=rows + more)


def _clipped(events: Iterable[Event], start_ns: int, end_ns: int) -> list[tuple[int, int]]:
    return [
        (max(e.started_ns, start_ns), min(e.ended_ns, end_ns))
        for e in events
        if e.started_ns < end_ns and e.ended_ns > start_ns
    ]


def union_ns(intervals: Iterable[tuple[int, int]]) -> int:
    """The length of the union of intervals.

    >>> union_ns([(0, 10), (5, 12), (20, 21)])
    13
    """
    total, reached = 0, -1
    for start, end in sorted(intervals):
        if end <= reached:
            continue
        total += end - max(start, reached) if start < reached else end - start
        reached = end
    return total


def _transactions(events: list[Event]) -> list[Transaction]:
    by_connection: defaultdict[int, list[Event]] = defaultdict(list)
    for e in sorted(events, key=lambda e: e.started_ns):
        if e.kind in _SQL:
            by_connection[e.connection].append(e)
    found = []
    for on_one in by_connection.values():
        opened: int | None = None
        last_end = idle = longest = source = 0
        for e in on_one:
            if e.kind == BEGIN:
                opened, last_end, idle, longest, source = e.started_ns, e.ended_ns, 0, 0, 0
                continue
            if opened is None:
                continue
            gap = max(0, e.started_ns - last_end)
            idle += gap
            if gap > longest:
                longest, source = gap, e.source_id
            last_end = max(last_end, e.ended_ns)
            if e.kind in (COMMIT, ROLLBACK):
                found.append(Transaction(e.ended_ns - opened, idle, source))
                opened = None
    return found
