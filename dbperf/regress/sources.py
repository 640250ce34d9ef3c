"""Finds out what a path holds, and reads it."""

from __future__ import annotations

from pathlib import Path

from dbperf.errors import RecordError
from dbperf.load.imports import foreign_of, read_foreign
from dbperf.records.baseline import Baseline
from dbperf.records.reading import read_json
from dbperf.regress.compare import Figures
from dbperf.regress.read_foreign import foreign_figures
from dbperf.regress.read_pytest_benchmark import read_pytest_benchmark
from dbperf.regress.read_run import read_baseline, read_run

KNOWN = "a run directory, a baseline, JSON of pytest-benchmark, Locust or k6, or a Locust *_stats.csv"


def read_side(path: Path) -> Figures:
    """The figures at a path, whatever of the known kinds it holds; decided by content, not by name.

    Raises:
        RecordError: there is nothing, nothing known, or figures that can't be.
    """
    if path.is_dir():
        return read_run(path)
    if not path.exists():
        raise RecordError(f"{path} does not exist")
    if path.suffix.lower() == ".csv":
        return foreign_figures(read_foreign(path), path)
    data, content = read_json(path)
    if isinstance(content, dict):
        if content.get("kind") == Baseline.kind:
            return read_baseline(path)
        if content.get("kind") == "run":
            return read_run(path.parent)
        if isinstance(content.get("benchmarks"), list) and "machine_info" in content:
            return read_pytest_benchmark(path, data, content)
    if (found := foreign_of(path, data, content)) is not None:
        return foreign_figures(found, path)
    raise RecordError(f"{path} is of no known kind", hint=f"known: {KNOWN}")
