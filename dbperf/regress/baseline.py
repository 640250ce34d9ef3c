"""Changing a baseline: who made what normal, when and why. Nothing is forgotten; git keeps the file."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec

from dbperf.errors import RecordError, UsageError, did_you_mean
from dbperf.records.base import read_document, write_atomic
from dbperf.records.baseline import Baseline, Change, Entry, Origin, Promotion
from dbperf.records.comparison import Accepted, Measurement
from dbperf.records.rundir import RunDirectory
from dbperf.regress.metrics import METRICS, fits
from dbperf.regress.read_run import read_run

DEFAULT_PATH = Path("reports") / Baseline.file_name


def load_baseline(path: Path) -> Baseline:
    """The baseline at a path.

    Raises:
        RecordError: there is none, it can't be read, or it is from a newer dbperf.
    """
    if not path.is_file():
        raise RecordError(f"there is no baseline at {path}", hint="dbperf baseline promote RUN --reason … makes one")
    return read_document(Baseline, path)


def promote(path: Path, run: Path, *, reason: str, who: str | None = None, force: bool = False) -> Promotion:
    """Makes a run's figures the baseline's; figures that the run did not measure stay as they are.

    Args:
        path: the baseline; made where there is none.
        run: a run directory.
        reason: why this is normal now.
        who: by default git's user, GITHUB_ACTOR or the account.
        force: also a run that was cut short.

    Raises:
        UsageError: no reason is given.
        RecordError: the run or the baseline can't be read, or the run may not become a baseline.
        OutputError: the baseline can't be written.
    """
    if not reason.strip():
        raise UsageError("a baseline needs a reason", hint='--reason "the new index"')
    directory = RunDirectory.open(run)
    manifest = directory.manifest
    if manifest.provenance != "measured":
        raise RecordError(f"{run} holds {manifest.provenance} data: no baseline", hint="measure, then promote")
    if manifest.status != "complete" and not force:
        raise RecordError(f"{run} is {manifest.status}: half a run is no baseline", hint="--force promotes it anyway")
    figures = read_run(run)
    old = load_baseline(path) if path.is_file() else Baseline(entries=[])
    origin = Origin(
        source=run.name, measured_at=manifest.started_at, git_revision=manifest.git_revision,
        hostname=manifest.host.hostname, dbperf_version=manifest.dbperf_version,
    )  # fmt: skip
    kept = {_key(e.measurement): e for e in old.entries}
    changes = []
    for m in figures.measurements:
        before = kept.get(_key(m))
        changes += _changes(before.measurement if before else None, m)
        kept[_key(m)] = Entry(origin=origin, measurement=m)
    entry = Promotion(
        at=datetime.now(UTC), who=who or whoami(), reason=reason.strip(), source=run.name,
        git_revision=manifest.git_revision, changes=changes,
    )  # fmt: skip
    new = Baseline(
        entries=[kept[k] for k in sorted(kept, key=lambda k: (k[0] or "", k[1]))],
        accepted=old.accepted,
        history=[entry, *old.history],
    )
    _write(path, new)
    return entry


def accept(
    path: Path, metric: str, *, until: date, reason: str, who: str | None = None, now: datetime | None = None
) -> Accepted:
    """Accepts a known exception until a day. An older one for the same metric is replaced.

    Raises:
        UsageError: the day is over, no reason is given, or the metric is none of the baseline's.
        RecordError: there is no baseline.
    """
    now = now or datetime.now(UTC)
    if until < now.date():
        raise UsageError(f"--until {until} is over", hint="an exception ends on a day to come")
    if not reason.strip():
        raise UsageError("an exception needs a reason", hint='--reason "known, ticket 123"')
    old = load_baseline(path)
    names = metric_names(old)
    if not any(fits(name, metric) for name in names):
        raise UsageError(f"the baseline has no metric {metric!r}", hint=did_you_mean(metric, names))
    entry = Accepted(metric=metric, until=until, reason=reason.strip(), who=who or whoami(), at=now)
    others = [x for x in old.accepted if x.metric != metric]
    _write(path, msgspec.structs.replace(old, accepted=[*others, entry]))
    return entry


def metric_names(baseline: Baseline) -> list[str]:
    """The names that a comparison with this baseline may have."""
    stages = {e.measurement.stage for e in baseline.entries if e.measurement.stage}
    names = []
    for e in baseline.entries:
        m = e.measurement
        labels = [m.subject, f"{m.subject} [{m.stage}]"] if m.stage and len(stages) > 1 else [m.subject]
        metrics = [*METRICS, *(c.name for c in m.custom)]
        names += [f"{label} {metric}" for label in labels for metric in metrics]
    return names


def whoami() -> str:
    """Who is at work: git's user, on GitHub the one who started the workflow, else the account."""
    if actor := os.environ.get("GITHUB_ACTOR"):
        return actor
    try:
        done = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is not None and done.returncode == 0 and done.stdout.strip():
        return done.stdout.strip()
    return os.environ.get("USER") or os.environ.get("LOGNAME") or "unknown"


def _key(m: Measurement) -> tuple[str | None, str]:
    return m.stage, m.subject


def _changes(old: Measurement | None, new: Measurement) -> list[Change]:
    """The figures that a promotion changes: P50, P95, errors, throughput, custom ones."""
    before = _figures(old) if old else {}
    label = f"{new.subject} [{new.stage}]" if new.stage else new.subject
    return [
        Change(name=f"{label} {name}", old=before.get(name), new=value)
        for name, value in _figures(new).items()
        if before.get(name) != value
    ]


def _figures(m: Measurement) -> dict[str, float]:
    found = {f"p{q.q * 100:g}_ms": q.value_ms for q in m.quantiles if q.q in (0.5, 0.95) and q.value_ms is not None}
    if m.errors is not None and m.requests:
        found["error_share"] = m.errors / m.requests
    if m.requests_per_s is not None:
        found["requests_per_s"] = m.requests_per_s
    return found | {c.name: c.value for c in m.custom}


def _write(path: Path, baseline: Baseline) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, baseline.to_json())
