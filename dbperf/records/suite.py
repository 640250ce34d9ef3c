"""A load suite: what is asked of the target, by how many, for how long, and what is expected of the answers."""

from __future__ import annotations

from typing import Any, Literal

from dbperf.records.base import Record
from dbperf.records.verdicts import ServiceLevel


class Stage(Record, frozen=True, kw_only=True):
    """A stretch of constant load: users (closed model) or arrivals per second (open model)."""

    name: str
    users: int | None = None
    arrival_rate_per_s: float | None = None
    arrivals: Literal["poisson", "uniform"] = "poisson"
    duration_s: float
    ramp_s: float = 0.0
    warm_up_s: float = 0.0

    @property
    def model(self) -> Literal["closed", "open"]:
        return "closed" if self.users is not None else "open"

    @property
    def total_s(self) -> float:
        return self.ramp_s + self.warm_up_s + self.duration_s


class Endpoint(Record, frozen=True, kw_only=True):
    name: str
    """"POST /reflection/analyze": method and path template, unless the suite names it."""
    method: str
    path: str
    """May hold placeholders: ``/consolidation/restore/{case_id}``."""
    weight: float
    json: Any = None
    headers: dict[str, str] = {}
    writes: bool = False
    """It changes data: left out against a user's own target unless allowed."""
    expect: list[int] = []
    """Statuses that are no error; empty: everything below 400."""
    timeout_s: float


class ThinkTime(Record, frozen=True, kw_only=True):
    """Pause of a user between requests: uniform from min to max, or exponential with a mean."""

    min_s: float = 0.0
    max_s: float = 0.0
    mean_s: float | None = None


class DataSource(Record, frozen=True, kw_only=True):
    """Values for the placeholder `{name}`, or `{name.column}` where the values are rows."""

    name: str
    values: list[Any] | None = None
    file: str | None = None
    """CSV or JSON lines; an absolute path, or relative to the suite's folder."""
    sql: str | None = None
    distribution: Literal["uniform", "zipf"] = "uniform"
    skew: float = 1.0


class CiVariant(Record, frozen=True, kw_only=True):
    """How a suite is shortened where it has to be quick. Longer times than the suite's own are not taken."""

    duration_s: float
    ramp_s: float
    warm_up_s: float
    in_set: bool = True
    """Whether `dbperf load ci` runs it."""


class Suite(Record, frozen=True, kw_only=True):
    name: str
    description: str = ""
    source: str
    """The file it came from, or how it came about."""
    seed: int = 1
    max_in_flight: int = 1000
    """Open model: how many requests may be under way at once; further ones wait, and their latency runs."""
    drain_s: float = 15.0
    """How long measured requests may go on after the last stage before they count as unfinished."""
    stages: list[Stage]
    endpoints: list[Endpoint]
    think_time: ThinkTime = ThinkTime()
    data: list[DataSource] = []
    service_levels: list[ServiceLevel] = []
    gates: list[str] = []
    abort_on_fail: bool = False
    """End the load once a gate that can only get worse has failed, after `grace_s` of a stage."""
    grace_s: float = 30.0
    ci: CiVariant | None = None

    @property
    def expected_s(self) -> float:
        """How long it takes, without what a slow target adds at the end."""
        return sum(s.total_s for s in self.stages)
