"""The manifest of a run: what was measured, where, when, with which versions, and how far it got."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal

from dbperf.records.base import Document, Record

Provenance = Literal["measured", "simulated", "sample"]
"""Where the numbers come from. Simulated and sample data never pass or fail a gate against measured data."""

RunStatus = Literal["running", "complete", "partial", "failed"]
StageStatus = Literal["running", "done", "skipped", "failed", "interrupted"]


class Host(Record, frozen=True, kw_only=True):
    """The machine that ran dbperf and, with a local target, the target too."""

    hostname: str
    system: str
    """Kernel name, release and machine, as in uname."""
    python_version: str
    cpu_model: str | None = None
    cpu_count: int
    """CPUs this process may use (affinity and cgroup quota respected)."""
    memory_bytes: int


class Extension(Record, frozen=True, kw_only=True):
    name: str
    version: str
    schema: str


class Server(Record, frozen=True, kw_only=True):
    """The PostgreSQL server of a run."""

    version: str
    version_num: int
    embedded: bool
    """dbperf's own server, started for the run."""
    database: str
    dsn: str
    """The connection string with the password masked."""
    size_bytes: int | None = None
    extensions: list[Extension]
    settings: dict[str, str]
    """The settings that matter for performance, as SHOW prints them."""


class Target(Record, frozen=True, kw_only=True):
    """The HTTP API of a run."""

    url: str
    origin: Literal["reference", "user"]
    scale: str | None = None
    """Scale of the reference target's data; None for a user's own API."""
    workers: int | None = None


class LoadProfile(Record, frozen=True, kw_only=True):
    """What was asked of the target. Figures of runs with different profiles are not comparable."""

    suite: str
    model: Literal["closed", "open"]
    users: int | None = None
    arrival_rate_per_s: float | None = None
    duration_s: float
    warm_up_s: float
    mix: dict[str, float]
    """Endpoint name to its share of requests (0..1), as asked for."""


class RunStage(Record, frozen=True, kw_only=True):
    """A step of the main job."""

    name: str
    title: str
    status: StageStatus
    started_at: datetime
    elapsed_s: float | None = None
    detail: str | None = None
    """What it found, why it was skipped, or the error that ended it."""


class Manifest(Document, frozen=True, kw_only=True):
    """`run.json`. Written at the start, after each stage and at the end."""

    kind: ClassVar[str] = "run"
    file_name: ClassVar[str] = "run.json"

    name: str
    status: RunStatus
    provenance: Provenance
    started_at: datetime
    ended_at: datetime | None = None
    dbperf_version: str
    command: list[str]
    """argv with passwords and keys masked."""
    git_revision: str | None = None
    """HEAD of the folder that dbperf was started in, "-dirty" appended where it has changes."""
    pid: int
    host: Host
    server: Server | None = None
    target: Target | None = None
    load_profile: LoadProfile | None = None
    stages: list[RunStage] = []
    files: dict[str, str] = {}
    """Kind of document to its file name in the run directory."""
    notes: list[str] = []
    """What weakens which figure, in sentences."""
    extra: dict[str, Any] = {}
