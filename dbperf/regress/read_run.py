"""Figures of a run directory, and of a baseline."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dbperf.errors import RecordError
from dbperf.records.base import read_document
from dbperf.records.baseline import Baseline
from dbperf.records.benchmarks import Benchmark, Benchmarks, CustomFigures
from dbperf.records.comparison import Conditions, Machine, Measurement, Side
from dbperf.records.interleaved import Interleaved, TurnsEndpoint
from dbperf.records.load import EndpointLoad, Load, StageLoad
from dbperf.records.run import Host, Manifest
from dbperf.records.rundir import RunDirectory
from dbperf.regress.checks import check, check_clock
from dbperf.regress.compare import Figures
from dbperf.regress.targets import target_name
from dbperf.stats.bootstrap import block_length
from dbperf.stats.samples import BENCH_QUANTILES, sample_quantile

IN_TURNS = "in turns"
"""The stage of figures that were measured in turns with another side."""


def read_run(path: Path) -> Figures:
    """The figures of a run directory: its load, its benchmarks, side B of turns, its custom figures.

    Raises:
        RecordError: it can't be read, holds no figures, or figures that can't be.
    """
    run = RunDirectory.open(path)
    measurements: list[Measurement] = []
    notes = []
    if (load := run.maybe(Load)) is not None:
        source = str(path / Load.file_name)
        check_clock(load, source)
        measurements += [_endpoint(run.manifest, load, s, e) for s in load.stages for e in s.endpoints]
        if not load.complete:
            notes.append("the load was cut short")
        if load.generator.saturated:
            notes.append(f"the load generator was the bottleneck: {load.generator.reason}")
    if (benchmarks := run.maybe(Benchmarks)) is not None:
        for b in benchmarks.benchmarks:
            if b.quality.invalid:
                notes.append(f"{b.name} is left out: {'; '.join(b.quality.invalid)}")
                continue
            measurements.append(benchmark_measurement(run.manifest, b, database=benchmarks.database))
            notes += [f"{b.name}: {w}" for w in b.quality.warnings]
    if (turns := run.maybe(Interleaved)) is not None:
        own = [_own_side(run.manifest, turns, e) for e in turns.endpoints]
        measurements += [x for x in own if x is not None]
    if (custom := run.maybe(CustomFigures)) is not None:
        conditions = conditions_of(run.manifest)
        measurements.append(Measurement(subject=custom.subject, conditions=conditions, custom=custom.figures))
    if run.manifest.status in ("partial", "failed"):
        notes.append(f"the run is {run.manifest.status}")
    check(measurements, str(path))
    m = run.manifest
    side = Side(
        source=str(path), kind="run", provenance=m.provenance, git_revision=m.git_revision, measured_at=m.started_at
    )
    return Figures(side=side, measurements=measurements, notes=notes)


def read_baseline(path: Path) -> Figures:
    """The figures of a baseline, with the exceptions that it accepts.

    Raises:
        RecordError: it can't be read, is from a newer dbperf, or holds nothing.
    """
    baseline = read_document(Baseline, path)
    measurements = [e.measurement for e in baseline.entries]
    check(measurements, str(path))
    kinds = {m.conditions.provenance for m in measurements}
    newest = baseline.entries[0].origin
    side = Side(
        source=str(path),
        kind="baseline",
        provenance=kinds.pop() if len(kinds) == 1 else "sample",
        git_revision=newest.git_revision,
        measured_at=newest.measured_at,
    )
    return Figures(side=side, measurements=measurements, accepted=baseline.accepted)


def conditions_of(manifest: Manifest, stage: StageLoad | None = None) -> Conditions:
    """The conditions that a manifest tells, and a stage's where there is one."""
    target, profile, server = manifest.target, manifest.load_profile, manifest.server
    return Conditions(
        provenance=manifest.provenance,
        users=stage.users if stage else None,
        arrival_rate_per_s=stage.arrival_rate_per_s if stage else None,
        duration_s=round((stage.ended_at - stage.started_at).total_seconds(), 1) if stage else None,
        target=target_name(target.url, reference=target.origin == "reference") if target else None,
        scale=target.scale if target else None,
        workers=target.workers if target else None,
        suite=profile.suite if profile and stage else None,
        mix=profile.mix if profile and stage else None,
        database=f"PostgreSQL {server.version_num // 10000}" if server else None,
        machine=machine_of(manifest.host),
    )


def machine_of(host: Host) -> Machine:
    words = host.system.split()
    # The kernel's release in the middle changes with every update and does not make another machine class.
    system = f"{words[0]} {words[-1]}" if len(words) > 1 else host.system
    return Machine(system=system, cpu_model=host.cpu_model, cpu_count=host.cpu_count)


def benchmark_measurement(manifest: Manifest, b: Benchmark, *, database: str | None = None) -> Measurement:
    """A benchmark's samples without their warm-up."""
    conditions = conditions_of(manifest)
    if database is not None:
        conditions = msgspec.structs.replace(conditions, database=database)
    samples = b.samples_ms[b.quality.warm_up :]
    if not samples:
        raise RecordError(f"benchmark {b.fullname} holds no samples")
    return Measurement(
        subject=b.name, conditions=conditions, quantiles=b.quantiles, samples_ms=samples, custom=b.custom
    )


def _own_side(manifest: Manifest, turns: Interleaved, e: TurnsEndpoint) -> Measurement | None:
    """Side B of an endpoint that was measured in turns: what the run was about. None where nothing was."""
    samples = [ms for quad in e.b_ms for ms in quad]
    if not samples:
        return None
    conditions = conditions_of(manifest)
    if turns.scale is not None:  # only the reference target has one
        conditions = msgspec.structs.replace(conditions, target=target_name("", reference=True), scale=turns.scale)
    quantiles = [sample_quantile(samples, q, block=block_length(samples)) for q in BENCH_QUANTILES]
    return Measurement(
        subject=e.name, stage=IN_TURNS, conditions=conditions, requests=e.requests_b, errors=e.errors_b,
        quantiles=quantiles, samples_ms=samples,
    )  # fmt: skip


def _endpoint(manifest: Manifest, load: Load, stage: StageLoad, e: EndpointLoad) -> Measurement:
    return Measurement(
        subject=e.name,
        stage=stage.name,
        conditions=conditions_of(manifest, stage),
        requests=e.requests,
        errors=e.errors,
        requests_per_s=e.requests_per_s,
        requests_per_s_ci=e.requests_per_s_ci,
        quantiles=e.quantiles,
        unfinished=e.unfinished,
        # A summary's percentiles come without a histogram.
        latency=None if load.imported_from is not None and not e.latency.count else e.latency,
        rounded_by="locust" if load.imported_from == "locust-json" else None,
    )
