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
        trace = RequestTrace(recorder, scope, recorder.next_id(), recorder.gc_ns)
        scope["dbperf.trace"] = trace.request_id
        recorder.in_flight[trace.request_id] = trace
        token = current.set(trace)

        def watched_send(message: Message) -> Awaitable[None]:
            # No coroutine of its own: it would cost a third of what the whole middleware does.
            if message["type"] == "http.response.body":
                if body := message.get("body"):
                    trace.response_bytes += len(body)
                if not message.get("more_body"):
                    trace.ended_ns = perf_counter_ns()
            elif message["type"] == "http.response.start":
                trace.status = message["status"]
            return send(message)

        try:
            await self.app(scope, receive, watched_send)
        except BaseException:
            trace.failed = True
            raise
        finally:
            trace.finished_ns = perf_counter_ns()
            trace.gc_ns = recorder.gc_ns - trace.gc_ns
            recorder.in_flight.pop(trace.request_id, None)
            recorder.done(trace)
            current.reset(token)

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
