"""Service levels and what the measurement says of them."""

from __future__ import annotations

from typing import ClassVar, Literal

from dbperf.records.base import Document, Record

Verdict = Literal["pass", "fail", "cant_tell"]


class ServiceLevel(Record, frozen=True, kw_only=True):
    """Limits of one endpoint; None: no limit."""

    endpoint: str
    """An endpoint's name, or a pattern with * ("GET */health")."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    error_rate: float | None = None
    """0..1."""
    requests_per_s: float | None = None
    """At least this many."""


class LevelVerdict(Record, frozen=True, kw_only=True):
    """One limit against one observation, judged with its uncertainty."""

    endpoint: str
    stage: str
    metric: Literal["p50", "p95", "p99", "error_rate", "requests_per_s"]
    unit: Literal["ms", "share", "per_s"]
    limit: float
    observed: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    verdict: Verdict
    reason: str


class GateVerdict(Record, frozen=True, kw_only=True):
    """A gate ("p95 < 500ms") and what the load says of it: the worst over the stages and endpoints that it names."""

    expr: str
    observed: float | None
    """In `unit`."""
    unit: Literal["ms", "s", "share", "per_s", "bytes", "count"]
    limit: float | None
    """None where the other side could not be measured."""
    stage: str | None = None
    """Where the worst was seen."""
    endpoint: str | None = None
    verdict: Verdict
    reason: str


class Verdicts(Document, frozen=True, kw_only=True):
    """`verdicts.json`. The overall verdict: fail if any fails, else cant_tell if any can't be told, else pass."""

    kind: ClassVar[str] = "verdicts"
    file_name: ClassVar[str] = "verdicts.json"

    overall: Verdict
    levels: list[LevelVerdict]
    gates: list[GateVerdict] = []
    unchecked: list[str] = []
    """Endpoints without a verdict: no service level is set for them, or they were not called (the reason follows)."""
