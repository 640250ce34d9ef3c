"""The ASGI middleware: opens a request's trace, and closes it when the application is done with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from dbperf.trace import hooks
from dbperf.trace.loopwatch import LoopWatch
from dbperf.trace.parts import DEFAULT_LIMIT_BYTES
from dbperf.trace.state import RequestTrace, current
from dbperf.trace.stream import Recorder

_enter, _leave = current.set, current.reset  # bound once, see `state`

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class TraceMiddleware:
    """Traces every HTTP request of an ASGI application; other protocols pass through.

    Args:
        app: the application.
        out: folder for the trace files, one or more per process; `dbperf.trace.collect` reads it.
        watch_loop: notice when a synchronous call keeps the event loop from running.
        name: goes into the files' headers.
        limit_bytes: of all trace files in the folder; the oldest ones are removed. None: no limit.

    Installed twice, the inner one does nothing.
    """

    def __init__(
        self, app: App, out: str | Path | None = None, *, recorder: Recorder | None = None, watch_loop: bool = True,
        name: str = "", limit_bytes: int | None = DEFAULT_LIMIT_BYTES,
    ) -> None:  # fmt: skip
        self.app = app
        self.recorder = recorder or Recorder(Path(out or "traces"), name, limit_bytes=limit_bytes)
        self.watch = LoopWatch(self.recorder) if watch_loop else None
        self._started = False
        hooks.install()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._lifespan(scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        if "dbperf.trace" in scope:
            await self.app(scope, receive, send)
            return
        recorder = self.recorder
        if not self._started:
            self._start()
        trace = RequestTrace(recorder, scope, recorder.next_id(), recorder.gc_ns, send)
        scope["dbperf.trace"] = request_id = trace.request_id
        in_flight = recorder.in_flight
        in_flight[request_id] = trace
        token = _enter(trace)
        try:
            await self.app(scope, receive, trace.sent)
        except BaseException:
            trace.failed = True
            raise
        finally:
            trace.finished_ns = perf_counter_ns()
            trace.gc_ns = recorder.gc_ns - trace.gc_ns
            in_flight.pop(request_id, None)
            recorder.done(trace)
            _leave(token)

    def _start(self) -> None:
        self._started = True
        self.recorder.start()
        if self.watch is not None:
            self.watch.start()

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            if self.watch is not None:
                self.watch.stop()
            self.recorder.close()
