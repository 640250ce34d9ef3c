"""Figures over many runs: what a history store keeps, and the series and steps that are found in it."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from dbperf.records.base import Document, Record
from dbperf.records.comparison import Conditions, Direction, Unit


class StoredFigure(Record, frozen=True, kw_only=True):
    """One figure of a run, with everything that decides what it may be compared with."""

    subject: str
    stage: str | None = None
    metric: str
    unit: Unit
    direction: Direction
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    conditions: Conditions


class StoredRun(Record, frozen=True, kw_only=True):
    """A run as a history store keeps it."""

    run_id: str
    """A hash of what was measured: the same run is the same entry, whoever adds it."""
    source: str
    kind: str
    measured_at: datetime
    git_revision: str | None = None
    figures: list[StoredFigure]


class Commit(Record, frozen=True, kw_only=True):
    revision: str
    author: str
    subject: str


class SeriesPoint(Record, frozen=True, kw_only=True):
    """A figure of one run."""

    source: str
    measured_at: datetime
    git_revision: str | None
    value: float
    ci_low: float | None = None
    ci_high: float | None = None


class SeriesStep(Record, frozen=True, kw_only=True):
    """A level that changed, and between which commits."""

    at: int
    """Place of the new level's first point in the series."""
    earliest: int
    latest: int
    """The same with its uncertainty (95 %)."""
    before: float
    after: float
    """Medians of the points up to the neighbouring steps."""
    ratio: float | None
    """after / before; None where before is 0."""
    p_value: float
    verdict: Literal["worse", "better"]
    revision_before: str | None = None
    """Of the last point that is surely before it."""
    revision_after: str | None = None
    """Of the first point that is surely behind it."""
    commits: list[Commit] = []
    """Between the two, newest first, as far as the repository knows them."""
    commits_left_out: int = 0


class Series(Record, frozen=True, kw_only=True):
    """One figure over the runs that are comparable, oldest first."""

    name: str
    subject: str
    stage: str | None
    metric: str
    unit: Unit
    direction: Direction
    conditions: Conditions
    points: list[SeriesPoint]
    steps: list[SeriesStep] = []


class HistoryReport(Document, frozen=True, kw_only=True):
    """What `dbperf history show` and `steps` print as JSON."""

    kind: ClassVar[str] = "history"
    file_name: ClassVar[str] = "history.json"

    store: str
    runs: int
    series: list[Series]
    notes: list[str] = []
