"""What an application's requests do, from the files that `TraceMiddleware` writes."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from dbperf.monitor.levels import LevelCounters
from dbperf.monitor.metrics import counter, histogram
from dbperf.monitor.top import Names
from dbperf.trace.collect import is_write, shape_of
from dbperf.trace.measures import measure
from dbperf.trace.reader import Request, Stream
from dbperf.trace.rules_statements import TextKind, is_set_based, loops_in

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper ends of the histograms' buckets."""
RULES = ("n_plus_one", "row_by_row_write")


class Times:
    """Counts by bucket, and their sum."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds

    def add_to(self, family: HistogramMetricFamily, endpoint: str) -> None:
        buckets, below = [], 0
        for limit, count in zip((*map(str, BUCKETS_S), "+Inf"), self.counts, strict=True):
            below += count
            buckets.append((limit, float(below)))
        family.add_metric([endpoint], buckets, self.sum_s)


class RequestCounters:
    """Requests by endpoint; endpoints beyond the first `most` are counted together."""

    def __init__(self, stream: Stream, levels: LevelCounters, *, most: int) -> None:
        self._stream = stream
        self._levels = levels
        self._names = Names(most)
        self._texts: list[TextKind] = []
        self._is_write: list[bool] = []
        self.counts: dict[str, Counter[str]] = {}
        self.times: dict[str, Times] = {}

    def add(self, requests: Iterable[Request]) -> None:
        """Requests of the stream, each once."""
        for text in self._stream.texts[len(self._texts) :]:
            self._is_write.append(is_write(text.text))
            self._texts.append(TextKind(shape_of(text), is_set_based(text.text), self._is_write[-1]))
        for request in requests:
            self._add(request)

    def _add(self, r: Request) -> None:
        endpoint = self._names.of(r.route)
        m = measure(r, self._is_write)
        failed = r.failed or r.status >= 500
        counts = self.counts.setdefault(endpoint, Counter())
        counts.update(requests=1, request_errors=int(failed), request_statements=m.statements)
        seconds: Mapping[str, float] = {"sql": m.sql_ns / 1e9, "pool_wait": m.pool_ns / 1e9}
        for name, value in seconds.items():
            counts[f"request_{name}_seconds"] += value  # type: ignore[assignment]  # a float
        counts.update(loops_in(m, self._texts))
        self.times.setdefault(endpoint, Times()).add(r.duration_ns / 1e9)
        self._levels.add(
            "app", r.route, requests=1, errors=int(failed), timed=int(not failed),
            within=lambda limit_ms: int(r.duration_ns <= limit_ms * 1e6),
        )  # fmt: skip

    def families(self) -> Iterator[Metric]:
        endpoints = sorted(self.counts)
        for name in ("requests", "request_errors", "request_statements", "request_sql_seconds",
                     "request_pool_wait_seconds"):  # fmt: skip
            family = counter(name)
            for endpoint in endpoints:
                family.add_metric([endpoint], self.counts[endpoint][name])
            yield family
        findings = counter("request_findings")
        for endpoint in endpoints:
            for rule in RULES:
                findings.add_metric([endpoint, rule], self.counts[endpoint][rule])
        yield findings
        times = histogram("request_seconds")
        for endpoint in endpoints:
            self.times[endpoint].add_to(times, endpoint)
        yield times
