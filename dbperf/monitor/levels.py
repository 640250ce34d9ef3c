"""Service levels as objectives with an error budget, and how fast it burns (pure).

A percentile is an objective about requests: P95 within 300 ms allows 5 % of them to take longer. The burn rate is the
share that missed the objective over the share that may (Beyer et al., The Site Reliability Workbook, 2018, chapter 5,
"Alerting on SLOs"; its windows are the ones here).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase

from prometheus_client.metrics_core import Metric

from dbperf.monitor.metrics import counter, gauge
from dbperf.monitor.top import Names
from dbperf.records.base import Record
from dbperf.records.verdicts import ServiceLevel
from dbperf.units import format_ms

WINDOWS = {"5m": 300, "30m": 1800, "1h": 3600, "6h": 21_600, "3d": 259_200}
"""Seconds by name, as the workbook's alerts for 99.9 % pair them: 1 h with 5 min, 6 h with 30 min, 3 d with 6 h."""
ALL = "all"
_FINE_S = 3600
_COARSE_STEP_S = 600
_PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


class Objective(Record, frozen=True):
    """One limit of a service level."""

    name: str
    """"p95 < 300 ms", "errors < 1 %"."""
    budget: float
    """Share of the requests that may miss it, 0..1."""
    limit_ms: float | None
    """None: it is about errors."""


def objectives_of(level: ServiceLevel) -> list[Objective]:
    """The limits that single requests meet or miss; a throughput is none of them, nor is an error rate of 0.

    >>> [o.name for o in objectives_of(ServiceLevel(endpoint="GET /a", p95_ms=300, error_rate=0.01))]
    ['p95 < 300 ms', 'errors < 1 %']
    """
    found = []
    for percentile, q in _PERCENTILES:
        if (limit_ms := getattr(level, f"{percentile}_ms")) is not None:
            found.append(Objective(f"{percentile} < {format_ms(limit_ms)}", round(1 - q, 6), limit_ms))
    if level.error_rate:
        found.append(Objective(f"errors < {100 * level.error_rate:g} %", level.error_rate, None))
    return found


class History:
    """Totals over time: every look of the last hour, and one in ten minutes of the last three days."""

    def __init__(self) -> None:
        self._fine: deque[tuple[float, float, float]] = deque()
        self._coarse: deque[tuple[float, float, float]] = deque()

    def add(self, at_s: float, requests: float, bad: float) -> None:
        self._fine.append((at_s, requests, bad))
        while self._fine[0][0] < at_s - _FINE_S:
            self._fine.popleft()
        if not self._coarse or at_s - self._coarse[-1][0] >= _COARSE_STEP_S:
            self._coarse.append((at_s, requests, bad))
            while self._coarse[0][0] < at_s - max(WINDOWS.values()):
                self._coarse.popleft()

    def bad_share(self, window_s: float) -> float | None:
        """Of the requests in the window that ends with the last look; None where there was none."""
        last_s, requests, bad = self._fine[-1]
        points = self._fine if window_s <= _FINE_S else self._coarse
        _, before, bad_before = next(p for p in points if p[0] >= last_s - window_s)
        return (bad - bad_before) / (requests - before) if requests > before else None


class LevelCounters:
    """Requests that met and missed the service levels, by source, endpoint and objective.

    Levels for "all" are about all requests together; otherwise the first level whose pattern fits an endpoint holds
    for it, as where a load is judged. Endpoints beyond the first `most` are counted together.
    """

    def __init__(self, levels: Sequence[ServiceLevel], *, most: int) -> None:
        self._levels = [(level.endpoint, objectives_of(level)) for level in levels]
        self._names = Names(most)
        self._of: dict[str, list[tuple[str, Objective]]] = {}
        self.requests: Counter[tuple[str, str, Objective]] = Counter()
        self.bad: Counter[tuple[str, str, Objective]] = Counter()
        self._history: dict[tuple[str, str, Objective], History] = {}

    def add(
        self, source: str, endpoint: str, *, requests: int, errors: int, timed: int, within: Callable[[float], int]
    ) -> None:
        """Some requests of an endpoint.

        Args:
            source: "app" or "load".
            endpoint: "GET /orders".
            requests, errors: how many, and how many of them failed.
            timed: how many have a latency that counts: those that succeeded or timed out. What failed quickly would
                make a failing endpoint look fast.
            within: how many of those took at most so many ms.
        """
        for name, objective in self._objectives(endpoint):
            key = (source, name, objective)
            if objective.limit_ms is None:
                self.requests[key] += requests
                self.bad[key] += errors
            else:
                self.requests[key] += timed
                self.bad[key] += timed - within(objective.limit_ms)

    def _objectives(self, endpoint: str) -> list[tuple[str, Objective]]:
        if endpoint not in self._of:
            found = [(ALL, o) for pattern, objectives in self._levels if pattern == ALL for o in objectives]
            own = next((o for pattern, o in self._levels if pattern != ALL and fnmatchcase(endpoint, pattern)), [])
            name = self._names.of(endpoint)
            if name != endpoint:  # there is no end of such names: they are not kept
                return found + [(name, o) for o in own]
            self._of[endpoint] = found + [(name, o) for o in own]
        return self._of[endpoint]

    def tick(self, at_s: float) -> None:
        """Notes the totals of now, which windows are measured from."""
        for key, requests in self.requests.items():
            history = self._history.get(key)
            if history is None:
                history = self._history[key] = History()
                history.add(at_s, 0, 0)
            history.add(at_s, requests, self.bad[key])

    def families(self) -> Iterator[Metric]:
        requests, bad = counter("slo_requests"), counter("slo_bad_requests")
        budget, burn = gauge("slo_budget_ratio"), gauge("slo_burn_rate")
        for key in sorted(self.requests, key=lambda k: (k[0], k[1], k[2].name)):
            source, endpoint, objective = key
            labels = [source, endpoint, objective.name]
            requests.add_metric(labels, self.requests[key])
            bad.add_metric(labels, self.bad[key])
            budget.add_metric(labels, objective.budget)
            for window, seconds in WINDOWS.items():
                history = self._history.get(key)
                if history is not None and (share := history.bad_share(seconds)) is not None:
                    burn.add_metric([*labels, window], share / objective.budget)
        yield from (requests, bad, budget, burn)
