"""From a load's stages to its capacity: the law's fit, the knee, and the users at which a service level breaks."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from dbperf.load.judge import ALL, together
from dbperf.records.capacity import Breaking, Capacity, CapacityPoint, Usl
from dbperf.records.load import Load, StageLoad
from dbperf.records.verdicts import ServiceLevel
from dbperf.stats.capacity import fit_usl, usl_throughput
from dbperf.units import format_ms

_STEPS = 400


def capacity(load: Load, service_levels: Sequence[ServiceLevel] = ()) -> Capacity | None:
    """Capacity from a load with several stages; None where all stages have one load, so that nothing can be said.

    A service level breaks between the stages that keep and miss it (interpolated), or, beyond the highest stage,
    where its percentile has grown to the limit by as much as the law's cycle time N/X grows (the interactive response
    time law, R = N/X - Z with the think time Z constant: D. A. Menascé et al., Performance by Design, 2004, 3.2.5).
    """
    stages = [s for s in load.stages if s.requests]
    points = [_point(s) for s in stages]
    if len({p.load for p in points}) < 2:
        return None
    usl = fit_usl(points)
    reason = None
    if usl is None:
        reason = f"{len({p.load for p in points})} different loads: the law needs three"
    elif load.generator.saturated:
        reason = f"the load generator was the bottleneck: {load.generator.reason}"
    elif max(p.load for p in points) < (usl.knee or 0):
        reason = "the knee lies beyond the highest load measured: extrapolated"
    breaking = [b for level in service_levels for b in _breaking(stages, usl, level)] if usl else []
    return Capacity(points=points, usl=usl, breaking=breaking, reason=reason)


def _point(stage: StageLoad) -> CapacityPoint:
    everything = together(stage)
    p95 = next(q.value_ms for q in everything.quantiles if q.q == 0.95)
    users = stage.users
    load = float(users) if users is not None else stage.requests_per_s * (everything.mean_ms or 0.0) / 1e3
    return CapacityPoint(stage=stage.name, load=load, requests_per_s=stage.requests_per_s, p95_ms=p95)


def _breaking(stages: Sequence[StageLoad], usl: Usl, level: ServiceLevel) -> list[Breaking]:
    out = []
    names = dict.fromkeys(e.name for s in stages for e in s.endpoints if fnmatchcase(e.name, level.endpoint))
    for name in [ALL] if level.endpoint == ALL else names:
        for metric, q, limit_ms in (
            ("p50", 0.5, level.p50_ms),
            ("p95", 0.95, level.p95_ms),
            ("p99", 0.99, level.p99_ms),
        ):
            if limit_ms is not None:
                out.append(_break(stages, usl, name, metric, q, limit_ms))
    return out


def _break(stages: Sequence[StageLoad], usl: Usl, name: str, metric: str, q: float, limit_ms: float) -> Breaking:
    measured: list[tuple[float, float]] = []
    for stage in stages:
        for e in [together(stage)] if name == ALL else stage.endpoints:
            value = next((x.value_ms for x in e.quantiles if x.q == q), None)
            if e.name == name and value is not None and stage.users is not None:
                measured.append((float(stage.users), value))
    measured.sort()
    kept = [m for m in measured if m[1] <= limit_ms]
    missed = [m for m in measured if m[1] > limit_ms]
    if not measured:
        return Breaking(endpoint=name, metric=metric, limit_ms=limit_ms, load=None, reason="too few requests")
    if missed and kept and kept[-1][0] < missed[0][0]:
        (n0, v0), (n1, v1) = kept[-1], missed[0]
        at = n0 + (limit_ms - v0) / (v1 - v0) * (n1 - n0)
        reason = f"measured: {format_ms(v0)} at {n0:g} users, {format_ms(v1)} at {n1:g}"
        return Breaking(endpoint=name, metric=metric, limit_ms=limit_ms, load=at, reason=reason)
    if missed:
        n, v = missed[0]
        reason = f"missed at {n:g} users already ({format_ms(v)})"
        return Breaking(endpoint=name, metric=metric, limit_ms=limit_ms, load=n, reason=reason)
    return _extrapolated(usl, measured[-1], name, metric, limit_ms)


def _extrapolated(usl: Usl, last: tuple[float, float], name: str, metric: str, limit_ms: float) -> Breaking:
    """Beyond what was measured, the percentile is taken to grow as the law's cycle time N/X does."""
    n_last, value = last
    cycle = n_last / usl_throughput(usl, n_last)
    for step in range(1, _STEPS + 1):
        n = n_last * (1 + step / _STEPS)
        # What a cycle grows by is waiting in the target: think time stays.
        predicted = value + (n / usl_throughput(usl, n) - cycle) * 1e3
        if predicted > limit_ms:
            reason = f"predicted from {format_ms(value)} at {n_last:g} users"
            return Breaking(endpoint=name, metric=metric, limit_ms=limit_ms, load=n, reason=reason)
    reason = f"kept at {n_last:g} users ({format_ms(value)}), and predicted to be kept at twice as many"
    return Breaking(endpoint=name, metric=metric, limit_ms=limit_ms, load=None, reason=reason)
