"""The compact files that a traced process writes while it runs, one JSON array per line.

    ["h", version, pid, wall clock ns, perf_counter ns, asked-for name, process, part]
                                                                          first line: ties the two clocks
    ["t", text id, text]                                                  a statement, before it is first used
    ["s", source id, file, line, function]                                a source line, likewise
    ["w", text id, bytes per row, {column: bytes}]                        a newer estimate of a statement's rows
    ["r", request id, method, route, status, start ns, duration ns, background ns, response bytes, gc ns,
          lost events, failed, [event, ...]]                              a request that is done
    ["u", ...]                                                            the same, cut off by the process's end
    ["l", request id, event]                                              an event after its request was done
    ["p", method and route, file, line, function]                         the endpoint's function, once
    ["b", source id, start ns, duration ns, request id or 0]              the event loop stood still
    ["g", start ns, duration ns, generation]                              a garbage collection
    ["n", note]                                                           what was lost
    ["d", name, changed ns, bytes]                                        an older file, removed for the folder's limit
    ["c", wall clock ns]                                                  the end of this part; the next one goes on
    ["e", wall clock ns]                                                  a clean end

Times are perf_counter_ns. An event is [kind, text id, source id, start ns, end ns, rows or the driver's status,
executions, parameters, connection, failed], as the hooks made it: what can wait is left to the reader. `parameters` is
a salted hash, so that nothing of the parameters themselves is written. Lines are appended and flushed twice a second:
a killed process loses no more. `parts` has the files, of which the oldest are removed.
"""

from __future__ import annotations

import atexit
import inspect
import itertools
import logging
import os
import re
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from dbperf.trace.parts import DEFAULT_LIMIT_BYTES, Parts
from dbperf.trace.state import RawEvent, RequestTrace, texts

FLUSH_S = 0.5
_MAX_WAITING = 200_000
_ID_SEGMENT = re.compile(r"/(?:\d+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|[0-9a-fA-F]{24,})(?=/|$)")
_encode = msgspec.json.Encoder().encode
log = logging.getLogger("dbperf.trace")


class Recorder:
    """Takes finished requests and writes them from a thread of its own.

    A full disk or a folder that went away stops the recording, with one warning in the log: the traced program goes on.
    The folder's files take `limit_bytes` (`Parts`).
    """

    def __init__(self, folder: Path, name: str = "", *, limit_bytes: int | None = DEFAULT_LIMIT_BYTES) -> None:
        self.folder = folder
        self.name = name
        self.limit_bytes = limit_bytes
        self.in_flight: dict[int, RequestTrace] = {}
        self.gc_ns = 0
        self._waiting: list[Any] = []
        self.next_id: Callable[[], int] = itertools.count(1).__next__
        self._parts: Parts | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._closed = False
        self._broken = False
        self._routes: set[str] = set()
        self._written_texts = 0
        self._written_sources = 0
        _recorders.add(self)

    @property
    def path(self) -> Path | None:
        """The file that is being written."""
        return self._parts.path if self._parts is not None else None

    def done(self, request: RequestTrace) -> None:
        """A request whose application has returned. It is encoded at once: thousands of requests that live half a
        second longer, scopes and all, cost more in garbage collections than this."""
        route = route_of(request)
        if route not in self._routes:
            self._routes.add(route)
            endpoint = request.scope.get("endpoint")
            code = getattr(inspect.unwrap(endpoint), "__code__", None) if callable(endpoint) else None
            if code is not None:
                handler = [code.co_filename, code.co_firstlineno, code.co_qualname]
                self._waiting.append(["p", f"{request.method} {route}", *handler])
        line = _request_line("r", request, route)
        # After the line is made: the writer may take the list away while a function runs, but not within this one call.
        self._waiting.append(line)

    def late(self, request_id: int, event: RawEvent) -> None:
        self._waiting.append(["l", request_id, event])

    def blocked(self, source_id: int, started_ns: int, duration_ns: int, request_id: int) -> None:
        self._waiting.append(["b", source_id, started_ns, duration_ns, request_id])

    def collected(self, started_ns: int, duration_ns: int, generation: int) -> None:
        self.gc_ns += duration_ns
        if duration_ns > 200_000:  # the many short ones are in gc_ns
            self._waiting.append(["g", started_ns, duration_ns, generation])

    def start(self) -> None:
        """Opens the file and starts the writer; a second call does nothing."""
        with self._lock:
            if self._thread is not None or self._closed:
                return
            try:
                self._parts = Parts(self.folder, self.name, self.limit_bytes)
            except OSError as e:
                self._give_up(e)
            self._thread = threading.Thread(target=self._run, name="dbperf-trace-writer", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Writes what is there, requests in flight included, and ends the file."""
        if self._closed:
            return
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(10)
        with self._lock:
            self._flush()
            if self._parts is None:
                return
            try:
                self._write(
                    [_request_line("u", request, route_of(request)) for request in list(self.in_flight.values())]
                )
                self._parts.close()
            except OSError as e:
                self._give_up(e)
            self._parts = None

    def flush(self) -> None:
        """Writes what is waiting now."""
        with self._lock:
            self._flush()

    def _run(self) -> None:
        while not self._wake.wait(FLUSH_S):
            with self._lock:
                self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting or self._parts is None:
            return
        try:
            if self._parts.is_due():
                self._parts.next_part()
                self._define_again()
            if len(waiting) > _MAX_WAITING:
                note = f"{len(waiting) - _MAX_WAITING} requests were not written: the disk is too slow"
                self._parts.write(_encode(["n", note]) + b"\n")
                del waiting[_MAX_WAITING:]
            self._write(waiting)
            self._parts.flush()
        except OSError as e:
            self._give_up(e)

    def _write(self, waiting: list[Any]) -> None:
        lines = [item if isinstance(item, bytes) else _encode(item) for item in waiting]
        # The definitions are looked up after the lines were made and written before them: who reads a request never
        # meets an unknown number.
        assert self._parts is not None
        self._parts.write(b"\n".join([*self._definitions(), *lines, b""]))

    def _define_again(self) -> None:
        """A part needs no other one: it has all definitions."""
        self._routes = set()
        self._written_texts = self._written_sources = 0
        texts.sampled += [t for t in texts.texts if t.row_bytes is not None]

    def _definitions(self) -> list[bytes]:
        found: list[list[Any]] = []
        new_texts = texts.texts[self._written_texts :]
        found.extend(["t", t.text_id, t.text] for t in new_texts)
        self._written_texts += len(new_texts)
        new_sources = texts.sources[self._written_sources :]
        found.extend(["s", self._written_sources + i, *s] for i, s in enumerate(new_sources))
        self._written_sources += len(new_sources)
        sampled, texts.sampled = texts.sampled, []
        found.extend(["w", t.text_id, t.row_bytes, t.wide] for t in sampled)
        return [_encode(f) for f in found]

    def _give_up(self, error: OSError) -> None:
        self._parts = None
        if not self._broken:
            self._broken = True
            log.warning("tracing stopped: %s can't be written: %s", self.folder, error.strerror)

    def after_fork(self) -> None:
        """A forked worker has no writer thread and must not share the parent's file."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = None
        self._parts = None
        self._waiting = []
        self.in_flight = {}
        self._routes = set()
        self._written_texts = self._written_sources = 0


def _request_line(kind: str, r: RequestTrace, route: str) -> bytes:
    finished = r.finished_ns or time.perf_counter_ns()
    ended = r.ended_ns or finished
    started = r.started_ns
    return _encode(
        (
            kind, r.request_id, r.method, route, r.status, started, ended - started,
            finished - ended if finished > ended else 0, r.response_bytes, r.gc_ns, r.lost, r.failed,
            r.events,
        )
    )  # fmt: skip


def route_of(r: RequestTrace) -> str:
    """The route's template with its prefix, worked out after the request.

    Starlette and FastAPI leave the matched route in the scope. FastAPI's included routers leave the inner route
    without the prefix, and mounts likewise: the path's leading segments are put before it, with the values of path
    parameters replaced by their names.
    """
    path: str = r.path
    scope = r.scope
    route = scope.get("route")
    parameters: dict[str, Any] = scope.get("path_params") or {}
    if route is not None and not parameters:
        return path
    template = getattr(route, "path", None)
    if not isinstance(template, str):
        if r.status == 404 and ("app" in r.scope or "router" in r.scope):
            return "(no route)"
        return _with_names(path, parameters) if parameters else _ID_SEGMENT.sub("/{id}", path)
    if ":path}" in template:
        return template
    have, want = path.split("/"), template.split("/")
    prefix = "/".join(have[: max(0, len(have) - len(want) + 1)])
    if prefix in ("", "/"):
        return template
    return _with_names(prefix, {k: v for k, v in parameters.items() if f"{{{k}" not in template}) + template


def _with_names(path: str, parameters: dict[str, Any]) -> str:
    names = {str(v): k for k, v in parameters.items()}
    return "/".join(f"{{{names[part]}}}" if part in names else part for part in path.split("/"))


_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()


def close_all() -> None:
    """Ends every recording of the process; runs at exit."""
    for recorder in list(_recorders):
        recorder.close()


def _after_fork() -> None:
    for recorder in list(_recorders):
        recorder.after_fork()


atexit.register(close_all)
os.register_at_fork(after_in_child=_after_fork)
