"""What stages with different loads say about the target's capacity."""

from __future__ import annotations

from typing import ClassVar

from dbperf.records.base import Document, Record


class CapacityPoint(Record, frozen=True, kw_only=True):
    stage: str
    load: float
    """Users, or requests under way on average (Little's law) in an open model."""
    requests_per_s: float
    p95_ms: float | None


class Usl(Record, frozen=True, kw_only=True):
    """Parameters of the Universal Scalability Law; intervals 95 %."""

    lambda_per_s: float
    """Requests per second of one user."""
    sigma: float
    """Contention: the share of work that waits for others."""
    kappa: float
    """Coherency: what makes throughput fall again; 0 where it does not."""
    lambda_ci: tuple[float, float] | None = None
    sigma_ci: tuple[float, float] | None = None
    kappa_ci: tuple[float, float] | None = None
    relative_error: float
    """Root mean square of the relative distance of the points from the law."""
    knee: float | None = None
    """Load with the highest throughput; None where the law has no maximum."""
    peak_per_s: float | None = None


class Breaking(Record, frozen=True, kw_only=True):
    """At how many users a service level is predicted to break."""

    endpoint: str
    metric: str
    limit_ms: float
    load: float | None
    """None: not within twice the highest load measured."""
    reason: str


class Capacity(Document, frozen=True, kw_only=True):
    """`capacity.json`."""

    kind: ClassVar[str] = "capacity"
    file_name: ClassVar[str] = "capacity.json"

    points: list[CapacityPoint]
    usl: Usl | None
    breaking: list[Breaking] = []
    reason: str | None = None
    """Why there is no fit, or what weakens it."""
