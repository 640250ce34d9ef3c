"""The runs of a folder, and how their figures moved from one to the next.

Only runs that measured the same are put in one series: the same load profile, the same kind of target and scale, the
same provenance. Figures of different profiles are never drawn as one line.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from pathlib import Path

from dbperf.errors import RecordError
from dbperf.records.base import Record
from dbperf.records.history import SeriesStep
from dbperf.records.load import Load
from dbperf.records.run import Manifest, Provenance, RunStatus
from dbperf.records.rundir import RunDirectory
from dbperf.records.statements import Statements
from dbperf.records.verdicts import Verdict, Verdicts
from dbperf.stats.steps import steps_of

MAX_RUNS = 200
MAX_STATEMENTS = 12
"""Statements of a group that get a trend: those with the most time in its newest run."""


class RunEntry(Record, frozen=True, kw_only=True):
    """A run in the list."""

    folder: str
    """The name of its folder, which is its address."""
    name: str
    status: RunStatus | None
    provenance: Provenance | None
    started_at: datetime | None
    verdict: Verdict | None
    profile: str
    """What was measured, in words; runs with the same words are comparable."""
    requests: int | None
    errors: int | None
    git_revision: str | None
    problem: str | None = None
    """Why it can't be read."""


class TrendPoint(Record, frozen=True, kw_only=True):
    """A figure in one run."""

    folder: str
    started_at: datetime
    value_ms: float
    low_ms: float | None = None
    high_ms: float | None = None
    """Its 95 % interval, where there is one."""
    git_revision: str | None = None


class Trend(Record, frozen=True, kw_only=True):
    """A figure over the runs of a group, oldest first."""

    title: str
    points: list[TrendPoint]
    steps: list[SeriesStep]
    """Where its level changed: none with fewer than ten runs."""


class Group(Record, frozen=True, kw_only=True):
    """Runs that measured the same. A figure needs two of them for a trend."""

    profile: str
    runs: int
    endpoints: list[Trend]
    """P95 of each endpoint in the last stage."""
    statements: list[Trend]
    """Mean time per call of the statements that matter most now."""


class History(Record, frozen=True, kw_only=True):
    """The newest runs of a folder, newest first, and the groups with more than one run."""

    runs: list[RunEntry]
    groups: list[Group]
    left_out: int
    """Older runs that are not listed."""


class _Loaded:
    """What a trend needs of a run, read once."""

    def __init__(self, run: RunDirectory) -> None:
        self.manifest = run.manifest
        self.folder = run.path.name
        self.load = run.maybe(Load)
        self.statements = run.maybe(Statements)
        self.verdicts = run.maybe(Verdicts)


def read_history(root: Path) -> History:
    """The history of a folder of runs. A run that can't be read is listed with the reason.

    Raises:
        RecordError: there is no such folder.
    """
    folders = run_folders(root)
    entries: list[RunEntry] = []
    groups: dict[str, list[_Loaded]] = defaultdict(list)
    for folder in folders[:MAX_RUNS]:
        try:
            loaded = _Loaded(RunDirectory.open(folder))
        except RecordError as e:
            entries.append(_unreadable(folder.name, e.message.replace(f"{folder}/", "")))
            continue
        entries.append(_entry(loaded))
        # A load that was cut short measured less than its profile says.
        if loaded.load and loaded.load.complete:
            groups[entries[-1].profile].append(loaded)
    return History(
        runs=sorted(entries, key=lambda e: (e.started_at is not None, str(e.started_at), e.folder), reverse=True),
        groups=[_group(profile, runs) for profile, runs in sorted(groups.items()) if len(runs) > 1],
        left_out=max(len(folders) - MAX_RUNS, 0),
    )


def run_folders(root: Path) -> list[Path]:
    """The run directories in a folder, by name, newest (greatest) first. Links are not followed.

    Raises:
        RecordError: there is no such folder.
    """
    try:
        found = [p for p in root.iterdir() if not p.is_symlink() and (p / Manifest.file_name).is_file()]
    except OSError as e:
        raise RecordError(f"{root} is no folder of runs ({e.strerror})", hint="dbperf run makes one") from e
    return sorted(found, key=lambda p: p.name, reverse=True)


def profile_of(manifest: Manifest) -> str:
    """What a run measured, in words: the key of comparability."""
    parts = []
    if (target := manifest.target) is not None:
        where = f"reference target, scale {target.scale}" if target.origin == "reference" else target.url
        parts.append(where if target.workers in (None, 1) else f"{where}, {target.workers} workers")
    if (p := manifest.load_profile) is not None:
        load = f"{p.users} users" if p.users is not None else f"{p.arrival_rate_per_s or 0:g} arrivals/s"
        parts.append(f"suite {p.suite}, {load}, {p.duration_s:g} s after {p.warm_up_s:g} s")
    if (s := manifest.server) is not None:
        parts.append(f"PostgreSQL {s.version_num // 10000}")
    if manifest.provenance != "measured":
        parts.append(manifest.provenance)
    return " · ".join(parts) or "nothing recorded"


def _entry(run: _Loaded) -> RunEntry:
    m = run.manifest
    return RunEntry(
        folder=run.folder,
        name=m.name,
        status=m.status,
        provenance=m.provenance,
        started_at=m.started_at,
        verdict=run.verdicts.overall if run.verdicts and run.verdicts.levels else None,
        profile=profile_of(m),
        requests=sum(s.requests for s in run.load.stages) if run.load else None,
        errors=sum(s.errors for s in run.load.stages) if run.load else None,
        git_revision=m.git_revision,
    )


def _unreadable(folder: str, problem: str) -> RunEntry:
    return RunEntry(
        folder=folder,
        name=folder,
        status=None,
        provenance=None,
        started_at=None,
        verdict=None,
        profile="",
        requests=None,
        errors=None,
        git_revision=None,
        problem=problem,
    )


def _group(profile: str, runs: list[_Loaded]) -> Group:
    ordered = sorted(runs, key=lambda r: (r.manifest.started_at, r.folder))
    return Group(profile=profile, runs=len(ordered), endpoints=_endpoints(ordered), statements=_statements(ordered))


def _endpoints(runs: list[_Loaded]) -> list[Trend]:
    points: dict[str, list[TrendPoint]] = defaultdict(list)
    for run in runs:
        assert run.load is not None
        for e in run.load.stages[-1].endpoints if run.load.stages else []:
            q = next((q for q in e.quantiles if abs(q.q - 0.95) < 1e-9), None)
            if q is not None and q.value_ms is not None:
                points[e.name].append(_point(run, q.value_ms, q.ci_low_ms, q.ci_high_ms))
    return [_trend(name, found) for name, found in points.items() if len(found) > 1]


def _statements(runs: list[_Loaded]) -> list[Trend]:
    newest = next((r.statements for r in reversed(runs) if r.statements), None)
    if newest is None:
        return []
    chosen = sorted(newest.statements, key=lambda s: -s.total_ms)[:MAX_STATEMENTS]
    trends = []
    for s in chosen:
        points = []
        for run in runs:
            same = [x for x in (run.statements.statements if run.statements else []) if x.fingerprint == s.fingerprint]
            calls = sum(x.calls for x in same)
            if calls:
                points.append(_point(run, sum(x.total_ms for x in same) / calls))
        if len(points) > 1:
            trends.append(_trend(s.text, points))
    return trends


def _point(run: _Loaded, value: float, low: float | None = None, high: float | None = None) -> TrendPoint:
    return TrendPoint(
        folder=run.folder,
        started_at=run.manifest.started_at,
        value_ms=value,
        low_ms=low,
        high_ms=high,
        git_revision=run.manifest.git_revision,
    )


def _trend(title: str, points: list[TrendPoint]) -> Trend:
    steps = steps_of([p.value_ms for p in points], [p.git_revision for p in points], lower_is_better=True)
    return Trend(title=title, points=points, steps=steps)
