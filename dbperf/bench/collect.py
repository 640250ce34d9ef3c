"""From what pytest-benchmark measured to records, tables and JSON."""

from __future__ import annotations

from typing import Any

from dbperf.bench.quality import MachineState, judge_samples
from dbperf.records.benchmarks import Benchmark
from dbperf.records.comparison import CustomFigure
from dbperf.records.load import Quantile
from dbperf.stats.samples import BENCH_QUANTILES, sample_quantile
from dbperf.units import format_ms

Observed = tuple[MachineState | None, MachineState | None, str, bool]
"""The machine before and after, "sync" or "async", and whether a server on this machine does the work."""


def benchmark_record(meta: Any, observed: Observed) -> Benchmark:
    """The record of one of pytest-benchmark's `Metadata` objects. Its seconds per call become milliseconds."""
    before, after, kind, others_expected = observed
    samples = [x * 1e3 for x in meta.stats.data]
    quality = judge_samples(
        samples, iterations=meta.iterations, before=before, after=after, others_expected=others_expected
    )
    steady = samples[quality.warm_up :]
    extra = {k: v for k, v in meta.extra_info.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return Benchmark(
        name=meta.name, fullname=meta.fullname, group=meta.group, kind="async" if kind == "async" else "sync",
        iterations=meta.iterations, samples_ms=samples,
        quantiles=[sample_quantile(steady, q, block=quality.block) for q in BENCH_QUANTILES],
        mean_ms=sum(steady) / len(steady) if steady else None,
        min_ms=min(steady, default=None), max_ms=max(steady, default=None),
        custom=[CustomFigure(name=k, value=float(v)) for k, v in extra.items()], quality=quality,
    )  # fmt: skip


def json_addition(benchmark: Benchmark) -> dict[str, Any]:
    """What is added to a benchmark in pytest-benchmark's JSON."""
    import msgspec

    found: dict[str, Any] = {}
    for q in benchmark.quantiles:
        found[f"p{q.q * 100:g}"] = {
            "value_ms": q.value_ms, "ci_low_ms": q.ci_low_ms, "ci_high_ms": q.ci_high_ms, "confidence": q.confidence,
            "reason": q.reason,
        }  # fmt: skip
    return {"percentiles": found, "quality": msgspec.to_builtins(benchmark.quality)}


def table(benchmarks: list[Benchmark]) -> list[str]:
    """The table below pytest-benchmark's: percentiles with their 95 % intervals, and what weakens them."""
    rows = _rows(benchmarks)
    widths = [max(len(r[i]) for r in rows) for i in range(5)]
    text = [
        "  ".join([r[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(r[1:], widths[1:], strict=True))]) for r in rows
    ]
    return [text[0], "-" * len(text[0]), *text[1:], *(f"  {x}" for x in _remarks(benchmarks))]


def markdown(benchmarks: list[Benchmark]) -> list[str]:
    """The same as Markdown."""
    head, *body = [[c.replace("|", "\\|") for c in r] for r in _rows(benchmarks)]
    lines = [f"| {' | '.join(r)} |" for r in (head, ["---", "---:", "---:", "---:", "---:"], *body)]
    return [*lines, "", *(f"- {x}" for x in _remarks(benchmarks))]


def _rows(benchmarks: list[Benchmark]) -> list[list[str]]:
    rows = [["percentiles (95 % interval)", "samples", "P50", "P95", "P99"]]
    for b in _sorted(benchmarks):
        name = b.name if not b.group or b.group in b.name else f"{b.group}: {b.name}"
        rows.append([name, str(len(b.samples_ms) - b.quality.warm_up), *(_cell(q) for q in b.quantiles)])
    return rows


def _remarks(benchmarks: list[Benchmark]) -> list[str]:
    lines = []
    for b in _sorted(benchmarks):
        lines += [f"{b.name}: INVALID: {x}" for x in b.quality.invalid]
        lines += [f"{b.name}: {x}" for x in b.quality.warnings]
        if b.quality.outliers:
            lines.append(f"{b.name}: {b.quality.outliers} outliers, kept")
    return lines


def _sorted(benchmarks: list[Benchmark]) -> list[Benchmark]:
    return sorted(benchmarks, key=lambda b: (b.group or "", b.name))


def _cell(q: Quantile) -> str:
    if q.value_ms is None:
        return (q.reason or "–").replace(" are needed", " needed")
    return f"{format_ms(q.value_ms)} ({format_ms(q.ci_low_ms)} – {format_ms(q.ci_high_ms)})"
