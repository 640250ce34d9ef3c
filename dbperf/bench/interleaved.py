"""Measures two sides in turns, quad by quad over all endpoints, until every answer is clear or the time is over."""

from __future__ import annotations

import gc
import http.client
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlsplit

import numpy as np

from dbperf.bench.quality import MachineState, machine_remarks
from dbperf.bench.requests import BenchRequest
from dbperf.bench.sides import Turn, data_differ
from dbperf.errors import Interrupted, TargetError
from dbperf.records.comparison import Machine
from dbperf.records.interleaved import Ended, Interleaved, TurnsEndpoint
from dbperf.stats.sequential import Plan, toss

WARM_UP = 5
"""Requests of each endpoint to each side after it was started."""
TIMEOUT_S = 60.0
_IDLE_S = 2.0
"""A server may close a connection that was silent for longer; it is opened anew before the clock starts."""
_LEAST_QUADS = 40
"""As many should be affordable; where they are not, runs are made shorter."""
_SHARE_FOR_REQUESTS = 0.9
"""Of the budget; the rest is for starting servers."""
Name = Literal["A", "B"]
Judge = Callable[[Interleaved], frozenset[str]]
"""The endpoints whose answers are clear."""


class _OverError(Exception):
    """Ends the measurement."""

    def __init__(self, ended: Ended, detail: str | None = None) -> None:
        super().__init__(ended)
        self.ended = ended
        self.detail = detail


class Client:
    """Requests to one side over one connection, timed."""

    def __init__(self, name: Name, side: Turn) -> None:
        self.name = name
        self.side = side
        self.headers = dict(side.headers)
        parts = urlsplit(side.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise TargetError(f"{side.url!r} is no URL of an API", hint="write it as http://127.0.0.1:8000")
        self._prefix = parts.path.rstrip("/")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
        self._used = 0.0

    def ready(self) -> None:
        """Opens the connection anew where the server may have closed it."""
        if time.monotonic() - self._used > _IDLE_S:
            self._connection.close()
            try:
                self._connection.connect()
            except OSError as e:
                raise _OverError("side_died", self._gone(e)) from e

    def ask(self, request: BenchRequest, body: bytes | None) -> tuple[float, str | None, int]:
        """Milliseconds, what went wrong if anything did, and the status (0: none came)."""
        headers = {**self.headers, **({"Content-Type": "application/json"} if body is not None else {})}
        started = time.perf_counter()
        try:
            self._connection.request(request.method, self._prefix + request.asked_path, body=body, headers=headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as e:
            self._connection.close()
            self._used = 0.0
            if isinstance(e, TimeoutError):
                return (time.perf_counter() - started) * 1e3, f"no answer within {TIMEOUT_S:g} s", 0
            self._check(e)
            return (time.perf_counter() - started) * 1e3, f"{type(e).__name__}: {e}", 0
        elapsed_ms = (time.perf_counter() - started) * 1e3
        self._used = time.monotonic()
        error = f"answered {answer.status}: {content[:100]!r}" if answer.status >= 400 else None
        return elapsed_ms, error, answer.status

    def close(self) -> None:
        self._connection.close()

    def _check(self, error: Exception) -> None:
        """Tells a request that failed from a side that is gone."""
        if self.side.restarts:
            time.sleep(0.1)  # a process that ends closes its sockets a moment before it can be waited for
        if self.side.died() is not None:
            raise _OverError("side_died", self._gone(error)) from error
        try:
            self._connection.connect()
        except OSError as e:
            raise _OverError("side_died", self._gone(e)) from e

    def _gone(self, error: Exception) -> str:
        how = self.side.died() or f"{self.side.url}: {type(error).__name__}: {error}"
        return f"side {self.name} ({self.side.record.what}) died: {how}"


@dataclass
class _Series:
    request: BenchRequest
    body: bytes | None
    run: int = 1
    planned: int = 0
    attempted: int = 0
    a_first: list[bool] = field(default_factory=list)
    times: dict[Name, list[list[float]]] = field(default_factory=lambda: {"A": [], "B": []})
    requests: dict[Name, int] = field(default_factory=lambda: {"A": 0, "B": 0})
    errors: dict[Name, int] = field(default_factory=lambda: {"A": 0, "B": 0})
    first_error: dict[Name, str] = field(default_factory=dict)
    looks: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    took_rest: bool = False
    missing: Literal["A", "B", "both"] | None = None
    settled: bool = False

    def record(self) -> TurnsEndpoint:
        return TurnsEndpoint(
            name=self.request.endpoint, run=self.run, quads_planned=self.planned, a_first=list(self.a_first),
            a_ms=list(self.times["A"]), b_ms=list(self.times["B"]), looks=list(self.looks),
            starts=list(self.starts), took_rest=self.took_rest,
            requests_a=self.requests["A"], requests_b=self.requests["B"], errors_a=self.errors["A"],
            errors_b=self.errors["B"], first_error_a=self.first_error.get("A"),
            first_error_b=self.first_error.get("B"), missing=self.missing,
        )  # fmt: skip


class Measurement:
    """One measurement in turns; `run` makes it."""

    def __init__(
        self, a: Turn, b: Turn, requests: Sequence[BenchRequest], judge: Judge, *, plan: Plan, budget_s: float,
        seed: int, machine: Machine, scale: str | None = None, on_progress: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            a, b: the sides; they are started and stopped here.
            requests: the same ones are made to both sides in the same order.
            judge: is asked at each look.
            plan: how much at most.
            budget_s: no quad begins later, and the sides' starts count.
            seed: of the coin.
            machine, scale: for the record.
            on_progress: called with what goes on, in words.
        """
        self._sides: dict[Name, Turn] = {"A": a, "B": b}
        self._clients: dict[Name, Client] = {}
        self._starts = 0
        self._series = [
            _Series(request=r, body=None if r.body is None else json.dumps(r.body).encode()) for r in requests
        ]
        self._judge = judge
        self._plan = plan
        self._budget_s = budget_s
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._machine, self._scale = machine, scale
        self._tell = on_progress or (lambda _: None)
        self._notes: list[str] = []
        self._started_at = datetime.now(UTC)
        self._deadline = time.monotonic() + budget_s

    def run(self) -> Interleaved:
        """Everything that was measured, also when a side died, or Ctrl-C came.

        Raises:
            DbperfError: a side does not start for the first time.
        """
        state = MachineState.now()
        if (differs := data_differ(self._sides["A"].record, self._sides["B"].record)) is not None:
            return self._record("not_comparable", f"the sides hold different data: {differs}")
        try:
            over = self._looks()
        except _OverError as e:
            over = e
        except (KeyboardInterrupt, Interrupted):
            over = _OverError("interrupted", "interrupted: what was measured until then is kept")
        finally:
            gc.enable()
            self._hang_up()
            for side in self._sides.values():
                side.stop()
        self._notes += machine_remarks(state, MachineState.now())
        if over.ended not in ("settled", "plan"):
            self._look(last=True)
        return self._record(over.ended, over.detail)

    @property
    def _restarts(self) -> bool:
        return all(s.restarts for s in self._sides.values())

    def _looks(self) -> _OverError:
        before = 0.0
        for number, share in enumerate(self._plan.looks):
            parts = self._plan.starts_per_look
            for part in range(parts):
                first = self._starts == 0
                if first or self._restarts:
                    self._start(first=first)
                elif part:
                    continue  # nothing to start anew: one part is all until the look
                self._warm_up([s for s in self._series if not s.settled], first=first)
                gc.collect()
                gc.disable()
                until = before + (share - before) * (part + 1) / parts if self._restarts else share
                for series in _spread([s for s in self._series if not s.settled], until):
                    if time.monotonic() >= self._deadline:
                        return _OverError("budget", f"the time budget of {self._budget_s:g} s was over")
                    self._quad(series)
                gc.enable()
            before = share
            last = number == len(self._plan.looks) - 1
            self._look(last=last)
            done = sum(s.settled for s in self._series)
            self._tell(f"look {number + 1} of {len(self._plan.looks)}: {done} of {len(self._series)} endpoints settled")
            if done == len(self._series):
                return _OverError("settled")
        return _OverError("plan")

    def _hang_up(self) -> None:
        for client in self._clients.values():
            client.close()

    def _start(self, *, first: bool) -> None:
        self._hang_up()
        self._starts += 1
        for name, side in self._sides.items():
            try:
                side.fresh()
            except TargetError as e:
                if first:
                    raise TargetError(f"side {name} ({side.record.what}): {e.message}", hint=e.hint) from e
                raise _OverError(
                    "side_died", f"side {name} ({side.record.what}) did not start again: {e.message}"
                ) from e
            self._clients[name] = Client(name, side)

    def _warm_up(self, active: Sequence[_Series], *, first: bool) -> None:
        for s in active:
            took = 0.0
            status: dict[Name, int] = {}
            for _ in range(WARM_UP):
                for name, client in self._clients.items():
                    client.ready()
                    ms, error, status[name] = client.ask(s.request, s.body)
                    took += ms
                    if error is not None:
                        s.first_error.setdefault(name, error)
                if time.monotonic() >= self._deadline:
                    break
            if not first:
                continue
            absent = [name for name in self._clients if status[name] in (404, 405)]
            if absent:
                s.missing = absent[0] if len(absent) == 1 else "both"
                s.settled = True
                s.first_error.clear()
            s.run, s.planned = self._affordable(took / 1e3 / (2 * WARM_UP), len(active))

    def _affordable(self, request_s: float, endpoints: int) -> tuple[int, int]:
        """How long a run and how many quads an endpoint gets so that all have an equal share of the time."""
        share_s = self._budget_s * _SHARE_FOR_REQUESTS / max(1, endpoints)
        run = self._plan.run
        while run > 1 and share_s / (4 * run * request_s) < min(_LEAST_QUADS, self._plan.quads):
            run = max(1, run // 2)
        # Shorter runs, more of them: as many samples as planned, if the time allows.
        most = self._plan.quads * self._plan.run // run
        return run, int(max(1, min(most, share_s / (4 * run * request_s))))

    def _quad(self, s: _Series) -> None:
        a_first = bool(toss(self._rng, 1)[0])
        found: dict[Name, list[float]] = {"A": [], "B": []}
        failed = False
        order: tuple[Name, ...] = ("A", "B", "B", "A") if a_first else ("B", "A", "A", "B")
        for name in order:
            client = self._clients[name]
            client.ready()
            for _ in range(s.run):
                ms, error, _ = client.ask(s.request, s.body)
                found[name].append(ms)
                s.requests[name] += 1
                if error is not None:
                    s.errors[name] += 1
                    s.first_error.setdefault(name, error)
                    failed = True
        s.attempted += 1
        if not failed:  # the whole quad, or what is left of it would favour a side
            s.a_first.append(a_first)
            for name, times in found.items():
                s.times[name].append(times)

    def _look(self, *, last: bool) -> None:
        for s in self._series:
            if not s.settled and s.attempted:
                if not s.looks or len(s.a_first) > s.looks[-1]:
                    s.looks.append(len(s.a_first))
                    s.starts.append(self._starts)
                s.took_rest = last
        settled = self._judge(self._record("plan", None))
        for s in self._series:
            s.settled = s.settled or s.request.endpoint in settled

    def _record(self, ended: Ended, detail: str | None) -> Interleaved:
        return Interleaved(
            started_at=self._started_at, ended_at=datetime.now(UTC),
            a=self._sides["A"].record, b=self._sides["B"].record,
            machine=self._machine, scale=self._scale, seed=self._seed, budget_s=self._budget_s, ended=ended,
            detail=detail, endpoints=[s.record() for s in self._series], notes=list(dict.fromkeys(self._notes)),
        )  # fmt: skip


def _spread(active: Sequence[_Series], share: float) -> list[_Series]:
    """The quads until the next look, each endpoint's spread evenly over the time."""
    places = []
    for i, s in enumerate(active):
        missing = max(0, round(s.planned * share) - s.attempted)
        places += [((k + 0.5) / missing, i) for k in range(missing)]
    return [active[i] for _, i in sorted(places)]
