"""What a load measured: latencies as histograms, errors by kind, the generator's own health."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from dbperf.records.base import Document, Record


class Histogram(Record, frozen=True, kw_only=True):
    """An HDR histogram of latencies in microseconds (1 µs to 1 h, 3 significant digits), mergeable.

    `encoded` is HdrHistogram's V2 compressed payload in base64 (http://hdrhistogram.org).
    """

    encoded: str
    count: int


class Quantile(Record, frozen=True, kw_only=True):
    """A percentile with its confidence interval. `value_ms` is None where there were too few samples for it."""

    q: float
    """0..1; 0.95 is P95."""
    value_ms: float | None
    ci_low_ms: float | None = None
    ci_high_ms: float | None = None
    confidence: float = 0.95
    design_effect: float = 1.0
    """How many of the samples, where they vary together in time, tell as much as one independent sample; the
    interval is widened accordingly."""
    reason: str | None = None
    """Why there is no value, or no interval."""


class ErrorCount(Record, frozen=True, kw_only=True):
    kind: str
    """"http 500", "timeout", "connection refused", "connection reset", "check failed", ..."""
    status: int | None = None
    message: str
    """The first one seen, shortened."""
    count: int


class EndpointLoad(Record, frozen=True, kw_only=True):
    """One endpoint in one stage, warm-up and ramp excluded."""

    name: str
    """"POST /reflection/analyze": method and path template."""
    method: str
    path: str
    requests: int
    """All that started in the measured window and ended, failed ones included."""
    errors: int
    errors_by_kind: list[ErrorCount] = []
    requests_per_s: float
    requests_per_s_ci: tuple[float, float] | None = None
    """95 % interval, from the variation between stretches of the window; None where it was too short."""
    response_bytes: int | None = None
    unfinished: int = 0
    """Requests that had not ended when the load did: counted as slower than any that ended, and not in `requests`."""
    latency: Histogram
    """Of the requests that succeeded or were given up after their timeout (which took at least that long). Errors
    that came quickly would make a failing endpoint look fast; they are in `failed_latency`."""
    failed_latency: Histogram | None = None
    """Of the requests that were answered with an error."""
    quantiles: list[Quantile]
    """P50, P90, P95, P99, P99.9 of `latency`."""
    mean_ms: float | None
    min_ms: float | None
    max_ms: float | None


class RegionLoad(Record, frozen=True, kw_only=True):
    """The part of a stage that came from workers of one region."""

    region: str
    requests: int
    errors: int
    requests_per_s: float
    endpoints: list[EndpointLoad]


class StageLoad(Record, frozen=True, kw_only=True):
    """A stretch of constant load."""

    name: str
    model: Literal["closed", "open"]
    users: int | None = None
    arrival_rate_per_s: float | None = None
    started_at: datetime
    """Start of the measured part, after ramp and warm-up."""
    ended_at: datetime
    warm_up_s: float
    requests: int
    errors: int
    requests_per_s: float
    requests_per_s_ci: tuple[float, float] | None = None
    not_started: int = 0
    """Open model: requests that were due in the window and found no free client until the load ended. They count as
    unfinished in the endpoints."""
    endpoints: list[EndpointLoad]
    regions: list[RegionLoad] = []
    """The same by region, where workers carry one; unfinished requests are in `endpoints` only."""


class LoadSecond(Record, frozen=True, kw_only=True):
    """One second of one endpoint, for timelines. Latency percentiles of that second's finished requests."""

    at_s: float
    """Since the load's start."""
    stage: str
    endpoint: str
    users: int
    requests: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None = None
    max_ms: float | None
    phase: str | None = None
    """"ramp", "warm-up", "measured" or "drain"."""


class LatencyStretch(Record, frozen=True, kw_only=True):
    """Latencies of one endpoint that ended in a stretch of the load, on a coarse logarithmic grid: for heat maps.

    `counts[i]` requests took from 10**((first + i) / 20) µs to below 10**((first + i + 1) / 20) µs.
    """

    at_s: float
    """Since the load's start."""
    seconds: int
    stage: str
    endpoint: str
    first: int
    counts: list[int]


class Generator(Record, frozen=True, kw_only=True):
    """The load generator's own health: a saturated generator measures itself."""

    engine: str
    """"locust 2.47.0"."""
    processes: int
    cpu_share_max: float | None
    """Highest CPU use of a generator process over a second (0..1 of one core)."""
    loop_lag_max_ms: float | None
    late_starts: int = 0
    saturated: bool
    reason: str | None = None


class LeftOut(Record, frozen=True, kw_only=True):
    """An endpoint of the suite that was not called, and why."""

    endpoint: str
    reason: str


class Load(Document, frozen=True, kw_only=True):
    """`load.json`."""

    kind: ClassVar[str] = "load"
    file_name: ClassVar[str] = "load.json"

    suite: str
    url: str
    started_at: datetime
    ended_at: datetime
    complete: bool
    """False when the load was cut short."""
    imported_from: Literal["locust-csv", "locust-json", "k6"] | None = None
    """The kind of file, where another tool measured."""
    stages: list[StageLoad]
    seconds: list[LoadSecond]
    seconds_all: list[LoadSecond] = []
    """The same for all endpoints together."""
    stretches: list[LatencyStretch] = []
    """Distributions over time, at most some hundred for an endpoint of a stage."""
    generator: Generator
    left_out: list[LeftOut] = []
    notes: list[str] = []
