"""What the stages of a run share."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from dbperf.lab.options import RunOptions
from dbperf.lab.stages import Stages
from dbperf.lab.target import Api
from dbperf.postgres.embedded import Embedded
from dbperf.records.rundir import RunDirectory
from dbperf.records.suite import Suite


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the load was, so that it can be repeated."""

    suite: Suite
    data: dict[str, list[Any]]


@dataclass(kw_only=True)
class Lab:
    """One run: what was asked for, where its records go, and what its stages have started so far."""

    options: RunOptions
    suite: Suite | None
    """None: derived from the API, or nothing is loaded."""
    directory: RunDirectory
    stages: Stages
    stack: AsyncExitStack
    """Ends what the stages start."""
    dsn: str | None = None
    conn: asyncpg.Connection[Any] | None = None
    server: Embedded | None = None
    """That the reference tables are in."""
    fresh_dsn: str | None = None
    """A copy of them from before the load."""
    preparing: asyncio.Future[None] | None = None
    """What a report needs whatever it says."""
    asked: Asked | None = None
    api: Api | None = None
    api_ended: str | None = None
    """How the API's process ended during the load, where it did."""

    @property
    def trace_dir(self) -> Path | None:
        """Where the reference target writes its trace; None: it runs without."""
        return self.directory.path / "trace" if self.options.is_reference and self.options.trace else None
