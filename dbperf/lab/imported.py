"""A run made of a load result that another tool wrote."""

from __future__ import annotations

import os
from pathlib import Path

from dbperf import __version__
from dbperf.lab import provenance
from dbperf.lab.options import DEFAULT_ROOT
from dbperf.lab.run import Outcome
from dbperf.load.gates import judge_gates, with_gates
from dbperf.load.imports import as_load, read_foreign
from dbperf.load.judge import judge
from dbperf.records.benchmarks import CustomFigures
from dbperf.records.run import Manifest
from dbperf.records.rundir import RunDirectory, default_path
from dbperf.report.write import keep_latest, write_report


def import_run(file: Path, out: Path | None, *, gates: list[str], force: bool, command: list[str]) -> Outcome:
    """Reads the result, judges it by the gates, and writes run directory and report.

    Raises:
        RecordError: the file is no load result that dbperf knows.
        ConfigError: a gate can't be parsed.
        OutputError: the run directory can't be written, or holds a run already.
    """
    found = read_foreign(file)
    load = as_load(found, file)
    verdicts = with_gates(judge(load, []), judge_gates(load, gates))
    manifest = Manifest(
        name=file.stem,
        status="complete",
        provenance="measured",
        started_at=load.started_at,
        ended_at=load.ended_at,
        dbperf_version=__version__,
        command=provenance.masked_command(command),
        pid=os.getpid(),
        host=provenance.host(),
        notes=load.notes,
    )
    path = out or default_path(DEFAULT_ROOT, file.stem, load.started_at)
    directory = RunDirectory.create(path, manifest, force=force)
    directory.write(load)
    directory.write(verdicts)
    if found.custom:
        directory.write(CustomFigures(subject=found.endpoints[0].name, figures=found.custom))
    report = write_report(directory)
    if out is None:
        keep_latest(directory, report)
    return Outcome(path=directory.path, verdict=verdicts.overall if gates else None, report=report)
