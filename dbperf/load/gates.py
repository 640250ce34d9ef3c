"""Judges gates: each with its uncertainty, each with the reason."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from fnmatch import fnmatchcase

import msgspec

from dbperf.load.gate_language import Gate, Side, Unit, parse_gate
from dbperf.load.judge import ALL, latency_verdict, overall, together
from dbperf.load.series import Observed, degradation, recovery_s
from dbperf.load.telemetry_figures import TELEMETRY_METRICS, telemetry_figure
from dbperf.records.load import EndpointLoad, Load, StageLoad
from dbperf.records.telemetry import Telemetry
from dbperf.records.verdicts import GateVerdict, Verdict, Verdicts
from dbperf.stats.distributions import wilson
from dbperf.stats.hdr import Latencies
from dbperf.units import format_bytes, format_count, format_ms, format_seconds, format_share

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}
_WORST: dict[Verdict, int] = {"fail": 0, "cant_tell": 1, "pass": 2}


def judge_gates(load: Load, gates: Sequence[str | Gate], telemetry: Telemetry | None = None) -> list[GateVerdict]:
    """A verdict for each gate: the worst over the stages and endpoints that it names.

    Without `stage("...")` a gate holds for every measured stage (`recovery` for the last); without
    `endpoint("...")` for all requests of a stage together.

    Raises:
        ConfigError: a gate can't be parsed.
    """
    parsed = [parse_gate(g) if isinstance(g, str) else g for g in gates]
    return [_judge(load, gate, telemetry) for gate in parsed]


def with_gates(verdicts: Verdicts, gates: Sequence[GateVerdict]) -> Verdicts:
    """Service levels and gates together: the overall verdict is the worst of both."""
    if not gates:
        return verdicts
    both = overall([*(x.verdict for x in verdicts.levels), *(x.verdict for x in gates)])
    return msgspec.structs.replace(verdicts, gates=list(gates), overall=both)


def _judge(load: Load, gate: Gate, telemetry: Telemetry | None) -> GateVerdict:
    places, problem = _places(load, gate.left)
    if problem:
        return GateVerdict(
            expr=gate.expr, observed=None, unit=gate.left.unit, limit=gate.limit, verdict="cant_tell", reason=problem
        )
    found = [_judge_at(load, gate, telemetry, stage, e) for stage, e in places]
    return min(found, key=lambda v: _WORST[v.verdict])


def _places(load: Load, side: Side) -> tuple[list[tuple[StageLoad, EndpointLoad]], str | None]:
    """The stages and endpoints that a side names, or why there are none."""
    stages = [s for s in load.stages if side.stage is None or s.name == side.stage]
    if not stages:
        names = ", ".join(repr(s.name) for s in load.stages) or "none"
        what = f"stage {side.stage!r} was not measured" if side.stage else "no stage was measured"
        return [], f"{what} (measured: {names})"
    if side.metric == "recovery" and side.stage is None:
        stages = stages[-1:]
    if side.endpoint is None:
        return [(s, together(s)) for s in stages], None
    found = [(s, e) for s in stages for e in s.endpoints if fnmatchcase(e.name, side.endpoint)]
    return found, None if found else f"no request went to {side.endpoint!r}"


def _judge_at(load: Load, gate: Gate, telemetry: Telemetry | None, stage: StageLoad, e: EndpointLoad) -> GateVerdict:
    left = _observe(load, gate.left, telemetry, stage, e)
    limit, limit_low, limit_high = gate.limit, gate.limit, gate.limit
    verdict: Verdict
    if gate.right is not None:
        right = _other(load, gate.right, telemetry, e)
        limit, limit_low, limit_high = (None if x is None else x * gate.factor for x in _triple(right))
        if limit is None:
            left = Observed(value=left.value, reason=f"{_named(gate.right)}: {right.reason or 'not measured'}")
    unit = gate.left.unit
    latencies = Latencies.decode(e.latency)
    all_failed = e.errors > 0 and not latencies.count  # a generator that kept up would have seen no latency either
    if load.generator.saturated and unit in ("ms", "s") and gate.left.metric != "blocked" and not all_failed:
        verdict, reason = "cant_tell", f"the load generator was the bottleneck: {load.generator.reason}"
    elif gate.left.metric in _QUANTILES and gate.right is None and gate.operator in ("<", "<="):
        assert gate.limit is not None
        q = _QUANTILES[gate.left.metric]
        effect = next((x.design_effect for x in e.quantiles if x.q == q), 1.0)
        verdict, reason = latency_verdict(e, latencies, q, gate.limit, effect)
    else:
        verdict, reason = _compare(gate, left, limit_low, limit_high)
    if gate.right is not None and limit is not None and left.value is not None:
        reason = f"{_text(left.value, unit)} against {_text(limit, unit)}" + (f"; {reason}" if reason else "")
    return GateVerdict(
        expr=gate.expr, observed=left.value, unit=unit, limit=limit, stage=stage.name,
        endpoint=None if e.name == ALL else e.name, verdict=verdict, reason=reason,
    )  # fmt: skip


def _compare(gate: Gate, left: Observed, limit_low: float | None, limit_high: float | None) -> tuple[Verdict, str]:
    """Pass where every value of the left interval meets every one of the right, fail where none meets any."""
    if limit_low is None or limit_high is None:
        return "cant_tell", left.reason or "the other side was not measured"
    if left.value is None and left.low is not None and gate.operator in ("<", "<=") and left.low >= limit_high:
        return "fail", left.reason or ""  # a recovery that did not come took at least as long as was watched
    if left.value is None or left.low is None or left.high is None:
        return "cant_tell", left.reason or "not measured"
    passes, fails = _decided(gate.operator, left.low, left.high, limit_low, limit_high)
    text = value = _text(left.value, gate.left.unit)
    if left.low != left.high:
        text = f"{value} ({_text(left.low, gate.left.unit)} to {_text(left.high, gate.left.unit)})"
    if passes or fails:
        return "pass" if passes else "fail", text
    return "cant_tell", f"too close to tell: {text}"


def _decided(sign: str, low: float, high: float, limit_low: float, limit_high: float) -> tuple[bool, bool]:
    compare = _COMPARE[sign]
    if sign == "==":
        return low == high == limit_low == limit_high, high < limit_low or low > limit_high
    if sign in ("<", "<="):
        return compare(high, limit_low), not compare(low, limit_high)
    return compare(low, limit_high), not compare(high, limit_low)


def _observe(load: Load, side: Side, telemetry: Telemetry | None, stage: StageLoad, e: EndpointLoad) -> Observed:
    metric = side.metric
    if metric in TELEMETRY_METRICS:
        return telemetry_figure(metric, load, stage, telemetry)
    if metric in _QUANTILES:
        found = next(x for x in e.quantiles if x.q == _QUANTILES[metric])
        return Observed(value=found.value_ms, low=found.ci_low_ms, high=found.ci_high_ms, reason=found.reason)
    if metric == "recovery":
        return _recovery(load, side, stage)
    if metric == "degradation":
        rows = load.seconds_all if e.name == ALL else [s for s in load.seconds if s.endpoint == e.name]
        return degradation([s for s in rows if s.stage == stage.name and s.phase == "measured"])
    return _counted(metric, e)


def _counted(metric: str, e: EndpointLoad) -> Observed:
    asked = e.requests + e.unfinished
    if metric == "errors":
        if not asked:
            return Observed(value=None, reason="no requests")
        low, high = wilson(e.errors, asked)
        return Observed(value=e.errors / asked, low=low, high=high)
    if metric == "rps":
        low_high = e.requests_per_s_ci or (None, None)
        reason = None if e.requests_per_s_ci else f"{e.requests_per_s:.1f}/s, in too few seconds for an interval"
        return Observed(value=e.requests_per_s, low=low_high[0], high=low_high[1], reason=reason)
    value = float(e.requests) if metric == "requests" else e.max_ms
    return Observed(value=value, low=value, high=value, reason=None if value is not None else "no request succeeded")


def _recovery(load: Load, side: Side, stage: StageLoad) -> Observed:
    """Back at the baseline: at most the upper end of the interval of the first stage's percentile."""
    assert side.of is not None
    if len(load.stages) < 2 or stage is load.stages[0]:
        return Observed(value=None, reason="recovery needs a stage before it: the first one is the baseline")
    first = next(x for x in together(load.stages[0]).quantiles if x.q == _QUANTILES[side.of])
    if first.value_ms is None:
        return Observed(value=None, reason=f"no baseline from stage {load.stages[0].name!r}: {first.reason}")
    baseline = first.ci_high_ms or first.value_ms
    return recovery_s([s for s in load.seconds_all if s.stage == stage.name], side.of, baseline)


def _other(load: Load, side: Side, telemetry: Telemetry | None, left: EndpointLoad) -> Observed:
    """The right side: at the left side's endpoint unless it names its own."""
    if side.endpoint is None and left.name != ALL:
        side = msgspec.structs.replace(side, endpoint=left.name)
    places, problem = _places(load, side)
    if problem or len(places) != 1:
        return Observed(value=None, reason=problem or f"it names {len(places)} stages or endpoints, not one")
    stage, e = places[0]
    return _observe(load, side, telemetry, stage, e)


def _triple(x: Observed) -> tuple[float | None, float | None, float | None]:
    return x.value, x.low, x.high


def _named(side: Side) -> str:
    return (f'stage("{side.stage}").' if side.stage else "") + side.metric


def _text(value: float, unit: Unit) -> str:
    return {
        "ms": lambda: format_ms(value),
        "s": lambda: format_seconds(value),
        "share": lambda: format_share(value) if value >= 0 else f"-{format_share(-value)}",
        "per_s": lambda: f"{value:.1f}/s",
        "bytes": lambda: format_bytes(value),
        "count": lambda: format_count(value),
    }[unit]()
