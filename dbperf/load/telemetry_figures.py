"""Figures of a stage from telemetry, for gates."""

from __future__ import annotations

from collections import defaultdict

from dbperf.load.series import Observed
from dbperf.records.load import Load, StageLoad
from dbperf.records.telemetry import Telemetry, TelemetrySample

TELEMETRY_METRICS = frozenset({"cpu", "rss", "pool", "blocked", "deadlocks"})


def samples_of(load: Load, stage: StageLoad, telemetry: Telemetry) -> list[TelemetrySample]:
    """The samples taken while the stage was measured."""
    offset_s = (telemetry.started_at - load.started_at).total_seconds()
    first = (stage.started_at - load.started_at).total_seconds()
    last = (stage.ended_at - load.started_at).total_seconds()
    # A sample tells of the second before it.
    return [s for s in telemetry.samples if first < s.at_s + offset_s <= last + 1]


def telemetry_figure(metric: str, load: Load, stage: StageLoad, telemetry: Telemetry | None) -> Observed:
    """cpu: the busiest target process's mean share of one core (0..1); rss: the largest target process, in bytes;
    pool: connections in use against the target's pools, or against max_connections where these are unknown (0..1);
    blocked: the longest wait for another session's lock, in s; deadlocks: how many."""
    if telemetry is None:
        return Observed(value=None, reason="the target was not watched (no telemetry)")
    samples = samples_of(load, stage, telemetry)
    if not samples:
        return Observed(value=None, reason="no telemetry in this stage")
    value = _of_processes(metric, samples) if metric in ("cpu", "rss") else _of_postgres(metric, samples, telemetry)
    if value is None:
        hint = "; ".join(telemetry.notes) or ("no process of the target" if metric in ("cpu", "rss") else "no database")
        return Observed(value=None, reason=f"not watched: {hint}")
    return Observed(value=value, low=value, high=value)


def _of_processes(metric: str, samples: list[TelemetrySample]) -> float | None:
    by_pid: dict[int, list[float]] = defaultdict(list)
    for sample in samples:
        for p in sample.processes:
            by_pid[p.pid].append(p.cpu_share if metric == "cpu" else float(p.rss_bytes))
    if not by_pid:
        return None
    if metric == "cpu":
        return max(sum(v) / len(v) for v in by_pid.values())
    return max(max(v) for v in by_pid.values())


def _of_postgres(metric: str, samples: list[TelemetrySample], telemetry: Telemetry) -> float | None:
    found = [s.postgres for s in samples if s.postgres is not None]
    if not found:
        return None
    if metric == "deadlocks":
        return float(sum(p.deadlocks for p in found))
    if metric == "blocked":
        return max((b.blocked_s for p in found for b in p.blockers), default=0.0)
    if telemetry.pool_size:
        return max((p.active_sessions + p.idle_in_transaction) / telemetry.pool_size for p in found)
    return max(p.connections / p.max_connections for p in found)
