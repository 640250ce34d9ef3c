"""What changed against another run or a baseline, as the report says it."""

from __future__ import annotations

from datetime import date

from dbperf.records.base import Record
from dbperf.records.comparison import MetricComparison, OverallVerdict, Side
from dbperf.records.stacks import FrameChange, Stacks


class StatementChange(Record, frozen=True, kw_only=True):
    """A statement of one window each: figures without an interval, and so without a verdict."""

    fingerprint: str
    text: str
    before_ms: float | None
    """Time per request of the load; None: it was not seen."""
    after_ms: float | None
    calls_before: float | None
    """Per request."""
    calls_after: float | None
    plan_before: list[str]
    """How its plan reads tables: "Seq Scan on execution_log". Empty without a plan."""
    plan_after: list[str]


class FlameDifference(Record, frozen=True, kw_only=True):
    """One endpoint's full-stack profile on the other side, and what changed, in ms per request."""

    route: str
    before_ms: float
    after_ms: float
    before: Stacks
    changes: list[FrameChange]
    """The largest first."""


class ChangesReport(Record, frozen=True, kw_only=True):
    """`--against`, or the `comparison.json` that `dbperf compare` left in the run."""

    against: str
    """Name of the other side."""
    verdict: OverallVerdict | None
    """None: nothing was compared, `reason` says why."""
    reason: str | None = None
    judged_on: date | None
    """The day for which accepted exceptions count."""
    a: Side | None
    family: int
    alpha: float
    metrics: list[MetricComparison]
    """Worse first, then what is accepted, better, open, unchanged, not comparable; what gates before what does not."""
    notes: list[str]
    statements: list[StatementChange]
    """The largest change of time per request first."""
    flames: list[FlameDifference]
