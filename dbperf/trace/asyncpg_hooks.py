"""asyncpg: times every call that reaches the server.

The public methods are replaced by plain functions that look at the stack when they are *called* (a coroutine that is
started by gather has no caller on its stack when it runs) and return the original coroutine, timed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from time import perf_counter_ns
from typing import Any

from dbperf.trace.source import awaits_here, endpoint_source_id, passes, source_id
from dbperf.trace.state import (
    COMMIT,
    FETCH,
    POOL,
    PREPARE,
    STATEMENT,
    RequestTrace,
    Text,
    call_source,
    current,
    executions_of,
    known_source,
    parameters_hash,
    sample_rows,
    texts,
    traced_request,
)  # fmt: skip

_by_text = texts.by_text

Patches = list[tuple[Any, str, Any]]
"""Owner, name, original: what `uninstall` puts back."""


def install() -> Patches:
    """Hooks asyncpg's classes; returns what they replaced."""
    from asyncpg import connection, cursor, pool, prepared_stmt

    done: Patches = []

    def patch(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = owner.__dict__[name]
        done.append((owner, name, original))
        hook = make(original)
        hook.__name__, hook.__doc__, hook.__wrapped__ = original.__name__, original.__doc__, original
        setattr(owner, name, hook)

    for name in ("execute", "fetch", "fetchval", "fetchrow"):
        patch(connection.Connection, name, _by_query)
    for name in ("executemany", "fetchmany"):
        patch(connection.Connection, name, _by_query_many)
    patch(connection.Connection, "_copy_in", _copy)
    patch(connection.Connection, "_copy_out", _copy)
    patch(connection.Connection, "copy_records_to_table", _copy_records)
    patch(connection.Connection, "_prepare", _prepare)
    for name in ("fetch", "fetchval", "fetchrow"):
        patch(prepared_stmt.PreparedStatement, name, _by_statement)
    for name in ("executemany", "fetchmany"):
        patch(prepared_stmt.PreparedStatement, name, _by_statement_many)
    patch(cursor.BaseCursor, "_bind_exec", _cursor(STATEMENT))
    patch(cursor.BaseCursor, "_bind", _cursor(STATEMENT))
    patch(cursor.BaseCursor, "_exec", _cursor(FETCH))
    patch(pool.Pool, "_acquire", _acquire)
    patch(pool.PoolConnectionHolder, "connect", _connect)
    for name in ("execute", "executemany", "fetch", "fetchval", "fetchrow", "fetchmany"):
        patch(pool.Pool, name, remember_caller)
    return done


async def _timed(
    call: Coroutine[Any, Any, Any],
    trace: RequestTrace,
    text: Text,
    kind: int,
    source: int,
    executions: int,
    parameters: int | None,
    connection: int,
    rows_of: Callable[[Text, Any], int | str | None],
) -> Any:
    started = perf_counter_ns()
    try:
        result = await call
    except BaseException:
        ended = perf_counter_ns()
        trace.add((kind, text.text_id, source, started, ended, None, executions, parameters, connection, True))
        raise
    ended = perf_counter_ns()
    rows = rows_of(text, result)
    trace.add((kind, text.text_id, source, started, ended, rows, executions, parameters, connection, False))
    return result


def _listed(text: Text, result: Any) -> int | None:
    n = len(result)
    if n:
        text.calls += 1
        if not text.calls & (text.calls - 1) and hasattr(result[0], "keys"):
            sample_rows(text, result)
    return n


def _one(text: Text, result: Any) -> int | None:
    return 0 if result is None else _listed(text, (result,))


def _status(_text: Text, result: Any) -> str | None:
    return result if isinstance(result, str) else None


def _unknown(_text: Text, _result: Any) -> None:
    return None


def _buffered(_text: Text, result: Any) -> int | None:
    """Rows that a cursor fetched; binding alone fetches none."""
    return len(result) if isinstance(result, list) else None


_ROWS_OF: dict[str, Callable[[Text, Any], int | str | None]] = {
    "execute": _status,
    "fetch": _listed,
    "fetchrow": _one,
    "fetchval": _unknown,
    "executemany": _unknown,
    "fetchmany": _listed,
}


_WITH_SOURCE = frozenset((STATEMENT, COMMIT, FETCH))
"""BEGIN, ROLLBACK and a pool's chatter get no line."""
_NO_PARAMETERS = parameters_hash(())


def _source(trace: RequestTrace) -> int:
    """The line to charge. Looking at frames makes objects of them (Python 3.11), so a line that is known already is
    taken."""
    return known_source() or source_id(sys._getframe(2)) or endpoint_source_id(trace.scope)


def remember_caller(original: Any) -> Any:
    """A library's coroutine function that notes which line called it, for the hooks that run further in, unless they
    will find that line on the stack."""
    passes(original.__code__)

    def hook(self: Any, *args: Any, **options: Any) -> Any:
        call = original(self, *args, **options) if options else original(self, *args)
        if traced_request() is None:
            return call
        caller = sys._getframe(1)
        return call if awaits_here(caller) else _called_from(call, source_id(caller))

    return hook


async def _called_from(call: Coroutine[Any, Any, Any], source: int) -> Any:
    outer = known_source()
    call_source.set(source or outer)
    try:
        return await call
    finally:
        call_source.set(outer)


def _by_query(original: Any) -> Any:
    rows_of = _ROWS_OF[original.__name__]

    def hook(self: Any, query: str, *args: Any, **options: Any) -> Any:
        trace = traced_request()
        if trace is None:
            return original(self, query, *args, **options)
        text = _by_text.get(query) or texts.text(query)
        kind = text.kind
        source = _source(trace) if kind in _WITH_SOURCE else 0
        if args or options:
            call = original(self, query, *args, **options)
            parameters = parameters_hash(args)
        else:  # BEGIN and ROLLBACK mostly; to unpack nothing costs as much as a call
            call = original(self, query)
            parameters = _NO_PARAMETERS
        return _timed(call, trace, text, kind, source, 1, parameters, id(self), rows_of)

    return hook


def _by_query_many(original: Any) -> Any:
    rows_of = _ROWS_OF[original.__name__]

    def hook(self: Any, query: str, args: Any, **options: Any) -> Any:
        trace = traced_request()
        if trace is None:
            return original(self, query, args, **options)
        text = _by_text.get(query) or texts.text(query)
        source = _source(trace) if text.kind in _WITH_SOURCE else 0
        call = original(self, query, args, **options)
        return _timed(call, trace, text, text.kind, source, executions_of(args), None, id(self), rows_of)

    return hook


def _by_statement(original: Any) -> Any:
    rows_of = _ROWS_OF[original.__name__]

    def hook(self: Any, *args: Any, **options: Any) -> Any:
        trace = traced_request()
        if trace is None:
            return original(self, *args, **options)
        text = _by_text.get(self._query) or texts.text(self._query)
        kind = text.kind
        source = _source(trace) if kind in _WITH_SOURCE else 0
        call = original(self, *args, **options) if options else original(self, *args)
        parameters = parameters_hash(args) if args else _NO_PARAMETERS
        return _timed(call, trace, text, kind, source, 1, parameters, id(self._connection), rows_of)

    return hook


def _by_statement_many(original: Any) -> Any:
    rows_of = _ROWS_OF[original.__name__]

    def hook(self: Any, args: Any, **options: Any) -> Any:
        trace = traced_request()
        if trace is None:
            return original(self, args, **options)
        text = _by_text.get(self._query) or texts.text(self._query)
        source = _source(trace) if text.kind in _WITH_SOURCE else 0
        call = original(self, args, **options)
        connection = id(self._connection)
        return _timed(call, trace, text, text.kind, source, executions_of(args), None, connection, rows_of)

    return hook


def _cursor(kind: int) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def hook(self: Any, *args: Any) -> Any:
            trace = traced_request()
            if trace is None:
                return original(self, *args)
            text = _by_text.get(self._query) or texts.text(self._query)
            parameters = parameters_hash(self._args)
            connection = id(self._connection)
            return _timed(
                original(self, *args), trace, text, kind, _source(trace), 1, parameters, connection, _buffered
            )

        return hook

    return make


def _copy(original: Any) -> Any:
    def hook(self: Any, copy_stmt: str, *args: Any) -> Any:
        trace = traced_request()
        if trace is None:
            return original(self, copy_stmt, *args)
        text = texts.text(copy_stmt)
        return _timed(
            original(self, copy_stmt, *args),
            trace,
            text,
            STATEMENT,
            _source(trace),
            1,
            None,
            id(self),
            _status,
        )

    return hook


def _copy_records(original: Any) -> Any:
    def hook(self: Any, table_name: str, **options: Any) -> Any:
        trace = traced_request()
        if trace is None:
            return original(self, table_name, **options)
        text = texts.text(f'COPY "{table_name}" FROM STDIN')
        call = original(self, table_name, **options)
        return _timed(call, trace, text, STATEMENT, _source(trace), 1, None, id(self), _status)

    return hook


def _prepare(original: Any) -> Any:
    def hook(self: Any, query: str, **options: Any) -> Any:
        trace = traced_request()
        if trace is None:
            return original(self, query, **options)
        text = _by_text.get(query) or texts.text(query)
        return _timed(original(self, query, **options), trace, text, PREPARE, 0, 1, None, id(self), _unknown)

    return hook


def _acquire(original: Any) -> Any:
    def hook(self: Any, timeout: Any) -> Any:
        trace = traced_request()
        return original(self, timeout) if trace is None else _wait(original(self, timeout), trace, id(self))

    return hook


async def _wait(call: Coroutine[Any, Any, Any], trace: RequestTrace, pool: int) -> Any:
    failed = True
    started = perf_counter_ns()
    try:
        result = await call
        failed = False
    finally:
        trace.add((POOL, -1, 0, started, perf_counter_ns(), None, 1, None, pool, failed))
    return result


def _connect(original: Any) -> Any:
    async def hook(self: Any) -> Any:
        # What a new connection's set-up runs is no statement of the request.
        trace = traced_request()
        current.set(None)
        try:
            return await original(self)
        finally:
            # Not reset(token): a coroutine that is collected unfinished ends in another context, which refuses tokens.
            current.set(trace)

    return hook
