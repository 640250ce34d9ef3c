"""Writes what a benchmark session measured."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from dbperf.bench.target import BenchTarget
from dbperf.records.base import write_atomic
from dbperf.records.benchmarks import Benchmark, Benchmarks


def write_benchmarks(out: Path, benchmarks: list[Benchmark], target: BenchTarget | None, started_at: datetime) -> Path:
    """`benchmarks.json` in a folder, which is made where it is missing.

    Raises:
        OutputError: it can't be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    document = Benchmarks(
        started_at=started_at, ended_at=datetime.now(UTC), benchmarks=benchmarks,
        target=target.record if target else None, database=target.database if target else None,
    )  # fmt: skip
    path = out / Benchmarks.file_name
    write_atomic(path, document.to_json())
    return path
