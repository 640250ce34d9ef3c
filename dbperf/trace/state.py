"""What the hooks write while a request runs. Everything here is on the hot path: slots, tuples and dicts only."""

from __future__ import annotations

import os
from collections.abc import Sized
from contextvars import ContextVar
from time import perf_counter_ns
from typing import Any, NamedTuple

STATEMENT, BEGIN, COMMIT, ROLLBACK, POOL, PING, CHATTER, AUTOFLUSH, FETCH, PREPARE = range(10)
"""Kinds of events. FETCH continues a cursor; PREPARE is a round trip that parses; CHATTER is a pool's clean-up, and
savepoints."""

MAX_EVENTS = 50_000
"""Per request; what comes after is counted and not kept."""
WIDE_COLUMN_BYTES = 2000
"""TOAST_TUPLE_THRESHOLD is about 2 kB (PostgreSQL manual, "TOAST")."""

_KNOWN_TEXTS = {
    ";": PING,
    "BEGIN": BEGIN,
    "BEGIN;": BEGIN,
    "COMMIT": COMMIT,
    "COMMIT;": COMMIT,
    "ROLLBACK": ROLLBACK,
    "ROLLBACK;": ROLLBACK,
}


RawEvent = tuple[int, int, int, int, int, "int | str | None", int, "int | None", int, bool]
"""An `Event` as the hooks make it: a plain tuple of plain values is half the price, and the garbage collector lets go
of it at once."""


class Event(NamedTuple):
    """One thing that a request did. Times are perf_counter_ns."""

    kind: int
    text_id: int
    source_id: int
    started_ns: int
    ended_ns: int
    rows: int | str | None
    """A count, or the driver's status ("UPDATE 3"), which the writer reads."""
    executions: int
    parameters: int | None
    """A hash that is the same for the same parameters in this process; None: not hashable."""
    connection: int
    failed: bool


class Text:
    """A statement's text as this process first saw it."""

    __slots__ = ("calls", "kind", "row_bytes", "text", "text_id", "wide")

    def __init__(self, text: str, text_id: int) -> None:
        self.text = text
        self.text_id = text_id
        self.kind = kind_of(text)
        self.calls = 0
        self.row_bytes: float | None = None
        self.wide: dict[str, float] = {}


def kind_of(text: str) -> int:
    """What a text does to the connection: transaction control, a pool's reset, a ping, or a statement.

    >>> [kind_of(t) for t in ("COMMIT;", "begin read only", "SELECT 1")] == [COMMIT, BEGIN, STATEMENT]
    True
    """
    if (known := _KNOWN_TEXTS.get(text)) is not None:
        return known
    head = text[:40].lstrip().upper()
    if head.startswith(("BEGIN", "START TRANSACTION", "SAVEPOINT", "RELEASE ")):
        return BEGIN if head.startswith(("BEGIN", "START")) else CHATTER
    if head.startswith(("COMMIT", "END;")) or head == "END":
        return COMMIT
    if head.startswith("ROLLBACK"):
        return CHATTER if head.startswith("ROLLBACK TO") else ROLLBACK
    if head.startswith(("SELECT PG_ADVISORY_UNLOCK_ALL()", "CLOSE ALL", "RESET ALL", "DISCARD ALL")):
        return CHATTER
    return STATEMENT


class Texts:
    """Numbers every statement text and source line once, so that an event holds small integers."""

    def __init__(self) -> None:
        self.by_text: dict[str, Text] = {}
        self.texts: list[Text] = []
        self.by_source: dict[tuple[str, int], int] = {}
        self.sources: list[tuple[str, int, str]] = [("", 0, "")]
        self.sampled: list[Text] = []
        """Texts whose row size changed since the writer last looked."""

    def text(self, text: str) -> Text:
        found = self.by_text.get(text)
        if found is None:
            found = Text(text, len(self.texts))
            self.texts.append(found)
            self.by_text[text] = found
        return found

    def source_id(self, file: str, line: int, function: str) -> int:
        key = (file, line)
        found = self.by_source.get(key)
        if found is None:
            found = len(self.sources)
            self.sources.append((file, line, function))
            self.by_source[key] = found
        return found


texts = Texts()
"""Of this process. It grows with the number of different texts; a program that puts values into its SQL makes many,
and pg_stat_statements suffers first."""


class RequestTrace:
    """One request while it runs."""

    __slots__ = (
        "ended_ns", "events", "failed", "finished_ns", "gc_ns", "lost", "method", "path",
        "recorder", "request_id", "response_bytes", "scope", "send", "started_ns", "status",
    )  # fmt: skip

    def __init__(self, recorder: Any, scope: Any, request_id: int, gc_ns: int, send: Any = None) -> None:
        self.recorder = recorder
        self.scope = scope
        self.send = send
        self.request_id = request_id
        self.method = scope["method"]
        self.path = scope["path"]
        self.gc_ns = gc_ns
        self.status = 0
        self.response_bytes = 0
        self.events: list[RawEvent] = []
        self.lost = 0
        self.failed = False
        self.ended_ns = 0
        """When the application handed over the last part of the response."""
        self.finished_ns = 0
        """When the application returned: background tasks are done."""
        self.started_ns = perf_counter_ns()

    def sent(self, message: Any) -> Any:
        """ASGI's `send`: notes what the application sends. It is no coroutine of its own: that would cost a third of
        what the whole middleware does."""
        if message["type"] == "http.response.body":
            if body := message.get("body"):
                self.response_bytes += len(body)
            if not message.get("more_body"):
                self.ended_ns = perf_counter_ns()
        elif message["type"] == "http.response.start":
            self.status = message["status"]
        return self.send(message)

    def add(self, event: RawEvent) -> None:
        if self.finished_ns:
            self.recorder.late(self.request_id, event)
        elif len(self.events) < MAX_EVENTS:
            self.events.append(event)
        else:
            self.lost += 1


current: ContextVar[RequestTrace | None] = ContextVar("dbperf_trace", default=None)
"""The request that the running code works for. Tasks, task groups and to_thread inherit it; `threads` hands it to
thread pools. It is None while a pool pings or connects, so that their statements count as the pool's wait."""

call_source: ContextVar[int] = ContextVar("dbperf_trace_call_source", default=0)
"""The line that called a library's coroutine: where gather starts the coroutine, its caller is not on the stack."""

# Bound once: on a name that a module imported, CPython makes a new bound method for each call.
traced_request = current.get
known_source = call_source.get


_SALT = int.from_bytes(os.urandom(7))


def parameters_hash(args: Any) -> int | None:
    """The same number for the same parameters, None for what can't be hashed (lists). Python's hash of -1 is that of
    -2, so two integers can be mistaken for each other: what follows from equality is advice, never a result.

    The number is written to the trace: the salt keeps small values from being guessed from it."""
    try:
        return hash((_SALT, args))
    except TypeError:
        return None


def executions_of(args: Any) -> int:
    return len(args) if isinstance(args, Sized) else 1


def sample_rows(text: Text, rows: Any) -> None:
    """Estimates the size of a statement's rows from its first, middle and last row, at the 1st, 2nd, 4th, 8th, ...
    call that returned rows."""
    n = len(rows)
    picked = [rows[i] for i in sorted({0, n // 2, n - 1})]
    widths: dict[str, float] = {}
    for row in picked:
        for key, value in row.items():
            widths[key] = widths.get(key, 0.0) + _size(value) / len(picked)
    text.row_bytes = sum(widths.values())
    text.wide = {k: w for k, w in widths.items() if w >= WIDE_COLUMN_BYTES}
    texts.sampled.append(text)


def _size(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    nbytes = getattr(value, "nbytes", None)  # numpy arrays and memoryviews
    if isinstance(nbytes, int):
        return nbytes
    if isinstance(value, list | tuple):
        return sum(_size(v) for v in value[:16]) * max(1, len(value) // 16) if value else 0
    dimensions = getattr(value, "dimensions", None)  # pgvector.Vector
    if callable(dimensions):
        return 4 * int(dimensions())
    return 8
