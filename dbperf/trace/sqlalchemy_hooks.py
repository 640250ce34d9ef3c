"""SQLAlchemy 2: statements of every driver but asyncpg (which has hooks of its own), pools, pings and autoflush.

The methods through which a dialect talks to its driver are replaced, not listened to: an event listener on all
engines costs every statement of every engine, asyncpg's too, more than the rest of the trace.
"""

from __future__ import annotations

import sys
from time import perf_counter_ns
from typing import Any

from dbperf.trace.asyncpg_hooks import Patches, remember_caller
from dbperf.trace.source import endpoint_source_id, source_id
from dbperf.trace.state import (
    AUTOFLUSH,
    BEGIN,
    COMMIT,
    PING,
    POOL,
    ROLLBACK,
    current,
    executions_of,
    known_source,
    parameters_hash,
    texts,
    traced_request,
)

_CONNECT = "_ConnectionRecord__connect"
_ABSENT = object()


def install() -> Patches:
    """Hooks SQLAlchemy's dialects, pools and sessions, existing and future; returns what it replaced."""
    from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
    from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
    from sqlalchemy.engine.default import DefaultDialect
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session
    from sqlalchemy.pool.base import _ConnectionRecord

    done: Patches = []

    def patch(owner: Any, name: str, hook: Any) -> None:
        done.append((owner, name, owner.__dict__.get(name, _ABSENT)))
        setattr(owner, name, hook)

    hooks = {
        "do_execute": _execute(DefaultDialect.do_execute, many=False),
        "do_executemany": _execute(DefaultDialect.do_executemany, many=True),
        "do_execute_no_params": _execute_no_params(DefaultDialect.do_execute_no_params),
        "do_begin": _transaction(DefaultDialect.do_begin, BEGIN),
        "do_commit": _transaction(DefaultDialect.do_commit, COMMIT),
        "do_rollback": _transaction(DefaultDialect.do_rollback, ROLLBACK),
    }
    for name, hook in hooks.items():
        # asyncpg keeps the originals: what passes here is seen again, with the server's own text, by asyncpg's hooks.
        if name not in PGDialect_asyncpg.__dict__:
            patch(PGDialect_asyncpg, name, DefaultDialect.__dict__[name])
        patch(DefaultDialect, name, hook)
    many = PGDialect_psycopg2.__dict__.get("do_executemany")
    if many is not None:
        patch(PGDialect_psycopg2, "do_executemany", _execute(many, many=True))
    patch(DefaultDialect, "_do_ping_w_event", _ping(DefaultDialect._do_ping_w_event))
    patch(_ConnectionRecord, "checkout", classmethod(_checkout(_ConnectionRecord.__dict__["checkout"].__func__)))
    patch(_ConnectionRecord, _CONNECT, _connect(_ConnectionRecord.__dict__[_CONNECT]))
    patch(Session, "_autoflush", _autoflush(Session._autoflush))
    for owner in (AsyncConnection, AsyncSession):
        for name in ("execute", "scalar", "scalars", "commit"):
            patch(owner, name, remember_caller(owner.__dict__[name]))
    for name in ("get", "get_one", "refresh", "flush", "merge", "delete", "stream"):
        patch(AsyncSession, name, remember_caller(AsyncSession.__dict__[name]))
    return done


def restore(owner: Any, name: str, original: Any) -> None:
    """Puts one replaced attribute back."""
    if original is _ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, original)


def _execute(original: Any, *, many: bool) -> Any:
    def hook(self: Any, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        trace = traced_request()
        if trace is None:
            original(self, cursor, statement, parameters, context)
            return
        same = (
            None if many else parameters_hash(tuple(parameters.items() if isinstance(parameters, dict) else parameters))
        )
        _timed(
            trace,
            cursor,
            statement,
            executions_of(parameters) if many else 1,
            same,
            original,
            self,
            parameters,
            context,
        )

    return hook


def _execute_no_params(original: Any) -> Any:
    def hook(self: Any, cursor: Any, statement: str, context: Any = None) -> None:
        trace = traced_request()
        if trace is None:
            original(self, cursor, statement, context)
        else:
            _timed(trace, cursor, statement, 1, 0, original, self, context)

    return hook


def _timed(
    trace: Any, cursor: Any, statement: str, executions: int, same: int | None, original: Any, dialect: Any, *rest: Any
) -> None:
    text = texts.text(statement)
    source = known_source() or source_id(sys._getframe(2)) or endpoint_source_id(trace.scope)
    raw = id(getattr(cursor, "connection", cursor))
    failed = True
    started = perf_counter_ns()
    try:
        original(dialect, cursor, statement, *rest)
        failed = False
    finally:
        ended = perf_counter_ns()
        rows = getattr(cursor, "rowcount", None)
        if not isinstance(rows, int) or rows < 0:
            rows = None
        trace.add((text.kind, text.text_id, source, started, ended, rows, executions, same, raw, failed))


def _transaction(original: Any, kind: int) -> Any:
    def hook(self: Any, dbapi_connection: Any) -> None:
        trace = traced_request()
        if trace is None:
            original(self, dbapi_connection)
            return
        source = (known_source() or source_id(sys._getframe(1))) if kind == COMMIT else 0
        failed = True
        started = perf_counter_ns()
        try:
            original(self, dbapi_connection)
            failed = False
        finally:
            # A pool's reset hands over the pool's own wrapper of the connection.
            raw = id(getattr(dbapi_connection, "dbapi_connection", dbapi_connection))
            trace.add((kind, -1, source, started, perf_counter_ns(), None, 1, None, raw, failed))

    return hook


def _ping(original: Any) -> Any:
    def hook(self: Any, dbapi_connection: Any) -> Any:
        trace = traced_request()
        if trace is None:
            return original(self, dbapi_connection)
        current.set(None)
        alive = False
        started = perf_counter_ns()
        try:
            alive = original(self, dbapi_connection)
            return alive
        finally:
            ended = perf_counter_ns()
            current.set(trace)
            trace.add((PING, -1, 0, started, ended, None, 1, None, id(dbapi_connection), not alive))

    return hook


def _checkout(original: Any) -> Any:
    def hook(cls: Any, pool: Any) -> Any:
        trace = traced_request()
        if trace is None:
            return original(cls, pool)
        started = perf_counter_ns()
        try:
            fairy = original(cls, pool)
        except BaseException:
            trace.add((POOL, -1, 0, started, perf_counter_ns(), None, 1, None, id(pool), True))
            raise
        trace.add((POOL, -1, 0, started, perf_counter_ns(), None, 1, None, id(pool), False))
        return fairy

    return hook


def _connect(original: Any) -> Any:
    def hook(self: Any) -> None:
        trace = traced_request()
        current.set(None)  # what a new connection's set-up runs is no statement of the request
        try:
            original(self)
        finally:
            current.set(trace)

    return hook


def _autoflush(original: Any) -> Any:
    def hook(self: Any) -> None:
        trace = traced_request()
        if trace is None:
            original(self)
            return
        before = len(trace.events)
        started = perf_counter_ns()
        original(self)
        if len(trace.events) > before:  # it had something to write
            source = known_source() or source_id(sys._getframe(1))
            trace.add((AUTOFLUSH, -1, source, started, perf_counter_ns(), None, 1, None, id(self), False))

    return hook
