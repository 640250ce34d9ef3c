"""Finds out what a path holds, and reads it."""

from __future__ import annotations

from pathlib import Path

from dbperf.errors import RecordError
from dbperf.records.baseline import Baseline
from dbperf.regress.compare import Figures
from dbperf.regress.read_k6 import read_k6
from dbperf.regress.read_locust import decode, read_locust_csv, read_locust_json
from dbperf.regress.read_pytest_benchmark import read_pytest_benchmark
from dbperf.regress.read_run import read_baseline, read_run

KNOWN = "a run directory, a baseline, JSON of pytest-benchmark, Locust or k6, or a Locust *_stats.csv"


def read_side(path: Path) -> Figures:  # noqa: PLR0911 - a return per kind of source
    """The figures at a path, whatever of the known kinds it holds; decided by content, not by name.

    Raises:
        RecordError: there is nothing, nothing known, or figures that can't be.
    """
    if path.is_dir():
        return read_run(path)
    if not path.exists():
        raise RecordError(f"{path} does not exist")
    if path.suffix.lower() == ".csv":
        return read_locust_csv(path)
    data, content = decode(path)
    if isinstance(content, list):
        if not content:
            raise RecordError(f"{path} holds no measurement", hint="the run measured nothing")
        return read_locust_json(path, data, content)
    if isinstance(content, dict):
        if content.get("kind") == Baseline.kind:
            return read_baseline(path)
        if content.get("kind") == "run":
            return read_run(path.parent)
        if isinstance(content.get("benchmarks"), list) and "machine_info" in content:
            return read_pytest_benchmark(path, data, content)
        if isinstance(content.get("metrics"), dict):
            return read_k6(path, data, content)
    raise RecordError(f"{path} is of no known kind", hint=f"known: {KNOWN}")
