"""`performance_baseline.json`: what is known to be normal, who said so, and which exceptions are accepted."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from dbperf.records.base import Document, Record
from dbperf.records.comparison import Accepted, Measurement


class Change(Record, frozen=True, kw_only=True):
    """A figure that a promotion changed."""

    name: str
    old: float | None
    new: float | None


class Promotion(Record, frozen=True, kw_only=True):
    """One entry of the history: who made which run the baseline, and why."""

    at: datetime
    who: str
    reason: str
    source: str
    git_revision: str | None = None
    changes: list[Change]


class Origin(Record, frozen=True, kw_only=True):
    """The run that measurements came from."""

    source: str
    measured_at: datetime | None
    git_revision: str | None
    hostname: str | None = None
    dbperf_version: str | None = None


class Entry(Record, frozen=True, kw_only=True):
    """A measurement and where it came from."""

    origin: Origin
    measurement: Measurement


class Baseline(Document, frozen=True, kw_only=True):
    """Kept in git: keys in a fixed order, entries sorted by stage and subject."""

    kind: ClassVar[str] = "baseline"
    file_name: ClassVar[str] = "performance_baseline.json"

    entries: list[Entry]
    accepted: list[Accepted] = []
    history: list[Promotion] = []
    """Newest first."""
