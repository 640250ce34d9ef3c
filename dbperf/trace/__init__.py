"""Request -> statements: ASGI middleware, SQLAlchemy and asyncpg hooks, N+1 findings.

Two lines trace any ASGI application::

    from dbperf.trace import TraceMiddleware
    app = TraceMiddleware(app, out="traces")

`asgi:wrap` does the same to an application that must not know of it (environment variables name it); `collect` turns
the files that were written into a `records.trace.Trace`. This room imports records, stats and plans, never postgres;
sqlalchemy and asyncpg are touched only where the traced program has imported them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbperf.trace.middleware import TraceMiddleware

__all__ = ["TraceMiddleware"]


def __getattr__(name: str) -> Any:
    if name == "TraceMiddleware":
        from dbperf.trace.middleware import TraceMiddleware

        return TraceMiddleware
    raise AttributeError(name)
