"""Ends a load once a gate has failed, after a grace period of each stage (`abort_on_fail` in a suite)."""

from __future__ import annotations

import time
from collections.abc import Callable

from dbperf.load.gate_language import Gate, parse_gate
from dbperf.load.gates import judge_gates
from dbperf.load.progress import LoadEvent
from dbperf.records.load import Load
from dbperf.records.suite import Suite

_EVERY_S = 5.0
_COST_SHARE = 0.02
"""Judging reads everything that was recorded; it may take this share of the time at most."""
_RUNNING = frozenset({"p50", "p90", "p95", "p99", "p99.9", "max", "errors", "rps"})
"""What can be judged before a stage has ended. A count of requests can't: it still grows."""


class AbortOnFail:
    """Asked once a second; answers with the reason once a gate has failed.

    Only stages that have lasted for the grace period count, the running one included.
    """

    def __init__(self, suite: Suite, read: Callable[[], Load], clock: Callable[[], float] = time.monotonic) -> None:
        self._gates: list[Gate] = []
        if suite.abort_on_fail:
            self._gates = [g for g in map(parse_gate, suite.gates) if g.left.metric in _RUNNING]
        self._grace_s = suite.grace_s
        self._read = read
        self._clock = clock
        self._measured_since: float | None = None
        self._next = 0.0

    def failed(self, event: LoadEvent) -> str | None:
        """The first gate that has failed and why; None while all may still be kept."""
        if not self._gates:
            return None
        now = self._clock()
        if event.kind == "measuring":
            self._measured_since = now
        elif event.kind == "measured":
            self._measured_since = None
        waited = self._measured_since is not None and now - self._measured_since >= self._grace_s
        if event.kind != "second" or not waited or now < self._next:
            return None
        load = self._read()
        cost = self._clock() - now
        self._next = now + max(_EVERY_S, cost / _COST_SHARE)
        failed = next((v for v in judge_gates(load, self._gates) if v.verdict == "fail"), None)
        return f"gate {failed.expr!r} failed: {failed.reason}" if failed else None
