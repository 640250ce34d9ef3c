"""What is compared with what, under which conditions, and what was found."""

from __future__ import annotations

from datetime import date, datetime
from typing import ClassVar, Literal

from dbperf.records.base import Document, Record
from dbperf.records.load import Histogram, Quantile
from dbperf.records.run import Provenance

Direction = Literal["lower", "higher"]
"""Which way is better."""
Unit = Literal["ms", "share", "per_s", "bytes", "count"]
MetricKind = Literal["latency", "errors", "throughput", "custom"]
MetricVerdict = Literal["better", "worse", "unchanged", "cant_tell", "not_comparable"]
"""Unchanged: shown to be equivalent within the tolerance."""
OverallVerdict = Literal["pass", "fail", "cant_tell", "not_comparable"]
Evidence = Literal["samples", "summary"]
"""Samples or histograms carry their uncertainty; a summary is a few numbers without it, and weak evidence."""


class Machine(Record, frozen=True, kw_only=True):
    """The class of a machine: what must agree for figures to be comparable. None: the source does not tell."""

    system: str | None = None
    """"Linux x86_64"."""
    cpu_model: str | None = None
    cpu_count: int | None = None


class Conditions(Record, frozen=True, kw_only=True):
    """What belongs to a figure. None: the source does not tell."""

    provenance: Provenance = "measured"
    users: int | None = None
    arrival_rate_per_s: float | None = None
    duration_s: float | None = None
    target: str | None = None
    """"reference target", or a host."""
    scale: str | None = None
    workers: int | None = None
    suite: str | None = None
    mix: dict[str, float] | None = None
    database: str | None = None
    """"PostgreSQL 18"."""
    machine: Machine = Machine()


class CustomFigure(Record, frozen=True, kw_only=True):
    """A figure of the user's own: vector-store time-outs, sandbox violations, rows read."""

    name: str
    value: float
    unit: Unit = "count"
    direction: Direction = "lower"


class Measurement(Record, frozen=True, kw_only=True):
    """One endpoint under one load, or one benchmark, with everything that is needed to compare it."""

    subject: str
    """"POST /reflection/analyze", or a benchmark's name."""
    stage: str | None = None
    conditions: Conditions
    requests: int | None = None
    errors: int | None = None
    requests_per_s: float | None = None
    requests_per_s_ci: tuple[float, float] | None = None
    quantiles: list[Quantile] = []
    custom: list[CustomFigure] = []
    unfinished: int = 0
    rounded_by: Literal["locust"] | None = None
    """Locust rounds to whole milliseconds below 100 ms, and to two significant digits above."""
    latency: Histogram | None = None
    samples_ms: list[float] | None = None
    """In the order in which they were taken."""


class Tolerance(Record, frozen=True, kw_only=True):
    """How much worse a metric may get. Exactly one of `relative` and `absolute`, or `limit` alone or beside them."""

    relative: float | None = None
    """0.5: half as much again (for a metric where higher is better: down by 0.5)."""
    absolute: float | None = None
    """In the metric's unit; 0.005 of a share is half a point."""
    limit: float | None = None
    """A hard limit, whatever the baseline was; 0: must stay 0."""


class CustomMetric(Record, frozen=True, kw_only=True):
    """What a service says of a metric of its own."""

    unit: Unit = "count"
    direction: Direction = "lower"
    tolerance: Tolerance = Tolerance()


class Service(Record, frozen=True, kw_only=True):
    """`[services.NAME]`: endpoints that share tolerances."""

    name: str
    endpoints: list[str] = []
    """Patterns with *; the first service with one that fits has the endpoint. Empty: all that no other names."""
    tolerances: dict[str, Tolerance] = {}
    """By metric: p50, p90, p95, p99, mean, errors, requests_per_s."""
    custom: dict[str, CustomMetric] = {}


class Accepted(Record, frozen=True, kw_only=True):
    """A known exception: shown in every report, and gone after `until`."""

    metric: str
    """A comparison's name, or a pattern with *."""
    until: date
    reason: str
    who: str
    at: datetime


class Side(Record, frozen=True, kw_only=True):
    """Where one side of a comparison comes from."""

    source: str
    """Path as it was given."""
    kind: Literal["run", "baseline", "pytest-benchmark", "locust-csv", "locust-json", "k6", "interleaved"]
    provenance: Provenance
    git_revision: str | None = None
    measured_at: datetime | None = None


class MetricComparison(Record, frozen=True, kw_only=True):
    """One metric of one endpoint on both sides."""

    name: str
    """"POST /orders p95", with the stage in brackets where there are several."""
    subject: str
    stage: str | None = None
    metric: str
    kind: MetricKind
    service: str | None = None
    unit: Unit
    direction: Direction
    a: float | None
    b: float | None
    ratio: float | None = None
    """b / a."""
    ci_low: float | None = None
    ci_high: float | None = None
    """Interval of the ratio; of the difference b - a for shares, where a may be 0."""
    confidence: float | None = None
    difference: float | None = None
    """b - a, for shares and counts."""
    tolerance: str
    """In words: "+10 %"."""
    evidence: Evidence
    p_value: float | None = None
    """Probability of so much of a slowdown if there were none, before the correction for multiplicity."""
    verdict: MetricVerdict
    gate: bool
    """Whether it may fail the gate."""
    accepted: Accepted | None = None
    reason: str


class Comparison(Document, frozen=True, kw_only=True):
    """`comparison.json`."""

    kind: ClassVar[str] = "comparison"
    file_name: ClassVar[str] = "comparison.json"

    verdict: OverallVerdict
    compared_at: datetime
    a: Side
    b: Side
    family: int
    """How many comparisons were judged together; the chance of a false alarm is shared among them."""
    alpha: float
    """The chance of any false alarm in the family."""
    metrics: list[MetricComparison]
    notes: list[str] = []
