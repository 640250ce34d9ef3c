"""Keeps a profile in a run directory."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from dbperf import __version__
from dbperf.errors import DbperfError
from dbperf.lab.provenance import git_revision, host, masked_command
from dbperf.records.run import Manifest
from dbperf.records.rundir import RunDirectory

if TYPE_CHECKING:
    from dbperf.records.profile import Profile


class Keeper:
    """Makes the run directory before the window opens, so that a folder which can't be written costs no measurement.

    Raises:
        OutputError: the folder can't be written, or holds something.
    """

    def __init__(self, folder: Path | None, *, force: bool) -> None:
        self._run = None if folder is None else RunDirectory.create(folder, _manifest(), force=force)
        self._written = False

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._run is not None and not self._written and not self._run.give_back():
            note = error.message if isinstance(error, DbperfError) else "dbperf ended before the profile was written"
            self._run.update(status="failed", ended_at=datetime.now(UTC), notes=[note])

    def write(self, profile: Profile) -> None:
        """Writes what was measured; anything but a whole window makes a partial run."""
        if self._run is None:
            return
        for document in profile.documents():
            self._run.write(document)
        whole = profile.summary.ended == "complete"
        self._run.update(
            status="complete" if whole else "partial",
            ended_at=datetime.now(UTC),
            server=profile.server,
            notes=profile.statements.validity.notes,
        )
        self._written = True


def _manifest() -> Manifest:
    return Manifest(
        name="profile",
        status="running",
        provenance="measured",
        started_at=datetime.now(UTC),
        dbperf_version=__version__,
        command=masked_command(sys.argv),
        git_revision=git_revision(Path.cwd()),
        pid=os.getpid(),
        host=host(),
    )
