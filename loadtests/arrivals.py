"""The open model: requests start when they are due, however slow the target is.

Latency counts from the intended start, so a stall is felt by every request that should have been made during it (no
coordinated omission: G. Tene, How NOT to Measure Latency, 2013). A request that is due while all clients are busy
waits for one; if none comes free before the load ends, it was not started, and that is counted.
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from typing import Any

import gevent
import gevent.event

from loadtests.recorder import Left, Recorder
from loadtests.scenario import Endpoint, Scenario, SuiteUser

LATE_S = 0.01
"""A start that is this much later than intended, though a client was free, is the generator's own fault."""


EARLY_S = 0.0005
"""libev waits in whole milliseconds, rounded up (epoll_wait's time-out), so a timer fires up to 1 ms late. Asked for
half a millisecond less, starts are that much early or late; an early one counts from when it was."""


class Rate:
    """Arrivals per second over time: a straight line to a target, then constant."""

    def __init__(self) -> None:
        self.start = self.end = 0.0
        self.first = self.last = 0.0

    def ramp(self, now: float, rate: float, ramp_s: float) -> None:
        self.first, self.last = self.at(now), rate
        self.start, self.end = now, now + ramp_s

    def at(self, t: float) -> float:
        if t >= self.end:
            return self.last
        share = max(0.0, t - self.start) / (self.end - self.start)
        return self.first + (self.last - self.first) * share

    def after(self, t: float, amount: float) -> float:
        """When `amount` more arrivals than at `t` are due: the rate's integral, inverted."""
        if t < self.end:
            now, slope = self.at(t), (self.last - self.first) / (self.end - self.start)
            left = self.end - t
            in_ramp = now * left + slope * left * left / 2
            if amount < in_ramp:
                if abs(slope) < 1e-12:
                    return t + amount / now
                return t + (math.sqrt(max(0.0, now * now + 2 * slope * amount)) - now) / slope
            amount, t = amount - in_ramp, self.end
        return t + amount / self.last if self.last > 0 else math.inf


class Arrivals:
    """Starts requests at a rate. One per process; `recorder.active` holds the ones that wait, too."""

    def __init__(self, scenario: Scenario, environment: Any, user: type[SuiteUser], limit: int) -> None:
        self.scenario = scenario
        self.recorder: Recorder = scenario.recorder
        self.environment = environment
        self.user = user
        self.limit = limit
        self.rate = Rate()
        self.poisson = True
        self.rng = random.Random(scenario.rng.random())
        self.idle: list[SuiteUser] = []
        self.clients = 0
        self.waiting: deque[tuple[float, Endpoint]] = deque()
        self.late_starts = 0
        self.in_flight = 0
        self._changed = gevent.event.Event()
        self._greenlet: gevent.Greenlet | None = None
        self._working: set[gevent.Greenlet] = set()

    def ramp(self, rate: float, ramp_s: float, arrivals: str) -> None:
        """Changes the rate over `ramp_s` seconds; the first call starts the arrivals."""
        self.poisson = arrivals == "poisson"
        self.rate.ramp(time.time(), rate, ramp_s)
        self._changed.set()
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._arrive)

    def stop(self) -> None:
        """No more arrivals; requests that wait are given up, those under way are cut off."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None
        self.waiting.clear()
        gevent.killall(list(self._working), block=True, timeout=1)

    def _arrive(self) -> None:
        due = time.time()
        while True:
            self._changed.clear()
            amount = self.rng.expovariate(1.0) if self.poisson else 1.0
            next_due = self.rate.after(due, amount)
            while (delay := next_due - time.time()) > EARLY_S:
                # Waits for the arrival, or for another rate: then what is left of `amount` is due at that rate.
                if self._changed.wait(min(delay - EARLY_S, 3600.0)):
                    self._changed.clear()
                    next_due = max(time.time(), self.rate.after(time.time(), amount))
            due = next_due
            self._start(due)

    def _start(self, due: float) -> None:
        endpoint = self.scenario.pick()
        if self.idle:
            client = self.idle.pop()
        elif self.clients < self.limit:
            self.clients += 1
            client = self.user(self.environment)
        else:
            self.waiting.append((due, endpoint))
            return
        if time.time() - due > LATE_S and self.recorder.stage_at(due) >= 0:
            self.late_starts += 1
        working = gevent.spawn(self._serve, client, endpoint, due)
        self._working.add(working)
        working.rawlink(self._working.discard)

    def _serve(self, client: SuiteUser, endpoint: Endpoint, due: float) -> None:
        self.in_flight += 1
        try:
            while True:
                client.ask(endpoint, intended=due)
                if not self.waiting:
                    break
                due, endpoint = self.waiting.popleft()
        finally:
            self.in_flight -= 1
        self.idle.append(client)

    def not_started(self) -> list[Left]:
        """The measured requests that still wait for a client."""
        return self.recorder.left([(due, e.method, e.name) for due, e in self.waiting])
