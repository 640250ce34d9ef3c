"""What another load generator wrote about a load: what its file tells, and None for what it does not."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from dbperf.records.base import Record
from dbperf.records.comparison import CustomFigure
from dbperf.records.load import ErrorCount, Histogram, Quantile


class ForeignEndpoint(Record, frozen=True, kw_only=True):
    """One endpoint over the whole load, ramp included."""

    method: str
    path: str
    name: str
    requests: int | None = None
    errors: int | None = None
    errors_by_kind: list[ErrorCount] = []
    requests_per_s: float | None = None
    response_bytes: int | None = None
    latency: Histogram | None = None
    """Failed requests included: none of these files keeps them apart."""
    quantiles: list[Quantile]
    mean_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None


class ForeignLoad(Record, frozen=True, kw_only=True):
    """A file of Locust or k6, read and checked."""

    kind: Literal["locust-csv", "locust-json", "k6"]
    ended_at: datetime | None = None
    duration_s: float | None = None
    users: int | None = None
    """The most there were at a time."""
    endpoints: list[ForeignEndpoint]
    custom: list[CustomFigure] = []
    """Metrics of the user's own script, which belong to no endpoint."""
    notes: list[str] = []
