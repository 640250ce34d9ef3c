"""The main job: from nothing, or from a user's database and API, to a run directory with a report.

Whatever ends a run (a failed stage, Ctrl-C, SIGTERM), everything it started is stopped, everything it measured stays
in the run directory, and a report of that much is written.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from dbperf import __version__
from dbperf.errors import DbperfError, Interrupted, UsageError
from dbperf.lab import provenance
from dbperf.lab.context import Lab
from dbperf.lab.measure import measure
from dbperf.lab.options import DEFAULT_ROOT, REFERENCE_SUITE, RunOptions
from dbperf.lab.progress import Progress, Silent
from dbperf.lab.safety import check_target, check_users, url_host
from dbperf.lab.stages import Stages
from dbperf.load import load_suite
from dbperf.load.gate_language import parse_gate
from dbperf.load.suites import ci_variant, with_overrides
from dbperf.postgres.dsn import mask_dsn, resolve
from dbperf.records.base import Record
from dbperf.records.run import Manifest
from dbperf.records.rundir import RunDirectory, default_path
from dbperf.records.suite import Suite
from dbperf.records.verdicts import Verdict, Verdicts
from dbperf.report.write import ReportFiles, keep_latest, write_report


class Outcome(Record, frozen=True, kw_only=True):
    """What a finished run left behind."""

    path: Path
    verdict: Verdict | None
    """None where nothing was judged (no load)."""
    report: ReportFiles


def run(options: RunOptions, progress: Progress | None = None) -> Outcome:
    """Does the whole job. Blocks; installs handlers for SIGINT and SIGTERM while it runs.

    Raises:
        UsageError: a target that may not be loaded, before anything is written.
        OutputError: the run directory can't be written, or holds a run already.
        Interrupted: by Ctrl-C or SIGTERM; the run directory is partial.
        DbperfError: a stage failed; the run directory keeps what was measured before.
    """
    suite = _checked_suite(options)
    return asyncio.run(_run(options, suite, progress or Silent()))


async def _run(options: RunOptions, suite: Suite | None, progress: Progress) -> Outcome:
    directory = _create(options)
    stages = Stages(directory, progress)
    stop = _Stop(asyncio.current_task())
    error: DbperfError | None = None
    try:
        with stop:
            async with AsyncExitStack() as stack:
                lab = Lab(
                    options=options, suite=suite, directory=directory, stages=stages, stack=stack, dsn=options.dsn
                )
                await measure(lab)
        status = "complete"
    except (asyncio.CancelledError, DbperfError) as e:
        # What fails while the run is being ended fails because it is being ended.
        if stop.asked or isinstance(e, asyncio.CancelledError):
            error, status = Interrupted("interrupted", hint=f"what was measured is in {directory.path}"), "partial"
        else:
            error, status = e, "failed"
    except BaseException:
        directory.update(status="failed", ended_at=datetime.now(UTC))
        directory.give_back()
        raise
    if error is not None and directory.give_back():
        kept = f"nothing was measured: the run in {directory.path} is as it was"
        raise Interrupted("interrupted", hint=kept) if isinstance(error, Interrupted) else error
    directory.update(status=status, ended_at=datetime.now(UTC))
    report = write_report(directory)
    if options.out is None:
        keep_latest(directory, report)
    if error is not None:
        raise error
    verdicts = directory.maybe(Verdicts)
    return Outcome(path=directory.path, verdict=verdicts.overall if verdicts else None, report=report)


def _checked_suite(options: RunOptions) -> Suite | None:
    """The suite that was named, or the reference target's; None where it is derived from the API, or nothing is loaded.

    Everything that can be refused without asking a server is refused here, before anything is written.
    """
    check_users(options.users or 0, staging=options.staging)
    if options.suite and options.dsn and not options.url:
        raise UsageError("--suite without --url has nothing to send requests to", hint="add --url http://…")
    if options.url:
        check_target(options.url, url_host(options.url), options.safety, not_production=options.not_production)
    if options.dsn:
        for host in resolve(options.dsn).hosts or (None,):
            check_target(mask_dsn(options.dsn), host, options.safety, not_production=options.not_production)
    if not options.suite and not options.is_reference:
        return None
    chosen = load_suite(options.suite or REFERENCE_SUITE)
    for gate in options.gates:
        parse_gate(gate)
    suite = with_overrides(
        ci_variant(chosen) if options.ci else chosen,
        users=options.users,
        duration_s=options.duration_s,
        warm_up_s=options.warm_up_s,
    )
    check_users(max((s.users or 0 for s in suite.stages), default=0), staging=options.staging)
    return suite


def _create(options: RunOptions) -> RunDirectory:
    now = datetime.now(UTC)
    manifest = Manifest(
        name=options.name,
        status="running",
        provenance="measured",
        started_at=now,
        dbperf_version=__version__,
        command=provenance.masked_command(options.command),
        git_revision=provenance.git_revision(Path.cwd()),
        pid=os.getpid(),
        host=provenance.host(),
    )
    path = options.out or default_path(DEFAULT_ROOT, options.name, now)
    return RunDirectory.create(path, manifest, force=options.force)


class _Stop:
    """Turns the first SIGINT or SIGTERM into a cancellation of the task, so that every `finally` runs. Later ones
    are left out: the clean-up that they would break is already on its way and bounded in time."""

    def __init__(self, task: asyncio.Task[object] | None) -> None:
        self._task = task
        self.asked = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._ask)

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    def _ask(self) -> None:
        if not self.asked and self._task is not None:
            self.asked = True
            self._task.cancel()
