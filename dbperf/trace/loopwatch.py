"""What keeps an event loop from running: synchronous calls (seen from a thread) and the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from pathlib import Path
from time import perf_counter_ns, thread_time_ns
from typing import Any

from dbperf.frames import no_collection
from dbperf.trace.source import own_frame
from dbperf.trace.state import texts
from dbperf.trace.stream import Recorder

BEAT_S = 0.05
BLOCKED_S = 0.1
"""A loop that did not come round for this long is blocked, as in asyncio's own debug mode."""


class LoopWatch:
    """A heartbeat in the loop, and a thread that looks at the loop's stack where the beat is late.

    The beat costs 20 timer callbacks a second. The thread reads the stack a few times while a call blocks, and
    charges the line that it saw most.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._beat_ns = 0
        self._beats = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._stop = threading.Event()
        self._gc_started = self._gc_cpu_started = 0
        self._schedstat = Path("/nonexistent")
        self._gc_before_ns = 0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Watches the running loop, from the running thread."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        # Nanoseconds on a run queue are the second field (Linux, Documentation/scheduler/sched-stats.rst).
        self._schedstat = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._beat()
        threading.Thread(target=self._watch, name="dbperf-trace-loop", daemon=True).start()
        gc.callbacks.append(self._on_gc)

    def stop(self) -> None:
        self._stop.set()
        if self._handle is not None:
            self._handle.cancel()
        if self._on_gc in gc.callbacks:
            gc.callbacks.remove(self._on_gc)

    def _beat(self) -> None:
        self._beat_ns = perf_counter_ns()
        self._beats += 1
        if self._loop is not None and not self._stop.is_set() and not self._loop.is_closed():
            self._handle = self._loop.call_later(BEAT_S, self._beat)

    def _watch(self) -> None:
        # No more than a look at two numbers: every wake-up takes the interpreter lock from the loop.
        while not self._stop.wait(BEAT_S):
            late_ns = perf_counter_ns() - self._beat_ns
            if late_ns < BEAT_S * 1.5e9:
                self._gc_before_ns = self.recorder.gc_ns
            elif late_ns > BLOCKED_S * 1e9:
                if self._loop is None or self._loop.is_closed():
                    return
                self._blocked()

    def _blocked(self) -> None:
        started, beats = self._beat_ns, self._beats
        noticed, delay_before = perf_counter_ns(), self._delay_ns()
        seen: dict[tuple[str, int, str], int] = {}
        looks = request_id = 0
        while self._beats == beats and not self._stop.is_set():
            with no_collection:
                frame = sys._current_frames().get(self._loop_thread)
                if frame is None or _is_idle(frame):
                    # Waiting in select with a beat overdue: the process was stopped (a debugger, a suspended machine).
                    return
                own = own_frame(frame)
                request_id = request_id or _request_of(frame)
                del frame
            if own is not None:
                seen[own] = seen.get(own, 0) + 1
            looks += 1
            self._stop.wait(min(0.25, 0.01 * looks))
        ended = perf_counter_ns()
        # What is no call's doing: the collector's pauses, and the time on a run queue, as far as it was watched.
        delayed = (self._delay_ns() - delay_before) / max(1, ended - noticed)
        duration = int((ended - started) * (1 - min(1.0, delayed))) - (self.recorder.gc_ns - self._gc_before_ns)
        if seen and looks > 1 and duration > BLOCKED_S * 1e9:
            source = texts.source_id(*max(seen, key=lambda k: seen[k]))
            self.recorder.blocked(source, started, duration, request_id)

    def _delay_ns(self) -> int:
        """How long the loop's thread was ready and got no CPU, so far; 0 where the system does not tell."""
        try:
            return int(self._schedstat.read_text().split()[1])
        except (OSError, IndexError, ValueError):  # not Linux, or a container that hides it
            return 0

    def _on_gc(self, phase: str, info: dict[str, Any]) -> None:
        # Processor time: what a collection took while the thread waited for a processor is no fault of the collector.
        if phase == "start":
            self._gc_started, self._gc_cpu_started = perf_counter_ns(), thread_time_ns()
        elif self._gc_started:
            started, self._gc_started = self._gc_started, 0
            self.recorder.collected(started, thread_time_ns() - self._gc_cpu_started, info["generation"])


def _is_idle(frame: Any) -> bool:
    return bool(frame.f_code.co_name == "select" and frame.f_code.co_filename.endswith("selectors.py"))


def _request_of(frame: Any) -> int:
    """The id of the request whose middleware call is on this stack; 0 where it runs in a task of its own."""
    while frame is not None:
        if frame.f_code.co_name == "__call__" and frame.f_code.co_filename.endswith("trace/middleware.py"):
            trace = frame.f_locals.get("trace")
            return getattr(trace, "request_id", 0)
        frame = frame.f_back
    return 0
