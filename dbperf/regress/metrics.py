"""The registry of metrics: each with its unit, which way is better, and how much worse it may get by default.

The defaults are wide for summaries, whose uncertainty nobody knows, and narrow where samples carry theirs.
"""

from __future__ import annotations

import re

from dbperf.records.base import Record
from dbperf.records.comparison import (
    CustomMetric,
    Direction,
    Evidence,
    MetricKind,
    Service,
    Tolerance,
    Unit,
)


class Metric(Record, frozen=True, kw_only=True):
    """A metric that dbperf knows."""

    name: str
    unit: Unit
    direction: Direction
    kind: MetricKind
    q: float | None = None
    """For percentiles: 0..1."""
    samples: Tolerance
    summary: Tolerance
    gate: bool
    """Whether it may fail a gate by default."""


def _percentile(name: str, q: float, *, gate: bool) -> Metric:
    return Metric(
        name=name, unit="ms", direction="lower", kind="latency", q=q,
        samples=Tolerance(relative=0.10), summary=Tolerance(relative=0.50), gate=gate,
    )  # fmt: skip


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        _percentile("p50", 0.5, gate=True),
        _percentile("p90", 0.9, gate=False),
        _percentile("p95", 0.95, gate=True),
        # Too noisy to gate on by default: at the usual sample sizes its interval is wider than any useful tolerance.
        _percentile("p99", 0.99, gate=False),
        Metric(
            name="mean", unit="ms", direction="lower", kind="latency",
            samples=Tolerance(relative=0.10), summary=Tolerance(relative=0.50), gate=False,
        ),
        Metric(
            name="errors", unit="share", direction="lower", kind="errors",
            samples=Tolerance(absolute=0.005), summary=Tolerance(absolute=0.005), gate=True,
        ),
        Metric(
            name="requests_per_s", unit="per_s", direction="higher", kind="throughput",
            samples=Tolerance(relative=0.10), summary=Tolerance(relative=0.30), gate=True,
        ),
    )
}  # fmt: skip


def fits(name: str, pattern: str) -> bool:
    """Whether a pattern, in which * stands for anything, fits a name. Brackets and ? stand for themselves.

    >>> fits("GET /users/[id]", "GET */[id]"), fits("GET /a", "/a")
    (True, False)
    """
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), name, re.DOTALL) is not None


def service_of(subject: str, services: list[Service]) -> Service | None:
    """The service that has an endpoint: the first with a pattern that fits, else the first without patterns."""
    for service in services:
        if any(fits(subject, pattern) for pattern in service.endpoints):
            return service
    return next((s for s in services if not s.endpoints), None)


def tolerance_of(
    metric: Metric, evidence: Evidence, service: Service | None, overrides: dict[str, Tolerance]
) -> tuple[Tolerance, bool]:
    """How much worse a metric may get, and whether it may fail the gate. What a person set beats the defaults."""
    for given in (overrides, service.tolerances if service else {}):
        if metric.name in given:
            chosen = given[metric.name]
            if chosen.relative is None and chosen.absolute is None:  # a hard limit beside the default tolerance
                default = metric.samples if evidence == "samples" else metric.summary
                chosen = Tolerance(relative=default.relative, absolute=default.absolute, limit=chosen.limit)
            return chosen, True
    return (metric.samples if evidence == "samples" else metric.summary), metric.gate


def custom_of(name: str, service: Service | None, services: list[Service]) -> CustomMetric | None:
    """What the endpoint's own service says of a custom metric, else any service that names it."""
    for one in ([service] if service else []) + services:
        if name in one.custom:
            return one.custom[name]
    return None


def in_words(tolerance: Tolerance, unit: Unit, direction: Direction) -> str:
    """A tolerance for people.

    >>> in_words(Tolerance(relative=0.1), "ms", "lower"), in_words(Tolerance(absolute=0.005), "share", "lower")
    ('+10 %', '+0.5 points')
    >>> in_words(Tolerance(relative=0.3), "per_s", "higher"), in_words(Tolerance(limit=0), "count", "lower")
    ('−30 %', 'at most 0')
    """
    sign = "+" if direction == "lower" else "−"
    parts = []
    if tolerance.relative is not None:
        parts.append(f"{sign}{tolerance.relative * 100:g} %")
    if tolerance.absolute is not None:
        amount = f"{tolerance.absolute * 100:g} points" if unit == "share" else f"{tolerance.absolute:g}"
        parts.append(f"{sign}{amount}")
    if tolerance.limit is not None:
        limit = f"{tolerance.limit * 100:g} %" if unit == "share" and tolerance.limit else f"{tolerance.limit:g}"
        parts.append(f"{'at most' if direction == 'lower' else 'at least'} {limit}")
    return ", ".join(parts) or "none set"
