"""What benchmarks measured: every sample in the order in which it was taken, and how good the samples are."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from dbperf.records.base import Document, Record
from dbperf.records.comparison import CustomFigure
from dbperf.records.load import Quantile
from dbperf.records.run import Target


class SampleQuality(Record, frozen=True, kw_only=True):
    """What may be wrong with a series of samples."""

    warm_up: int = 0
    """Samples at the start that belong to a warm-up: left out of the figures, kept in the series."""
    autocorrelation: float | None = None
    """Of neighbours' ranks, -1 to 1."""
    block: int = 1
    """Over how many samples neighbours resemble each other."""
    modes: int = 1
    """2: the samples fall into two groups (a cache that hits and misses, two plans)."""
    outliers: int = 0
    """Beyond 3 interquartile ranges above the upper quartile: counted and kept."""
    clock_resolution_share: float | None = None
    """The clock's resolution relative to the median."""
    cpu_steal_share: float | None = None
    """CPU time that the hypervisor gave to others, of all."""
    cpu_busy_other_share: float | None = None
    """CPU time that other processes used, of all."""
    cpu_mhz_drop_share: float | None = None
    """By how much the clock rate fell during the run; None where the machine does not tell."""
    warnings: list[str] = []
    """What weakens the figures, in sentences."""
    invalid: list[str] = []
    """What makes them useless; such a benchmark passes and fails nothing."""


class Benchmark(Record, frozen=True, kw_only=True):
    """One benchmark."""

    name: str
    fullname: str
    """File and test, as pytest names it."""
    group: str | None = None
    """Benchmarks of one endpoint share a group."""
    kind: Literal["sync", "async"] = "sync"
    iterations: int = 1
    """Calls per sample."""
    samples_ms: list[float]
    """Milliseconds per call, in the order in which they were taken, warm-up included."""
    quantiles: list[Quantile]
    mean_ms: float | None
    min_ms: float | None
    max_ms: float | None
    custom: list[CustomFigure] = []
    quality: SampleQuality = SampleQuality()


class Benchmarks(Document, frozen=True, kw_only=True):
    """`benchmarks.json`."""

    kind: ClassVar[str] = "benchmarks"
    file_name: ClassVar[str] = "benchmarks.json"

    started_at: datetime
    ended_at: datetime
    target: Target | None = None
    """The API that was measured, where there was one."""
    database: str | None = None
    """"PostgreSQL 18", where the target is the reference target."""
    benchmarks: list[Benchmark]
    notes: list[str] = []


class CustomFigures(Document, frozen=True, kw_only=True):
    """`custom.json`: a user's own figures, put into a run directory by the user's own programs."""

    kind: ClassVar[str] = "custom"
    file_name: ClassVar[str] = "custom.json"

    subject: str
    """What they belong to: an endpoint's or a service's name."""
    figures: list[CustomFigure]
