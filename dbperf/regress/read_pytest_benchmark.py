"""Figures of pytest-benchmark's JSON (`--benchmark-json`, `--benchmark-save`, `--benchmark-autosave`).

It holds the samples only with --benchmark-save-data (or where --benchmark-json wrote it, which does so always);
without, minimum, median and mean: a summary.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from dbperf.errors import RecordError
from dbperf.records.comparison import Conditions, CustomFigure, Machine, Measurement, Side
from dbperf.records.load import Quantile
from dbperf.records.locate import place_of
from dbperf.records.reading import number
from dbperf.regress.checks import check
from dbperf.regress.compare import Figures


def read_pytest_benchmark(path: Path, data: bytes, content: dict[str, Any]) -> Figures:
    """Figures of pytest-benchmark's JSON, already decoded. Its seconds become milliseconds.

    Raises:
        RecordError: fields are missing or impossible.
    """
    conditions = Conditions(machine=_machine(content.get("machine_info")))
    measurements, notes = [], []
    without = 0
    for i, b in enumerate(content["benchmarks"]):

        def where(*field: str | int, i: int = i) -> Callable[[], str]:
            name = "".join(f"[{f}]" if isinstance(f, int) else f".{f}" for f in field).removeprefix(".")
            return lambda: f"{path}, {place_of(data, ('benchmarks', i, *field))}{f', field {name}' if name else ''}"

        if not isinstance(b, dict) or "fullname" not in b or not isinstance(b.get("stats"), dict):
            raise RecordError(f"{where()()}: it is no benchmark of pytest-benchmark")
        stats = b["stats"]
        samples: list[float] | None = None
        if "data" in stats:
            if not isinstance(stats["data"], list) or not stats["data"]:
                raise RecordError(f"{where('stats', 'data')()}: {b['fullname']} holds no samples")
            samples = [number(x, where("stats", "data", k)) * 1e3 for k, x in enumerate(stats["data"])]
        else:
            without += 1
        if "median" not in stats:
            raise RecordError(f"{where('stats')()}: median is missing")
        median = Quantile(q=0.5, value_ms=number(stats["median"], where("stats", "median")) * 1e3)
        extra = b.get("extra_info") or {}
        custom = [
            CustomFigure(name=k, value=number(v, where("extra_info", k)))
            for k, v in extra.items()
            if isinstance(v, int | float) and not isinstance(v, bool)
        ]
        measurements.append(
            Measurement(
                subject=b["fullname"], conditions=conditions, quantiles=[median], samples_ms=samples, custom=custom
            )
        )
    if without:
        notes.append(f"{without} benchmarks have no samples: write them with --benchmark-save-data")
    check(measurements, str(path))
    commit = content.get("commit_info") or {}
    revision = commit.get("id") if commit.get("id") not in ("unknown", "unversioned") else None
    side = Side(
        source=str(path),
        kind="pytest-benchmark",
        provenance="measured",
        git_revision=f"{revision}-dirty" if revision and commit.get("dirty") else revision,
        measured_at=_when(content.get("datetime"), f"{path}, {place_of(data, ('datetime',))}"),
    )
    return Figures(side=side, measurements=measurements, notes=notes)


def _machine(info: Any) -> Machine:
    if not isinstance(info, dict):
        return Machine()
    cpu = info.get("cpu")
    cpu = cpu if isinstance(cpu, dict) else {}
    system = f"{info.get('system')} {info.get('machine')}" if info.get("system") else None
    return Machine(system=system, cpu_model=cpu.get("brand_raw"), cpu_count=cpu.get("count"))


def _when(text: Any, where: str) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise RecordError(f"{where}, field datetime: {text!r} is no time") from None
