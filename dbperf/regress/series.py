"""Series of comparable figures from a history, and the steps in them with their commits."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from dbperf.errors import RecordError
from dbperf.records.comparison import Conditions, Measurement
from dbperf.records.history import Commit, Series, SeriesPoint, StoredFigure, StoredRun
from dbperf.records.load import Quantile
from dbperf.records.run import Manifest
from dbperf.records.rundir import RunDirectory
from dbperf.regress.conditions import differences, unknown
from dbperf.regress.metrics import METRICS, fits
from dbperf.regress.sources import read_side
from dbperf.stats.edivisive import LEAST_POINTS
from dbperf.stats.steps import LEAST_CHANGE, steps_of

POINTS_NEEDED = 2 * LEAST_POINTS + 1
_MOST_COMMITS = 20


class Store(Protocol):
    """Where a history is kept."""

    name: str

    def add(self, runs: list[StoredRun]) -> int: ...

    def runs(self) -> list[StoredRun]: ...


def stored_run(path: Path, *, force: bool = False) -> StoredRun:
    """What a history keeps of a run directory, or of another file that tells when it was measured.

    Args:
        path: as `dbperf compare` takes it.
        force: also a run that was cut short.

    Raises:
        RecordError: it can't be read, does not tell its time, was cut short, or is no measurement.
    """
    figures = read_side(path)
    side = figures.side
    if side.kind == "baseline":
        raise RecordError(f"{path} is a baseline", hint="add the runs that it was made of")
    if side.measured_at is None:
        raise RecordError(f"{path} does not tell when it was measured", hint="add a run directory")
    if (path / Manifest.file_name).is_file() and not force:
        status = RunDirectory.open(path).manifest.status
        if status != "complete":
            raise RecordError(f"{path} is {status}: half a run has no place in a series", hint="--force adds it anyway")
    found = [f for m in figures.measurements for f in _figures(m)]
    content = msgspec.json.encode([side.kind, side.measured_at, side.git_revision, found])
    return StoredRun(
        run_id=hashlib.sha256(content).hexdigest()[:32], source=path.resolve().name, kind=side.kind,
        measured_at=side.measured_at, git_revision=side.git_revision, figures=found,
    )  # fmt: skip


def series_of(
    runs: list[StoredRun], *, metrics: Collection[str] | None = None, subject: str | None = None
) -> list[Series]:
    """One series per figure and set of comparable conditions, by subject, oldest point first.

    Args:
        runs: in any order.
        metrics: only these; by default those that gate, and custom ones.
        subject: only endpoints that fit this pattern (* stands for anything).
    """
    found: dict[tuple[str, str, str], list[_Growing]] = {}
    stages = {(f.subject, f.stage) for run in runs for f in run.figures}
    several = {subject for subject, stage in stages if any(s == subject and t != stage for s, t in stages)}
    for run in sorted(runs, key=lambda r: (r.measured_at, r.run_id)):
        for f in run.figures:
            if not _wanted(f, metrics, subject):
                continue
            candidates = found.setdefault((f.subject, f.stage or "", f.metric), [])
            growing = next((g for g in candidates if _comparable(g.first.conditions, f.conditions)), None)
            if growing is None:
                growing = _Growing(first=f)
                candidates.append(growing)
            growing.points.append(
                SeriesPoint(
                    source=run.source, measured_at=run.measured_at, git_revision=run.git_revision, value=f.value,
                    ci_low=f.ci_low, ci_high=f.ci_high,
                )
            )  # fmt: skip
    return [
        Series(
            name=f"{g.first.subject}{_stage_label(g.first, several)} {g.first.metric}",
            subject=g.first.subject, stage=g.first.stage, metric=g.first.metric, unit=g.first.unit,
            direction=g.first.direction, conditions=g.first.conditions, points=g.points,
        )
        for key in sorted(found)
        for g in found[key]
    ]  # fmt: skip


def with_steps(series: Series, *, least_change: float = LEAST_CHANGE, repository: Path | None = None) -> Series:
    """The series with its steps, each with its range of commits.

    Args:
        series: with fewer than `POINTS_NEEDED` points it has no steps that anyone could show.
        least_change: smaller steps are left out; of shares, half a point is the least.
        repository: where git knows the commits.
    """
    found = steps_of(
        [p.value for p in series.points], [p.git_revision for p in series.points],
        lower_is_better=series.direction == "lower", share=series.unit == "share", least_change=least_change,
    )  # fmt: skip
    steps = []
    for step in found:
        commits, left_out = (
            commits_between(step.revision_before, step.revision_after, repository) if repository else ([], 0)
        )
        steps.append(msgspec.structs.replace(step, commits=commits, commits_left_out=left_out))
    return msgspec.structs.replace(series, steps=steps)


def commits_between(before: str | None, after: str | None, repository: Path) -> tuple[list[Commit], int]:
    """The commits behind `before` up to `after`, newest first, and how many more there are; none where git does not
    know both."""
    if before is None or after is None:
        return [], 0
    old, new = (r.removesuffix("-dirty") for r in (before, after))
    if not all(r.isalnum() for r in (old, new)):  # nothing that git could take for an option
        return [], 0
    command = ["git", "-C", str(repository), "log", "--format=%H%x1f%an%x1f%s", f"{old}..{new}", "--"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return [], 0
    if done.returncode != 0:
        return [], 0
    lines = done.stdout.decode(errors="replace").splitlines()
    commits = []
    for line in lines[:_MOST_COMMITS]:
        revision, author, subject = line.split("\x1f", 2)
        commits.append(Commit(revision=revision, author=author, subject=subject))
    return commits, max(0, len(lines) - _MOST_COMMITS)


@dataclass(kw_only=True)
class _Growing:
    first: StoredFigure
    points: list[SeriesPoint] = field(default_factory=list)


def _comparable(a: Conditions, b: Conditions) -> bool:
    return not differences(a, b) and not unknown(a, b)


def _stage_label(f: StoredFigure, several: set[str]) -> str:
    return f" [{f.stage}]" if f.stage and f.subject in several else ""


def _wanted(f: StoredFigure, metrics: Collection[str] | None, subject: str | None) -> bool:
    if metrics is not None and f.metric not in metrics:
        return False
    if metrics is None and f.metric in METRICS and not METRICS[f.metric].gate:
        return False
    return subject is None or fits(f.subject, subject)


def _figures(m: Measurement) -> list[StoredFigure]:
    found = []

    def add(metric: str, value: float | None, low: float | None = None, high: float | None = None) -> None:
        known = METRICS[metric]
        if value is not None:
            found.append(
                StoredFigure(
                    subject=m.subject, stage=m.stage, metric=metric, unit=known.unit, direction=known.direction,
                    value=value, ci_low=low, ci_high=high, conditions=m.conditions,
                )
            )  # fmt: skip

    for name in ("p50", "p95", "p99"):
        q = _quantile(m, METRICS[name].q)
        if q is not None:
            add(name, q.value_ms, q.ci_low_ms, q.ci_high_ms)
    if m.errors is not None and m.requests:
        add("errors", m.errors / m.requests)
    if m.conditions.arrival_rate_per_s is None:  # else the load sets it, not the target
        add("requests_per_s", m.requests_per_s, *(m.requests_per_s_ci or (None, None)))
    for c in m.custom:
        found.append(
            StoredFigure(
                subject=m.subject, stage=m.stage, metric=c.name, unit=c.unit, direction=c.direction, value=c.value,
                conditions=m.conditions,
            )
        )  # fmt: skip
    return found


def _quantile(m: Measurement, q: float | None) -> Quantile | None:
    return next((x for x in m.quantiles if q is not None and abs(x.q - q) < 1e-9), None)
