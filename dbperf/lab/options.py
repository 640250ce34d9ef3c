"""What a run is asked to do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from dbperf.config import Config, Safety
from dbperf.errors import UsageError
from dbperf.load.plan import Fleet
from dbperf.records.base import Record
from dbperf.records.verdicts import ServiceLevel

Implementation = Literal["naive", "tuned"]
SCALES = ("smoke", "spec", "large")
REFERENCE_SUITE = "phase3"
QUICK_USERS, QUICK_DURATION_S, QUICK_WARM_UP_S = 5, 10.0, 1.0
OBSERVE_S = 60.0
"""How long a database is watched where no load says it."""
T = TypeVar("T")
DEFAULT_ROOT = Path("reports/runs")


class RunOptions(Record, frozen=True, kw_only=True):
    """The main job's settings, with defaults filled in."""

    name: str
    out: Path | None = None
    """The run directory; None: a new one below reports/runs."""
    force: bool = False
    dsn: str | None = None
    """The user's database; None with `url` None: the embedded server."""
    url: str | None = None
    """The user's API; None with `dsn` None: the reference target."""
    headers: dict[str, str] = {}
    suite: str | None = None
    ci: bool = False
    """Take the suite's CI variant."""
    gates: list[str] = []
    """Beside the suite's own."""
    fleet: Fleet | None = None
    """Several load processes instead of one."""
    locustfile: Path | None = None
    """Its users instead of the suite's endpoints."""
    scale: str = "spec"
    implementation: Implementation = "naive"
    """How the reference target answers. Only its start reads this: nothing that analyses may."""
    seed: int = 1
    users: int | None = None
    """None: as the suite says; so for the next two."""
    duration_s: float | None = None
    warm_up_s: float | None = None
    top: int = 10
    """How many statements get a plan."""
    trace: bool = True
    """Whether the reference target runs under trace."""
    traces: Path | None = None
    """Where a user's API writes its trace."""
    causes: bool = True
    """Whether what explains the figures follows the load: flame graphs, trace, index advice and its proof."""
    writes: bool = False
    """Whether requests that write may go to a user's API."""
    staging: bool = False
    not_production: bool = False
    service_levels: list[ServiceLevel] = []
    """Beside the suite's own; these come first."""
    safety: Safety = Safety()
    command: list[str] = []

    @property
    def is_reference(self) -> bool:
        """Whether dbperf brings its own database and API."""
        return self.dsn is None and self.url is None


def resolve(
    config: Config,
    *,
    name: str | None = None,
    out: Path | None = None,
    force: bool = False,
    dsn: str | None = None,
    url: str | None = None,
    api_key: str | None = None,
    headers: dict[str, str] | None = None,
    suite: str | None = None,
    ci: bool = False,
    gates: list[str] | None = None,
    fleet: Fleet | None = None,
    locustfile: Path | None = None,
    scale: str | None = None,
    implementation: Implementation = "naive",
    seed: int = 1,
    users: int | None = None,
    duration_s: float | None = None,
    warm_up_s: float | None = None,
    top: int | None = None,
    quick: bool = False,
    trace: bool = True,
    traces: Path | None = None,
    causes: bool = True,
    writes: bool = False,
    staging: bool = False,
    not_production: bool = False,
    command: list[str] | None = None,
) -> RunOptions:
    """Options from the command line, then the configuration, then defaults (smaller ones with `quick`).

    Raises:
        UsageError: a value that does not fit.
    """
    dsn, url = dsn or config.dsn, url or config.url
    scale = scale or config.scale or ("smoke" if quick else "spec")
    if scale not in SCALES:
        raise UsageError(f"there is no scale {scale!r}", hint=f"one of {', '.join(SCALES)}")
    duration = _first(duration_s, config.duration_s, QUICK_DURATION_S if quick else None)
    if duration is not None and duration < 1:
        raise UsageError("--duration must be at least 1 s", hint="percentiles need requests")
    count = _first(users, config.users, QUICK_USERS if quick else None)
    if count is not None and count < 1:
        raise UsageError("--users must be at least 1", hint="for example --users 10")
    if traces is not None and url is None:
        raise UsageError("--traces is for an API of your own", hint="with --url; the reference target is traced anyway")
    key = api_key or config.api_key
    all_headers = {**config.headers, **(headers or {}), **({"X-API-Key": key} if key else {})}
    return RunOptions(
        name=name or ("reference" if dsn is None and url is None else "run"),
        out=out or (Path(config.out) if config.out else None),
        force=force,
        dsn=dsn,
        url=url.rstrip("/") if url else None,
        headers=all_headers,
        suite=suite or config.suite,
        ci=ci,
        gates=[*config.gates, *(gates or [])],
        fleet=fleet,
        locustfile=locustfile,
        scale=scale,
        implementation=implementation,
        seed=seed,
        users=count,
        duration_s=duration,
        warm_up_s=_first(warm_up_s, config.warm_up_s, QUICK_WARM_UP_S if quick else None),
        top=next(v for v in (top, config.top, 10) if v is not None),
        trace=trace and causes,
        traces=traces,
        causes=causes,
        writes=writes,
        staging=staging,
        not_production=not_production,
        service_levels=config.service_levels,
        safety=config.safety,
        command=command or [],
    )


def _first(*values: T | None) -> T | None:
    return next((v for v in values if v is not None), None)
