"""Service levels against a load: pass, fail or can't tell, with the uncertainty that the decision rests on."""

from __future__ import annotations

from fnmatch import fnmatchcase

import msgspec

from dbperf.records.load import EndpointLoad, ErrorCount, Load, StageLoad
from dbperf.records.verdicts import LevelVerdict, ServiceLevel, Verdict, Verdicts
from dbperf.stats.distributions import binomial_at_most, wilson
from dbperf.stats.hdr import Latencies
from dbperf.stats.quantiles import LOAD_QUANTILES, quantile, samples_needed
from dbperf.units import format_count, format_ms, format_share

CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2
ALL = "all"
"""A service level for this endpoint holds for all requests of a stage together."""


def judge(load: Load, service_levels: list[ServiceLevel]) -> Verdicts:
    """Each limit against each endpoint in each stage that it applies to.

    Levels for "all" are judged on all requests together. Otherwise the first service level whose pattern matches an
    endpoint holds for it. One that matches no endpoint at all is judged "can't tell"; one whose endpoints were left
    out of the load shows up under `unchecked`.
    """
    levels: list[LevelVerdict] = []
    unchecked: dict[str, None] = {}
    met: set[int] = set()
    for stage in load.stages:
        for i, level in enumerate(service_levels):
            if level.endpoint == ALL:
                met.add(i)
                levels += _endpoint(load, stage, together(stage), level)
        for endpoint in stage.endpoints:
            matching = [i for i, s in enumerate(service_levels) if fnmatchcase(endpoint.name, s.endpoint)]
            met |= set(matching)
            if matching:
                levels += _endpoint(load, stage, endpoint, service_levels[matching[0]])
            else:
                unchecked[endpoint.name] = None
    for i, level in enumerate(service_levels):
        if i not in met:
            left_out = [x for x in load.left_out if fnmatchcase(x.endpoint, level.endpoint)]
            unchecked |= dict.fromkeys(f"{x.endpoint} (not called: {x.reason})" for x in left_out)
            levels += [] if left_out else _unmet(level)
    return Verdicts(overall=overall([x.verdict for x in levels]), levels=levels, unchecked=list(unchecked))


def overall(verdicts: list[Verdict]) -> Verdict:
    """Fail if any fails, else can't tell if any can't be told (or there is none), else pass."""
    if "fail" in verdicts:
        return "fail"
    return "cant_tell" if "cant_tell" in verdicts or not verdicts else "pass"


def _endpoint(load: Load, stage: StageLoad, e: EndpointLoad, level: ServiceLevel) -> list[LevelVerdict]:
    out = []
    latencies = Latencies.decode(e.latency)
    for metric, q, limit in (("p50", 0.5, level.p50_ms), ("p95", 0.95, level.p95_ms), ("p99", 0.99, level.p99_ms)):
        if limit is not None:
            out.append(_latency(load, stage, e, latencies, metric, q, limit))
    if level.error_rate is not None:
        out.append(_errors(stage, e, level.error_rate))
    if level.requests_per_s is not None:
        out.append(_throughput(load, stage, e, level.requests_per_s))
    return out


def together(stage: StageLoad) -> EndpointLoad:
    """All requests of a stage as if they had gone to one endpoint."""
    total = Latencies()
    for e in stage.endpoints:
        total.add(Latencies.decode(e.latency))
    unfinished = sum(e.unfinished for e in stage.endpoints)
    kinds: dict[tuple[str, int | None], ErrorCount] = {}
    for error in (x for e in stage.endpoints for x in e.errors_by_kind):
        key = (error.kind, error.status)
        seen = kinds[key].count if key in kinds else 0
        kinds[key] = msgspec.structs.replace(kinds.get(key, error), count=seen + error.count)
    extent = total.range_ms()
    return EndpointLoad(
        name=ALL, method="*", path="*", requests=stage.requests, errors=stage.errors,
        errors_by_kind=sorted(kinds.values(), key=lambda x: -x.count), requests_per_s=stage.requests_per_s,
        requests_per_s_ci=stage.requests_per_s_ci, unfinished=unfinished, latency=total.encode(),
        quantiles=[quantile(total, q, unfinished=unfinished) for q in LOAD_QUANTILES], mean_ms=total.mean_ms(),
        min_ms=extent[0] if extent else None, max_ms=extent[1] if extent else None,
    )  # fmt: skip


def _latency(
    load: Load, stage: StageLoad, e: EndpointLoad, latencies: Latencies, metric: str, q: float, limit_ms: float
) -> LevelVerdict:
    measured = next((x for x in e.quantiles if x.q == q), None)
    effect = measured.design_effect if measured else 1.0
    verdict, reason = latency_verdict(e, latencies, q, limit_ms, effect)
    if load.generator.saturated:
        verdict, reason = "cant_tell", f"the load generator was the bottleneck: {load.generator.reason}"
    return LevelVerdict(
        endpoint=e.name, stage=stage.name, metric=metric, unit="ms", limit=limit_ms,  # type: ignore[arg-type]  # one of p50, p95, p99
        observed=measured.value_ms if measured else None,
        ci_low=measured.ci_low_ms if measured else None,
        ci_high=measured.ci_high_ms if measured else None,
        verdict=verdict, reason=reason,
    )  # fmt: skip


def latency_verdict(
    e: EndpointLoad, latencies: Latencies, q: float, limit_ms: float, effect: float
) -> tuple[Verdict, str]:
    """Exact binomial tests of "at least a share `q` of requests is within the limit" in both directions.

    This is the decision that the order-statistic interval makes, and it also decides where there are too few samples
    for an interval but the limit is missed by a mile. Both counts shrink by the design effect.
    """
    n = latencies.count + e.unfinished
    if n == 0 and e.errors:
        return "fail", f"no request succeeded ({format_count(e.errors)} failed: {e.errors_by_kind[0].kind})"
    if n == 0:
        return "cant_tell", "no requests"
    within = latencies.count_at_most(limit_ms)
    m, k = max(1, int(n / effect)), int(within / effect)
    slower = f"{format_count(n - within)} of {format_count(n)} requests ({format_share(1 - within / n)}) took longer"
    slower += f" than {format_ms(limit_ms)}; {format_share(1 - q)} may"
    if binomial_at_most(k, m, q) <= _TAIL:
        return "fail", slower
    if 1 - binomial_at_most(k - 1, m, q) <= _TAIL:
        return "pass", slower
    if n < (needed := samples_needed(q, CONFIDENCE)):
        why = f"too few requests: {n}, {needed} are needed"
    elif m < needed:
        why = f"{n} requests that vary together in time tell as much as {m}; {needed} are needed"
    else:
        why = f"too close to the limit: {slower}"
    return "cant_tell", why


def _errors(stage: StageLoad, e: EndpointLoad, limit: float) -> LevelVerdict:
    n, bad = e.requests + e.unfinished, e.errors
    if n == 0:
        return LevelVerdict(
            endpoint=e.name, stage=stage.name, metric="error_rate", unit="share", limit=limit, observed=None,
            verdict="cant_tell", reason="no requests",
        )  # fmt: skip
    low, high = wilson(bad, n, CONFIDENCE)
    kinds = ", ".join(f"{x.count} × {x.kind}" for x in e.errors_by_kind[:3])
    what = f"{format_count(bad)} of {format_count(n)} requests failed" + (f" ({kinds})" if kinds else "")
    if high <= limit:
        verdict: Verdict = "pass"
    elif low > limit:
        verdict = "fail"
    elif bad == 0:
        verdict, what = "cant_tell", f"none of {n} requests failed, which is too few to tell a rate of {limit:.2%}"
    else:
        verdict = "cant_tell"
    return LevelVerdict(
        endpoint=e.name, stage=stage.name, metric="error_rate", unit="share", limit=limit, observed=bad / n,
        ci_low=low, ci_high=high, verdict=verdict, reason=what,
    )  # fmt: skip


def _throughput(load: Load, stage: StageLoad, e: EndpointLoad, limit_per_s: float) -> LevelVerdict:
    low, high = e.requests_per_s_ci or (None, None)
    observed = e.requests_per_s
    rate = f"{format_count(observed)} requests/s"
    if low is None or high is None:
        verdict, reason = "cant_tell", "too few seconds for an interval"
    elif low >= limit_per_s:
        verdict, reason = "pass", rate
    elif high < limit_per_s:
        verdict, reason = "fail", rate
    else:
        verdict, reason = "cant_tell", f"{rate} is too close to {format_count(limit_per_s)}"
    if verdict == "fail" and load.generator.saturated:
        verdict, reason = "cant_tell", f"the load generator was the bottleneck: {load.generator.reason}"
    return LevelVerdict(
        endpoint=e.name, stage=stage.name, metric="requests_per_s", unit="per_s", limit=limit_per_s,
        observed=observed, ci_low=low, ci_high=high, verdict=verdict, reason=reason,  # type: ignore[arg-type]  # literals above
    )  # fmt: skip


def _unmet(level: ServiceLevel) -> list[LevelVerdict]:
    limits = (
        ("p50", "ms", level.p50_ms),
        ("p95", "ms", level.p95_ms),
        ("p99", "ms", level.p99_ms),
        ("error_rate", "share", level.error_rate),
        ("requests_per_s", "per_s", level.requests_per_s),
    )
    return [
        LevelVerdict(
            endpoint=level.endpoint, stage="", metric=metric, unit=unit, limit=limit, observed=None,  # type: ignore[arg-type]  # literals above
            verdict="cant_tell", reason="no request went to such an endpoint",
        )
        for metric, unit, limit in limits
        if limit is not None
    ]  # fmt: skip
