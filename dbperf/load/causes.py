"""The database's side of a missed limit: what sessions waited for, who blocked whom, what was full.

What is said is what was seen in the stage's seconds, beside the first stage where there is another: no cause is
claimed that no sample shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dbperf.load.telemetry_figures import samples_of
from dbperf.records.load import Load, StageLoad
from dbperf.records.statements import Statements
from dbperf.records.telemetry import PostgresSample, Telemetry, TelemetrySample
from dbperf.records.verdicts import Verdicts
from dbperf.units import format_count, format_ms, format_share

_TOP = 3
_BUSY = 0.8
_TEXT_LIMIT = 90


def causes(
    load: Load, verdicts: Verdicts, telemetry: Telemetry | None, statements: Statements | None
) -> dict[str, list[str]]:
    """For each stage in which a gate or service level was missed: sentences on what its window shows."""
    missed = {g.stage for g in verdicts.gates if g.verdict == "fail"}
    missed |= {v.stage for v in verdicts.levels if v.verdict == "fail"}
    out: dict[str, list[str]] = {}
    for stage in load.stages:
        if stage.name in missed:
            lines = _of_stage(load, stage, telemetry) if telemetry is not None else []
            if statements is not None:
                lines += _statements(statements)
            if lines:
                out[stage.name] = lines
    return out


def _of_stage(load: Load, stage: StageLoad, telemetry: Telemetry) -> list[str]:
    samples = samples_of(load, stage, telemetry)
    first = load.stages[0]
    before = samples_of(load, first, telemetry) if stage is not first else []
    beside = f" ({{}} in {first.name!r})" if before else ""
    lines = _waits(samples, before, beside)
    databases = [s.postgres for s in samples if s.postgres is not None]
    blockers = [b for d in databases for b in d.blockers]
    if blockers:
        worst = max(blockers, key=lambda b: b.blocked_s)
        lines.append(
            f"sessions blocked each other in {sum(bool(d.blockers) for d in databases)} of {len(databases)} s, the "
            f"longest for {worst.blocked_s:.1f} s: {worst.blocked_query[:_TEXT_LIMIT]!r} waited for "
            f"{worst.blocking_query[:_TEXT_LIMIT]!r}"
        )
    if deadlocks := sum(d.deadlocks for d in databases):
        lines.append(f"{deadlocks} deadlocks")
    if telemetry.pool_size and databases:
        used = _mean([d.active_sessions + d.idle_in_transaction for d in databases]) / telemetry.pool_size
        if used > _BUSY:
            lines.append(f"the target's pool of {telemetry.pool_size} connections was {format_share(used)} in use")
    if (idle := _mean([d.idle_in_transaction for d in databases])) >= 1:
        lines.append(f"{idle:.1f} sessions were idle in a transaction on average")
    for name, figure in (
        ("the busiest process of the target used (of a core)", _process_cpu),
        ("the machine's CPUs were in use", _machine_cpu),
    ):
        if figure(samples) > _BUSY:
            lines.append(f"{name}: {format_share(figure(samples))}" + beside.format(format_share(figure(before))))
    steal = _mean([s.machine.steal_share or 0.0 for s in samples])
    if steal > 0.02:
        lines.append(f"the hypervisor took {format_share(steal)} of the CPU time away")
    return lines


def _waits(samples: Sequence[TelemetrySample], before: Sequence[TelemetrySample], beside: str) -> list[str]:
    """Active sessions by what they waited for, on average (average active sessions)."""
    now, then = _active(samples), _active(before)
    total = sum(now.values())
    if total < 0.1:
        return []
    parts = [
        f"{name} {amount:.1f}" + beside.format(f"{then.get(name, 0.0):.1f}")
        for name, amount in sorted(now.items(), key=lambda x: -x[1])[:_TOP]
    ]
    return [f"{total:.1f} sessions were active on average, waiting for (CPU: running): {', '.join(parts)}"]


def _active(samples: Sequence[TelemetrySample]) -> dict[str, float]:
    databases: list[PostgresSample] = [s.postgres for s in samples if s.postgres is not None]
    total: Counter[str] = Counter()
    for d in databases:
        total.update(d.waits)
    return {name: n / len(databases) for name, n in total.items()}


def _process_cpu(samples: Sequence[TelemetrySample]) -> float:
    by_pid: dict[int, list[float]] = {}
    for s in samples:
        for p in s.processes:
            by_pid.setdefault(p.pid, []).append(p.cpu_share)
    return max((_mean(v) for v in by_pid.values()), default=0.0)


def _machine_cpu(samples: Sequence[TelemetrySample]) -> float:
    return _mean([s.machine.cpu_share for s in samples])


def _statements(statements: Statements) -> list[str]:
    """The top of the whole load: the statistics are not taken per stage."""
    lines = []
    for s in statements.statements[:_TOP]:
        text = " ".join(s.text.split())[:_TEXT_LIMIT]
        share = s.total_ms / statements.total_ms if statements.total_ms else 0.0
        lines.append(
            f"{format_share(share)} of the load's database time: {format_count(s.calls)} × "
            f"{format_ms(s.total_ms / s.calls if s.calls else None)} {text!r}"
        )
    return lines


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
