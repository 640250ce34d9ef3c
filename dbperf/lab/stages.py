"""Stages of a run: each is entered in the manifest when it begins and when it ends, whatever ends it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec

from dbperf.errors import DbperfError
from dbperf.lab.progress import Progress
from dbperf.records.run import RunStage, StageStatus
from dbperf.records.rundir import RunDirectory


class Stage:
    """The running stage. `detail` becomes its line in the report."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.detail: str | None = None

    def update(self, detail: str, rows: Sequence[tuple[str, str]] = ()) -> None:
        self._progress.stage_update(detail, rows)


class Stages:
    """Runs stages one after another and keeps the manifest true."""

    def __init__(self, run: RunDirectory, progress: Progress) -> None:
        self._run = run
        self._progress = progress

    @contextmanager
    def stage(self, name: str, title: str, expected_s: float | None = None) -> Iterator[Stage]:
        """A stage of the run; its status is done, failed or interrupted by how the block ends."""
        record = RunStage(name=name, title=title, status="running", started_at=datetime.now(UTC))
        self._run.set_stage(record)
        self._progress.stage_started(title, expected_s)
        stage, start = Stage(self._progress), time.monotonic()
        status: StageStatus = "failed"
        try:
            yield stage
            status = "done"
        except (asyncio.CancelledError, KeyboardInterrupt):
            status = "interrupted"
            raise
        except DbperfError as e:
            stage.detail = e.message
            raise
        except BaseException as e:
            stage.detail = f"{type(e).__name__}: {e}"
            raise
        finally:
            elapsed_s = time.monotonic() - start
            self._run.set_stage(
                msgspec.structs.replace(record, status=status, elapsed_s=round(elapsed_s, 3), detail=stage.detail)
            )
            self._progress.stage_ended(title, status, elapsed_s, stage.detail)

    def skip(self, name: str, title: str, why: str) -> None:
        """Enters a stage that does not apply."""
        now = datetime.now(UTC)
        self._run.set_stage(
            RunStage(name=name, title=title, status="skipped", started_at=now, elapsed_s=0.0, detail=why)
        )

    def note(self, text: str) -> None:
        """Keeps a sentence that weakens a figure or explains a gap, and shows it."""
        self._run.update(notes=[*self._run.manifest.notes, text])
        self._progress.note(text)
